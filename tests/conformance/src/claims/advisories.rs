//! What Xen's security advisories were about: each is asked once, and must be
//! refused, or do no more than it should.

use alloc::vec::Vec;

use grant_tables::{Page, PeerWrites};
use hypercall_abi::{
    DomId, Errno, GrantRef, HypercallNr, PAGE_SIZE, Port, event_channel,
    grant_table::MapFlags,
    memory::{self, MemoryExchange, MemoryReservation},
    platform::{Hypercall, Pages},
    version,
    xen::{
        mmu::{self, Flush, MmuextCmd, MmuextOp},
        multicall::{MulticallEntry, multicall},
        traps::HYPERVISOR_VIRT_START,
    },
};
use pv_guest::{Current, Guest};

use crate::{
    claim::{Group, Verdict, claims, ensure, on_pv, on_xen, refused, same},
    lent::{Lent, map, said, unmap},
};

pub(super) const GROUP: Group = Group {
    name: "advisories",
    claims: claims! {
        on_xen(texts_have_nothing_behind_their_end): "XSA-122",
        on_pv(superpages_are_not_marked): "XSA-167",
        on_pv(an_exchange_writes_to_the_guest_only): "XSA-212",
        on_xen(a_list_goes_on_behind_an_error): "XSA-213",
        on_pv(a_grant_is_used_until_its_last_map_ends): "XSA-224",
        on_pv(a_grant_is_not_mapped_into_what_is_no_entry): "XSA-227",
        on_xen(memory_of_no_node_is_not_given): "XSA-231",
        on_pv(an_unmap_names_the_address_of_its_map): "XSA-234",
        on_pv(a_flush_shows_the_new_page): "XSA-286",
        on_xen(a_bad_grant_is_no_obstacle_to_a_good_one): "XSA-316",
        on_xen(ports_run_out_and_come_back): "XSA-317",
    },
};

/// What Xen had on its stack is not told.
fn texts_have_nothing_behind_their_end(guest: &Guest) -> Verdict {
    const FILLED: u8 = 0xa5;
    for (op, len) in [
        (version::XENVER_EXTRAVERSION, 16),
        (version::XENVER_CAPABILITIES, 1024),
        (version::XENVER_CHANGESET, 64),
        (version::XENVER_COMPILE_INFO, 64 + 16 + 32 + 32),
    ] {
        let mut text = Vec::new();
        text.resize(len, FILLED);
        let address = text.as_mut_ptr().expose_provenance();
        // SAFETY: there is room for what Xen writes.
        let answer = unsafe {
            guest
                .platform()
                .call2(HypercallNr::XEN_VERSION, op, address)
        };
        Errno::check(answer)?;
        let parts: &[usize] = if len == 144 {
            &[64, 16, 32, 32]
        } else {
            &[len]
        };
        let mut rest = text.as_slice();
        for part in parts {
            let (text, others) = rest.split_at_checked(*part).ok_or("it is short")?;
            rest = others;
            let end = text.iter().position(|byte| *byte == 0);
            let behind = text.get(end.ok_or("it has no end")?..).unwrap_or(&[]);
            ensure(
                behind.iter().all(|byte| [0, FILLED].contains(byte)),
                "there is something behind the end",
            )?;
        }
    }
    Ok(())
}

fn ops(platform: &Current, op: MmuextOp) -> Result<(), Errno> {
    let mut done = 0;
    // SAFETY: refused, or no more than a flush.
    unsafe { mmu::mmuext_op(platform, &[op], &mut done) }
}

fn superpages_are_not_marked(guest: &Guest) -> Verdict {
    for cmd in [19, 20] {
        let op = MmuextOp {
            cmd: MmuextCmd(cmd),
            ..MmuextOp::default()
        };
        match ops(guest.platform(), op) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {}
            _ => return Err("another answer than that there is no such thing".into()),
        }
    }
    Ok(())
}

