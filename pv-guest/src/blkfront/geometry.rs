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

/// How what was written is made to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// By a flush.
    Cache,
    /// By a barrier: older backends.
    Barrier,
    /// It lasts when it is written.
    NotNeeded,
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
const MOST_SECTOR_BYTES: u32 = 4096;

/// A number of bytes that is a power of two from a sector's on.
fn bytes(nodes: &Nodes, name: &'static str, default: u32) -> Result<u32, Fault> {
    let bytes = nodes.number(name)?.unwrap_or(default);
    if bytes >= SECTOR_BYTES as u32 && bytes.is_power_of_two() {
        Ok(bytes)
    } else {
        Err(Fault::Value(name))
    }
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

    /// Source: `io/blkif.h`, "Backend XenBus Nodes".
    pub(super) fn read(offer: &Offer) -> Result<Self, Fault> {
        let nodes = &offer.backend;
        let sector_bytes = bytes(nodes, "sector-size", SECTOR_BYTES as u32)?;
        if sector_bytes > MOST_SECTOR_BYTES {
            return Err(Fault::Value("sector-size"));
        }
        let physical = bytes(nodes, "physical-sector-size", sector_bytes)?;
        let sectors: u64 = nodes.required("sectors")?;
        if sectors.checked_mul(SECTOR_BYTES as u64).is_none() {
            return Err(Fault::Value("sectors"));
        }
        let info = VdiskInfo::from_bits_retain(nodes.required("info")?);
        let read_only = info.contains(VdiskInfo::READONLY)
            || nodes.text("mode")?.is_some_and(|mode| mode.trim() == "r");
        let removable = info.contains(VdiskInfo::REMOVABLE) || nodes.has("removable");
        Ok(Self {
            sectors,
            sector_bytes,
            physical_sector_bytes: physical.max(sector_bytes),
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
            flush: if nodes.has("feature-flush-cache") {
                Flush::Cache
            } else if nodes.has("feature-barrier") {
                Flush::Barrier
            } else {
                Flush::NotNeeded
            },
            discard: discard(nodes, sector_bytes)?,
        })
    }

    /// Its size.
    pub const fn len_bytes(&self) -> u64 {
        // Checked when it was read.
        self.sectors.saturating_mul(SECTOR_BYTES as u64)
    }
}

fn discard(nodes: &Nodes, sector_bytes: u32) -> Result<Option<DiscardLimits>, Fault> {
    if !nodes.has("feature-discard") {
        return Ok(None);
    }
    let granularity = nodes.number("discard-granularity")?.unwrap_or(0);
    Ok(Some(DiscardLimits {
        granularity_bytes: u32::max(granularity, sector_bytes),
        alignment_bytes: nodes.number("discard-alignment")?.unwrap_or(0),
        secure: if nodes.has("discard-secure") {
            Secure::Offered
        } else {
            Secure::NotOffered
        },
    }))
}
