//! Grant tables: `grant_table.h`. A domain may grant to itself, so that one
//! guest sees both sides.

use grant_tables::{
    Access, Borrowed, CopyFrom, CopyTo, Error, GrantTable, Granted, InUse, Page, PeerReads,
    PeerWrites, ReadOnly, ReadWrite, Version,
};
use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE,
    grant_table::{self, GrantStatus},
};
use pv_guest::{Current, Guest, GuestType};

use crate::{
    claim::{Group, NO_XEN, Stop, Verdict, claims, ensure, skip},
    touch,
};

mod copies;
mod maps;

use copies::a_copy_keeps_to_what_is_granted;
use maps::{
    a_part_of_a_page_is_not_mapped, the_last_reference_is_as_good_as_the_first,
    the_version_stays_while_a_grant_is_used, use_bits_say_how_a_page_is_used,
};

pub(super) const GROUP: Group = Group {
    name: "grants",
    claims: claims! {
        on_table(a_lent_page_can_be_mapped): "grant_table.h: GNTTABOP_map_grant_ref",
        on_table(a_page_in_use_is_kept): "grant_table.h: GTF_reading, GTF_writing",
        on_table(read_only_grants_are_not_written): "grant_table.h: GTF_readonly",
        on_table(grants_of_nothing_are_refused): "grant_table.h: GNTTABOP_map_grant_ref",
        on_table(copies_cross_pages_both_ways): "grant_table.h: GNTTABOP_copy",
        on_table(a_copy_keeps_to_what_is_granted): "grant_table.h: GNTTABOP_copy",
        on_table(hundreds_are_mapped_at_once): "grant_table.h: GNTTABOP_map_grant_ref",
        on_table(a_read_only_map_is_not_written): "grant_table.h: GNTMAP_readonly",
        on_table(use_bits_say_how_a_page_is_used): "grant_table.h: GTF_reading, GTF_writing",
        on_table(a_frame_that_is_not_there_is_bad): "grant_table.h: GNTST_bad_page",
        on_table(a_grant_in_use_stays_in_its_place): "grant_table.h: GNTTABOP_swap_grant_ref",
        on_table(a_part_of_a_page_is_not_mapped): "grant_table.h: grant_entry_v2, sub_page",
        on_table(the_version_stays_while_a_grant_is_used): "grant_table.h: GNTTABOP_set_version",
        on_table(the_last_reference_is_as_good_as_the_first): "grant_table.h: grant_status_t",
        on_table(two_grants_change_places): "grant_table.h: GNTTABOP_swap_grant_ref",
        on_table(the_table_grows): "grant_table.h: GNTTABOP_setup_table",
        on_table(the_size_of_the_table_is_told): "grant_table.h: GNTTABOP_query_size",
        on_table(a_part_of_a_page_is_copied): "grant_table.h: grant_entry_v2, sub_page",
    },
};

type Table = &'static GrantTable<Current>;

fn on_table(guest: &Guest, claim: fn(&Guest, Table, DomId) -> Verdict) -> Verdict {
    match (guest.grants(), guest.domid()) {
        (Ok(table), Ok(domid)) => {
            claim(guest, table, domid)?;
            ensure(
                table.release_quarantine() == 0,
                "a page stays in quarantine",
            )
        }
        _ => skip(NO_XEN),
    }
}

/// Whether the library maps this very domain's grants: where Xen moves a page when its own
/// domain maps it, it refuses, and two domains show what it does (see `pair`).
fn is_mapped_by_library(guest: &Guest, table: Table, me: DomId) -> Result<bool, Stop> {
    if guest.guest_type() != GuestType::Pvh {
        return Ok(true);
    }
    let mapped = Borrowed::<_, ReadOnly>::map(table, me, &[GrantRef(8)]);
    ensure(mapped.err() == Some(Error::OwnGrant), "it is not refused")?;
    Ok(false)
}

fn lend<A: Access>(
    table: Table,
    peer: DomId,
    text: &[u8],
) -> Result<Granted<'static, Current, A>, &'static str> {
    let mut page = Page::new(table).map_err(|_| "no page")?;
    for (slot, byte) in page.bytes_mut().iter_mut().zip(text) {
        *slot = *byte;
    }
    table.share(peer, page).map_err(|_| "it cannot be lent")
}

