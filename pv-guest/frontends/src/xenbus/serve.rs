//! The handshake, carried out.

use core::future::poll_fn;

use hypercall_abi::{io::xenbus::XenbusState, platform::Platform};
use xenstore_client::{Claim, Error, Persistence, Ring};

use super::{
    Bus, Fault, Frontend, Request, Stop,
    driver::Driver,
    handshake::{Online, Phase, Renewed, Seen, Step, Wish, has_begun_anew, has_ended, step},
    inbox::Inbox,
    pause::yield_now,
    session::{News, Session, Told, directory_of},
};

impl<'g, P: Platform> Bus<'g, P> {
    /// Connects the device `id` to its backend and keeps it connected, through
    /// all that may happen to either, for as long as the future is polled.
    ///
    /// What the store refuses for a while is tried again after a pause, which is longer
    /// each time; so is a backend that ends before it is connected, and one that for the third
    /// time ends soon after that, or lacks what the driver needs and begins anew. This costs
    /// less than one write a second. The driver is [told](Frontend::retrying). What lasts (a
    /// quota of the store's other than that of transactions) stops it, with [`Stop::Broken`].
    ///
    /// A future that is dropped while it is connected writes `Closing` and `Closed`, but
    /// waits for no answer: the store has them when the next request of anybody's is sent,
    /// and not at all if that never happens. [`Request::Close`] ends
    /// with both written.
    ///
    /// A device has one driver: another is told that it is [`Taken`](Fault::Taken), and that
    /// again each time that it asks for a [reconnection](Request::Reconnect), until the first
    /// one's future has ended or was dropped.
    ///
    /// # Errors
    /// Ends when the driver [asked for it](Request::Close), or with an [`Error`]
    /// when the connection to the store ended.
    pub async fn serve<F: Frontend>(&self, id: &str, driver: &F) -> Result<(), Error> {
        self.serve_any(id, driver).await
    }

    async fn serve_any(&self, id: &str, driver: &dyn Driver) -> Result<(), Error> {
        let path = directory_of(driver.protocol().kind, id);
        let Some(_claim) = self.claim(&path, driver).await else {
            return Ok(());
        };
        let inbox = Inbox::new(driver);
        let mut session = Session::new(*self, path, driver, &inbox);
        loop {
            // Whatever it waits for: what users want is not kept waiting with it.
            let done = inbox.unless_asked(session.round()).await;
            match done {
                Ok(round) => round?,
                Err(Request::Fault(fault)) => {
                    // Nothing is used while the store is asked.
                    session.end_use(Stop::Lost);
                    session.found = Some(fault);
                }
                Err(Request::Reconnect) => session.reconnect(),
                Err(Request::Close) => {
                    session.close_for_good().await;
                    return Ok(());
                }
            }
        }
    }
}

impl<'g, P: Platform> Bus<'g, P> {
    /// Takes a device for a driver, or tells it that another has it, and waits until it
    /// asks again. `None`: it has no use for the device any more.
    async fn claim(&self, path: &str, driver: &dyn Driver) -> Option<Claim<'g, Ring<'g, P>>> {
        loop {
            if let Some(claim) = self.store().claim(path) {
                return Some(claim);
            }
            driver.stop(Stop::Broken(Fault::Taken));
            loop {
                match poll_fn(|cx| driver.poll_request(cx)).await {
                    // Of something that it does not have.
                    Request::Fault(_) => {}
                    Request::Reconnect => break,
                    Request::Close => {
                        driver.stop(Stop::Closed);
                        return None;
                    }
                }
            }
        }
    }
}

impl<P: Platform> Session<'_, '_, P> {
    /// Does what there is to do, and waits until there is more. It may be dropped wherever
    /// it waits: what it was about to write is noted first.
    async fn round(&mut self) -> Result<(), Error> {
        if let Some(fault) = self.found {
            self.fault(fault).await;
        }
        if self.is_held() {
            // Only what the driver wants.
        } else if let Err(error) = self.turn().await {
            self.refused(error).await?;
        } else {
            self.store_backoff.reset();
        }
        match self.news().await {
            // A time that has come is news, too, and may be again at once.
            News::Changed => yield_now().await,
            News::Drained => self.drained().await,
            News::Unwatched(error) => {
                self.unwatch();
                let is_lasting = error.persistence() == Persistence::Lasting;
                self.refused(error).await?;
                if is_lasting && self.pending_fault.is_none() {
                    // Without a watch there is nothing to look at. (Before the driver knows
                    // why, the store is to have the state for it.)
                    self.held_until_ns = Some(u64::MAX);
                }
            }
        }
        Ok(())
    }

