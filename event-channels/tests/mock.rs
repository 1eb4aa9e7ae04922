//! Channels on the mock hypervisor, by both interfaces.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use event_channels::{Channel, Choice, Error, Interface, Ports, Throttle, Wait};
use hypercall_abi::{
    DomId, Port, VcpuId,
    event_channel::{self, BindPirqFlags},
    peer::PeerPtr,
    peer_field,
    platform::{Clock, Park},
    vcpu::{self, SingleshotFlags},
    xen::{SharedInfo, VcpuInfo, Virq},
};
use mock_hypervisor::{Config, Domain, Outcome, Time, Xen};

const VCPU: VcpuId = VcpuId(0);
const BOTH: [Choice; 2] = [Choice::TwoLevel, Choice::Best];

fn shared(domain: &Domain) -> PeerPtr<'static, SharedInfo> {
    // SAFETY: domains of these tests are never freed.
    unsafe { PeerPtr::new(domain.shared_info()) }
}

fn guest_of(xen: &Xen, choice: Choice) -> (&'static Domain, &'static Ports<&'static Domain>) {
    let domain: &'static Domain = Box::leak(Box::new(xen.domain(Config::default()).unwrap()));
    let ports = Ports::new(domain, shared(domain), choice, Throttle::default()).unwrap();
    (domain, Box::leak(Box::new(ports)))
}

fn guest(choice: Choice) -> (&'static Domain, &'static Ports<&'static Domain>) {
    guest_of(&Xen::new(Time::Virtual), choice)
}

