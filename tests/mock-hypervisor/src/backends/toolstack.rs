//! What `xl` does with devices.

use std::{io, os::unix::net::UnixStream};

use hypercall_abi::{DomId, io::xenbus::XenbusState};

use super::{
    Backend, DiskConfig, Mischief,
    blk::Blk,
    device::Device,
    net::{Net, NicConfig},
    segments::Frame,
};
use crate::{
    Xen,
    world::{Host, World},
};

/// How long a backend takes to start.
const START_NS: u64 = 1_000_000;

/// A disk that a guest was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub(super) u64);

/// A network interface that a guest was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NicId(pub(super) u64);

impl Xen {
    /// Gives a guest a disk, as `xl block-attach` does.
    pub fn attach_disk(&self, guest: DomId, config: DiskConfig) -> DiskId {
        let mut world = self.0.lock();
        let backend = config.backend;
        let disk = Device::Disk(Box::new(Blk::new(config)));
        let id = world.attach(guest, backend, disk);
        self.0.changed(&mut world);
        DiskId(id)
    }

    /// Takes it away when the guest has let go of it, as `xl block-detach` does.
    pub fn detach_disk(&self, disk: DiskId) {
        let mut world = self.0.lock();
        world.detach_backend(disk.0);
        self.0.changed(&mut world);
    }

    /// Takes it away now, as `xl block-detach --force` does, and says how many of
    /// the guest's pages its backend never lets go of.
    pub fn remove_disk(&self, disk: DiskId) -> usize {
        let mut world = self.0.lock();
        let kept = world.with_backend(disk.0, |_, backend| backend.device.hoarded());
        world.remove_backend(disk.0);
        self.0.changed(&mut world);
        kept.unwrap_or(0)
    }

    /// Ends its backend, with all that it was doing, and starts another.
    pub fn restart_disk(&self, disk: DiskId) {
        let mut world = self.0.lock();
        world.restart_backend(disk.0);
        self.0.changed(&mut world);
    }

    /// Has its backend begin anew and go on where it was, as Linux's do when they
    /// are unbound from their driver and bound again.
    pub fn rebind_disk(&self, disk: DiskId) {
        let mut world = self.0.lock();
        world.rebind_backend(disk.0);
        self.0.changed(&mut world);
    }

    /// Makes it larger or smaller, of so many sectors of 512 bytes.
    pub fn resize_disk(&self, disk: DiskId, sectors: u64) {
        let mut world = self.0.lock();
        world.resize_disk(disk.0, sectors);
        self.0.changed(&mut world);
    }

    /// Its next requests fail.
    pub fn fail_disk(&self, disk: DiskId, requests: u32) {
        let mut world = self.0.lock();
        world.with_backend(disk.0, |_, backend| {
            backend.device.disk().map(|disk| disk.failing = requests)
        });
    }

    /// Its backend does something that it must not do, now.
    pub fn disk_mischief(&self, disk: DiskId, mischief: Mischief) {
        let mut world = self.0.lock();
        world.with_backend(disk.0, |world, backend| backend.commit(world, mischief));
        self.0.changed(&mut world);
    }

    /// What is on it; nothing, if there is no such disk any more.
    pub fn disk_content(&self, disk: DiskId) -> Vec<u8> {
        let mut world = self.0.lock();
        let content = world.with_backend(disk.0, |_, backend| {
            backend.device.disk().map(|disk| disk.content())
        });
        content.flatten().unwrap_or_default()
    }

    /// The bytes of the guest's pages that its backend keeps mapped, but for its rings: all
    /// that it could read there.
    pub fn disk_mapped_pages(&self, disk: DiskId) -> Vec<Vec<u8>> {
        let mut world = self.0.lock();
        let pages = world.with_backend(disk.0, |_, backend| {
            backend.device.disk().map(|disk| disk.mapped_pages())
        });
        pages.flatten().unwrap_or_default()
    }

    /// Whether its backend says that it is connected.
    pub fn disk_is_connected(&self, disk: DiskId) -> bool {
        let mut world = self.0.lock();
        let state = world.with_backend(disk.0, |_, backend| backend.state);
        state == Some(XenbusState::CONNECTED)
    }
}

