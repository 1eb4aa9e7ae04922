//! Calls about vCPUs.

use super::*;
use crate::{
    Errno, Gfn, HypercallNr, VcpuId, hvm::VcpuHvmContext, platform::Hypercall,
    xen::VcpuGuestContext,
};

const NR: HypercallNr = HypercallNr::VCPU_OP;

/// Whether a vCPU runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuState {
    /// It runs, or could.
    Up,
    /// It was not started, or went down.
    Down,
}

/// A subop with an argument in memory.
///
/// # Safety
/// As for [`Hypercall::call5`], where `arg` is all that the subop reads and
/// writes.
#[inline(always)]
unsafe fn with<H: Hypercall + ?Sized, T>(
    h: &H,
    subop: usize,
    vcpu: VcpuId,
    arg: &mut T,
) -> Result<usize, Errno> {
    // SAFETY: this function's contract.
    let answer = unsafe {
        h.call3(
            NR,
            subop,
            vcpu.0 as usize,
            (&raw mut *arg).expose_provenance(),
        )
    };
    Errno::check(answer)
}

/// A subop without one.
///
/// # Safety
/// As for [`Hypercall::call5`].
#[inline(always)]
unsafe fn without<H: Hypercall + ?Sized>(
    h: &H,
    subop: usize,
    vcpu: VcpuId,
) -> Result<usize, Errno> {
    // SAFETY: this function's contract.
    let answer = unsafe { h.call3(NR, subop, vcpu.0 as usize, 0) };
    Errno::check(answer)
}

/// Sets what a vCPU of a PV guest starts with. PV guests only.
///
/// # Errors
/// `EEXIST`: it was set already; `ENOENT`: no such vCPU; `EINVAL`: the page
/// tables are not, or a value is impossible.
///
/// # Safety
/// The code, stack and tables are there for it, for as long as it runs.
#[inline]
pub unsafe fn initialise_pv<H: Hypercall + ?Sized>(
    h: &H,
    vcpu: VcpuId,
    context: &mut VcpuGuestContext,
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads `context`; the rest is this function's contract.
    unsafe { with(h, VCPUOP_INITIALISE, vcpu, context) }.map(|_| ())
}

/// Sets what a vCPU of an HVM or PVH guest starts with. HVM and PVH guests
/// only.
///
/// # Errors
/// As for [`initialise_pv`].
///
/// # Safety
/// The code, stack and tables are there for it, for as long as it runs.
#[inline]
pub unsafe fn initialise_hvm<H: Hypercall + ?Sized>(
    h: &H,
    vcpu: VcpuId,
    context: &mut VcpuHvmContext,
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads `context`; the rest is this function's contract.
    unsafe { with(h, VCPUOP_INITIALISE, vcpu, context) }.map(|_| ())
}

/// Starts a vCPU, where it is to start or where it went down. Any guest may.
///
/// # Errors
/// `ENOENT`: no such vCPU; `EINVAL`: it was never initialised.
///
/// # Safety
/// Another processor running is no surprise to this kernel.
#[inline]
pub unsafe fn up<H: Hypercall + ?Sized>(h: &H, vcpu: VcpuId) -> Result<(), Errno> {
    // SAFETY: no argument; the rest is this function's contract.
    unsafe { without(h, VCPUOP_UP, vcpu) }.map(|_| ())
}

/// Stops a vCPU, this one or another; [`up`] lets it go on. Any guest may.
///
/// # Errors
/// `ENOENT`: no such vCPU; `EBUSY`: it is the last one that runs.
#[inline]
pub fn down<H: Hypercall + ?Sized>(h: &H, vcpu: VcpuId) -> Result<(), Errno> {
    // SAFETY: no argument.
    unsafe { without(h, VCPUOP_DOWN, vcpu) }.map(|_| ())
}

