//! Displays with buffers of their own: `xen/include/public/io/displif.h`.

use crate::GrantRef;

crate::facts::open_enum! {
    /// What a request does.
    pub struct XendisplOp(u8) {
        /// Make a buffer.
        DBUF_CREATE = 16, "XENDISPL_OP_DBUF_CREATE";
        /// Drop a buffer.
        DBUF_DESTROY = 17, "XENDISPL_OP_DBUF_DESTROY";
        /// Make a picture of a buffer.
        FB_ATTACH = 18, "XENDISPL_OP_FB_ATTACH";
        /// Drop a picture.
        FB_DETACH = 19, "XENDISPL_OP_FB_DETACH";
        /// Set the mode.
        SET_CONFIG = 20, "XENDISPL_OP_SET_CONFIG";
        /// Show a picture.
        PG_FLIP = 21, "XENDISPL_OP_PG_FLIP";
        /// Read what the display says of itself.
        GET_EDID = 22, "XENDISPL_OP_GET_EDID";
    }
}

crate::facts::constants! {
    /// [`XendisplEvt::type`]: a picture is shown.
    XENDISPL_EVT_PG_FLIP: u8 = 0;
    /// [`XendisplDbufCreateReq::flags`]: the backend gives the memory.
    XENDISPL_DBUF_FLG_REQ_ALLOC: u32 = 1;
    /// The version.
    XENDISPL_PROTOCOL_VERSION_INT: u32 = 2;
    /// Bytes of a block of what the display says.
    XENDISPL_EDID_BLOCK_SIZE: usize = 128;
    /// Blocks, at most.
    XENDISPL_EDID_BLOCK_COUNT: usize = 256;
    /// Bytes, at most.
    XENDISPL_EDID_MAX_SIZE: usize = 32_768;
    /// Bytes of the page of events.
    XENDISPL_EVENT_PAGE_SIZE: usize = 4096;
    /// The place of the events in it.
    XENDISPL_IN_RING_OFFS: usize = 64;
    /// Their bytes.
    XENDISPL_IN_RING_SIZE: usize = 4032;
    /// Their slots.
    XENDISPL_IN_RING_LEN: usize = 63;
}

crate::facts::texts! {
    /// The version, in the store.
    XENDISPL_PROTOCOL_VERSION = "2";
    /// The device's name in the store.
    XENDISPL_DRIVER_NAME = "vdispl";
    /// Between the parts of a list.
    XENDISPL_LIST_SEPARATOR = ",";
    /// Between width and height.
    XENDISPL_RESOLUTION_SEPARATOR = "x";
    /// The versions that the backend has.
    XENDISPL_FIELD_BE_VERSIONS = "versions";
    /// The version that the frontend chose.
    XENDISPL_FIELD_FE_VERSION = "version";
    /// The reference of the requests' page.
    XENDISPL_FIELD_REQ_RING_REF = "req-ring-ref";
    /// The requests' port.
    XENDISPL_FIELD_REQ_CHANNEL = "req-event-channel";
    /// The reference of the events' page.
    XENDISPL_FIELD_EVT_RING_REF = "evt-ring-ref";
    /// The events' port.
    XENDISPL_FIELD_EVT_CHANNEL = "evt-event-channel";
    /// A display's width and height.
    XENDISPL_FIELD_RESOLUTION = "resolution";
    /// Whether the backend gives the memory.
    XENDISPL_FIELD_BE_ALLOC = "be-alloc";
    /// A name for the display.
    XENDISPL_FIELD_UNIQUE_ID = "unique-id";
}

