//! A pair of byte rings between two domains: `xen/include/public/io/libxenvchan.h`.

crate::facts::flags! {
    /// When to tell the other side.
    pub struct VchanNotify: u8 {
        /// When there is more to read.
        WRITE = 1 << 0, "VCHAN_NOTIFY_WRITE";
        /// When there is more room.
        READ = 1 << 1, "VCHAN_NOTIFY_READ";
    }
}

crate::facts::structs! {
    /// A ring's indices.
    "ring_shared" 8
    pub struct RingShared {
        /// Read up to here.
        cons: u32 = 0,
        /// Written up to here.
        prod: u32 = 4,
    }

    /// The page; the references of the rings' pages follow.
    "vchan_interface" 24
    pub struct VchanInterface {
        /// Towards the client.
        left: RingShared = 0,
        /// Towards the server.
        right: RingShared = 8,
        /// The size of that ring, as a power of two: 10 and 11 lie in this
        /// page.
        left_order: u16 = 16,
        /// The size of the other.
        right_order: u16 = 18,
        /// Zero: the client has gone; 1: it is there; 2: it is to come.
        cli_live: u8 = 20,
        /// The same of the server.
        srv_live: u8 = 21,
        /// When the client wants to be told: [`VchanNotify`].
        cli_notify: u8 = 22,
        /// When the server wants to be told: [`VchanNotify`].
        srv_notify: u8 = 23,
    }
}
