//! Who waits for a device and leaves keeps nobody else from it, and nobody is kept from a
//! device of his own by those of others.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use mock_hypervisor::{Config, DiskConfig, DiskId, Domain, NicConfig, Outcome, Time, Xen};
use pv_frontends::{
    blkfront::{self, Disk, Sector, Volume},
    netfront::{self, Nic},
    xenbus::{Bus, Fault, Status},
};

use crate::kernel;

const MINUTE: Duration = Duration::from_secs(60);

/// A disk whose backend takes a while.
fn slow() -> DiskConfig {
    DiskConfig {
        latency_ns: 1_000_000,
        ..DiskConfig::default()
    }
}

/// Runs a guest with these disks and an interface.
fn with_devices<T>(
    disks: impl IntoIterator<Item = DiskConfig>,
    main: impl for<'g> AsyncFnOnce(&Xen, &[DiskId], Bus<'g, &'g Domain>) -> T,
) -> T {
    let xen = Xen::new(Time::Virtual);
    let config = Config {
        memory_mib: 16,
        ..Config::default()
    };
    let domain = xen.domain(config).unwrap();
    let disks = disks.into_iter();
    let ids: Vec<DiskId> = disks
        .map(|it| xen.attach_disk(domain.domid(), it))
        .collect();
    xen.attach_nic(domain.domid(), NicConfig::default());
    let outcome = domain.run(|domain| {
        let value = kernel::run_until(domain, Some(600_000_000_000), async |bus: Bus<'_, _>| {
            main(&xen, &ids, bus).await
        });
        value.unwrap().expect("it waits for ever")
    });
    match outcome {
        Outcome::Returned(value) => value,
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

fn disk<'g>(bus: Bus<'g, &'g Domain>) -> Disk<'g, &'g Domain> {
    Disk::new(bus, "51712", blkfront::Config::default())
}

fn nic<'g>(bus: Bus<'g, &'g Domain>) -> Nic<'g, &'g Domain> {
    Nic::new(bus, "0", netfront::Config::default())
}

/// A task that is not polled.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Polls a future once, for a task that says whether it was woken.
fn poll_once<F: Future + Unpin>(future: &mut F) -> (Poll<F::Output>, Arc<Flag>) {
    let flag = Arc::<Flag>::default();
    let waker = Waker::from(Arc::clone(&flag));
    let polled = Pin::new(future).poll(&mut Context::from_waker(&waker));
    (polled, flag)
}

/// Tasks of which each has a waker of its own.
struct Tasks<'f, T>(FuturesUnordered<LocalBoxFuture<'f, T>>);

impl<'f, T> Tasks<'f, T> {
    /// Polls them until they wait.
    async fn begin(tasks: impl IntoIterator<Item = LocalBoxFuture<'f, T>>) -> Self {
        let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        let wait = poll_fn(|cx| Poll::Ready(tasks.poll_next_unpin(cx).is_pending()));
        assert!(wait.await);
        Self(tasks)
    }

    /// What came of them; in a minute, all of them have ended.
    async fn end(self, bus: Bus<'_, &Domain>) -> Vec<T> {
        let all = bus.timeout(MINUTE, self.0.collect()).await;
        all.expect("a task waits for ever")
    }
}

/// Who wait for a connection, and the last who asked leaves.
#[test]
fn who_waits_for_a_connection_gets_it_though_another_left() {
    for leaver in 0..5 {
        with_devices([DiskConfig::default()], async |xen, _, bus| {
            xen.set_store_latency(1_000_000);
            let (disk, nic) = (disk(bus), nic(bus));
            let waiting: LocalBoxFuture<'_, bool> = match leaver {
                0..4 => disk.ready().map(|ready| ready.is_ok()).boxed_local(),
                _ => nic.ready().map(|ready| ready.is_ok()).boxed_local(),
            };
            let tasks = Tasks::begin([waiting]).await;
            let mut leaving: LocalBoxFuture<'_, ()> = match leaver {
                0 => disk.ready().map(drop).boxed_local(),
                1 => disk.ready_within(MINUTE).map(drop).boxed_local(),
                2 => disk.status_change(disk.status()).map(drop).boxed_local(),
                3 => disk.serve().boxed_local(),
                _ => nic.serve().boxed_local(),
            };
            assert!(poll_once(&mut leaving).0.is_pending());
            drop(leaving);
            assert_eq!(tasks.end(bus).await, [true]);
        });
    }
}

/// A request goes on, its backend begins anew, and who looked at that leaves.
#[test]
fn a_request_is_done_though_who_looked_at_the_connection_left() {
    with_devices([slow()], async |xen, ids, bus| {
        xen.set_store_latency(1_000_000);
        let disk = disk(bus);
        disk.ready().await.unwrap();
        let mut bytes = [0; 512];
        xen.restart_disk(ids[0]);
        let read = disk.read(Sector(0), &mut bytes);
        let tasks = Tasks::begin([read.boxed_local()]).await;
        let mut leaving = disk.status_change(disk.status()).boxed_local();
        assert!(poll_once(&mut leaving).0.is_pending());
        drop(leaving);
        assert_eq!(tasks.end(bus).await, [Ok(())]);
    });
}

