//! The bus itself: its time, the store's quotas that devices share, and what is in the store
//! when a driver's users are told something.

use std::{future::pending, time::Duration};

use futures_util::future::join_all;
use hypercall_abi::{DomId, Errno};
use mock_hypervisor::{
    Config, DiskConfig, DiskId, Domain, Mischief, NicConfig, Outcome, StoreQuotas, Time, Xen,
};
use pv_frontends::{
    blkfront::{self, Disk, Error, Sector, Status},
    netfront::{self, Nic},
    xenbus::{Bus, Fault, MAX_QUARANTINED_PAGES, TimedOut},
};
use xenstore_client::{ErrorKind, Quota};

use crate::kernel;

/// The first domain of a host.
const GUEST: DomId = DomId(1);
const SECOND: Duration = Duration::from_secs(1);

/// What the first domain's first disk has in the store.
const DISK: &str = "/local/domain/1/device/vbd/51712";

/// Runs a guest that has a bus and these disks, in virtual time.
fn with_disks<T>(
    disks: u32,
    main: impl for<'g> AsyncFnOnce(&Xen, &[DiskId], Bus<'g, &'g Domain>) -> T,
) -> T {
    let xen = Xen::new(Time::Virtual);
    let config = Config {
        memory_mib: 16,
        ..Config::default()
    };
    let domain = xen.domain(config).unwrap();
    let disks: Vec<_> = (0..disks)
        .map(|number| {
            let config = DiskConfig {
                vdev: 51712 + number,
                sectors: 8,
                ..DiskConfig::default()
            };
            xen.attach_disk(domain.domid(), config)
        })
        .collect();
    let host = xen.clone();
    let outcome = domain.run(|domain| {
        kernel::run_until(domain, None, async |bus: Bus<'_, _>| {
            main(&host, &disks, bus).await
        })
        .unwrap()
        .unwrap()
    });
    match outcome {
        Outcome::Returned(value) => value,
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

fn disk<'g>(bus: Bus<'g, &'g Domain>, number: u32) -> Disk<'g, &'g Domain> {
    let id = (51712 + number).to_string();
    Disk::new(bus, id, blkfront::Config::default())
}

fn text(xen: &Xen, path: &str) -> Option<String> {
    let value = xen.store_read(path).ok()?;
    Some(String::from_utf8(value).unwrap())
}

fn state(xen: &Xen) -> Option<String> {
    text(xen, &format!("{DISK}/state"))
}

#[test]
fn time_passes_for_drivers() {
    with_disks(0, async |_, _, bus| {
        let begun_ns = bus.now_ns();
        bus.sleep(5 * SECOND).await;
        let slept_ns = bus.now_ns() - begun_ns;
        assert!(
            (5_000_000_000..5_010_000_000).contains(&slept_ns),
            "{slept_ns}"
        );
        let never = bus.timeout(SECOND, pending::<()>()).await;
        assert_eq!(never, Err(TimedOut));
        assert!(bus.now_ns() - begun_ns < 6_010_000_000);
        assert_eq!(bus.timeout(Duration::ZERO, async { 7 }).await, Ok(7));
    });
}

#[test]
#[should_panic(expected = "it waits for what cannot come")]
fn who_waits_for_what_cannot_come_is_told() {
    with_disks(0, async |_, _, _| {
        loop {
            kernel::pause().await;
        }
    });
}

#[test]
fn what_is_told_is_in_the_store() {
    with_disks(2, async |xen, ids, bus| {
        xen.set_store_latency(1_000_000);
        let first = disk(bus, 0);
        first.ready().await.unwrap();
        assert_eq!(state(xen).as_deref(), Some("4"));
        first.close().await;
        assert_eq!(first.status(), Status::Closed);
        assert_eq!(state(xen).as_deref(), Some("6"));

        let second = disk(bus, 1);
        second.ready().await.unwrap();
        xen.disk_mischief(ids[1], Mischief::Answer(77));
        let mut sector = [0; 512];
        // Requests that were on their way may be answered before it is noticed.
        let mut refused = Ok(());
        while refused.is_ok() {
            kernel::pause().await;
            refused = second.read(Sector(0), &mut sector).await;
        }
        let Err(Error::Broken(fault)) = refused else {
            panic!("{refused:?}");
        };
        let path = "/local/domain/1/device/vbd/51713/state";
        assert_eq!(text(xen, path).as_deref(), Some("5"));
        let told = text(xen, "/local/domain/1/error/device/vbd/51713/error");
        assert_eq!(told, Some(fault.to_string()));
    });
}

