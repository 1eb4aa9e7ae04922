//! Pages, frames and the reservation.

use alloc::{vec, vec::Vec};
use core::ptr::NonNull;

use grant_tables::{Granted, Page, PeerReads};
use hypercall_abi::{
    DomId, Errno, Gfn, HypercallNr, PAGE_SIZE,
    memory::{self, MemoryMapEntry},
    platform::{GrantFrame, Hypercall, Pages},
    version,
};
use pv_guest::{Current, Guest, GuestType};

use crate::{
    claim::{
        Group, Stop, Verdict, claims, ensure, everywhere, on_processor, on_pvh, on_xen, refused,
        same, skip,
    },
    probe::{self, Then},
};

pub(super) const GROUP: Group = Group {
    name: "memory",
    claims: claims! {
        on_xen(reservation_is_what_was_given): "memory.h: XENMEM_current_reservation",
        on_pvh(the_memory_map_is_told): "memory.h: XENMEM_memory_map",
        on_pvh(what_is_given_back_can_be_had_again): "memory.h: XENMEM_populate_physmap",
        on_pvh(a_frame_is_given_back_once): "memory.h: XENMEM_decrease_reservation",
        on_pvh(a_list_is_given_back_up_to_its_first_bad_frame): "memory.h: XENMEM_decrease_reservation",
        on_xen(memory_has_a_most): "memory.h: XENMEM_maximum_reservation",
        everywhere(pages_are_zeroed_and_apart): "docs/DESIGN.md: Pages",
        everywhere(a_frame_of_memory_is_seen_where_it_is): "platform.rs: Pages::page_of",
        everywhere(frames_that_are_none_are_not_seen): "platform.rs: Pages::page_of",
        on_processor(code_is_seen_where_it_runs): "platform.rs: Pages::page_of",
        on_processor(no_page_is_put_below_a_stack): "platform.rs: Pages::page_of",
        on_processor(memory_that_is_given_out_is_not_run): "docs/DESIGN.md: The image",
        on_xen(a_frame_of_the_grant_table_stays_where_it_is): "platform.rs: Pages::grant_frame",
        on_xen(a_window_changes_nothing_beside_it): "platform.rs: Pages::reserve_window",
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

/// What `Pages` promises, also of pages that were used before.
fn pages_are_zeroed_and_apart(guest: &Guest) -> Verdict {
    /// Pages in a row, of each.
    const ROWS: [usize; 6] = [1, 2, 3, 1, 5, 1];
    const DIRT: u8 = 0xa5;
    let platform = guest.platform();
    let take = || -> Result<Vec<(NonNull<u8>, usize)>, &'static str> {
        let rows = ROWS.map(|count| platform.alloc(count).map(|first| (first, count)));
        rows.into_iter().collect::<Option<_>>().ok_or("no pages")
    };
    let pages = |rows: &[(NonNull<u8>, usize)]| -> Vec<NonNull<u8>> {
        let mut all = Vec::new();
        for (first, count) in rows {
            for page in 0..*count {
                // SAFETY: a page of the row.
                all.push(unsafe { first.add(page * PAGE_SIZE) });
            }
        }
        all
    };
    let give = |rows: Vec<(NonNull<u8>, usize)>| {
        for (first, count) in rows {
            // SAFETY: freed as they were allocated; nothing leads there.
            unsafe { platform.free(first, count) };
        }
    };
    let frames = |pages: &[NonNull<u8>]| -> Option<Vec<u64>> {
        let frames = pages.iter().map(|page| platform.gfn_of(*page));
        frames.map(|gfn| gfn.map(|gfn| gfn.0)).collect()
    };
    let rows = take()?;
    let before = frames(&pages(&rows)).ok_or("no frame")?;
    for page in pages(&rows) {
        // SAFETY: a page of ours.
        unsafe { page.write_bytes(DIRT, PAGE_SIZE) };
    }
    give(rows);

    let rows = take()?;
    let all = pages(&rows);
    let after = frames(&all).ok_or("no frame")?;
    let mut changed = 0;
    for (number, page) in (1..).zip(&all) {
        // SAFETY: a page of ours, to which nobody writes.
        let bytes = unsafe { core::slice::from_raw_parts(page.as_ptr(), PAGE_SIZE) };
        changed += bytes.iter().filter(|byte| **byte != 0).count();
        // SAFETY: as above; the slice is used no more.
        unsafe { page.write_bytes(number, PAGE_SIZE) };
    }
    // Where two are one, the second's number is in both.
    let confused = (1..).zip(&all).filter(|(number, page)| {
        // SAFETY: a page of ours.
        let bytes = unsafe { core::slice::from_raw_parts(page.as_ptr(), PAGE_SIZE) };
        bytes.iter().any(|byte: &u8| byte != number)
    });
    let confused = confused.count();
    let lost = all
        .iter()
        .zip(&after)
        .filter(|(page, gfn)| platform.page_of(Gfn(**gfn)) != Some(**page));
    let lost = lost.count();
    give(rows);
    // Else this asks nothing of used ones.
    ensure(
        after.iter().any(|gfn| before.contains(gfn)),
        "no page came again",
    )?;
    let mut apart = after.clone();
    apart.sort_unstable();
    apart.dedup();
    same((changed, confused, lost), (0, 0, 0))?;
    same(apart.len(), ROWS.iter().sum())
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

/// A page, and its frame's number.
fn page(guest: &Guest) -> Result<(NonNull<u8>, Gfn), Stop> {
    let page = guest.platform().alloc(1).ok_or("no page")?;
    let gfn = guest.platform().gfn_of(page).ok_or("no frame")?;
    Ok((page, gfn))
}

/// Puts frames back where they were, and lets go of the pages.
fn put_back(guest: &Guest, pages: &[(NonNull<u8>, Gfn)]) -> Verdict {
    let platform = guest.platform();
    for (page, gfn) in pages {
        // SAFETY: nothing is there now, or nothing comes of it.
        let got = unsafe { memory::populate_physmap(platform, &mut [gfn.0], 0, 0) }?;
        same(got, 1)?;
        // SAFETY: as it was allocated.
        unsafe { platform.free(*page, 1) };
    }
    Ok(())
}

fn a_frame_is_given_back_once(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let (page, gfn) = page(guest)?;
    let before = memory::current_reservation(platform)?;
    // SAFETY: nothing leads to the page.
    let first = unsafe { memory::decrease_reservation(platform, &mut [gfn.0], 0) }?;
    // SAFETY: as above.
    let second = unsafe { memory::decrease_reservation(platform, &mut [gfn.0], 0) }?;
    let between = memory::current_reservation(platform)?;
    put_back(guest, &[(page, gfn)])?;
    same((first, second), (1, 0))?;
    same(between + 1, before)?;
    same(memory::current_reservation(platform)?, before)
}

/// And says how many it were.
fn a_list_is_given_back_up_to_its_first_bad_frame(guest: &Guest) -> Verdict {
    const NOWHERE: u64 = 1 << 40;
    let platform = guest.platform();
    let (one, other) = (page(guest)?, page(guest)?);
    let before = memory::current_reservation(platform)?;
    let mut list = [one.1.0, NOWHERE, other.1.0];
    // SAFETY: nothing leads to the pages.
    let given = unsafe { memory::decrease_reservation(platform, &mut list, 0) }?;
    let between = memory::current_reservation(platform)?;
    put_back(guest, &[one])?;
    // SAFETY: as it was allocated: it was not given back.
    unsafe { other.0.write_volatile(9) };
    // SAFETY: as above.
    let kept = unsafe { other.0.read_volatile() };
    // SAFETY: as above.
    unsafe { platform.free(other.0, 1) };
    same(given, 1)?;
    same(between + 1, before)?;
    same(kept, 9)
}

/// And no more is to be had than that.
fn memory_has_a_most(guest: &Guest) -> Verdict {
    const MORE: usize = 4096;
    /// Where a PVH guest has nothing: at 32 GiB.
    const NOTHING: u64 = 8 << 20;
    let platform = guest.platform();
    let (now, most) = (
        memory::current_reservation(platform)?,
        memory::maximum_reservation(platform)?,
    );
    ensure(now <= most, "it has more than it may have")?;
    let mut frames: Vec<u64> = (NOTHING..).take(MORE).collect();
    let mut get = || match guest.guest_type() {
        // SAFETY: nothing is there.
        GuestType::Pvh => unsafe { memory::populate_physmap(platform, &mut frames, 0, 0) },
        _ => memory::increase_reservation(platform, &mut frames, 0, 0),
    };
    let got = get()?;
    frames.truncate(got);
    let between = memory::current_reservation(platform)?;
    // SAFETY: they are new: nothing leads to them.
    let given = unsafe { memory::decrease_reservation(platform, &mut frames, 0) }?;
    same(given, got)?;
    same(between, now + got)?;
    match guest.guest_type() {
        // There may be none for the place in its memory.
        GuestType::Pvh => ensure(got <= most - now, "it got more than it may have")?,
        _ => same(got, MORE.min(most - now))?,
    }
    same(memory::current_reservation(platform)?, now)
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
    // Xen writes no answer where there is nothing.
    let address = page.addr().get();
    let op = version::XENVER_EXTRAVERSION;
    // SAFETY: a page of ours, if there is one at all.
    let answer = unsafe { platform.call2(HypercallNr::XEN_VERSION, op, address) };
    // SAFETY: nothing is there now.
    let got = unsafe { memory::populate_physmap(platform, &mut [gfn.0], 0, 0) }?;
    same((given, got), (1, 1))?;
    same(between + 1, before)?;
    refused(Errno::check(answer), Errno::EFAULT)?;
    // SAFETY: the page is there again.
    unsafe { page.write_volatile(7) };
    // SAFETY: as above.
    let byte = unsafe { page.read_volatile() };
    // SAFETY: as it was allocated.
    unsafe { platform.free(page, 1) };
    same(byte, 7)
}

/// Some of 8 MiB, which large pages map where there are such.
fn a_frame_of_memory_is_seen_where_it_is(guest: &Guest) -> Verdict {
    const WORDS: usize = PAGE_SIZE / size_of::<u64>();
    let platform = guest.platform();
    let words: Vec<u64> = vec![0; 2048 * WORDS];
    for page in (0..2047).step_by(89).chain([511, 512, 513]) {
        let first = words.iter().step_by(WORDS).nth(page).ok_or("too short")?;
        // The heap's memory begins anywhere in a page.
        let place = page_at(core::ptr::from_ref(first).expose_provenance())?;
        let Some(gfn) = platform.gfn_of(place) else {
            // A process has a heap of its host's.
            return skip("the heap is none of the domain's memory");
        };
        same(platform.page_of(gfn), Some(place))?;
    }
    let words: &[u64] = core::hint::black_box(&words);
    let changed = words.iter().filter(|word| **word != 0).count();
    same(changed, 0)
}

fn frames_that_are_none_are_not_seen(guest: &Guest) -> Verdict {
    for gfn in [1 << 36, (1 << 52) - 1, 1 << 52, u64::MAX >> 12, u64::MAX] {
        same(guest.platform().page_of(Gfn(gfn)), None)?;
    }
    Ok(())
}

fn page_at(address: usize) -> Result<NonNull<u8>, &'static str> {
    let place = core::ptr::with_exposed_provenance_mut(address & !(PAGE_SIZE - 1));
    NonNull::new(place).ok_or("a page at 0")
}

/// And does so still.
fn code_is_seen_where_it_runs(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let code = page_at((code_is_seen_where_it_runs as fn(&Guest) -> Verdict as *const ()).addr())?;
    let gfn = platform.gfn_of(code).ok_or("it has no frame")?;
    same(platform.page_of(gfn), Some(code))
}

/// A page of each table, as far as some megabytes go: the loader has mapped the first, and
/// the kernel the others.
fn memory_that_is_given_out_is_not_run(guest: &Guest) -> Verdict {
    const PAGES: usize = 1536;
    const TABLE_REACH: usize = 512 * PAGE_SIZE;
    const PAGE_FAULT: u32 = 14;
    /// `ret`
    const RETURN: u8 = 0xc3;
    #[unsafe(naked)]
    unsafe extern "C" fn jump(_: u64) -> u64 {
        core::arch::naked_asm!("jmp rdi")
    }
    let platform = guest.platform();
    let (mut pages, mut tables, mut ran) = (Vec::new(), Vec::new(), 0);
    while pages.len() < PAGES
        && let Some(page) = platform.alloc(1)
    {
        pages.push(page);
        let address = page.as_ptr().expose_provenance();
        if tables.contains(&(address / TABLE_REACH)) {
            continue;
        }
        tables.push(address / TABLE_REACH);
        // SAFETY: a fresh page of ours.
        unsafe { page.write_volatile(RETURN) };
        // SAFETY: the stack is as it was, whether it runs or not.
        let caught = unsafe { probe::run(jump, address as u64, Then::Return) }.0;
        ran += usize::from(caught.is_none_or(|caught| caught.frame.vector != PAGE_FAULT));
    }
    for page in pages {
        // SAFETY: as it was allocated.
        unsafe { platform.free(page, 1) };
    }
    ensure(tables.len() > 1, "all pages are of one table")?;
    same(ran, 0)
}

#[cfg(target_os = "none")]
fn guards() -> [usize; 2] {
    unsafe extern "C" {
        static __boot_stack_guard_start: u8;
        static __fault_stack_guard_start: u8;
    }
    [
        (&raw const __boot_stack_guard_start).addr(),
        (&raw const __fault_stack_guard_start).addr(),
    ]
}

#[cfg(not(target_os = "none"))]
const fn guards() -> [usize; 0] {
    []
}

/// Their frames are memory; they are never mapped.
fn no_page_is_put_below_a_stack(guest: &Guest) -> Verdict {
    for guard in guards() {
        let gfn = guest.platform().gfn_of(page_at(guard)?);
        let gfn = gfn.ok_or("it has no frame")?;
        same(guest.platform().page_of(gfn), None)?;
    }
    Ok(())
}

/// And the grants in it with it.
fn a_frame_of_the_grant_table_stays_where_it_is(guest: &Guest) -> Verdict {
    let (table, platform) = (guest.grants()?, guest.platform());
    let page = Page::new(table).map_err(|_| "no page")?;
    let granted: Granted<'_, Current, PeerReads> = table
        .share(DomId(0), page)
        .map_err(|_| "it cannot be shared")?;
    let first = platform.grant_frame(GrantFrame::Table, 0)?;
    let next = platform.grant_frame(GrantFrame::Table, 1)?;
    for _ in 0..3 {
        same(platform.grant_frame(GrantFrame::Table, 0)?, first)?;
        same(platform.grant_frame(GrantFrame::Table, 1)?, next)?;
    }
    ensure(first != next, "two frames are at one place")?;
    ensure(!granted.is_over(), "the grant is gone")?;
    granted.end().map(|_| ()).map_err(|_| "it is in use".into())
}

/// As large as a large page: a frame of the grant table takes its place, and what is
/// mapped next to that.
fn a_window_changes_nothing_beside_it(guest: &Guest) -> Verdict {
    const LARGE: usize = 512;
    /// One that the table itself has not got to.
    const FRAME: u32 = 30;
    let platform = guest.platform();
    let one = || platform.reserve_window(1).ok_or("no room in the window");
    let mut single = vec![one()?];
    // Up to where a large page may begin.
    while !(single.last().map_or(0, |page| page.addr().get()) + PAGE_SIZE)
        .is_multiple_of(LARGE * PAGE_SIZE)
        && single.len() < LARGE
    {
        single.push(one()?);
    }
    let large = platform.reserve_window(LARGE).ok_or("no room for many")?;
    // SAFETY: reserved above; nothing is mapped there.
    unsafe { platform.release_window(large, LARGE) };
    let frame = platform.grant_frame(GrantFrame::Table, FRAME)?;
    let beside: Vec<_> = (0..16).map_while(|_| one().ok()).collect();
    let mut words = [0; LARGE];
    for (index, word) in words.iter_mut().enumerate() {
        // SAFETY: a word of a frame that is mapped for good.
        let place = unsafe { frame.cast::<u64>().add(index) };
        // SAFETY: as above; it grants nothing, so nobody writes there.
        *word = unsafe { place.read_volatile() };
    }
    for page in single.into_iter().chain(beside) {
        // SAFETY: reserved above; nothing is mapped there.
        unsafe { platform.release_window(page, 1) };
    }
    same(words.iter().filter(|word| **word != 0).count(), 0)
}