fn an_exchange_writes_to_the_guest_only(guest: &Guest) -> Verdict {
    let mut given = [u64::MAX; 1];
    let own = given.as_mut_ptr().expose_provenance() as u64;
    let list = |extent_start| MemoryReservation {
        extent_start,
        nr_extents: 1,
        domid: DomId::SELF,
        ..MemoryReservation::default()
    };
    for (from, to) in [(own, HYPERVISOR_VIRT_START), (HYPERVISOR_VIRT_START, own)] {
        let mut exchange = MemoryExchange {
            r#in: list(from),
            out: list(to),
            ..MemoryExchange::default()
        };
        // SAFETY: refused.
        let answer = unsafe { memory::exchange(guest.platform(), &mut exchange) };
        match answer {
            Err(Errno::EFAULT | Errno::EINVAL) => {}
            _ => return Err("it was not refused".into()),
        }
    }
    Ok(())
}

fn a_list_goes_on_behind_an_error(guest: &Guest) -> Verdict {
    let version = || MulticallEntry::new(HypercallNr::XEN_VERSION, &[0]);
    let mut calls = [
        version(),
        MulticallEntry::new(HypercallNr(63), &[]),
        MulticallEntry::new(HypercallNr::SCHED_OP, &[99, 0]),
        version(),
    ];
    // SAFETY: none of them names memory.
    unsafe { multicall(guest.platform(), &mut calls) }?;
    let told = calls.map(|call| call.check());
    let [first, none, unknown, last] = told;
    refused(none, Errno::ENOSYS)?;
    refused(unknown, Errno::ENOSYS)?;
    ensure(first.is_ok() && first == last, "the last was not made")
}

fn a_grant_is_used_until_its_last_map_ends(guest: &Guest) -> Verdict {
    let lent = Lent::<PeerWrites>::new(guest, b"")?;
    let (read, write) = (MapFlags::HOST_MAP | MapFlags::READONLY, MapFlags::HOST_MAP);
    let first = lent
        .map(guest, lent.address(guest, 0), read)
        .map_err(said)?;
    let second = lent
        .map(guest, lent.address(guest, 1), write)
        .map_err(said)?;
    unmap(guest, lent.address(guest, 0), first).map_err(said)?;
    let used = lent.granted.is_used();
    let again = unmap(guest, lent.address(guest, 0), first);
    unmap(guest, lent.address(guest, 1), second).map_err(said)?;
    let free = !lent.granted.is_used();
    lent.end(guest)?;
    ensure(used, "it is free although it is mapped")?;
    ensure(again.is_err(), "a map ended twice")?;
    ensure(free, "it is used although it is not mapped")
}

fn a_grant_is_not_mapped_into_what_is_no_entry(guest: &Guest) -> Verdict {
    let lent = Lent::<PeerWrites>::new(guest, b"")?;
    let flags = MapFlags::HOST_MAP | MapFlags::CONTAINS_PTE;
    let mut bad = true;
    // No frame, one that is no table, and one between two entries.
    let page = guest.platform().gfn_of(lent.window).map_or(7, |gfn| gfn.0);
    for entry in [
        1 << 50,
        page * PAGE_SIZE as u64,
        page * PAGE_SIZE as u64 + 3,
    ] {
        bad &= lent.map(guest, entry, flags).is_err();
    }
    lent.end(guest)?;
    ensure(bad, "it was mapped")
}

/// Memory flags: a node in bits 8 to 15, one more than its number; and that it
/// must be that one.
fn memory_of_no_node_is_not_given(guest: &Guest) -> Verdict {
    const NODE_200: u32 = 201 << 8;
    const EXACT: u32 = 1 << 17;
    let before = memory::current_reservation(guest.platform())?;
    let mut frames = [0];
    let given = memory::increase_reservation(guest.platform(), &mut frames, 0, NODE_200 | EXACT);
    match given {
        Ok(0) | Err(_) => {}
        Ok(_) => return Err("it was given".into()),
    }
    same(memory::current_reservation(guest.platform())?, before)
}

