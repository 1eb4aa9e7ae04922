//! From the PV entry to `main`.

use core::{
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use hypercall_abi::{
    Gfn, PAGE_SIZE,
    memory::machphys_mapping,
    peer::PeerPtr,
    probe::Facility,
    trap::{self, Instruction},
    xen::{
        START_INFO_MAGIC_PREFIX, StartFlags, StartInfo,
        mmu::{Flush, update_va_mapping},
        traps::{MACH2PHYS_NR_ENTRIES, MACH2PHYS_VIRT_START},
    },
};

use super::{
    Native,
    image::{self, Access},
    memory, platform, pv_tables, set_guest_type, traps, window,
};
use crate::{
    BootInfo, Error, GuestType, console,
    error::asking,
    guest::SharedPage,
    memory::{lies_in, taken::Taken},
};

const PAGE: u64 = PAGE_SIZE as u64;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

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
    let boot_end = start
        .pt_base
        .checked_add(start.nr_pt_frames.saturating_mul(PAGE))
        // The page after the tables is the stack that Xen gave us.
        .and_then(|end| end.checked_add(PAGE))
        .and_then(memory::physical_of)
        .filter(|end| *end <= info.memory_map.ram_end())
        .ok_or(Error::StartInfo("the page tables have an absurd address"))?;
    let boot_tables = start.pt_base..start.pt_base + start.nr_pt_frames * PAGE;
    let ram_end = info.memory_map.ram_end();
    let used_end = pv_tables::take_over(boot_tables, boot_end, ram_end)?;
    let shared = map_shared_info(start)?;
    window::place_behind(ram_end);
    let image_start = image::image().start - image::VIRT_BASE;
    taken.push(boot_end, used_end.saturating_sub(boot_end));
    taken.push_rings([info.console, info.store], |ring| {
        let page = page_of(ring.gfn);
        Ok(page.and_then(|page| memory::physical_of(page.addr().get() as u64)))
    })?;
    // With all that lies between.
    taken.push(image_start, used_end.saturating_sub(image_start));
    memory::init(info.memory_map, &taken)?;
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

pub(super) fn word(table: u64, index: u64) -> u64 {
    let place = core::ptr::with_exposed_provenance::<u64>((table + index * 8) as usize);
    // SAFETY: all callers name a word of a list or table that Xen mapped.
    unsafe { place.read_volatile() }
}

/// The machine frame behind `pfn`.
pub(super) fn gfn_of(pfn: u64) -> Option<Gfn> {
    (pfn < NR_PAGES.load(Ordering::Relaxed)).then(|| Gfn(word(P2M.load(Ordering::Relaxed), pfn)))
}

/// The pseudo-physical frame of a machine frame of ours.
pub(super) fn pfn_of(mfn: u64) -> Option<u64> {
    if mfn >= NR_MFNS.load(Ordering::Relaxed) {
        return None;
    }
    let pfn = word(M2P.load(Ordering::Relaxed), mfn);
    // Xen's list has other domains' frames too.
    gfn_of(pfn).filter(|gfn| gfn.0 == mfn).map(|_| pfn)
}

/// Where the frame `gfn` is seen, if it is ours.
pub(super) fn page_of(gfn: Gfn) -> Option<NonNull<u8>> {
    // Not by Xen's list: it has holes where the machine has, and this function's
    // argument may be anything.
    let pfn = (0..NR_PAGES.load(Ordering::Relaxed)).find(|pfn| gfn_of(*pfn) == Some(gfn))?;
    let virt = memory::virtual_of(pfn * PAGE);
    if image::access_of(virt) == Access::None {
        return None;
    }
    memory::ensure_page_is_mapped(pfn * PAGE)?;
    NonNull::new(core::ptr::with_exposed_provenance_mut(virt as usize))
}

fn map_shared_info(start: &StartInfo) -> Result<SharedPage, Error> {
    let place = image::SHARED_PAGE.place();
    // No reference leads into the page, which was made for this.
    pv_tables::map_at(place.cast(), Gfn((start.shared_info & ADDRESS) / PAGE))
        .map_err(asking("map the shared page"))?;
    // SAFETY: mapped for good, and reached through peer pointers only.
    let shared = unsafe { PeerPtr::new(place) };
    platform::set_shared_info(shared);
    Ok(SharedPage(shared))
}
