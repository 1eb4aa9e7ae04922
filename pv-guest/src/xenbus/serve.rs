//! The handshake, carried out.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{future::poll_fn, task::Poll};

use futures_util::future::join_all;
use hypercall_abi::{DomId, Errno, io::xenbus::XenbusState, platform::Platform};
use xenstore_client::{
    Error, ErrorKind, Link, Ring, Transport as _, Watch, machine::Repeats, value,
};

use super::{
    Bus, Fault, Frontend, Key, Nodes, Offer, Request, Stop,
    handshake::{Online, Phase, Renewed, Seen, Step, Wish, has_ended, step},
};

/// How often a transaction that meets others is tried.
const TRIES: u32 = 100;

/// How often it is looked whether a backend that is gone has let go, before it is
/// taken for one that never will. Each look is a question to the store.
const RELEASE_LOOKS: u32 = 10_000;

/// A backend: where it is, and who has it.
struct Backend<'g, P: Platform> {
    path: String,
    domid: DomId,
    watch: Watch<'g, Ring<'g, P>>,
}

struct Session<'g, 'd, P: Platform, F> {
    bus: Bus<'g, P>,
    driver: &'d F,
    /// Its directory, and who tells of changes there.
    own: String,
    watch: Option<Watch<'g, Ring<'g, P>>>,
    backend: Option<Backend<'g, P>>,
    phase: Phase,
    wish: Wish,
    renewed: Renewed,
    /// The driver has something that it shares with the backend.
    in_use: InUse,
    /// The state that is still to be written.
    unsaid: Option<XenbusState>,
    /// Whether there is such a device.
    presence: Presence,
    /// The state that was written last.
    said: Option<XenbusState>,
    /// As many as there were when this was looked at last: see
    /// [`event_channels::Ports::resumes`].
    resumes: u32,
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
    /// A watch could not be set again, or the connection ended.
    Unwatched(Error),
}

impl<'g, P: Platform> Bus<'g, P> {
    /// Connects the device `id` to its backend and keeps it connected, through
    /// all that may happen to either, for as long as the future is polled.
    ///
    /// # Errors
    /// Ends when the driver [asked for it](Request::Close), or with an [`Error`]
    /// when the connection to the store ended.
    pub async fn serve<F: Frontend>(&self, id: &str, driver: &F) -> Result<(), Error> {
        let mut session = Session {
            bus: *self,
            driver,
            own: format!("device/{}/{id}", F::KIND),
            watch: None,
            backend: None,
            phase: Phase::Idle,
            wish: Wish::Again,
            renewed: Renewed::No,
            in_use: InUse::No,
            unsaid: None,
            said: None,
            presence: Presence::Unknown,
            resumes: self.ports.resumes(),
        };
        loop {
            match session.turn().await {
                Ok(()) => {}
                // The connection was renewed: once more.
                Err(error) if error.kind == ErrorKind::Disconnected => {
                    if self.store.transport().link() == Link::Dead {
                        session.driver.stop(Stop::Broken(Fault::Store(error.kind)));
                        return Err(error);
                    }
                    continue;
                }
                Err(error) => session.fail(Fault::Store(error.kind)).await,
            }
            match session.news().await {
                News::Changed => {}
                News::Drained => session.drained().await,
                News::Request(Request::Fault(fault)) => session.fail(fault).await,
                News::Request(Request::Reconnect) => session.reconnect().await,
                News::Request(Request::Close) => {
                    session.end_use(Stop::Closed);
                    let _gone = session.say(XenbusState::CLOSING).await;
                    let _gone = session.say(XenbusState::CLOSED).await;
                    return Ok(());
                }
                News::Unwatched(error) if error.kind == ErrorKind::Disconnected => {
                    (session.watch, session.backend) = (None, None);
                }
                News::Unwatched(error) => {
                    (session.watch, session.backend) = (None, None);
                    session.fail(Fault::Store(error.kind)).await;
                }
            }
        }
    }
}

