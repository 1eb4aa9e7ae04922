//! What is to be run, and what came of it: plain data.

pub(crate) mod disk;
pub(crate) mod exit;
pub(crate) mod net;
mod options;

use std::{path::PathBuf, time::Duration};

use disk::Disk;
use exit::Ended;
use net::Net;

pub(crate) use options::{
    Chipset, Crowd, Debug, Pace, Platform, Show, Spoil, Start, Tools, With, XenVersion,
};

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) guest: String,
    pub(crate) platform: Platform,
    /// Which Xen, where it is a real one.
    pub(crate) xen: XenVersion,
    pub(crate) memory_mib: u32,
    /// What it may have later, if that is more: `maxmem` of a guest on Xen.
    pub(crate) max_memory_mib: Option<u32>,
    pub(crate) vcpus: u32,
    pub(crate) command_line: String,
    /// A file that is loaded with it: its ramdisk, for Linux.
    pub(crate) module: Option<PathBuf>,
    /// Lines of its own in the configuration that `xl` is given, which need not be text.
    pub(crate) xl: Vec<Vec<u8>>,
    /// Its machine, where there is no Xen.
    pub(crate) chipset: Chipset,
    /// Its disks.
    pub(crate) disks: Vec<Disk>,
    /// Its network.
    pub(crate) net: Option<Net>,
    /// Who else is there.
    pub(crate) with: With,
    /// What is looked at, if somebody does from the first instruction on.
    pub(crate) scene: String,
    /// What a crowd is, if it is that.
    pub(crate) crowd: Crowd,
    /// How the loader's information is spoilt.
    pub(crate) spoil: Option<Spoil>,
    pub(crate) timeout: Duration,
    pub(crate) start: Start,
    pub(crate) pace: Pace,
    pub(crate) show: Show,
    pub(crate) debug: Debug,
    /// What is told of it, where it runs as a process.
    pub(crate) tools: Tools,
}

impl Job {
    /// A guest with nothing but its memory, which nobody looks at.
    pub(crate) fn new(guest: &str, platform: Platform) -> Self {
        Self {
            guest: guest.to_owned(),
            platform,
            xen: XenVersion::default(),
            memory_mib: 32,
            max_memory_mib: None,
            vcpus: 1,
            command_line: String::new(),
            module: None,
            xl: Vec::new(),
            chipset: Chipset::default(),
            disks: Vec::new(),
            net: None,
            with: With::Nobody,
            scene: String::new(),
            crowd: Crowd::DEFAULT,
            spoil: None,
            timeout: Duration::from_secs(30),
            start: Start::Restored,
            pace: Pace::Clock,
            show: Show::Kept,
            debug: Debug::Off,
            tools: Tools::default(),
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) ended: Ended,
    /// The guest's console.
    pub(crate) console: String,
    /// What Xen said meanwhile; or QEMU, of resets.
    pub(crate) hypervisor_log: Vec<String>,
    /// What the log tells of a guest that could not speak for itself.
    pub(crate) diagnosis: Option<String>,
    /// What its visitors complain of.
    pub(crate) complaint: Option<String>,
}

impl Report {
    /// The exit status of the lab.
    pub(crate) fn status(&self) -> u8 {
        match self.ended.status() {
            0 => self.complaint.is_some().into(),
            status => status,
        }
    }
}
