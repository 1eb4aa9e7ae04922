//! A guest that waits for what cannot come ends at once, however it waits.

mod kernel;

use hypercall_abi::platform::Clock;
use mock_hypervisor::{Config, Outcome, Time, Xen};

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
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await
    });
}
