//! The sleep of a vCPU that waits for an upcall or a time.

use core::sync::atomic::{AtomicU64, Ordering};

use event_channels::Channel;
use hypercall_abi::{
    Errno, VcpuId,
    platform::{Clock, Park},
    probe::Facility,
    vcpu::{SingleshotFlags, set_singleshot_timer},
    xen::{Virq, cpu::set_timer_op},
};
use spin::Once;

use super::{Native, ports, upcall};
use crate::{
    arch::{apic, tsc},
    boot_info::GuestType,
    cpu::guest_type::guest_type,
};

/// Where nothing can wake the vCPU, it looks again after this long.
const LOOK_AGAIN_NS: u64 = 1_000_000;
/// How long the APIC's timer is compared with the clock.
const CALIBRATION_NS: u64 = 10_000_000;

/// Xen's timer, once its interrupt could be had: while all ports are taken it cannot.
static TIMER: Once<Channel<'static, Native>> = Once::new();

/// When it rings, if it has not yet.
static ARMED_NS: AtomicU64 = AtomicU64::new(0);

/// Sleeps until an event or `deadline_ns`. Upcalls are held back; where there is
/// no other way, they come in the sleep.
///
/// # Safety
/// As for [`upcall::sleep`].
pub(super) unsafe fn sleep(deadline_ns: Option<u64>) {
    // Xen's time has a sign: later is never.
    let deadline_ns = deadline_ns.filter(|deadline| *deadline <= i64::MAX as u64);
    if deadline_ns.is_some_and(|deadline| Native.now_ns() >= deadline) {
        return;
    }
    if let Some(ports) = ports::get() {
        // Not a PVH guest: there Xen reads each argument by way of the guest's page
        // tables, which costs more than the upcall.
        if guest_type() == Some(GuestType::Pv) && ports.sleep(VcpuId(0), deadline_ns).is_ok() {
            return;
        }
        ports.flush_notifications();
    }
    match guest_type() {
        // SAFETY: this function's contract.
        Some(GuestType::Bare) => unsafe { sleep_bare(deadline_ns) },
        _ if !upcall::are_set_up() || !arm(deadline_ns) => doze(deadline_ns),
        // SAFETY: as above.
        _ => unsafe { upcall::sleep() },
    }
}

/// Sleeps for a while, no longer than until `deadline_ns`, and lets no upcall
/// through.
pub(super) fn doze(deadline_ns: Option<u64>) {
    let look_again = Native.now_ns().saturating_add(LOOK_AGAIN_NS);
    let until = deadline_ns.map_or(look_again, |deadline| deadline.min(look_again));
    Native.park(&[], Some(until));
}

/// Has Xen's timer ring at `deadline_ns`.
fn arm(deadline_ns: Option<u64>) -> bool {
    let Some(deadline) = deadline_ns else {
        return true;
    };
    let Some(ports) = ports::get() else {
        return false;
    };
    let timer = TIMER.try_call_once(|| Channel::virq(ports, Virq::TIMER, VcpuId(0)));
    let Ok(timer) = timer else {
        return false;
    };
    let has_rung = timer.take();
    if has_rung || ARMED_NS.swap(deadline, Ordering::Relaxed) != deadline {
        let armed: Result<(), Errno> =
            set_singleshot_timer(&Native, VcpuId(0), deadline, SingleshotFlags::empty()).or_else(
                |errno| match Facility::SingleshotTimer.is_absent(errno) {
                    true => set_timer_op(&Native, deadline),
                    false => Err(errno),
                },
            );
        if armed.is_err() {
            ARMED_NS.store(0, Ordering::Relaxed);
            return false;
        }
    }
    timer.unmask().is_ok()
}

/// Ticks of the APIC's timer in a millisecond, if there is one.
static APIC_TICKS_PER_MS: Once<Option<u64>> = Once::new();

fn calibrate() -> Option<u64> {
    if !apic::enable() {
        return None;
    }
    let start = tsc::since_start_ns();
    let ticks = apic::count_ticks(|| {
        while tsc::since_start_ns().saturating_sub(start) < CALIBRATION_NS {
            core::hint::spin_loop();
        }
    });
    // A processor that was taken away meanwhile has waited for longer.
    let waited_us = (tsc::since_start_ns().saturating_sub(start) / 1_000).max(1);
    Some((ticks.saturating_mul(1_000) / waited_us).max(1))
}

/// # Safety
/// As for [`upcall::sleep`].
unsafe fn sleep_bare(deadline_ns: Option<u64>) {
    let Some(per_ms) = APIC_TICKS_PER_MS.call_once(calibrate) else {
        core::hint::spin_loop();
        return;
    };
    // Nothing but the timer interrupts here.
    let rest_ns = deadline_ns.map_or(LOOK_AGAIN_NS, |deadline| {
        deadline.saturating_sub(Native.now_ns())
    });
    let ticks = u128::from(rest_ns) * u128::from(*per_ms) / 1_000_000;
    apic::set_timer(u32::try_from(ticks).unwrap_or(u32::MAX));
    // SAFETY: this function's contract.
    unsafe { upcall::sleep() };
}
