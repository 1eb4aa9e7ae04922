//! `GNTTABOP_copy`: from grants and to grants, no further than they go.

use alloc::vec::Vec;

use grant_tables::{Page, PeerReads, PeerWrites};
use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE,
    grant_table::{self, CopyFlags, GnttabCopy, GnttabCopyPtr, GrantStatus},
    platform::Pages,
};
use pv_guest::Guest;

use super::{Table, lend};
use crate::claim::{Stop, Verdict, ensure, same};

const LEN: u16 = 8;

/// One end: a grant, or a frame of this guest's.
fn by_grant(domid: DomId, gref: GrantRef, offset: u16) -> GnttabCopyPtr {
    GnttabCopyPtr {
        u: u64::from(gref.0),
        domid,
        offset,
        ..GnttabCopyPtr::default()
    }
}

/// What is granted to another, or only to be read, is not copied from, or to; nothing is
/// changed then.
pub(super) fn a_copy_keeps_to_what_is_granted(guest: &Guest, table: Table, me: DomId) -> Verdict {
    let platform = guest.platform();
    let own = platform.alloc(1).ok_or("no page")?;
    let gfn = platform.gfn_of(own).ok_or("no frame")?;
    let frame = |offset| GnttabCopyPtr {
        u: gfn.0,
        domid: DomId::SELF,
        offset,
        ..GnttabCopyPtr::default()
    };
    let others = lend::<PeerWrites>(table, DomId(0x7fe0), b"01234567")?;
    let read_only = lend::<PeerReads>(table, me, b"abcdefgh")?;
    let writable = lend::<PeerWrites>(table, me, b"ABCDEFGH")?;
    let end = (PAGE_SIZE - usize::from(LEN)) as u16;
    let (from, to) = (CopyFlags::SOURCE_GREF, CopyFlags::DEST_GREF);
    let copy = |source, dest, flags: CopyFlags| GnttabCopy {
        source,
        dest,
        len: LEN,
        flags: flags.bits(),
        status: GrantStatus::BAD_COPY_ARG,
        ..GnttabCopy::default()
    };
    let mut list = [
        copy(by_grant(me, others.gref(), 0), frame(0), from),
        copy(frame(0), by_grant(me, others.gref(), 0), to),
        copy(frame(0), by_grant(me, read_only.gref(), 0), to),
        // Up to the end of a page, from and to.
        copy(by_grant(me, read_only.gref(), 0), frame(end), from),
        copy(frame(end), by_grant(me, writable.gref(), end), to),
    ];
    // SAFETY: the pages are reached by pointers only, or not written.
    unsafe { grant_table::copy(platform, &mut list) }?;
    // SAFETY: a page of ours, which nobody changes any more.
    let bytes = unsafe { core::slice::from_raw_parts(own.as_ptr(), PAGE_SIZE) }.to_vec();
    // SAFETY: as it was allocated; nobody copies any more.
    unsafe { platform.free(own, 1) };
    let in_others = taken(others)?;
    let in_writable = taken(writable)?;
    same(
        list.map(|op| op.status),
        [
            GrantStatus::GENERAL_ERROR,
            GrantStatus::GENERAL_ERROR,
            GrantStatus::GENERAL_ERROR,
            GrantStatus::OKAY,
            GrantStatus::OKAY,
        ],
    )?;
    ensure(
        bytes.starts_with(&[0; LEN as usize]) && bytes.ends_with(b"abcdefgh"),
        "other bytes",
    )?;
    ensure(in_others.starts_with(b"01234567"), "another's was changed")?;
    ensure(
        read_only.bytes().starts_with(b"abcdefgh"),
        "what is only to be read was changed",
    )?;
    ensure(
        in_writable.starts_with(b"ABCDEFGH") && in_writable.ends_with(b"abcdefgh"),
        "other bytes behind",
    )
}

/// What is in a page whose grant has ended.
fn taken(
    granted: grant_tables::Granted<'static, pv_guest::Current, PeerWrites>,
) -> Result<Vec<u8>, Stop> {
    let page: Page<'_, _> = granted.end().map_err(|_| "it is in use still")?;
    Ok(page.bytes().to_vec())
}