impl Xen {
    /// Gives a guest a network interface, as `xl network-attach` does.
    pub fn attach_nic(&self, guest: DomId, config: NicConfig) -> NicId {
        let mut world = self.0.lock();
        let backend = config.backend;
        let nic = Device::Nic(Box::new(Net::new(config)));
        let id = world.attach(guest, backend, nic);
        self.0.changed(&mut world);
        NicId(id)
    }

    /// Takes it away when the guest has let go of it, as `xl network-detach`
    /// does.
    pub fn detach_nic(&self, nic: NicId) {
        let mut world = self.0.lock();
        world.detach_backend(nic.0);
        self.0.changed(&mut world);
    }

    /// Takes it away now; says how many of the guest's pages its backend never
    /// lets go of.
    pub fn remove_nic(&self, nic: NicId) -> usize {
        let mut world = self.0.lock();
        let kept = world.with_backend(nic.0, |_, backend| backend.device.hoarded());
        world.remove_backend(nic.0);
        self.0.changed(&mut world);
        kept.unwrap_or(0)
    }

    /// Ends its backend, with all that it was doing, and starts another.
    pub fn restart_nic(&self, nic: NicId) {
        let mut world = self.0.lock();
        world.restart_backend(nic.0);
        self.0.changed(&mut world);
    }

    /// Has its backend begin anew and go on where it was.
    pub fn rebind_nic(&self, nic: NicId) {
        let mut world = self.0.lock();
        world.rebind_backend(nic.0);
        self.0.changed(&mut world);
    }

    /// Pulls its wire out, or puts it in.
    pub fn set_carrier(&self, nic: NicId, carrier: u32) {
        let mut world = self.0.lock();
        world.with_backend(nic.0, |world, backend| {
            let path = format!("{}/carrier", backend.path);
            world.store.write(&path, carrier.to_string().as_bytes());
        });
        self.0.changed(&mut world);
    }

    /// Its backend does something that it must not do, now.
    pub fn nic_mischief(&self, nic: NicId, mischief: Mischief) {
        let mut world = self.0.lock();
        world.with_backend(nic.0, |world, backend| backend.commit(world, mischief));
        self.0.changed(&mut world);
    }

    /// Whether its backend says that it is connected.
    pub fn nic_is_connected(&self, nic: NicId) -> bool {
        let mut world = self.0.lock();
        let state = world.with_backend(nic.0, |_, backend| backend.state);
        state == Some(XenbusState::CONNECTED)
    }

    /// How many segmented packets came without a blank checksum, which its backend had to
    /// make so. Source: Linux's `rx_gso_checksum_fixup`.
    pub fn nic_checksum_fixups(&self, nic: NicId) -> u64 {
        let mut world = self.0.lock();
        let fixups = world.with_backend(nic.0, |_, backend| {
            backend.device.nic().map(|nic| nic.checksum_fixups)
        });
        fixups.flatten().unwrap_or(0)
    }

    /// The bytes of the guest's pages that its backends of before never let go of.
    pub fn nic_kept_pages(&self, nic: NicId) -> Vec<Vec<u8>> {
        let mut world = self.0.lock();
        let pages = world.with_backend(nic.0, |world, backend| {
            backend.device.nic().map(|nic| nic.kept_pages(world))
        });
        pages.flatten().unwrap_or_default()
    }

    /// A place on a bridge from which all packets are seen.
    pub fn tap(&self, bridge: &str) -> Tap {
        let id = self.0.lock().backends.taps.add(bridge);
        Tap {
            xen: self.clone(),
            bridge: bridge.to_owned(),
            id,
        }
    }
}

/// A place on a bridge, for code that is no guest.
#[derive(Debug)]
pub struct Tap {
    xen: Xen,
    bridge: String,
    id: u64,
}

impl Tap {
    /// Sends a packet to all on the bridge.
    pub fn send(&self, frame: Frame) {
        let mut world = self.xen.0.lock();
        world.send_frame(&self.bridge, self.id, frame);
        self.xen.0.changed(&mut world);
    }

    /// A packet that somebody on the bridge sent, if there is one.
    pub fn receive(&self) -> Option<Frame> {
        self.xen.0.lock().backends.taps.receive(self.id)
    }

    /// Something that can be read when a frame has come: for whoever waits for other things
    /// as well. Read it, and take all frames.
    ///
    /// # Errors
    /// Those of the host.
    pub fn bell(&self) -> io::Result<UnixStream> {
        let (bell, rope) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        rope.set_nonblocking(true)?;
        self.xen.0.lock().backends.taps.set_bell(self.id, rope);
        Ok(bell)
    }

