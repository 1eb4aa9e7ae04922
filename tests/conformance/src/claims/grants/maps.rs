//! What Xen says to maps of this domain's own grants, by hypercalls of the claims' own: the
//! library refuses to make some of them on PVH.

use alloc::vec::Vec;

use grant_tables::{Page, PeerReads, PeerWrites, Version};
use hypercall_abi::{
    DomId, Errno, GrantRef, PAGE_SIZE,
    grant_table::{
        self, GnttabMapGrantRef, GnttabSwapGrantRef, GnttabUnmapGrantRef, GrantStatus, MapFlags,
        entry::GrantFlags,
    },
    memory,
    platform::{GrantFrame, Pages},
};
use pv_guest::{Guest, GuestType};

use super::Table;
use crate::{
    claim::{Stop, Verdict, ensure, refused, same, skip},
    lent::{Lent, said, unmap},
    probe::{self, Then},
};

const READ: MapFlags = MapFlags::HOST_MAP.union(MapFlags::READONLY);
const WRITE: MapFlags = MapFlags::HOST_MAP;

pub(super) fn a_lent_page_can_be_mapped(guest: &Guest) -> Verdict {
    let lent = Lent::<PeerWrites>::new(guest, b"hello")?;
    let handle = lent.map_at(guest, 0, WRITE).map_err(said)?;
    let found = lent.seen();
    let used = lent.granted.is_used();
    lent.write(b"HELLO");
    let written = lent.seen();
    lent.unmap_at(guest, 0, handle)?;
    let free = !lent.granted.is_used();
    lent.end(guest)?;
    same(&found, b"hello")?;
    same(&written, b"HELLO")?;
    ensure(used, "it is free although it is mapped")?;
    ensure(free, "it is used although it is not mapped")
}

pub(super) fn a_page_in_use_is_kept(guest: &Guest) -> Verdict {
    let lent = Lent::<PeerWrites>::new(guest, b"")?;
    let handle = lent.map_at(guest, 0, WRITE).map_err(said)?;
    let lent = lent.keep()?;
    lent.unmap_at(guest, 0, handle)?;
    lent.end(guest)
}

pub(super) fn read_only_grants_are_not_written(guest: &Guest) -> Verdict {
    let lent = Lent::<PeerReads>::new(guest, b"look")?;
    let writing = lent.map_at(guest, 0, WRITE);
    let handle = lent.map_at(guest, 0, READ).map_err(said)?;
    let found = lent.seen();
    lent.unmap_at(guest, 0, handle)?;
    lent.end(guest)?;
    same(writing, Err(GrantStatus::GENERAL_ERROR))?;
    same(&found, b"look")
}

/// One list: each operation has its own status.
pub(super) fn grants_of_nothing_are_refused(guest: &Guest, table: Table, me: DomId) -> Verdict {
    let other = super::lend::<PeerReads>(table, DomId(0x7fe0), b"")?;
    let ended = super::lend::<PeerReads>(table, me, b"")?;
    let gref = ended.gref();
    drop(ended);
    let good = Lent::<PeerReads>::new(guest, b"good")?;
    let address = good.address(guest, 1);
    let map = |r#ref, host_addr| GnttabMapGrantRef {
        host_addr,
        flags: READ.bits(),
        r#ref,
        dom: me,
        status: GrantStatus::BAD_COPY_ARG,
        ..GnttabMapGrantRef::default()
    };
    let mut list = [
        map(other.gref(), address),
        map(GrantRef(1 << 30), address),
        // The one that ended has its number still, but for the one that came after it.
        map(
            GrantRef(gref.0 + u32::from(gref == good.granted.gref())),
            address,
        ),
        map(good.granted.gref(), good.address(guest, 0)),
    ];
    // SAFETY: at addresses that were reserved for it, or refused.
    unsafe { grant_table::map(guest.platform(), &mut list) }?;
    let [.., last] = &list;
    let found = (last.status == GrantStatus::OKAY).then(|| good.seen());
    if last.status == GrantStatus::OKAY {
        good.unmap_at(guest, 0, last.handle)?;
        leave_moved(guest, good)?;
    }
    same(
        list.map(|op| op.status),
        [
            GrantStatus::GENERAL_ERROR,
            GrantStatus::BAD_GNTREF,
            GrantStatus::GENERAL_ERROR,
            GrantStatus::OKAY,
        ],
    )?;
    same(found, Some(*b"good"))
}

