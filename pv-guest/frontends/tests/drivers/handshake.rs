//! The handshake of devices with backends that flap, a store that refuses, and toolstacks
//! that give and take.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    time::Duration,
};

use futures_util::{FutureExt as _, select_biased};
use hypercall_abi::DomId;
use mock_hypervisor::{
    Config, DiskConfig, DiskId, Domain, Mischief, NicConfig, Outcome, StoreError, Time, Xen,
};
use pv_frontends::{
    blkfront::{self, Disk, Error, Sector, Status},
    netfront::{self, Nic},
    xenbus::{Bus, Fault, Quote, TimedOut},
};
use xenstore_client::ErrorKind;

use crate::kernel;

/// The first domain of a host.
const GUEST: DomId = DomId(1);
const SECOND: Duration = Duration::from_secs(1);
const DISK: &str = "/local/domain/1/device/vbd/51712";
const BACKEND: &str = "/local/domain/0/backend/vbd/1/51712";

/// Runs a guest that has a bus, in virtual time.
fn with_bus<T>(main: impl for<'g> AsyncFnOnce(&Xen, Bus<'g, &'g Domain>) -> T) -> T {
    let xen = Xen::new(Time::Virtual);
    let config = Config {
        memory_mib: 16,
        ..Config::default()
    };
    let domain = xen.domain(config).unwrap();
    let host = xen.clone();
    let outcome = domain.run(|domain| {
        kernel::run_until(domain, None, async |bus: Bus<'_, _>| main(&host, bus).await)
            .unwrap()
            .unwrap()
    });
    match outcome {
        Outcome::Returned(value) => value,
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

fn attach(xen: &Xen) -> DiskId {
    let config = DiskConfig {
        vdev: 51712,
        sectors: 64,
        ..DiskConfig::default()
    };
    xen.attach_disk(GUEST, config)
}

fn disk<'g>(bus: Bus<'g, &'g Domain>) -> Disk<'g, &'g Domain> {
    Disk::new(bus, "51712", blkfront::Config::default())
}

fn state(xen: &Xen) -> Option<String> {
    let value = xen.store_read(&format!("{DISK}/state")).ok()?;
    Some(String::from_utf8(value).unwrap())
}

/// Looks after the disk for so long.
async fn serve(bus: Bus<'_, &Domain>, disk: &Disk<'_, &Domain>, time: Duration) {
    let _closed = bus.timeout(time, disk.serve()).await;
}

/// What a guest has written into the store since `before`, which is less than one write a
/// second: a test that waits for the end of what goes on without end never fails.
fn few_changes(xen: &Xen, before: u64) -> u64 {
    let changes = xen.store_changes(GUEST) - before;
    assert!(changes < 120, "{changes} writes in 120 s, or less");
    changes
}

/// How long it takes until the disk is ready.
async fn time_to_ready(bus: Bus<'_, &Domain>, disk: &Disk<'_, &Domain>) -> Duration {
    let begun_ns = bus.now_ns();
    disk.status_change(Status::Connected).await;
    disk.ready_within(200 * SECOND).await.unwrap();
    Duration::from_nanos(bus.now_ns() - begun_ns)
}

#[test]
fn a_backend_that_connects_and_ends_is_not_asked_without_end() {
    with_bus(async |xen, bus| {
        let id = attach(xen);
        xen.set_store_latency(100_000);
        let disk = disk(bus);
        let before = xen.store_changes(GUEST);
        let begun_ns = bus.now_ns();
        let mut ends = 0;
        let mut why = None;
        while bus.now_ns() - begun_ns < 120_000_000_000 {
            serve(bus, &disk, Duration::from_millis(5)).await;
            if xen.disk_is_connected(id) {
                xen.restart_disk(id);
                ends += 1;
            }
            if let Status::Retrying { fault, attempts } = disk.status() {
                why = Some((fault, attempts));
            }
            few_changes(xen, before);
        }
        assert!((4..10).contains(&ends), "{ends} connections");
        assert_eq!(why, Some((Fault::Ended, ends)));

        // It is better now. What lasts for a while is right, and its next end is no failure.
        disk.ready_within(100 * SECOND).await.unwrap();
        serve(bus, &disk, 40 * SECOND).await;
        for _ in 0..2 {
            xen.restart_disk(id);
            let took = time_to_ready(bus, &disk).await;
            assert!(took < SECOND / 10, "{took:?}");
        }
    });
}

#[test]
fn a_backend_that_lies_and_begins_anew_is_not_asked_without_end() {
    with_bus(async |xen, bus| {
        let id = attach(xen);
        xen.set_store_latency(1_000_000);
        let disk = disk(bus);
        let before = xen.store_changes(GUEST);
        let begun_ns = bus.now_ns();
        let (mut lies, mut why) = (0, None);
        while bus.now_ns() - begun_ns < 120_000_000_000 {
            serve(bus, &disk, Duration::from_millis(5)).await;
            if disk.status() == Status::Connected {
                xen.disk_mischief(id, Mischief::Answer(77));
                // Who asks for nothing does not look at answers.
                let mut sector = [0; 512];
                let read = disk.read(Sector(0), &mut sector);
                let read = bus.timeout(Duration::from_millis(20), read);
                let ends = async {
                    // What it did is known, and it is asked how it is.
                    bus.sleep(Duration::from_micros(500)).await;
                    xen.restart_disk(id);
                };
                let (_failed, ()) = futures_util::join!(read, ends);
                lies += 1;
            }
            if let Status::Retrying { fault, attempts } = disk.status() {
                why = Some((fault, attempts));
            }
            few_changes(xen, before);
        }
        assert!((4..10).contains(&lies), "{lies} lies");
        // A lie costs an end, too.
        assert_eq!(why, Some((Fault::Ring, 2 * lies)));
    });
}

/// In which states a backend is, one after the other, when its frontend has come to one.
type Answers = &'static [(u32, &'static [u32])];

