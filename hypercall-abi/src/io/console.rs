//! The console's page: `xen/include/public/io/console.h`.

crate::facts::constants! {
    /// [`XenconsInterface::connection`]: somebody is there.
    XENCONSOLE_CONNECTED: u8 = 0;
    /// [`XenconsInterface::connection`]: nobody is there yet.
    XENCONSOLE_DISCONNECTED: u8 = 1;
}

crate::facts::structs! {
    /// Two byte rings with free-running indices: a byte's place is its index
    /// modulo the ring's size.
    "xencons_interface" 3092
    pub struct XenconsInterface {
        /// To the guest.
        r#in: [u8; 1024] = 0,
        /// From the guest.
        out: [u8; 2048] = 1024,
        /// Read by the guest up to here.
        in_cons: u32 = 3072,
        /// Written for the guest up to here.
        in_prod: u32 = 3076,
        /// Read from the guest up to here.
        out_cons: u32 = 3080,
        /// Written by the guest up to here.
        out_prod: u32 = 3084,
        /// [`XENCONSOLE_CONNECTED`] or [`XENCONSOLE_DISCONNECTED`], by the
        /// console's daemon (Xen 4.21).
        connection: u8 = 3088,
        #[doc(hidden)]
        _gap0: [u8; 3] = 3089,
    }
}