#[test]
fn an_interface_is_closed_when_close_returns() {
    with_disks(0, async |xen, _, bus| {
        xen.attach_nic(GUEST, NicConfig::default());
        xen.set_store_latency(1_000_000);
        let nic = Nic::new(bus, "0", netfront::Config::default());
        nic.ready_within(SECOND).await.unwrap();
        nic.close().await;
        let path = "/local/domain/1/device/vif/0/state";
        assert_eq!(text(xen, path).as_deref(), Some("6"));
    });
}

#[test]
fn a_disk_that_is_dropped_is_closed() {
    with_disks(1, async |xen, ids, bus| {
        let first = disk(bus, 0);
        first.ready().await.unwrap();
        drop(first);
        assert_eq!(state(xen).as_deref(), Some("6"));
        assert!(!xen.disk_is_connected(ids[0]));
        // Also if nobody has looked after it since it was connected.
        xen.set_store_latency(1_000_000);
        let second = disk(bus, 0);
        second.ready().await.unwrap();
        drop(second);
        bus.sleep(SECOND).await;
        assert_eq!(state(xen).as_deref(), Some("6"));
        // And there is nothing in the way of the next.
        disk(bus, 0).ready_within(SECOND).await.unwrap();
    });
}

#[test]
fn many_disks_connect_at_once() {
    with_disks(80, async |xen, _, bus| {
        xen.set_store_quotas(StoreQuotas {
            watches: 2,
            transactions: 10,
            nodes: 2000,
        });
        xen.set_store_latency(10_000);
        // Others have some open, too.
        let [_one, _other] = [(); 2].map(|()| bus.store().begin());
        let (_one, _other) = (_one.await.unwrap(), _other.await.unwrap());
        let disks: Vec<_> = (0..80).map(|number| disk(bus, number)).collect();
        let begun_ns = bus.now_ns();
        for ready in join_all(disks.iter().map(|disk| disk.ready_within(10 * SECOND))).await {
            ready.unwrap();
        }
        // None was refused, and waited for that.
        assert!(bus.now_ns() - begun_ns < 500_000_000);
        join_all(disks.iter().map(Disk::close)).await;
        drop(disks);
        bus.sleep(SECOND).await;
        assert_eq!(xen.store_watches(GUEST), 0);
    });
}

#[test]
fn a_refusal_that_passes_is_shown_and_tried_again() {
    with_disks(1, async |xen, ids, bus| {
        xen.set_store_latency(10_000);
        let mut open = Vec::new();
        for _ in 0..10 {
            open.push(bus.store().begin().await.unwrap());
        }
        let disk = disk(bus, 0);
        let refused = disk.ready_within(10 * SECOND).await;
        let quota = Fault::Store(ErrorKind::Quota {
            quota: Quota::Transactions,
            errno: Errno::ENOSPC,
        });
        let Err(Error::NotReady(Status::Retrying { fault, attempts })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(fault, quota);
        assert!((5..15).contains(&attempts), "{attempts}");
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("quota of open transactions"), "{text}");
        open.clear();
        // Whoever asks for it does not wait for the end of a pause.
        let again = bus.timeout(SECOND / 10, disk.reconnect()).await;
        assert!(matches!(again, Ok(Ok(_))), "{again:?}");
        // Pauses are short again, since it was connected meanwhile.
        for _ in 0..10 {
            open.push(bus.store().begin().await.unwrap());
        }
        xen.restart_disk(ids[0]);
        let refused = disk.status_change(Status::Connected);
        let refused = bus.timeout(SECOND, refused).await.unwrap();
        assert!(!matches!(refused, Status::Broken(_)), "{refused:?}");
        let _attended = bus.timeout(SECOND / 20, disk.serve()).await;
        open.clear();
        disk.ready_within(SECOND / 4).await.unwrap();
    });
}