/// Parts of one large sector: the first who writes is there, or has gone as well.
#[test]
fn a_part_of_a_sector_is_written_though_another_gave_up() {
    for (first_stays, another_looks) in [(true, false), (false, false), (false, true)] {
        let config = DiskConfig {
            sector_bytes: 4096,
            ..slow()
        };
        with_devices([config], async |_, _, bus| {
            let disk = disk(bus);
            let volume = Volume::whole(&disk).await.unwrap();
            let part = [7; 512];
            let parts = [&part[..]];
            let mut first = volume.write(Sector(1), &parts).boxed_local();
            if !first_stays {
                // Its write is in the ring, and nobody looks for the answer.
                let whole = [5; 4096];
                let mut write = disk.write(Sector(0), &whole).boxed_local();
                assert!(poll_once(&mut write).0.is_pending());
                drop(write);
                assert!(poll_once(&mut first).0.is_pending());
            }
            let tasks = Tasks::begin([first]).await;
            let mut bytes = [0; 4096];
            let mut leaving = match another_looks {
                // It looks at the ring for all, and waits for no sector.
                true => disk.read(Sector(64), &mut bytes).boxed_local(),
                false => volume.write(Sector(2), &parts).boxed_local(),
            };
            assert!(poll_once(&mut leaving).0.is_pending());
            // One who looks at the connection looks at no ring.
            let mut changed = disk.status_change(disk.status()).boxed_local();
            if another_looks {
                assert!(poll_once(&mut changed).0.is_pending());
            }
            drop(leaving);
            assert_eq!(tasks.end(bus).await, [Ok(())]);
        });
    }
}

/// Forty who wait for room and leave, some of them just when they were told of it: there
/// are no more pages, or the ring is full.
#[test]
fn room_is_told_to_those_who_are_still_there() {
    for (max_pages, in_flight) in [(2, 2), (1024, 32)] {
        for told in [false, true] {
            with_devices([slow()], async |_, _, bus| {
                let config = blkfront::Config {
                    max_pages,
                    ..blkfront::Config::default()
                };
                let disk = Disk::new(bus, "51712", config);
                disk.ready().await.unwrap();
                let page = [1; 4096];
                let write = |at: u64| disk.write(Sector(at * 8), &page).boxed_local();
                let mut sent: Vec<_> = (0..in_flight).map(write).collect();
                for write in &mut sent {
                    assert!(poll_once(write).0.is_pending());
                }
                let mut leaving: Vec<_> = (50..90).map(write).collect();
                let polled = leaving.iter_mut().map(poll_once);
                let flags: Vec<_> = polled.map(|(_, flag)| flag).collect();
                let mut tasks = Tasks::begin((90..93).map(write)).await;
                let mut leaving = Some(leaving).filter(|_| told);
                // All is answered, and taken by one of those who wait for room.
                let all = tasks.0.next();
                assert!(bus.timeout(Duration::from_millis(20), all).await.is_err());
                for write in &mut sent {
                    assert_eq!(poll_once(write).0, Poll::Ready(Ok(())));
                }
                let was_told = flags.iter().any(|flag| flag.0.load(Ordering::SeqCst));
                assert!(was_told || !told);
                drop(leaving.take());
                assert_eq!(tasks.end(bus).await, [Ok(()); 3]);
            });
        }
    }
}

/// One request had all pages: what it gives back is room for several.
#[test]
fn room_for_several_is_told_to_several() {
    with_devices([slow()], async |_, _, bus| {
        let config = blkfront::Config {
            max_pages: 8,
            ..blkfront::Config::default()
        };
        let disk = Disk::new(bus, "51712", config);
        disk.ready().await.unwrap();
        let bytes = [1; 8 * 4096];
        let mut large = disk.write(Sector(0), &bytes).boxed_local();
        assert!(poll_once(&mut large).0.is_pending());
        let small = (0..8).map(|at| disk.write(Sector(at * 8), &bytes[..4096]).boxed_local());
        let tasks = Tasks::begin(small).await;
        large.await.unwrap();
        let begin_ns = bus.now_ns();
        assert_eq!(tasks.end(bus).await, [Ok(()); 8]);
        let took_ns = bus.now_ns() - begin_ns;
        assert!(took_ns < 2 * 1_000_000, "one after the other: {took_ns} ns");
    });
}

#[test]
fn nothing_is_kept_of_those_who_left() {
    with_devices([slow()], async |xen, ids, bus| {
        let disk = disk(bus);
        disk.ready().await.unwrap();
        xen.remove_disk(ids[0]);
        disk.status_change(Status::Connected).await;
        let mut flags = Vec::new();
        let mut stays = disk.status_change(disk.status()).boxed_local();
        for _ in 0..100 {
            let mut changed = disk.status_change(disk.status()).boxed_local();
            flags.push(poll_once(&mut changed).1);
            let mut serving = disk.serve().boxed_local();
            flags.push(poll_once(&mut serving).1);
            // The last who asked is another.
            assert!(poll_once(&mut stays).0.is_pending());
            kernel::pause().await;
        }
        let kept = flags.iter().filter(|flag| Arc::strong_count(flag) > 1);
        // The last may be the one that the store or a port knows.
        assert!(kept.count() < 4);
    });
}

