//! `critical-section`: upcalls held back.

use critical_section::{Impl, RawRestoreState, set_impl};

use crate::cpu::sync::{hold, release};

struct HeldUpcalls;
set_impl!(HeldUpcalls);

// SAFETY: with upcalls held back nothing else runs on the one vCPU that this
// kernel uses; on a host, other threads are kept out by the lock.
unsafe impl Impl for HeldUpcalls {
    unsafe fn acquire() -> RawRestoreState {
        let _before = hold();
        #[cfg(not(target_os = "none"))]
        threads::enter();
    }

    unsafe fn release((): RawRestoreState) {
        #[cfg(not(target_os = "none"))]
        threads::leave();
        release();
    }
}

/// A host's threads, which may be many guests, or one guest's vCPUs.
#[cfg(not(target_os = "none"))]
mod threads {
    extern crate std;

    use core::{
        cell::Cell,
        sync::atomic::{AtomicBool, Ordering},
    };

    static TAKEN: AtomicBool = AtomicBool::new(false);

    std::thread_local! {
        /// How many critical sections this thread is in.
        static DEPTH: Cell<u32> = const { Cell::new(0) };
    }

    pub(super) fn enter() {
        let depth = DEPTH.get();
        while depth == 0 && TAKEN.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        DEPTH.set(depth + 1);
    }

    pub(super) fn leave() {
        let depth = DEPTH.get() - 1;
        DEPTH.set(depth);
        if depth == 0 {
            TAKEN.store(false, Ordering::Release);
        }
    }
}
