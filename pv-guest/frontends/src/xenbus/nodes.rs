//! What a session reads of the store, and writes there.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use hypercall_abi::{DomId, Errno, io::xenbus::XenbusState, platform::Platform};
use xenstore_client::{Error, ErrorKind, InTurn, Path, Ring, Turn, value};

use super::{
    Fault, Key, Nodes, Offer, Quote, TimedOut,
    handshake::{Online, Seen},
    session::Session,
    together::together,
};

/// How often a transaction that meets others is tried before there is a pause.
const TRIES: u32 = 10;
/// How often those who wait for a turn look whether others go on with theirs.
const TURN_LOOK: Duration = Duration::from_millis(250);

/// A device's directory.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) state: Option<XenbusState>,
}

/// Where a device's backend is.
pub(super) enum Place {
    /// There is no such device, or not all of it yet.
    Nowhere,
    /// There, and this domain has it.
    At(String, DomId),
    /// That cannot be.
    Nonsense(Fault),
}

impl Place {
    fn read(path: Option<Vec<u8>>, domid: Option<Vec<u8>>) -> Self {
        let nonsense = |key, value: &[u8]| {
            let value = Quote::new(value);
            Self::Nonsense(Fault::Device { key, value })
        };
        let (Some(path), Some(domid)) = (path, domid) else {
            return Self::Nowhere;
        };
        let Some(text) = value::text(&path).filter(|text| Path::new(text).is_ok()) else {
            return nonsense("backend", &path);
        };
        match value::parse_c_int(&domid).map(u16::try_from) {
            Some(Ok(domid)) => Self::At(text.into(), DomId(domid)),
            _ => nonsense("backend-id", &domid),
        }
    }
}

/// What the store has as the frontend's state, if the device is still the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// What was written last.
    AsSaid,
    /// Anything: nothing was written, or it is not known whether it was.
    Anything,
}

/// What became of what was to be written.
pub(super) enum Written {
    All,
    /// There is no directory for it, or another device's.
    NoDevice,
}

