//! Cameras: `xen/include/public/io/cameraif.h`.

use crate::GrantRef;

crate::facts::open_enum! {
    /// What a request does.
    pub struct XencameraOp(u8) {
        /// Set the format.
        CONFIG_SET = 0, "XENCAMERA_OP_CONFIG_SET";
        /// Read the format.
        CONFIG_GET = 1, "XENCAMERA_OP_CONFIG_GET";
        /// Would a format do?
        CONFIG_VALIDATE = 2, "XENCAMERA_OP_CONFIG_VALIDATE";
        /// Set the frame rate.
        FRAME_RATE_SET = 3, "XENCAMERA_OP_FRAME_RATE_SET";
        /// How are buffers laid out?
        BUF_GET_LAYOUT = 4, "XENCAMERA_OP_BUF_GET_LAYOUT";
        /// Ask for a number of buffers.
        BUF_REQUEST = 5, "XENCAMERA_OP_BUF_REQUEST";
        /// Make a buffer.
        BUF_CREATE = 6, "XENCAMERA_OP_BUF_CREATE";
        /// Drop it.
        BUF_DESTROY = 7, "XENCAMERA_OP_BUF_DESTROY";
        /// Let it be filled.
        BUF_QUEUE = 8, "XENCAMERA_OP_BUF_QUEUE";
        /// Take it back.
        BUF_DEQUEUE = 9, "XENCAMERA_OP_BUF_DEQUEUE";
        /// Which controls are there?
        CTRL_ENUM = 10, "XENCAMERA_OP_CTRL_ENUM";
        /// Set a control.
        CTRL_SET = 11, "XENCAMERA_OP_CTRL_SET";
        /// Read a control.
        CTRL_GET = 12, "XENCAMERA_OP_CTRL_GET";
        /// Start.
        STREAM_START = 13, "XENCAMERA_OP_STREAM_START";
        /// Stop.
        STREAM_STOP = 14, "XENCAMERA_OP_STREAM_STOP";
    }
}

crate::facts::open_enum! {
    /// A control.
    pub struct XencameraCtrl(u8) {
        /// Brightness.
        BRIGHTNESS = 0, "XENCAMERA_CTRL_BRIGHTNESS";
        /// Contrast.
        CONTRAST = 1, "XENCAMERA_CTRL_CONTRAST";
        /// Saturation.
        SATURATION = 2, "XENCAMERA_CTRL_SATURATION";
        /// Hue.
        HUE = 3, "XENCAMERA_CTRL_HUE";
    }
}

crate::facts::flags! {
    /// [`XencameraCtrlEnumResp::flags`].
    pub struct XencameraCtrlFlags: u32 {
        /// It cannot be set.
        RO = 1 << 0, "XENCAMERA_CTRL_FLG_RO";
        /// It cannot be read.
        WO = 1 << 1, "XENCAMERA_CTRL_FLG_WO";
        /// It changes by itself.
        VOLATILE = 1 << 2, "XENCAMERA_CTRL_FLG_VOLATILE";
    }
}

crate::facts::open_enum! {
    /// What colours mean.
    pub struct XencameraColorspace(u32) {
        /// What is usual.
        DEFAULT = 0, "XENCAMERA_COLORSPACE_DEFAULT";
        /// SMPTE 170M.
        SMPTE170M = 1, "XENCAMERA_COLORSPACE_SMPTE170M";
        /// Rec. 709.
        REC709 = 2, "XENCAMERA_COLORSPACE_REC709";
        /// sRGB.
        SRGB = 3, "XENCAMERA_COLORSPACE_SRGB";
        /// opRGB.
        OPRGB = 4, "XENCAMERA_COLORSPACE_OPRGB";
        /// BT.2020.
        BT2020 = 5, "XENCAMERA_COLORSPACE_BT2020";
        /// DCI-P3.
        DCI_P3 = 6, "XENCAMERA_COLORSPACE_DCI_P3";
    }
}

crate::facts::open_enum! {
    /// How light becomes numbers.
    pub struct XencameraXferFunc(u32) {
        /// What is usual.
        DEFAULT = 0, "XENCAMERA_XFER_FUNC_DEFAULT";
        /// Rec. 709.
        REC709 = 1, "XENCAMERA_XFER_FUNC_709";
        /// sRGB.
        SRGB = 2, "XENCAMERA_XFER_FUNC_SRGB";
        /// opRGB.
        OPRGB = 3, "XENCAMERA_XFER_FUNC_OPRGB";
        /// Linearly.
        NONE = 4, "XENCAMERA_XFER_FUNC_NONE";
        /// DCI-P3.
        DCI_P3 = 5, "XENCAMERA_XFER_FUNC_DCI_P3";
        /// SMPTE 2084.
        SMPTE2084 = 6, "XENCAMERA_XFER_FUNC_SMPTE2084";
    }
}

