//! The nodes.

use std::collections::BTreeMap;

use hypercall_abi::{DomId, io::xs_wire::XENSTORE_ABS_PATH_MAX};

use crate::core::event_channels::DOM0;

/// An error of the store's, by its name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no such node.
    ENOENT,
    /// Not for this domain.
    EACCES,
    /// This is no path, or no request.
    EINVAL,
    /// There is one already.
    EEXIST,
    /// The transaction met another.
    EAGAIN,
    /// Not now.
    EBUSY,
    /// More than a domain may have.
    ENOSPC,
    /// Longer than a message may be.
    E2BIG,
    /// The server has no such request.
    ENOSYS,
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for StoreError {}

/// What xenstored allows a domain by default.
const MAX_NODE_BYTES: usize = 2000;

pub(crate) type Perms = Vec<(char, DomId)>;

#[derive(Clone, Debug)]
struct Node {
    value: Vec<u8>,
    perms: Perms,
}

/// All nodes by their paths. The root is always there.
#[derive(Clone, Debug)]
pub(super) struct Tree(BTreeMap<String, Node>);

impl Default for Tree {
    fn default() -> Self {
        let root = Node {
            value: Vec::new(),
            // Nobody else sees what is there.
            perms: vec![('n', DOM0)],
        };
        Self(BTreeMap::from([("/".into(), root)]))
    }
}

/// A change to the tree.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write(DomId, String, Vec<u8>),
    Mkdir(DomId, String),
    Remove(String),
    SetPerms(String, Perms),
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

