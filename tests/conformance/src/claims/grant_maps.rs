//! Two maps in one, for the processor and for a device; the page that takes the place
//! of a granted one; and the words of the status, which are not taken from under a
//! guest.

use grant_tables::PeerWrites;
use hypercall_abi::{
    Errno, PAGE_SIZE,
    grant_table::{
        self, GnttabMapGrantRef, GnttabUnmapAndReplace, GnttabUnmapGrantRef, GrantStatus, MapFlags,
    },
    platform::Pages,
    xen::mmu::{self, Flush},
};
use pv_guest::{Current, Guest};
use zerocopy::FromZeros;

use crate::{
    claim::{Group, Stop, Verdict, claims, ensure, on_processor, on_pv, same},
    lent::{Lent, said},
};

pub(super) const GROUP: Group = Group {
    name: "grant_maps",
    claims: claims! {
        on_pv(a_map_for_a_device_ends_by_itself): "grant_table.h: gnttab_unmap_grant_ref, dev_bus_addr",
        on_pv(a_map_for_a_device_alone_is_at_no_address): "grant_table.h: GNTMAP_device_map",
        on_pv(an_unmap_names_what_it_unmaps): "grant_table.h: gnttab_unmap_grant_ref",
        image(another_page_takes_the_place_of_a_grant): "grant_table.h: GNTTABOP_unmap_and_replace",
        image(what_takes_the_place_is_taken_all_the_same): "grant_table.h: GNTTABOP_unmap_and_replace",
        image(status_words_that_are_mapped_stay): "grant_table.h: GNTTABOP_set_version",
    },
};

/// Claims of PV guests that have page tables of their own.
fn image(guest: &Guest, test: fn(&Guest) -> Verdict) -> Verdict {
    on_pv(guest, |_| Ok(()))?;
    on_processor(guest, test)
}

/// Ends what is named of a map.
fn unmap(guest: &Guest, handle: u32, host: u64, device: u64) -> Result<(), GrantStatus> {
    let mut op = [GnttabUnmapGrantRef {
        host_addr: host,
        dev_bus_addr: device,
        handle,
        ..GnttabUnmapGrantRef::new_zeroed()
    }];
    // SAFETY: nothing uses what is mapped there.
    let answer = unsafe { grant_table::unmap(guest.platform(), &mut op) };
    answer.map_err(|_| GrantStatus::GENERAL_ERROR)?;
    op[0].status.check()
}

fn replace(guest: &Guest, handle: u32, host: u64, new: u64) -> Result<(), GrantStatus> {
    let mut op = [GnttabUnmapAndReplace {
        host_addr: host,
        new_addr: new,
        handle,
        ..GnttabUnmapAndReplace::new_zeroed()
    }];
    // SAFETY: nothing uses what is mapped at either address.
    let answer = unsafe { grant_table::unmap_and_replace(guest.platform(), &mut op) };
    answer.map_err(|_| GrantStatus::GENERAL_ERROR)?;
    op[0].status.check()
}

/// The number of a map, and the machine address that a device is told.
fn map(
    guest: &Guest,
    lent: &Lent<PeerWrites>,
    host: u64,
    flags: MapFlags,
) -> Result<(u32, u64), Stop> {
    let mut op = [GnttabMapGrantRef {
        host_addr: host,
        flags: flags.bits(),
        r#ref: lent.granted.gref(),
        dom: lent.domid,
        ..GnttabMapGrantRef::new_zeroed()
    }];
    // SAFETY: at an address that was reserved for it.
    unsafe { grant_table::map(guest.platform(), &mut op) }?;
    op[0].status.check().map_err(said)?;
    Ok((op[0].handle, op[0].dev_bus_addr))
}

fn a_map_for_a_device_ends_by_itself(guest: &Guest) -> Verdict {
    let lent = Lent::<PeerWrites>::new(guest, b"")?;
    let at = lent.address(guest, 0);
    let both = MapFlags::HOST_MAP | MapFlags::DEVICE_MAP;
    let (handle, bus) = map(guest, &lent, at, both)?;
    let other = unmap(guest, handle, 0, bus + PAGE_SIZE as u64);
    let first = unmap(guest, handle, at, 0);
    let used = lent.granted.is_used();
    let second = unmap(guest, handle, 0, bus);
    let third = unmap(guest, handle, 0, bus);
    lent.end(guest)?;
    same(other, Err(GrantStatus::BAD_DEV_ADDR))?;
    same((first, second), (Ok(()), Ok(())))?;
    ensure(used, "the first unmap ended both maps")?;
    same(third, Err(GrantStatus::BAD_HANDLE))
}

fn a_map_for_a_device_alone_is_at_no_address(guest: &Guest) -> Verdict {
    let lent = Lent::<PeerWrites>::new(guest, b"")?;
    // An address at which nothing can be mapped is not looked at.
    let (handle, bus) = map(guest, &lent, 7, MapFlags::DEVICE_MAP)?;
    let used = lent.granted.is_used();
    let of_host = unmap(guest, handle, lent.address(guest, 0), 0);
    let still = lent.granted.is_used();
    let ended = unmap(guest, handle, 0, bus);
    lent.end(guest)?;
    ensure(used && still, "it is not used")?;
    same((of_host, ended), (Ok(()), Ok(())))
}

