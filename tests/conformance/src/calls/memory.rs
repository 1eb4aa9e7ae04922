//! Calls of `memory_op`.

use hypercall_abi::{
    DomId, Errno, Gfn, HypercallNr, Mfn,
    hvm::{self, HvmParam},
    memory::{self, MapSpace, MemoryExchange, MemoryMapEntry, VnumaTopologyInfo},
    platform::Pages,
};

use super::{Answer, Done, Fails, NOT_HVM, P, Row, both, check, done, fresh_page, raw, split};

pub(super) const ROWS: &[Row] = &[
    both(
        "XENMEM_current_reservation",
        "",
        |p| check(memory::current_reservation(p)? > 100),
        Done,
    ),
    both(
        "XENMEM_current_reservation",
        "another's",
        |p| {
            let mut whose = DomId(0);
            let address = (&raw mut whose).expose_provenance();
            raw(
                p,
                HypercallNr::MEMORY_OP,
                memory::XENMEM_CURRENT_RESERVATION,
                address,
            )
        },
        Fails(&[Errno::EPERM]),
    ),
    both(
        "XENMEM_maximum_reservation",
        "",
        |p| check(memory::maximum_reservation(p)? >= memory::current_reservation(p)?),
        Done,
    ),
    both(
        "XENMEM_maximum_gpfn",
        "",
        |p| done(memory::maximum_gpfn(p)),
        Done,
    ),
    both(
        "XENMEM_maximum_ram_page",
        "",
        |p| check(memory::maximum_ram_page(p)? > 100),
        Done,
    ),
    both(
        "XENMEM_current_reservation",
        "null",
        |p| raw(p, HypercallNr::MEMORY_OP, 3, 0),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "XENMEM_populate_physmap",
        "a frame given back",
        populate,
        Done,
    ),
    both(
        "XENMEM_populate_physmap",
        "none",
        |p| {
            // SAFETY: of no frame.
            check(unsafe { memory::populate_physmap(p, &mut [], 0, 0) }? == 0)
        },
        Done,
    ),
    both(
        "XENMEM_increase_reservation",
        "none",
        |p| check(memory::increase_reservation(p, &mut [], 0, 0)? == 0),
        Done,
    ),
    both(
        "XENMEM_decrease_reservation",
        "no such frame",
        |p| {
            // SAFETY: no such frame: nothing comes of it.
            check(unsafe { memory::decrease_reservation(p, &mut [1 << 40], 0) }? == 0)
        },
        Done,
    ),
    split(
        "XENMEM_exchange",
        "nothing",
        |p| {
            // SAFETY: of nothing.
            unsafe { memory::exchange(p, &mut MemoryExchange::default()) }
        },
        Done,
        Done,
    ),
    both(
        "XENMEM_machphys_mfn_list",
        "one",
        |p| check(memory::machphys_mfn_list(p, &mut [Mfn(0)])? == 1),
        Done,
    ),
    both(
        "XENMEM_machphys_compat_mfn_list",
        "one",
        |p| done(memory::machphys_compat_mfn_list(p, &mut [Mfn(0)])),
        Fails(&[Errno::EOPNOTSUPP]),
    ),
    split(
        "XENMEM_machphys_mapping",
        "",
        |p| check(memory::machphys_mapping(p)?.max_mfn > 100),
        Done,
        NOT_HVM,
    ),
    split(
        "XENMEM_add_to_physmap",
        "no such frame",
        |p| {
            // SAFETY: no such place: nothing comes of it.
            unsafe { memory::add_to_physmap(p, MapSpace::GRANT_TABLE, 1 << 30, Gfn(1 << 40)) }
        },
        Fails(&[Errno::EACCES]),
        Fails(&[Errno::EINVAL]),
    ),
    split(
        "XENMEM_add_to_physmap",
        "no such space",
        |p| {
            // SAFETY: as above.
            unsafe { memory::add_to_physmap(p, MapSpace(99), 0, Gfn(1 << 40)) }
        },
        Fails(&[Errno::EACCES]),
        Fails(&[Errno::EINVAL]),
    ),
    split(
        "XENMEM_add_to_physmap_batch",
        "no such frame",
        |p| {
            let mut errors = [7, 7];
            // SAFETY: as above.
            unsafe {
                memory::add_to_physmap_batch(
                    p,
                    MapSpace::GRANT_TABLE,
                    &[1 << 30, 1 << 30],
                    &[Gfn(1 << 40), Gfn(1 << 40)],
                    &mut errors,
                )
            }?;
            // Each has its own.
            check(errors[0] == errors[1])?;
            Errno::check_status(errors[0])
        },
        Fails(&[Errno::EACCES]),
        Fails(&[Errno::EINVAL]),
    ),
    split(
        "XENMEM_remove_from_physmap",
        "nothing there",
        |p| {
            // SAFETY: as above.
            unsafe { memory::remove_from_physmap(p, Gfn(1 << 40)) }
        },
        Fails(&[Errno::EACCES]),
        Fails(&[Errno::ENOENT]),
    ),
    both(
        "XENMEM_memory_map",
        "",
        |p| check(memory::memory_map(p, &mut [MemoryMapEntry::default(); 32])? > 0),
        Done,
    ),
    both(
        "XENMEM_reserved_device_memory_map",
        "all",
        |p| reserved(p, 1),
        Done,
    ),
    both(
        "XENMEM_reserved_device_memory_map",
        "no such flag",
        |p| reserved(p, 2),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "XENMEM_get_vnumainfo",
        "no nodes",
        |p| {
            // SAFETY: there is no room for anything.
            unsafe {
                memory::get_vnumainfo(
                    p,
                    &mut VnumaTopologyInfo {
                        domid: DomId::SELF,
                        ..Default::default()
                    },
                )
            }
        },
        Fails(&[Errno::EOPNOTSUPP]),
    ),
    both(
        "XENMEM_*",
        "unknown",
        |p| raw(p, HypercallNr::MEMORY_OP, 63, 0),
        Fails(&[Errno::ENOSYS]),
    ),
];