fn a_lent_page_can_be_mapped(guest: &Guest, table: Table, me: DomId) -> Verdict {
    maps::a_lent_page_can_be_mapped(guest)?;
    if !is_mapped_by_library(guest, table, me)? {
        return Ok(());
    }
    let granted = lend::<PeerWrites>(table, me, b"hello")?;
    let borrowed =
        Borrowed::<_, ReadWrite>::map(table, me, &[granted.gref()]).map_err(|_| "no mapping")?;
    let page = borrowed.page(0).map_err(|_| "it was not mapped")?;
    let mut text = [0; 5];
    page.copy_to(&mut text);
    ensure(&text == b"hello", "another page was mapped")?;
    page.copy_from(b"HELLO");
    granted.peer().copy_to(&mut text);
    ensure(&text == b"HELLO", "what was written is not there")?;
    drop(borrowed);
    let page = granted.end().map_err(|_| "it is in use still")?;
    ensure(page.bytes().starts_with(b"HELLO"), "the page is another")
}

fn a_page_in_use_is_kept(guest: &Guest, table: Table, me: DomId) -> Verdict {
    maps::a_page_in_use_is_kept(guest)?;
    if !is_mapped_by_library(guest, table, me)? {
        return Ok(());
    }
    let granted = lend::<PeerWrites>(table, me, b"")?;
    let gref = granted.gref();
    let borrowed = Borrowed::<_, ReadWrite>::map(table, me, &[gref]).map_err(|_| "no mapping")?;
    borrowed.check().map_err(|_| "it was not mapped")?;
    ensure(granted.is_used(), "the use bits are clear")?;
    let Err(InUse(granted)) = granted.end() else {
        return Err("a page was given back that is mapped".into());
    };
    drop(granted);
    ensure(table.quarantined() == 1, "it is not in quarantine")?;
    ensure(table.quarantine().next() == Some(gref), "another is")?;
    ensure(table.release_quarantine() == 1, "it was released too early")?;
    drop(borrowed);
    if cfg!(not(target_os = "none")) {
        // A hosted guest's memory is its host's.
        return ensure(table.release_quarantine() == 0, "it was not released");
    }
    let _taken = touch::all_memory(guest, 0)?;
    ensure(
        table.quarantined() == 0,
        "memory ran out, and a page in quarantine was not looked at",
    )
}

fn read_only_grants_are_not_written(guest: &Guest, table: Table, me: DomId) -> Verdict {
    maps::read_only_grants_are_not_written(guest)?;
    if !is_mapped_by_library(guest, table, me)? {
        return Ok(());
    }
    let mut granted = lend::<PeerReads>(table, me, b"look")?;
    let writing =
        Borrowed::<_, ReadWrite>::map(table, me, &[granted.gref()]).map_err(|_| "no mapping")?;
    ensure(
        writing.check() == Err(Error::Status(GrantStatus::GENERAL_ERROR)),
        "it can be mapped for writing",
    )?;
    drop(writing);
    let reading =
        Borrowed::<_, ReadOnly>::map(table, me, &[granted.gref()]).map_err(|_| "no mapping")?;
    let page = reading.page(0).map_err(|_| "it was not mapped")?;
    let mut text = [0; 4];
    page.copy_to(0, &mut text);
    ensure(&text == b"look", "another page was mapped")?;
    if let Some(byte) = granted.bytes_mut().first_mut() {
        *byte = b'b';
    }
    page.copy_to(0, &mut text);
    ensure(&text == b"book", "what the owner writes is not seen")
}

