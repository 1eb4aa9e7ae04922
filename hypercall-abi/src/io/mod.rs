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
pub mod cameraif;
pub mod console;
pub mod displif;
pub mod fbif;
pub mod kbdif;
pub mod libxenvchan;
pub mod netif;
pub mod p9fs;
pub mod pciif;
pub mod protocols;
pub mod pvcalls;
pub mod ring;
pub mod sndif;
pub mod tpmif;
pub mod usbif;
pub mod vscsiif;
pub mod xenbus;
pub mod xs_wire;
