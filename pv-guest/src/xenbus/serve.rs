//! The handshake, carried out.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{future::poll_fn, task::Poll};

use futures_util::future::join_all;
use hypercall_abi::{DomId, Errno, io::xenbus::XenbusState, platform::Platform};
use xenstore_client::{Error, ErrorKind, Ring, Watch, machine::Repeats};

use super::{
    Bus, Fault, Frontend, Key, Nodes, Offer, Request, Stop,
    handshake::{Online, Phase, Renewed, Seen, Step, Wish, has_ended, step},
};

/// How often a transaction that meets others is tried.
const TRIES: u32 = 100;

/// A backend: where it is, and who has it.
struct Backend<'g, P: Platform> {
    path: String,
    domid: DomId,
    watch: Watch<'g, Ring<'g, P>>,
}

struct Session<'g, 'd, P: Platform, F> {
    bus: Bus<'g, P>,
    driver: &'d F,
    /// Its directory.
    own: String,
    backend: Option<Backend<'g, P>>,
    phase: Phase,
    wish: Wish,
    renewed: Renewed,
    /// Keys that were written for this connection.
    keys: Vec<String>,
    /// The driver has something that it shares with the backend.
    in_use: InUse,
    /// The state that is still to be written.
    unsaid: Option<XenbusState>,
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
    End(Error),
}

impl<'g, P: Platform> Bus<'g, P> {
    /// Connects the device `id` to its backend and keeps it connected, through
    /// all that may happen to either, for as long as the future is polled.
    ///
    /// # Errors
    /// Ends when the driver [asked for it](Request::Close), or with an [`Error`]
    /// when the connection to the store ended.
    pub async fn serve<F: Frontend>(&self, id: &str, driver: &F) -> Result<(), Error> {
        let own = format!("device/{}/{id}", F::KIND);
        let watch = self.store.watch_with(&own, None, Repeats::Merge).await?;
        let mut session = Session {
            bus: *self,
            driver,
            own,
            backend: None,
            phase: Phase::Idle,
            wish: Wish::Again,
            renewed: Renewed::No,
            keys: Vec::new(),
            in_use: InUse::No,
            unsaid: None,
        };
        loop {
            match session.news(&watch).await {
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
                News::End(error) => {
                    session.driver.stop(Stop::Broken(Fault::Store(error.kind)));
                    return Err(error);
                }
            }
            match session.turn().await {
                // The watches fire when the connection is renewed.
                Ok(())
                | Err(Error {
                    kind: ErrorKind::Disconnected,
                    ..
                }) => {}
                Err(error) => session.fail(Fault::Store(error.kind)).await,
            }
        }
    }
}

