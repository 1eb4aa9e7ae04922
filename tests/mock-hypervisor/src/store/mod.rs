//! The store: a tree of nodes, transactions and watches, served to each domain
//! over its ring. Modelled on `docs/misc/xenstore.txt` and
//! `docs/misc/xenstore-ring.txt`.

mod request;
mod ring;
mod tree;

use std::collections::BTreeMap;

use hypercall_abi::{DomId, Mfn, Port, io::xs_wire::XsMessageType};

pub(crate) use ring::Ring;
pub use tree::StoreError;
use tree::{Change, Tree, VersionedTree};

use crate::{Xen, ports::DOM0, world::World};

/// What the store allows each domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreQuotas {
    /// Watches that are set at once.
    pub watches: usize,
    /// Transactions that are open at once.
    pub transactions: usize,
    /// Nodes that it owns.
    pub nodes: usize,
}

impl Default for StoreQuotas {
    /// As xenstored has it.
    fn default() -> Self {
        Self {
            watches: 128,
            transactions: 10,
            nodes: 1000,
        }
    }
}

/// Somebody's interest in a path.
#[derive(Clone, Debug)]
struct Watch {
    domid: DomId,
    /// Absolute, or one of the special ones that begin with `@`.
    path: String,
    token: Vec<u8>,
    /// What to take off the paths that are told, if the watch was relative.
    prefix: usize,
    depth: Option<usize>,
}

#[derive(Debug)]
struct Transaction {
    domid: DomId,
    started: u64,
    tree: Tree,
    seen: Vec<String>,
    changes: Vec<Change>,
}

/// The server's state.
#[derive(Debug, Default)]
pub(crate) struct Store {
    tree: VersionedTree,
    watches: Vec<Watch>,
    transactions: BTreeMap<u32, Transaction>,
    last_transaction: u32,
    /// Messages for domains that are not in their rings yet.
    events: Vec<(DomId, Vec<u8>)>,
    quotas: StoreQuotas,
    /// Changes that domains asked for.
    written: BTreeMap<DomId, u64>,
    /// How long it takes to look at what a domain asks.
    latency_ns: u64,
    /// When it looks at what these have asked.
    due_ns: BTreeMap<DomId, u64>,
    /// So many requests more are refused, for this reason.
    refused: Option<(u64, StoreError)>,
}

/// The directory of a domain.
fn home(domid: DomId) -> String {
    format!("/local/domain/{domid}")
}

impl World {
    /// A domain rang: it is served at once, or by and by.
    pub(crate) fn ring_store(&mut self, domid: DomId) {
        match self.store.latency_ns {
            0 => self.serve_store(domid),
            latency_ns => {
                let due_ns = self.backend_ns().saturating_add(latency_ns);
                self.store.due_ns.entry(domid).or_insert(due_ns);
            }
        }
    }

    /// When the store has something to do next.
    pub(crate) fn next_store_ns(&self) -> Option<u64> {
        self.store.due_ns.values().min().copied()
    }

    /// Does what is due, and says whether that was anything.
    pub(crate) fn tick_store(&mut self, now_ns: u64) -> bool {
        let due: Vec<DomId> = self
            .store
            .due_ns
            .extract_if(.., |_, due_ns| *due_ns <= now_ns)
            .map(|(domid, _)| domid)
            .collect();
        for domid in &due {
            self.serve_store(*domid);
        }
        !due.is_empty()
    }
}

impl Store {
    /// Why the next request is refused, if it is to be.
    fn next_refused(&mut self) -> Option<StoreError> {
        let (left, why) = self.refused.as_mut()?;
        *left = left.checked_sub(1)?;
        Some(*why)
    }