impl<'g, P: Platform> Session<'g, '_, P> {
    /// The values of some nodes of a directory; none: there is no such node.
    async fn read(&self, folder: &str, names: &[&str]) -> Vec<Result<Option<Vec<u8>>, Error>> {
        let tree = self.bus.store().tree();
        let read = async |name: &&str| tree.try_read(&format!("{folder}/{name}")).await;
        together(names.iter().map(read)).await
    }

    pub(super) async fn look_at_device(&self) -> Result<Found, Error> {
        let values = self
            .read(&self.own, &["backend", "backend-id", "state"])
            .await;
        let mut found = [None, None, None];
        for (place, value) in found.iter_mut().zip(values) {
            *place = value?;
        }
        let [path, domid, state] = found;
        Ok(Found {
            place: Place::read(path, domid),
            state: state.and_then(|text| value::parse(&text).map(XenbusState)),
        })
    }

    pub(super) async fn see(&self, path: &str) -> Result<Seen, Error> {
        let values = self.read(path, &["state", "online"]).await;
        let mut numbers = [None; 2];
        for (number, value) in numbers.iter_mut().zip(values) {
            let text = match value {
                Ok(value) => value,
                // What this guest may not see is not there.
                Err(error) if error.errno() == Some(Errno::EACCES) => None,
                Err(error) => return Err(error),
            };
            // What is no number is not what is not there.
            *number = text.map(|text| value::parse::<u32>(&text).unwrap_or(u32::MAX));
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
    pub(super) async fn offer(&self, seen: Seen) -> Result<Option<Offer>, Error> {
        let backend = self.backend.as_ref().ok_or(ErrorKind::Disconnected)?;
        let protocol = self.driver.protocol();
        let offer = Offer {
            domid: backend.domid,
            backend: self.nodes(&backend.path, protocol.backend_keys).await?,
            own: self.nodes(&self.own, protocol.own_keys).await?,
        };
        let again = self.see(&backend.path).await?;
        Ok((again == seen).then_some(offer))
    }

    async fn nodes(&self, folder: &str, names: &[&str]) -> Result<Nodes, Error> {
        let values = self.read(folder, names).await;
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

    /// Waits for a turn to have a transaction. Of those who have one, some may be looked
    /// after by nobody any more: they do not keep others from theirs.
    async fn wait_for_turn(&self) -> Turn<'g, Ring<'g, P>> {
        let store = self.bus.store();
        loop {
            match self.bus.timeout(TURN_LOOK, store.turn()).await {
                Ok(turn) => return turn,
                Err(TimedOut) => store.end_idle_turns(self.bus.now_ns()),
            }
        }
    }

    /// Begins a transaction in which the device is there, as it was when it was looked at;
    /// `None`: it is not. What was taken away is not brought back by a write.
    async fn begin_in_device(&self, held: Held) -> Result<Option<InTurn<'g, Ring<'g, P>>>, Error> {
        let transaction = self.wait_for_turn().await.begin().await?;
        let tree = **transaction;
        let [backend, state] = ["backend", "state"].map(|name| format!("{}/{name}", self.own));
        let there = tree.try_read(&backend).await?;
        let state = tree.try_read(&state).await?;
        let state = state.and_then(|text| value::parse(&text).map(XenbusState));
        let known = self.backend.as_ref().map(|backend| backend.path.as_str());
        let is_same = there.as_deref().and_then(value::text) == known;
        let is_ours = held == Held::Anything || state == self.said;
        Ok((is_same && is_ours).then_some(transaction))
    }

    /// Writes keys and state, and removes all other keys that the protocol has, at once.
    pub(super) async fn write(&self, keys: &[Key], held: Held) -> Result<Written, Error> {
        let protocol = self.driver.protocol();
        debug_assert!(
            keys.iter().all(|key| protocol.knows(&key.name)),
            "FRONTEND_KEYS of {} lacks one of {keys:?}",
            protocol.kind
        );
        for _ in 0..TRIES {
            let Some(transaction) = self.begin_in_device(held).await? else {
                return Ok(Written::NoDevice);
            };
            let tree = **transaction;
            let nodes = match tree.directory(&self.own).await {
                Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(Written::NoDevice),
                other => other?,
            };
            // A queue's directory is removed as a whole, also if it is made anew.
            let is_stale =
                |node: &&String| protocol.knows(node) && !keys.iter().any(|key| key.name == **node);
            for node in nodes.iter().filter(is_stale) {
                tree.remove(&format!("{}/{node}", self.own)).await?;
            }
            let writes = keys.iter().map(async |key| {
                let path = format!("{}/{}", self.own, key.name);
                tree.write(&path, &key.value).await
            });
            for written in together(writes).await {
                written?;
            }
            let state = format!("{}/state", self.own);
            tree.write_as(&state, protocol.told.0).await?;
            match transaction.commit().await {
                Err(error) if error.errno() == Some(Errno::EAGAIN) => {}
                other => return other.map(|()| Written::All),
            }
        }
        Err(ErrorKind::Conflicts.into())
    }

    /// Writes the frontend's state, unless the device is not there any more.
    pub(super) async fn say(&mut self, state: XenbusState) -> Result<(), Error> {
        if self.backend.is_none() {
            self.pending_state = None;
            return Ok(());
        }
        // Until the store answers it may have been written or not, and if that is never known
        // it is written again.
        let held = core::mem::replace(&mut self.held, Held::Anything);
        self.pending_state = Some(state);
        self.put_state(state, held).await?;
        (self.said, self.pending_state, self.held) = (Some(state), None, Held::AsSaid);
        Ok(())
    }

    async fn put_state(&self, state: XenbusState, held: Held) -> Result<(), Error> {
        let path = format!("{}/state", self.own);
        for _ in 0..TRIES {
            let Some(transaction) = self.begin_in_device(held).await? else {
                // Seen when the device is looked for the next time.
                return Ok(());
            };
            transaction.write_as(&path, state.0).await?;
            match transaction.commit().await {
                Err(error) if error.errno() == Some(Errno::EAGAIN) => {}
                other => return other,
            }
        }
        Err(ErrorKind::Conflicts.into())
    }

    /// Writes why a device cannot be used: only for people to read.
    pub(super) async fn tell_people(&self, fault: Fault) {
        let path = format!("error/{}/error", self.own);
        let _refused = self.bus.store().tree().write_as(&path, fault).await;
    }
}