crate::facts::open_enum! {
    /// How colours become luma and chroma.
    pub struct XencameraYcbcrEnc(u32) {
        /// Not told.
        IGNORE = 0, "XENCAMERA_YCBCR_ENC_IGNORE";
        /// BT.601.
        BT601 = 1, "XENCAMERA_YCBCR_ENC_601";
        /// Rec. 709.
        REC709 = 2, "XENCAMERA_YCBCR_ENC_709";
        /// xvYCC 601.
        XV601 = 3, "XENCAMERA_YCBCR_ENC_XV601";
        /// xvYCC 709.
        XV709 = 4, "XENCAMERA_YCBCR_ENC_XV709";
        /// BT.2020.
        BT2020 = 5, "XENCAMERA_YCBCR_ENC_BT2020";
        /// BT.2020 with constant luminance.
        BT2020_CONST_LUM = 6, "XENCAMERA_YCBCR_ENC_BT2020_CONST_LUM";
    }
}

crate::facts::open_enum! {
    /// Which numbers are used.
    pub struct XencameraQuantization(u32) {
        /// What is usual.
        DEFAULT = 0, "XENCAMERA_QUANTIZATION_DEFAULT";
        /// All.
        FULL_RANGE = 1, "XENCAMERA_QUANTIZATION_FULL_RANGE";
        /// Not the ends.
        LIM_RANGE = 2, "XENCAMERA_QUANTIZATION_LIM_RANGE";
    }
}

crate::facts::constants! {
    /// How many controls there are.
    XENCAMERA_MAX_CTRL: u8 = 4;
    /// [`XencameraEvt::type`]: a buffer is full.
    XENCAMERA_EVT_FRAME_AVAIL: u8 = 0;
    /// [`XencameraEvt::type`]: a control has changed.
    XENCAMERA_EVT_CTRL_CHANGE: u8 = 1;
    /// Planes of a picture, at most.
    XENCAMERA_MAX_PLANE: usize = 4;
    /// Bytes of the page of events.
    XENCAMERA_EVENT_PAGE_SIZE: usize = 4096;
    /// The place of the events in it.
    XENCAMERA_IN_RING_OFFS: usize = 64;
    /// Their bytes.
    XENCAMERA_IN_RING_SIZE: usize = 4032;
    /// Their slots.
    XENCAMERA_IN_RING_LEN: usize = 63;
}

crate::facts::texts! {
    /// The version, in the store.
    XENCAMERA_PROTOCOL_VERSION = "1";
    /// The device's name in the store.
    XENCAMERA_DRIVER_NAME = "vcamera";
    /// Between the parts of a list.
    XENCAMERA_LIST_SEPARATOR = ",";
    /// Between width and height.
    XENCAMERA_RESOLUTION_SEPARATOR = "x";
    /// Between numerator and denominator.
    XENCAMERA_FRACTION_SEPARATOR = "/";
    /// The versions that the backend has.
    XENCAMERA_FIELD_BE_VERSIONS = "versions";
    /// The version that the frontend chose.
    XENCAMERA_FIELD_FE_VERSION = "version";
    /// The reference of the requests' page.
    XENCAMERA_FIELD_REQ_RING_REF = "req-ring-ref";
    /// The requests' port.
    XENCAMERA_FIELD_REQ_CHANNEL = "req-event-channel";
    /// The reference of the events' page.
    XENCAMERA_FIELD_EVT_RING_REF = "evt-ring-ref";
    /// The events' port.
    XENCAMERA_FIELD_EVT_CHANNEL = "evt-event-channel";
    /// Buffers, at most.
    XENCAMERA_FIELD_MAX_BUFFERS = "max-buffers";
    /// The folder of controls.
    XENCAMERA_FIELD_CONTROLS = "controls";
    /// The folder of formats.
    XENCAMERA_FIELD_FORMATS = "formats";
    /// Frame rates.
    XENCAMERA_FIELD_FRAME_RATES = "frame-rates";
    /// Whether the backend gives the memory.
    XENCAMERA_FIELD_BE_ALLOC = "be-alloc";
    /// A name for the camera.
    XENCAMERA_FIELD_UNIQUE_ID = "unique-id";
    /// The control's name in the store.
    XENCAMERA_CTRL_BRIGHTNESS_STR = "brightness";
    /// The control's name in the store.
    XENCAMERA_CTRL_CONTRAST_STR = "contrast";
    /// The control's name in the store.
    XENCAMERA_CTRL_SATURATION_STR = "saturation";
    /// The control's name in the store.
    XENCAMERA_CTRL_HUE_STR = "hue";
    /// What follows the name of a big-endian format.
    XENCAMERA_FOURCC_BIGENDIAN_STR = "-BE";
}

