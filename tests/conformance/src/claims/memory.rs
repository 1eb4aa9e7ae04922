//! Pages, frames and the reservation.

use hypercall_abi::{
    PAGE_SIZE,
    memory::{self, MemoryMapEntry},
    platform::Pages,
};
use pv_guest::Guest;

use crate::claim::{Group, Verdict, claims, ensure, everywhere, on_pvh, on_xen, same};

pub(super) const GROUP: Group = Group {
    name: "memory",
    claims: claims! {
        on_xen(reservation_is_what_was_given): "memory.h: XENMEM_current_reservation",
        on_pvh(the_memory_map_is_told): "memory.h: XENMEM_memory_map",
        on_pvh(what_is_given_back_can_be_had_again): "memory.h: XENMEM_populate_physmap",
        everywhere(pages_are_zeroed_and_apart): "docs/DESIGN.md: Pages",
    },
};

/// `XENMEM_current_reservation`, memory.h.
fn reservation_is_what_was_given(guest: &Guest) -> Verdict {
    let Ok(pages) = memory::current_reservation(guest.platform()) else {
        return Err("no answer".into());
    };
    let given = guest.memory_bytes() as usize / PAGE_SIZE;
    // PVH: the map leaves out what the toolstack keeps for itself.
    ensure(
        pages.abs_diff(given) <= 1024,
        "far from what the memory map says",
    )
}

/// What `Pages` promises.
fn pages_are_zeroed_and_apart(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let (Some(a), Some(b)) = (platform.alloc(1), platform.alloc(2)) else {
        return Err("no pages".into());
    };
    let clean = |page: core::ptr::NonNull<u8>, count: usize| {
        // SAFETY: fresh pages of ours.
        let bytes = unsafe { core::slice::from_raw_parts(page.as_ptr(), count * PAGE_SIZE) };
        bytes.iter().all(|byte| *byte == 0)
    };
    let zeroed = clean(a, 1) && clean(b, 2);
    let frames = platform.gfn_of(a) != platform.gfn_of(b);
    let back = platform.gfn_of(a).and_then(|gfn| platform.page_of(gfn)) == Some(a);
    // SAFETY: written by nobody, and freed as they were allocated.
    unsafe { platform.free(a, 1) };
    // SAFETY: as above.
    unsafe { platform.free(b, 2) };
    ensure(
        zeroed && frames && back,
        "not zeroed, or frames are confused",
    )
}

fn the_memory_map_is_told(guest: &Guest) -> Verdict {
    const RAM: u32 = 1;
    let mut map = [MemoryMapEntry::default(); 32];
    let count = memory::memory_map(guest.platform(), &mut map)?;
    let told: u64 = map
        .iter()
        .take(count)
        .filter(|entry| entry.r#type == RAM)
        .map(|entry| entry.size)
        .sum();
    let most = memory::maximum_reservation(guest.platform())? as u64 * PAGE_SIZE as u64;
    ensure(told > 0, "there is no memory in it")?;
    ensure(told <= most, "there is more in it than the guest may have")
}

/// A frame of a guest whose memory Xen maps. What is in the one that comes is
/// anything: Xen cleans the frames of domains that are gone, no others.
fn what_is_given_back_can_be_had_again(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let page = platform.alloc(1).ok_or("no page")?;
    let gfn = platform.gfn_of(page).ok_or("no frame")?;
    let before = memory::current_reservation(platform)?;
    // SAFETY: nothing leads to the page.
    let given = unsafe { memory::decrease_reservation(platform, &mut [gfn.0], 0) }?;
    let between = memory::current_reservation(platform)?;
    // SAFETY: nothing is there now.
    let got = unsafe { memory::populate_physmap(platform, &mut [gfn.0], 0, 0) }?;
    same((given, got), (1, 1))?;
    same(between + 1, before)?;
    // SAFETY: the page is there again.
    unsafe { page.write_volatile(7) };
    // SAFETY: as above.
    let byte = unsafe { page.read_volatile() };
    // SAFETY: as it was allocated.
    unsafe { platform.free(page, 1) };
    same(byte, 7)
}
