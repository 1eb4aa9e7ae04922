//! USB: `xen/include/public/io/usbif.h`.
//!
//! ```text
//! pipe: 31..30 type | 18..15 endpoint | 14..8 device | 7 in | 5 unlink | 4..0 port
//! ```

use crate::GrantRef;

crate::facts::open_enum! {
    /// How a transfer ended.
    pub struct UsbifStatus(i32) {
        /// It was done.
        OK = 0, "USBIF_STATUS_OK";
        /// The device has gone.
        NODEV = -19, "USBIF_STATUS_NODEV";
        /// It was wrong.
        INVAL = -22, "USBIF_STATUS_INVAL";
        /// The device refused.
        STALL = -32, "USBIF_STATUS_STALL";
        /// The bus failed.
        IOERROR = -71, "USBIF_STATUS_IOERROR";
        /// The device said too much.
        BABBLE = -75, "USBIF_STATUS_BABBLE";
        /// The device is being taken away.
        SHUTDOWN = -108, "USBIF_STATUS_SHUTDOWN";
    }
}

crate::facts::open_enum! {
    /// How fast a device is.
    pub struct UsbifSpeed(u8) {
        /// There is none.
        NONE = 0, "USBIF_SPEED_NONE";
        /// Low speed.
        LOW = 1, "USBIF_SPEED_LOW";
        /// Full speed.
        FULL = 2, "USBIF_SPEED_FULL";
        /// High speed.
        HIGH = 3, "USBIF_SPEED_HIGH";
    }
}

crate::facts::constants! {
    /// The port.
    USBIF_PIPE_PORT_MASK: u32 = 31;
    /// The request undoes another.
    USBIF_PIPE_UNLINK: u32 = 32;
    /// To the guest.
    USBIF_PIPE_DIR: u32 = 128;
    /// The device, shifted.
    USBIF_PIPE_DEV_MASK: u32 = 127;
    /// Where the device is.
    USBIF_PIPE_DEV_SHIFT: u32 = 8;
    /// The endpoint, shifted.
    USBIF_PIPE_EP_MASK: u32 = 15;
    /// Where the endpoint is.
    USBIF_PIPE_EP_SHIFT: u32 = 15;
    /// The type, shifted.
    USBIF_PIPE_TYPE_MASK: u32 = 3;
    /// Where the type is.
    USBIF_PIPE_TYPE_SHIFT: u32 = 30;
    /// The type: isochronous.
    USBIF_PIPE_TYPE_ISOC: u32 = 0;
    /// The type: interrupt.
    USBIF_PIPE_TYPE_INT: u32 = 1;
    /// The type: control.
    USBIF_PIPE_TYPE_CTRL: u32 = 2;
    /// The type: bulk.
    USBIF_PIPE_TYPE_BULK: u32 = 3;
    /// The greatest port.
    USBIF_MAX_PORTNR: u32 = 31;
    /// [`UsbifUrbRequest::transfer_flags`]: too few bytes are an error.
    USBIF_SHORT_NOT_OK: u16 = 1;
    /// Segments in a request.
    USBIF_MAX_SEGMENTS_PER_REQUEST: usize = 16;
    /// Bytes of a ring's page.
    USBIF_RING_SIZE: usize = 4096;
    /// Slots of the ring of connections.
    USB_CONN_RING_SIZE: usize = 512;
    /// Slots of the ring of transfers.
    USB_URB_RING_SIZE: usize = 16;
    /// The version, in the store: unknown.
    USB_VER_UNKNOWN: u32 = 0;
    /// The version, in the store: 1.1.
    USB_VER_USB11: u32 = 1;
    /// The version, in the store: 2.0.
    USB_VER_USB20: u32 = 2;
    /// The version, in the store: 3.0.
    USB_VER_USB30: u32 = 3;
}

crate::facts::structs! {
    /// A part of a granted page.
    "usbif_request_segment" 8
    pub struct UsbifRequestSegment {
        /// The page.
        gref: GrantRef = 0,
        /// Its first byte.
        offset: u16 = 4,
        /// Its bytes.
        length: u16 = 6,
    }

    /// A transfer.
    "usbif_urb_request" 148
    pub struct UsbifUrbRequest {
        /// The frontend's number for it.
        id: u16 = 0,
        /// How many segments of data.
        nr_buffer_segs: u16 = 2,
        /// Where to.
        pipe: u32 = 4,
        /// Zero or [`USBIF_SHORT_NOT_OK`].
        transfer_flags: u16 = 8,
        /// Bytes of data.
        buffer_length: u16 = 10,
        /// A control request's head (8 bytes), [`UsbifUrbIsoc`],
        /// [`UsbifUrbIntr`] or [`UsbifUrbUnlink`].
        u: [u16; 4] = 12,
        /// The segments.
        seg: [UsbifRequestSegment; 16] = 20,
    }

    /// An isochronous transfer.
    "usbif_urb_request.u.isoc" 8
    pub struct UsbifUrbIsoc {
        /// Its period.
        interval: u16 = 0,
        /// Its first frame.
        start_frame: u16 = 2,
        /// How many packets.
        number_of_packets: u16 = 4,
        /// How many segments describe them.
        nr_frame_desc_segs: u16 = 6,
    }

    /// An interrupt transfer.
    "usbif_urb_request.u.intr" 8
    pub struct UsbifUrbIntr {
        /// Its period.
        interval: u16 = 0,
        /// Zero.
        pad: [u8; 6] = 2,
    }

    /// It undoes another.
    "usbif_urb_request.u.unlink" 8
    pub struct UsbifUrbUnlink {
        /// Which.
        unlink_id: u16 = 0,
        /// Zero.
        pad: [u8; 6] = 2,
    }

    /// A transfer ended.
    "usbif_urb_response" 16
    pub struct UsbifUrbResponse {
        /// The request's number.
        id: u16 = 0,
        /// Its first frame.
        start_frame: u16 = 2,
        /// How it ended.
        status: UsbifStatus = 4,
        /// Bytes that were transferred.
        actual_length: i32 = 8,
        /// Packets that failed.
        error_count: i32 = 12,
    }

    /// Tell when a device comes or goes.
    "usbif_conn_request" 2
    pub struct UsbifConnRequest {
        /// The frontend's number for it.
        id: u16 = 0,
    }

    /// A device came or went.
    "usbif_conn_response" 4
    pub struct UsbifConnResponse {
        /// The request's number.
        id: u16 = 0,
        /// At which port.
        portnum: u8 = 2,
        /// How fast it is.
        speed: UsbifSpeed = 3,
    }
}
