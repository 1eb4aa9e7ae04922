//! The handshake, carried out.

use alloc::{format, string::String};
use core::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use grant_tables::Owner;
use hypercall_abi::{DomId, io::xenbus::XenbusState, platform::Platform};
use xenstore_client::{
    Claim, Error, ErrorKind, Link, Persistence, Ring, Subscription, Transport as _,
};

use crate::granted_buf::Lender;

use super::{
    Bus, Fault, Frontend, Offer, Request, Stop,
    backoff::Backoff,
    handshake::{Phase, Renewed, Seen, Step, Wish, has_begun_anew, has_ended, step},
    nodes::Written,
};

/// After how long what the store refused is tried again, at first and at the most.
const STORE_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));
/// After how long a backend that ended before it was connected is asked again.
const BACKEND_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often a state that the store refuses is written when the driver closes the device.
const CLOSE_TRIES: u32 = 10;
/// How long a backend that is gone has to let go, before it is taken for one that never
/// will, and how often it is looked.
const RELEASE_LOOKS: u32 = 50;
const RELEASE_PAUSE: Duration = Duration::from_millis(100);

/// A backend: where it is, and who has it.
pub(super) struct Backend<'g, P: Platform> {
    pub(super) path: String,
    pub(super) domid: DomId,
    watch: Subscription<'g, Ring<'g, P>>,
}

/// A device that is served.
pub(super) struct Session<'g, 'd, P: Platform, F: Frontend> {
    pub(super) bus: Bus<'g, P>,
    driver: &'d F,
    /// Its directory, and who tells of changes there.
    pub(super) own: String,
    watch: Option<Subscription<'g, Ring<'g, P>>>,
    pub(super) backend: Option<Backend<'g, P>>,
    phase: Phase,
    wish: Wish,
    pub(super) renewed: Renewed,
    /// The backend's state as it was seen last.
    last_seen: XenbusState,
    /// The driver has something that it shares with the backend.
    in_use: InUse,
    /// The state that is still to be written.
    pub(super) unsaid: Option<XenbusState>,
    /// Whether there is such a device.
    presence: Presence,
    /// The state that was written last.
    pub(super) said: Option<XenbusState>,
    /// As many as there were when this was looked at last: see
    /// [`event_channels::Ports::resumes`].
    resumes: u32,
    /// What the driver wanted while a connection ended.
    pending: Option<Request>,
    /// Nothing is done until then: the store refused something.
    held_until_ns: Option<u64>,
    /// Something is due then.
    look_at_ns: Option<u64>,
    store_backoff: Backoff,
    backend_backoff: Backoff,
}

/// Whether there is such a device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Nobody has looked.
    Unknown,
    There,
    Absent,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InUse {
    Yes,
    No,
}

/// What there is to look at.
enum News {
    Changed,
    Drained,
    Request(Request),
    /// A watch could not be set, or the connection ended.
    Unwatched(Error),
}

/// Whether the keys of a connection were written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Yes,
    /// It is to be tried again later.
    Later,
}

