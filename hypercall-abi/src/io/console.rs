//! The console's page.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout;

/// Two byte rings with free-running indices: a byte's place is its index
/// modulo the ring's size.
///
/// Source: `struct xencons_interface`, `xen/include/public/io/console.h`.
#[doc(alias = "xencons_interface")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct XenconsInterface {
    /// To the guest.
    pub r#in: [u8; 1024],
    /// From the guest.
    pub out: [u8; 2048],
    /// Read by the guest up to here.
    pub in_cons: u32,
    /// Written for the guest up to here.
    pub in_prod: u32,
    /// Read from the guest up to here.
    pub out_cons: u32,
    /// Written by the guest up to here.
    pub out_prod: u32,
}

layout!(XenconsInterface: 3088 {
    r#in: 0..1024, out: 1024..3072, in_cons: 3072..3076, in_prod: 3076..3080,
    out_cons: 3080..3084, out_prod: 3084..3088,
});