/// Asks whether a vCPU of this domain runs. Any guest may.
///
/// # Errors
/// `ENOENT`: there is no such vCPU; `ENOSYS`: there is no Xen.
#[inline]
pub fn state<H: Hypercall + ?Sized>(h: &H, vcpu: VcpuId) -> Result<VcpuState, Errno> {
    // SAFETY: no argument.
    unsafe { without(h, VCPUOP_IS_UP, vcpu) }.map(|up| {
        if up == 0 {
            VcpuState::Down
        } else {
            VcpuState::Up
        }
    })
}

/// Asks how long a vCPU did what. Any guest may.
///
/// # Errors
/// `ENOENT`: there is no such vCPU; `ENOSYS`: there is no Xen.
#[inline]
pub fn get_runstate_info<H: Hypercall + ?Sized>(
    h: &H,
    vcpu: VcpuId,
) -> Result<VcpuRunstateInfo, Errno> {
    let mut info = VcpuRunstateInfo::default();
    // SAFETY: the hypervisor writes `info`, which outlives the call.
    unsafe { with(h, VCPUOP_GET_RUNSTATE_INFO, vcpu, &mut info) }.map(|_| info)
}

/// Lets Xen keep a vCPU's runstate at an address; zero ends it. Any guest may.
///
/// # Errors
/// `ENOENT`: no such vCPU; `EFAULT`: the address is not mapped.
///
/// # Safety
/// Xen writes there whenever the vCPU is switched, by the page tables of then:
/// no Rust reference leads there.
#[inline]
pub unsafe fn register_runstate_memory_area<H: Hypercall + ?Sized>(
    h: &H,
    vcpu: VcpuId,
    addr: u64,
) -> Result<(), Errno> {
    let mut arg = VcpuRegisterRunstateMemoryArea { addr };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { with(h, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, vcpu, &mut arg) }.map(|_| ())
}

/// The same by physical address (Xen 4.18, [`RUNSTATE_PHYS_AREA`]).
///
/// # Errors
/// `ENOSYS`: not offered; `EINVAL`, `ENXIO`: not an address of a whole area.
///
/// # Safety
/// Xen writes there at any time: no Rust reference leads there.
///
/// [`RUNSTATE_PHYS_AREA`]: crate::features::XenFeatures::RUNSTATE_PHYS_AREA
#[inline]
pub unsafe fn register_runstate_phys_area<H: Hypercall + ?Sized>(
    h: &H,
    vcpu: VcpuId,
    addr: u64,
) -> Result<(), Errno> {
    let mut arg = VcpuRegisterRunstateMemoryArea { addr };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { with(h, VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, vcpu, &mut arg) }.map(|_| ())
}

/// Lets Xen keep a vCPU's clock at an address; zero ends it. Any guest may.
///
/// # Errors
/// `ENOENT`: no such vCPU; `EFAULT`: the address is not mapped.
///
/// # Safety
/// As for [`register_runstate_memory_area`].
#[inline]
pub unsafe fn register_vcpu_time_memory_area<H: Hypercall + ?Sized>(
    h: &H,
    vcpu: VcpuId,
    addr: u64,
) -> Result<(), Errno> {
    let mut arg = VcpuRegisterTimeMemoryArea { addr };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { with(h, VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA, vcpu, &mut arg) }.map(|_| ())
}

/// The same by physical address (Xen 4.18, [`VCPU_TIME_PHYS_AREA`]).
///
/// # Errors
/// As for [`register_runstate_phys_area`].
///
/// # Safety
/// As for [`register_runstate_phys_area`].
///
/// [`VCPU_TIME_PHYS_AREA`]: crate::features::XenFeatures::VCPU_TIME_PHYS_AREA
#[inline]
pub unsafe fn register_vcpu_time_phys_area<H: Hypercall + ?Sized>(
    h: &H,
    vcpu: VcpuId,
    addr: u64,
) -> Result<(), Errno> {
    let mut arg = VcpuRegisterTimeMemoryArea { addr };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { with(h, VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA, vcpu, &mut arg) }.map(|_| ())
}

