//! The store as domain 0 sees it.

use hypercall_abi::DomId;

use crate::{
    core::event_channels::DOM0,
    engine::host::Xen,
    services::xenstore::{Change, StoreError, StoreQuotas},
};

impl Xen {
    /// A node's value.
    ///
    /// # Errors
    /// [`StoreError::ENOENT`].
    pub fn store_read(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.0.lock().store.read(path).map(<[u8]>::to_vec)
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
        self.0.changed(&mut world);
        Ok(())
    }

    /// Allows each domain so much of the store from now on.
    pub fn set_store_quotas(&self, quotas: StoreQuotas) {
        self.0.lock().store.set_quotas(quotas);
    }

    /// Has the store answer so many nanoseconds after it was asked, as a process of another
    /// domain does; at first it answers within the hypercall that notifies it.
    pub fn set_store_latency(&self, latency_ns: u64) {
        self.0.lock().store.set_latency(latency_ns);
    }

    /// Refuses the next so many requests of guests.
    pub fn store_refuse(&self, requests: u64, why: StoreError) {
        self.0.lock().store.refuse(requests, why);
    }

    /// How often a domain changed something, in a transaction or not.
    pub fn store_changes(&self, domid: DomId) -> u64 {
        self.0.lock().store.changes(domid)
    }

    /// How many watches `domid` has set.
    pub fn store_watches(&self, domid: DomId) -> usize {
        self.0.lock().store.watches(domid)
    }

    /// How many nodes there are.
    pub fn store_nodes(&self) -> usize {
        self.0.lock().store.nodes()
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
        world.store.inject(domid, bytes);
        self.0.changed(&mut world);
    }
}