    /// A domain is there: it gets its directory.
    pub(crate) fn introduce(&mut self, domid: DomId) {
        let home = home(domid);
        let tree = &mut self.tree.now;
        let read = vec![('n', DOM0), ('r', domid)];
        let own = vec![('n', domid)];
        // As libxl makes it: the guest reads its directory, and writes no more than
        // what is its own there.
        tree.set(&home, b"", Some(read));
        for (name, value) in [
            ("domid", domid.to_string()),
            ("name", format!("guest-{domid}")),
            ("vm", format!("/vm/{domid}")),
            ("cpu", String::new()),
            ("memory", String::new()),
            ("device", String::new()),
            ("control", String::new()),
            (
                "control/platform-feature-multiprocessor-suspend",
                "1".to_owned(),
            ),
            ("control/platform-feature-xs_reset_watches", "1".to_owned()),
        ] {
            tree.set(&format!("{home}/{name}"), value.as_bytes(), None);
        }
        for name in [
            "device/suspend/event-channel",
            "control/shutdown",
            "control/feature-poweroff",
            "control/feature-reboot",
            "control/feature-suspend",
            "control/sysrq",
            "data",
            "attr",
            "drivers",
            "error",
            "feature",
        ] {
            tree.set(&format!("{home}/{name}"), b"", Some(own.clone()));
        }
        self.fire("@introduceDomain");
    }

    /// Where a domain's console is, for whoever connects a terminal.
    pub(crate) fn tell_console(&mut self, domid: DomId, ring: Mfn, port: Port) {
        let perms = vec![('n', DOM0), ('r', domid)];
        for (name, value) in [
            ("ring-ref", ring.0.to_string()),
            ("port", port.0.to_string()),
            ("type", "xenconsoled".into()),
            ("limit", "1048576".into()),
        ] {
            let path = format!("{}/console/{name}", home(domid));
            self.tree
                .now
                .set(&path, value.as_bytes(), Some(perms.clone()));
        }
    }

    /// A domain is gone.
    pub(crate) fn release(&mut self, domid: DomId) {
        self.forget(domid);
        self.due_ns.remove(&domid);
        let home = home(domid);
        let _gone = self.tree.apply(&Change::Remove(home.clone()));
        self.fire(&home);
        self.fire("@releaseDomain");
    }

    /// Ends a domain's watches and transactions. What it rang for is still to be looked at:
    /// an event outlives the daemon.
    pub(crate) fn forget(&mut self, domid: DomId) {
        self.watches.retain(|watch| watch.domid != domid);
        self.transactions.retain(|_, other| other.domid != domid);
        self.events.retain(|(other, _)| *other != domid);
    }

    /// Tells those who watch `path` or what is above it.
    fn fire(&mut self, path: &str) {
        self.fire_where(path, |_| true);
    }

    fn fire_where(&mut self, path: &str, wanted: impl Fn(&Watch) -> bool) {
        for watch in self.watches.iter().filter(|watch| wanted(watch)) {
            let below = path
                .strip_prefix(watch.path.as_str())
                .filter(|rest| rest.is_empty() || rest.starts_with('/') || watch.path == "/");
            let Some(below) = below else {
                continue;
            };
            let depth = below.split('/').filter(|name| !name.is_empty()).count();
            if watch.depth.is_some_and(|most| depth > most) {
                continue;
            }
            if !path.starts_with('@') && !self.tree.now.may_see(watch.domid, path) {
                continue;
            }
            let told = &path.as_bytes()[watch.prefix.min(path.len())..];
            let event = watch_event(told, &watch.token);
            self.events.push((watch.domid, event));
        }
    }

    /// Domain 0 writes a node.
    pub(crate) fn write(&mut self, path: &str, value: &[u8]) {
        let change = Change::Write(DOM0, path.into(), value.into());
        let _no_path = self.change(&change);
    }

    /// Domain 0 reads a node.
    pub(crate) fn read(&self, path: &str) -> Option<&[u8]> {
        self.tree.now.read(DOM0, path).ok()
    }

    /// Domain 0 makes a node, which has these owners and readers.
    pub(crate) fn provide(&mut self, path: &str, value: &[u8], perms: Vec<(char, DomId)>) {
        self.write(path, value);
        let _no_path = self.change(&Change::SetPerms(path.into(), perms));
    }

    /// Domain 0 removes a node and all below it.
    pub(crate) fn remove(&mut self, path: &str) {
        let _gone = self.change(&Change::Remove(path.into()));
    }

    /// Ends a transaction that is not to take place.
    pub(crate) fn give_up(&mut self, transaction: u32) {
        self.transactions.remove(&transaction);
    }

