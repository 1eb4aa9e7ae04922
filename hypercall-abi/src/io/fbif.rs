//! Screens: `xen/include/public/io/fbif.h`.

crate::facts::open_enum! {
    /// What an event is.
    pub struct XenfbType(u8) {
        /// A part of the picture has changed: [`XenfbUpdate`].
        UPDATE = 2, "XENFB_TYPE_UPDATE";
        /// It has another size: [`XenfbResize`].
        RESIZE = 3, "XENFB_TYPE_RESIZE";
        /// How often it is looked at: [`XenfbRefreshPeriod`].
        REFRESH_PERIOD = 1, "XENFB_TYPE_REFRESH_PERIOD";
    }
}

crate::facts::constants! {
    /// Bytes of an event to the backend.
    XENFB_OUT_EVENT_SIZE: usize = 40;
    /// Bytes of their ring.
    XENFB_OUT_RING_SIZE: usize = 2048;
    /// Its place in the page.
    XENFB_OUT_RING_OFFS: usize = 2048;
    /// Its slots.
    XENFB_OUT_RING_LEN: usize = 51;
    /// Bytes of an event to the frontend.
    XENFB_IN_EVENT_SIZE: usize = 40;
    /// Bytes of their ring.
    XENFB_IN_RING_SIZE: usize = 1024;
    /// Its place in the page.
    XENFB_IN_RING_OFFS: usize = 1024;
    /// Its slots.
    XENFB_IN_RING_LEN: usize = 25;
    /// [`XenfbRefreshPeriod::period`]: not at all.
    XENFB_NO_REFRESH: u32 = 0;
}

crate::facts::structs! {
    /// A part of the picture has changed.
    "xenfb_update" 20
    pub struct XenfbUpdate {
        /// [`XenfbType::UPDATE`].
        r#type: XenfbType = 0,
        #[doc(hidden)]
        _gap0: [u8; 3] = 1,
        /// Its left edge.
        x: i32 = 4,
        /// Its upper edge.
        y: i32 = 8,
        /// Its width.
        width: i32 = 12,
        /// Its height.
        height: i32 = 16,
    }

    /// The picture has another size.
    "xenfb_resize" 24
    pub struct XenfbResize {
        /// [`XenfbType::RESIZE`].
        r#type: XenfbType = 0,
        #[doc(hidden)]
        _gap0: [u8; 3] = 1,
        /// Pixels in a line.
        width: i32 = 4,
        /// Lines.
        height: i32 = 8,
        /// Bytes from a line to the next.
        stride: i32 = 12,
        /// Bits of a pixel.
        depth: i32 = 16,
        /// Where it starts in the memory.
        offset: i32 = 20,
    }

    /// How often the backend looks.
    "xenfb_refresh_period" 8
    pub struct XenfbRefreshPeriod {
        /// [`XenfbType::REFRESH_PERIOD`].
        r#type: XenfbType = 0,
        #[doc(hidden)]
        _gap0: [u8; 3] = 1,
        /// Milliseconds, or [`XENFB_NO_REFRESH`].
        period: u32 = 4,
    }

    /// An event to the backend.
    "xenfb_out_event" 40
    pub struct XenfbOutEvent {
        /// What it is.
        r#type: XenfbType = 0,
        #[doc(hidden)]
        _gap0: [u8; 39] = 1,
    }

    /// An event to the frontend.
    "xenfb_in_event" 40
    pub struct XenfbInEvent {
        /// What it is.
        r#type: XenfbType = 0,
        #[doc(hidden)]
        _gap0: [u8; 39] = 1,
    }

    /// A screen's page; its rings follow.
    "xenfb_page" 2088
    pub struct XenfbPage {
        /// Events read by the frontend.
        in_cons: u32 = 0,
        /// Events written for it.
        in_prod: u32 = 4,
        /// Events read by the backend.
        out_cons: u32 = 8,
        /// Events written for it.
        out_prod: u32 = 12,
        /// Pixels in a line.
        width: i32 = 16,
        /// Lines.
        height: i32 = 20,
        /// Bytes from a line to the next.
        line_length: u32 = 24,
        /// Bytes of the picture.
        mem_length: u32 = 28,
        /// Bits of a pixel.
        depth: u8 = 32,
        #[doc(hidden)]
        _gap0: [u8; 7] = 33,
        /// The frames of the lists of the picture's frames.
        pd: [u64; 256] = 40,
    }
}
