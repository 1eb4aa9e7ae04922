//! The store: a tree of nodes, transactions and watches, served to each domain
//! over its ring. Modelled on `docs/misc/xenstore.txt` and
//! `docs/misc/xenstore-ring.txt`.

mod request;
mod ring;
mod tree;

use std::collections::BTreeMap;

use hypercall_abi::{DomId, Mfn, Port, io::xs_wire::XsMessageType};

pub(crate) use ring::Ring;
pub(crate) use tree::Change;
pub use tree::StoreError;
use tree::{Tree, VersionedTree};

use crate::core::event_channels::DOM0;

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
    /// So many requests more are refused, for this reason.
    refused: Option<(u64, StoreError)>,
}

/// The directory of a domain.
fn home(domid: DomId) -> String {
    format!("/local/domain/{domid}")
}

impl Store {
    /// Allows each domain so much from now on.
    pub(crate) fn set_quotas(&mut self, quotas: StoreQuotas) {
        self.quotas = quotas;
    }

    /// How long it takes to look at what a domain asks.
    pub(crate) const fn latency_ns(&self) -> u64 {
        self.latency_ns
    }

    pub(crate) fn set_latency(&mut self, latency_ns: u64) {
        self.latency_ns = latency_ns;
    }

    /// So many requests more are refused, for this reason.
    pub(crate) fn refuse(&mut self, requests: u64, why: StoreError) {
        self.refused = Some((requests, why));
    }

    /// How often a domain changed something, in a transaction or not.
    pub(crate) fn changes(&self, domid: DomId) -> u64 {
        self.written.get(&domid).copied().unwrap_or(0)
    }

    /// How many watches a domain has set.
    pub(crate) fn watches(&self, domid: DomId) -> usize {
        let watches = self.watches.iter();
        watches.filter(|watch| watch.domid == domid).count()
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.tree.now.len()
    }

    /// These bytes go to a domain, whatever they are.
    pub(crate) fn inject(&mut self, domid: DomId, bytes: &[u8]) {
        self.events.push((domid, bytes.to_vec()));
    }

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
    ///
    /// # Errors
    /// [`StoreError::ENOENT`].
    pub(crate) fn read(&self, path: &str) -> Result<&[u8], StoreError> {
        self.tree.now.read(DOM0, path)
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
    pub(crate) fn change(&mut self, change: &Change) -> Result<(), StoreError> {
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
