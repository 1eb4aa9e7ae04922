//! Connections that end, and what the driver is told of that.

use alloc::format;
use core::{
    future::Future as _,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use hypercall_abi::{io::xenbus::XenbusState, platform::Platform};
use xenstore_client::{Error, Persistence};

use super::{
    Fault, Stop,
    handshake::{Phase, Renewed, Wish, has_ended},
    inbox::InUse,
    session::{Presence, Session},
};

/// How long a connection has to last for its end to be no failure.
const LASTING: Duration = Duration::from_secs(30);

impl<P: Platform> Session<'_, '_, P> {
    /// The driver is not to use what it shares any more.
    pub(super) fn end_use(&mut self, why: Stop) {
        if why != Stop::Lost {
            self.tell_end(why);
        } else if self.inbox.in_use() == InUse::Yes {
            self.driver.stop(why);
        }
        self.inbox.end_use();
        if !self.has_lasted() {
            self.ask_later_perhaps(Fault::Ended);
        }
    }

    /// The backend ended, which happens once or twice without anything being wrong.
    pub(super) fn ask_later_perhaps(&mut self, why: Fault) {
        self.backend_backoff.fail_lightly(self.bus.now_ns());
        if self.is_too_early() {
            self.tell_driver(why, self.backend_backoff.failures());
        }
    }

    /// Tells the driver, once, that nothing works until something is done about it.
    pub(super) fn tell_end(&mut self, why: Stop) {
        if self.told_end != Some(why) {
            self.told_end = Some(why);
            self.driver.stop(why);
        }
    }

    /// Whether the connection that is over, if one is, lasted long enough. Only that shows
    /// that the backend is all right: it may be connected, and end, again and again.
    fn has_lasted(&mut self) -> bool {
        let Some(since_ns) = self.live_since_ns.take() else {
            return true;
        };
        let has_lasted = self.bus.now_ns().saturating_sub(since_ns) >= LASTING.as_nanos() as u64;
        if has_lasted {
            self.backend_backoff.reset();
        }
        has_lasted
    }

    /// Goes back to the start. Whoever was told that nothing works waits from now on.
    pub(super) fn begin(&mut self) {
        self.reset_wishes();
        if self.told_end.take().is_some() {
            self.driver.stop(Stop::Lost);
        }
    }

    pub(super) fn reset_wishes(&mut self) {
        self.phase = Phase::Idle;
        self.wish = Wish::Again;
        self.renewed = Renewed::No;
        (self.found, self.pending_fault) = (None, None);
    }

    /// It is to begin again, but not yet: whoever was told that nothing works is told why.
    pub(super) fn restart_later(&mut self) {
        self.wish = Wish::Again;
        if let Some(why) = self.told_end.take() {
            self.driver.stop(Stop::Lost);
            if let Stop::Broken(fault) = why
                && fault != Fault::TakenAway
            {
                self.tell_driver(fault, self.backend_backoff.failures());
            }
        }
    }

    /// The backend ended, or is not there any more.
    pub(super) fn lose(&mut self) {
        let before = core::mem::replace(&mut self.phase, Phase::Idle);
        self.end_use(Stop::Lost);
        if before == Phase::Told {
            self.ask_later(Fault::Refused);
        }
    }

    pub(super) async fn close(&mut self) -> Result<(), Error> {
        self.phase = Phase::Closed;
        self.say(XenbusState::CLOSED).await
    }

    /// All has been answered: the backend may go.
    pub(super) async fn drained(&mut self) {
        // Its answers are all here, but it still has the pages: they are taken
        // back when it has ended, too.
        let _said_again = self.close().await;
    }

    /// The driver found that its backend did what it must not do.
    pub(super) async fn fault(&mut self, fault: Fault) {
        let seen = match &self.backend {
            Some(backend) => self.see(&backend.path).await.ok(),
            None => None,
        };
        self.found = None;
        // One that has ended, or begun anew, since it did that is to be asked again: what
        // is there now did nothing. Not at once, for it may lie each time.
        if let Some(seen) = seen
            && (has_ended(seen.state) || seen.state < XenbusState::CONNECTED)
        {
            self.last_seen = seen.state;
            self.phase = Phase::Leaving;
            (self.wish, self.renewed) = (Wish::Again, Renewed::Yes);
            self.ask_later(fault);
            self.pending_state = Some(XenbusState::CLOSING);
            self.tell_people(fault).await;
            return;
        }
        self.fail(fault).await;
    }

    /// Uses the backend no more, and tells why.
    pub(super) async fn fail(&mut self, fault: Fault) {
        if !matches!(self.phase, Phase::Live | Phase::Draining) {
            // The end of a connection is counted; so is one that could not be made, for the
            // backend may begin anew as often as it likes.
            self.backend_backoff.fail_lightly(self.bus.now_ns());
        }
        self.end_use(Stop::Lost);
        self.phase = Phase::Leaving;
        (self.wish, self.renewed) = (Wish::Stay, Renewed::No);
        // Who is told may look at the store.
        (self.pending_state, self.pending_fault) = (Some(XenbusState::CLOSING), Some(fault));
        self.tell_people(fault).await;
        match self.write_pending_state().await {
            Err(error) if error.persistence() == Persistence::Transient && !self.is_cut_off() => {
                self.hold();
            }
            // What cannot be written is not waited for.
            Ok(()) | Err(_) => self.tell_pending_fault(),
        }
    }

    /// Writes the state that is to be written, then tells the driver what goes with it.
    pub(super) async fn write_pending_state(&mut self) -> Result<(), Error> {
        if let Some(state) = self.pending_state {
            self.say(state).await?;
        }
        self.tell_pending_fault();
        Ok(())
    }

    fn tell_pending_fault(&mut self) {
        if let Some(fault) = self.pending_fault.take() {
            self.tell_end(Stop::Broken(fault));
        }
    }

    /// The connection is to be made anew, and at once.
    pub(super) fn reconnect(&mut self) {
        self.end_use(Stop::Lost);
        (self.wish, self.renewed) = (Wish::Again, Renewed::No);
        (self.found, self.pending_fault) = (None, None);
        self.held_until_ns = None;
        self.backend_backoff.reset();
        if self.told_end.take().is_some() {
            self.driver.stop(Stop::Lost);
        }
        if self.presence == Presence::Absent {
            // The driver is told again if it still is.
            self.presence = Presence::Unknown;
        }
        if self.phase != Phase::Idle && self.phase != Phase::Closed {
            self.phase = Phase::Leaving;
            self.pending_state = Some(XenbusState::CLOSING);
        }
    }

    /// Ends the connection, and has the driver know when the store says so.
    pub(super) async fn close_for_good(&mut self) {
        self.end_use(Stop::Lost);
        while let Err(error) = self.say_the_end().await {
            if error.persistence() == Persistence::Lasting || self.is_cut_off() {
                // What cannot be written is not waited for.
                break;
            }
            self.hold();
            let fault = Fault::Store(error.kind);
            self.driver.retrying(fault, self.store_backoff.failures());
            let due_ns = self.held_until_ns.unwrap_or_default();
            let pause_ns = due_ns.saturating_sub(self.bus.now_ns());
            self.bus.sleep(Duration::from_nanos(pause_ns)).await;
        }
        self.driver.stop(Stop::Closed);
    }

    async fn say_the_end(&mut self) -> Result<(), Error> {
        if self.presence == Presence::Unknown {
            self.find_device().await?;
        }
        self.say(XenbusState::CLOSING).await?;
        self.say(XenbusState::CLOSED).await
    }
}

impl<P: Platform> Drop for Session<'_, '_, P> {
    /// Nobody serves the device any more: its backend is to let go of it.
    fn drop(&mut self) {
        use XenbusState as S;
        let knows_nothing = matches!(self.said, None | Some(S::INITIALISING | S::CLOSED));
        if self.backend.is_none() || knows_nothing && self.pending_state.is_none() {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        // If it was taken away since it was looked at last, the store refuses this: what is
        // above it is not the guest's.
        let state = format!("{}/state", self.own);
        for closed in [S::CLOSING, S::CLOSED] {
            let written = pin!(self.bus.store().tree().write_as(&state, closed.0));
            let _no_answer = written.poll(&mut cx);
        }
    }
}
