//! Embassy: its executor, parked as this guest's own is, and its time.
//!
//! With the feature `embassy`, `embassy-time` works anywhere in the guest, and
//! [`Executor`] runs `embassy-executor`'s tasks.

use core::{
    sync::atomic::{AtomicBool, Ordering},
    task::Waker,
};

use embassy_executor::{Spawner, raw};
use embassy_time_driver::{Driver, TICK_HZ, time_driver_impl};

use crate::kernel::{
    executor::{Wakes, park, waker},
    time,
};

const NS_PER_S: u128 = 1_000_000_000;

struct Time;

impl Driver for Time {
    fn now(&self) -> u64 {
        (u128::from(time::now_ns()) * u128::from(TICK_HZ) / NS_PER_S) as u64
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        // Rounded up: nobody is woken before its tick.
        let ns = (u128::from(at) * NS_PER_S).div_ceil(u128::from(TICK_HZ));
        time::wake_at(u64::try_from(ns).unwrap_or(u64::MAX), waker);
    }
}

time_driver_impl!(static TIME: Time = Time);

/// What embassy's executor calls when a task can go on: from upcalls, too.
#[unsafe(export_name = "__pender")]
fn pender(_executor: *mut ()) {
    waker().wake();
}

/// Embassy's executor. The vCPU sleeps when no task can go on.
pub struct Executor {
    inner: raw::Executor,
    running: AtomicBool,
    done: AtomicBool,
}

impl core::fmt::Debug for Executor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Executor").finish_non_exhaustive()
    }
}

impl Default for Executor {
    fn default() -> Self {
        Self::new()
    }
}

impl Executor {
    /// One without tasks.
    pub fn new() -> Self {
        Self {
            inner: raw::Executor::new(core::ptr::null_mut()),
            running: AtomicBool::new(false),
            done: AtomicBool::new(false),
        }
    }

    /// Has `init` spawn the first tasks, and runs until [`stop`](Self::stop).
    /// Does nothing if it runs already: a task cannot run its own executor.
    pub fn run(&'static self, init: impl FnOnce(Spawner)) {
        if self.running.swap(true, Ordering::Relaxed) {
            return;
        }
        self.done.store(false, Ordering::Relaxed);
        init(self.inner.spawner());
        while !self.done.load(Ordering::Relaxed) {
            let since = Wakes::now();
            // SAFETY: it lives for good, stays on this vCPU (it is neither
            // `Send` nor `Sync`), and is polled only here, by the one `run`
            // that goes on.
            unsafe { self.inner.poll() };
            if !self.done.load(Ordering::Relaxed) {
                park(since);
            }
        }
        self.running.store(false, Ordering::Relaxed);
    }

    /// Has [`run`](Self::run) return after the tasks that can go on now.
    pub fn stop(&self) {
        self.done.store(true, Ordering::Relaxed);
    }
}