crate::facts::structs! {
    /// A format.
    "xencamera_config_req" 12
    pub struct XencameraConfigReq {
        /// What pixels are, as four characters.
        pixel_format: u32 = 0,
        /// Pixels in a line.
        width: u32 = 4,
        /// Lines.
        height: u32 = 8,
    }

    /// The format that is.
    "xencamera_config_resp" 44
    pub struct XencameraConfigResp {
        /// What pixels are, as four characters.
        pixel_format: u32 = 0,
        /// Pixels in a line.
        width: u32 = 4,
        /// Lines.
        height: u32 = 8,
        /// What colours mean.
        colorspace: XencameraColorspace = 12,
        /// How light becomes numbers.
        xfer_func: XencameraXferFunc = 16,
        /// How colours become luma and chroma.
        ycbcr_enc: XencameraYcbcrEnc = 20,
        /// Which numbers are used.
        quantization: XencameraQuantization = 24,
        /// The picture's proportion, numerator.
        displ_asp_ratio_numer: u32 = 28,
        /// The picture's proportion, denominator.
        displ_asp_ratio_denom: u32 = 32,
        /// Frames a second, numerator.
        frame_rate_numer: u32 = 36,
        /// Frames a second, denominator.
        frame_rate_denom: u32 = 40,
    }

    /// A frame rate.
    "xencamera_frame_rate_req" 8
    pub struct XencameraFrameRateReq {
        /// Frames a second, numerator.
        frame_rate_numer: u32 = 0,
        /// Frames a second, denominator.
        frame_rate_denom: u32 = 4,
    }

    /// A number of buffers.
    "xencamera_buf_request" 1
    pub struct XencameraBufRequest {
        /// How many.
        num_bufs: u8 = 0,
    }

    /// How buffers are laid out.
    "xencamera_buf_get_layout_resp" 40
    pub struct XencameraBufGetLayoutResp {
        /// Planes.
        num_planes: u8 = 0,
        /// Zero.
        reserved: [u8; 3] = 1,
        /// Bytes of a buffer.
        size: u32 = 4,
        /// Bytes of each plane.
        plane_size: [u32; 4] = 8,
        /// Bytes from a line to the next, of each plane.
        plane_stride: [u32; 4] = 24,
    }

    /// Make a buffer.
    "xencamera_buf_create_req" 24
    pub struct XencameraBufCreateReq {
        /// Its number.
        index: u8 = 0,
        /// Zero.
        reserved: [u8; 3] = 1,
        /// Where each plane starts.
        plane_offset: [u32; 4] = 4,
        /// Its first [`XencameraPageDirectory`].
        gref_directory: GrantRef = 20,
    }

    /// The head of a page of references, which follow.
    "xencamera_page_directory" 4
    pub struct XencameraPageDirectory {
        /// The next such page; zero: none.
        gref_dir_next_page: GrantRef = 0,
    }

    /// A buffer, or a control by its place.
    "xencamera_index" 1
    pub struct XencameraIndex {
        /// Its number.
        index: u8 = 0,
    }

    /// A control.
    "xencamera_get_ctrl_req" 1
    pub struct XencameraGetCtrlReq {
        /// Which.
        r#type: XencameraCtrl = 0,
    }

    /// A control's value.
    "xencamera_ctrl_value" 16
    pub struct XencameraCtrlValue {
        /// Which.
        r#type: XencameraCtrl = 0,
        /// Zero.
        reserved: [u8; 7] = 1,
        /// Its value.
        value: i64 = 8,
    }

    /// A control.
    "xencamera_ctrl_enum_resp" 40
    pub struct XencameraCtrlEnumResp {
        /// Its place.
        index: u8 = 0,
        /// Which.
        r#type: XencameraCtrl = 1,
        /// Zero.
        reserved: u16 = 2,
        /// [`XencameraCtrlFlags`].
        flags: u32 = 4,
        /// At least.
        min: i64 = 8,
        /// At most.
        max: i64 = 16,
        /// From a value to the next.
        step: i64 = 24,
        /// At first.
        def_val: i64 = 32,
    }

    /// A buffer is full.
    "xencamera_frame_avail_evt" 12
    pub struct XencameraFrameAvailEvt {
        /// Which.
        index: u8 = 0,
        /// Zero.
        reserved: [u8; 3] = 1,
        /// Its bytes that are used.
        used_sz: u32 = 4,
        /// The picture's number.
        seq_num: u32 = 8,
    }

    /// A request.
    "xencamera_req" 64
    pub struct XencameraReq {
        /// The frontend's number for it.
        id: u16 = 0,
        /// What to do.
        operation: XencameraOp = 2,
        /// Zero.
        reserved: [u8; 5] = 3,
        /// One of the structures above.
        req: [u64; 7] = 8,
    }

    /// An answer.
    "xencamera_resp" 64
    pub struct XencameraResp {
        /// The request's number.
        id: u16 = 0,
        /// What it did.
        operation: XencameraOp = 2,
        /// Zero.
        reserved: u8 = 3,
        /// Zero, or a negative error number.
        status: i32 = 4,
        /// One of the structures above.
        resp: [u64; 7] = 8,
    }

    /// An event.
    "xencamera_evt" 64
    pub struct XencameraEvt {
        /// Its number.
        id: u16 = 0,
        /// What it is.
        r#type: u8 = 2,
        /// Zero.
        reserved: [u8; 5] = 3,
        /// [`XencameraFrameAvailEvt`] or [`XencameraCtrlValue`].
        evt: [u64; 7] = 8,
    }

    /// The head of the page of events.
    "xencamera_event_page" 64
    pub struct XencameraEventPage {
        /// Events read by the frontend.
        in_cons: u32 = 0,
        /// Events written for it.
        in_prod: u32 = 4,
        /// Zero.
        reserved: [u8; 56] = 8,
    }
}