    /// Applies a change, and tells those who watch it.
    fn change(&mut self, change: &Change) -> Result<(), StoreError> {
        let touched = self.tree.apply(change)?;
        for path in &touched {
            match change {
                // Of what lay below, only those hear who watched just that.
                Change::Remove(root) if path != root => {
                    self.fire_where(path, |watch| watch.path == *path);
                }
                _ => self.fire(path),
            }
        }
        Ok(())
    }
}

fn watch_event(path: &[u8], token: &[u8]) -> Vec<u8> {
    let payload = [path, b"\0", token, b"\0"].concat();
    ring::message(XsMessageType::WATCH_EVENT, 0, 0, &payload)
}

/// The store as domain 0 sees it.
impl Xen {
    /// A node's value.
    ///
    /// # Errors
    /// [`StoreError::ENOENT`].
    pub fn store_read(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        let world = self.0.lock();
        world.store.tree.now.read(DOM0, path).map(<[u8]>::to_vec)
    }

    /// Writes a node, and makes it if need be.
    ///
    /// # Errors
    /// [`StoreError::EINVAL`]: this is no path.
    pub fn store_write(&self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.store_change(&Change::Write(DOM0, path.into(), value.into()))
    }

    /// Gives a node to a domain, which may write it from then on.
    ///
    /// # Errors
    /// [`StoreError::ENOENT`].
    pub fn store_give(&self, path: &str, domid: DomId) -> Result<(), StoreError> {
        self.store_change(&Change::SetPerms(path.into(), vec![('n', domid)]))
    }

    /// Gives a node to a domain, and lets others read it.
    ///
    /// # Errors
    /// [`StoreError::ENOENT`].
    pub fn store_share(
        &self,
        path: &str,
        owner: DomId,
        readers: &[DomId],
    ) -> Result<(), StoreError> {
        let readers = readers.iter().map(|reader| ('r', *reader));
        let perms = std::iter::once(('n', owner)).chain(readers).collect();
        self.store_change(&Change::SetPerms(path.into(), perms))
    }

    /// Removes a node and all below it.
    ///
    /// # Errors
    /// [`StoreError::ENOENT`].
    pub fn store_remove(&self, path: &str) -> Result<(), StoreError> {
        self.store_change(&Change::Remove(path.into()))
    }

    fn store_change(&self, change: &Change) -> Result<(), StoreError> {
        let mut world = self.0.lock();
        world.store.change(change)?;
        world.push_store_events();
        self.0.rouse(&mut world);
        Ok(())
    }

    /// Allows each domain so much of the store from now on.
    pub fn set_store_quotas(&self, quotas: StoreQuotas) {
        self.0.lock().store.quotas = quotas;
    }

    /// Has the store answer so many nanoseconds after it was asked, as a process of another
    /// domain does; at first it answers within the hypercall that notifies it.
    pub fn set_store_latency(&self, latency_ns: u64) {
        self.0.lock().store.latency_ns = latency_ns;
    }

    /// Refuses the next so many requests of guests.
    pub fn store_refuse(&self, requests: u64, why: StoreError) {
        self.0.lock().store.refused = Some((requests, why));
    }

    /// How often a domain changed something, in a transaction or not.
    pub fn store_changes(&self, domid: DomId) -> u64 {
        let world = self.0.lock();
        world.store.written.get(&domid).copied().unwrap_or(0)
    }

    /// How many watches `domid` has set.
    pub fn store_watches(&self, domid: DomId) -> usize {
        let world = self.0.lock();
        let watches = world.store.watches.iter();
        watches.filter(|watch| watch.domid == domid).count()
    }

    /// How many nodes there are.
    pub fn store_nodes(&self) -> usize {
        self.0.lock().store.tree.now.len()
    }

    /// What happens when the server's process is replaced and has no memory of
    /// `domid`'s watches and transactions: its ring is out of order until the
    /// guest reconnects.
    pub fn store_restart(&self, domid: DomId) {
        let mut world = self.0.lock();
        self.0.restart_store(&mut world, domid);
    }

    /// Puts raw bytes into a domain's ring, as a server that has gone mad
    /// would.
    pub fn store_inject(&self, domid: DomId, bytes: &[u8]) {
        let mut world = self.0.lock();
        world.store.events.push((domid, bytes.to_vec()));
        world.push_store_events();
        self.0.rouse(&mut world);
    }
}
