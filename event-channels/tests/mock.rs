//! Channels on the mock hypervisor.

use event_channels::{Channel, Error, Wait};
use hypercall_abi::{
    DomId, Port, VcpuId,
    event_channel::{self, BindPirqFlags},
    peer::PeerPtr,
    platform::Clock,
    vcpu::{self, SingleshotFlags},
    xen::{SharedInfo, Virq},
};
use mock_hypervisor::{Config, Domain};

const VCPU: VcpuId = VcpuId(0);

fn with_domain(test: impl FnOnce(&'static Domain, PeerPtr<'static, SharedInfo>)) {
    let domain: &'static Domain = Box::leak(Box::new(Domain::new(Config::default()).unwrap()));
    // SAFETY: the domain, and so its page, is never freed.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    test(domain, shared);
}

#[test]
fn an_event_reaches_the_other_end_once() {
    with_domain(|domain, shared| {
        let offered = Channel::unbound(domain, shared, DomId::SELF).unwrap();
        assert!(!offered.is_pending());
        let bound = Channel::interdomain(domain, shared, DomId::SELF, offered.port()).unwrap();
        // It may have missed one.
        assert_eq!(bound.wait(None), Wait::Event);
        bound.notify().unwrap();
        bound.notify().unwrap();
        assert_eq!(offered.wait(Some(1_000)), Wait::Event);
        assert_eq!(offered.wait(Some(1_000)), Wait::Deadline);
        assert_eq!(domain.now_ns(), 1_000);
    });
}

#[test]
fn dropping_a_channel_closes_it() {
    with_domain(|domain, shared| {
        let channel = Channel::ipi(domain, shared, VCPU).unwrap();
        let port = channel.port();
        channel.notify().unwrap();
        drop(channel);
        assert!(event_channel::send(&domain, port).is_err());
        // Its number is used again, and what was pending is forgotten.
        let next = Channel::ipi(domain, shared, VCPU).unwrap();
        assert_eq!(next.port(), port);
        assert!(!next.is_pending());
    });
}

#[test]
fn a_timer_rings_at_its_time() {
    with_domain(|domain, shared| {
        let timer = Channel::virq(domain, shared, Virq::TIMER, VCPU).unwrap();
        vcpu::set_singleshot_timer(&domain, VCPU, 700, SingleshotFlags::empty()).unwrap();
        assert_eq!(timer.wait(Some(10_000)), Wait::Event);
        assert_eq!(domain.now_ns(), 700);
        assert_eq!(timer.notify(), Err(Error::NotOffered));
    });
}

#[test]
fn what_is_not_there_is_told_apart() {
    with_domain(|domain, shared| {
        let open = |result: Result<Channel<&Domain>, Error>| result.map(|c| c.port()).unwrap_err();
        assert_eq!(
            open(Channel::interdomain(domain, shared, DomId(0), Port(9))),
            Error::NotOffered
        );
        assert_eq!(
            open(Channel::interdomain(domain, shared, DomId(99), Port(9))),
            Error::NoDomain
        );
        assert_eq!(open(Channel::ipi(domain, shared, VcpuId(9))), Error::NoVcpu);
        assert_eq!(
            open(Channel::pirq(domain, shared, 9, BindPirqFlags::empty())),
            Error::NotAllowed
        );
        let _timer = Channel::virq(domain, shared, Virq::TIMER, VCPU).unwrap();
        assert_eq!(
            open(Channel::virq(domain, shared, Virq::TIMER, VCPU)),
            Error::Bound
        );
        let mut all = Vec::new();
        let error = loop {
            match Channel::ipi(domain, shared, VCPU) {
                Ok(channel) => all.push(channel),
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::NoPort);
        // Port zero, the console's and the timer's are not ours.
        assert_eq!(all.len(), 4096 - 3);
    });
}

#[test]
fn unmasking_asks_xen_only_if_something_is_pending() {
    with_domain(|domain, shared| {
        let channel = Channel::ipi(domain, shared, VCPU).unwrap();
        let calls = || domain.calls().get(&32).copied().unwrap_or(0);
        channel.mask();
        let before = calls();
        channel.unmask().unwrap();
        assert_eq!(calls(), before);
        channel.mask();
        channel.notify().unwrap();
        let before = calls();
        channel.unmask().unwrap();
        assert_eq!(calls(), before + 1);
        assert!(channel.clear_pending());
    });
}