/// Whether the server takes this as an absolute path.
pub(super) fn is_valid(path: &str) -> bool {
    let names = path.strip_prefix('/');
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte);
    path == "/"
        || (names.is_some_and(|names| names.split('/').all(|name| !name.is_empty()))
            && path.len() <= XENSTORE_ABS_PATH_MAX
            && path.bytes().all(good))
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Sets a node, and makes those above it, which are as what is above them.
    pub(super) fn set(&mut self, path: &str, value: &[u8], perms: Option<Perms>) {
        if path != "/" && !self.0.contains_key(parent(path)) {
            self.set(parent(path), b"", None);
        }
        let inherited = || self.0.get(parent(path)).map(|node| node.perms.clone());
        let perms = perms.or_else(inherited).unwrap_or_default();
        let value = value.to_vec();
        self.0.insert(path.into(), Node { value, perms });
    }

    fn may(&self, domid: DomId, node: &Node, write: bool) -> bool {
        let Some(((default, owner), others)) = node.perms.split_first() else {
            return domid == DOM0;
        };
        if domid == DOM0 || domid == *owner {
            return true;
        }
        let own = others.iter().find(|(_, other)| *other == domid);
        let letter = own.map_or(*default, |(letter, _)| *letter);
        letter == 'b' || letter == if write { 'w' } else { 'r' }
    }

    fn get(&self, domid: DomId, path: &str) -> Result<&Node, StoreError> {
        if !is_valid(path) {
            return Err(StoreError::EINVAL);
        }
        match self.0.get(path) {
            Some(node) if self.may(domid, node, false) => Ok(node),
            // Who may not look there does not learn that there is nothing.
            None if self.may_see(domid, path) => Err(StoreError::ENOENT),
            _ => Err(StoreError::EACCES),
        }
    }

    /// Whether a domain may learn that this path changed: of a node that is
    /// gone, what the nearest that is left says.
    pub(super) fn may_see(&self, domid: DomId, path: &str) -> bool {
        match self.0.get(path) {
            Some(node) => self.may(domid, node, false),
            None => path == "/" || self.may_see(domid, parent(path)),
        }
    }

    pub(super) fn read(&self, domid: DomId, path: &str) -> Result<&[u8], StoreError> {
        self.get(domid, path).map(|node| node.value.as_slice())
    }

    pub(super) fn perms(&self, domid: DomId, path: &str) -> Result<&Perms, StoreError> {
        self.get(domid, path).map(|node| &node.perms)
    }

    pub(super) fn list(&self, domid: DomId, path: &str) -> Result<Vec<u8>, StoreError> {
        self.get(domid, path)?;
        let prefix = if path == "/" {
            "/".into()
        } else {
            format!("{path}/")
        };
        let mut names = Vec::new();
        for (other, _) in self.0.range(prefix.clone()..) {
            let Some(name) = other.strip_prefix(&prefix) else {
                break;
            };
            if !name.is_empty() && !name.contains('/') {
                names.extend(name.bytes());
                names.push(0);
            }
        }
        Ok(names)
    }

    /// What counts of a node: its value and its children's names.
    fn size(&self, path: &str) -> usize {
        let value = self.0.get(path).map_or(0, |node| node.value.len());
        value + self.list(DOM0, path).map_or(0, |names| names.len())
    }

    /// Whether a change stays within what a domain may have.
    pub(super) fn check_quota(
        &self,
        domid: DomId,
        change: &Change,
        nodes: usize,
    ) -> Result<(), StoreError> {
        let (path, value) = match change {
            Change::Write(_, path, value) => (path, value.len()),
            Change::Mkdir(_, path) => (path, 0),
            Change::Remove(_) | Change::SetPerms(..) => return Ok(()),
        };
        if domid == DOM0 {
            return Ok(());
        }
        let old = self.0.get(path).map_or(0, |node| node.value.len());
        if self.size(path) - old + value > MAX_NODE_BYTES {
            return Err(StoreError::ENOSPC);
        }
        if self.0.contains_key(path) {
            return Ok(());
        }
        let owned = |node: &&Node| node.perms.first().is_some_and(|(_, owner)| *owner == domid);
        let name = path.len() - parent(path).len();
        if self.0.values().filter(owned).count() >= nodes
            || self.size(parent(path)) + name > MAX_NODE_BYTES
        {
            return Err(StoreError::ENOSPC);
        }
        Ok(())
    }

    /// Whether a domain may make this change.
    pub(super) fn check(&self, domid: DomId, change: &Change) -> Result<(), StoreError> {
        let (Change::Write(_, path, _)
        | Change::Mkdir(_, path)
        | Change::Remove(path)
        | Change::SetPerms(path, _)) = change;
        if !is_valid(path) {
            return Err(StoreError::EINVAL);
        }
        let there = self.0.get(path);
        match (change, there) {
            (Change::SetPerms(..), None) => Err(StoreError::ENOENT),
            (Change::SetPerms(..), Some(node)) => {
                let owner = node.perms.first().map(|(_, owner)| *owner);
                if domid == DOM0 || owner == Some(domid) {
                    Ok(())
                } else {
                    Err(StoreError::EACCES)
                }
            }
            (Change::Remove(_), None) if self.0.contains_key(parent(path)) => Ok(()),
            (Change::Remove(_), None) => Err(StoreError::ENOENT),
            (_, Some(node)) if self.may(domid, node, true) => Ok(()),
            (_, Some(_)) => Err(StoreError::EACCES),
            (_, None) => {
                // The nearest node that is there decides.
                let mut above = parent(path);
                while !self.0.contains_key(above) {
                    above = parent(above);
                }
                if self
                    .0
                    .get(above)
                    .is_some_and(|node| self.may(domid, node, true))
                {
                    Ok(())
                } else {
                    Err(StoreError::EACCES)
                }
            }
        }
    }

    /// Makes a change, and says which nodes it touched.
    fn apply(&mut self, change: &Change) -> Result<Vec<String>, StoreError> {
        match change {
            Change::Write(domid, path, value) => {
                self.create(*domid, path);
                let node = self.0.get_mut(path).ok_or(StoreError::EINVAL)?;
                node.value.clone_from(value);
                Ok(vec![path.clone()])
            }
            Change::Mkdir(domid, path) => {
                if self.0.contains_key(path) {
                    return Ok(Vec::new());
                }
                self.create(*domid, path);
                Ok(vec![path.clone()])
            }
            Change::Remove(path) => {
                if path == "/" {
                    return Err(StoreError::EINVAL);
                }
                let below = format!("{path}/");
                let gone = |other: &&String| *other == path || other.starts_with(&below);
                let gone: Vec<String> = self.0.keys().filter(gone).cloned().collect();
                for path in &gone {
                    self.0.remove(path);
                }
                Ok(gone)
            }
            Change::SetPerms(path, perms) => {
                let node = self.0.get_mut(path).ok_or(StoreError::ENOENT)?;
                node.perms.clone_from(perms);
                Ok(vec![path.clone()])
            }
        }
    }

    /// Makes a node and those above it, with what they inherit, owned by their
    /// maker.
    fn create(&mut self, domid: DomId, path: &str) {
        if self.0.contains_key(path) {
            return;
        }
        self.create(domid, parent(path));
        let mut perms = self
            .0
            .get(parent(path))
            .map(|node| node.perms.clone())
            .unwrap_or_default();
        if let (true, Some((_, owner))) = (domid != DOM0, perms.first_mut()) {
            *owner = domid;
        }
        let node = Node {
            value: Vec::new(),
            perms,
        };
        self.0.insert(path.into(), node);
    }
}

/// The tree, and when what in it changed.
#[derive(Debug, Default)]
pub(super) struct VersionedTree {
    pub(super) now: Tree,
    pub(super) generation: u64,
    changed: BTreeMap<String, u64>,
}

impl VersionedTree {
    pub(super) fn apply(&mut self, change: &Change) -> Result<Vec<String>, StoreError> {
        let touched = self.now.apply(change)?;
        self.generation += 1;
        for path in &touched {
            self.changed.insert(path.clone(), self.generation);
            // A list of children may have changed.
            self.changed.insert(parent(path).into(), self.generation);
        }
        Ok(touched)
    }

    /// Whether one of these paths changed after `generation`.
    pub(super) fn changed_since(&self, paths: &[String], generation: u64) -> bool {
        let changed = |path: &String| self.changed.get(path).is_some_and(|at| *at > generation);
        paths.iter().any(changed)
    }
}

/// The same change in a copy of the tree.
pub(super) fn apply_to(tree: &mut Tree, change: &Change) -> Result<(), StoreError> {
    tree.apply(change).map(|_| ())
}
