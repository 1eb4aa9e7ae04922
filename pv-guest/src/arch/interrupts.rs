//! What is called at each interrupt.

use core::sync::atomic::{AtomicPtr, Ordering};

/// The vector by which upcalls come.
pub(crate) const UPCALL_VECTOR: u32 = 32;

/// What to call at each interrupt, from [`UPCALL_VECTOR`] on: a `fn()`, or null. A kernel
/// that sets none up has none of their code in its image.
static INTERRUPTS: [AtomicPtr<()>; 3] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 3];

/// Has `handler` called at each interrupt of `vector`.
pub(crate) fn set_interrupt(vector: u32, handler: fn()) {
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