impl<'g, P: Platform, F: Frontend> Session<'g, '_, P, F> {
    /// Waits until there is something to look at.
    async fn news(&self) -> News {
        let backend = self.backend.as_ref().map(|backend| &backend.watch);
        poll_fn(|cx| {
            if let Poll::Ready(request) = self.driver.poll_request(cx) {
                return Poll::Ready(News::Request(request));
            }
            let mut changed = false;
            for watch in [self.watch.as_ref(), backend].into_iter().flatten() {
                while let Poll::Ready(event) = watch.poll_event(cx) {
                    match event {
                        Ok(_) => changed = true,
                        Err(error) => return Poll::Ready(News::Unwatched(error)),
                    }
                }
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

    /// Looks how things are, and does what is to be done about it, until that is
    /// nothing.
    async fn turn(&mut self) -> Result<(), Error> {
        loop {
            self.look_where_we_are();
            if self.watch.is_none() {
                let store = self.bus.store;
                let watch = store.watch_with(&self.own, None, Repeats::Merge).await?;
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
            if has_ended(seen.state) && self.phase == Phase::Closed {
                self.renewed = Renewed::Yes;
            }
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
                    if let Some(offer) = self.offer(seen).await? {
                        self.tell(seen, &offer).await?;
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
                    if let Err(fault) = self.driver.live(&offer) {
                        self.fail(fault).await;
                    }
                }
                Step::Drain => {
                    self.phase = Phase::Draining;
                    self.driver.drain();
                    return Ok(());
                }
                Step::Lost | Step::Restart => {
                    self.end_use(Stop::Lost);
                    self.begin();
                    self.say(XenbusState::INITIALISING).await?;
                }
                Step::LostForGood => {
                    self.end_use(Stop::Lost);
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

    /// After a resume elsewhere nothing is shared with any backend, and the device is as
    /// the toolstack there made it.
    fn look_where_we_are(&mut self) {
        let resumes = self.bus.ports.resumes();
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
        self.renewed = Renewed::No;
        self.say(XenbusState::CLOSED).await
    }

    /// The driver is not to use what it shares any more.
    fn end_use(&mut self, why: Stop) {
        if self.in_use == InUse::Yes || why != Stop::Lost {
            self.driver.stop(why);
        }
        self.in_use = InUse::No;
    }

    /// All has been answered: the backend may go.
    async fn drained(&mut self) {
        // Its answers are all here, but it still has the pages: they are taken
        // back when it has ended, too.
        let _said_again = self.close().await;
    }

    /// Uses the backend no more, and tells why.
    async fn fail(&mut self, fault: Fault) {
        self.end_use(Stop::Broken(fault));
        self.phase = Phase::Leaving;
        self.wish = Wish::Stay;
        let tree = self.bus.store.tree();
        let told = format!("error/{}/error", self.own);
        // Only for people to read.
        let _refused = tree.write_as(&told, fault).await;
        // If not now, then when there is something to look at.
        let _said_again = self.say(XenbusState::CLOSING).await;
    }

    async fn reconnect(&mut self) {
        self.end_use(Stop::Lost);
        self.wish = Wish::Again;
        self.renewed = Renewed::No;
        if self.phase != Phase::Idle && self.phase != Phase::Closed {
            self.phase = Phase::Leaving;
            let _said_again = self.say(XenbusState::CLOSING).await;
        }
    }

    async fn say(&mut self, state: XenbusState) -> Result<(), Error> {
        self.unsaid = Some(state);
        // Of a device that is gone, the directory is not brought back.
        if self.backend.is_some() {
            let path = format!("{}/state", self.own);
            self.bus.store.tree().write_as(&path, state.0).await?;
        }
        (self.said, self.unsaid) = (Some(state), None);
        Ok(())
    }

    /// Looks where the backend is, and watches it.
    async fn find_backend(&mut self) -> Result<(), Error> {
        let tree = self.bus.store.tree();
        let names = ["backend", "backend-id", "state"].map(|name| format!("{}/{name}", self.own));
        let values = join_all(names.iter().map(|name| tree.try_read(name))).await;
        let mut found = [None, None, None];
        for (slot, value) in found.iter_mut().zip(values) {
            *slot = value?;
        }
        let [path, domid, state] = &found;
        let path = path.as_deref().and_then(value::text).map(String::from);
        let state = state.as_deref().and_then(value::parse).map(XenbusState);
        let is_ours = self.said.is_none() || self.unsaid.is_some() || state == self.said;
        let domid = domid.as_deref().and_then(value::parse).map(DomId);
        let found = path.filter(|path| !path.is_empty()).zip(domid);
        if found.is_none() || !is_ours {
            // Taken away; and if there is one again, it may be another.
            if self.backend.take().is_some() || self.presence == Presence::Unknown {
                self.end_use(Stop::Gone);
            }
            self.presence = Presence::Absent;
            self.begin();
            (self.said, self.unsaid) = (None, None);
        }
        let Some((path, domid)) = found else {
            return Ok(());
        };
        let known = self.backend.as_ref();
        if known.is_some_and(|known| (&known.path, known.domid) == (&path, domid)) {
            return Ok(());
        }
        let watch = self
            .bus
            .store
            .watch_with(&path, None, Repeats::Merge)
            .await?;
        self.backend = Some(Backend { path, domid, watch });
        self.end_use(Stop::Lost);
        self.begin();
        self.presence = Presence::There;
        // As the toolstack left it, unless somebody was here before.
        if state == Some(XenbusState::INITIALISING) {
            self.said = state;
            return Ok(());
        }
        self.say(XenbusState::INITIALISING).await
    }

    async fn see(&self, path: &str) -> Result<Seen, Error> {
        let tree = self.bus.store.tree();
        let names = ["state", "online"].map(|name| format!("{path}/{name}"));
        let values = join_all(names.iter().map(|name| tree.try_read(name))).await;
        let mut numbers = [None; 2];
        for (number, value) in numbers.iter_mut().zip(values) {
            let value = match value {
                Ok(value) => value,
                // What this guest may not see is not there.
                Err(error) if error.errno() == Some(Errno::EACCES) => None,
                Err(error) => return Err(error),
            };
            // What is no number is not what is not there.
            *number = value.map(|value| value::parse::<u32>(&value).unwrap_or(u32::MAX));
        }
        Ok(Seen {
            state: XenbusState(numbers[0].unwrap_or(XenbusState::UNKNOWN.0)),
            online: match numbers[1] {
                Some(1) => Online::Yes,
                _ => Online::No,
            },
            renewed: self.renewed,
        })
    }

    /// What the backend offers; `None`: it went on meanwhile, and what was read
    /// may be of two minds.
    async fn offer(&self, seen: Seen) -> Result<Option<Offer>, Error> {
        let backend = self.backend.as_ref().ok_or(ErrorKind::Disconnected)?;
        let offer = Offer {
            domid: backend.domid,
            backend: self.nodes(&backend.path, F::BACKEND_KEYS).await?,
            own: self.nodes(&self.own, F::OWN_KEYS).await?,
        };
        let again = self.see(&backend.path).await?;
        Ok((again == seen).then_some(offer))
    }

    async fn nodes(&self, folder: &str, names: &[&str]) -> Result<Nodes, Error> {
        let tree = self.bus.store.tree();
        let paths: Vec<String> = names
            .iter()
            .map(|name| format!("{folder}/{name}"))
            .collect();
        let values = join_all(paths.iter().map(|path| tree.try_read(path))).await;
        let mut found = Vec::new();
        for (name, value) in names.iter().zip(values) {
            match value {
                Ok(Some(value)) => found.push((name.to_string(), value)),
                Ok(None) => {}
                Err(error) if error.errno() == Some(Errno::EACCES) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Nodes::new(found))
    }

    /// Agrees with the backend.
    async fn tell(&mut self, seen: Seen, offer: &Offer) -> Result<(), Error> {
        self.wait_for_release(seen).await?;
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
        Ok(())
    }

    /// Waits until the backend before this one has let go, or this one goes on.
    async fn wait_for_release(&self, seen: Seen) -> Result<(), Error> {
        for _ in 0..RELEASE_LOOKS {
            let Some(backend) = self.backend.as_ref().filter(|_| !self.driver.is_released()) else {
                break;
            };
            if self.see(&backend.path).await? != seen {
                break;
            }
        }
        Ok(())
    }

    /// Writes keys and state, and removes all other keys that the protocol has, at once.
    async fn write(&self, keys: &[Key]) -> Result<Written, Error> {
        debug_assert!(
            keys.iter().all(|key| is_known::<F>(&key.name)),
            "FRONTEND_KEYS of {} lacks one of {keys:?}",
            F::KIND
        );
        for _ in 0..TRIES {
            let transaction = self.bus.store.begin().await?;
            let tree = *transaction;
            let nodes = match tree.directory(&self.own).await {
                // What was taken away is not brought back.
                Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(Written::NoDevice),
                other => other?,
            };
            // A queue's directory is removed as a whole, also if it is made anew.
            let is_stale =
                |node: &&String| is_known::<F>(node) && !keys.iter().any(|key| key.name == **node);
            for node in nodes.iter().filter(is_stale) {
                tree.remove(&format!("{}/{node}", self.own)).await?;
            }
            let paths: Vec<(String, &str)> = keys
                .iter()
                .map(|key| (format!("{}/{}", self.own, key.name), key.value.as_str()))
                .collect();
            let writes = paths.iter().map(|(path, value)| tree.write(path, value));
            for written in join_all(writes).await {
                written?;
            }
            let state = format!("{}/state", self.own);
            tree.write_as(&state, F::TOLD.0).await?;
            match transaction.commit().await {
                Err(error) if error.errno() == Some(Errno::EAGAIN) => {}
                other => return other.map(|()| Written::All),
            }
        }
        Err(ErrorKind::Conflicts.into())
    }
}

/// What became of a frontend's keys.
enum Written {
    All,
    /// There is no directory to write them into.
    NoDevice,
}

/// Whether a name, or the directory of one, is a key of the driver's protocol.
fn is_known<F: Frontend>(name: &str) -> bool {
    let node = name.split('/').next().unwrap_or(name);
    F::FRONTEND_KEYS.iter().any(|key| key.matches(node))
}
