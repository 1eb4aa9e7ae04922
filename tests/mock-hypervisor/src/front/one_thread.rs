//! A platform for one thread.

use std::{marker::PhantomData, ptr::NonNull};

use hypercall_abi::{
    Gfn, HypercallNr, Port,
    platform::{Clock, Hypercall, Pages, Park, Singletons},
};

use crate::engine::domain::Domain;

/// A domain as a platform that is not for several threads: tests assert by it that what has
/// such a platform stays on its thread.
#[derive(Debug)]
pub struct OneThread(Domain, PhantomData<*mut ()>);

// SAFETY: as the domain does.
unsafe impl Hypercall for OneThread {
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
        unsafe { self.0.call5(nr, a1, a2, a3, a4, a5) }
    }
}

// SAFETY: as the domain does.
unsafe impl Pages for OneThread {
    fn alloc(&self, count: usize) -> Option<NonNull<u8>> {
        self.0.alloc(count)
    }
    unsafe fn free(&self, first: NonNull<u8>, count: usize) {
        // SAFETY: this function's contract.
        unsafe { self.0.free(first, count) }
    }
    fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        self.0.gfn_of(page)
    }
    fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        self.0.page_of(gfn)
    }
    fn singletons(&self) -> &Singletons {
        self.0.singletons()
    }
}

impl Park for OneThread {
    fn park(&self, ports: &[Port], deadline_ns: Option<u64>) {
        self.0.park(ports, deadline_ns);
    }
    fn idle(&self, deadline_ns: Option<u64>, has_work: &dyn Fn() -> bool) {
        self.0.idle(deadline_ns, has_work);
    }
}

impl Clock for OneThread {
    fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }
    fn wall_clock_ns(&self) -> Option<u64> {
        self.0.wall_clock_ns()
    }
}
