//! The memory map, put in order.
//!
//! What a loader hands over may be unsorted, overlap or be empty. Here it
//! becomes a sorted list without overlaps, in which the more careful meaning
//! of a byte wins: memory that any entry reserves is not used.

use core::cmp::Ordering;

use crate::number::{Decimal, Hex};

/// What a range of memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryKind {
    /// Memory to use.
    Ram,
    /// ACPI tables, to be used once they were read.
    Acpi,
    /// Not memory, or not ours.
    Reserved,
}

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    /// The first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// What it is for.
    pub kind: MemoryKind,
}

impl MemoryRegion {
    /// How many bytes it holds.
    pub const fn len_bytes(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// The most entries a map may have (Xen and firmware use up to 128).
pub const CAPACITY: usize = 128;

/// A place for a region: all zeros, so that a map in a static costs no bytes of the image.
const EMPTY: MemoryRegion = MemoryRegion {
    start: 0,
    end: 0,
    kind: MemoryKind::Ram,
};

/// A list of regions: sorted, not empty, not overlapping.
#[derive(Clone)]
pub struct MemoryMap {
    regions: [MemoryRegion; CAPACITY],
    len: usize,
}

/// Why a memory map cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// It has more than [`CAPACITY`] entries.
    TooLong,
    /// The entry that starts at this address ends before it.
    BadEntry(u64),
    /// No entry is usable memory.
    NoMemory,
}

impl core::fmt::Display for MapError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooLong => {
                let most = Decimal(CAPACITY as u64);
                write!(f, "the memory map has more than {most} entries")
            }
            Self::BadEntry(start) => {
                let start = Hex(*start, 1);
                write!(
                    f,
                    "the memory map has an entry at {start} that ends before it"
                )
            }
            Self::NoMemory => f.write_str("the memory map has no usable memory"),
        }
    }
}

impl core::error::Error for MapError {}

impl MemoryMap {
    /// A map of nothing.
    pub const fn empty() -> Self {
        Self {
            regions: [EMPTY; CAPACITY],
            len: 0,
        }
    }

    /// Puts a loader's map in order.
    ///
    /// # Errors
    /// The map is too long, has impossible entries or no usable memory.
    pub fn from_entries(entries: impl IntoIterator<Item = MemoryRegion>) -> Result<Self, MapError> {
        let mut map = Self::empty();
        map.set(entries)?;
        Ok(map)
    }

    /// The same, in a map that has its place already: at boot, stacks are small.
    ///
    /// # Errors
    /// As [`MemoryMap::from_entries`]; the map then holds nothing useful.
    pub fn set(&mut self, entries: impl IntoIterator<Item = MemoryRegion>) -> Result<(), MapError> {
        let mut raw = Self::empty();
        for entry in entries {
            raw.add(entry)?;
        }
        self.put_in_order(raw.regions())
    }

    fn add(&mut self, entry: MemoryRegion) -> Result<(), MapError> {
        match entry.end.cmp(&entry.start) {
            Ordering::Less => Err(MapError::BadEntry(entry.start)),
            Ordering::Equal => Ok(()),
            Ordering::Greater => self.push(entry),
        }
    }

    /// Walks the borders of all entries from low to high; between two borders
    /// the most careful kind of those that cover the stretch wins.
    fn put_in_order(&mut self, raw: &[MemoryRegion]) -> Result<(), MapError> {
        self.len = 0;
        let mut start = 0;
        loop {
            // Plain loops: this runs once, and its size counts.
            let mut end = start;
            for region in raw {
                for border in [region.start, region.end] {
                    if border > start && (end == start || border < end) {
                        end = border;
                    }
                }
            }
            if end == start {
                break;
            }
            let mut kind = None;
            for region in raw {
                if region.start <= start && region.end >= end {
                    kind = kind.max(Some(region.kind));
                }
            }
            if let Some(kind) = kind {
                self.push_merging(MemoryRegion { start, end, kind })?;
            }
            start = end;
        }
        match self.ram_bytes() {
            0 => Err(MapError::NoMemory),
            _ => Ok(()),
        }
    }

    /// Takes usable memory away from the top until no more than `limit_bytes` are left:
    /// what lies above is in no region then.
    pub fn limit_ram(&mut self, limit_bytes: u64) {
        let mut left = limit_bytes & !(hypercall_abi::PAGE_SIZE as u64 - 1);
        let mut kept = 0;
        for index in 0..self.len {
            let Some(region) = self.regions.get_mut(index) else {
                break;
            };
            let mut region = *region;
            if region.kind == MemoryKind::Ram {
                region.end = region.end.min(region.start.saturating_add(left));
                left = left.saturating_sub(region.len_bytes());
            }
            if region.len_bytes() > 0
                && let Some(slot) = self.regions.get_mut(kept)
            {
                *slot = region;
                kept += 1;
            }
        }
        self.len = kept;
    }

    fn push(&mut self, region: MemoryRegion) -> Result<(), MapError> {
        let slot = self.regions.get_mut(self.len).ok_or(MapError::TooLong)?;
        *slot = region;
        self.len += 1;
        Ok(())
    }