/// Whatever the bus does when a disk is to be closed, it is closed.
#[test]
fn a_wish_is_heard_at_any_moment() {
    for delay_us in (0..6_000).step_by(200) {
        with_disks(1, async |xen, ids, bus| {
            xen.set_store_latency(300_000);
            let disk = disk(bus, 0);
            disk.ready().await.unwrap();
            xen.restart_disk(ids[0]);
            let delay = Duration::from_micros(delay_us);
            let _attended = bus.timeout(delay, disk.serve()).await;
            let closed = bus.timeout(10 * SECOND, disk.close()).await;
            assert_eq!(closed, Ok(()), "after {delay_us} us");
            assert_eq!(disk.status(), Status::Closed);
            assert_eq!(state(xen).as_deref(), Some("6"), "after {delay_us} us");
        });
    }
}

#[test]
fn a_refusal_that_lasts_names_the_quota() {
    with_disks(2, async |xen, _, bus| {
        let mut watches = Vec::new();
        while let Ok(watch) = bus.store().watch(&format!("data/{}", watches.len())).await {
            watches.push(watch);
        }
        let disk = disk(bus, 0);
        let refused = disk.ready_within(SECOND).await.unwrap_err().to_string();
        assert!(refused.contains("quota of watches (128"), "{refused}");
        watches.truncate(120);
        disk.reconnect().await.unwrap();
        disk.close().await;

        let nodes = StoreQuotas {
            nodes: 20,
            ..StoreQuotas::default()
        };
        xen.set_store_quotas(nodes);
        let refused = self::disk(bus, 1);
        let refused = refused.ready_within(SECOND).await.unwrap_err().to_string();
        assert!(refused.contains("quota of nodes (1000"), "{refused}");
    });
}

#[test]
fn a_backend_that_refuses_is_not_asked_without_end() {
    with_disks(1, async |xen, _, bus| {
        xen.store_write(&format!("{DISK}/backend-id"), b"7")
            .unwrap();
        let disk = disk(bus, 0);
        let before = xen.store_changes(GUEST);
        let refused = disk.ready_within(60 * SECOND).await;
        let changes = xen.store_changes(GUEST) - before;
        assert!((10..60).contains(&changes), "{changes} writes in a minute");
        let Err(Error::NotReady(Status::Retrying { fault, attempts })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((fault, attempts), (Fault::Refused, 6));
        // The toolstack puts it right, and nobody has to ask for it.
        xen.store_write(&format!("{DISK}/backend-id"), b"0")
            .unwrap();
        disk.ready_within(SECOND).await.unwrap();
    });
}

#[test]
fn what_was_taken_away_is_not_brought_back() {
    for wants_close in [true, false] {
        with_disks(1, async |xen, ids, bus| {
            xen.set_store_latency(1_000_000);
            let disk = disk(bus, 0);
            disk.ready().await.unwrap();
            // All that was to be looked at has been.
            let settled = bus
                .timeout(SECOND, disk.status_change(Status::Connected))
                .await;
            assert_eq!(settled, Err(TimedOut));
            // Nobody looks again before the next is asked for.
            xen.remove_disk(ids[0]);
            if wants_close {
                disk.close().await;
                assert_eq!(disk.status(), Status::Closed);
            } else {
                let again = bus.timeout(SECOND, disk.reconnect()).await;
                assert_eq!(again.unwrap(), Err(Error::Gone));
            }
            assert_eq!(text(xen, DISK), None);
            assert_eq!(state(xen), None);
            drop(disk);
            assert_eq!(text(xen, DISK), None);
        });
    }
}

#[test]
fn backends_that_keep_pages_do_not_get_all_of_them() {
    with_disks(1, async |xen, ids, bus| {
        xen.disk_mischief(ids[0], Mischief::HoardAll);
        let disk = disk(bus, 0);
        let sectors = [7; 8 * 512];
        let mut waited = false;
        for _ in 0..400 {
            let written = bus.timeout(SECOND, disk.write(Sector(0), &sectors)).await;
            waited |= written.is_err();
            xen.restart_disk(ids[0]);
            // By itself the bus does not ask one again that ends so soon.
            let _again = bus.timeout(SECOND, disk.reconnect()).await;
        }
        let kept = bus.grants().quarantined();
        assert!(
            waited && (256..300).contains(&kept),
            "{kept} pages are kept"
        );
        let status = disk.status();
        let Status::Retrying { fault, .. } = status else {
            panic!("{status:?}");
        };
        assert_eq!(fault, Fault::Quarantine);
        const { assert!(MAX_QUARANTINED_PAGES == 256) };
        // The rest of the guest goes on.
        assert!(grant_tables::Page::new(bus.grants()).is_ok());
        disk.close().await;
    });
}
