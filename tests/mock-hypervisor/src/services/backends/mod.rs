//! The other side of devices, and the toolstack that makes them: what blkback,
//! and `xl` before it, do for a guest.
//!
//! A backend is a service of the host's, not a guest: it acts when its frontend
//! rings or writes to the store, and when its time has come. It uses grants and
//! ports as its domain would, through the same checks.

mod blk;
mod device;
mod mischief;
mod net;
mod segments;
mod steering;
mod toolstack;

use std::{collections::BTreeMap, mem::offset_of};

use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE, Port,
    io::{
        ring::{RingMemory, Sring, slots},
        xenbus::XenbusState,
    },
    peer::PeerSlice,
};

use crate::{
    core::{
        channels::FIRST_SERVICE_PORT, event_channels::Binding, grant_uses::Use, memory::Access,
    },
    services::Services,
};

pub use blk::{DiskConfig, Medium};
use device::Device;
pub use mischief::Mischief;
pub use net::NicConfig;
pub use segments::{Checksum, Frame, Segments};
pub use toolstack::{DiskId, NicId};

/// All backends of a host.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    all: BTreeMap<u64, Backend>,
    last: u64,
    /// Packets for those who look at a bridge from outside.
    pub(crate) taps: net::Taps,
}

/// One device's.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Who has it.
    domid: DomId,
    /// Whose frontend it serves.
    front: DomId,
    pub(crate) path: String,
    front_path: String,
    pub(crate) state: XenbusState,
    /// Whether the toolstack wants it to stay when the frontend ends.
    online: bool,
    /// The frontend's state as it was seen last.
    seen: Option<XenbusState>,
    /// It was started anew, and takes what the frontend says then for new.
    looks_ns: Option<u64>,
    pub(crate) device: Device,
    /// It is taken away, and is to be given back when it has gone.
    is_given_back: bool,
    /// How often it rings still without a reason, and when next.
    storm: Option<(u32, u64)>,
}

/// What befalls the backends at a call: with a number that says which of them, and
/// how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackendMishaps {
    pub(crate) restart: Option<u64>,
    pub(crate) detach: Option<u64>,
    pub(crate) resize: Option<u64>,
}

/// Pages of the frontend's that a backend has mapped for good.
#[derive(Debug)]
pub(crate) struct Mapped {
    uses: Vec<Use>,
    pages: Vec<PeerSlice<'static>>,
}

impl RingMemory for Mapped {
    fn pages(&self) -> usize {
        self.pages.len()
    }
    fn page(&self, index: usize) -> Option<PeerSlice<'_>> {
        self.pages.get(index).copied()
    }
}

impl Mapped {
    fn first(&self) -> Option<PeerSlice<'static>> {
        self.pages.first().copied()
    }

    /// Puts an answer into a ring, whether there is room for one or not.
    fn force(&self, slot_bytes: usize, response: &[u8]) {
        let Some(page) = self.first() else {
            return;
        };
        let Some(produced) = page.at::<u32>(offset_of!(Sring, rsp_prod)) else {
            return;
        };
        let slots = slots(self.pages.len() * PAGE_SIZE, slot_bytes);
        let index = produced.load_acquire().trust();
        let slot = size_of::<Sring>() + index as usize % slots.max(1) * slot_bytes;
        if let Some(slot) = page.get(slot, slot_bytes) {
            slot.copy_from(response);
        }
        produced.store_release(index.wrapping_add(1));
    }
}

impl Services {
    /// Maps pages, all or none.
    fn map(&mut self, back: DomId, front: DomId, grefs: &[GrantRef]) -> Option<Mapped> {
        let mut mapped = Mapped {
            uses: Vec::new(),
            pages: Vec::new(),
        };
        for gref in grefs {
            let used = self.acquire(back, front, *gref, Access::Write);
            let page = used
                .ok()
                .and_then(|used| Some((self.granted_page(&used)?, used)));
            let Some((page, used)) = page else {
                self.unmap_pages(&mapped);
                return None;
            };
            mapped.pages.push(page);
            mapped.uses.push(used);
        }
        Some(mapped)
    }

    fn unmap_pages(&mut self, mapped: &Mapped) {
        for used in &mapped.uses {
            self.release(used, Access::Write);
        }
    }