impl<'g, P: Platform> Bus<'g, P> {
    /// Connects the device `id` to its backend and keeps it connected, through
    /// all that may happen to either, for as long as the future is polled.
    ///
    /// What the store refuses for a while is tried again after a pause, which is longer
    /// each time; so is a backend that ends before it is connected, which costs less than
    /// one write a second. The driver is [told](Frontend::retrying). What lasts (a quota
    /// of the store's other than that of transactions) stops it, with [`Stop::Broken`].
    ///
    /// A future that is dropped while it is connected writes `Closing` and `Closed`, but
    /// waits for no answer: the store has them when the next request of anybody's is sent,
    /// and not at all if that never happens. [`Request::Close`] ends with both written.
    ///
    /// A device has one driver: another is told that it is [`Taken`](Fault::Taken), and that
    /// again each time that it asks for a [reconnection](Request::Reconnect), until the first
    /// one's future has ended or was dropped.
    ///
    /// # Errors
    /// Ends when the driver [asked for it](Request::Close), or with an [`Error`]
    /// when the connection to the store ended.
    pub async fn serve<F: Frontend>(&self, id: &str, driver: &F) -> Result<(), Error> {
        let path = directory_of(F::KIND, id);
        let Some(_claim) = self.claim(&path, driver).await else {
            return Ok(());
        };
        let mut session = Session::new(*self, path, driver);
        loop {
            if session.is_held() {
                // Only what the driver wants.
            } else if let Err(error) = session.turn().await {
                session.refused(error).await?;
            } else {
                session.store_backoff.reset();
            }
            match session.news().await {
                News::Changed => {}
                News::Drained => session.drained().await,
                News::Request(Request::Fault(fault)) => session.fault(fault).await,
                News::Request(Request::Reconnect) => session.reconnect().await,
                News::Request(Request::Close) => {
                    session.close_for_good().await;
                    return Ok(());
                }
                News::Unwatched(error) => {
                    (session.watch, session.backend) = (None, None);
                    let is_lasting = error.persistence() == Persistence::Lasting;
                    session.refused(error).await?;
                    if is_lasting {
                        // Without a watch there is nothing to look at.
                        session.held_until_ns = Some(u64::MAX);
                    }
                }
            }
        }
    }
}