fn grants_of_nothing_are_refused(guest: &Guest, table: Table, me: DomId) -> Verdict {
    maps::grants_of_nothing_are_refused(guest, table, me)?;
    if !is_mapped_by_library(guest, table, me)? {
        return Ok(());
    }
    let other = lend::<PeerReads>(table, DomId(0x7fe0), b"")?;
    let far = GrantRef(1 << 30);
    let ended = lend::<PeerReads>(table, me, b"")?;
    let gref = ended.gref();
    drop(ended);
    let refs = [other.gref(), far, gref];
    let borrowed = Borrowed::<_, ReadOnly>::map(table, me, &refs).map_err(|_| "no mapping")?;
    let status = |index| borrowed.page(index).err();
    ensure(
        status(0) == Some(GrantStatus::GENERAL_ERROR),
        "a grant to another was mapped",
    )?;
    ensure(
        status(1) == Some(GrantStatus::BAD_GNTREF),
        "a reference beyond the table was mapped",
    )?;
    ensure(
        status(2) == Some(GrantStatus::GENERAL_ERROR),
        "a grant that has ended was mapped",
    )
}

fn copies_cross_pages_both_ways(_: &Guest, table: Table, me: DomId) -> Verdict {
    let lent = lend::<PeerWrites>(table, me, b"0123456789")?;
    // Own memory: the stack, the heap, anything.
    let mut own = [0_u8; 2 * PAGE_SIZE];
    let offset = PAGE_SIZE - own.as_ptr().addr() % PAGE_SIZE;
    let target = own.get_mut(offset.saturating_sub(4)..offset + 4);
    let target = target.ok_or("no room")?;
    let len = target.len();
    // It begins before a page ends and ends after one begins, where it can.
    let mut list = [CopyFrom {
        peer: me,
        gref: lent.gref(),
        offset: 2,
        target,
        status: GrantStatus::GENERAL_ERROR,
    }];
    match table.copy_from(&mut list) {
        Ok(()) => {}
        Err(Error::NotMemory) if cfg!(not(target_os = "none")) => {
            return skip("a process's stack is no memory of its domain");
        }
        Err(_) => return Err("no copy".into()),
    }
    let [CopyFrom { target, status, .. }] = list;
    ensure(status == GrantStatus::OKAY, "it was not copied")?;
    ensure(Some(&*target) == b"23456789".get(..len), "other bytes")?;
    target.fill(b'#');
    let mut list = [
        CopyTo {
            peer: me,
            gref: lent.gref(),
            offset: PAGE_SIZE - len,
            source: target,
            status: GrantStatus::GENERAL_ERROR,
        },
        CopyTo {
            peer: me,
            gref: lent.gref(),
            offset: PAGE_SIZE,
            source: target,
            status: GrantStatus::GENERAL_ERROR,
        },
    ];
    table.copy_to(&mut list).map_err(|_| "no copy")?;
    let [good, bad] = list;
    ensure(good.status == GrantStatus::OKAY, "it was not copied")?;
    ensure(
        bad.status == GrantStatus::BAD_COPY_ARG,
        "it was copied beyond a page",
    )?;
    let page = lent.end().map_err(|_| "it is in use still")?;
    ensure(page.bytes().ends_with(b"####"), "other bytes")?;
    ensure(page.bytes().starts_with(b"0123"), "too many bytes")
}

fn hundreds_are_mapped_at_once(guest: &Guest, table: Table, me: DomId) -> Verdict {
    maps::many_are_mapped_at_once(guest)?;
    if !is_mapped_by_library(guest, table, me)? {
        return Ok(());
    }
    const PAGES: usize = 100;
    let mut lent = [const { None }; PAGES];
    let mut refs = [GrantRef(0); PAGES];
    for (index, (slot, gref)) in lent.iter_mut().zip(&mut refs).enumerate() {
        let granted = lend::<PeerReads>(table, me, &[index as u8])?;
        *gref = granted.gref();
        *slot = Some(granted);
    }
    for _ in 0..3 {
        let borrowed = Borrowed::<_, ReadOnly>::map(table, me, &refs).map_err(|_| "no mapping")?;
        for index in 0..PAGES {
            let page = borrowed.page(index).map_err(|_| "one was not mapped")?;
            let mut byte = [0];
            page.copy_to(0, &mut byte);
            ensure(byte == [index as u8], "another page was mapped")?;
        }
        drop(borrowed);
        for granted in lent.iter().flatten() {
            ensure(!granted.is_used(), "it is in use after it was unmapped")?;
        }
    }
    Ok(())
}

