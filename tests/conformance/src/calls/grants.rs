//! Calls of `grant_table_op`.

use grant_tables::{GrantTable, Version};
use hypercall_abi::{
    DomId, Errno, Gfn, GrantRef, HypercallNr,
    grant_table::{
        self, CopyFlags, GnttabCopy, GnttabMapGrantRef, GnttabSwapGrantRef, GnttabUnmapGrantRef,
        GrantStatus, MapFlags,
    },
    platform::Pages,
};

use super::{
    Answer, Chosen, Done, Fails, NO_DOMAIN, NOT_HVM, Row, both, check, done, fresh_page, raw, raw3,
    split,
};

pub(super) const ROWS: &[Row] = &[
    both(
        "GNTTABOP_query_size",
        "",
        |p| check(grant_table::query_size(p)?.max_nr_frames >= 1),
        Done,
    ),
    both(
        "GNTTABOP_query_size",
        "null",
        |p| raw3(p, HypercallNr::GRANT_TABLE_OP, 6, 0, 1),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "GNTTABOP_setup_table",
        "a frame",
        |p| {
            let mut frames = [Gfn(0)];
            grant_table::setup_table(p, &mut frames)
        },
        Done,
    ),
    both(
        "GNTTABOP_setup_table",
        "too many",
        |p| grant_table::setup_table(p, &mut [Gfn(0); 5000]),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "GNTTABOP_get_version",
        "",
        |p| check([1, 2].contains(&grant_table::get_version(p, DomId::SELF)?)),
        Done,
    ),
    both(
        "GNTTABOP_get_version",
        "another's",
        |p| done(grant_table::get_version(p, DomId(0))),
        Fails(&[Errno::EPERM]),
    ),
    both(
        "GNTTABOP_set_version",
        "the same",
        |p| {
            // SAFETY: the version that there is.
            done(unsafe { grant_table::set_version(p, grant_table::get_version(p, DomId::SELF)?) })
        },
        Done,
    ),
    both(
        "GNTTABOP_set_version",
        "7",
        |p| {
            // SAFETY: no such version: nothing comes of it.
            done(unsafe { grant_table::set_version(p, 7) })
        },
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "GNTTABOP_map_grant_ref",
        "nothing granted",
        |p| {
            let mut op = [GnttabMapGrantRef {
                host_addr: 0x1000_0000,
                flags: MapFlags::HOST_MAP.bits(),
                r#ref: GrantRef(100),
                dom: DomId(0),
                ..Default::default()
            }];
            // SAFETY: nothing is granted: nothing is mapped.
            unsafe { grant_table::map(p, &mut op) }?;
            status(op[0].status, GrantStatus::GENERAL_ERROR)
        },
        Done,
    ),
    both(
        "GNTTABOP_map_grant_ref",
        "no such entry",
        |p| {
            let mut op = [GnttabMapGrantRef {
                flags: MapFlags::HOST_MAP.bits(),
                r#ref: GrantRef(1 << 30),
                dom: DomId(0),
                ..Default::default()
            }];
            // SAFETY: there is no such entry: nothing is mapped.
            unsafe { grant_table::map(p, &mut op) }?;
            status(op[0].status, GrantStatus::BAD_GNTREF)
        },
        Done,
    ),
    both(
        "GNTTABOP_map_grant_ref",
        "no domain",
        |p| {
            let mut op = [GnttabMapGrantRef {
                flags: MapFlags::HOST_MAP.bits(),
                dom: NO_DOMAIN,
                ..Default::default()
            }];
            // SAFETY: as above.
            unsafe { grant_table::map(p, &mut op) }?;
            status(op[0].status, GrantStatus::BAD_DOMAIN)
        },
        Done,
    ),
    both(
        "GNTTABOP_map_grant_ref",
        "null",
        |p| raw3(p, HypercallNr::GRANT_TABLE_OP, 0, 0, 1),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "GNTTABOP_unmap_grant_ref",
        "no mapping",
        |p| {
            let mut op = [GnttabUnmapGrantRef {
                handle: 4000,
                ..Default::default()
            }];
            // SAFETY: nothing is mapped: nothing is unmapped.
            unsafe { grant_table::unmap(p, &mut op) }?;
            status(op[0].status, GrantStatus::BAD_HANDLE)
        },
        Done,
    ),
    both(
        "GNTTABOP_copy",
        "between one's own pages",
        |p| {
            let (from, from_gfn) = fresh_page(p)?;
            let (to, to_gfn) = fresh_page(p)?;
            let side = |gfn: Gfn, offset| grant_table::GnttabCopyPtr {
                u: gfn.0,
                domid: DomId::SELF,
                offset,
                ..Default::default()
            };
            let mut op = [GnttabCopy {
                source: side(from_gfn, 0),
                dest: side(to_gfn, 8),
                len: 8,
                ..Default::default()
            }];
            // SAFETY: a whole page of ours.
            unsafe { from.cast::<u64>().write_volatile(0x1234_5678) };
            // SAFETY: the pages are ours, and reached by pointers only.
            unsafe { grant_table::copy(p, &mut op) }?;
            // SAFETY: within a page of ours.
            let place = unsafe { to.cast::<u64>().add(1) };
            // SAFETY: as above.
            let copied = unsafe { place.read_volatile() };
            // SAFETY: allocated above, and not used any more.
            unsafe { p.free(from, 1) };
            // SAFETY: as above.
            unsafe { p.free(to, 1) };
            op[0].status.check().map_err(|_| Errno::EIO)?;
            check(copied == 0x1234_5678)
        },
        Done,
    ),
    both(
        "GNTTABOP_copy",
        "out of the page",
        |p| {
            let mut op = [GnttabCopy {
                len: 8,
                flags: CopyFlags::SOURCE_GREF.bits(),
                ..Default::default()
            }];
            op[0].source.domid = DomId(0);
            op[0].dest.domid = DomId::SELF;
            op[0].dest.offset = 4092;
            // SAFETY: nothing can be copied so.
            unsafe { grant_table::copy(p, &mut op) }?;
            check(op[0].status.check().is_err())
        },
        Done,
    ),
    both(
        "GNTTABOP_swap_grant_ref",
        "out of range",
        |p| {
            let mut op = [GnttabSwapGrantRef {
                ref_a: GrantRef(1 << 20),
                ref_b: GrantRef(1 << 21),
                ..Default::default()
            }];
            // SAFETY: there are no such grants.
            unsafe { grant_table::swap(p, &mut op) }?;
            status(op[0].status, GrantStatus::BAD_GNTREF)
        },
        Done,
    ),
    both(
        "GNTTABOP_dump_table",
        "",
        |p| grant_table::dump_table(p, DomId::SELF),
        Fails(&[Errno::ENOSYS]),
    ),
    split(
        "GNTTABOP_transfer",
        "none",
        |p| {
            // SAFETY: of no frame.
            unsafe { grant_table::transfer(p, &mut []) }
        },
        Done,
        NOT_HVM,
    ),
    split(
        "GNTTABOP_unmap_and_replace",
        "none",
        |p| {
            // SAFETY: of no mapping.
            unsafe { grant_table::unmap_and_replace(p, &mut []) }
        },
        Done,
        NOT_HVM,
    ),
    split(
        "GNTTABOP_get_status_frames",
        "one",
        |p| grant_table::get_status_frames(p, &mut [0]),
        // Tables of version 1 have none.
        Chosen(|guest| match guest.grants().map(GrantTable::version) {
            Ok(Version::Two) => Done,
            _ => Fails(&[Errno::EINVAL]),
        }),
        NOT_HVM,
    ),
    split(
        "GNTTABOP_cache_flush",
        "none",
        |p| {
            // SAFETY: of no memory.
            unsafe { grant_table::cache_flush(p, &mut []) }
        },
        Done,
        NOT_HVM,
    ),
    both(
        "GNTTABOP_*",
        "unknown",
        |p| raw(p, HypercallNr::GRANT_TABLE_OP, 99, 0),
        Fails(&[Errno::ENOSYS]),
    ),
];

fn status(status: GrantStatus, expected: GrantStatus) -> Answer {
    check(status == expected)
}