    /// The same, after some time if there is none at once.
    pub fn receive_within(&self, most: std::time::Duration) -> Option<Frame> {
        let world = self.xen.0.lock();
        let mut world = self
            .xen
            .0
            .wait_most(world, most, |world| world.backends.taps.is_empty(self.id));
        world.backends.taps.receive(self.id)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.xen.0.lock().backends.taps.remove(self.id);
    }
}

impl Host {
    /// Tells all whom it concerns that the store or a port changed.
    pub(super) fn changed(&self, world: &mut World) {
        world.push_store_events();
        self.rouse(world);
    }
}

impl World {
    /// Gives a guest a device, which `domid` has the backend of.
    pub(super) fn attach(&mut self, guest: DomId, domid: DomId, device: Device) -> u64 {
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

    pub(super) fn detach_backend(&mut self, id: u64) {
        self.with_backend(id, |world, backend| {
            backend.online = false;
            let path = format!("{}/online", backend.path);
            world.store.write(&path, b"0");
            if matches!(backend.state, XenbusState::CLOSED | XenbusState::INITWAIT) {
                // It has nobody to wait for, but looks once more.
                backend.seen = None;
            }
            backend.say(world, XenbusState::CLOSING);
        });
    }

    /// A device is taken away, politely or not, and given back.
    pub(super) fn take_and_give(&mut self, id: u64, politely: bool) {
        self.with_backend(id, |_, backend| backend.is_given_back = true);
        if politely {
            self.detach_backend(id);
        } else {
            self.take_away(id);
        }
    }

    /// A device has gone, perhaps for a moment.
    pub(super) fn take_away(&mut self, id: u64) {
        let back = self.with_backend(id, |world, backend| {
            backend.device.let_go(world);
            world.store.remove(&backend.front_path);
            world.store.remove(&backend.path);
            if !std::mem::take(&mut backend.is_given_back) {
                return false;
            }
            backend.state = XenbusState::INITIALISING;
            backend.online = true;
            backend.seen = Some(XenbusState::INITIALISING);
            world.announce(backend);
            backend.begin(world);
            true
        });
        if back == Some(false) {
            self.backends.all.remove(&id);
        }
    }

    /// Ends a backend, whatever it was doing, and removes what the store has of
    /// it.
    pub(super) fn remove_backend(&mut self, id: u64) {
        self.with_backend(id, |world, backend| {
            backend.device.let_go(world);
            world.store.remove(&backend.front_path);
            world.store.remove(&backend.path);
        });
        self.backends.all.remove(&id);
    }

    pub(super) fn restart_backend(&mut self, id: u64) {
        self.with_backend(id, |world, backend| backend.restart(world));
    }

    pub(super) fn rebind_backend(&mut self, id: u64) {
        self.with_backend(id, |world, backend| backend.rebind(world));
    }

    pub(super) fn resize_disk(&mut self, id: u64, sectors: u64) {
        self.with_backend(id, |world, backend| {
            if let Some(disk) = backend.device.disk() {
                disk.resize(sectors);
            }
            backend.device.write_details(world, &backend.path);
            if backend.state == XenbusState::CONNECTED {
                // So Linux's backend tells it.
                backend.say(world, XenbusState::CONNECTED);
            }
        });
    }
}

impl Backend {
    /// Goes on where the one before it was, after a while, if that worked.
    fn rebind(&mut self, world: &mut World) {
        use XenbusState as S;
        if self.state != S::CONNECTED {
            return self.restart(world);
        }
        // What goes on is done first; nobody is told.
        self.device.finish(world, u64::MAX);
        self.device.let_go(world);
        self.begin(world);
        self.seen = self.front_number(world, "state").map(S);
        let waits = matches!(self.seen, Some(S::INITIALISED | S::CONNECTED)).then_some(START_NS);
        self.looks_ns = waits.map(|waits| world.backend_ns().saturating_add(waits));
    }

    /// Begins anew, when its frontend does.
    fn restart(&mut self, world: &mut World) {
        self.device.let_go(world);
        self.looks_ns = None;
        self.seen = self.front_number(world, "state").map(XenbusState);
        match self.seen {
            None | Some(XenbusState::INITIALISING) => self.begin(world),
            _ => self.say(world, XenbusState::CLOSED),
        }
    }
}
