//! A device that is served: how things are with it, and what there is to wait for.

use alloc::{format, string::String};
use core::{future::poll_fn, task::Poll, time::Duration};

use hypercall_abi::{DomId, io::xenbus::XenbusState, platform::Platform};
use xenstore_client::{Error, ErrorKind, Link, Persistence, Ring, Subscription, Transport as _};

use super::{
    Bus, Fault, Stop,
    backoff::Backoff,
    driver::Driver,
    handshake::{Phase, Renewed, Wish},
    inbox::Inbox,
    nodes::Held,
};

/// After how long what the store refused is tried again, at first and at the most.
const STORE_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));
/// After how long a backend that ended before it was connected is asked again.
const BACKEND_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A backend: where it is, and who has it.
pub(super) struct Backend<'g, P: Platform> {
    pub(super) path: String,
    pub(super) domid: DomId,
    /// Who tells of changes there; `None`: nobody yet, or no longer.
    pub(super) watch: Option<Subscription<'g, Ring<'g, P>>>,
}

/// A device that is served.
pub(super) struct Session<'g, 'd, P: Platform> {
    pub(super) bus: Bus<'g, P>,
    pub(super) driver: &'d dyn Driver,
    pub(super) inbox: &'d Inbox<'d>,
    /// Its directory, and who tells of changes there.
    pub(super) own: String,
    pub(super) watch: Option<Subscription<'g, Ring<'g, P>>>,
    pub(super) backend: Option<Backend<'g, P>>,
    pub(super) phase: Phase,
    pub(super) wish: Wish,
    pub(super) renewed: Renewed,
    /// The backend's state as it was seen last.
    pub(super) last_seen: XenbusState,
    /// Since when it is connected.
    pub(super) live_since_ns: Option<u64>,
    /// What the driver was told last, if it may not be connected again by itself after
    /// that.
    pub(super) told_end: Option<Stop>,
    /// What the driver found its backend doing, about which nothing was done yet.
    pub(super) found: Option<Fault>,
    /// What is wrong, which the driver is told when the store has the state for it.
    pub(super) pending_fault: Option<Fault>,
    /// The state that is still to be written.
    pub(super) pending_state: Option<XenbusState>,
    /// Whether there is such a device.
    pub(super) presence: Presence,
    /// The state that was written last.
    pub(super) said: Option<XenbusState>,
    /// Whether the store has that.
    pub(super) held: Held,
    /// As many as there were when this was looked at last: see
    /// [`event_channels::Ports::resumes`].
    pub(super) resumes: u32,
    /// Nothing is done until then: the store refused something.
    pub(super) held_until_ns: Option<u64>,
    /// Something is due then.
    pub(super) look_at_ns: Option<u64>,
    pub(super) store_backoff: Backoff,
    pub(super) backend_backoff: Backoff,
}

/// The directory of a device.
pub(super) fn directory_of(kind: &str, id: &str) -> String {
    format!("device/{kind}/{id}")
}

/// Whether there is such a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Nobody has looked.
    Unknown,
    There,
    Absent,
}

/// What there is to look at.
pub(super) enum News {
    Changed,
    Drained,
    /// A watch could not be set, or the connection ended.
    Unwatched(Error),
}

/// Whether the keys of a connection were written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Yes,
    /// It is to be tried again later.
    Later,
}

impl<'g, 'd, P: Platform> Session<'g, 'd, P> {
    pub(super) fn new(
        bus: Bus<'g, P>,
        own: String,
        driver: &'d dyn Driver,
        inbox: &'d Inbox<'d>,
    ) -> Self {
        Self {
            bus,
            driver,
            inbox,
            own,
            watch: None,
            backend: None,
            phase: Phase::Idle,
            wish: Wish::Again,
            renewed: Renewed::No,
            last_seen: XenbusState::UNKNOWN,
            live_since_ns: None,
            told_end: None,
            found: None,
            pending_fault: None,
            pending_state: None,
            presence: Presence::Unknown,
            said: None,
            held: Held::Anything,
            resumes: bus.ports().resumes(),
            held_until_ns: None,
            look_at_ns: None,
            store_backoff: Backoff::new(STORE_PAUSES.0, STORE_PAUSES.1),
            backend_backoff: Backoff::new(BACKEND_PAUSES.0, BACKEND_PAUSES.1),
        }
    }

    /// Waits until there is something to look at.
    pub(super) async fn news(&mut self) -> News {
        let backend = self.backend.as_ref();
        let watches = [
            self.watch.as_ref(),
            backend.and_then(|backend| backend.watch.as_ref()),
        ];
        poll_fn(|cx| {
            let mut changed = false;
            for watch in watches.into_iter().flatten() {
                // Once: a backend that writes without end does not keep this task at it.
                match watch.poll_changed(cx) {
                    Poll::Ready(Ok(())) => changed = true,
                    Poll::Ready(Err(error)) => return Poll::Ready(News::Unwatched(error)),
                    Poll::Pending => {}
                }
            }
            // While the store is asked for nothing, nothing else is due.
            if let Some(due_ns) = self.held_until_ns.or(self.look_at_ns) {
                changed |= self.bus.poll_sleep_until(cx, due_ns).is_ready();
            }
            if changed {
                return Poll::Ready(News::Changed);
            }
            if self.phase == Phase::Draining && self.driver.poll_drained(cx).is_ready() {
                return Poll::Ready(News::Drained);
            }
            Poll::Pending
        })
        .await
    }

    /// Whether the store refused something, and it is too early to try that again.
    pub(super) fn is_held(&mut self) -> bool {
        let now_ns = self.bus.now_ns();
        self.held_until_ns = self.held_until_ns.filter(|until_ns| now_ns < *until_ns);
        self.held_until_ns.is_some()
    }

    /// The store refused something: after a pause it is tried again, or it cannot be.
    pub(super) async fn refused(&mut self, error: Error) -> Result<(), Error> {
        let fault = Fault::Store(error.kind);
        if error.kind == ErrorKind::Disconnected && self.is_cut_off() {
            self.end_use(Stop::Broken(fault));
            return Err(error);
        }
        match error.persistence() {
            Persistence::Transient => {
                self.hold();
                if error.kind != ErrorKind::Disconnected {
                    self.tell_driver(fault, self.store_backoff.failures());
                }
            }
            Persistence::Lasting => self.fail(fault).await,
        }
        Ok(())
    }

    /// Whether the connection to the store is over.
    pub(super) fn is_cut_off(&self) -> bool {
        self.bus.store().transport().link() == Link::Dead
    }

    /// The store is asked for nothing for a while.
    pub(super) fn hold(&mut self) {
        let now_ns = self.bus.now_ns();
        self.store_backoff.fail(now_ns);
        self.held_until_ns = self.store_backoff.due_ns(now_ns);
    }

    /// Whether it is too early to ask the backend once more; if so, the driver knows why.
    pub(super) fn is_too_early(&mut self) -> bool {
        self.look_at_ns = self.backend_backoff.due_ns(self.bus.now_ns());
        self.look_at_ns.is_some()
    }

    /// The backend did not take what it was told, or was not told for this reason.
    pub(super) fn ask_later(&mut self, why: Fault) {
        self.backend_backoff.fail(self.bus.now_ns());
        self.tell_driver(why, self.backend_backoff.failures());
    }

    /// Why there is no connection, if there is to be one.
    pub(super) fn tell_driver(&self, why: Fault, attempts: u32) {
        let is_wanted = self.wish == Wish::Again && self.presence != Presence::Absent;
        if is_wanted && !matches!(self.phase, Phase::Live | Phase::Draining) {
            self.driver.retrying(why, attempts);
        }
    }
}
