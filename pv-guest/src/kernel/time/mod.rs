//! Time: sleeps, timeouts, and the queue of those who wait for a time.
//!
//! Times are nanoseconds of the platform's [`Clock`], which is monotonic. The
//! queue needs no interrupt of its own: whoever parks the guest (see
//! [`executor`](super::executor)) asks it for the next time, has the platform
//! sleep no longer than that, and wakes those whose time has come.

mod queue;

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use hypercall_abi::platform::{Clock, Timer};

use crate::hypervisor::current;

use queue::Ticket;
pub use queue::waiting;

/// Nanoseconds since an arbitrary start. Never goes back.
pub fn now_ns() -> u64 {
    Clock::now_ns(&current())
}

/// Nanoseconds since 1970-01-01 UTC, with the host's corrections. `None` if the platform
/// has no wall clock.
pub fn wall_clock_ns() -> Option<u64> {
    Clock::wall_clock_ns(&current())
}

/// The time in so long from now.
pub fn deadline_ns(after: Duration) -> u64 {
    now_ns().saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}

/// Wakes those whose time has come, and says when the next one's does. What an
/// executor calls before it sleeps.
pub fn expire() -> Option<u64> {
    queue::expire(now_ns())
}

/// Wakes `waker` once at `at_ns`: what third-party executors ask for.
/// One that is there already for the same task is kept as it is.
pub fn wake_at(at_ns: u64, waker: &Waker) {
    queue::add_detached(at_ns, waker);
}

/// This queue, as drivers know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue;

impl Timer for Queue {
    fn wake_at(&self, deadline_ns: u64, waker: &Waker) {
        wake_at(deadline_ns, waker);
    }

    fn enter(&self, deadline_ns: u64, place: Option<u64>, waker: &Waker) -> Option<u64> {
        Some(queue::enter(deadline_ns, place, waker))
    }

    fn leave(&self, deadline_ns: u64, place: u64) {
        queue::leave((deadline_ns, place));
    }
}

/// Waits for so long.
pub fn sleep(time: Duration) -> Sleep {
    sleep_until(deadline_ns(time))
}

/// Waits until [`now_ns`] is `at_ns`.
pub const fn sleep_until(at_ns: u64) -> Sleep {
    Sleep {
        at_ns,
        ticket: None,
    }
}

/// The future of [`sleep`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    at_ns: u64,
    ticket: Option<Ticket>,
}

impl Sleep {
    /// When it ends.
    pub const fn deadline_ns(&self) -> u64 {
        self.at_ns
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if now_ns() >= this.at_ns {
            this.ticket = None;
            return Poll::Ready(());
        }
        match &this.ticket {
            Some(ticket) => ticket.renew(cx.waker()),
            None => this.ticket = Some(Ticket::new(this.at_ns, cx.waker())),
        }
        Poll::Pending
    }
}

/// The time was over before the future was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

impl core::fmt::Display for TimedOut {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("it took too long")
    }
}

impl core::error::Error for TimedOut {}

/// Runs `future` for so long at the most, then drops it.
///
/// # Errors
/// [`TimedOut`].
pub async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output, TimedOut> {
    timeout_at(deadline_ns(time), future).await
}

/// Runs `future` until `at_ns` at the most, then drops it.
///
/// # Errors
/// [`TimedOut`].
pub async fn timeout_at<F: Future>(at_ns: u64, future: F) -> Result<F::Output, TimedOut> {
    let mut future = core::pin::pin!(future);
    let mut sleep = sleep_until(at_ns);
    core::future::poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        Pin::new(&mut sleep).poll(cx).map(|()| Err(TimedOut))
    })
    .await
}
