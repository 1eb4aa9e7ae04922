//! What `xl` does with devices.

use hypercall_abi::{DomId, io::xenbus::XenbusState};

use super::{
    Backend, DiskConfig,
    blk::Blk,
    device::Device,
    net::{Net, NicConfig},
};
use crate::services::Services;

/// How long a backend takes to start.
const START_NS: u64 = 1_000_000;

/// A disk that a guest was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub(crate) u64);

/// A network interface that a guest was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NicId(pub(crate) u64);

impl Services {
    /// Gives a guest a disk.
    pub(crate) fn attach_disk(&mut self, guest: DomId, config: DiskConfig) -> DiskId {
        let backend = config.backend;
        let disk = Device::Disk(Box::new(Blk::new(config)));
        DiskId(self.attach(guest, backend, disk))
    }

    /// Gives a guest a network interface.
    pub(crate) fn attach_nic(&mut self, guest: DomId, config: NicConfig) -> NicId {
        let backend = config.backend;
        let nic = Device::Nic(Box::new(Net::new(config)));
        NicId(self.attach(guest, backend, nic))
    }

    /// Gives a guest a device, which `domid` has the backend of.
    fn attach(&mut self, guest: DomId, domid: DomId, device: Device) -> u64 {
        self.backends.last += 1;
        let id = self.backends.last;
        let (kind, number) = (device.kind(), device.number());
        let mut backend = Backend {
            domid,
            front: guest,
            path: format!("/local/domain/{domid}/backend/{kind}/{guest}/{number}"),
            front_path: format!("/local/domain/{guest}/device/{kind}/{number}"),
            state: XenbusState::INITIALISING,
            online: true,
            seen: Some(XenbusState::INITIALISING),
            looks_ns: None,
            device,
            is_given_back: false,
            storm: None,
        };
        self.announce(&backend);
        backend.begin(self);
        self.backends.all.insert(id, backend);
        id
    }

    /// Writes what the toolstack writes of a device.
    fn announce(&mut self, backend: &Backend) {
        let (domid, guest) = (backend.domid, backend.front);
        let (path, front_path) = (&backend.path, &backend.front_path);
        let own = [
            ("frontend", front_path.clone()),
            ("frontend-id", guest.to_string()),
            ("online", "1".into()),
            ("mode", "w".into()),
            ("state", "1".into()),
        ];
        let fronts = [("backend", path.clone()), ("backend-id", domid.to_string())];
        let state = [("state", "1".to_owned())];
        let fronts = fronts
            .into_iter()
            .chain(backend.device.front_keys())
            .chain(state);
        let perms = vec![('n', domid), ('r', guest)];
        self.store.provide(path, b"", perms.clone());
        for (name, value) in own {
            let path = format!("{path}/{name}");
            self.store.provide(&path, value.as_bytes(), perms.clone());
        }
        let perms = vec![('n', guest), ('r', domid)];
        self.store.provide(front_path, b"", perms.clone());
        for (name, value) in fronts {
            let path = format!("{front_path}/{name}");
            self.store.provide(&path, value.as_bytes(), perms.clone());
        }
    }

    pub(crate) fn detach_backend(&mut self, id: u64) {
        self.with_backend(id, |services, backend| {
            backend.online = false;
            let path = format!("{}/online", backend.path);
            services.store.write(&path, b"0");
            if matches!(backend.state, XenbusState::CLOSED | XenbusState::INITWAIT) {
                // It has nobody to wait for, but looks once more.
                backend.seen = None;
            }
            backend.say(services, XenbusState::CLOSING);
        });
    }

    /// A device is taken away, politely or not, and given back.
    pub(crate) fn take_and_give(&mut self, id: u64, politely: bool) {
        self.with_backend(id, |_, backend| backend.is_given_back = true);
        if politely {
            self.detach_backend(id);
        } else {
            self.take_away(id);
        }
    }

    /// A device has gone, perhaps for a moment.
    pub(crate) fn take_away(&mut self, id: u64) {
        let back = self.with_backend(id, |services, backend| {
            backend.device.let_go(services);
            services.store.remove(&backend.front_path);
            services.store.remove(&backend.path);
            if !std::mem::take(&mut backend.is_given_back) {
                return false;
            }
            backend.state = XenbusState::INITIALISING;
            backend.online = true;
            backend.seen = Some(XenbusState::INITIALISING);
            services.announce(backend);
            backend.begin(services);
            true
        });
        if back == Some(false) {
            self.backends.all.remove(&id);
        }
    }

    /// Ends a backend, whatever it was doing, and removes what the store has of
    /// it.
    pub(crate) fn remove_backend(&mut self, id: u64) {
        self.with_backend(id, |services, backend| {
            backend.device.let_go(services);
            services.store.remove(&backend.front_path);
            services.store.remove(&backend.path);
        });
        self.backends.all.remove(&id);
    }

    pub(crate) fn restart_backend(&mut self, id: u64) {
        self.with_backend(id, |services, backend| backend.restart(services));
    }

    pub(crate) fn rebind_backend(&mut self, id: u64) {
        self.with_backend(id, |services, backend| backend.rebind(services));
    }

    pub(crate) fn resize_disk(&mut self, id: u64, sectors: u64) {
        self.with_backend(id, |services, backend| {
            if let Some(disk) = backend.device.disk() {
                disk.resize(sectors);
            }
            backend.device.write_details(services, &backend.path);
            if backend.state == XenbusState::CONNECTED {
                // So Linux's backend tells it.
                backend.say(services, XenbusState::CONNECTED);
            }
        });
    }
}

impl Backend {
    /// Goes on where the one before it was, after a while, if that worked.
    fn rebind(&mut self, services: &mut Services) {
        use XenbusState as S;
        if self.state != S::CONNECTED {
            return self.restart(services);
        }
        // What goes on is done first; nobody is told.
        self.device.finish(services, u64::MAX);
        self.device.let_go(services);
        self.begin(services);
        self.seen = self.front_number(services, "state").map(S);
        let waits = matches!(self.seen, Some(S::INITIALISED | S::CONNECTED)).then_some(START_NS);
        self.looks_ns = waits.map(|waits| services.now_ns().saturating_add(waits));
    }

    /// Begins anew, when its frontend does.
    fn restart(&mut self, services: &mut Services) {
        self.device.let_go(services);
        self.looks_ns = None;
        self.seen = self.front_number(services, "state").map(XenbusState);
        match self.seen {
            None | Some(XenbusState::INITIALISING) => self.begin(services),
            _ => self.say(services, XenbusState::CLOSED),
        }
    }
}
