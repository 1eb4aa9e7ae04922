//! A guest has one set of ports, which safe code cannot make a second of.

use event_channels::{Channel, Choice, Error, Events, Interface, PortRef, Ports, Throttle, Wait};
use hypercall_abi::{
    DomId, Errno,
    peer::PeerPtr,
    sched::{self, Resumed, ShutdownReason, Suspended},
};
use mock_hypervisor::{Config, Domain, OneThread};
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
