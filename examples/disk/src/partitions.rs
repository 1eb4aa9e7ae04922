//! The partition table of old: four entries in the first sector.

use alloc::vec::Vec;

use pv_guest::blkfront::{Error, Sector, Volume};

/// What a partition says it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A FAT file system.
    Fat,
    /// What Linux uses.
    Linux,
    /// Something else, by this number.
    Other(u8),
}

/// A partition.
#[derive(Debug)]
pub(crate) struct Partition {
    /// Its place in the table.
    pub(crate) index: usize,
    /// What it says it holds.
    pub(crate) kind: Kind,
    /// Its sectors.
    pub(crate) volume: Volume<'static>,
}

const TABLE_AT: usize = 446;
const SIGNATURE_AT: usize = 510;
const ENTRY_BYTES: usize = 16;

fn word(entry: &[u8], at: usize) -> Option<u64> {
    let bytes = entry.get(at..at + 4)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes).into())
}

/// Reads the table; none, if there is none. Entries that lie outside the disk are
/// errors.
pub(crate) async fn read(disk: &Volume<'static>) -> Result<Vec<Partition>, Error> {
    let mut sector = [0; 512];
    disk.read_at(0, &mut sector).await?;
    if sector.get(SIGNATURE_AT..) != Some(&[0x55, 0xaa]) {
        return Ok(Vec::new());
    }
    let table = sector.get(TABLE_AT..SIGNATURE_AT).unwrap_or(&[]);
    let mut partitions = Vec::new();
    for (index, entry) in table.chunks_exact(ENTRY_BYTES).enumerate() {
        let (Some(first), Some(sectors)) = (word(entry, 8), word(entry, 12)) else {
            continue;
        };
        let kind = match entry.get(4) {
            None | Some(0) => continue,
            Some(0x01 | 0x04 | 0x06 | 0x0b | 0x0c | 0x0e) => Kind::Fat,
            Some(0x83) => Kind::Linux,
            Some(other) => Kind::Other(*other),
        };
        let volume = disk.part(Sector(first), sectors)?;
        partitions.push(Partition {
            index,
            kind,
            volume,
        });
    }
    Ok(partitions)
}
