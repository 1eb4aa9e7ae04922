//! Time, as drivers see it: pauses, and what is waited for no longer than so long.

use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use hypercall_abi::platform::Platform;

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

impl<P: Platform> Bus<'_, P> {
    /// Nanoseconds of the platform's [`Clock`](hypercall_abi::platform::Clock).
    pub fn now_ns(&self) -> u64 {
        self.ports().platform().now_ns()
    }

    /// Whether it is `deadline_ns` already; if not, the task is woken then.
    pub fn poll_sleep_until(&self, cx: &Context<'_>, deadline_ns: u64) -> Poll<()> {
        if self.now_ns() >= deadline_ns {
            return Poll::Ready(());
        }
        self.timer().wake_at(deadline_ns, cx.waker());
        Poll::Pending
    }

    /// Waits for so long.
    pub async fn sleep(&self, time: Duration) {
        let deadline_ns = self.deadline_ns(time);
        poll_fn(|cx| self.poll_sleep_until(cx, deadline_ns)).await;
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
        let deadline_ns = self.deadline_ns(time);
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            self.poll_sleep_until(cx, deadline_ns)
                .map(|()| Err(TimedOut))
        })
        .await
    }

    fn deadline_ns(&self, after: Duration) -> u64 {
        let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.now_ns().saturating_add(after_ns)
    }
}