/// Zero names nothing: the call succeeds, and nothing changes.
fn an_unmap_names_what_it_unmaps(guest: &Guest) -> Verdict {
    let lent = Lent::<PeerWrites>::new(guest, b"")?;
    let at = lent.address(guest, 0);
    let (handle, _) = map(guest, &lent, at, MapFlags::HOST_MAP)?;
    let nothing = unmap(guest, handle, 0, 0);
    let used = lent.granted.is_used();
    let ended = unmap(guest, handle, at, 0);
    lent.end(guest)?;
    same((nothing, ended), (Ok(()), Ok(())))?;
    ensure(used, "it was unmapped without being named")
}

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const NO_EXECUTE: u64 = 1 << 63;

/// A page with a number in it, mapped at an address of the window.
struct Aside<'p> {
    platform: &'p Current,
    page: core::ptr::NonNull<u8>,
    at: usize,
}

impl<'p> Aside<'p> {
    fn new(guest: &'p Guest, at: u64, number: u64) -> Result<Self, Stop> {
        let platform = guest.platform();
        let page = platform.alloc(1).ok_or("no page")?;
        // SAFETY: a page of ours.
        unsafe { page.cast::<u64>().write_volatile(number) };
        let frame = platform.gfn_of(page).ok_or("no frame")?;
        let entry = (frame.0 * PAGE_SIZE as u64) | PRESENT | WRITE | USER | NO_EXECUTE;
        // SAFETY: an address that was reserved.
        unsafe { mmu::update_va_mapping(platform, at as usize, entry, Flush::All) }?;
        Ok(Self {
            platform,
            page,
            at: at as usize,
        })
    }

    /// Takes what is mapped at an address away, and frees the page.
    fn end(self, at: u64) -> Verdict {
        for at in [self.at, at as usize] {
            // SAFETY: nothing uses what is mapped there.
            unsafe { mmu::update_va_mapping(self.platform, at, 0, Flush::All) }?;
        }
        // SAFETY: as it was allocated.
        unsafe { self.platform.free(self.page, 1) };
        Ok(())
    }
}

/// Where the page was that takes the place, there is nothing.
fn another_page_takes_the_place_of_a_grant(guest: &Guest) -> Verdict {
    const NUMBER: u64 = 0x5ec0_0d01;
    let lent = Lent::<PeerWrites>::new(guest, b"")?;
    let (at, from) = (lent.address(guest, 0), lent.address(guest, 1));
    let (handle, _) = map(guest, &lent, at, MapFlags::HOST_MAP)?;
    let aside = Aside::new(guest, from, NUMBER)?;
    let replaced = replace(guest, handle, at, from);
    let seen = match replaced {
        // SAFETY: the page is mapped there now.
        Ok(()) => unsafe { core::ptr::with_exposed_provenance::<u64>(at as usize).read_volatile() },
        Err(_) => 0,
    };
    let used = lent.granted.is_used();
    let again = replace(guest, handle, at, 0);
    aside.end(at)?;
    lent.end(guest)?;
    replaced.map_err(said)?;
    same(seen, NUMBER)?;
    ensure(!used, "the grant is in use still")?;
    same(again, Err(GrantStatus::BAD_HANDLE))
}

/// Where it cannot be put, it is gone.
fn what_takes_the_place_is_taken_all_the_same(guest: &Guest) -> Verdict {
    let lent = Lent::<PeerWrites>::new(guest, b"")?;
    let (at, from) = (lent.address(guest, 0), lent.address(guest, 1));
    let (handle, _) = map(guest, &lent, at, MapFlags::HOST_MAP)?;
    let aside = Aside::new(guest, from, 1)?;
    // The address of its page is not that of the grant.
    let elsewhere = replace(guest, handle, aside.page.addr().get() as u64, from);
    let ended = unmap(guest, handle, at, 0);
    aside.end(from)?;
    lent.end(guest)?;
    ensure(elsewhere.is_err(), "another address was replaced")?;
    same(ended, Ok(()))
}

fn status_words_that_are_mapped_stay(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let before = grant_table::get_version(platform, hypercall_abi::DomId::SELF)?;
    if before == 2 {
        // The table's own: they are mapped.
        // SAFETY: refused.
        let answer = unsafe { grant_table::set_version(platform, 1) };
        return same(answer, Err(Errno::EBUSY));
    }
    // SAFETY: nothing is granted just now: each claim takes back what it lent.
    let version = unsafe { grant_table::set_version(platform, 2) }?;
    let mut frames = [0];
    grant_table::get_status_frames(platform, &mut frames)?;
    let window = platform.reserve_window(1).ok_or("no window")?;
    let at = window.addr().get();
    let entry = (frames[0] * PAGE_SIZE as u64) | PRESENT | USER | NO_EXECUTE;
    // SAFETY: an address that was reserved.
    let mapped = unsafe { mmu::update_va_mapping(platform, at, entry, Flush::All) };
    // SAFETY: as above.
    let busy = unsafe { grant_table::set_version(platform, 1) };
    let meanwhile = grant_table::get_version(platform, hypercall_abi::DomId::SELF);
    // SAFETY: nothing uses what is mapped there.
    unsafe { mmu::update_va_mapping(platform, at, 0, Flush::All) }?;
    // SAFETY: as above.
    unsafe { platform.release_window(window, 1) };
    // SAFETY: as above: it is empty.
    let back = unsafe { grant_table::set_version(platform, 1) };
    mapped?;
    same((version, meanwhile, back), (2, Ok(2), Ok(1)))?;
    same(busy, Err(Errno::EBUSY))
}