    fn push_merging(&mut self, region: MemoryRegion) -> Result<(), MapError> {
        let last = self
            .len
            .checked_sub(1)
            .and_then(|i| self.regions.get_mut(i));
        match last {
            Some(last) if last.end == region.start && last.kind == region.kind => {
                last.end = region.end;
                Ok(())
            }
            _ => self.push(region),
        }
    }

    #[inline(never)]
    fn regions(&self) -> &[MemoryRegion] {
        self.regions.get(..self.len).unwrap_or(&[])
    }

    /// The regions from low to high.
    pub fn iter(&self) -> impl Iterator<Item = &MemoryRegion> + Clone {
        self.regions().iter()
    }

    /// The usable regions from low to high, cut down to whole pages.
    pub fn ram(&self) -> impl Iterator<Item = MemoryRegion> + Clone + '_ {
        self.iter().filter_map(whole_pages)
    }

    /// How many bytes of usable memory there are, in whole pages.
    pub fn ram_bytes(&self) -> u64 {
        self.ram()
            .fold(0, |sum, r| sum.saturating_add(r.len_bytes()))
    }

    /// One past the last usable byte.
    pub fn ram_end(&self) -> u64 {
        self.ram().map(|r| r.end).max().unwrap_or(0)
    }
}

/// The whole pages of a usable region.
#[inline(never)]
fn whole_pages(region: &MemoryRegion) -> Option<MemoryRegion> {
    const PAGE: u64 = hypercall_abi::PAGE_SIZE as u64;
    let start = region.start.checked_next_multiple_of(PAGE)?;
    let end = region.end & !(PAGE - 1);
    let kind = region.kind;
    (kind == MemoryKind::Ram && start < end).then_some(MemoryRegion { start, end, kind })
}

impl core::fmt::Debug for MemoryMap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64, kind: MemoryKind) -> MemoryRegion {
        MemoryRegion { start, end, kind }
    }
    use MemoryKind::{Acpi, Ram, Reserved};

    #[test]
    fn entries_are_sorted_and_merged() {
        let map = MemoryMap::from_entries([
            region(0x10_0000, 0x20_0000, Ram),
            region(0, 0x9_f000, Ram),
            region(0x20_0000, 0x30_0000, Ram),
        ])
        .unwrap();
        assert!(
            map.iter()
                .eq(&[region(0, 0x9_f000, Ram), region(0x10_0000, 0x30_0000, Ram)])
        );
        assert_eq!(map.ram_bytes(), 0x29_f000);
        assert_eq!(map.ram_end(), 0x30_0000);
    }

    #[test]
    fn the_more_careful_kind_wins_where_entries_overlap() {
        let map = MemoryMap::from_entries([
            region(0, 0x10_0000, Ram),
            region(0x4000, 0x6000, Reserved),
            region(0x5000, 0x8000, Acpi),
        ])
        .unwrap();
        assert!(map.iter().eq(&[
            region(0, 0x4000, Ram),
            region(0x4000, 0x6000, Reserved),
            region(0x6000, 0x8000, Acpi),
            region(0x8000, 0x10_0000, Ram),
        ]));
    }

    #[test]
    fn usable_memory_comes_in_whole_pages() {
        let map =
            MemoryMap::from_entries([region(0x800, 0x2fff, Ram), region(0x5001, 0x5fff, Ram)])
                .unwrap();
        assert!(map.ram().eq([region(0x1000, 0x2000, Ram)]));
    }

    #[test]
    fn memory_is_taken_away_from_the_top() {
        let all = [
            region(0, 0x4000, Ram),
            region(0x4000, 0x6000, Reserved),
            region(0x6000, 0x9000, Ram),
            region(0xa000, 0xb000, Ram),
        ];
        let limited = |limit_bytes| {
            let mut map = MemoryMap::from_entries(all).unwrap();
            map.limit_ram(limit_bytes);
            map
        };
        assert!(limited(u64::MAX).iter().eq(&all));
        assert!(limited(0x8000).iter().eq(&all));
        assert_eq!(limited(0x7fff).ram_bytes(), 0x7000);
        assert_eq!(limited(0x5000).ram_end(), 0x7000);
        assert!(limited(0x5000).iter().any(|r| r.kind == Reserved));
        assert_eq!(limited(0x1000).ram_end(), 0x1000);
    }

    #[test]
    fn impossible_maps_are_refused() {
        assert_eq!(MemoryMap::from_entries([]).unwrap_err(), MapError::NoMemory);
        assert_eq!(
            MemoryMap::from_entries([region(0, u64::MAX, Reserved)]).unwrap_err(),
            MapError::NoMemory
        );
        let bad = region(2, 1, Ram);
        assert_eq!(
            MemoryMap::from_entries([bad]).unwrap_err(),
            MapError::BadEntry(2)
        );
        let many = (0..200).map(|i| region(i * 0x2000, i * 0x2000 + 0x1000, Ram));
        assert_eq!(
            MemoryMap::from_entries(many).unwrap_err(),
            MapError::TooLong
        );
    }

    #[test]
    fn the_top_of_the_address_space_does_not_wrap() {
        let map = MemoryMap::from_entries([region(0xffff_ffff_ffff_f800, u64::MAX, Ram)]);
        assert_eq!(map.unwrap_err(), MapError::NoMemory);
    }
}
