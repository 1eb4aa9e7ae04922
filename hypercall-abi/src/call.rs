//! The shape of most hypercalls.

use crate::{Errno, HypercallNr, platform::Hypercall};

/// Makes a hypercall that takes a subop and the address of a structure.
///
/// # Safety
/// As for [`Hypercall::call5`], where `arg` is all that the subop reads and
/// writes.
#[inline(always)]
pub(crate) unsafe fn subop<H: Hypercall + ?Sized, T: ?Sized>(
    h: &H,
    nr: HypercallNr,
    subop: usize,
    arg: &mut T,
) -> Result<usize, Errno> {
    // SAFETY: this function's contract.
    let answer = unsafe { h.call2(nr, subop, (&raw mut *arg).expose_provenance()) };
    Errno::check(answer)
}

/// The same with a list of structures and its length.
///
/// # Safety
/// As for [`subop`], of every entry.
#[inline(always)]
pub(crate) unsafe fn list<H: Hypercall + ?Sized, T>(
    h: &H,
    nr: HypercallNr,
    subop: usize,
    entries: &mut [T],
) -> Result<usize, Errno> {
    // SAFETY: this function's contract.
    let answer = unsafe {
        h.call3(
            nr,
            subop,
            entries.as_mut_ptr().expose_provenance(),
            entries.len(),
        )
    };
    Errno::check(answer)
}