/// A backend of which only the states are there.
async fn answer_by_hand(
    xen: &Xen,
    bus: Bus<'_, &Domain>,
    disk: &Disk<'_, &Domain>,
    answers: Answers,
) -> u64 {
    const OTHER: &str = "/local/domain/0/backend/qdisk/1/51712";
    let say = |key: &str, value: &str| {
        let path = format!("{OTHER}/{key}");
        xen.store_write(&path, value.as_bytes()).unwrap();
        xen.store_share(&path, DomId(0), &[GUEST]).unwrap();
    };
    for (key, value) in [
        ("online", "1"),
        ("sectors", "64"),
        ("sector-size", "512"),
        ("info", "0"),
    ] {
        say(key, value);
    }
    xen.store_write(&format!("{DISK}/backend"), OTHER.as_bytes())
        .unwrap();
    let (before, begun_ns) = (xen.store_changes(GUEST), bus.now_ns());
    let mut answered = None;
    while bus.now_ns() - begun_ns < 120_000_000_000 {
        // It may have gone through several since.
        let now = (state(xen), xen.store_changes(GUEST));
        if answered.as_ref() != Some(&now) {
            let known = |(front, _): &&(u32, _)| Some(front.to_string()) == now.0;
            for state in answers.iter().find(known).map_or(&[][..], |(_, all)| all) {
                say("state", &state.to_string());
                serve(bus, disk, Duration::from_millis(2)).await;
            }
            answered = Some(now);
        }
        serve(bus, disk, Duration::from_millis(25)).await;
        few_changes(xen, before);
    }
    few_changes(xen, before)
}

#[test]
fn a_backend_out_of_step_is_not_asked_without_end() {
    use Fault::{Busy, Ended, Refused};
    // Each refuses again when it is asked again.
    let all: [(&str, Answers, Fault); 6] = [
        ("ends", &[(1, &[2]), (3, &[5]), (6, &[6])], Refused),
        ("begins anew", &[(1, &[2]), (3, &[1, 2])], Refused),
        ("is gone", &[(1, &[2]), (3, &[0, 1, 2])], Refused),
        ("works already", &[(1, &[4]), (5, &[5]), (6, &[6])], Busy),
        ("ends untold", &[(1, &[5]), (6, &[6])], Refused),
        (
            "works, and ends",
            &[(1, &[2]), (3, &[4]), (4, &[5, 6]), (6, &[6])],
            Ended,
        ),
    ];
    for (name, answers, why) in all {
        with_bus(async |xen, bus| {
            attach(xen);
            let disk = disk(bus);
            let changes = answer_by_hand(xen, bus, &disk, answers).await;
            assert!(changes >= 13, "{name}: {changes} writes in 120 s");
            let told = match disk.status() {
                Status::Retrying { fault, attempts } => Some((fault, attempts >= 6)),
                _ => None,
            };
            assert_eq!(told, Some((why, true)), "{name}: {:?}", disk.status());
        });
    }
}