    /// Reads both states again and runs steps of the handshake until none is due.
    async fn turn(&mut self) -> Result<(), Error> {
        loop {
            self.look_at_ns = None;
            self.look_where_we_are();
            self.watch_device().await?;
            self.find_device().await?;
            self.watch_backend().await?;
            self.write_pending_state().await?;
            let Some(backend) = &self.backend else {
                return Ok(());
            };
            let seen = self.see(&backend.path).await?;
            let seen = self.note(seen);
            match step(self.phase, seen, self.wish) {
                Step::Wait => {
                    self.look_whether_it_stays(seen);
                    return Ok(());
                }
                Step::Look => {
                    let Some(offer) = self.offer(seen).await? else {
                        continue;
                    };
                    if let Err(fault) = self.driver.changed(&offer) {
                        self.fail(fault).await;
                        continue;
                    }
                    return Ok(());
                }
                Step::Tell => {
                    if self.is_too_early() {
                        return Ok(());
                    }
                    let offer = self.offer(seen).await?;
                    if let Some(offer) = offer
                        && self.tell(seen, &offer).await? == Told::Later
                    {
                        continue;
                    }
                }
                Step::GoLive => {
                    let Some(offer) = self.offer(seen).await? else {
                        continue;
                    };
                    if !self.driver.is_served() {
                        // It took up what was told to the one before it.
                        self.end_use(Stop::Lost);
                        self.reset().await?;
                        continue;
                    }
                    if self.driver.protocol().told != XenbusState::CONNECTED {
                        self.say(XenbusState::CONNECTED).await?;
                    }
                    self.go_live(&offer).await;
                }
                Step::Drain => {
                    self.phase = Phase::Draining;
                    self.driver.drain();
                    return Ok(());
                }
                Step::Restart if self.is_too_early() => {
                    self.restart_later();
                    return Ok(());
                }
                Step::Restart => {
                    self.end_use(Stop::Lost);
                    self.begin();
                    self.say(XenbusState::INITIALISING).await?;
                }
                Step::Lost => {
                    self.lose();
                    self.begin();
                    self.say(XenbusState::INITIALISING).await?;
                }
                Step::LostForGood => {
                    self.lose();
                    self.close().await?;
                }
                Step::Reset => self.reset().await?,
                Step::Close => {
                    if self.phase == Phase::Idle {
                        // It ends before it is told anything, and may do so each time.
                        self.ask_later_perhaps(Fault::Refused);
                    }
                    self.close().await?;
                }
            }
        }
    }

    /// What is to be known of a backend's state that was seen.
    fn note(&mut self, seen: Seen) -> Seen {
        let is_over = matches!(self.phase, Phase::Leaving | Phase::Closed);
        let is_new = has_begun_anew(self.last_seen, seen.state);
        if is_over && is_new || self.phase == Phase::Closed && has_ended(seen.state) {
            self.renewed = Renewed::Yes;
        }
        self.last_seen = seen.state;
        let is_using = matches!(seen.state, XenbusState::CONNECTED | XenbusState::CLOSING);
        if self.phase == Phase::Closed && !is_using {
            self.end_use(Stop::Lost);
        }
        Seen {
            renewed: self.renewed,
            ..seen
        }
    }

    /// Nobody waits for a backend that has ended and that the toolstack does not want to
    /// stay: the device is about to go.
    fn look_whether_it_stays(&mut self, seen: Seen) {
        let has_ended = (seen.state, seen.online) == (XenbusState::CLOSED, Online::No);
        let waits = matches!(self.phase, Phase::Idle | Phase::Closed) && self.wish == Wish::Again;
        if has_ended && waits {
            self.tell_end(Stop::Broken(Fault::TakenAway));
        }
    }

    /// What the backend believes is out of date: it is to begin anew.
    async fn reset(&mut self) -> Result<(), Error> {
        // One that is always out of date is not reset without end.
        self.backend_backoff.fail_lightly(self.bus.now_ns());
        self.tell_driver(Fault::Busy, self.backend_backoff.failures());
        self.phase = Phase::Leaving;
        self.say(XenbusState::CLOSING).await
    }
}
