//! Page tables of a guest that owns them (PVH, and a plain machine).

use hypercall_abi::{PAGE_SIZE, arch_x86::cpuid::Cpuid};

use super::{image, memory};
use crate::{
    Error,
    memory::{
        MemoryMap,
        tables::{Access, Features, PageTables, TableMemory},
    },
};

const PAGE: u64 = PAGE_SIZE as u64;

/// The guest's own memory, as the direct map shows it.
#[derive(Debug)]
pub(super) struct DirectMap;

/// The tables of this guest.
pub(super) type Tables = PageTables<DirectMap>;

fn place(table_paddr: u64, index: usize) -> *mut u64 {
    let address = memory::virtual_of(table_paddr) + (index * size_of::<u64>()) as u64;
    core::ptr::with_exposed_provenance_mut(address as usize)
}

impl TableMemory for DirectMap {
    fn new_table(&mut self) -> Option<u64> {
        let page = memory::allocate_zeroed(1)?;
        memory::physical_of(page.addr().get() as u64)
    }

    unsafe fn read(&self, table_paddr: u64, index: usize) -> u64 {
        // SAFETY: a word of a page that `new_table` gave, which is mapped
        // for good and used as a table only.
        unsafe { place(table_paddr, index).read_volatile() }
    }

    unsafe fn write(&mut self, table_paddr: u64, index: usize, entry: u64) {
        // SAFETY: as above; what the entry maps is the caller's promise.
        unsafe { place(table_paddr, index).write_volatile(entry) };
    }
}

/// What this processor knows of.
fn features() -> Features {
    const ADDRESS_SIZES: u32 = 0x8000_0008;
    let extended = Cpuid::PLAIN.leaf(0x8000_0001, 0);
    let highest = Cpuid::PLAIN.leaf(0x8000_0000, 0).eax;
    let paddr_bits = if highest >= ADDRESS_SIZES {
        Cpuid::PLAIN.leaf(ADDRESS_SIZES, 0).eax & 0xff
    } else {
        // What every processor with this mode has.
        36
    };
    Features {
        no_execute: extended.edx & (1 << 20) != 0,
        largest_shift: if extended.edx & (1 << 26) != 0 {
            30
        } else {
            21
        },
        paddr_bits,
        virt_base: image::VIRT_BASE,
    }
}

/// Tables that map all memory: the image by its sections, the rest writable.
pub(super) fn map_all(map: &MemoryMap) -> Result<Tables, Error> {
    let mut tables = PageTables::new(DirectMap, features())?;
    let image = image::image();
    let image = image.start - image::VIRT_BASE..image.end - image::VIRT_BASE;
    for region in map.ram() {
        let before = region.start..region.end.min(image.start);
        let after = region.start.max(image.end)..region.end;
        for range in [before, after] {
            if range.start < range.end {
                tables.map(range, Access::Write)?;
            }
        }
    }
    let mut at = image.start;
    while at < image.end {
        tables.map(at..at + PAGE, image::access_of(memory::virtual_of(at)))?;
        at += PAGE;
    }
    Ok(tables)
}

/// Makes the processor use these tables.
///
/// # Safety
/// They map all that the running code uses.
pub(super) unsafe fn activate(tables: &Tables) {
    // SAFETY: the caller's promise.
    unsafe { x86::controlregs::cr3_write(tables.root_paddr()) };
}
