//! Xen's own console: what is written there lands in Xen's log.

use crate::{Errno, HypercallNr, platform::Hypercall};

crate::facts::constants! {
    /// Write.
    CONSOLEIO_WRITE: usize = 0, "CONSOLEIO_write";
    /// Read (initial domain).
    CONSOLEIO_READ: usize = 1, "CONSOLEIO_read";
}

/// Writes text to Xen's console.
///
/// Every guest may call it, but a release build of Xen refuses what an ordinary
/// domain writes. Source: `HYPERVISOR_console_io`, `xen.h`.
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

/// Reads what was typed at Xen's console, and returns how much that was: a
/// domain that owns the console only.
///
/// # Errors
/// `EPERM`: an ordinary domain; `ENOSYS`: not offered.
#[inline]
pub fn read<H: Hypercall + ?Sized>(h: &H, text: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the hypervisor writes at most `text.len()` bytes of `text`.
    let answer = unsafe {
        h.call3(
            HypercallNr::CONSOLE_IO,
            CONSOLEIO_READ,
            text.len(),
            text.as_mut_ptr().expose_provenance(),
        )
    };
    Errno::check(answer)
}
