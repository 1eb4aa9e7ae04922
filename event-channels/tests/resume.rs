//! A guest that goes on elsewhere, on the mock hypervisor: its ports are gone, and the
//! channels of before do no harm to those that are opened there.

use std::task::{Context, Poll, Wake, Waker};

use event_channels::{Channel, Choice, Error, Interface, Ports, Throttle, Wait};
use hypercall_abi::{
    DomId, Mfn, VcpuId,
    peer::PeerPtr,
    platform::Pages,
    sched::{self, Resumed, Suspended},
};
use mock_hypervisor::{Config, Domain, Suspend, Time, Xen};

const VCPU: VcpuId = VcpuId(0);

struct Nothing;

impl Wake for Nothing {
    fn wake(self: std::sync::Arc<Self>) {}
}

fn move_away(domain: &Domain) -> Resumed {
    let xen = domain.xen();
    xen.suspend(domain.domid(), Suspend::Moved).unwrap();
    let frame = domain.gfn_of(domain.start_info().cast()).unwrap();
    // SAFETY: what it changes is looked at anew.
    let suspended = unsafe { sched::suspend(&domain, Some(Mfn(frame.0))) };
    let Ok(Suspended::Resumed(resumed)) = suspended else {
        panic!("{suspended:?}");
    };
    resumed
}

#[test]
fn ports_of_before_ring_nobody() {
    let choices = [
        (Choice::TwoLevel, Interface::TwoLevel),
        (Choice::Best, Interface::Fifo),
    ];
    for (choice, interface) in choices {
        let xen = Xen::new(Time::Virtual);
        let domain = xen.domain(Config::default()).unwrap();
        // SAFETY: the page lives as long as the domain.
        let shared = unsafe { PeerPtr::new(domain.shared_info()) };
        let ports = Ports::new(&domain, shared, choice, Throttle::default()).unwrap();
        assert_eq!(ports.interface(), interface);
        // SAFETY: nothing writes it meanwhile.
        let start = || unsafe { domain.start_info().read() };
        let store = Channel::adopt(&ports, start().store_evtchn).unwrap();
        assert_eq!(store.adopt_again(store.port()), Err(Error::Bound));
        let old = Channel::unbound(&ports, DomId::SELF).unwrap();
        let old_far = Channel::interdomain(&ports, DomId::SELF, old.port()).unwrap();
        assert!(old_far.take());
        let awaited = Channel::unbound(&ports, DomId::SELF).unwrap();
        let waker = Waker::from(std::sync::Arc::new(Nothing));
        let polled = awaited.poll_wait(&mut Context::from_waker(&waker));
        assert_eq!(polled, Poll::Pending);
        ports.defer_notifications();
        old.notify_deferred().unwrap();

        for round in 1..3 {
            ports.resume(move_away(&domain)).unwrap();
            assert_eq!(ports.resumes(), round);
            for lost in [&old, &old_far, &awaited] {
                assert!(lost.is_stale() && !lost.is_pending() && !lost.take());
                lost.notify().unwrap();
                lost.notify_deferred().unwrap();
                lost.unmask().unwrap();
                lost.mask();
                assert_eq!(lost.is_connected(), Ok(false));
                assert_eq!(lost.set_priority(1), Err(Error::NotOffered));
                assert_eq!(lost.bind_vcpu(VCPU), Err(Error::NotOffered));
            }
            assert!(store.is_stale());
            store.adopt_again(start().store_evtchn).unwrap();
            assert_eq!(store.port(), start().store_evtchn);
            assert!(store.take(), "it may have rung before");

            // New ones, with the numbers of the old.
            let near = Channel::unbound(&ports, DomId::SELF).unwrap();
            let far = Channel::interdomain(&ports, DomId::SELF, near.port()).unwrap();
            assert!(far.take());
            assert!([near.port(), far.port()].contains(&old.port()));
            old.mask();
            near.notify().unwrap();
            assert_eq!(far.wait_blocking(Some(1_000_000_000)), Wait::Event);
            let polled = far.poll_wait(&mut Context::from_waker(&waker));
            assert_eq!(polled, Poll::Pending);
            near.notify().unwrap();
            assert_eq!(ports.dispatch(VCPU).events, 1);
            assert!(far.take());
            let count = domain.open_ports();
            drop(Channel::unbound(&ports, DomId::SELF).unwrap());
            assert_eq!(domain.open_ports(), count);
        }
        let count = domain.open_ports();
        drop((old, old_far, awaited));
        assert_eq!(domain.open_ports(), count, "another's port was closed");
        drop(store);
    }
}