/// States of a backend that refuses what it is told.
const ENDS: Answers = &[(1, &[2]), (3, &[5]), (6, &[6])];

#[test]
fn a_pause_is_for_the_backend_that_it_was_earned_by() {
    for is_new in [false, true] {
        with_bus(async |xen, bus| {
            attach(xen);
            let disk = disk(bus);
            let _changes = answer_by_hand(xen, bus, &disk, ENDS).await;
            assert!(matches!(disk.status(), Status::Retrying { .. }));
            // The next one is good.
            xen.store_write(&format!("{DISK}/backend"), BACKEND.as_bytes())
                .unwrap();
            if is_new {
                let took = time_to_ready(bus, &disk).await;
                assert!(took < SECOND, "{took:?}");
            }
        });
    }
}

#[test]
fn what_broke_a_disk_is_told_while_its_next_backend_waits() {
    with_bus(async |xen, bus| {
        let id = attach(xen);
        let disk = disk(bus);
        for _ in 0..3 {
            disk.ready_within(100 * SECOND).await.unwrap();
            xen.restart_disk(id);
            serve(bus, &disk, SECOND / 100).await;
        }
        disk.ready_within(100 * SECOND).await.unwrap();
        xen.disk_mischief(id, Mischief::Index(u32::MAX / 2));
        let mut sector = [0; 512];
        let read = disk.read(Sector(0), &mut sector).await;
        assert_eq!(read, Err(Error::Broken(Fault::Ring)));
        xen.disk_mischief(id, Mischief::State(2));
        serve(bus, &disk, SECOND / 10).await;
        let Status::Retrying { fault, attempts: 4 } = disk.status() else {
            panic!("{:?}", disk.status());
        };
        assert_eq!(fault, Fault::Ring);
    });
}

#[test]
fn whoever_asks_waits_for_no_pause() {
    with_bus(async |xen, bus| {
        let id = attach(xen);
        let disk = disk(bus);
        for _ in 0..4 {
            disk.ready_within(100 * SECOND).await.unwrap();
            xen.restart_disk(id);
            serve(bus, &disk, SECOND / 100).await;
        }
        assert!(matches!(disk.status(), Status::Retrying { .. }));
        let begun_ns = bus.now_ns();
        disk.reconnect().await.unwrap();
        assert!(bus.now_ns() - begun_ns < 100_000_000);
        serve(bus, &disk, 40 * SECOND).await;

        // The same of a pause because of the store.
        xen.store_refuse(u64::MAX, StoreError::EBUSY);
        xen.restart_disk(id);
        serve(bus, &disk, 20 * SECOND).await;
        xen.store_refuse(0, StoreError::EBUSY);
        let begun_ns = bus.now_ns();
        disk.reconnect().await.unwrap();
        let took_ns = bus.now_ns() - begun_ns;
        assert!(took_ns < 10_000_000, "{took_ns}");
    });
}

