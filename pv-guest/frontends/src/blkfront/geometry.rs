//! What a disk is, as its backend says.

use hypercall_abi::io::blkif::VdiskInfo;

use crate::xenbus::{Fault, Nodes, Offer};

/// Sectors are counted in units of 512 bytes, whatever the disk's are.
pub const SECTOR_BYTES: usize = 512;

/// A place on a disk, in units of [`SECTOR_BYTES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sector(pub u64);

impl core::fmt::Display for Sector {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// What kind of disk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A disk.
    Disk,
    /// A CD-ROM.
    Cdrom,
}

/// Whether it can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It can.
    ReadWrite,
    /// It cannot.
    ReadOnly,
}

/// Whether its medium can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removable {
    /// It can.
    Yes,
    /// It cannot.
    No,
}

/// How what was written is made to last: the way that [`Disk::flush`](super::Disk::flush)
/// uses now. A backend may have more than one way, and may refuse one that it offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// By a flush.
    Cache,
    /// By a barrier: older backends.
    Barrier,
    /// It lasts when it is written, or at least the backend has no way (left) to make it.
    NotNeeded,
}

/// The ways of making what was written last that a backend offers and has not refused,
/// the better first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flushes([Option<Way>; 2]);

#[derive(Clone, Copy, Debug)]
struct Way {
    flush: Flush,
    /// Whether the backend has done it.
    was_done: bool,
}

impl Flushes {
    pub(super) fn offered(nodes: &Nodes) -> Self {
        let way = |name, flush| {
            let was_done = false;
            nodes.has(name).then_some(Way { flush, was_done })
        };
        Self([
            way("feature-flush-cache", Flush::Cache),
            way("feature-barrier", Flush::Barrier),
        ])
    }

    /// The best that is left.
    pub(super) fn best(&self) -> Flush {
        let mut ways = self.0.iter().flatten();
        ways.next().map_or(Flush::NotNeeded, |way| way.flush)
    }

    /// Another than `failed`, if there is one.
    pub(super) fn other(&self, failed: Flush) -> Option<Flush> {
        let mut ways = self.0.iter().flatten().map(|way| way.flush);
        ways.find(|way| *way != failed)
    }

    /// The backend has done one.
    pub(super) fn works(&mut self, flush: Flush) {
        for way in self.0.iter_mut().flatten() {
            way.was_done |= way.flush == flush;
        }
    }

    /// Whether the backend has done one.
    pub(super) fn is_known_to_work(&self, flush: Flush) -> bool {
        let mut ways = self.0.iter().flatten();
        ways.any(|way| way.flush == flush && way.was_done)
    }

    /// The backend has no such way after all.
    pub(super) fn refuse(&mut self, refused: Flush) {
        for way in &mut self.0 {
            *way = way.filter(|way| way.flush != refused);
        }
    }
}

/// What can be forgotten, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscardLimits {
    /// Bytes that are forgotten together.
    pub granularity_bytes: u32,
    /// Where the first such bytes begin.
    pub alignment_bytes: u32,
    /// Whether it can be made sure that nobody reads them again.
    pub secure: Secure,
}

/// Whether sectors can be made unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// They can.
    Offered,
    /// They cannot.
    NotOffered,
}

/// What a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Its size in units of [`SECTOR_BYTES`].
    pub sectors: u64,
    /// Bytes of its own sectors: requests are multiples of them.
    pub sector_bytes: u32,
    /// Bytes of the sectors beneath: requests of multiples of them are faster.
    pub physical_sector_bytes: u32,
    /// What kind it is.
    pub medium: Medium,
    /// Whether it can be written.
    pub mode: Mode,
    /// Whether its medium can be taken out.
    pub removable: Removable,
    /// How what was written is made to last.
    pub flush: Flush,
    /// What can be forgotten; `None`: nothing.
    pub discard: Option<DiscardLimits>,
}

/// The largest sectors that are believed.
const MAX_SECTOR_BYTES: u32 = 4096;

