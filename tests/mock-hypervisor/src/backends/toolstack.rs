//! What `xl` does with devices.

use hypercall_abi::{DomId, io::xenbus::XenbusState};

use super::{Backend, Blk, DiskConfig, Mischief};
use crate::{
    Xen,
    world::{Host, World},
};

/// A disk that a guest was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub(super) u64);

impl Xen {
    /// Gives a guest a disk, as `xl block-attach` does.
    pub fn attach_disk(&self, guest: DomId, config: DiskConfig) -> DiskId {
        let mut world = self.0.lock();
        let id = world.attach_disk(guest, config);
        self.0.changed(&mut world);
        DiskId(id)
    }

    /// Takes it away when the guest has let go of it, as `xl block-detach` does.
    pub fn detach_disk(&self, disk: DiskId) {
        let mut world = self.0.lock();
        world.detach_disk(disk.0);
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
        world.restart_disk(disk.0);
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
        world.with_backend(disk.0, |_, backend| backend.device.failing = requests);
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
        let content = world.with_backend(disk.0, |_, backend| backend.device.content());
        content.unwrap_or_default()
    }

    /// Whether its backend says that it is connected.
    pub fn disk_is_connected(&self, disk: DiskId) -> bool {
        let mut world = self.0.lock();
        let state = world.with_backend(disk.0, |_, backend| backend.state);
        state == Some(XenbusState::CONNECTED)
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
    pub(super) fn attach_disk(&mut self, guest: DomId, config: DiskConfig) -> u64 {
        self.backends.last += 1;
        let id = self.backends.last;
        let (vdev, domid) = (config.vdev, config.backend);
        let path = format!("/local/domain/{domid}/backend/vbd/{guest}/{vdev}");
        let front_path = format!("/local/domain/{guest}/device/vbd/{vdev}");
        let mut backend = Backend {
            domid,
            front: guest,
            path,
            front_path,
            state: XenbusState::INITIALISING,
            online: true,
            seen: Some(XenbusState::INITIALISING),
            device: Blk::new(config),
            is_given_back: false,
        };
        self.announce(&backend);
        backend.begin(self);
        self.backends.all.insert(id, backend);
        id
    }

    /// Writes what the toolstack writes of a device.
    fn announce(&mut self, backend: &Backend) {
        let (domid, guest) = (backend.domid, backend.front);
        let (path, front_path) = (backend.path.clone(), backend.front_path.clone());
        let (vdev, trusted) = backend.device.numbers();
        let perms = (
            vec![('n', domid), ('r', guest)],
            vec![('n', guest), ('r', domid)],
        );
        for (path, value, perms) in [
            (path.clone(), String::new(), &perms.0),
            (format!("{path}/frontend"), front_path.clone(), &perms.0),
            (format!("{path}/frontend-id"), guest.to_string(), &perms.0),
            (format!("{path}/online"), "1".into(), &perms.0),
            (format!("{path}/mode"), "w".into(), &perms.0),
            (format!("{path}/state"), "1".into(), &perms.0),
            (front_path.clone(), String::new(), &perms.1),
            (format!("{front_path}/backend"), path.clone(), &perms.1),
            (
                format!("{front_path}/backend-id"),
                domid.to_string(),
                &perms.1,
            ),
            (
                format!("{front_path}/virtual-device"),
                vdev.to_string(),
                &perms.1,
            ),
            (format!("{front_path}/device-type"), "disk".into(), &perms.1),
            (
                format!("{front_path}/trusted"),
                trusted.to_string(),
                &perms.1,
            ),
            (format!("{front_path}/state"), "1".into(), &perms.1),
        ] {
            self.store.provide(&path, value.as_bytes(), perms.clone());
        }
    }

    pub(super) fn detach_disk(&mut self, id: u64) {
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
            self.detach_disk(id);
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

    pub(super) fn restart_disk(&mut self, id: u64) {
        self.with_backend(id, |world, backend| {
            backend.device.let_go(world);
            backend.begin(world);
            backend.look_away(world);
        });
    }

    pub(super) fn resize_disk(&mut self, id: u64, sectors: u64) {
        self.with_backend(id, |world, backend| {
            backend.device.resize(sectors);
            backend.device.write_details(world, &backend.path);
            if backend.state == XenbusState::CONNECTED {
                // So Linux's backend tells it.
                backend.say(world, XenbusState::CONNECTED);
            }
        });
    }
}

impl Backend {
    /// What the frontend says now is about the backend that was.
    fn look_away(&mut self, world: &World) {
        let seen = self.front_number(world, "state").map(XenbusState);
        // One that waits is connected, by the new backend then.
        self.seen = seen.filter(|seen| *seen != XenbusState::INITIALISED);
    }
}
