//! Time, as drivers see it: pauses, and what is waited for no longer than so long.

use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use hypercall_abi::platform::{Platform, Timer};

use super::Bus;

/// The time was over before the future was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

impl core::fmt::Display for TimedOut {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("it took too long")
    }
}

impl core::error::Error for TimedOut {}

/// Lets other tasks go on.
pub(super) async fn yield_now() {
    let mut turn = Poll::Pending;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        core::mem::replace(&mut turn, Poll::Ready(()))
    })
    .await;
}

/// Somebody who waits for a time, and for other things perhaps: his place with the timer
/// is given up when this is dropped.
pub(crate) struct Alarm<'g> {
    timer: &'g dyn Timer,
    deadline_ns: u64,
    place: Option<u64>,
}

impl<'g> Alarm<'g> {
    /// Somebody who waits for `deadline_ns`, when this is polled first.
    #[cfg(feature = "net")]
    pub(crate) const fn new(timer: &'g dyn Timer, deadline_ns: u64) -> Self {
        Self {
            timer,
            deadline_ns,
            place: None,
        }
    }

    /// When it is time.
    #[cfg(feature = "net")]
    pub(crate) const fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// Whether it is time at `now_ns`; if not, the task is woken then.
    pub(crate) fn poll(&mut self, now_ns: u64, cx: &Context<'_>) -> Poll<()> {
        if now_ns >= self.deadline_ns {
            return Poll::Ready(());
        }
        self.place = self.timer.enter(self.deadline_ns, self.place, cx.waker());
        Poll::Pending
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.timer.leave(self.deadline_ns, place);
        }
    }
}

impl<P: Platform> Bus<'_, P> {
    /// Nanoseconds of the platform's [`Clock`](hypercall_abi::platform::Clock).
    pub fn now_ns(&self) -> u64 {
        self.ports().platform().now_ns()
    }

    /// Whether it is `deadline_ns` already; if not, the task is woken then, whatever it
    /// does until then. The last time that there is never comes.
    pub fn poll_sleep_until(&self, cx: &Context<'_>, deadline_ns: u64) -> Poll<()> {
        if self.now_ns() >= deadline_ns {
            return Poll::Ready(());
        }
        if deadline_ns != u64::MAX {
            self.timer().wake_at(deadline_ns, cx.waker());
        }
        Poll::Pending
    }

    /// Waits for so long.
    pub async fn sleep(&self, time: Duration) {
        let mut alarm = self.alarm(time);
        poll_fn(|cx| alarm.poll(self.now_ns(), cx)).await;
    }

    /// Runs `future` for so long at the most, then drops it: also an operation of a
    /// driver's, whose backend may never answer.
    ///
    /// # Errors
    /// [`TimedOut`].
    pub async fn timeout<F: Future>(
        &self,
        time: Duration,
        future: F,
    ) -> Result<F::Output, TimedOut> {
        let mut alarm = self.alarm(time);
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            alarm.poll(self.now_ns(), cx).map(|()| Err(TimedOut))
        })
        .await
    }

    fn alarm(&self, after: Duration) -> Alarm<'_> {
        let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Alarm {
            timer: self.timer(),
            deadline_ns: self.now_ns().saturating_add(after_ns),
            place: None,
        }
    }
}
