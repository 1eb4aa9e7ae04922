//! From the PV entry to `main`.

use core::{
    ops::Range,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use hypercall_abi::{
    Errno, Gfn, PAGE_SIZE,
    memory::machphys_mapping,
    peer::PeerPtr,
    probe::Facility,
    trap::{self, Instruction},
    xen::{
        START_INFO_MAGIC_PREFIX, StartFlags, StartInfo,
        mmu::{Flush, MMU_NORMAL_PT_UPDATE, MmuUpdate, mmu_update, update_va_mapping},
        traps::{MACH2PHYS_NR_ENTRIES, MACH2PHYS_VIRT_START},
    },
};

use super::{
    Native,
    image::{self, Access},
    memory, platform, set_guest_type, traps, window,
};
use crate::{
    BootInfo, Error, GuestType, console,
    error::asking,
    guest::SharedPage,
    memory::{lies_in, taken::Taken},
};

const PAGE: u64 = PAGE_SIZE as u64;
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

/// The address of the list of machine frames, and its length.
static P2M: AtomicU64 = AtomicU64::new(0);
static NR_PAGES: AtomicU64 = AtomicU64::new(0);
/// The address of Xen's list of pseudo-physical frames, and its length.
static M2P: AtomicU64 = AtomicU64::new(0);
static NR_MFNS: AtomicU64 = AtomicU64::new(0);

/// Where `entry.S` leads.
pub(super) extern "C" fn start(start_info: usize) -> ! {
    // SAFETY: 1. the linker script's section; 2. Xen maps the image writable
    // until we change that, and there is one vCPU; 3. this is the PV entry.
    unsafe { trap::patch(image::hypercall_sites(), Instruction::Syscall) };
    set_guest_type(GuestType::Pv);
    let begun = traps::init_pv()
        .map_err(asking("set the trap table"))
        .and_then(|()| guard_stacks());
    let ended = match begun {
        Ok(()) => boot(start_info),
        Err(why) => {
            // For somebody to be told.
            let _no_console = start_of(start_info);
            Err(why)
        }
    };
    crate::entry::finish(ended)
}

/// Takes the pages below the stacks away, before much lies on one: what overflows ends
/// the guest, and overwrites nothing.
fn guard_stacks() -> Result<(), Error> {
    for guard in image::guards() {
        for page in guard.step_by(PAGE as usize) {
            // SAFETY: nothing refers to the page, and nothing is to.
            unsafe { update_va_mapping(&Native, page as usize, 0, Flush::Page) }
                .map_err(asking("unmap the page below a stack"))?;
        }
    }
    Ok(())
}

/// The start information; from here on there is a console.
fn start_of(start_info: usize) -> Result<&'static StartInfo, Error> {
    let place = core::ptr::with_exposed_provenance::<StartInfo>(start_info);
    if start_info < image::VIRT_BASE as usize || !place.is_aligned() {
        return Err(Error::StartInfo("the address of start_info is wrong"));
    }
    // SAFETY: Xen mapped it. What is kept of it is the command line, which nothing
    // writes again; a suspend changes other fields.
    let start: &'static StartInfo = unsafe { &*place };
    let (m2p, nr_mfns) = match machphys_mapping(&Native) {
        Ok(m2p) => (m2p.v_start, m2p.max_mfn.saturating_add(1)),
        // Where every Xen has it, as long as none says otherwise.
        Err(errno) if Facility::MachineTable.is_absent(errno) => {
            (MACH2PHYS_VIRT_START, MACH2PHYS_NR_ENTRIES)
        }
        Err(errno) => return Err(asking("find the machine-to-physical table")(errno)),
    };
    M2P.store(m2p, Ordering::Relaxed);
    NR_MFNS.store(nr_mfns, Ordering::Relaxed);
    early_console(start, &taken_by_builder(start));
    Ok(start)
}

