//! Page tables of x86-64 that belong to the guest, over any memory that holds
//! them.
//!
//! Every page is seen at its physical address plus a constant, so there is one
//! right entry for each address. [`PageTables::map`] writes entries only where
//! there is none: what is mapped stays as it is, whether by a small page, by a
//! large one or by a table of small ones, and a request that contradicts it is
//! refused. No present entry is ever replaced, so nothing has to be flushed.
//! Source: AMD APM volume 2, 5.3; Intel SDM volume 3, 5.5.

use core::ops::Range;

use crate::error::Error;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
/// In an entry of the upper levels: it maps a page, and leads to no table.
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The shift of an index into the lowest tables, and of the smallest page.
const PAGE_SHIFT: u32 = 12;
/// The shift of the top table's index.
const TOP_SHIFT: u32 = 39;
/// The bits of an index.
const INDEX_BITS: u32 = 9;

/// What a page may be used for. Nothing is ever writable and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: it is not mapped.
    None,
    /// Read, and run.
    Execute,
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// What the processor knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// Pages can be kept from being executed.
    pub(crate) no_execute: bool,
    /// The shift of the largest page: 21, or 30.
    pub(crate) largest_shift: u32,
    /// How many bits of a physical address there are.
    pub(crate) paddr_bits: u32,
    /// Where physical address zero is seen.
    pub(crate) virt_base: u64,
}

/// The memory that page tables lie in.
pub(crate) trait TableMemory {
    /// The physical address of a fresh page of zeroes; `None` if there is no
    /// memory.
    fn new_table(&mut self) -> Option<u64>;

    /// Reads entry `index` (below 512) of the table at `table_paddr`.
    ///
    /// # Safety
    /// `table_paddr` came from [`TableMemory::new_table`].
    unsafe fn read(&self, table_paddr: u64, index: usize) -> u64;

    /// Writes entry `index` (below 512) of the table at `table_paddr`.
    ///
    /// # Safety
    /// As for [`TableMemory::read`]; what the entry maps may be accessed so.
    unsafe fn write(&mut self, table_paddr: u64, index: usize, entry: u64);
}

/// A tree of page tables.
#[derive(Debug)]
pub(crate) struct PageTables<M> {
    memory: M,
    root_paddr: u64,
    features: Features,
}

/// A page that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapped {
    paddr: u64,
    /// Its size is `1 << shift`.
    shift: u32,
    bits: u64,
}

/// What the walk found at a level.
enum Step {
    Absent,
    Table(u64),
    Page(Mapped),
}

fn index(virt: u64, shift: u32) -> usize {
    (virt >> shift) as usize & ((1 << INDEX_BITS) - 1)
}

const CONFLICT: Error = Error::StartInfo("a page would be mapped in two ways");
const BEYOND: Error = Error::StartInfo("memory lies beyond the processor's addresses");

impl<M: TableMemory> PageTables<M> {
    /// Tables that map nothing.
    ///
    /// # Errors
    /// There is no memory.
    pub(crate) fn new(mut memory: M, features: Features) -> Result<Self, Error> {
        let root_paddr = memory
            .new_table()
            .ok_or(Error::OutOfMemory("page tables"))?;
        Ok(Self {
            memory,
            root_paddr,
            features,
        })
    }

    /// The physical address of the top table.
    pub(crate) const fn root_paddr(&self) -> u64 {
        self.root_paddr
    }

    /// Where a physical address is seen.
    const fn virtual_of(&self, paddr: u64) -> u64 {
        paddr + self.features.virt_base
    }

    /// One past the highest physical address that can be mapped.
    fn paddr_end(&self) -> u64 {
        // Of the lower half of the addresses; the base lies far below its end.
        1 << self.features.paddr_bits.min(46)
    }

    const fn bits(&self, access: Access) -> u64 {
        let no_execute = if self.features.no_execute {
            NO_EXECUTE
        } else {
            0
        };
        match access {
            Access::None => 0,
            Access::Execute => PRESENT,
            Access::Read => PRESENT | no_execute,
            Access::Write => PRESENT | WRITABLE | no_execute,
        }
    }

    /// The entry for `virt` in the table at `table_paddr`, whose indices are
    /// shifted by `shift`.
    fn step(&self, table_paddr: u64, virt: u64, shift: u32) -> Step {
        // SAFETY: all callers come from the root, by tables that were linked
        // below; pages are told from tables here, so none is taken for one.
        let entry = unsafe { self.memory.read(table_paddr, index(virt, shift)) };
        if entry & PRESENT == 0 {
            return Step::Absent;
        }
        if shift == PAGE_SHIFT || entry & LARGE != 0 {
            return Step::Page(Mapped {
                // Of a large page, the low bits of the address mean something else.
                paddr: entry & ADDRESS & !((1 << shift) - 1),
                shift,
                bits: entry & (PRESENT | WRITABLE | NO_EXECUTE),
            });
        }
        Step::Table(entry & ADDRESS)
    }

