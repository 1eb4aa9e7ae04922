//! Page tables of a guest that owns them (PVH, and a plain machine).

use core::{ops::Range, ptr::NonNull};

use hypercall_abi::{Gfn, PAGE_SIZE, arch_x86::cpuid::Cpuid};

use super::frames;
use crate::{
    arch::{
        image,
        page_tables::{Access, Features, PageTables, TableMemory},
    },
    boot_info::BootInfo,
    cpu::sync::UpcallMutex,
    error::Error,
    memory::MemoryMap,
};

/// The page tables, once they are ours.
static TABLES: UpcallMutex<Option<Tables>> = UpcallMutex::new(None);

const PAGE: u64 = PAGE_SIZE as u64;

/// The guest's own memory, as the direct map shows it.
#[derive(Debug)]
struct DirectMap;

/// The tables of this guest.
type Tables = PageTables<DirectMap>;

fn place(table_paddr: u64, index: usize) -> *mut u64 {
    let address = frames::virtual_of(table_paddr) + (index * size_of::<u64>()) as u64;
    core::ptr::with_exposed_provenance_mut(address as usize)
}

impl TableMemory for DirectMap {
    fn new_table(&mut self) -> Option<u64> {
        let page = frames::allocate_zeroed(1)?;
        frames::physical_of(page.addr().get() as u64)
    }

    unsafe fn read(&self, table_paddr: u64, index: usize) -> u64 {
        // SAFETY: a word of a page that `new_table` gave, which is mapped
        // for good and used as a table only.
        unsafe { place(table_paddr, index).read_volatile() }
    }

    unsafe fn write(&mut self, table_paddr: u64, index: usize, entry: u64) {
        // SAFETY: as above; what the entry maps is this function's contract.
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
fn map_all(map: &MemoryMap) -> Result<Tables, Error> {
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
        tables.map(at..at + PAGE, image::access_of(frames::virtual_of(at)))?;
        at += PAGE;
    }
    Ok(tables)
}

/// Makes the processor use these tables.
///
/// # Safety
/// They map all that the running code uses.
unsafe fn activate(tables: &Tables) {
    // SAFETY: this function's contract.
    unsafe { x86::controlregs::cr3_write(tables.root_paddr()) };
}

/// Replaces the boot tables by ones that map all memory, and no more.
#[inline(never)]
pub(crate) fn map_memory(info: &BootInfo, rings: &[Range<u64>]) -> Result<(), Error> {
    let mut tables = map_all(info.memory_map)?;
    for ring in rings {
        tables.map(ring.clone(), Access::Write)?;
    }
    // Firmware may keep it outside of memory.
    let line = info.command_line.as_bytes().as_ptr_range();
    let [start, end] = [line.start, line.end].map(|at| at.addr() as u64);
    for virt in (start & !(PAGE - 1)..end).step_by(PAGE as usize) {
        if let Some(paddr) = frames::physical_of(virt).filter(|paddr| !tables.is_mapped(*paddr)) {
            tables.map(paddr..paddr + PAGE, Access::Read)?;
        }
    }
    // SAFETY: they map the image, its stack, all memory, the rings and the command line
    // at the addresses where the boot tables had them.
    unsafe { activate(&tables) };
    *TABLES.lock() = Some(tables);
    Ok(())
}

/// Makes addresses behind the memory lead to the same physical ones.
pub(crate) fn map_window(paddr: Range<u64>) -> Result<(), Error> {
    let mut tables = TABLES.lock();
    let tables = tables
        .as_mut()
        .ok_or(Error::OutOfMemory("the first page tables"))?;
    tables.map(paddr, Access::Write)
}

/// Where the frame `gfn` is seen. One that is not memory is mapped; of memory,
/// all is, but for the pages below stacks, which never are.
pub(crate) fn page_of(gfn: Gfn) -> Option<NonNull<u8>> {
    let paddr = gfn.address().filter(|paddr| *paddr < 1 << 46)?;
    let virt = frames::virtual_of(paddr);
    let mut tables = TABLES.lock();
    let tables = tables.as_mut()?;
    if !tables.is_mapped(paddr) {
        if image::image().contains(&virt) {
            return None;
        }
        tables.map(paddr..paddr + PAGE, Access::Write).ok()?;
    }
    NonNull::new(core::ptr::with_exposed_provenance_mut(virt as usize))
}
