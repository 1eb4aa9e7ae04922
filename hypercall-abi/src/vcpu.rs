//! Virtual processors: `xen/include/public/vcpu.h`.

use crate::{
    Errno, Gfn, HypercallNr, VcpuId, hvm::VcpuHvmContext, platform::Hypercall,
    xen::VcpuGuestContext,
};

crate::facts::open_enum! {
    /// What a vCPU does.
    pub struct RunState(u32) {
        /// It runs on a processor.
        RUNNING = 0, "RUNSTATE_running";
        /// It could run, but no processor is free: stolen time.
        RUNNABLE = 1, "RUNSTATE_runnable";
        /// It waits.
        BLOCKED = 2, "RUNSTATE_blocked";
        /// It is down or paused.
        OFFLINE = 3, "RUNSTATE_offline";
    }
}

crate::facts::flags! {
    /// [`VcpuSetSingleshotTimer::flags`].
    pub struct SingleshotFlags: u32 {
        /// Refuse a time that is over, with `ETIME`.
        FUTURE = 1 << 0, "VCPU_SSHOTTMR_future";
    }
}

crate::facts::constants! {
    /// Set what a vCPU starts with.
    VCPUOP_INITIALISE: usize = 0, "VCPUOP_initialise";
    /// Start it.
    VCPUOP_UP: usize = 1, "VCPUOP_up";
    /// Stop it.
    VCPUOP_DOWN: usize = 2, "VCPUOP_down";
    /// Does it run?
    VCPUOP_IS_UP: usize = 3, "VCPUOP_is_up";
    /// How long did it do what?
    VCPUOP_GET_RUNSTATE_INFO: usize = 4, "VCPUOP_get_runstate_info";
    /// Keep telling that at an address.
    VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: usize = 5, "VCPUOP_register_runstate_memory_area";
    /// Start its periodic timer.
    VCPUOP_SET_PERIODIC_TIMER: usize = 6, "VCPUOP_set_periodic_timer";
    /// Stop its periodic timer.
    VCPUOP_STOP_PERIODIC_TIMER: usize = 7, "VCPUOP_stop_periodic_timer";
    /// Start its one-shot timer.
    VCPUOP_SET_SINGLESHOT_TIMER: usize = 8, "VCPUOP_set_singleshot_timer";
    /// Stop its one-shot timer.
    VCPUOP_STOP_SINGLESHOT_TIMER: usize = 9, "VCPUOP_stop_singleshot_timer";
    /// Choose the place of its [`VcpuInfo`](crate::xen::VcpuInfo).
    VCPUOP_REGISTER_VCPU_INFO: usize = 10, "VCPUOP_register_vcpu_info";
    /// Send it a non-maskable interrupt.
    VCPUOP_SEND_NMI: usize = 11, "VCPUOP_send_nmi";
    /// The processor's identifiers (initial domain).
    VCPUOP_GET_PHYSID: usize = 12, "VCPUOP_get_physid";
    /// Keep telling the time at an address.
    VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: usize = 13, "VCPUOP_register_vcpu_time_memory_area";
    /// Keep telling the runstate at a physical address.
    VCPUOP_REGISTER_RUNSTATE_PHYS_AREA: usize = 14, "VCPUOP_register_runstate_phys_area";
    /// Keep telling the time at a physical address.
    VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA: usize = 15, "VCPUOP_register_vcpu_time_phys_area";
    /// [`VcpuRunstateInfo::state_entry_time`]: Xen is writing (with
    /// [`crate::xen::VmAssist::RUNSTATE_UPDATE_FLAG`]).
    XEN_RUNSTATE_UPDATE: u64 = 9_223_372_036_854_775_808;
}

crate::facts::structs! {
    /// How long a vCPU did what.
    "vcpu_runstate_info" 48
    pub struct VcpuRunstateInfo {
        /// What it does now.
        state: RunState = 0,
        #[doc(hidden)]
        _gap0: [u8; 4] = 4,
        /// Since when, in system time.
        state_entry_time: u64 = 8,
        /// Nanoseconds in each [`RunState`].
        time: [u64; 4] = 16,
    }

    /// The argument of `VCPUOP_register_runstate_*_area`.
    "vcpu_register_runstate_memory_area" 8
    pub struct VcpuRegisterRunstateMemoryArea {
        /// The address of a [`VcpuRunstateInfo`].
        addr: u64 = 0,
    }

    /// The argument of `VCPUOP_register_vcpu_time_*_area`.
    "vcpu_register_time_memory_area" 8
    pub struct VcpuRegisterTimeMemoryArea {
        /// The address of a [`VcpuTimeInfo`](crate::xen::VcpuTimeInfo).
        addr: u64 = 0,
    }

    /// The argument of `VCPUOP_set_periodic_timer`.
    "vcpu_set_periodic_timer" 8
    pub struct VcpuSetPeriodicTimer {
        /// Nanoseconds from tick to tick.
        period_ns: u64 = 0,
    }

    /// The argument of `VCPUOP_set_singleshot_timer`.
    "vcpu_set_singleshot_timer" 16
    pub struct VcpuSetSingleshotTimer {
        /// The system time.
        timeout_abs_ns: u64 = 0,
        /// [`SingleshotFlags`].
        flags: u32 = 8,
        #[doc(hidden)]
        _gap0: [u8; 4] = 12,
    }

    /// The argument of `VCPUOP_register_vcpu_info`.
    "vcpu_register_vcpu_info" 16
    pub struct VcpuRegisterVcpuInfo {
        /// The frame.
        mfn: Gfn = 0,
        /// The place in it.
        offset: u32 = 8,
        /// Zero.
        rsvd: u32 = 12,
    }

    /// The argument of `VCPUOP_get_physid`.
    "vcpu_get_physid" 8
    pub struct VcpuGetPhysid {
        /// The local interrupt controller's identifier, and ACPI's in the high
        /// word.
        phys_id: u64 = 0,
    }
}

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
    // SAFETY: the caller's promise.
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
    // SAFETY: the caller's promise.
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
    // SAFETY: the hypervisor reads `context`; the rest is the caller's promise.
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
    // SAFETY: the hypervisor reads `context`; the rest is the caller's promise.
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
    // SAFETY: no argument; the rest is the caller's promise.
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
    // SAFETY: the hypervisor reads `arg`; the rest is the caller's promise.
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
    // SAFETY: the hypervisor reads `arg`; the rest is the caller's promise.
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
    // SAFETY: the hypervisor reads `arg`; the rest is the caller's promise.
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
    // SAFETY: the hypervisor reads `arg`; the rest is the caller's promise.
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
    // SAFETY: the hypervisor reads `arg`; the rest is the caller's promise.
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