/// The bytes of a sector: a power of two.
fn sector_bytes(nodes: &Nodes) -> Result<u32, Fault> {
    let bytes = nodes.number("sector-size")?.unwrap_or(SECTOR_BYTES as u32);
    let is_possible = (SECTOR_BYTES as u32..=MAX_SECTOR_BYTES).contains(&bytes);
    if is_possible && bytes.is_power_of_two() {
        Ok(bytes)
    } else {
        Err(Fault::Value("sector-size"))
    }
}

/// A number that is only a hint: what makes no sense counts as not there.
fn hint(nodes: &Nodes, name: &'static str, is_possible: impl Fn(u32) -> bool) -> Option<u32> {
    let value = nodes.number(name).ok().flatten();
    value.filter(|value| is_possible(*value))
}

impl Geometry {
    /// The backend's keys that it is read from, and those of the transport.
    pub(super) const BACKEND_KEYS: &'static [&'static str] = &[
        "sectors",
        "sector-size",
        "physical-sector-size",
        "info",
        "mode",
        "removable",
        "feature-flush-cache",
        "feature-barrier",
        "feature-discard",
        "discard-granularity",
        "discard-alignment",
        "discard-secure",
        "feature-max-indirect-segments",
        "max-ring-page-order",
        "max-ring-pages",
        "multi-queue-max-queues",
    ];

    /// What a disk is follows from `sectors`, `sector-size` and `info`: what makes no
    /// sense there is an error. All else is a hint or a feature, and what makes no sense
    /// counts as not there, as for Linux.
    ///
    /// Source: `io/blkif.h`, "Backend XenBus Nodes".
    pub(super) fn read(offer: &Offer) -> Result<Self, Fault> {
        let nodes = &offer.backend;
        let sector_bytes = sector_bytes(nodes)?;
        let physical = hint(nodes, "physical-sector-size", |bytes| {
            bytes.is_power_of_two() && bytes >= sector_bytes
        });
        let sectors: u64 = nodes.required("sectors")?;
        if sectors.checked_mul(SECTOR_BYTES as u64).is_none() {
            return Err(Fault::Value("sectors"));
        }
        let info = VdiskInfo::from_bits_retain(nodes.required("info")?);
        let read_only = info.contains(VdiskInfo::READONLY)
            || nodes.text("mode").is_ok_and(|mode| mode == Some("r"));
        let removable = info.contains(VdiskInfo::REMOVABLE) || nodes.has("removable");
        Ok(Self {
            sectors,
            sector_bytes,
            physical_sector_bytes: physical.unwrap_or(sector_bytes),
            medium: if info.contains(VdiskInfo::CDROM) {
                Medium::Cdrom
            } else {
                Medium::Disk
            },
            mode: if read_only {
                Mode::ReadOnly
            } else {
                Mode::ReadWrite
            },
            removable: if removable {
                Removable::Yes
            } else {
                Removable::No
            },
            flush: Flushes::offered(nodes).best(),
            discard: discard(nodes, sector_bytes),
        })
    }

    /// Its size.
    pub const fn len_bytes(&self) -> u64 {
        // Checked when it was read.
        self.sectors.saturating_mul(SECTOR_BYTES as u64)
    }
}

fn discard(nodes: &Nodes, sector_bytes: u32) -> Option<DiscardLimits> {
    if !nodes.has("feature-discard") {
        return None;
    }
    let granularity = hint(nodes, "discard-granularity", |bytes| {
        bytes > 0 && bytes.is_multiple_of(sector_bytes)
    });
    let granularity_bytes = granularity.unwrap_or(sector_bytes);
    // Linux's backend writes -1 for what is not aligned at all.
    let alignment = hint(nodes, "discard-alignment", |bytes| {
        bytes.is_multiple_of(sector_bytes)
    });
    Some(DiscardLimits {
        granularity_bytes,
        alignment_bytes: alignment.unwrap_or(0) % granularity_bytes,
        secure: if nodes.has("discard-secure") {
            Secure::Offered
        } else {
            Secure::NotOffered
        },
    })
}