#[test]
fn a_store_that_refuses_is_not_asked_at_each_change() {
    with_bus(async |xen, bus| {
        const MANY: u64 = 200;
        let id = attach(xen);
        xen.set_store_latency(100_000);
        xen.disk_mischief(id, Mischief::State(1));
        let disk = disk(bus);
        serve(bus, &disk, SECOND).await;
        xen.store_refuse(MANY, StoreError::EBUSY);
        for round in 0..2_000 {
            // News, of which nothing comes.
            xen.store_write(&format!("{BACKEND}/news"), round.to_string().as_bytes())
                .unwrap();
            serve(bus, &disk, SECOND / 200).await;
        }
        let Status::Retrying { fault, attempts } = disk.status() else {
            panic!("{:?}", disk.status());
        };
        let busy = ErrorKind::Server(hypercall_abi::Errno::EBUSY);
        assert_eq!(fault, Fault::Store(busy));
        // 10 ms, 20, 40, up to 2 s each, in 10 s.
        assert!((8..16).contains(&attempts), "{attempts}");

        // A refusal that comes alone is the first one again, before a connection and behind.
        xen.store_refuse(0, StoreError::EBUSY);
        serve(bus, &disk, 5 * SECOND).await;
        xen.store_refuse(1, StoreError::EBUSY);
        xen.store_write(&format!("{BACKEND}/news"), b"more")
            .unwrap();
        serve(bus, &disk, SECOND / 200).await;
        let first = Fault::Store(busy);
        let (fault, attempts) = (first, 1);
        assert_eq!(disk.status(), Status::Retrying { fault, attempts });
        xen.disk_mischief(id, Mischief::State(2));
        disk.ready_within(10 * SECOND).await.unwrap();
        serve(bus, &disk, 40 * SECOND).await;
        xen.store_refuse(1, StoreError::EBUSY);
        xen.restart_disk(id);
        let took = time_to_ready(bus, &disk).await;
        assert!(took < SECOND / 10, "{took:?}");
    });
}

#[test]
fn a_close_that_is_refused_is_refused_for_the_first_time() {
    with_bus(async |xen, bus| {
        attach(xen);
        xen.set_store_latency(1_000_000);
        xen.store_refuse(30, StoreError::EBUSY);
        let disk = disk(bus);
        // Whoever waited for it goes on before anybody looks again.
        disk.ready().await.unwrap();
        xen.store_refuse(u64::MAX, StoreError::EBUSY);
        let looks = async {
            loop {
                if let Status::Retrying { attempts, .. } = disk.status() {
                    xen.store_refuse(0, StoreError::EBUSY);
                    return attempts;
                }
                bus.sleep(Duration::from_micros(100)).await;
            }
        };
        let both = async { futures_util::join!(disk.close(), looks) };
        let ((), attempts) = bus.timeout(10 * SECOND, both).await.unwrap();
        assert_eq!(attempts, 1);
    });
}

#[test]
fn a_pause_that_is_over_is_not_waited_for_again() {
    with_bus(async |xen, bus| {
        let id = attach(xen);
        let disk = disk(bus);
        for _ in 0..4 {
            disk.ready_within(100 * SECOND).await.unwrap();
            xen.restart_disk(id);
            serve(bus, &disk, SECOND / 100).await;
        }
        assert!(matches!(disk.status(), Status::Retrying { .. }));
        // It is busy when it is to be asked: nobody goes round until it is not.
        xen.disk_mischief(id, Mischief::State(4));
        let mut looks = 0;
        let mut serving = pin!(serve(bus, &disk, 100 * SECOND));
        poll_fn(|cx| {
            looks += 1;
            assert!(looks < 1_000, "it looks without end");
            serving.as_mut().poll(cx)
        })
        .await;
        assert_eq!(state(xen).as_deref(), Some("6"));
        xen.disk_mischief(id, Mischief::State(6));
        let took = time_to_ready(bus, &disk).await;
        assert!(took < SECOND / 10, "{took:?}");
    });
}

#[test]
fn a_watch_that_the_store_has_already_is_told_of_what_there_is() {
    with_bus(async |xen, bus| {
        attach(xen);
        xen.store_refuse(1, StoreError::EEXIST);
        let disk = disk(bus);
        disk.ready_within(SECOND).await.unwrap();
        let closed = bus.timeout(SECOND, disk.close()).await;
        assert_eq!(closed, Ok(()));
        assert_eq!(state(xen).as_deref(), Some("6"));
    });
}

