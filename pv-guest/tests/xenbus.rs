//! The bus itself: its time, its connections to the store, and devices that it shares the
//! store's quotas among.

mod kernel;

use std::{future::pending, time::Duration};

use mock_hypervisor::{Config, Domain, Outcome, Time, Xen};
use pv_guest::xenbus::{Bus, TimedOut};

/// Runs a guest that has a bus, in virtual time.
fn with_bus<T>(main: impl for<'g> AsyncFnOnce(Bus<'g, &'g Domain>) -> T) -> T {
    let xen = Xen::new(Time::Virtual);
    let domain = xen.domain(Config::default()).unwrap();
    let outcome = domain.run(|domain| kernel::run_until(domain, None, main).unwrap().unwrap());
    match outcome {
        Outcome::Returned(value) => value,
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

#[test]
fn time_passes_for_drivers() {
    with_bus(async |bus: Bus<'_, _>| {
        let begun_ns = bus.now_ns();
        bus.sleep(Duration::from_secs(5)).await;
        let slept_ns = bus.now_ns() - begun_ns;
        assert!(
            (5_000_000_000..5_010_000_000).contains(&slept_ns),
            "{slept_ns}"
        );
        let never = bus.timeout(Duration::from_secs(1), pending::<()>()).await;
        assert_eq!(never, Err(TimedOut));
        assert!(bus.now_ns() - begun_ns < 6_010_000_000);
        assert_eq!(bus.timeout(Duration::ZERO, async { 7 }).await, Ok(7));
    });
}

#[test]
#[should_panic(expected = "it waits for what cannot come")]
fn who_waits_for_what_cannot_come_is_told() {
    with_bus(async |_: Bus<'_, _>| {
        loop {
            kernel::pause().await;
        }
    });
}
