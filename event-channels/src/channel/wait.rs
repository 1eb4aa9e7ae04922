//! Waits for a channel's events: as a future, and without upcalls.

use core::{
    future::Future,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use hypercall_abi::{
    Port,
    platform::{Clock, Hypercall, Pages, Park},
};

use super::{Channel, Wait};
use crate::Error;

/// What [`Channel::take_if_due`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// An event, which is taken.
    Taken,
    Nothing,
    /// An event that is not to be taken before this time.
    At(u64),
}

impl<'t, P: Hypercall + Pages> Channel<'t, P> {
    /// Sleeps until an event comes or system time reaches `deadline_ns`. Needs
    /// no upcalls.
    pub fn wait_blocking(&self, deadline_ns: Option<u64>) -> Wait
    where
        P: Park + Clock,
    {
        // The event may be the answer.
        self.ports.flush_notifications();
        // An upcall must not take the event after we have looked: the hypervisor would
        // find nothing pending, and let us sleep.
        let was_masked = self.is_stale() || self.ports.words().mask(self.port());
        let ended = self.poll_masked(deadline_ns);
        if !was_masked {
            // A port that is gone rings no more.
            let _gone: Result<(), Error> = self.unmask();
        }
        ended
    }

    fn poll_masked(&self, deadline_ns: Option<u64>) -> Wait
    where
        P: Park + Clock,
    {
        loop {
            // First: what another vCPU's upcall had in its hands is noted if it has
            // none any more.
            let is_busy = self.slot().is_busy();
            let held_ns = match self.take_if_due() {
                Due::Taken => return Wait::Event,
                Due::Nothing => None,
                Due::At(until_ns) => Some(until_ns),
            };
            let platform = &self.ports.platform;
            if deadline_ns.is_some_and(|deadline| platform.now_ns() >= deadline) {
                return Wait::Deadline;
            }
            if held_ns.is_some() {
                // Not for the port: its event is there, and would end the sleep.
                platform.park(&[], held_ns.into_iter().chain(deadline_ns).min());
                continue;
            }
            if is_busy {
                core::hint::spin_loop();
                continue;
            }
            let own = [self.port()];
            let ports: &[Port] = if self.is_stale() { &[] } else { &own };
            platform.park(ports, deadline_ns);
        }
    }

    /// Takes an event, or has the task woken when there is one. The last task
    /// that asks is the one that is woken. A port that rings too often has its next event
    /// taken in the next window ([`Throttle`](crate::Throttle)), whoever asks, and however
    /// often.
    pub fn poll_wait(&self, cx: &mut Context<'_>) -> Poll<()>
    where
        P: Clock,
    {
        if self.take_if_due() == Due::Taken {
            return Poll::Ready(());
        }
        if self.is_stale() {
            return Poll::Pending;
        }
        self.slot().waker.register(cx.waker());
        // It may have come before anybody was there to be woken.
        match self.take_if_due() {
            Due::Taken => return Poll::Ready(()),
            Due::At(until_ns) => {
                self.ports.words().mask(self.port());
                self.hold(until_ns);
                return Poll::Pending;
            }
            Due::Nothing => {}
        }
        if !self.ports.words().is_masked(self.port()) {
            // It was waited for before, and nothing has come since.
            return Poll::Pending;
        }
        if let Some(until_ns) = self.held_until() {
            self.hold(until_ns);
            return Poll::Pending;
        }
        // A port that is gone rings no more; there is nobody to tell.
        let _gone: Result<(), Error> = self.unmask();
        Poll::Pending
    }

    /// Takes an event, unless the port has rung too often.
    fn take_if_due(&self) -> Due
    where
        P: Clock,
    {
        if !self.is_pending() {
            return Due::Nothing;
        }
        if let Some(until_ns) = self.held_until() {
            return Due::At(until_ns);
        }
        if !self.take() {
            // Another was faster.
            return Due::Nothing;
        }
        self.slot().count();
        Due::Taken
    }

    /// Leaves the port masked until its time has come; then whoever waits is woken.
    fn hold(&self, until_ns: u64) {
        self.slot().throttle();
        self.ports.release_ns.fetch_min(until_ns, Ordering::AcqRel);
    }

    /// When this port may ring again, if it rang too often.
    fn held_until(&self) -> Option<u64>
    where
        P: Clock,
    {
        let throttle = self.ports.throttle;
        let now_ns = || self.ports.platform.now_ns();
        self.slot()
            .held_until(now_ns, throttle.events, throttle.window_ns)
    }

    /// Waits for an event.
    pub const fn wait(&self) -> Events<'_, 't, P> {
        Events { channel: self }
    }
}

/// The future of [`Channel::wait`]. Dropping it loses no event.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Events<'c, 't, P: Hypercall + Pages> {
    channel: &'c Channel<'t, P>,
}

impl<P: Hypercall + Pages + Clock> Future for Events<'_, '_, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.channel.poll_wait(cx)
    }
}