/// What was to be said while no backend was known is not said to the one that is found: one
/// that has ended waits for a frontend that begins.
#[test]
fn a_disk_whose_watch_was_refused_begins_when_it_is_asked_to() {
    with_bus(async |xen, bus| {
        let id = attach(xen);
        xen.disk_mischief(id, Mischief::State(6));
        // Of the disk's own directory, for good.
        xen.store_refuse(1, StoreError::ENOSPC);
        let disk = disk(bus);
        serve(bus, &disk, SECOND).await;
        let status = disk.status();
        let is_quota = matches!(
            status,
            Status::Broken(Fault::Store(ErrorKind::Quota { .. }))
        );
        assert!(is_quota, "{status:?}");
        let _waits = bus.timeout(SECOND, disk.reconnect()).await;
        assert_eq!(state(xen).as_deref(), Some("1"));
        xen.disk_mischief(id, Mischief::State(2));
        disk.ready_within(SECOND).await.unwrap();
    });
}

#[test]
fn a_disk_is_closed_while_pages_are_waited_for() {
    for reconnects in [false, true] {
        with_bus(async |xen, bus| {
            let config = DiskConfig {
                vdev: 51712,
                sectors: 64,
                latency_ns: 1_000_000_000,
                ..DiskConfig::default()
            };
            let id = xen.attach_disk(GUEST, config);
            let disk = disk(bus);
            disk.ready().await.unwrap();
            xen.disk_mischief(id, Mischief::HoardAll);
            let writes = async {
                let _failed = bus
                    .timeout(20 * SECOND, disk.write(Sector(1), &[1; 512]))
                    .await;
            };
            let closes = async {
                bus.sleep(SECOND / 20).await;
                xen.restart_disk(id);
                bus.sleep(SECOND / 20).await;
                assert_eq!(disk.status(), Status::Connecting);
                let begun_ns = bus.now_ns();
                if reconnects {
                    // It begins again, and waits again.
                    let again = bus.timeout(SECOND, disk.reconnect()).await;
                    assert_eq!(again, Err(TimedOut));
                }
                disk.close().await;
                Duration::from_nanos(bus.now_ns() - begun_ns)
            };
            let ((), took) = futures_util::join!(writes, closes);
            let most = if reconnects { SECOND } else { Duration::ZERO };
            assert!(took < most + SECOND / 10, "{took:?}");
            assert_eq!(disk.status(), Status::Closed);
            assert_eq!(state(xen).as_deref(), Some("6"));
        });
    }
}

#[test]
fn what_is_there_again_is_not_gone() {
    with_bus(async |xen, bus| {
        // The handle was made before its device.
        let disk = disk(bus);
        assert_eq!(disk.ready_within(SECOND).await, Err(Error::Gone));
        for round in 0..2 {
            let id = attach(xen);
            // Its backend takes its time.
            xen.disk_mischief(id, Mischief::State(1));
            serve(bus, &disk, SECOND).await;
            assert_eq!(disk.status(), Status::Connecting, "{round}");
            let ready = disk.ready_within(SECOND).await;
            assert_eq!(ready, Err(Error::NotReady(Status::Connecting)));
            let written = async {
                let written = disk.write(Sector(0), &[1; 512]).await;
                assert_eq!(written, Ok(()));
            };
            let comes = async {
                bus.sleep(SECOND).await;
                xen.disk_mischief(id, Mischief::State(2));
            };
            futures_util::join!(written, comes);
            xen.remove_disk(id);
            serve(bus, &disk, SECOND).await;
            assert_eq!(disk.status(), Status::Gone, "{round}");
            // Asked for again, it is still gone.
            assert_eq!(disk.reconnect().await, Err(Error::Gone));
        }
    });
}

#[test]
fn an_interface_that_is_there_again_is_not_gone() {
    with_bus(async |xen, bus| {
        let nic = Nic::new(bus, "0", netfront::Config::default());
        assert_eq!(nic.ready_within(SECOND).await, Err(netfront::Error::Gone));
        let id = xen.attach_nic(GUEST, NicConfig::default());
        xen.nic_mischief(id, Mischief::State(1));
        let _closed = bus.timeout(SECOND, nic.serve()).await;
        assert_eq!(nic.status(), Status::Connecting);
        xen.nic_mischief(id, Mischief::State(2));
        nic.ready_within(SECOND).await.unwrap();
    });
}

