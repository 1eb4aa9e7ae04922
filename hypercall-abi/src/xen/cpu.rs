//! The vCPU's own: timer, debug registers, floating point.

use crate::{Errno, HypercallNr, platform::Hypercall};

/// Whether floating point instructions trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FpuTaskswitch {
    /// They run.
    Clear,
    /// They raise "device not available".
    Set,
}

/// Starts this vCPU's one-shot timer, which sends
/// [`Virq::TIMER`](super::Virq::TIMER) at a system time; zero stops it. Any
/// guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen (or it is one for Arm).
#[inline]
pub fn set_timer_op<H: Hypercall + ?Sized>(h: &H, timeout_ns: u64) -> Result<(), Errno> {
    // SAFETY: no memory is named.
    let answer = unsafe { h.call1(HypercallNr::SET_TIMER_OP, timeout_ns as usize) };
    Errno::check(answer).map(|_| ())
}

/// Chooses whether floating point instructions trap. PV guests only.
///
/// # Errors
/// `ENOSYS`: not a PV guest.
///
/// # Safety
/// When they trap, a handler is there that lets them go on. When they do not, the
/// registers hold what the code that runs next expects: a kernel that learns by the trap
/// whose they are has changed them already.
#[inline]
pub unsafe fn fpu_taskswitch<H: Hypercall + ?Sized>(
    h: &H,
    state: FpuTaskswitch,
) -> Result<(), Errno> {
    let set = usize::from(state == FpuTaskswitch::Set);
    // SAFETY: no memory is named; the rest is this function's contract.
    let answer = unsafe { h.call1(HypercallNr::FPU_TASKSWITCH, set) };
    Errno::check(answer).map(|_| ())
}

/// Sets a debug register (0 to 3, 6 and 7). PV guests only.
///
/// # Errors
/// `ENODEV`: no such register; `EPERM`: not that value; `EINVAL`: not in its upper half;
/// `ENOSYS`: not a PV guest.
#[inline]
pub fn set_debugreg<H: Hypercall + ?Sized>(h: &H, register: u32, value: u64) -> Result<(), Errno> {
    // SAFETY: no memory is named; breakpoints raise exceptions, no more.
    let answer = unsafe { h.call2(HypercallNr::SET_DEBUGREG, register as usize, value as usize) };
    Errno::check(answer).map(|_| ())
}

/// Reads a debug register (0 to 3, 6 and 7). PV guests only.
///
/// # Errors
/// `ENODEV`: no such register; `ENOSYS`: not a PV guest.
#[inline]
pub fn get_debugreg<H: Hypercall + ?Sized>(h: &H, register: u32) -> Result<u64, Errno> {
    // SAFETY: no memory is named.
    let answer = unsafe { h.call1(HypercallNr::GET_DEBUGREG, register as usize) };
    Errno::check(answer).map(|value| value as u64)
}
