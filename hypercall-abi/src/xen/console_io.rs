//! Xen's own console, for emergencies.

use crate::{Errno, HypercallNr, platform::Hypercall};

/// Write.
#[doc(alias = "CONSOLEIO_write")]
pub const CONSOLEIO_WRITE: usize = 0;
/// Read.
#[doc(alias = "CONSOLEIO_read")]
pub const CONSOLEIO_READ: usize = 1;

/// Writes text to Xen's console.
///
/// Every guest may call it, but a release build of Xen throws away what an
/// ordinary domain writes (and says it did it). Source:
/// `HYPERVISOR_console_io`, `xen.h`.
///
/// # Errors
/// `EPERM` or `ENOSYS` where the hypervisor does not offer it.
#[inline]
pub fn write<H: Hypercall + ?Sized>(h: &H, text: &[u8]) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads `text.len()` bytes of `text`.
    let answer = unsafe {
        h.call3(
            HypercallNr::CONSOLE_IO,
            CONSOLEIO_WRITE,
            text.len(),
            text.as_ptr().expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| ())
}
