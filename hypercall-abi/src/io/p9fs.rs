//! Files by the 9P protocol: `xen/include/public/io/9pfs.h`.

crate::facts::structs! {
    /// A ring's page of indices; the references of the data's pages follow.
    "xen_9pfs_data_intf" 132
    pub struct Xen9pfsDataIntf {
        /// Read by the frontend up to here.
        in_cons: u32 = 0,
        /// Written for it up to here.
        in_prod: u32 = 4,
        /// Zero.
        pad1: [u8; 56] = 8,
        /// Read by the backend up to here.
        out_cons: u32 = 64,
        /// Written for it up to here.
        out_prod: u32 = 68,
        /// Zero.
        pad2: [u8; 56] = 72,
        /// Pages of data, as a power of two.
        ring_order: u32 = 128,
    }
}
