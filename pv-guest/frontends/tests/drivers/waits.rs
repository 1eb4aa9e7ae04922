//! A guest that waits for what cannot come ends at once, however it waits.

use std::{
    future::{Future as _, poll_fn},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use hypercall_abi::platform::{Clock, Timer as _};
use mock_hypervisor::{Config, Outcome, Time, Xen};
use pv_frontends::xenbus::Bus;
use pv_guest::time;

use crate::kernel;

/// How long a guest's virtual time was when it came to its end, or met its deadline.
fn run(deadline_ns: Option<u64>, main: impl AsyncFn()) -> (u64, Option<()>) {
    let domain = Xen::new(Time::Virtual).domain(Config::default()).unwrap();
    let outcome = domain.run(|domain| {
        let value = kernel::run_until(domain, deadline_ns, async |_| main().await);
        (domain.now_ns(), value.unwrap())
    });
    match outcome {
        Outcome::Returned(value) => value,
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

#[test]
fn a_deadline_is_met_by_a_guest_that_looks_again_and_again() {
    let second_ns = 1_000_000_000;
    let (end_ns, value) = run(Some(second_ns), async || {
        loop {
            kernel::pause().await;
        }
    });
    assert_eq!((end_ns, value), (second_ns, None));
}

#[test]
#[should_panic = "waits for what cannot come"]
fn without_a_deadline_it_fails() {
    run(None, async || {
        loop {
            kernel::pause().await;
        }
    });
}

#[test]
#[should_panic = "deadlock"]
fn one_that_sleeps_fails() {
    run(None, async || std::future::pending().await);
}

#[test]
#[should_panic = "goes round without end"]
fn one_that_wakes_itself_fails() {
    run(Some(1_000_000_000), async || {
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    });
}

/// The queue of times keeps nobody who has left.
#[test]
fn who_waits_no_longer_has_no_place_in_the_queue() {
    const HOUR: Duration = Duration::from_secs(3600);
    let domain = Xen::new(Time::Virtual).domain(Config::default()).unwrap();
    let outcome = domain.run(|domain| {
        let main = kernel::run_until(domain, None, async |bus: Bus<'_, _>| {
            let bus = Bus::new(bus.store(), bus.ports(), bus.grants(), &time::Queue);
            for _ in 0..10 {
                let mut is_over = false;
                let soon = poll_fn(|cx| {
                    if is_over {
                        assert_eq!(time::waiting(), 1);
                        return Poll::Ready(());
                    }
                    is_over = true;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                });
                bus.timeout(HOUR, soon).await.unwrap();
                assert_eq!(time::waiting(), 0);
                let mut sleep = Box::pin(bus.sleep(HOUR));
                for waker in [waker(), waker()] {
                    let mut cx = Context::from_waker(&waker);
                    assert!(sleep.as_mut().poll(&mut cx).is_pending());
                    assert_eq!(time::waiting(), 1);
                }
                drop(sleep);
                assert_eq!(time::waiting(), 0);
            }
            // The end of all times does not come.
            let cx = Context::from_waker(Waker::noop());
            assert!(bus.poll_sleep_until(&cx, u64::MAX).is_pending());
            assert_eq!(time::waiting(), 0);
        });
        main.unwrap().unwrap();
    });
    assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
    // Of two that one task has for one time, one stays when the other is left.
    let places = [(); 2].map(|()| time::Queue.enter(5, None, Waker::noop()).unwrap());
    time::Queue.leave(5, places[0]);
    assert_eq!(time::waiting(), 1);
    time::Queue.leave(5, places[1]);
    assert_eq!(time::waiting(), 0);
}

/// One that no other is.
fn waker() -> Waker {
    struct Nobody;
    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }
    Waker::from(Arc::new(Nobody))
}