/// All that serve a disk are told of its end.
#[test]
fn all_who_serve_a_disk_hear_of_its_end() {
    with_devices([slow()], async |xen, _, bus| {
        xen.set_store_latency(1_000_000);
        let disk = disk(bus);
        disk.ready().await.unwrap();
        let tasks = Tasks::begin((0..3).map(|_| disk.serve().boxed_local())).await;
        disk.close().await;
        assert_eq!(tasks.end(bus).await, [(); 3]);
    });
}

#[test]
fn what_is_closed_stays_closed_and_another_handle_begins_anew() {
    with_devices([slow()], async |_, _, bus| {
        for _ in 0..2 {
            let (disk, nic) = (disk(bus), nic(bus));
            disk.ready().await.unwrap();
            nic.ready().await.unwrap();
            disk.close().await;
            nic.close().await;
            let again = bus.timeout(MINUTE, disk.reconnect()).await.unwrap();
            assert_eq!(again, Err(blkfront::Error::Closed));
            let again = bus.timeout(MINUTE, nic.reconnect()).await.unwrap();
            assert_eq!(again.map(drop), Err(netfront::Error::Closed));
            for _ in 0..2 {
                bus.timeout(MINUTE, disk.close()).await.unwrap();
                bus.timeout(MINUTE, nic.close()).await.unwrap();
            }
            assert_eq!(
                (disk.status(), nic.status()),
                (Status::Closed, Status::Closed)
            );
        }
    });
}

#[test]
fn a_device_has_one_driver() {
    with_devices([slow()], async |xen, _, bus| {
        let (disk_1, disk_2) = (disk(bus), disk(bus));
        let (nic_1, nic_2) = (nic(bus), nic(bus));
        disk_1.ready().await.unwrap();
        nic_1.ready().await.unwrap();
        let taken = Fault::Taken;
        let changes = xen.store_changes(hypercall_abi::DomId(1));
        for _ in 0..2 {
            assert_eq!(disk_2.ready().await, Err(blkfront::Error::Broken(taken)));
            assert_eq!(
                disk_2.reconnect().await,
                Err(blkfront::Error::Broken(taken))
            );
            let refused = nic_2.reconnect().await.map(drop);
            assert_eq!(refused, Err(netfront::Error::Broken(taken)));
        }
        // The first work on, and the store has heard nothing of the others.
        let mut bytes = [0; 512];
        disk_1.read(Sector(0), &mut bytes).await.unwrap();
        assert_eq!(
            disk_2.read(Sector(0), &mut bytes).await,
            Err(blkfront::Error::Broken(taken))
        );
        assert_eq!(
            (disk_1.status(), nic_1.status()),
            (Status::Connected, Status::Connected)
        );
        assert_eq!(xen.store_changes(hypercall_abi::DomId(1)), changes);
        // Dropped or closed, they are the others'.
        drop(disk_1);
        nic_1.close().await;
        bus.timeout(MINUTE, disk_2.reconnect())
            .await
            .unwrap()
            .unwrap();
        bus.timeout(MINUTE, nic_2.reconnect())
            .await
            .unwrap()
            .unwrap();
        disk_2.read(Sector(0), &mut bytes).await.unwrap();
        // One that never had it is closed at once.
        let disk_3 = disk(bus);
        bus.timeout(MINUTE, disk_3.close()).await.unwrap();
        assert_eq!(
            (disk_3.status(), disk_2.status()),
            (Status::Closed, Status::Connected)
        );
    });
}

/// Of twelve disks whose users look at nothing more, each has come as far into its handshake
/// as so many looks bring it: another connects, and so do they when they are looked at.
#[test]
fn a_handshake_that_nobody_goes_on_with_keeps_nobody_from_theirs() {
    for looks in 1..24 {
        let disks = (0..13).map(|at| DiskConfig {
            vdev: 51712 + at * 16,
            ..DiskConfig::default()
        });
        with_devices(disks, async |xen, _, bus| {
            xen.set_store_latency(1_000_000);
            let of = |at: u32| {
                let id = (51712 + at * 16).to_string();
                Disk::new(bus, id, blkfront::Config::default())
            };
            let disks: Vec<_> = (0..13).map(of).collect();
            let (last, left) = disks.split_last().unwrap();
            let mut kept = Vec::new();
            for disk in left {
                let mut ready = Box::pin(disk.ready());
                for _ in 0..looks {
                    if poll_once(&mut ready).0.is_ready() {
                        break;
                    }
                    bus.sleep(Duration::from_micros(1100)).await;
                }
                // Half of them are not even dropped.
                kept.extend((kept.len() % 2 == 0).then_some(ready));
            }
            let ready = last.ready_within(MINUTE).await;
            assert!(ready.is_ok(), "after {looks} looks: {ready:?}");
            drop(kept);
            for disk in left {
                let ready = disk.ready_within(MINUTE).await;
                assert!(ready.is_ok(), "after {looks} looks: {ready:?}");
            }
        });
    }
}