fn boot(start_info: usize) -> Result<(), Error> {
    let start = start_of(start_info)?;
    let mut taken = taken_by_builder(start);
    let info = BootInfo::from_pv(start, module(start)?, crate::memory::boot_map()?)?;
    learn_frames(start)?;
    let shared = map_shared_info(start)?;
    let boot_end = start
        .pt_base
        .checked_add(start.nr_pt_frames.saturating_mul(PAGE))
        // The page after the tables is the stack that Xen gave us.
        .and_then(|end| end.checked_add(PAGE))
        .and_then(memory::physical_of)
        .filter(|end| *end <= info.memory_map.ram_end())
        .ok_or(Error::StartInfo("the page tables have an absurd address"))?;
    let tables = Tables {
        root_pfn: memory::physical_of(start.pt_base).unwrap_or(0) / PAGE,
        boot_tables: start.pt_base..start.pt_base + start.nr_pt_frames * PAGE,
        no_execute: no_execute(),
    };
    let mapped_end = tables.protect(info.memory_map.ram_end())?;
    let ram_end = info.memory_map.ram_end();
    let used_end = tables.map_rest(boot_end, mapped_end, ram_end)?;
    ROOT_PFN.store(tables.root_pfn, Ordering::Relaxed);
    NO_EXECUTE_BIT.store(tables.no_execute, Ordering::Relaxed);
    window::place_behind(ram_end);
    let image_start = image::image().start - image::VIRT_BASE;
    taken.push(boot_end, used_end.saturating_sub(boot_end));
    taken.push_rings([info.console, info.store], |ring| {
        let page = page_of(ring.gfn);
        Ok(page.and_then(|page| memory::physical_of(page.addr().get() as u64)))
    })?;
    // With all that lies between.
    taken.push(image_start, used_end.saturating_sub(image_start));
    memory::init(info.memory_map, &taken, info.memory_map.ram_end())?;
    // SAFETY: Xen told where the shared page is; rings are where it says, and `taken`
    // keeps their pages from all other use.
    unsafe { super::run(info, Some(shared)) }
}

/// What the domain builder has placed, but for rings. Addresses that are wrong are found
/// later.
#[inline(never)]
fn taken_by_builder(start: &StartInfo) -> Taken {
    let mut taken = Taken::new();
    let image = image::image();
    let place = core::ptr::from_ref(start).addr() as u64;
    for (virt, len_bytes) in [
        (image.start, image.end - image.start),
        (place, PAGE),
        (start.mod_start, start.mod_len),
        (start.mfn_list, start.nr_pages.saturating_mul(8)),
        // The page after the tables is the stack that Xen gave us.
        (
            start.pt_base,
            start.nr_pt_frames.saturating_add(1).saturating_mul(PAGE),
        ),
    ] {
        if let Some(paddr) = memory::physical_of(virt) {
            taken.push(paddr, len_bytes);
        }
    }
    taken
}

