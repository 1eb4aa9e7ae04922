//! Sound: `xen/include/public/io/sndif.h`.

use crate::GrantRef;

crate::facts::open_enum! {
    /// What a request does.
    pub struct XensndOp(u8) {
        /// Open a stream.
        OPEN = 0, "XENSND_OP_OPEN";
        /// Close it.
        CLOSE = 1, "XENSND_OP_CLOSE";
        /// Read samples.
        READ = 2, "XENSND_OP_READ";
        /// Write samples.
        WRITE = 3, "XENSND_OP_WRITE";
        /// Set the volume.
        SET_VOLUME = 4, "XENSND_OP_SET_VOLUME";
        /// Read it.
        GET_VOLUME = 5, "XENSND_OP_GET_VOLUME";
        /// Mute.
        MUTE = 6, "XENSND_OP_MUTE";
        /// No longer.
        UNMUTE = 7, "XENSND_OP_UNMUTE";
        /// Start, stop, pause or go on.
        TRIGGER = 8, "XENSND_OP_TRIGGER";
        /// What can the stream do?
        HW_PARAM_QUERY = 9, "XENSND_OP_HW_PARAM_QUERY";
    }
}

crate::facts::open_enum! {
    /// What [`XensndOp::TRIGGER`] does.
    pub struct XensndTrigger(u8) {
        /// Start.
        START = 0, "XENSND_OP_TRIGGER_START";
        /// Pause.
        PAUSE = 1, "XENSND_OP_TRIGGER_PAUSE";
        /// Stop.
        STOP = 2, "XENSND_OP_TRIGGER_STOP";
        /// Go on.
        RESUME = 3, "XENSND_OP_TRIGGER_RESUME";
    }
}

crate::facts::open_enum! {
    /// What a sample is.
    pub struct XensndPcmFormat(u8) {
        /// Signed, 8 bits.
        S8 = 0, "XENSND_PCM_FORMAT_S8";
        /// Unsigned, 8 bits.
        U8 = 1, "XENSND_PCM_FORMAT_U8";
        /// Signed, 16 bits, little-endian.
        S16_LE = 2, "XENSND_PCM_FORMAT_S16_LE";
        /// Signed, 16 bits, big-endian.
        S16_BE = 3, "XENSND_PCM_FORMAT_S16_BE";
        /// Unsigned, 16 bits, little-endian.
        U16_LE = 4, "XENSND_PCM_FORMAT_U16_LE";
        /// Unsigned, 16 bits, big-endian.
        U16_BE = 5, "XENSND_PCM_FORMAT_U16_BE";
        /// Signed, 24 bits, little-endian.
        S24_LE = 6, "XENSND_PCM_FORMAT_S24_LE";
        /// Signed, 24 bits, big-endian.
        S24_BE = 7, "XENSND_PCM_FORMAT_S24_BE";
        /// Unsigned, 24 bits, little-endian.
        U24_LE = 8, "XENSND_PCM_FORMAT_U24_LE";
        /// Unsigned, 24 bits, big-endian.
        U24_BE = 9, "XENSND_PCM_FORMAT_U24_BE";
        /// Signed, 32 bits, little-endian.
        S32_LE = 10, "XENSND_PCM_FORMAT_S32_LE";
        /// Signed, 32 bits, big-endian.
        S32_BE = 11, "XENSND_PCM_FORMAT_S32_BE";
        /// Unsigned, 32 bits, little-endian.
        U32_LE = 12, "XENSND_PCM_FORMAT_U32_LE";
        /// Unsigned, 32 bits, big-endian.
        U32_BE = 13, "XENSND_PCM_FORMAT_U32_BE";
        /// Floating point, 32 bits, little-endian.
        F32_LE = 14, "XENSND_PCM_FORMAT_F32_LE";
        /// Floating point, 32 bits, big-endian.
        F32_BE = 15, "XENSND_PCM_FORMAT_F32_BE";
        /// Floating point, 64 bits, little-endian.
        F64_LE = 16, "XENSND_PCM_FORMAT_F64_LE";
        /// Floating point, 64 bits, big-endian.
        F64_BE = 17, "XENSND_PCM_FORMAT_F64_BE";
        /// IEC 958, little-endian.
        IEC958_SUBFRAME_LE = 18, "XENSND_PCM_FORMAT_IEC958_SUBFRAME_LE";
        /// IEC 958, big-endian.
        IEC958_SUBFRAME_BE = 19, "XENSND_PCM_FORMAT_IEC958_SUBFRAME_BE";
        /// Mu-law.
        MU_LAW = 20, "XENSND_PCM_FORMAT_MU_LAW";
        /// A-law.
        A_LAW = 21, "XENSND_PCM_FORMAT_A_LAW";
        /// IMA ADPCM.
        IMA_ADPCM = 22, "XENSND_PCM_FORMAT_IMA_ADPCM";
        /// MPEG.
        MPEG = 23, "XENSND_PCM_FORMAT_MPEG";
        /// GSM.
        GSM = 24, "XENSND_PCM_FORMAT_GSM";
    }
}