#[test]
fn another_backend_behind_the_same_id_is_waited_for() {
    with_bus(async |xen, bus| {
        attach(xen);
        let disk = disk(bus);
        disk.ready().await.unwrap();
        let other = "/local/domain/0/backend/qdisk/1/51712";
        for (key, value) in [("state", "1"), ("online", "1")] {
            let path = format!("{other}/{key}");
            xen.store_write(&path, value.as_bytes()).unwrap();
            xen.store_share(&path, DomId(0), &[GUEST]).unwrap();
        }
        xen.store_write(&format!("{DISK}/backend"), other.as_bytes())
            .unwrap();
        xen.store_write(&format!("{DISK}/state"), b"1").unwrap();
        serve(bus, &disk, SECOND).await;
        assert_eq!(disk.status(), Status::Connecting);
    });
}

#[test]
fn a_broken_disk_is_waited_for_when_its_backend_is_made_anew() {
    with_bus(async |xen, bus| {
        let id = attach(xen);
        let disk = disk(bus);
        disk.ready().await.unwrap();
        // What it says of its disk cannot be.
        xen.disk_mischief(id, Mischief::Sectors("none"));
        serve(bus, &disk, SECOND).await;
        let broken = Status::Broken(Fault::Value("sectors"));
        assert_eq!(disk.status(), broken);
        let other = "/local/domain/0/backend/qdisk/1/51712";
        xen.store_write(&format!("{other}/state"), b"1").unwrap();
        xen.store_share(&format!("{other}/state"), DomId(0), &[GUEST])
            .unwrap();
        xen.store_write(&format!("{DISK}/backend"), other.as_bytes())
            .unwrap();
        serve(bus, &disk, SECOND).await;
        assert_eq!(disk.status(), Status::Connecting);
    });
}

#[test]
fn a_refusal_of_what_is_to_go_is_told() {
    with_bus(async |xen, bus| {
        let id = attach(xen);
        // The backend cannot serve it, and the toolstack takes it away.
        xen.store_write(&format!("{DISK}/backend-id"), b"7")
            .unwrap();
        xen.store_write(&format!("{BACKEND}/online"), b"0").unwrap();
        let disk = disk(bus);
        let going = Error::Broken(Fault::TakenAway);
        assert_eq!(bus.timeout(60 * SECOND, disk.ready()).await, Ok(Err(going)));
        assert_eq!(state(xen).as_deref(), Some("6"));
        assert!(going.to_string().contains("takes it away"), "{going}");
        // Asked for again, it is so again.
        let again = bus.timeout(60 * SECOND, disk.reconnect()).await;
        assert_eq!(again, Ok(Err(going)));
        xen.remove_disk(id);
        serve(bus, &disk, SECOND).await;
        assert_eq!(disk.status(), Status::Gone);
    });
}

#[test]
fn what_is_to_stay_after_all_is_connected() {
    with_bus(async |xen, bus| {
        attach(xen);
        xen.store_write(&format!("{DISK}/backend-id"), b"7")
            .unwrap();
        xen.store_write(&format!("{BACKEND}/online"), b"0").unwrap();
        let disk = disk(bus);
        let going = Error::Broken(Fault::TakenAway);
        assert_eq!(disk.ready_within(60 * SECOND).await, Err(going));
        // It is waited for again, though it is not asked yet.
        xen.store_write(&format!("{BACKEND}/online"), b"1").unwrap();
        let before = xen.store_changes(GUEST);
        serve(bus, &disk, SECOND / 20).await;
        assert_eq!(disk.status(), Status::Connecting);
        assert_eq!(xen.store_changes(GUEST), before);
        xen.store_write(&format!("{DISK}/backend-id"), b"0")
            .unwrap();
        serve(bus, &disk, 10 * SECOND).await;
        assert_eq!(disk.status(), Status::Connected);
    });
}

