//! The page tables of a PV guest: those that Xen built, and more of them as memory is
//! given out.
//!
//! Xen looks at each entry of a table that it is given, which costs hundreds of
//! instructions a page. So memory beyond what Xen has mapped is mapped when it is wanted,
//! from low to high, a table at a time. Pages for all tables are set apart at the start, in
//! a row: none has to be found when memory is out.

use core::{
    ops::Range,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use hypercall_abi::{
    Errno, Gfn, PAGE_SIZE,
    xen::mmu::{Flush, MMU_NORMAL_PT_UPDATE, MmuUpdate, mmu_update, update_va_mapping},
};

use super::{
    Native, frames,
    pv_frames::{gfn_of, pfn_of, word},
};
use crate::{
    arch::image::{self, Access},
    error::{Error, asking},
};

const PAGE: u64 = PAGE_SIZE as u64;
const PAGE_SHIFT: u32 = PAGE.trailing_zeros();
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
/// In an entry that is not of the lowest level: it leads to no table.
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// An entry that leads to a lower table.
const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED;

/// The entries of a table.
const ENTRIES: u64 = PAGE / size_of::<u64>() as u64;
/// How much a table of the lowest level maps.
const REACH: u64 = ENTRIES * PAGE;

/// The page frame of the top table.
static ROOT_PFN: AtomicU64 = AtomicU64::new(0);
/// The bit of entries for what is not to be run, if the processor has it.
static NO_EXECUTE_BIT: AtomicU64 = AtomicU64::new(0);
/// The physical addresses of pages that become tables: the next one, and one past the
/// last.
static NEXT_TABLE: AtomicU64 = AtomicU64::new(0);
static TABLES_END: AtomicU64 = AtomicU64::new(0);
/// Where memory ends.
static RAM_END: AtomicU64 = AtomicU64::new(0);

/// Gives every page that Xen mapped the access that it needs and no more, and prepares to
/// map the rest of memory, up to `ram_end`. `boot_tables` are the virtual addresses of the
/// tables that Xen built, the first the top one. Tables to come lie behind `free`; returns
/// one past the last of them.
pub(crate) fn take_over(boot_tables: Range<u64>, free: u64, ram_end: u64) -> Result<u64, Error> {
    let root = frames::physical_of(boot_tables.start).unwrap_or(0);
    ROOT_PFN.store(root / PAGE, Ordering::Relaxed);
    NO_EXECUTE_BIT.store(no_execute(), Ordering::Relaxed);
    let mapped_end = protect(&boot_tables, ram_end)?;
    let mut tables_end = free;
    // A table of each level for each part of memory that begins a new one; the top one is
    // there.
    let mut shift = 21;
    while shift < 48 {
        let last = |end| (frames::virtual_of(end) - 1) >> shift;
        tables_end += (last(ram_end) - last(mapped_end)) * PAGE;
        shift += 9;
    }
    if tables_end > ram_end {
        return Err(Error::OutOfMemory("page tables"));
    }
    NEXT_TABLE.store(free, Ordering::Relaxed);
    TABLES_END.store(tables_end, Ordering::Relaxed);
    RAM_END.store(ram_end, Ordering::Relaxed);
    frames::set_mapped_end(mapped_end);
    Ok(tables_end)
}

fn no_execute() -> u64 {
    // SAFETY: a PV guest.
    let cpuid = unsafe { hypercall_abi::arch_x86::cpuid::Cpuid::forced() };
    if cpuid.leaf(0x8000_0001, 0).edx & (1 << 20) != 0 {
        NO_EXECUTE
    } else {
        0
    }
}

/// Has Xen change entries of page tables.
fn update(updates: &[MmuUpdate]) -> Result<(), Errno> {
    let mut done = 0;
    // SAFETY: the callers only map free memory, or take away what the image does not use
    // (writing code and constants, running data).
    unsafe { mmu_update(&Native, updates, &mut done) }
}

const fn update_of(entry_maddr: u64, value: u64) -> MmuUpdate {
    MmuUpdate {
        ptr: entry_maddr | MMU_NORMAL_PT_UPDATE,
        val: value,
    }
}

/// An entry of a table.
struct Entry {
    maddr: u64,
    value: u64,
    /// That of the table; 1 is the lowest.
    level: u32,
}

/// The entry for `virt` in the table of `lowest` level, or in the lowest above it that
/// exists; `None` if what should be a table is no page of ours, or a large page.
fn walk(virt: u64, lowest: u32) -> Option<Entry> {
    let mut pfn = ROOT_PFN.load(Ordering::Relaxed);
    let mut level = 4;
    loop {
        let index = virt >> (3 + 9 * level) & (ENTRIES - 1);
        let value = word(frames::virtual_of(pfn * PAGE), index);
        let maddr = gfn_of(pfn)?.0 * PAGE + index * 8;
        if level == lowest || value & PRESENT == 0 {
            return Some(Entry {
                maddr,
                value,
                level,
            });
        }
        if value & LARGE != 0 {
            return None;
        }
        pfn = pfn_of((value & ADDRESS) / PAGE)?;
        level -= 1;
    }
}

fn bits(access: Access) -> u64 {
    let mut bits = PRESENT | USER | ACCESSED;
    if access == Access::None {
        bits = 0;
    }
    if access == Access::Write {
        bits |= WRITABLE;
    }
    if access != Access::Execute {
        bits |= NO_EXECUTE_BIT.load(Ordering::Relaxed);
    }
    bits
}

/// The entry that maps a frame, which may be anything: Xen looks at it.
fn entry_of(gfn: Gfn, access: Access) -> u64 {
    (gfn.0 << PAGE_SHIFT) | bits(access)
}

/// Gives every page that Xen mapped the access that it needs and no more,
/// and returns where the mapped memory ends.
fn protect(boot_tables: &Range<u64>, ram_end: u64) -> Result<u64, Error> {
    const LOST: Error = Error::StartInfo("a page table is no memory of ours, or a large page");
    let no_execute = NO_EXECUTE_BIT.load(Ordering::Relaxed);
    let mut paddr = 0;
    let mut ended = false;
    while paddr < ram_end && !ended {
        let first = frames::virtual_of(paddr);
        let above = walk(first, 2).ok_or(LOST)?;
        let lowest = walk(first, 1).ok_or(LOST)?;
        if lowest.level != 1 {
            break;
        }
        let table = frames::virtual_of(pfn_of(lowest.maddr / PAGE).ok_or(LOST)? * PAGE);
        let mut updates = [update_of(above.maddr, above.value | no_execute); ENTRIES as usize];
        let mut len = 0;
        let has_code = first < image::rodata().end && image::text().start < first + REACH;
        if !has_code {
            // Data, and tables, which are read-only already.
            len = 1;
        }
        for index in 0..ENTRIES {
            let virt = first + index * PAGE;
            let value = word(table, index);
            let access = if boot_tables.contains(&virt) {
                Access::Read
            } else {
                image::access_of(virt)
            };
            if value & PRESENT == 0 {
                // Taken away already, or the end.
                ended = access != Access::None;
                if ended {
                    break;
                }
            } else if has_code && let Some(slot) = updates.get_mut(len) {
                let value = (value & ADDRESS) | bits(access);
                *slot = update_of(lowest.maddr + index * 8, value);
                len += 1;
            }
            paddr += PAGE;
        }
        update(updates.get(..len).unwrap_or(&[])).map_err(asking("update page tables"))?;
    }
    Ok(paddr)
}

/// Maps memory from where it ends to be mapped to `end`, and to where the last table
/// reaches; `None` if there is no memory up to `end`, or if Xen refuses a table. What is
/// mapped by then stays so, and another call goes on from there. Whoever calls this has
/// the allocator of frames locked.
pub(crate) fn map_up_to(end: u64) -> Option<()> {
    if end > RAM_END.load(Ordering::Relaxed) {
        return None;
    }
    loop {
        let at = frames::mapped_end();
        if at >= end {
            return Some(());
        }
        let entry = walk(frames::virtual_of(at), 1)?;
        let reach = if entry.level == 1 {
            // The rest of a table that exists.
            set_access(at, Access::Write)?;
            at + PAGE
        } else {
            let table = NEXT_TABLE.load(Ordering::Relaxed);
            if table >= at.min(TABLES_END.load(Ordering::Relaxed)) {
                return None;
            }
            let reach = fill(table, entry.level - 1, at)?;
            NEXT_TABLE.store(table + PAGE, Ordering::Relaxed);
            if hook(table, entry.maddr).is_none() {
                // It can be filled another time, if it can be written.
                set_access(table, Access::Write)?;
                NEXT_TABLE.store(table, Ordering::Relaxed);
                return None;
            }
            reach
        };
        frames::set_mapped_end(reach);
    }
}

/// Makes the page at `table` a table of `level` for memory from `paddr`, an empty one
/// unless it is of the lowest level, and returns how far memory is mapped with it.
fn fill(table: u64, level: u32, paddr: u64) -> Option<u64> {
    let start = core::ptr::with_exposed_provenance_mut::<u64>(frames::virtual_of(table) as usize);
    // SAFETY: a page of mapped, writable memory that is set apart for this.
    let entries = unsafe { slice::from_raw_parts_mut(start, ENTRIES as usize) };
    let mut at = paddr & !(REACH - 1);
    let end = match level {
        1 => (at + REACH).min(RAM_END.load(Ordering::Relaxed)),
        _ => paddr,
    };
    for entry in entries {
        *entry = if at >= paddr && at < end {
            entry_of(gfn_of(at / PAGE)?, Access::Write)
        } else {
            0
        };
        at += PAGE;
    }
    Some(end)
}

/// Maps the page at `paddr`, to which nothing refers, in its own place, for which there is a
/// table; `None` if Xen refuses.
fn set_access(paddr: u64, access: Access) -> Option<Gfn> {
    let gfn = gfn_of(paddr / PAGE)?;
    let virt = frames::virtual_of(paddr) as usize;
    let entry = entry_of(gfn, access);
    // SAFETY: free memory, or a page for a table, which only Xen writes.
    unsafe { update_va_mapping(&Native, virt, entry, Flush::Page) }.ok()?;
    Some(gfn)
}

/// Takes write access from the page at `table` and puts it into the entry
/// at `entry_maddr`; `None` if Xen refuses.
fn hook(table: u64, entry_maddr: u64) -> Option<()> {
    let gfn = set_access(table, Access::Read)?;
    update(&[update_of(entry_maddr, (gfn.0 << PAGE_SHIFT) | TABLE)]).ok()
}

/// Makes tables for addresses behind the memory, at which nothing is mapped; `None` if
/// there is no memory for them.
pub(crate) fn make_room(paddr: Range<u64>) -> Option<()> {
    let mut at = paddr.start;
    while at < paddr.end {
        let virt = frames::virtual_of(at);
        if walk(virt, 1)?.level == 1 {
            // As far as this table reaches.
            at = (at | (REACH - 1)) + 1;
            continue;
        }
        let page = frames::allocate_zeroed(1)?;
        // Memory that was mapped for this page may have brought the table.
        let entry = walk(virt, 1)?;
        let table = frames::physical_of(page.addr().get() as u64)?;
        if entry.level == 1 {
            frames::free(page, 1);
        } else if hook(table, entry.maddr).is_none() {
            set_access(table, Access::Write)?;
            frames::free(page, 1);
            return None;
        }
    }
    Some(())
}

/// Maps a frame that is Xen's, or another's, at a page of the window or of the image's
/// own, which only peer pointers lead to.
pub(crate) fn map_at(page: NonNull<u8>, gfn: Gfn) -> Result<(), Errno> {
    let entry = entry_of(gfn, Access::Write);
    // SAFETY: of what was mapped there, nothing is used any more; its user reaches it by
    // peer pointers only.
    unsafe { update_va_mapping(&Native, page.addr().get(), entry, Flush::Page) }
}