/// Ends one that was mapped by a list of this file's own.
fn leave_moved<A: grant_tables::Access>(guest: &Guest, lent: Lent<A>) -> Verdict {
    if guest.guest_type() == GuestType::Pvh {
        lent.note_move();
    }
    lent.end(guest)
}

/// In one call, and each has another handle and another page.
pub(super) fn many_are_mapped_at_once(guest: &Guest) -> Verdict {
    const PAGES: u8 = 24;
    let mut all = Vec::new();
    for index in 0..PAGES {
        all.push(Lent::<PeerReads>::new(guest, &[index])?);
    }
    let mut list: Vec<GnttabMapGrantRef> = all
        .iter()
        .map(|lent| GnttabMapGrantRef {
            host_addr: lent.address(guest, 0),
            flags: READ.bits(),
            r#ref: lent.granted.gref(),
            dom: lent.domid,
            status: GrantStatus::GENERAL_ERROR,
            ..GnttabMapGrantRef::default()
        })
        .collect();
    // SAFETY: at addresses that were reserved for it.
    unsafe { grant_table::map(guest.platform(), &mut list) }?;
    ensure(
        list.iter().all(|op| op.status == GrantStatus::OKAY),
        "one was not mapped",
    )?;
    let good = (0_u8..)
        .zip(&all)
        .all(|(index, lent)| lent.seen() == [index] && lent.granted.is_used());
    let mut undo: Vec<GnttabUnmapGrantRef> = list
        .iter()
        .map(|op| GnttabUnmapGrantRef {
            host_addr: op.host_addr,
            handle: op.handle,
            status: GrantStatus::GENERAL_ERROR,
            ..GnttabUnmapGrantRef::default()
        })
        .collect();
    // SAFETY: nobody uses what is mapped there.
    unsafe { grant_table::unmap(guest.platform(), &mut undo) }?;
    let unmapped = undo.iter().all(|op| op.status == GrantStatus::OKAY);
    let free = all.iter().all(|lent| !lent.granted.is_used());
    for lent in all {
        leave_moved(guest, lent)?;
    }
    ensure(good, "another page was mapped, or it is told to be free")?;
    ensure(unmapped, "one was not unmapped")?;
    ensure(free, "it is in use after it was unmapped")
}

#[unsafe(naked)]
unsafe extern "C" fn store(_: u64) -> u64 {
    core::arch::naked_asm!("mov byte ptr [rdi], 0x23", "xor eax, eax", "ret")
}

/// In a PV guest, an exception comes; of a PVH guest's, Xen discards what is written. It may
/// be written where it is mapped to be.
pub(super) fn a_read_only_map_is_not_written(guest: &Guest) -> Verdict {
    let lent = Lent::<PeerWrites>::new(guest, b"look")?;
    let address = lent.place(0).addr().get() as u64;
    let reading = lent.map_at(guest, 0, READ).map_err(said)?;
    // SAFETY: no reference leads to the page.
    let (refused, _) = unsafe { probe::run(store, address, Then::Return) };
    let found = lent.seen();
    lent.unmap_at(guest, 0, reading)?;
    lent.end(guest)?;
    let lent = Lent::<PeerWrites>::new(guest, b"look")?;
    let address = lent.place(0).addr().get() as u64;
    let writing = lent.map_at(guest, 0, WRITE).map_err(said)?;
    // SAFETY: as above.
    let (done, _) = unsafe { probe::run(store, address, Then::Return) };
    let changed = lent.seen();
    lent.unmap_at(guest, 0, writing)?;
    lent.end(guest)?;
    same(&found, b"look")?;
    ensure(
        refused.is_some() || guest.guest_type() == GuestType::Pvh,
        "no exception came",
    )?;
    ensure(done.is_none(), "it cannot be written")?;
    same(&changed, b"#ook")
}