/// Gives a frame back and gets one in its place (PV guests: without mapping
/// it). The page is lost to the allocator.
fn populate(p: &P) -> Answer {
    let (_page, gfn) = fresh_page(p)?;
    if p.page_of(gfn).is_none() {
        return Err(Errno::EIO);
    }
    let before = memory::current_reservation(p)?;
    if matches!(
        hvm::get_param(p, HvmParam::STORE_EVTCHN),
        Err(Errno::EINVAL | Errno::ENOSYS)
    ) {
        // A PV guest maps the frame: Xen would not take it. Get one more, if it
        // may have one; else the answer is none.
        let mut extents = [0];
        let got = memory::increase_reservation(p, &mut extents, 0, 0)?;
        // SAFETY: the frame is new: nothing leads to it.
        let given = unsafe { memory::decrease_reservation(p, &mut extents[..got], 0) }?;
        return check(given == got && memory::current_reservation(p)? == before);
    }
    // SAFETY: a page of ours that nothing uses.
    let given = unsafe { memory::decrease_reservation(p, &mut [gfn.0], 0) }?;
    let between = memory::current_reservation(p)?;
    // SAFETY: nothing is there now.
    let got = unsafe { memory::populate_physmap(p, &mut [gfn.0], 0, 0) }?;
    check(given == 1 && got == 1 && between + 1 == before)
}

/// Asks for the ranges that devices keep for themselves: how many there are, of a machine that
/// gives none away. The headers show this call to toolstacks only; Xen answers any guest.
fn reserved(p: &P, flags: u32) -> Answer {
    const XENMEM_RESERVED_DEVICE_MEMORY_MAP: usize = 27;
    // Flags and the number of entries, the address of a list, a device.
    let mut arg = [u64::from(flags), 0, 0];
    let address = arg.as_mut_ptr().expose_provenance();
    raw(
        p,
        HypercallNr::MEMORY_OP,
        XENMEM_RESERVED_DEVICE_MEMORY_MAP,
        address,
    )?;
    check(arg[0] >> 32 == 0)
}