#[test]
fn closed_is_not_said_before_the_store_says_so() {
    with_bus(async |xen, bus| {
        attach(xen);
        let disk = disk(bus);
        disk.ready().await.unwrap();
        serve(bus, &disk, SECOND).await;
        xen.store_refuse(u64::MAX, StoreError::EBUSY);
        let closed = bus.timeout(60 * SECOND, disk.close()).await;
        assert_eq!(closed, Err(TimedOut));
        let Status::Retrying { fault, .. } = disk.status() else {
            panic!("{:?}", disk.status());
        };
        let busy = ErrorKind::Server(hypercall_abi::Errno::EBUSY);
        assert_eq!(fault, Fault::Store(busy));
        assert_eq!(state(xen).as_deref(), Some("4"));
        xen.store_refuse(0, StoreError::EBUSY);
        let closed = bus.timeout(3 * SECOND, disk.serve()).await;
        assert_eq!((closed, disk.status()), (Ok(()), Status::Closed));
        assert_eq!(state(xen).as_deref(), Some("6"));
    });
}

#[test]
fn what_the_store_refuses_for_good_keeps_nobody_from_closing() {
    with_bus(async |xen, bus| {
        attach(xen);
        let disk = disk(bus);
        disk.ready().await.unwrap();
        serve(bus, &disk, SECOND).await;
        xen.store_refuse(u64::MAX, StoreError::EACCES);
        let begun_ns = bus.now_ns();
        assert_eq!(bus.timeout(60 * SECOND, disk.close()).await, Ok(()));
        assert_eq!(disk.status(), Status::Closed);
        assert!(bus.now_ns() - begun_ns < 1_000_000_000);
        assert_eq!(state(xen).as_deref(), Some("4"));
    });
}

#[test]
fn whoever_sees_closed_finds_it_in_the_store() {
    with_bus(async |xen, bus| {
        attach(xen);
        let disk = disk(bus);
        disk.ready().await.unwrap();
        xen.set_store_latency(1_000_000);
        let closes = async {
            disk.close().await;
            assert_eq!(state(xen).as_deref(), Some("6"));
        };
        let looks = async {
            let mut looks = 0;
            while disk.status() != Status::Closed {
                looks += 1;
                bus.sleep(Duration::from_micros(10)).await;
            }
            assert_eq!(state(xen).as_deref(), Some("6"));
            looks
        };
        let both = async { futures_util::join!(closes, looks) };
        let ((), looks) = bus.timeout(10 * SECOND, both).await.unwrap();
        assert!(looks > 100, "{looks}");
    });
}

#[test]
fn broken_is_not_said_before_the_store_says_so() {
    with_bus(async |xen, bus| {
        let id = attach(xen);
        xen.set_store_latency(1_000_000);
        let disk = disk(bus);
        disk.ready().await.unwrap();
        serve(bus, &disk, SECOND).await;
        xen.disk_mischief(id, Mischief::Answer(77));
        xen.store_refuse(40, StoreError::EBUSY);
        let mut looked = 0;
        while !matches!(disk.status(), Status::Broken(_)) {
            assert!(looked < 100_000, "{:?}", disk.status());
            looked += 1;
            let mut sector = [0; 512];
            select_biased! {
                _ = disk.read(Sector(0), &mut sector).fuse() => {}
                () = kernel::pause().fuse() => {}
            }
        }
        assert_eq!(state(xen).as_deref(), Some("5"));
    });
}

#[test]
fn a_device_whose_keys_make_no_sense_says_which() {
    for (key, value, is_right) in [
        ("backend-id", "0x0", true),
        ("backend-id", "-0", true),
        ("backend-id", "00\n", true),
        ("backend-id", "0.0", false),
        ("backend-id", "-1", false),
        ("backend-id", "65536", false),
        ("backend-id", "", false),
        ("backend", "", false),
        ("backend", "//", false),
        ("backend", "a b", false),
    ] {
        with_bus(async |xen, bus| {
            attach(xen);
            let path = format!("{DISK}/{key}");
            let right = xen.store_read(&path).unwrap();
            xen.store_write(&path, value.as_bytes()).unwrap();
            let disk = disk(bus);
            let ready = disk.ready_within(SECOND).await;
            if is_right {
                assert!(ready.is_ok(), "{key} {value:?}: {ready:?}");
                return;
            }
            let quote = Quote::new(value.as_bytes());
            let fault = Fault::Device { key, value: quote };
            assert_eq!(ready, Err(Error::Broken(fault)));
            let text = fault.to_string();
            assert!(text.contains(key) && text.contains(&format!("{value:?}")));
            let told = xen.store_read("/local/domain/1/error/device/vbd/51712/error");
            assert_eq!(told, Ok(text.into_bytes()));
            // The toolstack puts it right, and nobody has to ask for it.
            xen.store_write(&path, &right).unwrap();
            serve(bus, &disk, SECOND).await;
            assert_eq!(disk.status(), Status::Connected, "{key} {value:?}");
        });
    }
}

