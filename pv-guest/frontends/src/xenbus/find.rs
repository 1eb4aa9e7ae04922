//! Where the device's backend is, and being told of what changes there.

use alloc::string::String;

use hypercall_abi::{DomId, io::xenbus::XenbusState, platform::Platform};
use xenstore_client::Error;

use super::{
    Stop,
    nodes::{Held, Place},
    session::{Backend, Presence, Session},
};

impl<P: Platform> Session<'_, '_, P> {
    /// After a resume elsewhere nothing is shared with any backend, and the device is as
    /// the toolstack there made it.
    pub(super) fn look_where_we_are(&mut self) {
        let resumes = self.bus.ports().resumes();
        if core::mem::replace(&mut self.resumes, resumes) == resumes {
            return;
        }
        self.end_use(Stop::Lost);
        self.forget_device();
        self.presence = Presence::Unknown;
    }

    /// Has this task told of changes in the device's directory.
    pub(super) async fn watch_device(&mut self) -> Result<(), Error> {
        if self.watch.is_none() {
            let watch = self.bus.store().subscribe("device", &self.own)?;
            watch.changed().await?;
            self.watch = Some(watch);
        }
        Ok(())
    }

    /// Has this task told of what the backend changes, before it is looked at.
    pub(super) async fn watch_backend(&mut self) -> Result<(), Error> {
        if let Some(backend) = &mut self.backend
            && backend.watch.is_none()
        {
            let folder = folder_of_all(&backend.path);
            let watch = self.bus.store().subscribe(folder, &backend.path)?;
            watch.changed().await?;
            backend.watch = Some(watch);
        }
        Ok(())
    }

    /// Nobody tells of changes any more.
    pub(super) fn unwatch(&mut self) {
        self.watch = None;
        if let Some(backend) = &mut self.backend {
            backend.watch = None;
        }
    }

    /// Looks whether there is such a device, and where its backend is.
    pub(super) async fn find_device(&mut self) -> Result<(), Error> {
        let device = self.look_at_device().await?;
        let is_ours = self.held == Held::Anything || device.state == self.said;
        if !is_ours || matches!(device.place, Place::Nowhere) {
            // Taken away; and if there is one again, it may be another.
            self.forget_device();
            // First: of a device that is not there nobody is told that it is tried again.
            let before = core::mem::replace(&mut self.presence, Presence::Absent);
            if before != Presence::Absent {
                self.end_use(Stop::Gone);
            }
        }
        match device.place {
            Place::Nowhere => {}
            Place::Nonsense(fault) => {
                self.presence = Presence::There;
                if self.told_end != Some(Stop::Broken(fault)) {
                    self.end_use(Stop::Lost);
                    self.forget_device();
                    self.tell_people(fault).await;
                    self.tell_end(Stop::Broken(fault));
                }
            }
            Place::At(path, domid) => {
                let known = self.backend.as_ref();
                if known.is_none_or(|known| (&known.path, known.domid) != (&path, domid)) {
                    self.meet(path, domid, device.state);
                }
            }
        }
        Ok(())
    }

    /// There is a backend, which is another than the one before.
    fn meet(&mut self, path: String, domid: DomId, state: Option<XenbusState>) {
        self.backend = Some(Backend {
            path,
            domid,
            watch: None,
        });
        self.end_use(Stop::Lost);
        self.begin();
        self.last_seen = XenbusState::UNKNOWN;
        self.presence = Presence::There;
        self.backend_backoff.reset();
        if state == Some(XenbusState::INITIALISING) {
            // As the toolstack left it; what was to be said was for the backend before.
            (self.said, self.pending_state, self.held) = (state, None, Held::AsSaid);
        } else {
            // Somebody was here before.
            self.pending_state = Some(XenbusState::INITIALISING);
        }
    }

    fn forget_device(&mut self) {
        self.backend = None;
        self.reset_wishes();
        (self.said, self.pending_state, self.held) = (None, None, Held::Anything);
    }
}

/// The directory of all backends of a domain, below which `path` is one's: its own, its
/// frontend's domain's, its kind's. One watch there is for all devices.
fn folder_of_all(path: &str) -> &str {
    let above = path.rsplitn(4, '/').nth(3);
    above.filter(|above| !above.is_empty()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::folder_of_all;

    #[test]
    fn backends_of_a_domain_are_watched_together() {
        let folder = folder_of_all("/local/domain/0/backend/vbd/5/51712");
        assert_eq!(folder, "/local/domain/0/backend");
        assert_eq!(folder_of_all("/a/b/c"), "/a/b/c");
        assert_eq!(folder_of_all("odd"), "odd");
    }
}
