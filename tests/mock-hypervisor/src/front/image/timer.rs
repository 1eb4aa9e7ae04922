//! A vCPU's alarm: the signal that interrupts the guest when something is due.

use std::{io, mem::MaybeUninit};

/// One of the kernel's timers, for this thread.
#[derive(Debug)]
pub(super) struct Timer {
    id: libc::timer_t,
    /// When it rings, in the host's nanoseconds.
    at_ns: Option<u64>,
}

// SAFETY: a number that any thread may use.
unsafe impl Send for Timer {}

const SECOND_NS: u64 = 1_000_000_000;

impl Timer {
    /// One that sends `signal` to this thread.
    pub(super) fn new(signal: libc::c_int) -> io::Result<Self> {
        // SAFETY: all zeroes are a valid event.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        // SAFETY: asks for the thread's number.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut id = MaybeUninit::uninit();
        // SAFETY: fills `id`.
        let done =
            unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, id.as_mut_ptr()) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: filled above.
            id: unsafe { id.assume_init() },
            at_ns: None,
        })
    }

    /// Whether it is to ring then already, as far as is known without a clock; whoever
    /// hears it ring looks at one.
    pub(super) fn is_for(&self, at_ns: Option<u64>) -> bool {
        self.at_ns == at_ns
    }

    /// Has it ring when it is `at_ns`, now being `now_ns`; or not.
    pub(super) fn set(&mut self, at_ns: Option<u64>, now_ns: u64) {
        // One that has rung rings no more.
        let armed = self.at_ns.filter(|at| *at > now_ns);
        if armed == at_ns {
            return;
        }
        self.at_ns = at_ns;
        // Zero would be never.
        let rest_ns = at_ns.map_or(0, |at| at.saturating_sub(now_ns).max(1));
        // SAFETY: all zeroes are a valid time.
        let mut time: libc::itimerspec = unsafe { std::mem::zeroed() };
        time.it_value.tv_sec = (rest_ns / SECOND_NS).min(1 << 30) as libc::time_t;
        time.it_value.tv_nsec = (rest_ns % SECOND_NS) as libc::c_long;
        // SAFETY: a timer of this thread's.
        unsafe { libc::timer_settime(self.id, 0, &time, std::ptr::null_mut()) };
    }
}
