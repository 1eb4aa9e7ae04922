//! A guest that goes on elsewhere under another number.

use std::{
    cell::Cell,
    ptr::{NonNull, with_exposed_provenance_mut},
};

use grant_tables::{Borrowed, Error, GrantTable, ReadWrite, Version};
use hypercall_abi::{
    DomId, Errno, Gfn, GrantRef, HypercallNr,
    event_channel::{EVTCHNOP_STATUS, EvtchnStatus},
    platform::{GrantFrame, Hypercall, OwnGrants, Pages, Singletons},
};
use mock_hypervisor::{Config, Domain};

/// A domain where mapping its own grants moves pages, and whose number Xen says to be this.
struct Restored {
    domain: Domain,
    number: Cell<u16>,
}

// SAFETY: calls go on to the domain's; what is changed is a number in an answer.
unsafe impl Hypercall for Restored {
    unsafe fn call5(
        &self,
        nr: HypercallNr,
        a1: usize,
        a2: usize,
        a3: usize,
        a4: usize,
        a5: usize,
    ) -> isize {
        // SAFETY: this function's contract.
        let answer = unsafe { self.domain.call5(nr, a1, a2, a3, a4, a5) };
        if nr == HypercallNr::EVENT_CHANNEL_OP && a1 == EVTCHNOP_STATUS {
            let place = a2 + std::mem::offset_of!(EvtchnStatus, u);
            let place = with_exposed_provenance_mut::<u16>(place);
            // SAFETY: the caller's structure, which the call above wrote to.
            unsafe { place.write(self.number.get()) };
        }
        answer
    }
}

// SAFETY: as the domain does it.
unsafe impl Pages for Restored {
    fn alloc(&self, count: usize) -> Option<NonNull<u8>> {
        self.domain.alloc(count)
    }
    unsafe fn free(&self, first: NonNull<u8>, count: usize) {
        // SAFETY: this function's contract.
        unsafe { self.domain.free(first, count) }
    }
    fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        self.domain.gfn_of(page)
    }
    fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        self.domain.page_of(gfn)
    }
    fn grant_frame(&self, frame: GrantFrame, index: u32) -> Result<NonNull<u8>, Errno> {
        self.domain.grant_frame(frame, index)
    }
    fn reserve_window(&self, count: usize) -> Option<NonNull<u8>> {
        self.domain.reserve_window(count)
    }
    unsafe fn release_window(&self, first: NonNull<u8>, count: usize) {
        // SAFETY: this function's contract.
        unsafe { self.domain.release_window(first, count) }
    }
    fn singletons(&self) -> &Singletons {
        self.domain.singletons()
    }
    fn own_grants(&self) -> OwnGrants {
        OwnGrants::Move
    }
}

#[test]
fn own_grants_are_refused_under_the_new_number() {
    let domain = Restored {
        domain: Domain::new(Config::default()).unwrap(),
        number: Cell::new(1),
    };
    let table = GrantTable::new(&domain, Version::One).unwrap();
    let refused = |domid| {
        let mapped = Borrowed::<_, ReadWrite>::map(&table, domid, &[GrantRef(8)]);
        mapped.err() == Some(Error::OwnGrant)
    };
    let numbers = [DomId(1), DomId(7), DomId::SELF];
    assert_eq!(numbers.map(refused), [true, false, true]);
    domain.number.set(7);
    table.resume().unwrap();
    assert_eq!(numbers.map(refused), [false, true, true]);
}
