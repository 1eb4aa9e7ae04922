//! Devices that are taken away, given back, or given to another backend before anybody
//! looks: what the store has of the next is not written over.

use std::time::Duration;

use futures_util::poll;
use hypercall_abi::DomId;
use mock_hypervisor::{Config, DiskConfig, DiskId, Domain, Mischief, Outcome, Time, Xen};
use pv_frontends::{
    blkfront::{self, Disk, Error, Sector, Status},
    xenbus::Bus,
};

use crate::kernel;

const SECOND: Duration = Duration::from_secs(1);
/// The guest, the first domain of a host, and another.
const GUEST: DomId = DomId(1);
const OTHER: DomId = DomId(2);
const FOLDER: &str = "/local/domain/1/device/vbd";

/// Runs a guest with a disk, whose store answers after a while.
fn with_disk(main: impl for<'g> AsyncFnOnce(&Xen, DiskId, Disk<'g, &'g Domain>)) {
    let xen = Xen::new(Time::Virtual);
    let domain = xen.domain(Config::default()).unwrap();
    let _other = xen.domain(Config::default()).unwrap();
    let id = xen.attach_disk(GUEST, DiskConfig::default());
    xen.set_store_latency(100_000);
    let outcome = domain.run(|domain| {
        let done = kernel::run_until(domain, Some(60_000_000_000), async |bus: Bus<'_, _>| {
            main(
                &xen,
                id,
                Disk::new(bus, "51712", blkfront::Config::default()),
            )
            .await;
        });
        done.unwrap().expect("it waits for ever");
    });
    assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
}

fn state(xen: &Xen) -> Option<String> {
    let value = xen.store_read(&format!("{FOLDER}/51712/state")).ok()?;
    Some(String::from_utf8(value).unwrap())
}

/// Connects it, and looks until there is nothing to look at.
async fn settle(disk: &Disk<'_, &Domain>) {
    disk.ready().await.unwrap();
    let change = disk.status_change(Status::Connected);
    assert!(disk.bus().timeout(SECOND, change).await.is_err());
}

/// Also where a guest may make devices: what is not there is not made by telling its state.
#[test]
fn what_was_taken_away_is_not_made_anew() {
    for wants_close in [true, false] {
        with_disk(async |xen, id, disk| {
            settle(&disk).await;
            xen.store_give(FOLDER, GUEST).unwrap();
            xen.remove_disk(id);
            if wants_close {
                disk.close().await;
                assert_eq!(disk.status(), Status::Closed);
            } else {
                assert_eq!(disk.reconnect().await, Err(Error::Gone));
            }
            assert_eq!(xen.store_read(&format!("{FOLDER}/51712")).ok(), None);
            drop(disk);
            assert_eq!(xen.store_read(&format!("{FOLDER}/51712")).ok(), None);
        });
    }
}

/// The same disk again, which is another: whoever closes the first says nothing of it.
#[test]
fn one_that_was_given_back_is_not_closed_by_the_old() {
    for drops in [false, true] {
        with_disk(async |xen, id, disk| {
            settle(&disk).await;
            xen.remove_disk(id);
            let next = xen.attach_disk(GUEST, DiskConfig::default());
            assert_eq!(state(xen).as_deref(), Some("1"));
            let bus = disk.bus();
            if !drops {
                disk.close().await;
                assert_eq!(disk.status(), Status::Closed);
                assert_eq!(state(xen).as_deref(), Some("1"));
                assert!(!xen.disk_is_connected(next));
            }
            drop(disk);
            let again = Disk::new(bus, "51712", blkfront::Config::default());
            again.ready_within(10 * SECOND).await.unwrap();
            again.close().await;
        });
    }
}

/// Whoever goes on using it goes on with the new one.
#[test]
fn one_that_was_given_back_is_connected() {
    with_disk(async |xen, mut id, disk| {
        settle(&disk).await;
        for round in 1..4 {
            xen.remove_disk(id);
            id = xen.attach_disk(GUEST, DiskConfig::default());
            let written = async {
                while disk.write(Sector(0), &[round; 512]).await.is_err() {
                    kernel::pause().await;
                }
            };
            disk.bus().timeout(SECOND, written).await.unwrap();
            assert_eq!(xen.disk_content(id)[..512], [round; 512]);
            settle(&disk).await;
        }
        disk.close().await;
    });
}

/// Another domain's disk, in whose directory the state is as this one left it.
#[test]
fn anothers_disk_is_not_closed() {
    with_disk(async |xen, _, disk| {
        settle(&disk).await;
        let other = DiskConfig {
            backend: OTHER,
            ..DiskConfig::default()
        };
        xen.attach_disk(GUEST, other);
        let path = format!("{FOLDER}/51712/state");
        xen.store_write(&path, b"4").unwrap();
        disk.close().await;
        assert_eq!(disk.status(), Status::Closed);
        assert_eq!(state(xen).as_deref(), Some("4"));
    });
}

/// One that was never connected has nothing to end.
#[test]
fn one_that_was_never_connected_is_left_as_it_was() {
    with_disk(async |xen, id, disk| {
        // Its backend does not begin.
        xen.disk_mischief(id, Mischief::State(1));
        let ready = disk.ready_within(SECOND).await;
        assert!(matches!(ready, Err(Error::NotReady(_))), "{ready:?}");
        let bus = disk.bus();
        drop(disk);
        bus.sleep(SECOND).await;
        assert_eq!(state(xen).as_deref(), Some("1"));
    });
    with_disk(async |xen, _, disk| {
        assert!(poll!(Box::pin(disk.ready())).is_pending());
        let bus = disk.bus();
        drop(disk);
        bus.sleep(SECOND).await;
        assert_eq!(state(xen).as_deref(), Some("1"));
    });
}

#[test]
fn what_an_earlier_frontend_left_is_closed() {
    with_disk(async |xen, _, disk| {
        let path = format!("{FOLDER}/51712/state");
        xen.store_write(&path, b"4").unwrap();
        // Nobody has looked at it yet.
        disk.close().await;
        assert_eq!(disk.status(), Status::Closed);
        assert_eq!(state(xen).as_deref(), Some("6"));
    });
}

/// Wherever its future was dropped: no backend has the rings of a frontend that is no more.
#[test]
fn one_that_is_dropped_while_it_is_being_connected_leaves_no_ring() {
    for step in 0..60 {
        with_disk(async |xen, id, disk| {
            xen.set_store_latency(1_000_000);
            let bus = disk.bus();
            let time = Duration::from_micros(500) * step;
            let _ready = bus.timeout(time, disk.ready()).await;
            drop(disk);
            // The store's ring may have been full: somebody's next request sends the rest.
            bus.devices("vbd").await.unwrap();
            bus.sleep(SECOND).await;
            let state = state(xen);
            let is_over = matches!(state.as_deref(), Some("1" | "6"));
            assert!(is_over, "{state:?} after {time:?}");
            assert!(!xen.disk_is_connected(id), "after {time:?}");
        });
    }
}
