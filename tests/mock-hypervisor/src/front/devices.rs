//! Devices as `xl` attaches them, what tests do to their backends, and bridges from outside.

use std::{io, os::unix::net::UnixStream, time::Duration};

use hypercall_abi::{DomId, io::xenbus::XenbusState};

use crate::{
    engine::host::Xen,
    services::backends::{DiskConfig, DiskId, Frame, Mischief, NicConfig, NicId},
};

impl Xen {
    /// Gives a guest a disk, as `xl block-attach` does.
    pub fn attach_disk(&self, guest: DomId, config: DiskConfig) -> DiskId {
        let mut world = self.0.lock();
        let disk = world.attach_disk(guest, config);
        self.0.changed(&mut world);
        disk
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
        world.with_backend(disk.0, |services, backend| {
            backend.commit(services, mischief)
        });
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
        let nic = world.attach_nic(guest, config);
        self.0.changed(&mut world);
        nic
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
        world.with_backend(nic.0, |services, backend| {
            let path = format!("{}/carrier", backend.path);
            services.store.write(&path, carrier.to_string().as_bytes());
        });
        self.0.changed(&mut world);
    }

    /// Its backend does something that it must not do, now.
    pub fn nic_mischief(&self, nic: NicId, mischief: Mischief) {
        let mut world = self.0.lock();
        world.with_backend(nic.0, |services, backend| {
            backend.commit(services, mischief)
        });
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
        let pages = world.with_backend(nic.0, |services, backend| {
            backend.device.nic().map(|nic| nic.kept_pages(services))
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
    pub fn receive_within(&self, most: Duration) -> Option<Frame> {
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
