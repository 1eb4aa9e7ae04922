//! All who wait for the server.

use alloc::{sync::Arc, task::Wake, vec::Vec};
use core::{
    sync::atomic::{AtomicBool, Ordering},
    task::Waker,
};

use spin::Mutex;

/// The one waker that the transport has: it wakes everybody who waits. So it
/// does not matter which task looked last, or whether it still wants to know.
///
/// It may be rung in an upcall that interrupts whoever has the lock: then it
/// only leaves a note, and the other rings when it has unlocked.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    wakers: Mutex<Vec<Waker>>,
    missed: AtomicBool,
}

impl Hub {
    /// Has `waker` woken at the next ring, once.
    pub(crate) fn add(&self, waker: &Waker) {
        {
            let mut wakers = self.wakers.lock();
            if !wakers.iter().any(|other| other.will_wake(waker)) {
                wakers.push(waker.clone());
            }
        }
        if self.missed.load(Ordering::SeqCst) {
            self.ring();
        }
    }

    /// Wakes all who wait.
    pub(crate) fn ring(&self) {
        loop {
            let Some(mut wakers) = self.wakers.try_lock() else {
                self.missed.store(true, Ordering::SeqCst);
                if self.wakers.is_locked() {
                    return;
                }
                continue;
            };
            self.missed.store(false, Ordering::SeqCst);
            for waker in wakers.drain(..) {
                waker.wake();
            }
            drop(wakers);
            if !self.missed.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

impl Wake for Hub {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
