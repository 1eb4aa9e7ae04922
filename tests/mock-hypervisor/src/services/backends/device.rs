//! What all devices' backends have in common.

use std::ops::{Deref, DerefMut};

use hypercall_abi::{DomId, Port, peer::PeerSlice};

use super::{blk::Blk, net::Net};
use crate::services::Services;

/// A backend's device, as those who look after it see it.
pub(crate) trait Serve {
    /// The directory of such devices.
    fn kind(&self) -> &'static str;
    /// Its number.
    fn number(&self) -> u32;
    /// What the toolstack writes for its frontend.
    fn front_keys(&self) -> Vec<(&'static str, String)>;
    /// What it says before its frontend has told anything.
    fn offers(&self) -> Vec<(&'static str, String)>;
    /// What it says when it is ready.
    fn write_details(&self, services: &mut Services, path: &str) {
        let _nothing = (services, path);
    }
    /// Keys that it writes in place of what it would, at each of these occasions.
    fn says(&self) -> &[(&'static str, &'static [u8])] {
        &[]
    }
    /// Its frontend's domain.
    fn front(&self) -> DomId;
    /// Uses what the frontend tells of; false: that will not do.
    fn connect(&mut self, services: &mut Services, details: (DomId, DomId, String)) -> bool;
    /// Uses nothing of the frontend's any more.
    fn let_go(&mut self, services: &mut Services);
    /// Its frontend rang.
    fn ring(&mut self, services: &mut Services);
    /// Does what is due.
    fn finish(&mut self, services: &mut Services, now_ns: u64);
    /// When something is due.
    fn next_ns(&self) -> Option<u64>;
    /// The frontend's ports, and its own other ends.
    fn ports(&self) -> Vec<(Port, Port)>;

    // ---- For those that mean harm ----

    /// The first pages of its rings.
    fn rings(&self) -> Vec<PeerSlice<'static>>;
    /// Answers what was not asked.
    fn forge(&mut self, value: u64);
    /// Gives its last answer once more.
    fn repeat(&mut self);
    /// Answers that a slot had nothing to send.
    fn answer_null(&mut self) {}
    /// Keeps a page of the frontend's for ever.
    fn hoard(&mut self, services: &mut Services);
    /// Lets go of nothing from now on.
    fn hoard_all(&mut self);
    /// How many it keeps.
    fn hoarded(&self) -> usize;
    /// Its frontend went on in other frames: it keeps none of its pages.
    fn abandon(&mut self);
}

/// A device.
#[derive(Debug)]
pub(crate) enum Device {
    Disk(Box<Blk>),
    Nic(Box<Net>),
}

impl Device {
    pub(crate) fn disk(&mut self) -> Option<&mut Blk> {
        match self {
            Self::Disk(disk) => Some(disk),
            Self::Nic(_) => None,
        }
    }

    pub(crate) fn nic(&mut self) -> Option<&mut Net> {
        match self {
            Self::Nic(nic) => Some(nic),
            Self::Disk(_) => None,
        }
    }
}

impl Deref for Device {
    type Target = dyn Serve;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Disk(disk) => &**disk,
            Self::Nic(nic) => &**nic,
        }
    }
}

impl DerefMut for Device {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Disk(disk) => &mut **disk,
            Self::Nic(nic) => &mut **nic,
        }
    }
}
