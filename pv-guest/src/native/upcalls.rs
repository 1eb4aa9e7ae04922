//! How events reach this kernel: Xen's event callback (PV), a vector of the
//! local APIC, or Xen's callback vector (PVH).

use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

use hypercall_abi::{
    Errno, VcpuId,
    arch_x86::cpuid::Cpuid,
    callback::{self, CallbackFlags, CallbackType},
    hvm::{CallbackVia, HvmParam, set_evtchn_upcall_vector, set_param},
    peer::PeerPtr,
    peer_field, version,
    xen::VcpuInfo,
};
use x86::{
    bits64::rflags::{self, RFlags},
    irq,
};

use super::{Native, apic, guest_type, platform, traps};
use crate::{
    Delivery, Error, GuestType,
    error::asking,
    sync::{self, Upcalls},
};

/// The vector by which upcalls come.
pub(super) const UPCALL_VECTOR: u32 = 32;

/// What to call at an upcall: a `fn()`, or null.
static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// What to call at each interrupt: as above. A kernel that sets none up has
/// none of their code in its image.
static INTERRUPTS: [AtomicPtr<()>; 3] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 3];

/// How they come.
static DELIVERY: AtomicU8 = AtomicU8::new(NONE);
const NONE: u8 = 0;
const CALLBACK: u8 = 1;
const VECTOR: u8 = 2;
const APIC: u8 = 3;

fn vcpu_info() -> Option<PeerPtr<'static, VcpuInfo>> {
    platform::vcpu_info(VcpuId(0))
}

/// Holds upcalls back on this vCPU, and returns whether they came until now.
/// `sync` counts these; nothing else calls this.
pub(crate) fn mask() -> Upcalls {
    if guest_type() == Some(GuestType::Pv) {
        let Some(info) = vcpu_info() else {
            return Upcalls::Held;
        };
        let before = peer_field!(info, VcpuInfo, evtchn_upcall_mask).swap(1);
        return if before.trust() == 0 {
            Upcalls::Open
        } else {
            Upcalls::Held
        };
    }
    let before = rflags::read();
    // SAFETY: interrupts may be off at any time in ring 0.
    unsafe { irq::disable() };
    if before.contains(RFlags::FLAGS_IF) {
        Upcalls::Open
    } else {
        Upcalls::Held
    }
}

/// Lets upcalls through on this vCPU; called by `sync` only.
pub(crate) fn unmask() {
    if guest_type() == Some(GuestType::Pv) {
        let Some(info) = vcpu_info() else {
            return;
        };
        peer_field!(info, VcpuInfo, evtchn_upcall_mask).store_release(0);
        let pending = peer_field!(info, VcpuInfo, evtchn_upcall_pending);
        if pending.load_acquire().trust() != 0 {
            // Xen looks on the way back from any hypercall.
            let _any = version::version(&Native);
        }
        return;
    }
    // SAFETY: called with a table of handlers loaded, which is so since boot.
    unsafe { irq::enable() };
}

/// Whether upcalls were set up.
pub(super) fn are_set_up() -> bool {
    DELIVERY.load(Ordering::Acquire) != NONE
}

/// Has `handler` called for every upcall, with further ones held back.
pub(crate) fn set_up(handler: fn(), delivery: Delivery) -> Result<(), Error> {
    HANDLER.store(handler as *mut (), Ordering::Release);
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

/// Has `handler` called at each interrupt of `vector`.
pub(super) fn set_interrupt(vector: u32, handler: fn()) {
    let index = vector.wrapping_sub(UPCALL_VECTOR) as usize;
    if let Some(slot) = INTERRUPTS.get(index) {
        slot.store(handler as *mut (), Ordering::Release);
    }
}

fn call(place: &AtomicPtr<()>) {
    let handler = place.load(Ordering::Acquire);
    if !handler.is_null() {
        // SAFETY: what is stored in these places is a `fn()`.
        let handler = unsafe { core::mem::transmute::<*mut (), fn()>(handler) };
        handler();
    }
}

/// Where the stubs lead; false: this vector is no interrupt's.
pub(super) fn interrupt(vector: u32) -> bool {
    let index = vector.wrapping_sub(UPCALL_VECTOR) as usize;
    INTERRUPTS.get(index).map(call).is_some()
}

fn upcall() {
    if DELIVERY.load(Ordering::Acquire) == APIC {
        // First: an event that comes from here on is another interrupt.
        apic::end_of_interrupt();
    }
    call(&HANDLER);
}

/// Lets upcalls through and sleeps until one comes. To be called with upcalls
/// masked.
///
/// # Safety
/// By way of [`sync::suspend_hold`]: no code on this vCPU relies on upcalls being held
/// back meanwhile.
pub(super) unsafe fn sleep() {
    if guest_type() == Some(GuestType::Pv) {
        // SAFETY: the caller's promise.
        let _ended = unsafe { hypercall_abi::sched::block(&Native) };
        return;
    }
    // SAFETY: the processor takes no interrupt between these two, and wakes by
    // the next one, for which there is a handler; nobody relies on its absence.
    unsafe { core::arch::asm!("sti", "hlt", options(nomem, nostack)) };
}

/// Whether the processor has the local APIC in the form that is used here.
pub(super) fn has_apic() -> bool {
    // Bit 21 of ecx: x2APIC.
    Cpuid::PLAIN.leaf(1, 0).ecx & (1 << 21) != 0
}
