//! Pages, frames and the reservation.

use hypercall_abi::{PAGE_SIZE, memory, platform::Pages};
use pv_guest::Guest;

use crate::claim::{Group, Verdict, claims, ensure, everywhere, on_xen};

pub(super) const GROUP: Group = Group {
    name: "memory",
    claims: claims! {
        on_xen(reservation_is_what_was_given): "memory.h: XENMEM_current_reservation",
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