crate::facts::constants! {
    /// The version.
    XENSND_PROTOCOL_VERSION: u32 = 2;
    /// [`XensndEvt::type`]: where the stream is.
    XENSND_EVT_CUR_POS: u8 = 0;
    /// Characters of a rate in the store, at most.
    XENSND_SAMPLE_RATE_MAX_LEN: usize = 11;
    /// Characters of a format in the store, at most.
    XENSND_SAMPLE_FORMAT_MAX_LEN: usize = 24;
    /// Bytes of the page of events.
    XENSND_EVENT_PAGE_SIZE: usize = 4096;
    /// The place of the events in it.
    XENSND_IN_RING_OFFS: usize = 64;
    /// Their bytes.
    XENSND_IN_RING_SIZE: usize = 4032;
    /// Their slots.
    XENSND_IN_RING_LEN: usize = 63;
}

crate::facts::texts! {
    /// The device's name in the store.
    XENSND_DRIVER_NAME = "vsnd";
    /// Between the parts of a list.
    XENSND_LIST_SEPARATOR = ",";
    /// The versions that the backend has.
    XENSND_FIELD_BE_VERSIONS = "versions";
    /// The version that the frontend chose.
    XENSND_FIELD_FE_VERSION = "version";
    /// The card's short name.
    XENSND_FIELD_VCARD_SHORT_NAME = "short-name";
    /// The card's long name.
    XENSND_FIELD_VCARD_LONG_NAME = "long-name";
    /// The reference of the requests' page.
    XENSND_FIELD_RING_REF = "ring-ref";
    /// The requests' port.
    XENSND_FIELD_EVT_CHNL = "event-channel";
    /// The reference of the events' page.
    XENSND_FIELD_EVT_RING_REF = "evt-ring-ref";
    /// The events' port.
    XENSND_FIELD_EVT_EVT_CHNL = "evt-event-channel";
    /// The device's name.
    XENSND_FIELD_DEVICE_NAME = "name";
    /// Whether the stream plays or records.
    XENSND_FIELD_TYPE = "type";
    /// A name for the stream.
    XENSND_FIELD_STREAM_UNIQUE_ID = "unique-id";
    /// Channels, at least.
    XENSND_FIELD_CHANNELS_MIN = "channels-min";
    /// Channels, at most.
    XENSND_FIELD_CHANNELS_MAX = "channels-max";
    /// Rates.
    XENSND_FIELD_SAMPLE_RATES = "sample-rates";
    /// Formats.
    XENSND_FIELD_SAMPLE_FORMATS = "sample-formats";
    /// Bytes of the buffer, at most.
    XENSND_FIELD_BUFFER_SIZE = "buffer-size";
    /// It plays.
    XENSND_STREAM_TYPE_PLAYBACK = "p";
    /// It records.
    XENSND_STREAM_TYPE_CAPTURE = "c";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_S8_STR = "s8";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_U8_STR = "u8";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_S16_LE_STR = "s16_le";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_S16_BE_STR = "s16_be";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_U16_LE_STR = "u16_le";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_U16_BE_STR = "u16_be";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_S24_LE_STR = "s24_le";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_S24_BE_STR = "s24_be";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_U24_LE_STR = "u24_le";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_U24_BE_STR = "u24_be";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_S32_LE_STR = "s32_le";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_S32_BE_STR = "s32_be";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_U32_LE_STR = "u32_le";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_U32_BE_STR = "u32_be";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_F32_LE_STR = "float_le";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_F32_BE_STR = "float_be";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_F64_LE_STR = "float64_le";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_F64_BE_STR = "float64_be";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_IEC958_SUBFRAME_LE_STR = "iec958_subframe_le";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_IEC958_SUBFRAME_BE_STR = "iec958_subframe_be";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_MU_LAW_STR = "mu_law";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_A_LAW_STR = "a_law";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_IMA_ADPCM_STR = "ima_adpcm";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_MPEG_STR = "mpeg";
    /// The format's name in the store.
    XENSND_PCM_FORMAT_GSM_STR = "gsm";
}

