//! Sleep without upcalls, and notifications that wait for it, on the mock hypervisor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use event_channels::{Channel, Choice, Error, Ports, Throttle, Wait};
use hypercall_abi::{DomId, VcpuId, peer::PeerPtr, platform::Clock};
use mock_hypervisor::{Config, Domain, Time, Xen};

const VCPU: VcpuId = VcpuId(0);
const BOTH: [Choice; 2] = [Choice::TwoLevel, Choice::Best];
/// Hypercalls by their numbers.
const MULTICALL: u32 = 13;
const SCHED_OP: u32 = 29;
const EVENT_CHANNEL_OP: u32 = 32;

type Guest = (&'static Domain, &'static Ports<&'static Domain>);

fn guest(choice: Choice) -> Guest {
    let xen = Xen::new(Time::Virtual);
    let domain: &'static Domain = Box::leak(Box::new(xen.domain(Config::default()).unwrap()));
    // SAFETY: domains of these tests are never freed.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    let ports = Ports::new(domain, shared, choice, Throttle::default()).unwrap();
    (domain, Box::leak(Box::new(ports)))
}

/// Two ends of a channel, the second of which has taken its first event.
fn pair(ports: &'static Ports<&'static Domain>) -> [Channel<'static, &'static Domain>; 2] {
    let offered = Channel::unbound(ports, DomId::SELF).unwrap();
    let bound = Channel::interdomain(ports, DomId::SELF, offered.port()).unwrap();
    assert!(bound.take());
    [offered, bound]
}

fn calls(domain: &Domain, number: u32) -> u64 {
    domain.calls().get(&number).copied().unwrap_or(0)
}

#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits for each of `channels`, and says how often that woke.
fn listen(channels: &[&Channel<'static, &'static Domain>]) -> Arc<Wakes> {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    for channel in channels {
        let polled = channel.poll_wait(&mut Context::from_waker(&waker));
        assert_eq!(polled, Poll::Pending);
    }
    wakes
}

#[test]
fn without_an_executor_nothing_is_held_back() {
    let (_, ports) = guest(Choice::Best);
    let [near, far] = pair(ports);
    near.notify_deferred().unwrap();
    assert!(far.take());
    ports.flush_notifications();
    ports.flush_if_asked_again();
    assert!(!far.take());
}

#[test]
fn what_is_held_back_is_told_once() {
    let (domain, ports) = guest(Choice::Best);
    let ([near, far], [other, other_far]) = (pair(ports), pair(ports));
    ports.defer_notifications();
    let before = calls(domain, EVENT_CHANNEL_OP);
    near.notify_deferred().unwrap();
    near.notify_deferred().unwrap();
    assert!(!far.is_pending());
    // There is room for one.
    other.notify_deferred().unwrap();
    assert!(other_far.take());
    assert_eq!(calls(domain, EVENT_CHANNEL_OP) - before, 1);
    // Asked for once, it waits; asked for twice, it is sent.
    ports.flush_if_asked_again();
    near.notify_deferred().unwrap();
    assert!(!far.is_pending());
    ports.flush_if_asked_again();
    assert!(far.take());
    // And the next is held back again, until the next round.
    near.notify_deferred().unwrap();
    assert!(!far.is_pending());
    ports.defer_notifications();
    assert!(far.take());
    near.notify_deferred().unwrap();
    ports.flush_notifications();
    assert!(far.take());
    assert_eq!(calls(domain, EVENT_CHANNEL_OP) - before, 4);
    // One whose port is gone is told to nobody.
    ports.defer_notifications();
    near.notify_deferred().unwrap();
    drop(near);
    ports.flush_notifications();
    assert!(!far.is_pending());
}

#[test]
fn who_waits_for_an_event_tells_first() {
    let (domain, ports) = guest(Choice::Best);
    let [near, far] = pair(ports);
    ports.defer_notifications();
    near.notify_deferred().unwrap();
    assert_eq!(far.wait_blocking(Some(1_000)), Wait::Event);
    assert_eq!(domain.now_ns(), 0);
}

#[test]
fn a_sleep_ends_by_the_event_that_is_waited_for() {
    for choice in BOTH {
        let (domain, ports) = guest(choice);
        let ([near, far], [other, other_far]) = (pair(ports), pair(ports));
        let (wakes, others) = (listen(&[&far]), listen(&[&other_far]));
        for round in 1..=3 {
            let before = (calls(domain, MULTICALL), calls(domain, SCHED_OP));
            ports.defer_notifications();
            near.notify_deferred().unwrap();
            ports.sleep(VCPU, Some(1_000)).unwrap();
            // Both in one trap.
            assert_eq!(calls(domain, MULTICALL) - before.0, 1);
            assert_eq!(wakes.0.load(Ordering::Relaxed), round);
            assert!(far.take());
            listen(&[&far]);
            let waker = Waker::from(Arc::clone(&wakes));
            assert!(far.poll_wait(&mut Context::from_waker(&waker)).is_pending());
        }
        // Nothing to tell: a plain poll, up to the deadline.
        let before = (calls(domain, MULTICALL), calls(domain, SCHED_OP));
        ports.sleep(VCPU, Some(1_000)).unwrap();
        assert_eq!(calls(domain, MULTICALL), before.0);
        assert_eq!(calls(domain, SCHED_OP) - before.1, 1);
        assert_eq!(domain.now_ns(), 1_000);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 3);
        // What rings between sleeps is not slept over.
        other.notify().unwrap();
        ports.sleep(VCPU, Some(9_000)).unwrap();
        assert_eq!(others.0.load(Ordering::Relaxed), 1);
        assert_eq!(domain.now_ns(), 1_000);
    }
}

#[test]
fn what_nobody_waits_for_ends_no_sleep() {
    for choice in BOTH {
        let (domain, ports) = guest(choice);
        let [near, far] = pair(ports);
        far.mask();
        near.notify().unwrap();
        ports.sleep(VCPU, Some(500)).unwrap();
        assert_eq!(domain.now_ns(), 500);
        assert!(far.take());
    }
}

#[test]
fn with_too_many_ports_nobody_sleeps_and_nothing_is_lost() {
    let (_, ports) = guest(Choice::Best);
    let [near, far] = pair(ports);
    let mut more: Vec<_> = (0..31)
        .map(|_| Channel::ipi(ports, VCPU).unwrap())
        .collect();
    ports.defer_notifications();
    near.notify_deferred().unwrap();
    assert_eq!(ports.sleep(VCPU, Some(1_000)), Err(Error::NotSupported));
    assert!(far.take());
    // When the last of them is closed, the others fit; and what is closed makes room.
    more.pop();
    ports.sleep(VCPU, Some(1_000)).unwrap();
    more.remove(5);
    more.push(Channel::ipi(ports, VCPU).unwrap());
    ports.sleep(VCPU, Some(2_000)).unwrap();
}
