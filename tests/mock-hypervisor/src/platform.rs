//! A domain is the platform of the guest in it.

use std::ptr::NonNull;

use hypercall_abi::{
    Gfn, HypercallNr, Port,
    platform::{Clock, Hypercall, Pages, Park},
    sched,
};

use crate::{Domain, Time, memory::ThisProcess};

// SAFETY: the mock follows Xen's interface for the calls that it knows, and
// touches only the memory that they name.
unsafe impl Hypercall for Domain {
    unsafe fn call5(
        &self,
        nr: HypercallNr,
        a1: usize,
        a2: usize,
        a3: usize,
        a4: usize,
        a5: usize,
    ) -> isize {
        self.dispatch(&ThisProcess, nr, [a1, a2, a3, a4, a5])
    }
}

// SAFETY: pages come from the domain's own memory, each to one owner, zeroed.
unsafe impl Pages for Domain {
    fn alloc(&self, count: usize) -> Option<NonNull<u8>> {
        self.lock().memory.alloc(count)
    }

    unsafe fn free(&self, first: NonNull<u8>, count: usize) {
        self.lock().memory.free(first, count);
    }

    fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        self.lock().memory.gfn_of(page)
    }

    fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        self.lock().memory.page_of(gfn)
    }
}

impl Park for Domain {
    fn park(&self, ports: &[Port], deadline_ns: Option<u64>) {
        let _bad_port: Result<(), hypercall_abi::Errno> = sched::poll(self, ports, deadline_ns);
    }
}

impl Clock for Domain {
    fn now_ns(&self) -> u64 {
        match self.time {
            Time::Virtual => self.lock().virtual_ns,
            Time::Real => self.started.elapsed().as_nanos() as u64,
        }
    }

    fn wall_clock_ns(&self) -> Option<u64> {
        Some(self.started_wall_ns + self.now_ns())
    }
}
