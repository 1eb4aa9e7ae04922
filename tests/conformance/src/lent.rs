//! A page that is granted to this very domain, and mapped by hypercalls of its own: the
//! hypervisor is asked also where the library would refuse.
//!
//! A PV guest sees such a page at both addresses. On PVH, Xen *moves* a page that its own
//! domain maps: there is nothing at its old place any more, and the page is given up when the
//! map ends.

use core::ptr::NonNull;

use grant_tables::{Access, Granted, InUse, Page};
use hypercall_abi::{
    DomId, Errno, GrantRef, HypercallNr, PAGE_SIZE,
    grant_table::{
        GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GnttabMapGrantRef, GnttabUnmapGrantRef,
        GrantStatus, MapFlags,
    },
    platform::{Hypercall, Pages},
};
use pv_guest::{Current, Guest, GuestType};
use zerocopy::FromZeros;

use crate::claim::{Stop, Verdict};

/// In how many places it can be mapped.
const WINDOW: usize = 2;

/// A page lent to this very domain, and where it could be mapped.
pub(crate) struct Lent<A: Access> {
    pub(crate) granted: Granted<'static, Current, A>,
    pub(crate) window: NonNull<u8>,
    pub(crate) domid: DomId,
    /// Whether the page is where it was before it was mapped.
    has_moved: core::cell::Cell<bool>,
}

pub(crate) fn said(status: GrantStatus) -> Stop {
    alloc::format!("{status}").into()
}

impl<A: Access> Lent<A> {
    /// A page that begins with `text`.
    pub(crate) fn new(guest: &Guest, text: &[u8]) -> Result<Self, Stop> {
        let table = guest.grants()?;
        let domid = guest.domid()?;
        let mut page = Page::new(table).map_err(|_| "no page")?;
        for (slot, byte) in page.bytes_mut().iter_mut().zip(text) {
            *slot = *byte;
        }
        let granted = table.share(domid, page).map_err(|_| "it cannot be lent")?;
        Self::of(guest, granted, domid)
    }

    /// One that is granted already.
    pub(crate) fn of(
        guest: &Guest,
        granted: Granted<'static, Current, A>,
        domid: DomId,
    ) -> Result<Self, Stop> {
        let window = guest.platform().reserve_window(WINDOW).ok_or("no window")?;
        Ok(Self {
            granted,
            window,
            domid,
            has_moved: core::cell::Cell::new(false),
        })
    }

    /// Maps it into a page of the window; the handle.
    pub(crate) fn map_at(
        &self,
        guest: &Guest,
        page: usize,
        flags: MapFlags,
    ) -> Result<u32, GrantStatus> {
        self.map(guest, self.address(guest, page), flags)
    }

    pub(crate) fn map(
        &self,
        guest: &Guest,
        address: u64,
        flags: MapFlags,
    ) -> Result<u32, GrantStatus> {
        let handle = map(guest, self.domid, self.granted.gref(), address, flags)?;
        self.has_moved
            .set(guest.guest_type() == GuestType::Pvh || self.has_moved.get());
        Ok(handle)
    }

    /// It was mapped by other means, on PVH.
    pub(crate) fn note_move(&self) {
        self.has_moved.set(true);
    }

    pub(crate) fn unmap_at(&self, guest: &Guest, page: usize, handle: u32) -> Verdict {
        unmap(guest, self.address(guest, page), handle).map_err(said)
    }

    /// As the hypervisor is told it.
    pub(crate) fn address(&self, guest: &Guest, page: usize) -> u64 {
        guest
            .platform()
            .window_address(self.place(page * PAGE_SIZE))
    }

    /// A byte of the window.
    pub(crate) fn place(&self, offset: usize) -> NonNull<u8> {
        let within = offset % (WINDOW * PAGE_SIZE);
        // SAFETY: within the addresses of the window, which are this value's.
        unsafe { self.window.add(within) }
    }

    /// What is seen at the start of the window, while it is mapped there.
    pub(crate) fn seen<const N: usize>(&self) -> [u8; N] {
        // SAFETY: mapped, and nobody has a reference into it.
        core::array::from_fn(|index| unsafe { self.place(index).read_volatile() })
    }

    /// Writes by way of the window, while it is mapped there to be written.
    pub(crate) fn write(&self, text: &[u8]) {
        for (index, byte) in text.iter().enumerate() {
            // SAFETY: as above.
            unsafe { self.place(index).write_volatile(*byte) };
        }
    }

    /// Lets go of all, once nothing is mapped.
    pub(crate) fn end(self, guest: &Guest) -> Verdict {
        // SAFETY: nothing is mapped there any more.
        unsafe { guest.platform().release_window(self.window, WINDOW) };
        match self.granted.end() {
            // There is no page any more where it was.
            Ok(page) if self.has_moved.get() => core::mem::forget(page),
            Ok(_page) => {}
            Err(InUse(granted)) => {
                core::mem::forget(granted);
                return Err("it is in use still".into());
            }
        }
        Ok(())
    }

    /// Tries to end it while it is mapped, which must not be possible.
    pub(crate) fn keep(self) -> Result<Self, Stop> {
        let Self {
            granted,
            window,
            domid,
            has_moved,
        } = self;
        match granted.end() {
            Err(InUse(granted)) => Ok(Self {
                granted,
                window,
                domid,
                has_moved,
            }),
            Ok(page) => {
                core::mem::forget(page);
                Err("a page was given back that is mapped".into())
            }
        }
    }
}

pub(crate) fn map(
    guest: &Guest,
    dom: DomId,
    gref: GrantRef,
    address: u64,
    flags: MapFlags,
) -> Result<u32, GrantStatus> {
    let mut op = GnttabMapGrantRef {
        host_addr: address,
        flags: flags.bits(),
        r#ref: gref,
        dom,
        ..GnttabMapGrantRef::new_zeroed()
    };
    let list = (&raw mut op).expose_provenance();
    // SAFETY: at an address that was reserved for it, or refused.
    let answer = unsafe {
        guest
            .platform()
            .call3(HypercallNr::GRANT_TABLE_OP, GNTTABOP_MAP_GRANT_REF, list, 1)
    };
    Errno::check(answer).map_err(|_| GrantStatus::GENERAL_ERROR)?;
    op.status.check().map(|()| op.handle)
}

pub(crate) fn unmap(guest: &Guest, address: u64, handle: u32) -> Result<(), GrantStatus> {
    let mut op = GnttabUnmapGrantRef {
        host_addr: address,
        handle,
        ..GnttabUnmapGrantRef::new_zeroed()
    };
    let list = (&raw mut op).expose_provenance();
    // SAFETY: nobody uses what is mapped there.
    let answer = unsafe {
        guest.platform().call3(
            HypercallNr::GRANT_TABLE_OP,
            GNTTABOP_UNMAP_GRANT_REF,
            list,
            1,
        )
    };
    Errno::check(answer).map_err(|_| GrantStatus::GENERAL_ERROR)?;
    op.status.check()
}

impl Lent<grant_tables::PeerWrites> {
    /// Writes to the page where it was from the start.
    pub(crate) fn write_page(&self, text: &[u8]) {
        let _all = self.granted.peer().copy_from(text);
    }
}
