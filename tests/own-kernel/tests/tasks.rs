//! The executor of this kernel, on the mock: whoever is to be polled again is, whatever
//! woke it, and however early.

extern crate alloc;

use std::{
    future::poll_fn,
    task::{Poll, Waker},
};

use event_channels::{Channel, Choice, Ports, Throttle};
use hypercall_abi::{
    DomId,
    peer::PeerPtr,
    platform::{Clock as _, Timer as _},
};
use mock_hypervisor::{Config, Domain, Time, Xen};

#[path = "../src/tasks.rs"]
mod tasks;

use tasks::{Alarms, block_on};

const THROTTLE: Throttle = Throttle {
    events: 3,
    window_ns: 10_000_000,
};

fn ports() -> Ports<Domain> {
    let domain = Xen::new(Time::Virtual).domain(Config::default()).unwrap();
    // SAFETY: the page lives as long as the domain, which the ports have.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    Ports::new(domain, shared, Choice::Best, THROTTLE).unwrap()
}

/// Pends once, having called `before` with the waker.
async fn once(before: impl FnOnce(&Waker)) {
    let mut before = Some(before);
    poll_fn(|cx| match before.take() {
        Some(before) => {
            before(cx.waker());
            Poll::Pending
        }
        None => Poll::Ready(()),
    })
    .await;
}

#[test]
fn a_time_that_came_while_the_task_ran_is_not_slept_over() {
    let (ports, alarms) = (ports(), Alarms::default());
    let past_ns = ports.platform().now_ns();
    block_on(
        &ports,
        &alarms,
        once(|waker| alarms.wake_at(past_ns, waker)),
    );
}

#[test]
fn a_time_that_comes_later_ends_the_sleep() {
    let (ports, alarms) = (ports(), Alarms::default());
    let now_ns = || ports.platform().now_ns();
    let until_ns = now_ns() + 50_000_000;
    let wait = once(|waker| alarms.wake_at(until_ns, waker));
    block_on(&ports, &alarms, wait);
    assert!(now_ns() >= until_ns);
}

#[test]
fn a_task_that_wakes_itself_is_not_slept_over() {
    let (ports, alarms) = (ports(), Alarms::default());
    block_on(&ports, &alarms, once(Waker::wake_by_ref));
}

#[test]
fn a_port_that_rings_too_often_rings_again() {
    let (ports, alarms) = (ports(), Alarms::default());
    let heard = Channel::unbound(&ports, DomId::SELF).unwrap();
    let rung = Channel::interdomain(&ports, DomId::SELF, heard.port()).unwrap();
    block_on(&ports, &alarms, async {
        for _ in 0..10 * THROTTLE.events {
            rung.notify().unwrap();
            heard.wait().await;
        }
    });
}

#[test]
fn an_event_comes_where_nobody_can_sleep() {
    let (ports, alarms) = (ports(), Alarms::default());
    let channel = |_| Channel::unbound(&ports, DomId::SELF).unwrap();
    // A sleep knows 32.
    let heard: Vec<_> = (0..40).map(channel).collect();
    let last = heard.last().unwrap();
    let rung = Channel::interdomain(&ports, DomId::SELF, last.port()).unwrap();
    block_on(&ports, &alarms, async {
        let mut is_first = true;
        poll_fn(|cx| {
            let heard = last.poll_wait(cx);
            if is_first {
                is_first = false;
                rung.notify().unwrap();
            }
            heard
        })
        .await;
    });
}