fn two_grants_change_places(_: &Guest, table: Table, me: DomId) -> Verdict {
    let mut one = lend::<PeerReads>(table, me, b"1")?;
    let mut other = lend::<PeerReads>(table, me, b"2")?;
    let gref = one.gref();
    table
        .swap(&mut one, &mut other)
        .map_err(|_| "they cannot be swapped")?;
    ensure(other.gref() == gref, "the references are as they were")?;
    let mut target = Page::new(table).map_err(|_| "no page")?;
    let mut list = [CopyFrom {
        peer: me,
        gref,
        offset: 0,
        target: target.bytes_mut().get_mut(..1).ok_or("no room")?,
        status: GrantStatus::GENERAL_ERROR,
    }];
    table.copy_from(&mut list).map_err(|_| "no copy")?;
    let [CopyFrom { status, target, .. }] = list;
    ensure(status == GrantStatus::OKAY, "it was not copied")?;
    ensure(target == b"2", "the pages are as they were")
}

fn the_table_grows(_: &Guest, table: Table, _: DomId) -> Verdict {
    let wanted = 3000.min(table.max_references());
    let before = table.references() - table.free_references();
    let all = table.reserve(wanted).map_err(|_| "it does not grow")?;
    let size = grant_table::query_size(table.platform())?;
    let entries = match table.version() {
        Version::One => PAGE_SIZE / 8,
        Version::Two => PAGE_SIZE / 16,
    };
    let frames = table.references().div_ceil(entries as u32);
    ensure(
        size.nr_frames >= frames && size.nr_frames <= size.max_nr_frames,
        "Xen tells another size",
    )?;
    ensure(all.free() == wanted, "fewer than were wanted")?;
    drop(all);
    ensure(
        table.references() - table.free_references() == before,
        "some did not come back",
    )
}

fn a_part_of_a_page_is_copied(_: &Guest, table: Table, me: DomId) -> Verdict {
    let mut page = Page::new(table).map_err(|_| "no page")?;
    for (slot, byte) in page.bytes_mut().iter_mut().skip(100).zip(b"part") {
        *slot = *byte;
    }
    let part = match table.share_part::<PeerReads>(me, page, 100..104) {
        Ok(part) => part,
        Err(Error::NeedsVersion2) if table.version() == Version::One => {
            return skip("the table is of version 1");
        }
        Err(_) => return Err("it cannot be lent".into()),
    };
    let own = table.forward::<PeerReads>(me, me, part.gref());
    let own = own.map_err(|_| "it cannot be forwarded")?;
    let mut target = Page::new(table).map_err(|_| "no page")?;
    for (gref, offset, wanted, why) in [
        (part.gref(), 100, true, "a part is not copied"),
        (part.gref(), 99, false, "more than the part is copied"),
        (part.gref(), 101, false, "what is behind the part is copied"),
        (
            own.gref(),
            100,
            false,
            "what was forwarded to oneself is copied",
        ),
    ] {
        let mut list = [CopyFrom {
            peer: me,
            gref,
            offset,
            target: target.bytes_mut().get_mut(..4).ok_or("no room")?,
            status: GrantStatus::OKAY,
        }];
        table.copy_from(&mut list).map_err(|_| "no copy")?;
        let [CopyFrom { status, target, .. }] = list;
        ensure((status == GrantStatus::OKAY) == wanted, why)?;
        ensure(!wanted || target == b"part", "other bytes")?;
    }
    Ok(())
}

/// Toolstacks give a domain 32 frames or more.
fn the_size_of_the_table_is_told(_: &Guest, table: Table, _: DomId) -> Verdict {
    let size = grant_table::query_size(table.platform())?;
    ensure(size.nr_frames >= 1, "it has no frame")?;
    ensure(size.max_nr_frames >= 4, "it can hardly grow")
}

fn a_read_only_map_is_not_written(guest: &Guest, _: Table, _: DomId) -> Verdict {
    maps::a_read_only_map_is_not_written(guest)
}

fn a_frame_that_is_not_there_is_bad(guest: &Guest, _: Table, _: DomId) -> Verdict {
    maps::a_frame_that_is_not_there_is_bad(guest)
}

fn a_grant_in_use_stays_in_its_place(guest: &Guest, _: Table, _: DomId) -> Verdict {
    maps::a_grant_in_use_stays_in_its_place(guest)
}