/// Has upcalls dispatched.
fn with_upcalls(domain: &'static Domain, ports: &'static Ports<&'static Domain>) {
    domain.on_upcall(move |_| {
        ports.dispatch(VCPU);
    });
    let vcpu = peer_field!(shared(domain), SharedInfo, vcpu_info)
        .get(0)
        .unwrap();
    peer_field!(vcpu, VcpuInfo, evtchn_upcall_mask).store(0);
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs a future, and sleeps while it waits.
fn block_on<T>(
    domain: &Domain,
    ports: &Ports<&'static Domain>,
    future: impl Future<Output = T>,
) -> T {
    let mut future = pin!(future);
    let woken = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    loop {
        if woken.0.swap(false, Ordering::AcqRel)
            && let Poll::Ready(value) = future.as_mut().poll(&mut cx)
        {
            return value;
        }
        let next = ports.release_throttled(domain.now_ns());
        domain.idle(next, &|| woken.0.load(Ordering::Acquire));
    }
}

#[test]
fn the_interface_is_the_best_that_there_is() {
    assert_eq!(guest(Choice::Best).1.interface(), Interface::Fifo);
    assert_eq!(guest(Choice::TwoLevel).1.interface(), Interface::TwoLevel);
}

#[test]
fn an_event_reaches_the_other_end_once() {
    for choice in BOTH {
        let (domain, ports) = guest(choice);
        let offered = Channel::unbound(ports, DomId::SELF).unwrap();
        assert!(!offered.is_pending());
        let bound = Channel::interdomain(ports, DomId::SELF, offered.port()).unwrap();
        // It may have missed one.
        assert_eq!(bound.wait_blocking(None), Wait::Event);
        bound.notify().unwrap();
        bound.notify().unwrap();
        assert_eq!(offered.wait_blocking(Some(1_000)), Wait::Event);
        assert_eq!(offered.wait_blocking(Some(1_000)), Wait::Deadline);
        assert_eq!(domain.now_ns(), 1_000);
    }
}

#[test]
fn dropping_a_channel_closes_it() {
    for choice in BOTH {
        let (domain, ports) = guest(choice);
        let before = domain.open_ports();
        let channel = Channel::ipi(ports, VCPU).unwrap();
        let port = channel.port();
        channel.notify().unwrap();
        drop(channel);
        assert!(event_channel::send(&domain, port).is_err());
        assert_eq!(domain.open_ports(), before);
        // Its number is used again, and what was pending is forgotten.
        let next = Channel::ipi(ports, VCPU).unwrap();
        assert_eq!(next.port(), port);
        assert!(!next.is_pending());
    }
}

#[test]
fn a_timer_rings_at_its_time() {
    for choice in BOTH {
        let (domain, ports) = guest(choice);
        let timer = Channel::virq(ports, Virq::TIMER, VCPU).unwrap();
        vcpu::set_singleshot_timer(&domain, VCPU, 700, SingleshotFlags::empty()).unwrap();
        assert_eq!(timer.wait_blocking(Some(10_000)), Wait::Event);
        assert_eq!(domain.now_ns(), 700);
        assert_eq!(timer.notify(), Err(Error::NotOffered));
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn what_is_not_there_is_told_apart() {
    let (_, ports) = guest(Choice::Best);
    let open = |result: Result<Channel<&Domain>, Error>| result.map(|c| c.port()).unwrap_err();
    assert_eq!(
        open(Channel::interdomain(ports, DomId(0), Port(9))),
        Error::NotOffered
    );
    assert_eq!(
        open(Channel::interdomain(ports, DomId(99), Port(9))),
        Error::NoDomain
    );
    assert_eq!(open(Channel::ipi(ports, VcpuId(9))), Error::NoVcpu);
    assert_eq!(
        open(Channel::pirq(ports, 9, BindPirqFlags::empty())),
        Error::NotAllowed
    );
    let timer = Channel::virq(ports, Virq::TIMER, VCPU).unwrap();
    assert_eq!(open(Channel::virq(ports, Virq::TIMER, VCPU)), Error::Bound);
    assert_eq!(timer.set_priority(16), Err(Error::NotOffered));
    timer.set_priority(0).unwrap();
    let mut all = Vec::new();
    let error = loop {
        match Channel::ipi(ports, VCPU) {
            Ok(channel) => all.push(channel),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::NoPort);
    // The store's, the console's and the timer's are not ours.
    assert_eq!(all.len(), 1023 - 3);
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn there_are_as_many_ports_as_the_interface_has() {
    for (choice, most) in [(Choice::TwoLevel, 4095), (Choice::Best, 6000)] {
        let xen = Xen::new(Time::Virtual);
        let config = Config {
            max_event_channels: 6000,
            memory_mib: 8,
            ..Config::default()
        };
        let domain: &'static Domain = Box::leak(Box::new(xen.domain(config).unwrap()));
        let ports = Ports::new(domain, shared(domain), choice, Throttle::default()).unwrap();
        let mut all = Vec::new();
        while let Ok(channel) = Channel::ipi(&ports, VCPU) {
            all.push(channel);
        }
        assert_eq!(all.len(), most - 2);
        let last = all.last().unwrap();
        last.notify().unwrap();
        assert_eq!(last.wait_blocking(Some(1)), Wait::Event);
    }
}

#[test]
fn unmasking_asks_xen_only_if_something_is_pending() {
    for choice in BOTH {
        let (domain, ports) = guest(choice);
        let channel = Channel::ipi(ports, VCPU).unwrap();
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
        assert!(channel.take());
    }
}

#[test]
fn an_upcall_wakes_who_waits() {
    for choice in BOTH {
        let (domain, ports) = guest(choice);
        with_upcalls(domain, ports);
        let timer = Channel::virq(ports, Virq::TIMER, VCPU).unwrap();
        for at in [500, 900] {
            vcpu::set_singleshot_timer(&domain, VCPU, at, SingleshotFlags::empty()).unwrap();
            block_on(domain, ports, timer.wait());
            assert_eq!(domain.now_ns(), at);
        }
        assert_eq!(timer.events(), 2);
        // What came before the wait is not lost either.
        let ipi = Channel::ipi(ports, VCPU).unwrap();
        ipi.notify().unwrap();
        block_on(domain, ports, ipi.wait());
        assert_eq!(ports.spurious(), 0);
    }
}

#[test]
fn events_of_the_time_before_fifo_are_not_lost() {
    let xen = Xen::new(Time::Virtual);
    let domain: &'static Domain = Box::leak(Box::new(xen.domain(Config::default()).unwrap()));
    let early = event_channel::bind_ipi(&domain, VCPU).unwrap();
    event_channel::send(&domain, early).unwrap();
    let ports = Ports::new(domain, shared(domain), Choice::Best, Throttle::default()).unwrap();
    let channel = Channel::adopt(&ports, early).unwrap();
    assert_eq!(channel.wait_blocking(Some(1)), Wait::Event);
    drop(channel);
    // It is the toolstack's, and stays open.
    event_channel::send(&domain, early).unwrap();
}

#[test]
fn events_come_by_priority() {
    let (domain, ports) = guest(Choice::Best);
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    struct Note(u32, Arc<std::sync::Mutex<Vec<u32>>>);
    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }
    let channels: Vec<_> = [(12, 12), (0, 0), (7, 7), (1, 1)]
        .map(|(priority, name)| {
            let channel = Channel::ipi(ports, VCPU).unwrap();
            channel.set_priority(priority).unwrap();
            let waker = Waker::from(Arc::new(Note(name, Arc::clone(&order))));
            assert!(
                channel
                    .poll_wait(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            channel
        })
        .into();
    for channel in &channels {
        channel.notify().unwrap();
    }
    assert_eq!(ports.dispatch(VCPU).events, 4);
    assert_eq!(*order.lock().unwrap(), [0, 1, 7, 12]);
    assert_eq!(ports.dispatch(VCPU).events, 0);
    let _ = domain;
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn many_events_of_one_queue_all_arrive() {
    for choice in BOTH {
        let (domain, ports) = guest(choice);
        with_upcalls(domain, ports);
        let channels: Vec<_> = (0..600)
            .map(|_| Channel::ipi(ports, VCPU).unwrap())
            .collect();
        for round in 1..4 {
            let mut cx = Context::from_waker(Waker::noop());
            for channel in &channels {
                assert!(channel.poll_wait(&mut cx).is_pending());
            }
            for channel in channels.iter().rev() {
                channel.notify().unwrap();
            }
            for channel in &channels {
                assert_eq!(channel.events(), round);
                assert!(channel.take());
            }
        }
        assert_eq!(ports.spurious(), 0);
    }
}

#[test]
fn a_port_that_nobody_has_is_counted_and_kept_quiet() {
    for choice in BOTH {
        let (domain, ports) = guest(choice);
        with_upcalls(domain, ports);
        let stray = event_channel::bind_ipi(&domain, VCPU).unwrap();
        for _ in 0..10 {
            event_channel::send(&domain, stray).unwrap();
        }
        assert_eq!(ports.spurious(), 1);
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn a_chatty_port_starves_nobody_and_is_held_back() {
    for choice in BOTH {
        let xen = Xen::new(Time::Virtual);
        let domain: &'static Domain = Box::leak(Box::new(xen.domain(Config::default()).unwrap()));
        let throttle = Throttle {
            events: 50,
            window_ns: 1_000_000,
        };
        let ports = Ports::new(domain, shared(domain), choice, throttle).unwrap();
        let ports: &'static Ports<&'static Domain> = Box::leak(Box::new(ports));
        with_upcalls(domain, ports);
        let storm = Channel::ipi(ports, VCPU).unwrap();
        let calm = Channel::ipi(ports, VCPU).unwrap();
        let heard = AtomicU32::new(0);
        let outcome = domain.run(|_| {
            block_on(domain, ports, async {
                for _ in 0..500 {
                    // It rings whenever it can.
                    storm.notify().unwrap();
                    storm.wait().await;
                    calm.notify().unwrap();
                    calm.wait().await;
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
        assert_eq!(heard.load(Ordering::Relaxed), 500);
        // The events were there before they were waited for, without an upcall, and are
        // throttled all the same: 500 of 50 in a millisecond take nine further ones.
        assert!(
            (9_000_000..10_000_000).contains(&domain.now_ns()),
            "{}",
            domain.now_ns()
        );

        // Now from the upcall itself: as a peer on another processor would.
        let mut cx = Context::from_waker(Waker::noop());
        let mut waits = 0;
        while storm.poll_wait(&mut cx).is_pending() && waits < 500 {
            storm.notify().unwrap();
            if storm.is_pending() && storm.take() {
                waits += 1;
            }
            if ports.release_throttled(domain.now_ns()).is_some() {
                break;
            }
        }
        assert!(waits <= 52, "{waits} {ports:?} {}", domain.now_ns());
        let until = ports.release_throttled(domain.now_ns());
        let until = until.expect("it is held back");
        let start = domain.now_ns();
        assert!((start..=start + 1_000_000).contains(&until), "{until}");
        // No upcall for it, but for the other.
        let before = storm.events();
        storm.notify().unwrap();
        assert_eq!(storm.events(), before);
        assert!(calm.poll_wait(&mut cx).is_pending());
        calm.notify().unwrap();
        assert!(calm.take());
        // And then it is heard again.
        block_on(domain, ports, storm.wait());
        assert_eq!(ports.release_throttled(domain.now_ns()), None);
    }
}

#[test]
fn two_domains_ring_at_each_others_door() {
    for choice in BOTH {
        let xen = Xen::new(Time::Virtual);
        let (back, back_ports) = guest_of(&xen, choice);
        let (front, front_ports) = guest_of(&xen, Choice::Best);
        with_upcalls(front, front_ports);
        let offered = Channel::unbound(back_ports, front.domid()).unwrap();
        let port = offered.port();
        const ROUNDS: u32 = if cfg!(miri) { 5 } else { 2000 };
        let echo = move |_: &Domain| {
            for _ in 0..ROUNDS {
                assert_eq!(offered.wait_blocking(None), Wait::Event);
                offered.notify().unwrap();
            }
        };
        let ring = |_: &Domain| {
            let channel = Channel::interdomain(front_ports, back.domid(), port).unwrap();
            assert!(channel.take());
            for _ in 0..ROUNDS {
                channel.notify().unwrap();
                block_on(front, front_ports, channel.wait());
            }
        };
        for ended in xen.run(vec![(back, Box::new(echo)), (front, Box::new(ring))]) {
            assert!(matches!(ended, Outcome::Returned(())));
        }
        assert_eq!(front.open_ports(), 2);
    }
}

#[test]
fn each_vcpu_gets_its_own_events() {
    for choice in BOTH {
        let xen = Xen::new(Time::Virtual);
        let config = Config {
            vcpus: 2,
            ..Config::default()
        };
        let domain: &'static Domain = Box::leak(Box::new(xen.domain(config).unwrap()));
        let ports = Ports::new(domain, shared(domain), choice, Throttle::default()).unwrap();
        let second = VcpuId(1);
        let infos = peer_field!(shared(domain), SharedInfo, vcpu_info);
        // Before it was added it gets nothing.
        assert_eq!(ports.dispatch(second).events, 0);
        ports.add_vcpu(second, infos.get(1).unwrap()).unwrap();
        ports.add_vcpu(second, infos.get(1).unwrap()).unwrap();
        assert_eq!(
            ports.add_vcpu(VcpuId(32), infos.get(1).unwrap()),
            Err(Error::NoVcpu)
        );
        let ipi = Channel::ipi(&ports, second).unwrap();
        let moved = Channel::unbound(&ports, DomId::SELF).unwrap();
        let other = Channel::interdomain(&ports, DomId::SELF, moved.port()).unwrap();
        moved.bind_vcpu(second).unwrap();
        assert_eq!(moved.bind_vcpu(VcpuId(2)), Err(Error::NoVcpu));
        assert_eq!(ipi.bind_vcpu(VCPU), Err(Error::NotOffered));
        for channel in [&ipi, &moved] {
            channel.unmask().unwrap();
        }
        ipi.notify().unwrap();
        other.notify().unwrap();
        assert_eq!(ports.dispatch(VCPU).events, 0);
        assert_eq!(ports.dispatch(second).events, 2);
        assert!(ipi.take() && moved.take());
    }
}

#[test]
fn the_table_can_be_looked_at() {
    let (_, ports) = guest(Choice::TwoLevel);
    let channel = Channel::ipi(ports, VCPU).unwrap();
    channel.notify().unwrap();
    assert_eq!(
        format!("{ports:?}"),
        "Ports (TwoLevel, 0 spurious) [3: 0 events, pending, masked]"
    );
}