    /// Binds to a port that the frontend offers; says to which end of its own.
    fn bind(&mut self, back: DomId, front: DomId, port: Port) -> Option<Port> {
        if self.binding(front, port) != Ok(Binding::Unbound(back)) {
            return None;
        }
        // Numbers that no port of a guest's has.
        self.backends.last += 1;
        let local = Port(FIRST_SERVICE_PORT | (self.backends.last as u32 & 0xff_ffff));
        if let Some(state) = self.domains.get_mut(&front) {
            state.ports.rebind(port, Binding::Interdomain(back, local));
        }
        Some(local)
    }

    fn unbind(&mut self, back: DomId, front: DomId, port: Port, local: Port) {
        let bound = Binding::Interdomain(back, local);
        if self.binding(front, port) == Ok(bound)
            && let Some(state) = self.domains.get_mut(&front)
        {
            state.ports.rebind(port, Binding::Unbound(back));
        }
    }

    /// Calls `act` with a backend, which is not in its place meanwhile.
    pub(crate) fn with_backend<T>(
        &mut self,
        id: u64,
        act: impl FnOnce(&mut Self, &mut Backend) -> T,
    ) -> Option<T> {
        let mut backend = self.backends.all.remove(&id)?;
        let value = act(self, &mut backend);
        self.backends.all.insert(id, backend);
        Some(value)
    }

    /// A frontend notified its backend.
    pub(super) fn serve_backend(&mut self, domid: DomId, local: Port) {
        let found = self.backends.all.iter().find(|(_, backend)| {
            backend.domid == domid && backend.device.ports().iter().any(|(_, own)| *own == local)
        });
        if let Some(id) = found.map(|(id, _)| *id) {
            self.with_backend(id, |services, backend| backend.serve(services));
            self.switch_frames();
        }
    }

    /// When a backend has something to do next.
    pub(crate) fn next_backend_ns(&self) -> Option<u64> {
        let backends = self.backends.all.values();
        backends.filter_map(Backend::next_ns).min()
    }

    /// Does what is due, and says whether that was anything.
    pub(crate) fn tick_backends(&mut self, now_ns: u64) -> bool {
        let due =
            |(_, backend): &(&u64, &Backend)| backend.next_ns().is_some_and(|next| next <= now_ns);
        let due: Vec<u64> = self
            .backends
            .all
            .iter()
            .filter(due)
            .map(|(id, _)| *id)
            .collect();
        for id in &due {
            self.with_backend(*id, |services, backend| backend.finish(services, now_ns));
        }
        if !due.is_empty() {
            self.switch_frames();
        }
        !due.is_empty()
    }

    /// Looks what frontends have written, and answers.
    pub(crate) fn look_after_backends(&mut self) {
        let ids: Vec<u64> = self.backends.all.keys().copied().collect();
        for id in ids {
            let is_over = self.with_backend(id, |services, backend| backend.look(services));
            if is_over == Some(true) {
                self.take_away(id);
            }
        }
        self.switch_frames();
    }

    /// What befalls backends; whether anything does.
    pub(crate) fn mishaps_of_backends(&mut self, mishaps: BackendMishaps) -> bool {
        let ids: Vec<u64> = self.backends.all.keys().copied().collect();
        let which = |any: u64| ids.get(any as usize % ids.len().max(1)).copied();
        let BackendMishaps {
            restart,
            detach,
            resize,
        } = mishaps;
        if let Some((id, any)) = restart.and_then(|any| Some((which(any)?, any >> 32))) {
            match any.is_multiple_of(2) {
                true => self.restart_backend(id),
                false => self.rebind_backend(id),
            }
        }
        if let Some((id, any)) = detach.and_then(|any| Some((which(any)?, any >> 32))) {
            self.take_and_give(id, any.is_multiple_of(2));
        }
        if let Some((id, any)) = resize.and_then(|any| Some((which(any)?, any >> 32))) {
            let disk = |_: &mut Self, backend: &mut Backend| {
                backend.device.disk().map(|disk| disk.sectors())
            };
            if let Some(Some(sectors)) = self.with_backend(id, disk) {
                // Larger by up to 255 pages, or so large as before.
                let least = sectors & !0x7ff;
                self.resize_disk(id, least.max(8) | (any & 0xff) << 3);
            }
        }
        restart.or(detach).or(resize).is_some()
    }

