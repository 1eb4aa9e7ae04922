//! A port that rings without end: whoever waits for it gets so many events in a window,
//! and no more, however often and by whichever way they ask.

use std::task::{Context, Waker};

use event_channels::{Channel, Choice, Ports, Throttle, Wait};
use hypercall_abi::{DomId, VcpuId, peer::PeerPtr, platform::Clock};
use mock_hypervisor::{Config, Domain, Time, Xen};

const MOST: u32 = 10;
const WINDOW_NS: u64 = 10_000_000;
const BOTH: [Choice; 2] = [Choice::TwoLevel, Choice::Best];

struct Guest {
    ports: Ports<Domain>,
}

impl Guest {
    fn new(choice: Choice) -> Self {
        let domain = Xen::new(Time::Virtual).domain(Config::default()).unwrap();
        // SAFETY: the page lives as long as the domain, which the ports have.
        let shared = unsafe { PeerPtr::new(domain.shared_info()) };
        let throttle = Throttle {
            events: MOST,
            window_ns: WINDOW_NS,
        };
        let ports = Ports::new(domain, shared, choice, throttle).unwrap();
        Self { ports }
    }

    /// Two ends of a channel: one to hear, one to ring.
    fn channel(&self) -> [Channel<'_, Domain>; 2] {
        let heard = Channel::unbound(&self.ports, DomId::SELF).unwrap();
        let rung = Channel::interdomain(&self.ports, DomId::SELF, heard.port()).unwrap();
        [heard, rung]
    }

    fn now_ns(&self) -> u64 {
        self.ports.platform().now_ns()
    }

    /// Time passes.
    fn sleep_until(&self, until_ns: u64) {
        while self.now_ns() < until_ns {
            hypercall_abi::platform::Park::park(self.ports.platform(), &[], Some(until_ns));
        }
    }
}

/// Asks again and again, and rings before each time: how many events came.
fn ask(guest: &Guest, [heard, rung]: &[Channel<'_, Domain>; 2], times: u32) -> u32 {
    let mut cx = Context::from_waker(Waker::noop());
    let mut ready = 0;
    for _ in 0..times {
        rung.notify().unwrap();
        ready += u32::from(heard.poll_wait(&mut cx).is_ready());
        // Upcalls do not help it.
        guest.ports.dispatch(VcpuId(0));
    }
    ready
}

const TIMES: u32 = if cfg!(miri) { 30 } else { 10_000 };

#[test]
fn a_task_that_asks_again_is_held_back() {
    for choice in BOTH {
        let guest = Guest::new(choice);
        let storm = guest.channel();
        let calm = guest.channel();
        for window in 0..3 {
            assert_eq!(ask(&guest, &storm, TIMES), MOST, "window {window}");
            assert_eq!(ask(&guest, &storm, TIMES), 0, "window {window}");
            // Each port has a window of its own.
            assert_eq!(ask(&guest, &calm, 3), 3);
            let until = guest.ports.release_throttled(guest.now_ns()).unwrap();
            guest.sleep_until(until);
            assert_eq!(guest.ports.release_throttled(guest.now_ns()), None);
        }
        // No event is lost: the last is there still.
        let mut cx = Context::from_waker(Waker::noop());
        assert!(storm[0].poll_wait(&mut cx).is_ready());
    }
}

#[test]
fn a_blocking_wait_is_held_back() {
    for choice in BOTH {
        let guest = Guest::new(choice);
        let [heard, rung] = guest.channel();
        let mut events = 0;
        let start_ns = guest.now_ns();
        for _ in 0..5 * MOST {
            rung.notify().unwrap();
            assert_eq!(heard.wait_blocking(None), Wait::Event);
            events += 1;
        }
        let windows = (guest.now_ns() - start_ns) / WINDOW_NS;
        assert!(
            (4..=5).contains(&windows),
            "{events} events in {windows} windows"
        );
        // A deadline that comes before the window's end.
        rung.notify().unwrap();
        let deadline_ns = guest.now_ns() + WINDOW_NS / 2;
        assert_eq!(heard.wait_blocking(Some(deadline_ns)), Wait::Deadline);
        assert!(heard.is_pending(), "it waits there");
        assert_eq!(heard.wait_blocking(None), Wait::Event);
    }
}

#[test]
fn a_sleep_is_not_ended_by_a_port_that_is_held_back() {
    for choice in BOTH {
        let guest = Guest::new(choice);
        let storm = guest.channel();
        assert_eq!(ask(&guest, &storm, MOST + 1), MOST);
        let deadline_ns = guest.now_ns() + WINDOW_NS / 2;
        let before = storm[0].events();
        guest.ports.sleep(VcpuId(0), Some(deadline_ns)).unwrap();
        assert!(guest.now_ns() >= deadline_ns, "it slept");
        storm[1].notify().unwrap();
        assert_eq!(guest.ports.dispatch(VcpuId(0)).events, 0);
        assert_eq!(storm[0].events(), before);
    }
}

#[test]
fn slow_events_are_never_held_back() {
    let guest = Guest::new(Choice::Best);
    let slow = guest.channel();
    let step_ns = WINDOW_NS / u64::from(MOST) + 1;
    for event in 0..4 * u64::from(MOST) {
        guest.sleep_until(event * step_ns);
        assert_eq!(ask(&guest, &slow, 1), 1, "event {event}");
    }
}