crate::facts::structs! {
    /// Open a stream.
    "xensnd_open_req" 20
    pub struct XensndOpenReq {
        /// Samples a second.
        pcm_rate: u32 = 0,
        /// What a sample is.
        pcm_format: XensndPcmFormat = 4,
        /// Channels.
        pcm_channels: u8 = 5,
        /// Zero.
        reserved: u16 = 6,
        /// Bytes of the buffer.
        buffer_sz: u32 = 8,
        /// The first [`XensndPageDirectory`].
        gref_directory: GrantRef = 12,
        /// Bytes between two events; zero: none.
        period_sz: u32 = 16,
    }

    /// The head of a page of references, which follow.
    "xensnd_page_directory" 4
    pub struct XensndPageDirectory {
        /// The next such page; zero: none.
        gref_dir_next_page: GrantRef = 0,
    }

    /// A part of the buffer.
    "xensnd_rw_req" 8
    pub struct XensndRwReq {
        /// Its first byte.
        offset: u32 = 0,
        /// Its bytes.
        length: u32 = 4,
    }

    /// Start, stop, pause or go on.
    "xensnd_trigger_req" 1
    pub struct XensndTriggerReq {
        /// Which.
        r#type: XensndTrigger = 0,
    }

    /// Samples a second.
    "xensnd_query_hw_param.rates" 8
    pub struct XensndRates {
        /// At least.
        min: u32 = 0,
        /// At most.
        max: u32 = 4,
    }

    /// Channels.
    "xensnd_query_hw_param.channels" 8
    pub struct XensndChannels {
        /// At least.
        min: u32 = 0,
        /// At most.
        max: u32 = 4,
    }

    /// Frames of the buffer.
    "xensnd_query_hw_param.buffer" 8
    pub struct XensndBuffer {
        /// At least.
        min: u32 = 0,
        /// At most.
        max: u32 = 4,
    }

    /// Frames between two events.
    "xensnd_query_hw_param.period" 8
    pub struct XensndPeriod {
        /// At least.
        min: u32 = 0,
        /// At most.
        max: u32 = 4,
    }

    /// What a stream can do.
    "xensnd_query_hw_param" 40
    pub struct XensndQueryHwParam {
        /// A bit for each [`XensndPcmFormat`].
        formats: u64 = 0,
        /// Samples a second.
        rates: XensndRates = 8,
        /// Channels.
        channels: XensndChannels = 16,
        /// Frames of the buffer.
        buffer: XensndBuffer = 24,
        /// Frames between two events.
        period: XensndPeriod = 32,
    }

    /// Where a stream is.
    "xensnd_cur_pos_evt" 8
    pub struct XensndCurPosEvt {
        /// Bytes since its start.
        position: u64 = 0,
    }

    /// A request.
    "xensnd_req" 64
    pub struct XensndReq {
        /// The frontend's number for it.
        id: u16 = 0,
        /// What to do.
        operation: XensndOp = 2,
        /// Zero.
        reserved: [u8; 5] = 3,
        /// One of the structures above.
        op: [u64; 7] = 8,
    }

    /// An answer.
    "xensnd_resp" 64
    pub struct XensndResp {
        /// The request's number.
        id: u16 = 0,
        /// What it did.
        operation: XensndOp = 2,
        /// Zero.
        reserved: u8 = 3,
        /// Zero, or a negative error number.
        status: i32 = 4,
        /// [`XensndQueryHwParam`].
        resp: [u64; 7] = 8,
    }

    /// An event.
    "xensnd_evt" 64
    pub struct XensndEvt {
        /// Its number.
        id: u16 = 0,
        /// What it is.
        r#type: u8 = 2,
        /// Zero.
        reserved: [u8; 5] = 3,
        /// [`XensndCurPosEvt`].
        op: [u64; 7] = 8,
    }

    /// The head of the page of events.
    "xensnd_event_page" 64
    pub struct XensndEventPage {
        /// Events read by the frontend.
        in_cons: u32 = 0,
        /// Events written for it.
        in_prod: u32 = 4,
        /// Zero.
        reserved: [u8; 56] = 8,
    }
}