/// The word that has a grant's use bits. A PVH guest has its table in one place, which is the
/// library's.
fn use_bits(guest: &Guest, table: Table, gref: GrantRef) -> Result<GrantFlags, Stop> {
    let (frame, bytes) = match table.version() {
        Version::One => (GrantFrame::Table, 8),
        Version::Two => (GrantFrame::Status, 2),
    };
    let offset = gref.0 as usize * bytes;
    let index = (offset / PAGE_SIZE) as u32;
    let page = guest.platform().grant_frame(frame, index)?;
    // SAFETY: within the page.
    let word = unsafe { page.add(offset % PAGE_SIZE) }.cast::<u16>();
    // SAFETY: a word that this guest and Xen write by whole instructions.
    Ok(GrantFlags::from_bits_retain(unsafe {
        word.read_volatile()
    }))
}

pub(super) fn use_bits_say_how_a_page_is_used(guest: &Guest, table: Table, _: DomId) -> Verdict {
    const BOTH: GrantFlags = GrantFlags::READING.union(GrantFlags::WRITING);
    if guest.guest_type() == GuestType::Pvh {
        return skip("a PVH guest's table is the library's alone");
    }
    let lent = Lent::<PeerWrites>::new(guest, b"")?;
    let told = || use_bits(guest, table, lent.granted.gref()).map(|bits| bits & BOTH);
    let none = told()?;
    let reading = lent.map_at(guest, 0, READ).map_err(said)?;
    let one = told()?;
    let writing = lent.map_at(guest, 1, WRITE).map_err(said)?;
    let two = told()?;
    lent.unmap_at(guest, 1, writing)?;
    let left = told()?;
    lent.unmap_at(guest, 0, reading)?;
    let over = told()?;
    lent.end(guest)?;
    same(
        [none, one, two, left, over],
        [
            GrantFlags::empty(),
            GrantFlags::READING,
            BOTH,
            GrantFlags::READING,
            GrantFlags::empty(),
        ],
    )
}

/// A frame that was given back meanwhile.
pub(super) fn a_frame_that_is_not_there_is_bad(guest: &Guest) -> Verdict {
    if guest.guest_type() != GuestType::Pvh {
        return skip("a PV guest's library grants frames that are mapped, which stay");
    }
    let platform = guest.platform();
    let mut lent = Lent::<PeerReads>::new(guest, b"")?;
    let place = NonNullPage::of(lent.granted.bytes_mut())?;
    let gfn = platform.gfn_of(place.0).ok_or("no frame")?;
    // SAFETY: nobody reads the page before there is one again.
    let given = unsafe { memory::decrease_reservation(platform, &mut [gfn.0], 0) }?;
    let mapped = lent.map_at(guest, 0, READ);
    // SAFETY: nothing is there now.
    let got = unsafe { memory::populate_physmap(platform, &mut [gfn.0], 0, 0) }?;
    if let Ok(handle) = mapped {
        lent.unmap_at(guest, 0, handle)?;
    }
    lent.end(guest)?;
    same((given, got), (1, 1))?;
    same(mapped, Err(GrantStatus::BAD_PAGE))
}

/// The start of a page's bytes.
struct NonNullPage(core::ptr::NonNull<u8>);

impl NonNullPage {
    fn of(bytes: &mut [u8]) -> Result<Self, Stop> {
        let start = core::ptr::NonNull::new(bytes.as_mut_ptr());
        start.map(Self).ok_or_else(|| "no page".into())
    }
}

