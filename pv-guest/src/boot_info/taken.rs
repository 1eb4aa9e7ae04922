//! What of a guest's memory has a use when the guest starts.

use core::ops::Range;

use hypercall_abi::{
    PAGE_SIZE,
    hvm::{HvmModlistEntry, HvmStartInfo},
};
use zerocopy::FromBytes;

use super::{PhysicalMemory, RingLocation};
use crate::error::Error;
#[cfg(any(test, target_os = "none"))]
use crate::memory::MemoryMap;

const PAGE: u64 = PAGE_SIZE as u64;

/// Pages that have a use, by ranges of physical addresses: the allocator gives none of
/// them away, and no ring lies in one.
#[derive(Debug)]
pub(crate) struct Taken {
    ranges: [Range<u64>; Self::MOST],
    len: usize,
}

impl Taken {
    /// The image, five places of the loader's, modules, tables, and two rings.
    const MOST: usize = 26;
    /// The most modules that are looked at.
    const MAX_MODULES: u64 = 16;

    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self {
            ranges: [const { 0..0 }; Self::MOST],
            len: 0,
        }
    }

    /// Takes the pages that a range lies in.
    #[inline(never)]
    pub(crate) fn push(&mut self, start: u64, len_bytes: u64) {
        if let Some(slot) = self.ranges.get_mut(self.len) {
            let end = start.saturating_add(len_bytes);
            *slot = start & !(PAGE - 1)..end.saturating_add(PAGE - 1) & !(PAGE - 1);
            self.len += 1;
        }
    }

    /// Whether the page at `paddr` has a use.
    #[inline(never)]
    pub(crate) fn has(&self, paddr: u64) -> bool {
        self.ranges().iter().any(|range| range.contains(&paddr))
    }

    /// Takes the page of each ring, into which a daemon writes at any time: nobody
    /// else's, wherever the toolstack has put it. `paddr` tells where one is, if that is
    /// memory.
    ///
    /// # Errors
    /// That of `paddr`, or the page has another use.
    #[inline(never)]
    pub(crate) fn push_rings(
        &mut self,
        rings: [Option<RingLocation>; 2],
        paddr: fn(RingLocation) -> Result<Option<u64>, Error>,
    ) -> Result<(), Error> {
        for ring in rings.into_iter().flatten() {
            let Some(paddr) = paddr(ring)? else {
                continue;
            };
            if self.has(paddr) {
                return Err(Error::StartInfo("a ring's page has another use"));
            }
            self.push(paddr, PAGE);
        }
        Ok(())
    }

    /// All of them.
    pub(crate) fn ranges(&self) -> &[Range<u64>] {
        self.ranges.get(..self.len).unwrap_or(&[])
    }

    /// The lowest `len_bytes` of memory below `end` that have no use.
    #[cfg(any(test, target_os = "none"))]
    pub(crate) fn find_room(&self, map: &MemoryMap, end: u64, len_bytes: u64) -> Option<u64> {
        map.ram().find_map(|region| {
            let mut at = region.start;
            // Jump behind what is in the way until nothing is.
            while let Some(obstacle) = self
                .ranges()
                .iter()
                .find(|range| range.start < at.saturating_add(len_bytes) && at < range.end)
            {
                at = obstacle.end;
            }
            // By the region, whose end a map may place anywhere.
            let room = region.end.min(end).checked_sub(at)?;
            (len_bytes <= room).then_some(at)
        })
    }

    /// Takes what the loader of a PVH guest has placed, whose start information lies at
    /// `paddr`. What of it is wrong, [`BootInfo::from_pvh`](super::BootInfo::from_pvh)
    /// finds.
    pub(crate) fn push_pvh(&mut self, paddr: u64, memory: &impl PhysicalMemory) {
        self.push(paddr, size_of::<HvmStartInfo>() as u64);
        let Some(start) = read::<HvmStartInfo>(memory, paddr) else {
            return;
        };
        let entry_bytes = size_of::<hypercall_abi::hvm::HvmMemmapTableEntry>() as u64;
        self.push(
            start.memmap_paddr,
            u64::from(start.memmap_entries) * entry_bytes,
        );
        if start.cmdline_paddr != 0 {
            // With the NUL at its end: what lies behind it in the page is no part of it.
            let is_text = |len: &u64| {
                let at = start.cmdline_paddr.checked_add(*len);
                at.and_then(|at| read::<u8>(memory, at))
                    .is_some_and(|byte| byte != 0)
            };
            let len_bytes = (0..PAGE).take_while(is_text).count() as u64;
            self.push(start.cmdline_paddr, len_bytes + 1);
        }
        let entry_bytes = size_of::<HvmModlistEntry>() as u64;
        let nr_modules = u64::from(start.nr_modules).min(Self::MAX_MODULES);
        if nr_modules > 0 {
            self.push(start.modlist_paddr, nr_modules * entry_bytes);
        }
        for i in 0..nr_modules {
            let at = start.modlist_paddr.saturating_add(i * entry_bytes);
            if let Some(module) = read::<HvmModlistEntry>(memory, at) {
                self.push(module.paddr, module.size);
            }
        }
    }
}

