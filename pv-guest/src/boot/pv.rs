//! From the PV entry to `main`.

use core::{ptr::NonNull, slice};

use hypercall_abi::{
    Gfn, PAGE_SIZE,
    peer::PeerPtr,
    trap::{self, Instruction},
    xen::{
        START_INFO_MAGIC_PREFIX, StartFlags, StartInfo,
        mmu::{Flush, update_va_mapping},
    },
};

use super::{entry, native};
use crate::{
    arch::{image, traps},
    boot_info::{BootInfo, GuestType, boot_map, taken::Taken},
    cpu::shared_info,
    error::{Error, asking},
    guest::SharedPage,
    hypervisor::{Native, frames, pv_frames, pv_tables, window},
    kernel::console,
    memory::lies_in,
};

const PAGE: u64 = PAGE_SIZE as u64;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Where `entry.S` leads.
pub(super) extern "C" fn start(start_info: usize) -> ! {
    // SAFETY: 1. the linker script's section; 2. Xen maps the image writable
    // until we change that, and there is one vCPU; 3. this is the PV entry.
    unsafe { trap::patch(image::hypercall_sites(), Instruction::Syscall) };
    native::set_guest_type(GuestType::Pv);
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
    entry::finish(ended)
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
    pv_frames::find_machine_table()?;
    early_console(start, &taken_by_builder(start));
    Ok(start)
}

fn boot(start_info: usize) -> Result<(), Error> {
    let start = start_of(start_info)?;
    let mut taken = taken_by_builder(start);
    let info = BootInfo::from_pv(start, module(start)?, boot_map()?)?;
    pv_frames::learn_frames(start)?;
    let boot_end = start
        .pt_base
        .checked_add(start.nr_pt_frames.saturating_mul(PAGE))
        // The page after the tables is the stack that Xen gave us.
        .and_then(|end| end.checked_add(PAGE))
        .and_then(frames::physical_of)
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
        let page = pv_frames::page_of(ring.gfn);
        Ok(page.and_then(|page| frames::physical_of(page.addr().get() as u64)))
    })?;
    // With all that lies between.
    taken.push(image_start, used_end.saturating_sub(image_start));
    frames::init(info.memory_map, &taken)?;
    // SAFETY: Xen told where the shared page is; rings are where it says, and `taken`
    // keeps their pages from all other use.
    unsafe { native::run(info, Some(shared)) }
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
        if let Some(paddr) = frames::physical_of(virt) {
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
const MAX_BEHIND_BYTES: u64 = 4 * PAGE;

/// Makes the console work before the rest of `start` is believed.
fn early_console(start: &StartInfo, taken: &Taken) {
    let mfn = start.console.mfn.0;
    if !start.magic.starts_with(START_INFO_MAGIC_PREFIX) || mfn == 0 {
        return;
    }
    let Some(pfn) = pv_frames::told_pfn_of(mfn) else {
        return;
    };
    let virt = frames::virtual_of(pfn.saturating_mul(PAGE));
    // The domain builder puts the page right behind start_info, mapped.
    let behind = virt.checked_sub(core::ptr::from_ref(start).addr() as u64);
    let is_taken = frames::physical_of(virt).is_none_or(|paddr| taken.has(paddr));
    if is_taken || behind.is_none_or(|bytes| bytes > MAX_BEHIND_BYTES) {
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

fn map_shared_info(start: &StartInfo) -> Result<SharedPage, Error> {
    let place = image::SHARED_PAGE.place();
    // No reference leads into the page, which was made for this.
    pv_tables::map_at(place.cast(), Gfn((start.shared_info & ADDRESS) / PAGE))
        .map_err(asking("map the shared page"))?;
    // SAFETY: mapped for good, and reached through peer pointers only.
    let shared = unsafe { PeerPtr::new(place) };
    shared_info::set(shared);
    Ok(SharedPage(shared))
}