pub(super) fn a_grant_in_use_stays_in_its_place(guest: &Guest) -> Verdict {
    let (one, other) = (
        Lent::<PeerReads>::new(guest, b"1")?,
        Lent::<PeerReads>::new(guest, b"2")?,
    );
    let handle = one.map_at(guest, 0, READ).map_err(said)?;
    let mut statuses = [GrantStatus::OKAY; 2];
    let both = [one.granted.gref(), other.granted.gref()];
    for (status, (a, b)) in statuses
        .iter_mut()
        .zip([(both[0], both[1]), (both[1], both[0])])
    {
        let mut ops = [GnttabSwapGrantRef {
            ref_a: a,
            ref_b: b,
            status: GrantStatus::GENERAL_ERROR,
            ..GnttabSwapGrantRef::default()
        }];
        // SAFETY: refused: one of them is used.
        unsafe { grant_table::swap(guest.platform(), &mut ops) }?;
        *status = ops[0].status;
    }
    one.unmap_at(guest, 0, handle)?;
    one.end(guest)?;
    other.end(guest)?;
    same(statuses, [GrantStatus::EAGAIN; 2])
}

fn on_version_two(table: Table) -> Verdict {
    match table.version() {
        Version::One => skip("the table is of version 1"),
        Version::Two => Ok(()),
    }
}

/// Not even one that is as long as the page.
pub(super) fn a_part_of_a_page_is_not_mapped(guest: &Guest, table: Table, me: DomId) -> Verdict {
    on_version_two(table)?;
    for range in [100..104, 0..PAGE_SIZE as u16] {
        let page = Page::new(table).map_err(|_| "no page")?;
        let part = table.share_part::<PeerReads>(me, page, range);
        let lent = Lent::of(guest, part.map_err(|_| "it cannot be lent")?, me)?;
        let mapped = lent.map_at(guest, 0, READ);
        if let Ok(handle) = mapped {
            lent.unmap_at(guest, 0, handle)?;
        }
        lent.end(guest)?;
        same(mapped, Err(GrantStatus::GENERAL_ERROR))?;
    }
    Ok(())
}

pub(super) fn the_version_stays_while_a_grant_is_used(
    guest: &Guest,
    table: Table,
    _: DomId,
) -> Verdict {
    let platform = guest.platform();
    let (now, other) = match table.version() {
        Version::One => (1, 2),
        Version::Two => (2, 1),
    };
    let lent = Lent::<PeerReads>::new(guest, b"")?;
    let handle = lent.map_at(guest, 0, READ).map_err(said)?;
    // SAFETY: refused.
    let set = unsafe { grant_table::set_version(platform, other) };
    let version = grant_table::get_version(platform, DomId::SELF)?;
    lent.unmap_at(guest, 0, handle)?;
    lent.end(guest)?;
    refused(set, Errno::EBUSY)?;
    same(version, now)
}

/// Also where its use bits are in another frame than those of the first.
pub(super) fn the_last_reference_is_as_good_as_the_first(
    guest: &Guest,
    table: Table,
    me: DomId,
) -> Verdict {
    /// Of version 2's status words, a frame has so many.
    const WORDS: u32 = (PAGE_SIZE / 2) as u32;
    if table.max_references() < 2 * WORDS {
        return skip("the table has one frame of them at most");
    }
    // All of those below are somebody else's.
    let others = table.reserve(WORDS).map_err(|_| "it does not grow")?;
    let page = Page::new(table).map_err(|_| "no page")?;
    let granted = table
        .share::<PeerWrites>(me, page)
        .map_err(|_| "it cannot be lent")?;
    let gref = granted.gref();
    let lent = Lent::of(guest, granted, me)?;
    lent.write_page(b"last");
    let handle = lent.map_at(guest, 0, WRITE).map_err(said)?;
    let (found, used) = (lent.seen(), lent.granted.is_used());
    lent.unmap_at(guest, 0, handle)?;
    let free = !lent.granted.is_used();
    lent.end(guest)?;
    drop(others);
    ensure(gref.0 >= WORDS, "it is among the first")?;
    same(&found, b"last")?;
    ensure(used, "it is free although it is mapped")?;
    ensure(free, "it is used although it is not mapped")?;
    // Nothing of a wrong handle.
    ensure(
        unmap(guest, 0, u32::MAX).is_err(),
        "a map ended that is none",
    )
}