    /// What is mapped at `virt`, by a page of any size.
    fn lookup(&self, virt: u64) -> Option<Mapped> {
        let (mut table, mut shift) = (self.root_paddr, TOP_SHIFT);
        loop {
            match self.step(table, virt, shift) {
                Step::Absent => return None,
                Step::Page(mapped) => return Some(mapped),
                Step::Table(next) => table = next,
            }
            shift -= INDEX_BITS;
        }
    }

    /// Whether the page at `paddr` is mapped.
    pub(crate) fn is_mapped(&self, paddr: u64) -> bool {
        paddr < self.paddr_end() && self.lookup(self.virtual_of(paddr)).is_some()
    }

    /// Maps memory (whole pages) with pages as large as fit. What is mapped so
    /// already, by pages of whatever size, stays.
    ///
    /// # Errors
    /// There is no memory for tables, the processor has no such address, or a
    /// part is mapped with another access. What comes before is mapped then.
    pub(crate) fn map(&mut self, paddr: Range<u64>, access: Access) -> Result<(), Error> {
        if paddr.end > self.paddr_end() {
            return Err(BEYOND);
        }
        let bits = self.bits(access);
        let mut at = paddr.start;
        while at < paddr.end {
            let mapped = self.find_or_map(at, paddr.end, bits)?;
            let offset = at & ((1 << mapped.shift) - 1);
            if mapped.bits != bits || mapped.paddr + offset != at {
                return Err(CONFLICT);
            }
            at = mapped.paddr + (1 << mapped.shift);
        }
        Ok(())
    }

