//! A guest has one set of ports, which safe code cannot make a second of.

use std::{marker::PhantomData, ptr::NonNull};

use event_channels::{Channel, Choice, Error, Events, Interface, PortRef, Ports, Throttle, Wait};
use hypercall_abi::{
    DomId, Errno, Gfn, HypercallNr,
    peer::PeerPtr,
    platform::{Hypercall, Pages, Singletons},
    sched::{self, Resumed, ShutdownReason, Suspended},
};
use mock_hypervisor::{Config, Domain};
use static_assertions::{assert_impl_all, assert_not_impl_any};

fn ports(domain: &Domain, choice: Choice) -> Result<Ports<&Domain>, Error> {
    // SAFETY: the page lives as long as the domain.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    Ports::new(domain, shared, choice, Throttle::default())
}

#[test]
fn a_guest_has_its_ports_once() {
    let domain = Domain::new(Config::default()).unwrap();
    let first = ports(&domain, Choice::TwoLevel).unwrap();
    for choice in [Choice::Best, Choice::TwoLevel] {
        assert_eq!(ports(&domain, choice).unwrap_err(), Error::Taken);
    }
    // The first goes on as if nobody had asked.
    let offered = Channel::unbound(&first, DomId::SELF).unwrap();
    let bound = Channel::interdomain(&first, DomId::SELF, offered.port()).unwrap();
    bound.notify().unwrap();
    assert_eq!(offered.wait_blocking(Some(1)), Wait::Event);
    drop((bound, offered));
    drop(first);
    let second = ports(&domain, Choice::Best).unwrap();
    assert_eq!(second.interface(), Interface::Fifo);
    // The hypervisor has its pages now, and takes no others.
    drop(second);
    assert_eq!(ports(&domain, Choice::TwoLevel).unwrap_err(), Error::Taken);
}

#[test]
fn who_wants_to_suspend_says_so() {
    let domain = Domain::new(Config::default()).unwrap();
    let refused = sched::shutdown(&domain, ShutdownReason::SUSPEND);
    assert_eq!(refused, Err(Errno::EINVAL));
    assert!(domain.shutdown().is_none());
}

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

assert_not_impl_any!(Ports<OneThread>: Send, Sync);
assert_not_impl_any!(Channel<'static, OneThread>: Send, Sync);
assert_not_impl_any!(Events<'static, 'static, OneThread>: Send, Sync);

assert_impl_all!(Ports<&'static Domain>: Send, Sync);
assert_impl_all!(Events<'static, 'static, &'static Domain>: Send, Sync);
assert_not_impl_any!(Events<'static, 'static, &'static Domain>: Clone, Copy);
assert_impl_all!(Channel<'static, &'static Domain>: Send, Sync);
assert_impl_all!(PortRef: Send, Sync, Copy);
assert_not_impl_any!(Ports<&'static Domain>: Clone, Copy);
assert_not_impl_any!(Channel<'static, &'static Domain>: Clone, Copy);
// What proves something once.
assert_not_impl_any!(Resumed: Clone, Copy, Default);
assert_not_impl_any!(Suspended: Clone, Copy);
