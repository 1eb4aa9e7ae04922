//! Locks for what both the kernel and its upcalls use.

use core::sync::atomic::{AtomicU8, Ordering};

use lock_api::{GuardNoSend, RawMutex};

#[cfg(not(target_os = "none"))]
use crate::hosted::{Upcalls, hold, restore};
#[cfg(target_os = "none")]
use crate::native::upcalls::{Upcalls, hold, restore};

const FREE: u8 = 0;
const LOCKED: u8 = 1;
/// Locked, and upcalls come again when it is not.
const LOCKED_OPEN: u8 = 2;

/// A spin lock that holds upcalls back while it is locked: what an upcall uses
/// is never locked when it comes.
#[derive(Debug)]
pub struct RawUpcallMutex(AtomicU8);

fn locked(before: Upcalls) -> u8 {
    match before {
        Upcalls::Held => LOCKED,
        Upcalls::Open => LOCKED_OPEN,
    }
}

fn before(state: u8) -> Upcalls {
    match state {
        LOCKED_OPEN => Upcalls::Open,
        _ => Upcalls::Held,
    }
}

// SAFETY: only one `compare_exchange` from free succeeds until the next unlock.
unsafe impl RawMutex for RawUpcallMutex {
    const INIT: Self = Self(AtomicU8::new(FREE));
    type GuardMarker = GuardNoSend;

    // Not inlined: of many places of use, few are hot.
    #[inline(never)]
    fn lock(&self) {
        while !self.try_lock() {
            core::hint::spin_loop();
        }
    }

    fn try_lock(&self) -> bool {
        let before = hold();
        let taken =
            self.0
                .compare_exchange(FREE, locked(before), Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            restore(before);
        }
        taken.is_ok()
    }

    #[inline(never)]
    unsafe fn unlock(&self) {
        let state = self.0.swap(FREE, Ordering::Release);
        restore(before(state));
    }
}

/// A mutex that holds upcalls back while it is locked.
pub type UpcallMutex<T> = lock_api::Mutex<RawUpcallMutex, T>;