/// A backend without what the frontend needs, which begins anew again and again.
#[test]
fn a_backend_that_will_not_do_is_not_asked_without_end() {
    const OTHER: &str = "/local/domain/0/backend/qnic/1/0";
    const NIC: &str = "/local/domain/1/device/vif/0";
    with_bus(async |xen, bus| {
        xen.attach_nic(GUEST, NicConfig::default());
        let say = |key: &str, value: &str| {
            let path = format!("{OTHER}/{key}");
            xen.store_write(&path, value.as_bytes()).unwrap();
            xen.store_share(&path, DomId(0), &[GUEST]).unwrap();
        };
        say("online", "1");
        say("state", "2");
        xen.store_write(&format!("{NIC}/backend"), OTHER.as_bytes())
            .unwrap();
        let nic = Nic::new(bus, "0", netfront::Config::default());
        let (before, begun_ns) = (xen.store_changes(GUEST), bus.now_ns());
        let mut why = None;
        while bus.now_ns() - begun_ns < 120_000_000_000 {
            for state in ["6", "2"] {
                let _looked = bus.timeout(Duration::from_millis(20), nic.serve()).await;
                match xen.store_read(&format!("{NIC}/state")).as_deref() {
                    Ok(b"1") => say("state", "2"),
                    Ok(b"6") => say("state", state),
                    _ => {}
                }
            }
            if let Status::Retrying { fault, attempts } = nic.status() {
                why = Some((fault, attempts >= 6));
            }
            few_changes(xen, before);
        }
        let changes = few_changes(xen, before);
        assert!(changes >= 20, "{changes} writes in 120 s");
        assert_eq!(why, Some((Fault::Lacks("feature-rx-copy"), true)));
    });
}

/// A toolstack may make a device key by key, in any order.
#[test]
fn a_device_that_is_made_key_by_key_is_connected() {
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        with_bus(async |xen, bus| {
            attach(xen);
            let keys = ["backend", "backend-id", "state"].map(|key| {
                let path = format!("{DISK}/{key}");
                let value = xen.store_read(&path).unwrap();
                (path, value)
            });
            for (path, _) in &keys {
                xen.store_remove(path).unwrap();
            }
            let disk = disk(bus);
            serve(bus, &disk, SECOND).await;
            assert_eq!(disk.status(), Status::Gone, "{order:?}");
            for (path, value) in order.map(|at| &keys[at]) {
                xen.store_write(path, value).unwrap();
                xen.store_share(path, GUEST, &[DomId(0)]).unwrap();
                serve(bus, &disk, SECOND / 10).await;
            }
            assert_eq!(disk.status(), Status::Connected, "{order:?}");
            assert_eq!(state(xen).as_deref(), Some("4"), "{order:?}");
            disk.write(Sector(0), &[7; 512]).await.unwrap();
            disk.close().await;
            assert_eq!(state(xen).as_deref(), Some("6"), "{order:?}");
        });
    }
}

#[test]
fn a_disk_that_is_taken_away_after_two_ends_is_gone() {
    with_bus(async |xen, bus| {
        let id = attach(xen);
        let disk = disk(bus);
        disk.ready().await.unwrap();
        for _ in 0..2 {
            xen.restart_disk(id);
            serve(bus, &disk, SECOND).await;
            assert_eq!(disk.status(), Status::Connected);
        }
        xen.remove_disk(id);
        serve(bus, &disk, SECOND).await;
        let mut sector = [0; 512];
        let read = disk.read(Sector(0), &mut sector);
        let read = bus.timeout(3600 * SECOND, read).await;
        assert_eq!((disk.status(), read), (Status::Gone, Ok(Err(Error::Gone))));
    });
}
