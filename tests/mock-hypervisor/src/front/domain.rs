//! What a test asks of a domain, and does to it.

use std::{collections::BTreeMap, ptr::NonNull};

use hypercall_abi::{
    DomId, Errno, HypercallNr, VcpuId,
    xen::{SharedInfo, StartInfo},
};

use crate::{
    core::{
        config::{Config, NoMemory},
        domain_state::Shutdown,
    },
    engine::{
        domain::{Domain, Upcall},
        host::Xen,
    },
};

impl Domain {
    /// A domain on a host of its own: see [`Xen::domain`].
    ///
    /// # Errors
    /// The host has not enough memory.
    pub fn new(config: Config) -> Result<Self, NoMemory> {
        Xen::new(config.time).domain(config)
    }

    /// What this guest does at an upcall: called on the vCPU's own thread when
    /// a hypercall returns or a sleep ends, with further upcalls held back,
    /// whenever the vCPU's words in the shared page ask for it. Only the first
    /// call of this counts.
    pub fn on_upcall(&self, upcall: impl Fn(VcpuId) + Send + Sync + 'static) {
        let _second: Result<(), Upcall> = self.upcall.set(Box::new(upcall));
    }

    /// A PV guest's start information; a PVH guest's (`struct hvm_start_info`) is
    /// at physical address 0.
    pub fn start_info(&self) -> NonNull<StartInfo> {
        self.start_info
    }

    /// The page that the hypervisor and the guest share.
    pub fn shared_info(&self) -> NonNull<SharedInfo> {
        self.shared_info
    }

    /// What the guest wrote to its console so far, where that is kept.
    pub fn console_output(&self) -> Vec<u8> {
        self.lock().world.console_output(self.domid)
    }

    /// Gives the guest's console something to read.
    pub fn console_input(&self, bytes: &[u8]) {
        let mut world = self.xen.0.lock();
        world.console_input(self.domid, bytes);
        self.xen.0.rouse(&mut world);
    }

    /// How many bytes that it was given it has no room for yet.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    pub(crate) fn console_waiting(&self) -> usize {
        self.lock().world.console_waiting(self.domid)
    }

    /// How the domain ended, if it did.
    pub fn shutdown(&self) -> Option<Shutdown> {
        self.lock().shutdown.clone()
    }

    /// How often its vCPUs have slept, and woken again: for an event, a time, or nothing.
    pub fn wakeups(&self) -> u64 {
        self.lock().sleeps
    }

    /// How often each hypercall was made, by number.
    pub fn calls(&self) -> BTreeMap<u32, u64> {
        self.lock().calls.clone()
    }

    /// Has every call of this number (and with this first argument, where one is given)
    /// answered with `errno` from now on, as by a hypervisor that does not offer it.
    pub fn refuse(&self, nr: HypercallNr, op: Option<usize>, errno: Errno) {
        self.refused.add(nr, op, errno);
    }

    /// Has the next so many uses of this domain's grants find their pages paged
    /// out (`GNTST_eagain`).
    pub fn page_out(&self, uses: u32) {
        self.lock().grants.paged_out = uses;
    }

    /// Has the domain's next list of grant operations fail after so many of its entries
    /// are done, as where Xen cannot read the next one.
    pub fn fail_grant_list_after(&self, entries: usize, errno: Errno) {
        self.lock().grants.fails_after = Some((entries, errno));
    }

    /// Destroys the domain, as `xl destroy` does: its code ends at its next
    /// hypercall, and others are told.
    pub fn destroy(&self) {
        let host = &self.xen.0;
        host.destroy(&mut host.lock(), self.domid);
    }

    /// How many of its pages are given out.
    pub fn pages_in_use(&self) -> usize {
        self.lock().memory.in_use()
    }

    /// How many ports are open, those of the console and the store included.
    pub fn open_ports(&self) -> usize {
        self.lock().ports.count()
    }

    /// How many of its grants are in use.
    pub fn grants_in_use(&self) -> usize {
        self.lock().grants.in_use()
    }

    /// The bytes of all that it grants to `peer` just now: what that one could read, if it
    /// looked at every reference.
    pub fn granted_to(&self, peer: DomId) -> Vec<Vec<u8>> {
        let state = self.lock();
        state.grants.granted_to(&state.memory, peer)
    }

    /// How many grants of others it has mapped.
    pub fn grants_mapped(&self) -> usize {
        self.lock().grants.maps.iter().flatten().count()
    }

    /// The calls that were answered with `ENOSYS`: number (those from 128 on are as 128), and
    /// first argument if that can be an operation; and how often.
    pub fn unknown_calls(&self) -> BTreeMap<(u32, Option<usize>), u64> {
        self.lock().unknown.clone()
    }
}