impl<'g, P: Platform, F: Frontend> Session<'g, '_, P, F> {
    /// Waits until there is something to look at.
    async fn news(&self, own: &Watch<'g, Ring<'g, P>>) -> News {
        let backend = self.backend.as_ref().map(|backend| &backend.watch);
        poll_fn(|cx| {
            if let Poll::Ready(request) = self.driver.poll_request(cx) {
                return Poll::Ready(News::Request(request));
            }
            let mut changed = false;
            for watch in [Some(own), backend].into_iter().flatten() {
                while let Poll::Ready(event) = watch.poll_event(cx) {
                    match event {
                        Ok(_) => changed = true,
                        Err(error) => return Poll::Ready(News::End(error)),
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
                    let offer = self.offer().await?;
                    if let Err(fault) = self.driver.changed(&offer) {
                        self.fail(fault).await;
                        continue;
                    }
                    return Ok(());
                }
                Step::Tell => self.tell().await?,
                Step::GoLive => {
                    let offer = self.offer().await?;
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
        let _seen_again = self.close().await;
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
        if self.say(XenbusState::CLOSING).await.is_err() {
            self.phase = Phase::Closed;
        }
    }

    async fn reconnect(&mut self) {
        self.end_use(Stop::Lost);
        self.wish = Wish::Again;
        self.renewed = Renewed::No;
        if self.phase != Phase::Idle && self.phase != Phase::Closed {
            self.phase = Phase::Leaving;
            let _seen_again = self.say(XenbusState::CLOSING).await;
        }
    }

    async fn say(&mut self, state: XenbusState) -> Result<(), Error> {
        self.unsaid = Some(state);
        // Of a device that is gone, the directory is not brought back.
        if self.backend.is_some() {
            let path = format!("{}/state", self.own);
            self.bus.store.tree().write_as(&path, state.0).await?;
        }
        self.unsaid = None;
        Ok(())
    }

    /// Looks where the backend is, and watches it.
    async fn find_backend(&mut self) -> Result<(), Error> {
        let tree = self.bus.store.tree();
        let names = ["backend", "backend-id"].map(|name| format!("{}/{name}", self.own));
        let mut values = join_all(names.iter().map(|name| tree.try_read(name))).await;
        let (domid, path) = (values.pop().transpose()?, values.pop().transpose()?);
        let text = |value: Option<Option<Vec<u8>>>| String::from_utf8(value??).ok();
        let found = text(path).zip(text(domid).and_then(|text| text.parse().ok().map(DomId)));
        let Some((path, domid)) = found.filter(|(path, _)| !path.is_empty()) else {
            if self.backend.take().is_some() {
                self.end_use(Stop::Gone);
                self.keys.clear();
                self.begin();
            }
            return Ok(());
        };
        let known = self.backend.as_ref();
        if known.is_some_and(|known| (&known.path, known.domid) == (&path, domid)) {
            return Ok(());
        }
        let is_first = known.is_none();
        let watch = self
            .bus
            .store
            .watch_with(&path, None, Repeats::Merge)
            .await?;
        self.backend = Some(Backend { path, domid, watch });
        self.end_use(Stop::Lost);
        self.begin();
        let state = format!("{}/state", self.own);
        let told: Option<u32> = match self.bus.store.tree().try_read(&state).await? {
            Some(value) => String::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok()),
            None => None,
        };
        // As the toolstack left it, unless somebody was here before.
        if is_first && told == Some(XenbusState::INITIALISING.0) {
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
            let text = match value {
                Ok(value) => value.and_then(|value| String::from_utf8(value).ok()),
                // What this guest may not see is not there.
                Err(error) if error.errno() == Some(Errno::EACCES) => None,
                Err(error) => return Err(error),
            };
            // What is no number is not what is not there.
            *number = text.map(|text| text.trim().parse::<u32>().unwrap_or(u32::MAX));
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

    /// What the backend offers.
    async fn offer(&self) -> Result<Offer, Error> {
        let backend = self.backend.as_ref().ok_or(ErrorKind::Disconnected)?;
        Ok(Offer {
            domid: backend.domid,
            backend: self.nodes(&backend.path, F::BACKEND_KEYS).await?,
            own: self.nodes(&self.own, F::OWN_KEYS).await?,
        })
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
    async fn tell(&mut self) -> Result<(), Error> {
        let offer = self.offer().await?;
        self.in_use = InUse::Yes;
        match self.driver.negotiate(&offer) {
            Ok(keys) => {
                self.write(&keys).await?;
                self.keys = keys.into_iter().map(|key| key.name).collect();
                self.phase = Phase::Told;
            }
            Err(fault) => self.fail(fault).await,
        }
        Ok(())
    }

    /// Writes keys and state, all at once; removes keys of an earlier connection.
    async fn write(&self, keys: &[Key]) -> Result<(), Error> {
        let obsolete = |name: &&String| !keys.iter().any(|key| key.name == **name);
        for _ in 0..TRIES {
            let transaction = self.bus.store.begin().await?;
            let tree = *transaction;
            for name in self.keys.iter().filter(obsolete) {
                tree.remove(&format!("{}/{name}", self.own)).await?;
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
                other => return other,
            }
        }
        Err(ErrorKind::Conflicts.into())
    }
}
