//! What a hypervisor does not offer, it says by one error or another: the ports do without.

use std::{
    future::Future as _,
    pin::pin,
    task::{Context, Waker},
};

use event_channels::{Channel, Choice, Error, Interface, Ports, Throttle, Wait};
use hypercall_abi::{
    DomId, Errno, HypercallNr, VcpuId,
    event_channel::{EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL, EVTCHNOP_SET_PRIORITY},
    peer::PeerPtr,
    platform::{Pages, Singleton},
    sched::SCHEDOP_POLL,
};
use mock_hypervisor::{Config, Domain, Time, Xen};

/// How they say so.
const ABSENT: [Errno; 4] = [
    Errno::ENOSYS,
    Errno::EOPNOTSUPP,
    Errno::EINVAL,
    Errno::EPERM,
];

const VCPU: VcpuId = VcpuId(0);

fn domain() -> Domain {
    Xen::new(Time::Virtual).domain(Config::default()).unwrap()
}

fn ports(domain: &Domain, choice: Choice) -> Result<Ports<&Domain>, Error> {
    // SAFETY: the page lives as long as the domain.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    Ports::new(domain, shared, choice, Throttle::default())
}

/// An event goes from one end of a channel to the other.
fn try_them(ports: &Ports<&Domain>) {
    let offered = Channel::unbound(ports, DomId::SELF).unwrap();
    let bound = Channel::interdomain(ports, DomId::SELF, offered.port()).unwrap();
    bound.notify().unwrap();
    assert_eq!(offered.wait_blocking(Some(1)), Wait::Event);
}

#[test]
fn without_the_fifo_interface_there_is_the_other() {
    for errno in ABSENT {
        let domain = domain();
        domain.refuse(
            HypercallNr::EVENT_CHANNEL_OP,
            Some(EVTCHNOP_INIT_CONTROL),
            errno,
        );
        let before = domain.pages_in_use();
        let ports = ports(&domain, Choice::Best).unwrap_or_else(|error| panic!("{errno}: {error}"));
        assert_eq!(ports.interface(), Interface::TwoLevel, "{errno}");
        try_them(&ports);
        drop(ports);
        assert_eq!(domain.pages_in_use(), before, "{errno}: pages are lost");
    }
}

#[test]
fn what_is_no_absence_is_told_and_can_be_tried_again() {
    let domain = domain();
    let before = domain.pages_in_use();
    let op = Some(EVTCHNOP_INIT_CONTROL);
    for (errno, error) in [
        (Errno::ENOMEM, Error::NoMemory),
        (Errno::EBUSY, Error::Other(Errno::EBUSY)),
    ] {
        domain.refuse(HypercallNr::EVENT_CHANNEL_OP, op, errno);
        assert_eq!(ports(&domain, Choice::Best).unwrap_err(), error);
        assert_eq!(domain.pages_in_use(), before);
    }
    let second = ports(&domain, Choice::TwoLevel).unwrap();
    try_them(&second);
}

/// Xen has a page by then, and the guest no way back.
#[test]
fn half_of_the_fifo_interface_is_none() {
    let domain = domain();
    let op = Some(EVTCHNOP_EXPAND_ARRAY);
    domain.refuse(HypercallNr::EVENT_CHANNEL_OP, op, Errno::ENOSYS);
    let refused = ports(&domain, Choice::Best).unwrap_err();
    assert_eq!(refused, Error::Other(Errno::ENOSYS));
    assert!(domain.singletons().is_taken(Singleton::EventChannels));
}

#[test]
fn without_priorities_there_are_none() {
    for errno in ABSENT {
        let domain = domain();
        let op = Some(EVTCHNOP_SET_PRIORITY);
        domain.refuse(HypercallNr::EVENT_CHANNEL_OP, op, errno);
        let ports = ports(&domain, Choice::Best).unwrap();
        let channel = Channel::ipi(&ports, VCPU).unwrap();
        let told = match errno {
            // As of a port that is closed.
            Errno::EINVAL => Error::NotOffered,
            _ => Error::NotSupported,
        };
        assert_eq!(channel.set_priority(3), Err(told), "{errno}");
        assert_eq!(channel.set_priority(16), Err(Error::NotOffered), "{errno}");
    }
}

#[test]
fn without_lists_of_calls_they_are_made_one_by_one() {
    for errno in ABSENT {
        let domain = domain();
        domain.refuse(HypercallNr::MULTICALL, None, errno);
        let ports = ports(&domain, Choice::Best).unwrap();
        let offered = Channel::unbound(&ports, DomId::SELF).unwrap();
        let bound = Channel::interdomain(&ports, DomId::SELF, offered.port()).unwrap();
        let deadline_ns = Some(1_000_000);
        ports.defer_notifications();
        bound.notify_deferred().unwrap();
        assert!(!offered.is_pending(), "it is held back");
        ports.sleep(VCPU, deadline_ns).unwrap();
        assert!(offered.is_pending(), "{errno}: nobody was told");
    }
}

#[test]
fn without_a_poll_nobody_sleeps_and_what_was_held_back_is_told() {
    for errno in ABSENT {
        let domain = domain();
        domain.refuse(HypercallNr::SCHED_OP, Some(SCHEDOP_POLL), errno);
        let ports = ports(&domain, Choice::Best).unwrap();
        let offered = Channel::unbound(&ports, DomId::SELF).unwrap();
        let bound = Channel::interdomain(&ports, DomId::SELF, offered.port()).unwrap();
        ports.defer_notifications();
        bound.notify_deferred().unwrap();
        assert!(ports.sleep(VCPU, Some(1_000_000)).is_err(), "{errno}");
        assert!(offered.is_pending(), "{errno}: nobody was told");
    }
}

/// What was told may be answered before the poll is refused: whoever waited has been woken,
/// and must not be slept over by another way.
#[test]
fn without_a_poll_an_answer_is_not_slept_over() {
    for errno in ABSENT {
        let domain = domain();
        domain.refuse(HypercallNr::SCHED_OP, Some(SCHEDOP_POLL), errno);
        let ports = ports(&domain, Choice::Best).unwrap();
        let offered = Channel::unbound(&ports, DomId::SELF).unwrap();
        let bound = Channel::interdomain(&ports, DomId::SELF, offered.port()).unwrap();
        let mut wait = pin!(offered.wait());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        ports.defer_notifications();
        bound.notify_deferred().unwrap();
        assert_eq!(ports.sleep(VCPU, Some(1_000_000)), Ok(()), "{errno}");
        assert!(wait.as_mut().poll(&mut cx).is_ready(), "{errno}");
    }
}
