//! How this kernel was started.

use core::sync::atomic::{AtomicU8, Ordering};

use crate::boot_info::GuestType;

/// 0 not known yet, 1 PV, 2 PVH, 3 bare.
static GUEST_TYPE: AtomicU8 = AtomicU8::new(0);

/// Tells it, once, at the start.
pub(crate) fn set_guest_type(guest_type: GuestType) {
    let number = match guest_type {
        GuestType::Pv => 1,
        GuestType::Pvh => 2,
        GuestType::Bare => 3,
    };
    GUEST_TYPE.store(number, Ordering::Relaxed);
}

/// How this guest is virtualized, once that is known.
pub(crate) fn guest_type() -> Option<GuestType> {
    match GUEST_TYPE.load(Ordering::Relaxed) {
        1 => Some(GuestType::Pv),
        2 => Some(GuestType::Pvh),
        3 => Some(GuestType::Bare),
        _ => None,
    }
}