/// What came with the kernel: behind the image and before the start information,
/// mapped.
fn module(start: &'static StartInfo) -> Result<Option<&'static [u8]>, Error> {
    let flags = StartFlags::from_bits_retain(start.flags);
    if start.mod_len == 0 || flags.contains(StartFlags::MOD_START_PFN) {
        return Ok(None);
    }
    let room = image::image().end..core::ptr::from_ref(start).addr() as u64;
    if !lies_in(&room, start.mod_start, start.mod_len) {
        return Err(Error::StartInfo("the module does not lie behind the image"));
    }
    let place = core::ptr::with_exposed_provenance(start.mod_start as usize);
    // SAFETY: 1. there Xen mapped all, and what is there stays mapped; 2. it is
    // kept from the allocator, and nothing writes it again.
    Ok(Some(unsafe {
        slice::from_raw_parts(place, start.mod_len as usize)
    }))
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

/// How far behind start_info the console's page may lie: the page tables, and
/// with them the end of what is mapped, come later.
const MOST_BEHIND_BYTES: u64 = 4 * PAGE;

/// Makes the console work before the rest of `start` is believed.
fn early_console(start: &StartInfo, taken: &Taken) {
    let mfn = start.console.mfn.0;
    if !start.magic.starts_with(START_INFO_MAGIC_PREFIX)
        || mfn == 0
        || mfn >= NR_MFNS.load(Ordering::Relaxed)
    {
        return;
    }
    let pfn = word(M2P.load(Ordering::Relaxed), mfn);
    let virt = memory::virtual_of(pfn.saturating_mul(PAGE));
    // The domain builder puts the page right behind start_info, mapped.
    let behind = virt.checked_sub(core::ptr::from_ref(start).addr() as u64);
    let is_taken = memory::physical_of(virt).is_none_or(|paddr| taken.has(paddr));
    if is_taken || behind.is_none_or(|bytes| bytes > MOST_BEHIND_BYTES) {
        return;
    }
    if let Some(page) = NonNull::new(core::ptr::with_exposed_provenance_mut(virt as usize)) {
        // SAFETY: a page of the guest's, mapped for good, which the toolstack
        // shares with the console's daemon and nobody else uses.
        let page = unsafe { PeerPtr::new(page) };
        let port = event_channels::PortRef::new(start.console.evtchn, None);
        console::set_ring(Native, page, port);
    }
}

/// Remembers where the list of frames is.
fn learn_frames(start: &StartInfo) -> Result<(), Error> {
    let end = start.mfn_list.checked_add(start.nr_pages.saturating_mul(8));
    let memory_end = memory::virtual_of(start.nr_pages.saturating_mul(PAGE).min(1 << 47));
    if start.mfn_list < image::image().end
        || end.is_none_or(|end| end > memory_end)
        || !start.mfn_list.is_multiple_of(8)
    {
        return Err(Error::StartInfo("the frame list has an absurd address"));
    }
    P2M.store(start.mfn_list, Ordering::Relaxed);
    NR_PAGES.store(start.nr_pages, Ordering::Relaxed);
    Ok(())
}

fn word(table: u64, index: u64) -> u64 {
    let place = core::ptr::with_exposed_provenance::<u64>((table + index * 8) as usize);
    // SAFETY: all callers name a word of a list or table that Xen mapped.
    unsafe { place.read_volatile() }
}

/// The machine frame behind `pfn`.
pub(super) fn gfn_of(pfn: u64) -> Option<Gfn> {
    (pfn < NR_PAGES.load(Ordering::Relaxed)).then(|| Gfn(word(P2M.load(Ordering::Relaxed), pfn)))
}

/// The pseudo-physical frame of a machine frame of ours.
fn pfn_of(mfn: u64) -> Option<u64> {
    if mfn >= NR_MFNS.load(Ordering::Relaxed) {
        return None;
    }
    let pfn = word(M2P.load(Ordering::Relaxed), mfn);
    // Xen's list has other domains' frames too.
    gfn_of(pfn).filter(|gfn| gfn.0 == mfn).map(|_| pfn)
}

/// Where the frame `gfn` is seen, if it is ours and mapped.
pub(super) fn page_of(gfn: Gfn) -> Option<NonNull<u8>> {
    // Not by Xen's list: it has holes where the machine has, and this function's
    // argument may be anything.
    let pfn = (0..NR_PAGES.load(Ordering::Relaxed)).find(|pfn| gfn_of(*pfn) == Some(gfn))?;
    let virt = memory::virtual_of(pfn * PAGE);
    if image::access_of(virt) == Access::None {
        return None;
    }
    NonNull::new(core::ptr::with_exposed_provenance_mut(virt as usize))
}

fn map_shared_info(start: &StartInfo) -> Result<SharedPage, Error> {
    let place = image::SHARED_PAGE.place();
    let entry = (start.shared_info & ADDRESS) | PRESENT | WRITABLE | USER | ACCESSED;
    // SAFETY: the page was made for this; no reference leads into it.
    unsafe { update_va_mapping(&Native, place.addr().get(), entry, Flush::Page) }
        .map_err(asking("map the shared page"))?;
    // SAFETY: mapped for good, and reached through peer pointers only.
    let shared = unsafe { PeerPtr::new(place) };
    platform::set_shared_info(shared);
    Ok(SharedPage(shared))
}

/// Has Xen change entries of page tables.
fn update(updates: &[MmuUpdate]) -> Result<(), Error> {
    let mut done = 0;
    // SAFETY: `Tables` only maps free memory, or takes away what the image does not use
    // (writing code and constants, running data).
    unsafe { mmu_update(&Native, updates, &mut done) }.map_err(asking("update page tables"))
}

const fn update_of(entry_maddr: u64, value: u64) -> MmuUpdate {
    MmuUpdate {
        ptr: entry_maddr | MMU_NORMAL_PT_UPDATE,
        val: value,
    }
}

/// Updates of page tables, handed to Xen a batch at a time.
struct Batch {
    updates: [MmuUpdate; Self::MOST],
    len: usize,
}

impl Batch {
    const MOST: usize = 128;

    const fn new() -> Self {
        Self {
            updates: [MmuUpdate { ptr: 0, val: 0 }; Self::MOST],
            len: 0,
        }
    }

    fn push(&mut self, entry_maddr: u64, value: u64) -> Result<(), Error> {
        if self.len == Self::MOST {
            self.flush()?;
        }
        if let Some(slot) = self.updates.get_mut(self.len) {
            *slot = update_of(entry_maddr, value);
            self.len += 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let updates = self.updates.get(..self.len).unwrap_or(&[]);
        self.len = 0;
        match updates {
            [] => Ok(()),
            updates => update(updates),
        }
    }
}

/// Where the page tables are, once all memory is mapped, and their bit for data.
static ROOT_PFN: AtomicU64 = AtomicU64::new(0);
static NO_EXECUTE_BIT: AtomicU64 = AtomicU64::new(0);

/// The tables of a guest that runs.
fn tables() -> Tables {
    Tables {
        root_pfn: ROOT_PFN.load(Ordering::Relaxed),
        boot_tables: 0..0,
        no_execute: NO_EXECUTE_BIT.load(Ordering::Relaxed),
    }
}

/// Makes tables for addresses behind the memory, at which nothing is mapped.
pub(super) fn make_room(paddr: Range<u64>) -> Result<(), Error> {
    let tables = tables();
    let mut at = paddr.start;
    while at < paddr.end {
        let (maddr, _, level) = tables.walk(memory::virtual_of(at))?;
        if level == 1 {
            // As far as this table reaches.
            at = (memory::virtual_of(at) | ((1 << 21) - 1)) + 1 - image::VIRT_BASE;
            continue;
        }
        let table = memory::allocate_zeroed(1)
            .and_then(|page| memory::physical_of(page.addr().get() as u64))
            .ok_or(Error::OutOfMemory("page tables"))?;
        tables.hook(table, maddr)?;
    }
    Ok(())
}

/// Maps a frame that is Xen's, or another's, at a page of the window.
pub(super) fn map_window(page: NonNull<u8>, gfn: Gfn) -> Result<(), Errno> {
    let entry = (gfn.0 * PAGE) | tables().bits(Access::Write);
    // SAFETY: nothing was mapped there, and its user reaches it by peer
    // pointers only.
    unsafe { update_va_mapping(&Native, page.addr().get(), entry, Flush::Page) }
}

/// The page tables that Xen built, and their extension.
struct Tables {
    root_pfn: u64,
    /// Virtual addresses of the tables that Xen built: always read-only.
    boot_tables: Range<u64>,
    no_execute: u64,
}

impl Tables {
    /// The machine address and the content of the entry for `virt` in the
    /// lowest table that exists, and that table's level (1 is the lowest).
    fn walk(&self, virt: u64) -> Result<(u64, u64, u32), Error> {
        const LOST: Error = Error::StartInfo("a page table is no memory of ours");
        const WIDE: Error = Error::StartInfo("a page is larger than a PV guest's may be");
        let mut pfn = self.root_pfn;
        let mut level = 4;
        loop {
            let index = virt >> (3 + 9 * level) & 511;
            let value = word(memory::virtual_of(pfn * PAGE), index);
            let maddr = gfn_of(pfn).ok_or(LOST)?.0 * PAGE + index * 8;
            if level == 1 || value & PRESENT == 0 {
                return Ok((maddr, value, level));
            }
            if value & LARGE != 0 {
                return Err(WIDE);
            }
            pfn = pfn_of((value & ADDRESS) / PAGE).ok_or(LOST)?;
            level -= 1;
        }
    }

    fn bits(&self, access: Access) -> u64 {
        match access {
            Access::None => 0,
            Access::Execute => PRESENT | USER | ACCESSED,
            Access::Read => PRESENT | USER | ACCESSED | self.no_execute,
            Access::Write => PRESENT | USER | ACCESSED | WRITABLE | self.no_execute,
        }
    }

    /// Gives every page that Xen mapped the access that it needs and no more,
    /// and returns where the mapped memory ends.
    fn protect(&self, ram_end: u64) -> Result<u64, Error> {
        let mut batch = Batch::new();
        let shared_page = image::SHARED_PAGE.place().addr().get() as u64;
        let mut paddr = 0;
        while paddr < ram_end {
            let virt = memory::virtual_of(paddr);
            let (maddr, value, level) = self.walk(virt)?;
            let is_guard = image::access_of(virt) == Access::None;
            if level == 1 && is_guard {
                // Taken away already.
                paddr += PAGE;
                continue;
            }
            if level != 1 || value & PRESENT == 0 {
                break;
            }
            let access = if self.boot_tables.contains(&virt) {
                Access::Read
            } else {
                image::access_of(virt)
            };
            if virt == shared_page {
                batch.push(maddr, value | self.no_execute)?;
            } else {
                batch.push(maddr, (value & ADDRESS) | self.bits(access))?;
            }
            paddr += PAGE;
        }
        batch.flush()?;
        Ok(paddr)
    }

    /// Maps the memory from `mapped_end` to `ram_end`. New tables come from
    /// the memory behind `free`; returns where what is left of it starts.
    fn map_rest(&self, mut free: u64, mut mapped_end: u64, ram_end: u64) -> Result<u64, Error> {
        while mapped_end < ram_end {
            let virt = memory::virtual_of(mapped_end);
            let (maddr, _, level) = self.walk(virt)?;
            if level == 1 {
                // The rest of a table that exists.
                let gfn = gfn_of(mapped_end / PAGE).ok_or(Error::OutOfMemory("frames"))?;
                update(&[update_of(maddr, (gfn.0 * PAGE) | self.bits(Access::Write))])?;
                mapped_end += PAGE;
                continue;
            }
            if free >= mapped_end {
                return Err(Error::OutOfMemory("page tables"));
            }
            let table = free;
            free += PAGE;
            let reach = self.fill(table, level - 1, mapped_end, ram_end)?;
            self.hook(table, maddr)?;
            if level == 2 {
                mapped_end = reach;
            }
        }
        Ok(free)
    }

    /// Makes the page at `table` a table of `level` for memory from `paddr`,
    /// and returns how far it reaches.
    fn fill(&self, table: u64, level: u32, paddr: u64, ram_end: u64) -> Result<u64, Error> {
        let start =
            core::ptr::with_exposed_provenance_mut::<u64>(memory::virtual_of(table) as usize);
        // SAFETY: a free page of mapped, writable memory.
        let entries = unsafe { slice::from_raw_parts_mut(start, PAGE_SIZE / 8) };
        entries.fill(0);
        if level > 1 {
            return Ok(paddr);
        }
        let mut at = paddr;
        let first = (memory::virtual_of(paddr) >> 12 & 511) as usize;
        for entry in entries.iter_mut().skip(first) {
            if at >= ram_end {
                break;
            }
            let gfn = gfn_of(at / PAGE).ok_or(Error::OutOfMemory("frames"))?;
            *entry = (gfn.0 * PAGE) | self.bits(Access::Write);
            at += PAGE;
        }
        Ok(at)
    }

    /// Takes write access from the page at `table` and puts it into the entry
    /// at `entry_maddr`.
    fn hook(&self, table: u64, entry_maddr: u64) -> Result<(), Error> {
        let gfn = gfn_of(table / PAGE).ok_or(Error::OutOfMemory("frames"))?;
        let virt = memory::virtual_of(table) as usize;
        let read_only = (gfn.0 * PAGE) | self.bits(Access::Read);
        // SAFETY: a page that from now on only Xen writes.
        unsafe { update_va_mapping(&Native, virt, read_only, Flush::Page) }
            .map_err(asking("protect a page table"))?;
        update(&[update_of(entry_maddr, (gfn.0 * PAGE) | TABLE)])
    }
}
