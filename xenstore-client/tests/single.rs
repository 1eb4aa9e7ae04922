//! What may be sent to another thread, shared with one, or copied: of what owns or borrows
//! a connection.

use std::{marker::PhantomData, ptr::NonNull};

use hypercall_abi::{
    Gfn, HypercallNr, Port,
    platform::{Clock, Hypercall, Pages, Park, Singletons},
};
use mock_hypervisor::Domain;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use xenstore_client::{
    Client, InTurn, Ring, Subscription, Transaction, Tree, Watch, machine::Machine,
};

/// A platform that is not for several threads.
#[derive(Debug)]
struct OneThread(Domain, PhantomData<*mut ()>);

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
        // SAFETY: the caller's promise.
        unsafe { self.0.call5(nr, a1, a2, a3, a4, a5) }
    }
}

// SAFETY: as the domain does.
unsafe impl Pages for OneThread {
    fn alloc(&self, count: usize) -> Option<NonNull<u8>> {
        self.0.alloc(count)
    }
    unsafe fn free(&self, first: NonNull<u8>, count: usize) {
        // SAFETY: the caller's promise.
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

type Shared = Ring<'static, &'static Domain>;
type Local = Ring<'static, OneThread>;

// One connection, that tasks on any thread use, where the platform may be used there.
assert_impl_all!(Shared: Send, Sync);
assert_impl_all!(Client<Shared>: Send, Sync);
assert_impl_all!(Tree<'static, Shared>: Send, Sync);
assert_impl_all!(Transaction<'static, Shared>: Send, Sync);
assert_impl_all!(InTurn<'static, Shared>: Send, Sync);
assert_impl_all!(Watch<'static, Shared>: Send, Sync);
assert_impl_all!(Subscription<'static, Shared>: Send, Sync);
assert_impl_all!(Machine: Send, Sync);

assert_not_impl_any!(Local: Send, Sync);
assert_not_impl_any!(Client<Local>: Send, Sync);
assert_not_impl_any!(Tree<'static, Local>: Send, Sync);
assert_not_impl_any!(Transaction<'static, Local>: Send, Sync);
assert_not_impl_any!(InTurn<'static, Local>: Send, Sync);
assert_not_impl_any!(Watch<'static, Local>: Send, Sync);
assert_not_impl_any!(Subscription<'static, Local>: Send, Sync);

// One of each owns its end of the ring, its place at the server, or its turn.
assert_not_impl_any!(Shared: Clone, Copy);
assert_not_impl_any!(Client<Shared>: Clone, Copy);
assert_not_impl_any!(Machine: Clone, Copy);
assert_not_impl_any!(Transaction<'static, Shared>: Clone, Copy);
assert_not_impl_any!(InTurn<'static, Shared>: Clone, Copy);
assert_not_impl_any!(Watch<'static, Shared>: Clone, Copy);
assert_not_impl_any!(Subscription<'static, Shared>: Clone, Copy);

#[cfg(feature = "std")]
mod hosts {
    use super::*;
    use xenstore_client::Stream;

    assert_impl_all!(Stream: Send, Sync);
    assert_impl_all!(Client<Stream>: Send, Sync);
    assert_not_impl_any!(Stream: Clone, Copy);
}