    /// Its domain is gone: nothing of it is used any more.
    pub(crate) fn forget_backends_of(&mut self, domid: DomId) {
        let ids: Vec<u64> = self.backends.all.keys().copied().collect();
        for id in ids {
            self.with_backend(id, |services, backend| {
                if backend.front == domid || backend.domid == domid {
                    backend.device.let_go(services);
                }
            });
        }
        let of = |backend: &Backend| backend.front == domid || backend.domid == domid;
        self.backends.all.retain(|_, backend| !of(backend));
    }

    /// A domain goes on in other frames: its backends begin anew.
    pub(crate) fn restart_backends_of(&mut self, domid: DomId) {
        let ids: Vec<u64> = self.backends.all.keys().copied().collect();
        for id in ids {
            self.with_backend(id, |services, backend| {
                if backend.front == domid {
                    backend.device.let_go(services);
                    backend.device.abandon();
                    backend.begin(services);
                    let state = format!("{}/state", backend.front_path);
                    services.store.write(&state, b"1");
                    backend.seen = Some(XenbusState::INITIALISING);
                }
            });
        }
    }
}

impl Backend {
    fn say(&mut self, services: &mut Services, state: XenbusState) {
        self.state = state;
        let path = format!("{}/state", self.path);
        services.store.write(&path, state.0.to_string().as_bytes());
    }

    /// Says what it can, and waits for its frontend.
    fn begin(&mut self, services: &mut Services) {
        for (name, value) in self.device.offers() {
            let path = format!("{}/{name}", self.path);
            services.store.write(&path, value.as_bytes());
        }
        self.write_says(services);
        self.say(services, XenbusState::INITWAIT);
    }

    /// Writes what it says in place of the truth.
    fn write_says(&self, services: &mut Services) {
        for (name, value) in self.device.says() {
            services
                .store
                .write(&format!("{}/{name}", self.path), value);
        }
    }

    /// A number that the frontend wrote.
    fn front_number(&self, services: &Services, name: &str) -> Option<u32> {
        let path = format!("{}/{name}", self.front_path);
        let value = services.store.read(&path).ok()?;
        std::str::from_utf8(value).ok()?.trim().parse().ok()
    }

    /// Looks at the frontend's state, as blkback does (`frontend_changed`); true:
    /// this backend is over.
    fn look(&mut self, services: &mut Services) -> bool {
        use XenbusState as S;
        let state = self.front_number(services, "state").map(XenbusState);
        if state == self.seen {
            return false;
        }
        self.seen = state;
        match state {
            Some(S::INITIALISING) if self.state == S::CLOSED => self.begin(services),
            // As netback does; blkback does not.
            Some(S::INITIALISING) if self.state == S::CONNECTED && self.is_nic() => {
                self.device.let_go(services);
                self.begin(services);
            }
            Some(S::INITIALISED | S::CONNECTED) if self.state == S::INITWAIT => {
                let details = (self.domid, self.front, self.front_path.clone());
                if self.device.connect(services, details) {
                    self.device.write_details(services, &self.path);
                    self.write_says(services);
                    self.say(services, S::CONNECTED);
                    // What was in the ring before.
                    self.serve(services);
                } else {
                    self.say(services, S::CLOSING);
                }
            }
            Some(S::CLOSING) => {
                self.device.let_go(services);
                self.say(services, S::CLOSING);
            }
            Some(S::CLOSED) => {
                self.device.let_go(services);
                self.say(services, S::CLOSED);
                return !self.online;
            }
            None => {
                self.device.let_go(services);
                return !self.online;
            }
            _ => {}
        }
        false
    }

    /// Does what the frontend asked for.
    fn serve(&mut self, services: &mut Services) {
        if self.state == XenbusState::CONNECTED || self.state == XenbusState::CLOSING {
            self.device.ring(services);
        }
        self.misbehave(services);
    }

    fn is_nic(&self) -> bool {
        matches!(self.device, Device::Nic(_))
    }

    fn next_ns(&self) -> Option<u64> {
        let storms_ns = self.storm.map(|(_, next_ns)| next_ns);
        let due = self.looks_ns.into_iter().chain(storms_ns);
        due.chain(self.device.next_ns()).min()
    }

    /// Does what is due.
    fn finish(&mut self, services: &mut Services, now_ns: u64) {
        if self.looks_ns.is_some_and(|looks_ns| looks_ns <= now_ns) {
            (self.looks_ns, self.seen) = (None, None);
            let _over = self.look(services);
        }
        self.go_on_storming(services, now_ns);
        self.device.finish(services, now_ns);
        self.misbehave(services);
    }
}