crate::facts::structs! {
    /// Make a buffer.
    "xendispl_dbuf_create_req" 40
    pub struct XendisplDbufCreateReq {
        /// The frontend's number for it.
        dbuf_cookie: u64 = 0,
        /// Pixels in a line.
        width: u32 = 8,
        /// Lines.
        height: u32 = 12,
        /// Bits of a pixel.
        bpp: u32 = 16,
        /// Its bytes.
        buffer_sz: u32 = 20,
        /// Zero or [`XENDISPL_DBUF_FLG_REQ_ALLOC`].
        flags: u32 = 24,
        /// The first [`XendisplPageDirectory`].
        gref_directory: GrantRef = 28,
        /// Where the data starts in the first page.
        data_ofs: u32 = 32,
        #[doc(hidden)]
        _gap0: [u8; 4] = 36,
    }

    /// The head of a page of references, which follow.
    "xendispl_page_directory" 4
    pub struct XendisplPageDirectory {
        /// The next such page; zero: none.
        gref_dir_next_page: GrantRef = 0,
    }

    /// Drop a buffer.
    "xendispl_dbuf_destroy_req" 8
    pub struct XendisplDbufDestroyReq {
        /// Which.
        dbuf_cookie: u64 = 0,
    }

    /// Make a picture of a buffer.
    "xendispl_fb_attach_req" 32
    pub struct XendisplFbAttachReq {
        /// Which buffer.
        dbuf_cookie: u64 = 0,
        /// The frontend's number for the picture.
        fb_cookie: u64 = 8,
        /// Pixels in a line.
        width: u32 = 16,
        /// Lines.
        height: u32 = 20,
        /// What pixels are, as four characters.
        pixel_format: u32 = 24,
        #[doc(hidden)]
        _gap0: [u8; 4] = 28,
    }

    /// Drop a picture.
    "xendispl_fb_detach_req" 8
    pub struct XendisplFbDetachReq {
        /// Which.
        fb_cookie: u64 = 0,
    }

    /// Set the mode.
    "xendispl_set_config_req" 32
    pub struct XendisplSetConfigReq {
        /// The picture; zero: switch off.
        fb_cookie: u64 = 0,
        /// Left edge.
        x: u32 = 8,
        /// Upper edge.
        y: u32 = 12,
        /// Pixels in a line.
        width: u32 = 16,
        /// Lines.
        height: u32 = 20,
        /// Bits of a pixel.
        bpp: u32 = 24,
        #[doc(hidden)]
        _gap0: [u8; 4] = 28,
    }

    /// Show a picture.
    "xendispl_page_flip_req" 8
    pub struct XendisplPageFlipReq {
        /// Which.
        fb_cookie: u64 = 0,
    }

    /// Read what the display says of itself.
    "xendispl_get_edid_req" 8
    pub struct XendisplGetEdidReq {
        /// Bytes of the buffer.
        buffer_sz: u32 = 0,
        /// Its first [`XendisplPageDirectory`].
        gref_directory: GrantRef = 4,
    }

    /// What the display says was read.
    "xendispl_get_edid_resp" 4
    pub struct XendisplGetEdidResp {
        /// Its bytes.
        edid_sz: u32 = 0,
    }

    /// A picture is shown.
    "xendispl_pg_flip_evt" 8
    pub struct XendisplPgFlipEvt {
        /// Which.
        fb_cookie: u64 = 0,
    }

    /// A request.
    "xendispl_req" 64
    pub struct XendisplReq {
        /// The frontend's number for it.
        id: u16 = 0,
        /// What to do.
        operation: XendisplOp = 2,
        /// Zero.
        reserved: [u8; 5] = 3,
        /// One of the structures above.
        op: [u64; 7] = 8,
    }

    /// An answer.
    "xendispl_resp" 64
    pub struct XendisplResp {
        /// The request's number.
        id: u16 = 0,
        /// What it did.
        operation: XendisplOp = 2,
        /// Zero.
        reserved: u8 = 3,
        /// Zero, or a negative error number.
        status: i32 = 4,
        /// [`XendisplGetEdidResp`].
        op: [u64; 7] = 8,
    }

    /// An event.
    "xendispl_evt" 64
    pub struct XendisplEvt {
        /// Its number.
        id: u16 = 0,
        /// What it is.
        r#type: u8 = 2,
        /// Zero.
        reserved: [u8; 5] = 3,
        /// [`XendisplPgFlipEvt`].
        op: [u64; 7] = 8,
    }

    /// The head of the page of events.
    "xendispl_event_page" 64
    pub struct XendisplEventPage {
        /// Events read by the frontend.
        in_cons: u32 = 0,
        /// Events written for it.
        in_prod: u32 = 4,
        /// Zero.
        reserved: [u8; 56] = 8,
    }
}