    /// The page that is mapped at `at`; if there is none, maps one: the largest that ends by
    /// `end` and has no table in its place.
    fn find_or_map(&mut self, at: u64, end: u64, bits: u64) -> Result<Mapped, Error> {
        let virt = self.virtual_of(at);
        let (mut table, mut shift) = (self.root_paddr, TOP_SHIFT);
        loop {
            let size = 1_u64 << shift;
            let fits = shift <= self.features.largest_shift
                && (at | virt) & (size - 1) == 0
                && end - at >= size;
            match self.step(table, virt, shift) {
                Step::Table(next) => table = next,
                Step::Page(mapped) => return Ok(mapped),
                // That is what was asked for.
                Step::Absent if bits == 0 => {
                    return Ok(Mapped {
                        paddr: at,
                        shift: PAGE_SHIFT,
                        bits,
                    });
                }
                Step::Absent if fits || shift == PAGE_SHIFT => {
                    let large = if shift == PAGE_SHIFT { 0 } else { LARGE };
                    let entry = at | bits | large;
                    // SAFETY: 1. a table of this tree; 2. nothing was mapped
                    // there, and this address is that memory's own.
                    unsafe { self.memory.write(table, index(virt, shift), entry) };
                    return Ok(Mapped {
                        paddr: at,
                        shift,
                        bits,
                    });
                }
                Step::Absent => {
                    let next = self
                        .memory
                        .new_table()
                        .ok_or(Error::OutOfMemory("page tables"))?;
                    let entry = next | PRESENT | WRITABLE;
                    // SAFETY: as above; an empty table maps nothing.
                    unsafe { self.memory.write(table, index(virt, shift), entry) };
                    table = next;
                }
            }
            shift -= INDEX_BITS;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{collections::BTreeMap, vec::Vec};

    const BASE: u64 = 0x4000_0000;
    const PAGE: u64 = 1 << PAGE_SHIFT;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    /// Tables by their addresses. Whoever takes a page for one is found out.
    #[derive(Debug, Default)]
    struct Tables {
        tables: BTreeMap<u64, [u64; 512]>,
        left: usize,
        replaced: usize,
    }

    impl TableMemory for Tables {
        fn new_table(&mut self) -> Option<u64> {
            self.left = self.left.checked_sub(1)?;
            let paddr = 0xdead_0000_0000 + self.tables.len() as u64 * PAGE;
            self.tables.insert(paddr, [0; 512]);
            Some(paddr)
        }
        unsafe fn read(&self, table_paddr: u64, index: usize) -> u64 {
            self.tables.get(&table_paddr).expect("not a table")[index]
        }
        unsafe fn write(&mut self, table_paddr: u64, index: usize, entry: u64) {
            let table = self.tables.get_mut(&table_paddr).expect("not a table");
            self.replaced += usize::from(table[index] != 0);
            table[index] = entry;
        }
    }

    fn tables_of(largest_shift: u32, left: usize) -> PageTables<Tables> {
        let memory = Tables {
            left,
            ..Tables::default()
        };
        let features = Features {
            no_execute: true,
            largest_shift,
            paddr_bits: 40,
            virt_base: BASE,
        };
        PageTables::new(memory, features).unwrap()
    }

    fn tables() -> PageTables<Tables> {
        tables_of(30, 10_000)
    }

    /// The pages of a range, by their sizes.
    fn shifts(tables: &PageTables<Tables>, range: Range<u64>) -> Vec<u32> {
        let mut at = range.start;
        let mut shifts = Vec::new();
        while at < range.end {
            let mapped = tables.lookup(BASE + at).expect("it is mapped");
            assert_eq!(mapped.paddr + (at & ((1 << mapped.shift) - 1)), at);
            shifts.push(mapped.shift);
            at = mapped.paddr + (1 << mapped.shift);
        }
        shifts
    }

    #[test]
    fn pages_are_as_large_as_fit() {
        let mut tables = tables();
        tables
            .map(2 * MIB - PAGE..4 * MIB + PAGE, Access::Write)
            .unwrap();
        assert_eq!(
            shifts(&tables, 2 * MIB - PAGE..4 * MIB + PAGE),
            [12, 21, 12]
        );
        assert!(!tables.is_mapped(2 * MIB - 2 * PAGE) && !tables.is_mapped(4 * MIB + PAGE));
        tables.map(GIB..3 * GIB, Access::Write).unwrap();
        assert_eq!(shifts(&tables, GIB..3 * GIB), [30, 30]);
        let mut small = tables_of(21, 10_000);
        small.map(GIB..2 * GIB, Access::Write).unwrap();
        assert_eq!(shifts(&small, GIB..2 * GIB), [21; 512]);
    }

    #[test]
    fn a_small_page_within_a_large_one_is_there_already() {
        let mut tables = tables();
        tables.map(0..2 * GIB, Access::Write).unwrap();
        let before = tables.memory.tables.clone();
        for at in [0, 8 * MIB + 5 * PAGE, GIB + 7 * PAGE, 2 * GIB - PAGE] {
            assert!(tables.is_mapped(at));
            tables.map(at..at + PAGE, Access::Write).unwrap();
        }
        assert_eq!(tables.memory.tables, before);
        // Another access would need the large page to be split.
        let text = tables.map(MIB..MIB + PAGE, Access::Execute);
        assert_eq!(text, Err(CONFLICT));
        assert_eq!(tables.memory.tables, before);
    }

    #[test]
    fn a_large_page_does_not_take_the_place_of_a_table() {
        let mut tables = tables();
        let small = 6 * MIB + 3 * PAGE..6 * MIB + 9 * PAGE;
        tables.map(small.clone(), Access::Write).unwrap();
        let made = tables.memory.tables.len();
        tables.map(6 * MIB..8 * MIB, Access::Write).unwrap();
        assert_eq!(shifts(&tables, 6 * MIB..8 * MIB), [12; 512]);
        assert_eq!(tables.memory.tables.len(), made);
        assert_eq!(tables.memory.replaced, 0);
        // And the next one, whose place is free, is large.
        tables.map(6 * MIB..10 * MIB, Access::Write).unwrap();
        assert_eq!(shifts(&tables, 8 * MIB..10 * MIB), [21]);
    }

    #[test]
    fn what_is_mapped_otherwise_stays() {
        let mut tables = tables();
        tables.map(MIB..MIB + PAGE, Access::Execute).unwrap();
        for access in [Access::Write, Access::Read, Access::None] {
            assert_eq!(tables.map(0..2 * MIB, access), Err(CONFLICT));
            let code = tables.lookup(BASE + MIB).unwrap();
            assert_eq!(code.bits, PRESENT);
        }
        assert_eq!(tables.memory.replaced, 0);
    }

    #[test]
    fn nothing_is_mapped_without_access() {
        let mut tables = tables();
        tables.map(0..4 * MIB, Access::None).unwrap();
        assert!(tables.memory.tables.keys().eq([&tables.root_paddr()]));
        assert!(!tables.is_mapped(0));
    }

    #[test]
    fn addresses_that_the_processor_has_not_are_refused() {
        let mut tables = tables();
        let end = 1 << 40;
        tables.map(end - PAGE..end, Access::Write).unwrap();
        assert_eq!(tables.map(end..end + PAGE, Access::Write), Err(BEYOND));
        assert!(!tables.is_mapped(end) && !tables.is_mapped(u64::MAX));
    }

    #[test]
    fn without_memory_what_is_mapped_stays_right() {
        for left in 1..8 {
            let mut tables = tables_of(30, left);
            let range = 2 * MIB - PAGE..2 * MIB + PAGE;
            let told = tables.map(range.clone(), Access::Write);
            assert_eq!(told.is_ok(), left >= 5);
            for at in [range.start, range.start + PAGE] {
                if let Some(mapped) = tables.lookup(BASE + at) {
                    assert_eq!((mapped.paddr, mapped.shift), (at, 12));
                }
            }
        }
    }

    /// Ranges of all sizes, one after the other, as the window gives them out:
    /// each address leads to its own memory, whatever came before.
    #[test]
    fn whatever_the_order_every_page_is_seen_where_it_belongs() {
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let (rounds, ranges) = if cfg!(miri) { (1, 3) } else { (10, 20) };
        for _ in 0..rounds {
            let mut tables = tables();
            let mut wanted = Vec::new();
            for _ in 0..ranges {
                let start = GIB + random(1024) * PAGE;
                let count = [1, 2, 511, 512, 513][random(5) as usize];
                wanted.push(start..start + count * PAGE);
                tables
                    .map(start..start + count * PAGE, Access::Write)
                    .unwrap();
                for range in &wanted {
                    let _sizes = shifts(&tables, range.clone());
                }
            }
            assert_eq!(tables.memory.replaced, 0);
        }
    }
}
