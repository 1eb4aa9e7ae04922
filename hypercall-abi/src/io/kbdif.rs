//! Keyboards, pointers and touch: `xen/include/public/io/kbdif.h`.

crate::facts::open_enum! {
    /// What an event is.
    pub struct XenkbdType(u8) {
        /// The pointer moved: [`XenkbdMotion`].
        MOTION = 1, "XENKBD_TYPE_MOTION";
        /// Reserved.
        RESERVED = 2, "XENKBD_TYPE_RESERVED";
        /// A key: [`XenkbdKey`].
        KEY = 3, "XENKBD_TYPE_KEY";
        /// Where the pointer is: [`XenkbdPosition`].
        POS = 4, "XENKBD_TYPE_POS";
        /// A touch: [`XenkbdMtouch`].
        MTOUCH = 5, "XENKBD_TYPE_MTOUCH";
    }
}

crate::facts::open_enum! {
    /// What a touch does.
    pub struct XenkbdMtouchEvent(u8) {
        /// It starts.
        DOWN = 0, "XENKBD_MT_EV_DOWN";
        /// It ends.
        UP = 1, "XENKBD_MT_EV_UP";
        /// It moves.
        MOTION = 2, "XENKBD_MT_EV_MOTION";
        /// All was told.
        SYN = 3, "XENKBD_MT_EV_SYN";
        /// Its shape.
        SHAPE = 4, "XENKBD_MT_EV_SHAPE";
        /// Its direction.
        ORIENT = 5, "XENKBD_MT_EV_ORIENT";
    }
}

crate::facts::constants! {
    /// Bytes of an event to the frontend.
    XENKBD_IN_EVENT_SIZE: usize = 40;
    /// Bytes of their ring.
    XENKBD_IN_RING_SIZE: usize = 2048;
    /// Its place in the page.
    XENKBD_IN_RING_OFFS: usize = 1024;
    /// Its slots.
    XENKBD_IN_RING_LEN: usize = 51;
    /// Bytes of an event to the backend.
    XENKBD_OUT_EVENT_SIZE: usize = 40;
    /// Bytes of their ring.
    XENKBD_OUT_RING_SIZE: usize = 1024;
    /// Its place in the page.
    XENKBD_OUT_RING_OFFS: usize = 3072;
    /// Its slots.
    XENKBD_OUT_RING_LEN: usize = 25;
}

crate::facts::texts! {
    /// The device's name in the store.
    XENKBD_DRIVER_NAME = "vkbd";
    /// The backend has no keyboard.
    XENKBD_FIELD_FEAT_DSBL_KEYBRD = "feature-disable-keyboard";
    /// The backend has no pointer.
    XENKBD_FIELD_FEAT_DSBL_POINTER = "feature-disable-pointer";
    /// The backend can tell where the pointer is.
    XENKBD_FIELD_FEAT_ABS_POINTER = "feature-abs-pointer";
    /// The backend can tell it in its own units.
    XENKBD_FIELD_FEAT_RAW_POINTER = "feature-raw-pointer";
    /// The backend can tell touches.
    XENKBD_FIELD_FEAT_MTOUCH = "feature-multi-touch";
    /// The frontend wants to know where the pointer is.
    XENKBD_FIELD_REQ_ABS_POINTER = "request-abs-pointer";
    /// The frontend wants it in the backend's units.
    XENKBD_FIELD_REQ_RAW_POINTER = "request-raw-pointer";
    /// The frontend wants touches.
    XENKBD_FIELD_REQ_MTOUCH = "request-multi-touch";
    /// The page's reference.
    XENKBD_FIELD_RING_GREF = "page-gref";
    /// The port.
    XENKBD_FIELD_EVT_CHANNEL = "event-channel";
    /// The page's frame (older).
    XENKBD_FIELD_RING_REF = "page-ref";
    /// The width in which positions are told.
    XENKBD_FIELD_WIDTH = "width";
    /// The height in which positions are told.
    XENKBD_FIELD_HEIGHT = "height";
    /// The width in which touches are told.
    XENKBD_FIELD_MT_WIDTH = "multi-touch-width";
    /// The height in which touches are told.
    XENKBD_FIELD_MT_HEIGHT = "multi-touch-height";
    /// How many touches there may be at once.
    XENKBD_FIELD_MT_NUM_CONTACTS = "multi-touch-num-contacts";
    /// A name for the device.
    XENKBD_FIELD_UNIQUE_ID = "unique-id";
}

crate::facts::structs! {
    /// The pointer moved.
    "xenkbd_motion" 16
    pub struct XenkbdMotion {
        /// [`XenkbdType::MOTION`].
        r#type: XenkbdType = 0,
        #[doc(hidden)]
        _gap0: [u8; 3] = 1,
        /// To the right.
        rel_x: i32 = 4,
        /// Down.
        rel_y: i32 = 8,
        /// The wheel.
        rel_z: i32 = 12,
    }

    /// A key.
    "xenkbd_key" 8
    pub struct XenkbdKey {
        /// [`XenkbdType::KEY`].
        r#type: XenkbdType = 0,
        /// Not zero: it went down.
        pressed: u8 = 1,
        #[doc(hidden)]
        _gap0: [u8; 2] = 2,
        /// Linux's number of the key.
        keycode: u32 = 4,
    }

    /// Where the pointer is.
    "xenkbd_position" 16
    pub struct XenkbdPosition {
        /// [`XenkbdType::POS`].
        r#type: XenkbdType = 0,
        #[doc(hidden)]
        _gap0: [u8; 3] = 1,
        /// From the left.
        abs_x: i32 = 4,
        /// From above.
        abs_y: i32 = 8,
        /// The wheel.
        rel_z: i32 = 12,
    }

    /// A touch.
    "xenkbd_mtouch" 16
    pub struct XenkbdMtouch {
        /// [`XenkbdType::MTOUCH`].
        r#type: XenkbdType = 0,
        /// What it does.
        event_type: XenkbdMtouchEvent = 1,
        /// Which touch.
        contact_id: u8 = 2,
        /// Zero.
        reserved: [u8; 5] = 3,
        /// [`XenkbdMtouchPos`], [`XenkbdMtouchShape`], or the angle in degrees
        /// (16 bits).
        u: u64 = 8,
    }

    /// Where a touch is.
    "xenkbd_mtouch.u.pos" 8
    pub struct XenkbdMtouchPos {
        /// From the left.
        abs_x: i32 = 0,
        /// From above.
        abs_y: i32 = 4,
    }

    /// The shape of a touch.
    "xenkbd_mtouch.u.shape" 8
    pub struct XenkbdMtouchShape {
        /// Its longer axis.
        major: u32 = 0,
        /// Its shorter axis.
        minor: u32 = 4,
    }

    /// An event to the frontend.
    "xenkbd_in_event" 40
    pub struct XenkbdInEvent {
        /// What it is.
        r#type: XenkbdType = 0,
        #[doc(hidden)]
        _gap0: [u8; 39] = 1,
    }

    /// An event to the backend: there are none yet.
    "xenkbd_out_event" 40
    pub struct XenkbdOutEvent {
        /// What it is.
        r#type: XenkbdType = 0,
        #[doc(hidden)]
        _gap0: [u8; 39] = 1,
    }

    /// The head of the page; its rings follow.
    "xenkbd_page" 16
    pub struct XenkbdPage {
        /// Events read by the frontend.
        in_cons: u32 = 0,
        /// Events written for it.
        in_prod: u32 = 4,
        /// Events read by the backend.
        out_cons: u32 = 8,
        /// Events written for it.
        out_prod: u32 = 12,
    }
}