fn an_unmap_names_the_address_of_its_map(guest: &Guest) -> Verdict {
    let lent = Lent::<PeerWrites>::new(guest, b"")?;
    let handle = lent
        .map(guest, lent.address(guest, 0), MapFlags::HOST_MAP)
        .map_err(said)?;
    let elsewhere = unmap(guest, lent.address(guest, 1), handle);
    let used = lent.granted.is_used();
    unmap(guest, lent.address(guest, 0), handle).map_err(said)?;
    lent.end(guest)?;
    ensure(elsewhere.is_err() && used, "another address did")
}

/// Also where the entry was changed without one.
fn a_flush_shows_the_new_page(guest: &Guest) -> Verdict {
    const READ_ONLY: u64 = 1 | 1 << 2 | 1 << 5;
    const READ_WRITE: u64 = READ_ONLY | 1 << 1;
    let platform = guest.platform();
    let mut pages = [None; 2];
    for (number, slot) in (1_u64..).zip(&mut pages) {
        let page = platform.alloc(1).ok_or("no page")?.cast::<u64>();
        // SAFETY: a page of ours.
        unsafe { page.write_volatile(number) };
        *slot = platform
            .gfn_of(page.cast())
            .map(|gfn| (page, gfn.0 * PAGE_SIZE as u64));
    }
    let [Some((first, own)), Some((second, other))] = pages else {
        return Err("no frame".into());
    };
    let va = first.addr().get();
    // SAFETY: no reference leads to either page.
    unsafe { mmu::update_va_mapping(platform, va, other | READ_ONLY, Flush::None) }?;
    ops(platform, MmuextOp::invlpg_local(va as u64))?;
    // SAFETY: the other page is there now.
    let seen = unsafe { first.read_volatile() };
    // SAFETY: as it was.
    unsafe { mmu::update_va_mapping(platform, va, own | READ_WRITE, Flush::All) }?;
    // SAFETY: as above.
    let seen_again = unsafe { first.read_volatile() };
    for page in [first, second] {
        // SAFETY: as they were allocated.
        unsafe { platform.free(page.cast(), 1) };
    }
    same((seen, seen_again), (2, 1))
}

fn a_bad_grant_is_no_obstacle_to_a_good_one(guest: &Guest) -> Verdict {
    let window = guest.platform().reserve_window(1).ok_or("no window")?;
    let address = guest.platform().window_address(window);
    let domid = guest.domid()?;
    for gref in [GrantRef(u32::MAX), GrantRef(1 << 20), GrantRef(9)] {
        for dom in [domid, DomId(0), DomId(0x7000)] {
            let mapped = map(guest, dom, gref, address, MapFlags::HOST_MAP);
            ensure(mapped.is_err(), "it was mapped")?;
        }
    }
    // SAFETY: nothing was mapped there.
    unsafe { guest.platform().release_window(window, 1) };
    let table = guest.grants()?;
    let page = Page::new(table).map_err(|_| "no page")?;
    let lent = table
        .share::<PeerWrites>(domid, page)
        .map_err(|_| "it cannot be lent")?;
    ensure(lent.end().is_ok(), "it is in use still")
}

fn ports_run_out_and_come_back(guest: &Guest) -> Verdict {
    // More than `xl` gives.
    const MOST: usize = 5000;
    let platform = guest.platform();
    let mut ports: Vec<Port> = Vec::new();
    let mut refused_with = None;
    while ports.len() < MOST && refused_with.is_none() {
        match event_channel::alloc_unbound(platform, DomId(0)) {
            Ok(port) => ports.push(port),
            Err(errno) => refused_with = Some(errno),
        }
    }
    let most = ports.len();
    for port in ports {
        event_channel::close(platform, port)?;
    }
    let again = event_channel::alloc_unbound(platform, DomId(0))?;
    event_channel::close(platform, again)?;
    ensure(most > 500, "there were few")?;
    same(refused_with, Some(Errno::ENOSPC))
}
