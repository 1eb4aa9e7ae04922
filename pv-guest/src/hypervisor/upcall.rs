//! How events reach this kernel: Xen's event callback (PV), a vector of the
//! local APIC, or Xen's callback vector (PVH).

use core::sync::atomic::{AtomicU8, Ordering};

use hypercall_abi::{
    Errno, VcpuId,
    callback::{self, CallbackFlags, CallbackType},
    hvm::{CallbackVia, HvmParam, set_evtchn_upcall_vector, set_param},
};

use super::{Delivery, Native, ports};
use crate::{
    arch::{
        apic,
        interrupts::{UPCALL_VECTOR, set_interrupt},
        traps,
    },
    boot_info::GuestType,
    cpu::{guest_type::guest_type, sync},
    error::{Error, asking},
};

/// How they come.
static DELIVERY: AtomicU8 = AtomicU8::new(NONE);
const NONE: u8 = 0;
const CALLBACK: u8 = 1;
const VECTOR: u8 = 2;
const APIC: u8 = 3;

/// Whether upcalls were set up.
pub(super) fn are_set_up() -> bool {
    DELIVERY.load(Ordering::Acquire) != NONE
}

/// Has the ports dispatched at every upcall, with further ones held back.
pub(crate) fn set_up(delivery: Delivery) -> Result<(), Error> {
    set_interrupt(UPCALL_VECTOR, upcall);
    let how = match guest_type() {
        Some(GuestType::Pv) => {
            let stub = traps::stub(UPCALL_VECTOR as usize);
            let flags = CallbackFlags::empty();
            // SAFETY: the stub is made for it.
            unsafe { callback::register(&Native, CallbackType::EVENT, flags, stub) }
                .map_err(asking("set the event callback"))?;
            CALLBACK
        }
        Some(GuestType::Pvh) => set_up_vector(delivery)?,
        _ => return Err(Error::NotSupported("event channels")),
    };
    DELIVERY.store(how, Ordering::Release);
    sync::open();
    Ok(())
}

fn set_up_vector(delivery: Delivery) -> Result<u8, Error> {
    let set = match delivery {
        Delivery::Best => set_callback_vector().or_else(|_| set_apic_vector()),
        Delivery::LocalApic => set_apic_vector().or_else(|_| set_callback_vector()),
    };
    set.map_err(asking("set the vector of upcalls"))
}

fn set_callback_vector() -> Result<u8, Errno> {
    let via = CallbackVia::Vector(UPCALL_VECTOR as u8).value();
    // SAFETY: there is a handler for the vector.
    unsafe { set_param(&Native, HvmParam::CALLBACK_IRQ, via) }?;
    Ok(VECTOR)
}

fn set_apic_vector() -> Result<u8, Errno> {
    if !apic::enable() {
        return Err(Errno::ENODEV);
    }
    // SAFETY: there is a handler for the vector.
    unsafe { set_evtchn_upcall_vector(&Native, VcpuId(0), UPCALL_VECTOR as u8) }?;
    // A toolstack tells what became of a suspend only to guests that set this. The
    // line is one that nobody listens to.
    let via = CallbackVia::Gsi(1).value();
    // SAFETY: no vector: nothing comes by it.
    let _untold = unsafe { set_param(&Native, HvmParam::CALLBACK_IRQ, via) };
    Ok(APIC)
}

fn upcall() {
    if DELIVERY.load(Ordering::Acquire) == APIC {
        // First: an event that comes from here on is another interrupt.
        apic::end_of_interrupt();
    }
    ports::upcall();
}

/// Lets upcalls through and sleeps until one comes. To be called with upcalls
/// masked.
///
/// # Safety
/// By way of [`sync::suspend_hold`]: no code on this vCPU relies on upcalls being held
/// back meanwhile.
pub(super) unsafe fn sleep() {
    if guest_type() == Some(GuestType::Pv) {
        // SAFETY: this function's contract.
        let _ended = unsafe { hypercall_abi::sched::block(&Native) };
        return;
    }
    // SAFETY: the processor takes no interrupt between these two, and wakes by
    // the next one, for which there is a handler; nobody relies on its absence.
    unsafe { core::arch::asm!("sti", "hlt", options(nomem, nostack)) };
}