impl<'g, P: Platform> Bus<'g, P> {
    /// Takes a device for a driver, or tells it that another has it, and waits until it
    /// asks again. `None`: it has no use for the device any more.
    async fn claim<F: Frontend>(&self, path: &str, driver: &F) -> Option<Claim<'g, Ring<'g, P>>> {
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

impl<'g, 'd, P: Platform, F: Frontend> Session<'g, 'd, P, F> {
    fn new(bus: Bus<'g, P>, own: String, driver: &'d F) -> Self {
        Self {
            bus,
            driver,
            own,
            watch: None,
            backend: None,
            phase: Phase::Idle,
            wish: Wish::Again,
            renewed: Renewed::No,
            last_seen: XenbusState::UNKNOWN,
            in_use: InUse::No,
            unsaid: None,
            presence: Presence::Unknown,
            said: None,
            resumes: bus.ports().resumes(),
            pending: None,
            held_until_ns: None,
            look_at_ns: None,
            store_backoff: Backoff::new(STORE_PAUSES.0, STORE_PAUSES.1),
            backend_backoff: Backoff::new(BACKEND_PAUSES.0, BACKEND_PAUSES.1),
        }
    }

    /// Waits until there is something to look at.
    async fn news(&mut self) -> News {
        if let Some(request) = self.pending.take() {
            return News::Request(request);
        }
        let backend = self.backend.as_ref().map(|backend| &backend.watch);
        poll_fn(|cx| {
            if let Poll::Ready(request) = self.driver.poll_request(cx) {
                return Poll::Ready(News::Request(request));
            }
            let mut changed = false;
            for watch in [self.watch.as_ref(), backend].into_iter().flatten() {
                // Once: a backend that writes without end does not keep this task at it.
                match watch.poll_changed(cx) {
                    Poll::Ready(Ok(())) => changed = true,
                    Poll::Ready(Err(error)) => return Poll::Ready(News::Unwatched(error)),
                    Poll::Pending => {}
                }
            }
            for due_ns in [self.held_until_ns, self.look_at_ns].into_iter().flatten() {
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
    fn is_held(&mut self) -> bool {
        let now_ns = self.bus.now_ns();
        self.held_until_ns = self.held_until_ns.filter(|until_ns| now_ns < *until_ns);
        self.held_until_ns.is_some()
    }

    /// The store refused something: after a pause it is tried again, or it cannot be.
    async fn refused(&mut self, error: Error) -> Result<(), Error> {
        let fault = Fault::Store(error.kind);
        let is_over = self.bus.store().transport().link() == Link::Dead;
        if error.kind == ErrorKind::Disconnected && is_over {
            self.end_use(Stop::Broken(fault));
            return Err(error);
        }
        match error.persistence() {
            Persistence::Transient => {
                let now_ns = self.bus.now_ns();
                self.store_backoff.fail(now_ns);
                self.held_until_ns = self.store_backoff.due_ns(now_ns);
                if error.kind != ErrorKind::Disconnected {
                    self.tell_driver(fault, self.store_backoff.failures());
                }
            }
            Persistence::Lasting => self.fail(fault).await,
        }
        Ok(())
    }

    /// Whether it is too early to ask the backend once more; if so, the driver knows why.
    fn is_too_early(&mut self) -> bool {
        self.look_at_ns = self.backend_backoff.due_ns(self.bus.now_ns());
        self.look_at_ns.is_some()
    }

    /// The backend did not take what it was told, or was not told for this reason.
    fn ask_later(&mut self, why: Fault) {
        self.backend_backoff.fail(self.bus.now_ns());
        self.tell_driver(why, self.backend_backoff.failures());
    }

    /// Why there is no connection, if there is to be one.
    fn tell_driver(&self, why: Fault, attempts: u32) {
        let is_wanted = self.wish == Wish::Again && self.presence != Presence::Absent;
        if is_wanted && !matches!(self.phase, Phase::Live | Phase::Draining) {
            self.driver.retrying(why, attempts);
        }
    }

    /// Looks how things are, and does what is to be done about it, until that is
    /// nothing.
    async fn turn(&mut self) -> Result<(), Error> {
        loop {
            self.look_where_we_are();
            if self.watch.is_none() {
                let watch = self.bus.store().subscribe("device", &self.own)?;
                watch.changed().await?;
                self.watch = Some(watch);
            }
            self.find_backend().await?;
            if let Some(state) = self.unsaid {
                self.say(state).await?;
            }
            let Some(backend) = &self.backend else {
                return Ok(());
            };
            let seen = self.see(&backend.path).await?;
            let is_over = matches!(self.phase, Phase::Leaving | Phase::Closed);
            let is_new = has_begun_anew(self.last_seen, seen.state);
            if is_over && is_new || self.phase == Phase::Closed && has_ended(seen.state) {
                self.renewed = Renewed::Yes;
            }
            self.last_seen = seen.state;
            let seen = Seen {
                renewed: self.renewed,
                ..seen
            };
            let is_using = matches!(seen.state, XenbusState::CONNECTED | XenbusState::CLOSING);
            if self.phase == Phase::Closed && !is_using {
                self.end_use(Stop::Lost);
            }
            match step(self.phase, seen, self.wish) {
                Step::Wait => return Ok(()),
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
                        self.phase = Phase::Leaving;
                        self.say(XenbusState::CLOSING).await?;
                        continue;
                    }
                    if F::TOLD != XenbusState::CONNECTED {
                        self.say(XenbusState::CONNECTED).await?;
                    }
                    self.phase = Phase::Live;
                    // Nobody may look again before the next refusal.
                    self.store_backoff.reset();
                    if let Err(fault) = self.driver.live(&offer) {
                        self.fail(fault).await;
                    }
                }
                Step::Drain => {
                    self.backend_backoff.reset();
                    self.phase = Phase::Draining;
                    self.driver.drain();
                    return Ok(());
                }
                Step::Restart if self.is_too_early() => return Ok(()),
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
                Step::Reset => {
                    self.phase = Phase::Leaving;
                    self.say(XenbusState::CLOSING).await?;
                }
                Step::Close => self.close().await?,
            }
        }
    }

    /// The backend ended, or is not there any more.
    fn lose(&mut self) {
        self.end_use(Stop::Lost);
        match core::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Told => self.ask_later(Fault::Refused),
            _ => self.backend_backoff.reset(),
        }
    }

    /// After a resume elsewhere nothing is shared with any backend, and the device is as
    /// the toolstack there made it.
    fn look_where_we_are(&mut self) {
        let resumes = self.bus.ports().resumes();
        if core::mem::replace(&mut self.resumes, resumes) == resumes {
            return;
        }
        self.end_use(Stop::Lost);
        self.backend = None;
        (self.said, self.unsaid) = (None, None);
        self.begin();
    }

    fn begin(&mut self) {
        self.phase = Phase::Idle;
        self.wish = Wish::Again;
        self.renewed = Renewed::No;
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.phase = Phase::Closed;
        self.say(XenbusState::CLOSED).await
    }

    /// The driver is not to use what it shares any more.
    fn end_use(&mut self, why: Stop) {
        if self.in_use == InUse::Yes || why != Stop::Lost {
            self.driver.stop(why);
        }
        if core::mem::replace(&mut self.in_use, InUse::No) == InUse::Yes {
            self.forget_faults();
        }
    }

    /// What the backend of a connection that is over did concerns no other.
    fn forget_faults(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(request) = self.driver.poll_request(&mut cx) {
            match request {
                Request::Fault(_) => {}
                Request::Close => self.pending = Some(request),
                Request::Reconnect => {
                    self.pending.get_or_insert(request);
                }
            }
        }
    }

    /// All has been answered: the backend may go.
    async fn drained(&mut self) {
        // Its answers are all here, but it still has the pages: they are taken
        // back when it has ended, too.
        let _said_again = self.close().await;
    }

    /// The driver found that its backend did what it must not do.
    async fn fault(&mut self, fault: Fault) {
        // Nothing is used while the store is asked.
        self.end_use(Stop::Lost);
        // One that has ended, or begun anew, since it did that is to be asked again: what
        // is there now did nothing. Not at once, for it may lie each time.
        if let Some(backend) = &self.backend
            && let Ok(seen) = self.see(&backend.path).await
            && (has_ended(seen.state) || seen.state < XenbusState::CONNECTED)
        {
            self.last_seen = seen.state;
            self.phase = Phase::Leaving;
            (self.wish, self.renewed) = (Wish::Again, Renewed::Yes);
            self.ask_later(fault);
            self.tell_people(fault).await;
            let _said_again = self.say(XenbusState::CLOSING).await;
            return;
        }
        self.fail(fault).await;
    }

    /// Uses the backend no more, and tells why.
    async fn fail(&mut self, fault: Fault) {
        self.end_use(Stop::Lost);
        self.phase = Phase::Leaving;
        (self.wish, self.renewed) = (Wish::Stay, Renewed::No);
        self.tell_people(fault).await;
        // If not now, then when there is something to look at.
        let _said_again = self.say(XenbusState::CLOSING).await;
        // Last: who sees it may look at the store.
        self.driver.stop(Stop::Broken(fault));
    }

    async fn reconnect(&mut self) {
        self.end_use(Stop::Lost);
        (self.wish, self.renewed) = (Wish::Again, Renewed::No);
        self.held_until_ns = None;
        self.backend_backoff.reset();
        if self.phase != Phase::Idle && self.phase != Phase::Closed {
            self.phase = Phase::Leaving;
            let _said_again = self.say(XenbusState::CLOSING).await;
        }
    }

    /// Ends the connection, and has the driver know when the store says so.
    async fn close_for_good(&mut self) {
        self.end_use(Stop::Lost);
        for _ in 0..CLOSE_TRIES {
            let closing = self.say(XenbusState::CLOSING).await;
            let closed = match closing {
                Ok(()) => self.say(XenbusState::CLOSED).await,
                refused => refused,
            };
            match closed {
                Err(error)
                    if error.persistence() == Persistence::Transient
                        && self.bus.store().transport().link() != Link::Dead =>
                {
                    self.store_backoff.fail(self.bus.now_ns());
                    let due_ns = self.store_backoff.due_ns(self.bus.now_ns());
                    let due_ns = due_ns.unwrap_or_default();
                    poll_fn(|cx| self.bus.poll_sleep_until(cx, due_ns)).await;
                }
                // What cannot be written is not waited for.
                Ok(()) | Err(_) => break,
            }
        }
        self.driver.stop(Stop::Closed);
    }

    /// Looks where the backend is, and watches it.
    async fn find_backend(&mut self) -> Result<(), Error> {
        let device = self.look_at_device().await?;
        let is_ours = self.said.is_none() || self.unsaid.is_some() || device.state == self.said;
        if device.backend.is_none() || !is_ours {
            // Taken away; and if there is one again, it may be another.
            if self.backend.take().is_some() || self.presence == Presence::Unknown {
                self.end_use(Stop::Gone);
            }
            self.presence = Presence::Absent;
            self.begin();
            (self.said, self.unsaid) = (None, None);
        }
        let Some((path, domid)) = device.backend else {
            return Ok(());
        };
        let known = self.backend.as_ref();
        if known.is_some_and(|known| (&known.path, known.domid) == (&path, domid)) {
            return Ok(());
        }
        let watch = self.bus.store().subscribe(folder_of_all(&path), &path)?;
        watch.changed().await?;
        self.backend = Some(Backend { path, domid, watch });
        self.end_use(Stop::Lost);
        self.begin();
        self.last_seen = XenbusState::UNKNOWN;
        self.presence = Presence::There;
        self.backend_backoff.reset();
        // As the toolstack left it, unless somebody was here before.
        if device.state == Some(XenbusState::INITIALISING) {
            self.said = device.state;
            return Ok(());
        }
        self.say(XenbusState::INITIALISING).await
    }

    /// Agrees with the backend.
    async fn tell(&mut self, seen: Seen, offer: &Offer) -> Result<Told, Error> {
        self.wait_for_release(seen).await?;
        if self.is_hoarding() {
            self.ask_later(Fault::Quarantine);
            return Ok(Told::Later);
        }
        self.in_use = InUse::Yes;
        match self.driver.negotiate(offer) {
            Ok(keys) => {
                // What became of it is not known if the connection ends meanwhile.
                self.unsaid = Some(XenbusState::INITIALISING);
                let written = self.write(&keys).await?;
                self.unsaid = None;
                match written {
                    Written::All => (self.phase, self.said) = (Phase::Told, Some(F::TOLD)),
                    // Seen when the device is looked for the next time.
                    Written::NoDevice => self.end_use(Stop::Lost),
                }
            }
            Err(fault) => self.fail(fault).await,
        }
        Ok(Told::Yes)
    }

    /// Whether backends of this device keep so much of the guest's memory that no more is
    /// lent to them.
    fn is_hoarding(&self) -> bool {
        Lender::new(self.bus.grants(), Owner::named(&self.own)).is_hoarded()
    }

    /// Waits until the backend before this one has let go, or this one goes on.
    async fn wait_for_release(&self, seen: Seen) -> Result<(), Error> {
        for _ in 0..RELEASE_LOOKS {
            let Some(backend) = self.backend.as_ref().filter(|_| !self.driver.is_released()) else {
                break;
            };
            self.bus.sleep(RELEASE_PAUSE).await;
            if self.see(&backend.path).await? != seen {
                break;
            }
        }
        Ok(())
    }
}

impl<P: Platform, F: Frontend> Drop for Session<'_, '_, P, F> {
    /// Nobody serves the device any more: its backend is to let go of it.
    fn drop(&mut self) {
        use XenbusState as S;
        if self.backend.is_none() || matches!(self.said, None | Some(S::INITIALISING | S::CLOSED)) {
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

/// The directory of a device.
pub(super) fn directory_of(kind: &str, id: &str) -> String {
    format!("device/{kind}/{id}")
}

/// The directory of all backends of a domain, below which `path` is one's: its own, its
/// frontend's domain's, its kind's. One watch there is for all devices.
fn folder_of_all(path: &str) -> &str {
    let above = path.rsplitn(4, '/').nth(3);
    above.filter(|above| !above.is_empty()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::folder_of_all;

    #[test]
    fn backends_of_a_domain_are_watched_together() {
        let folder = folder_of_all("/local/domain/0/backend/vbd/5/51712");
        assert_eq!(folder, "/local/domain/0/backend");
        assert_eq!(folder_of_all("/a/b/c"), "/a/b/c");
        assert_eq!(folder_of_all("odd"), "odd");
    }
}