/// Starts a vCPU's periodic timer, which sends
/// [`Virq::TIMER`](crate::xen::Virq::TIMER). Any guest may, but an HVM guest has
/// its own timers too.
///
/// # Errors
/// `EINVAL`: the period is shorter than a millisecond; `ENOENT`: no such vCPU.
#[inline]
pub fn set_periodic_timer<H: Hypercall + ?Sized>(
    h: &H,
    vcpu: VcpuId,
    period_ns: u64,
) -> Result<(), Errno> {
    let mut arg = VcpuSetPeriodicTimer { period_ns };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { with(h, VCPUOP_SET_PERIODIC_TIMER, vcpu, &mut arg) }.map(|_| ())
}

/// Stops a vCPU's periodic timer. Any guest may.
///
/// # Errors
/// `ENOENT`: no such vCPU.
#[inline]
pub fn stop_periodic_timer<H: Hypercall + ?Sized>(h: &H, vcpu: VcpuId) -> Result<(), Errno> {
    // SAFETY: no argument.
    unsafe { without(h, VCPUOP_STOP_PERIODIC_TIMER, vcpu) }.map(|_| ())
}

/// Starts the calling vCPU's one-shot timer, which sends
/// [`Virq::TIMER`](crate::xen::Virq::TIMER) at a system time. Any guest may.
///
/// # Errors
/// `EINVAL`: another vCPU's; `ENOENT`: no such vCPU; `ETIME`: it is over, with
/// [`SingleshotFlags::FUTURE`] and before Xen 4.18 (which sends the interrupt at
/// once).
#[inline]
pub fn set_singleshot_timer<H: Hypercall + ?Sized>(
    h: &H,
    vcpu: VcpuId,
    timeout_abs_ns: u64,
    flags: SingleshotFlags,
) -> Result<(), Errno> {
    let mut arg = VcpuSetSingleshotTimer {
        timeout_abs_ns,
        flags: flags.bits(),
        ..VcpuSetSingleshotTimer::default()
    };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { with(h, VCPUOP_SET_SINGLESHOT_TIMER, vcpu, &mut arg) }.map(|_| ())
}

/// Stops the calling vCPU's one-shot timer. Any guest may.
///
/// # Errors
/// `EINVAL`: another vCPU's; `ENOENT`: no such vCPU.
#[inline]
pub fn stop_singleshot_timer<H: Hypercall + ?Sized>(h: &H, vcpu: VcpuId) -> Result<(), Errno> {
    // SAFETY: no argument.
    unsafe { without(h, VCPUOP_STOP_SINGLESHOT_TIMER, vcpu) }.map(|_| ())
}

/// Moves a vCPU's [`VcpuInfo`](crate::xen::VcpuInfo) to a place of the guest's
/// own, for good. Any guest may, and one with more than 32 vCPUs must.
///
/// # Errors
/// `EINVAL`: it was moved already, or the place is not 8-byte aligned or leaves
/// the page; `ENOENT`: no such vCPU.
///
/// # Safety
/// The frame is this domain's, and Xen writes the 64 bytes at any time: no Rust
/// reference leads there.
#[inline]
pub unsafe fn register_vcpu_info<H: Hypercall + ?Sized>(
    h: &H,
    vcpu: VcpuId,
    gfn: Gfn,
    offset: u32,
) -> Result<(), Errno> {
    let mut arg = VcpuRegisterVcpuInfo {
        mfn: gfn,
        offset,
        rsvd: 0,
    };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { with(h, VCPUOP_REGISTER_VCPU_INFO, vcpu, &mut arg) }.map(|_| ())
}

/// Sends a vCPU a non-maskable interrupt. Any guest may.
///
/// # Errors
/// `ENOENT`: no such vCPU.
#[inline]
pub fn send_nmi<H: Hypercall + ?Sized>(h: &H, vcpu: VcpuId) -> Result<(), Errno> {
    // SAFETY: no argument.
    unsafe { without(h, VCPUOP_SEND_NMI, vcpu) }.map(|_| ())
}