fn read<T: FromBytes>(memory: &impl PhysicalMemory, paddr: u64) -> Option<T> {
    T::read_from_bytes(memory.bytes(paddr, size_of::<T>())?).ok()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::memory::{MemoryKind, MemoryRegion};
    use hypercall_abi::{Gfn, Port};
    use std::vec::Vec;
    use zerocopy::{FromZeros, IntoBytes};

    #[test]
    fn a_ring_lies_where_nothing_else_does() {
        let mut taken = Taken::new();
        taken.push(0x1800, 0x1000);
        let at = |gfn| {
            Some(RingLocation {
                gfn: Gfn(gfn),
                port: Port(1),
            })
        };
        let paddr = |ring: RingLocation| Ok(ring.gfn.address());
        for gfn in [1, 2] {
            assert!(taken.push_rings([at(gfn), None], paddr).is_err(), "{gfn}");
            assert!(taken.push_rings([None, at(gfn)], paddr).is_err(), "{gfn}");
        }
        // Nor two rings in one page.
        assert!(taken.push_rings([at(7); 2], paddr).is_err());
        let before = taken.ranges().len();
        assert_eq!(taken.push_rings([at(0), at(3)], paddr), Ok(()));
        assert_eq!(
            taken.ranges().get(before..),
            Some([0..PAGE, 0x3000..0x4000].as_slice())
        );
        // One that is no memory of this guest's.
        assert_eq!(taken.push_rings([at(1), None], |_| Ok(None)), Ok(()));
    }

    #[test]
    fn absurd_ranges_end_somewhere() {
        let mut taken = Taken::new();
        taken.push(u64::MAX - 1, u64::MAX);
        taken.push(0, u64::MAX);
        taken.push(5, 0);
        for range in taken.ranges() {
            assert!(range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE));
        }
        for at in 0..100 {
            taken.push(at * PAGE, PAGE);
        }
        assert_eq!(taken.ranges().len(), Taken::MOST);
    }

    #[test]
    fn room_is_found_beside_what_is_taken() {
        let region = |start, end| MemoryRegion {
            start,
            end,
            kind: MemoryKind::Ram,
        };
        let regions = [
            region(0, 0x4000),
            region(0x1_0000, 0x2_0000),
            region(u64::MAX - 0xffff, u64::MAX),
        ];
        let map = MemoryMap::from_entries(regions).unwrap();
        let mut taken = Taken::new();
        taken.push(0x1000, PAGE);
        taken.push(0x1_1000, PAGE);
        let room = |end, pages| taken.find_room(&map, end, pages * PAGE);
        assert_eq!(room(u64::MAX, 1), Some(0));
        assert_eq!(room(u64::MAX, 2), Some(0x2000));
        assert_eq!(room(u64::MAX, 3), Some(0x1_2000));
        assert_eq!(room(0x1_3000, 3), None);
        // More than there is: the end of the last region is no end to count beyond.
        assert_eq!(room(0x1_0000_0000, 1 << 40), None);
        assert_eq!(room(u64::MAX, 1 << 51), None);
        assert_eq!(room(0x1000, 1), Some(0));
    }

    /// Whatever a loader has placed is kept from rings.
    #[test]
    fn what_a_loader_placed_is_taken() {
        let mut start = HvmStartInfo::new_zeroed();
        start.nr_modules = 2;
        start.modlist_paddr = 0x2000;
        start.memmap_paddr = 0x3000;
        start.memmap_entries = 200;
        start.cmdline_paddr = 0x5ffc;
        let module = |paddr, size| HvmModlistEntry {
            paddr,
            size,
            cmdline_paddr: 0,
            reserved: 0,
        };
        let modules = [module(0x8_0000, 0x1001), module(0x9_0000, 1)];
        let mut memory = std::vec![0; 0x1_0000];
        memory[0x1000..0x1038].copy_from_slice(start.as_bytes());
        memory[0x2000..0x2040].copy_from_slice(modules.as_bytes());
        // Its NUL is the last byte of the page.
        memory[0x5ffc..0x6001].copy_from_slice(b"a=b\0x");
        let memory: &'static [u8] = Vec::leak(memory);
        let physical = move |paddr: u64, len: usize| {
            let start = usize::try_from(paddr).ok()?;
            memory.get(start..start.checked_add(len)?)
        };
        let mut taken = Taken::new();
        taken.push_pvh(0x1000, &physical);
        let pages: Vec<u64> = (0..0x100).filter(|page| taken.has(page << 12)).collect();
        let expected = [1, 2, 3, 4, 5, 0x80, 0x81, 0x90];
        assert_eq!(pages, expected);
        // Start information that is nowhere.
        let mut none = Taken::new();
        none.push_pvh(u64::MAX - 8, &physical);
        assert_eq!(none.ranges().len(), 1);
    }
}
