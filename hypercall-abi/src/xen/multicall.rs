//! Several hypercalls in one trap.

use crate::{Errno, HypercallNr, platform::Hypercall};

crate::facts::structs! {
    /// One hypercall of a list.
    "multicall_entry" 64
    pub struct MulticallEntry {
        /// Its number.
        op: u64 = 0,
        /// Its answer, when it was made.
        result: i64 = 8,
        /// Its arguments.
        args: [u64; 6] = 16,
    }
}

impl MulticallEntry {
    /// A hypercall; what is behind the last argument is zero.
    pub fn new(nr: HypercallNr, args: &[u64]) -> Self {
        let mut entry = Self {
            op: u64::from(nr.0),
            result: Errno::ENOSYS.to_answer() as i64,
            args: [0; 6],
        };
        for (slot, arg) in entry.args.iter_mut().zip(args) {
            *slot = *arg;
        }
        entry
    }

    /// What the hypercall answered, once it was made.
    ///
    /// # Errors
    /// Those of the hypercall; `ENOSYS` as long as it was not made.
    pub fn check(&self) -> Result<usize, Errno> {
        Errno::check(self.result as isize)
    }
}

/// Makes several hypercalls, in order; each entry has its own answer. Any guest
/// may.
///
/// # Errors
/// `EFAULT`: the list cannot be read; `ENOSYS`: not offered. A hypercall that
/// fails does not end the list.
///
/// # Safety
/// As for [`Hypercall::call5`], of each entry.
#[inline]
pub unsafe fn multicall<H: Hypercall + ?Sized>(
    h: &H,
    calls: &mut [MulticallEntry],
) -> Result<(), Errno> {
    // SAFETY: the list is read and written; what it does is the caller's
    // promise.
    let answer = unsafe {
        h.call2(
            HypercallNr::MULTICALL,
            calls.as_mut_ptr().expose_provenance(),
            calls.len(),
        )
    };
    Errno::check(answer).map(|_| ())
}
