//! Page tables of a guest that owns them (PVH, and a plain machine).

use core::ops::Range;

use hypercall_abi::PAGE_SIZE;

use super::{
    image::{self, Access},
    memory,
};
use crate::{Error, memory::MemoryMap};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const PAGE: u64 = PAGE_SIZE as u64;
/// The levels on which a page may be mapped: 4 KiB, 2 MiB, 1 GiB.
const SHIFTS: [u32; 3] = [12, 21, 30];
/// The shift of the top table's index.
const TOP_SHIFT: u32 = 39;

/// A tree of page tables.
#[derive(Debug)]
pub(super) struct PageTables {
    root_paddr: u64,
    no_execute: u64,
    /// The greatest of [`SHIFTS`] that the processor knows.
    largest: u32,
}

fn new_table() -> Result<u64, Error> {
    memory::allocate_zeroed(1)
        .and_then(|page| memory::physical_of(page.addr().get() as u64))
        .ok_or(Error::OutOfMemory("page tables"))
}

fn entry(table_paddr: u64, virt: u64, shift: u32) -> *mut u64 {
    let index = virt >> shift & 511;
    let table = memory::virtual_of(table_paddr);
    core::ptr::with_exposed_provenance_mut((table + index * 8) as usize)
}

impl PageTables {
    /// Tables that map nothing.
    pub(super) fn new() -> Result<Self, Error> {
        let extended = hypercall_abi::arch_x86::cpuid::Cpuid::PLAIN.leaf(0x8000_0001, 0);
        Ok(Self {
            root_paddr: new_table()?,
            no_execute: if extended.edx & (1 << 20) != 0 {
                NO_EXECUTE
            } else {
                0
            },
            largest: if extended.edx & (1 << 26) != 0 {
                30
            } else {
                21
            },
        })
    }

    fn bits(&self, access: Access) -> u64 {
        match access {
            Access::None => 0,
            Access::Execute => PRESENT,
            Access::Read => PRESENT | self.no_execute,
            Access::Write => PRESENT | WRITABLE | self.no_execute,
        }
    }

    /// The entry that maps `virt` with a page of `1 << shift` bytes, in tables
    /// that are made where there are none.
    fn entry_for(&self, virt: u64, shift: u32) -> Result<*mut u64, Error> {
        let mut table = self.root_paddr;
        let mut level = TOP_SHIFT;
        while level > shift {
            let slot = entry(table, virt, level);
            // SAFETY: a word of a page table of ours.
            let value = unsafe { slot.read() };
            table = if value & PRESENT == 0 {
                let table = new_table()?;
                // SAFETY: as above; nothing was mapped there.
                unsafe { slot.write(table | PRESENT | WRITABLE) };
                table
            } else {
                value & ADDRESS
            };
            level -= 9;
        }
        Ok(entry(table, virt, shift))
    }

    /// Maps a range of memory (whole pages) with pages as large as fit.
    pub(super) fn map(&mut self, paddr: Range<u64>, access: Access) -> Result<(), Error> {
        let mut at = paddr.start;
        while at < paddr.end {
            let virt = memory::virtual_of(at);
            let shift = SHIFTS
                .into_iter()
                .rev()
                .find(|shift| {
                    let size = 1_u64 << shift;
                    *shift <= self.largest
                        && (at | virt) & (size - 1) == 0
                        && paddr.end - at >= size
                })
                .unwrap_or(12);
            let large = if shift > 12 { LARGE } else { 0 };
            let value = match self.bits(access) {
                0 => 0,
                bits => at | bits | large,
            };
            let slot = self.entry_for(virt, shift)?;
            // SAFETY: an entry of a table of ours.
            unsafe { slot.write(value) };
            at += 1 << shift;
        }
        Ok(())
    }

    /// Maps all memory: the image by its sections, the rest writable.
    pub(super) fn map_all(&mut self, map: &MemoryMap) -> Result<(), Error> {
        let image = image::image();
        let image = image.start - image::VIRT_BASE..image.end - image::VIRT_BASE;
        for region in map.ram() {
            let before = region.start..region.end.min(image.start);
            let after = region.start.max(image.end)..region.end;
            for range in [before, after] {
                if range.start < range.end {
                    self.map(range, Access::Write)?;
                }
            }
        }
        let mut at = image.start;
        while at < image.end {
            self.map(at..at + PAGE, image::access_of(memory::virtual_of(at)))?;
            at += PAGE;
        }
        Ok(())
    }

    /// Makes the processor use these tables.
    ///
    /// # Safety
    /// They map all that the running code uses.
    pub(super) unsafe fn activate(&self) {
        // SAFETY: the caller's promise.
        unsafe { x86::controlregs::cr3_write(self.root_paddr) };
    }
}
