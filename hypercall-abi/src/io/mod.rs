//! The rings and pages of paravirtual devices: `xen/include/public/io/`.
//!
//! A device has two halves: the frontend in the guest, the backend in another
//! domain. They find each other by the store ([`xs_wire`] is its own protocol),
//! agree by [`xenbus`] states, and then talk by a page that the frontend grants:
//! a [`ring`] of requests and responses, a ring of bytes, or a page of their own.
//!
//! | device | module | | device | module |
//! |---|---|---|---|---|
//! | console | [`console`] | | screen | [`fbif`], [`displif`] |
//! | disk | [`blkif`] | | keyboard, pointer, touch | [`kbdif`] |
//! | network | [`netif`] | | sound | [`sndif`] |
//! | files | [`p9fs`] | | camera | [`cameraif`] |
//! | sockets | [`pvcalls`] | | PCI, USB, SCSI | [`pciif`], [`usbif`], [`vscsiif`] |
//! | between guests | [`libxenvchan`] | | trusted platform module | [`tpmif`] |

pub mod blkif;
#[cfg(feature = "all-devices")]
pub mod cameraif;
pub mod console;
#[cfg(feature = "all-devices")]
pub mod displif;
#[cfg(feature = "all-devices")]
pub mod fbif;
#[cfg(feature = "all-devices")]
pub mod kbdif;
#[cfg(feature = "all-devices")]
pub mod libxenvchan;
pub mod netif;
#[cfg(feature = "all-devices")]
pub mod p9fs;
#[cfg(feature = "all-devices")]
pub mod pciif;
pub mod protocols;
#[cfg(feature = "all-devices")]
pub mod pvcalls;
pub mod ring;
#[cfg(feature = "all-devices")]
pub mod sndif;
#[cfg(feature = "all-devices")]
pub mod tpmif;
#[cfg(feature = "all-devices")]
pub mod usbif;
#[cfg(feature = "all-devices")]
pub mod vscsiif;
pub mod xenbus;
pub mod xs_wire;
