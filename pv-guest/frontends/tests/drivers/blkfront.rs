//! Disks, with backends that are honest, weak, or mean harm.

use hypercall_abi::io::blkif::VdiskInfo;
use mock_hypervisor::{Config, DiskConfig, Domain, Medium, Mischief, Outcome, Suspend, Time, Xen};
use pv_frontends::{
    blkfront::{self, Discard, Disk, Error, Flush, Mode, Sector, Status},
    xenbus::{Bus, Fault},
};

use crate::kernel;

/// Bytes that tell where they are.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|at| (at / 512) as u8 ^ (at as u8).wrapping_mul(31) ^ seed)
        .collect()
}

fn guest(xen: &Xen) -> Domain {
    let config = Config {
        memory_mib: 16,
        ..Config::default()
    };
    xen.domain(config).unwrap()
}

/// Runs a guest with one disk.
fn with_disk<T>(
    config: DiskConfig,
    wanted: blkfront::Config,
    main: impl for<'g> AsyncFnOnce(&Xen, mock_hypervisor::DiskId, Disk<'g, &'g Domain>) -> T,
) -> T {
    let xen = Xen::new(Time::Virtual);
    let domain = guest(&xen);
    let id = xen.attach_disk(domain.domid(), config);
    let host = xen.clone();
    let outcome = domain.run(|domain| {
        let value = kernel::run_until(domain, None, async |bus: Bus<'_, _>| {
            let ids = bus.devices("vbd").await.unwrap();
            assert_eq!(ids, ["51712"]);
            main(&host, id, Disk::new(bus, ids[0].as_str(), wanted)).await
        });
        let value = value.unwrap().unwrap();
        let kept = xen.remove_disk(id);
        assert_eq!(domain.grants_in_use(), kept);
        value
    });
    match outcome {
        Outcome::Returned(value) => value,
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

#[test]
fn what_is_written_is_read() {
    let bytes = pattern(1 << 20, 1);
    let config = DiskConfig {
        medium: Medium::Bytes(bytes.clone()),
        ..DiskConfig::default()
    };
    with_disk(
        config,
        blkfront::Config::default(),
        async |xen, id, disk| {
            let geometry = disk.ready().await.unwrap();
            assert_eq!(geometry.sectors, 2048);
            assert_eq!(geometry.flush, Flush::Cache);
            let mut read = vec![0; 1 << 20];
            disk.read(Sector(0), &mut read).await.unwrap();
            assert!(read == bytes);
            let mut small = [0; 512];
            disk.read(Sector(77), &mut small).await.unwrap();
            assert_eq!(small, bytes[77 * 512..78 * 512]);
            let new = pattern(300 * 512, 99);
            let (one, other) = new.split_at(1000);
            disk.write_vectored(Sector(100), &[one, &[], other])
                .await
                .unwrap();
            disk.flush().await.unwrap();
            assert_eq!(xen.disk_content(id)[100 * 512..400 * 512], new);
            let (mut one, mut other) = (vec![0; 100], vec![0; new.len() - 100]);
            disk.read_vectored(Sector(100), &mut [&mut one, &mut other])
                .await
                .unwrap();
            assert!([one, other].concat() == new);
            disk.close().await;
        },
    );
}

/// Everything that a backend may lack.
#[test]
fn weak_backends_do() {
    let weak = DiskConfig {
        ring_page_order: 0,
        indirect_segments: 0,
        persistent: false,
        flush: false,
        barrier: false,
        discard: false,
        ..DiskConfig::default()
    };
    let wanted = blkfront::Config {
        queues: 4,
        ring_page_order: 4,
        ..blkfront::Config::default()
    };
    with_disk(weak, wanted, async |xen, id, disk| {
        let bytes = pattern(500 * 512, 3);
        disk.write(Sector(1), &bytes).await.unwrap();
        disk.flush().await.unwrap();
        assert_eq!(disk.queues(), 1);
        assert_eq!(disk.geometry().unwrap().flush, Flush::NotNeeded);
        assert_eq!(disk.geometry().unwrap().discard, None);
        assert_eq!(xen.disk_content(id)[512..501 * 512], bytes);
        let refused = disk.discard(Sector(0), 8, Discard::Plain).await;
        assert_eq!(refused, Err(Error::NotSupported("discard")));
        disk.close().await;
    });
}

#[test]
fn barriers_are_used_where_there_is_no_flush() {
    let old = DiskConfig {
        flush: false,
        ..DiskConfig::default()
    };
    with_disk(old, blkfront::Config::default(), async |_, _, disk| {
        assert_eq!(disk.ready().await.unwrap().flush, Flush::Barrier);
        let before = disk.counters().sent;
        disk.flush().await.unwrap();
        assert_eq!(disk.counters().sent, before + 1);
    });
}

#[test]
fn many_queues_and_large_rings() {
    let config = DiskConfig {
        queues: 4,
        latency_ns: 1000,
        ..DiskConfig::default()
    };
    let wanted = blkfront::Config {
        queues: 3,
        ring_page_order: 2,
        ..blkfront::Config::default()
    };
    with_disk(config, wanted, async |xen, id, disk| {
        disk.ready().await.unwrap();
        assert_eq!(disk.queues(), 3);
        let blocks: Vec<Vec<u8>> = (0..200).map(|at| pattern(4096, at as u8)).collect();
        let writes = blocks.iter().enumerate();
        let writes = writes.map(|(at, block)| disk.write(Sector(at as u64 * 8), block));
        for written in futures_util::future::join_all(writes).await {
            written.unwrap();
        }
        assert!(xen.disk_content(id)[..200 * 4096] == blocks.concat());
        // Two hundred requests that take as long as one.
        assert!(disk.counters().notified < 30, "{:?}", disk.counters());
    });
}

/// What a frontend with more queues and a larger ring wrote is not believed of the next,
/// which is another object here, as after a restart of the driver.
#[test]
fn keys_of_an_earlier_frontend_mislead_nobody() {
    let config = DiskConfig {
        queues: 4,
        ..DiskConfig::default()
    };
    let large = blkfront::Config {
        queues: 4,
        ring_page_order: 2,
        ..blkfront::Config::default()
    };
    with_disk(config, large, async |_, _, first| {
        first.ready().await.unwrap();
        assert_eq!(first.queues(), 4);
        first.close().await;
        for wanted in [(1, 0), (2, 0), (1, 1), (4, 2), (1, 0)] {
            let (queues, ring_page_order) = wanted;
            let wanted = blkfront::Config {
                queues,
                ring_page_order,
                ..blkfront::Config::default()
            };
            let next = Disk::new(first.bus(), "51712", wanted);
            next.write(Sector(0), &[7; 512]).await.unwrap();
            assert_eq!(next.queues(), queues as usize);
            next.close().await;
        }
    });
}

/// All keys that the protocol has, as a frontend of another maker may have left them.
#[test]
fn only_what_was_agreed_on_is_left_in_the_directory() {
    let config = DiskConfig::default();
    with_disk(config, blkfront::Config::default(), async |xen, _, disk| {
        let folder = "/local/domain/1/device/vbd/51712";
        for (key, value) in [
            ("ring-page-order", "0"),
            ("num-ring-pages", "4"),
            ("ring-ref0", "3"),
            ("ring-ref15", "3"),
            ("multi-queue-num-queues", "1"),
            ("queue-0/ring-ref", "3"),
            ("queue-17/event-channel", "3"),
            ("protocol", "x86_32-abi"),
            ("feature-persistent", "0"),
            ("feature-large-sector-size", "1"),
        ] {
            let path = format!("{folder}/{key}");
            xen.store_write(&path, value.as_bytes()).unwrap();
            for at in [
                folder.len() + 1 + key.find('/').unwrap_or(key.len()),
                path.len(),
            ] {
                xen.store_give(&path[..at], hypercall_abi::DomId(1))
                    .unwrap();
            }
        }
        disk.write(Sector(0), &[7; 512]).await.unwrap();
        let tree = disk.bus().store().tree();
        let mut keys = tree.directory("device/vbd/51712").await.unwrap();
        keys.sort();
        let known = [
            "backend",
            "backend-id",
            "device-type",
            "event-channel",
            "feature-persistent",
            "protocol",
            "ring-ref",
            "state",
            "trusted",
            "virtual-device",
        ];
        assert_eq!(keys, known);
    });
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    let config = DiskConfig {
        sector_bytes: 4096,
        info: VdiskInfo::READONLY | VdiskInfo::CDROM | VdiskInfo::REMOVABLE,
        ..DiskConfig::default()
    };
    with_disk(config, blkfront::Config::default(), async |_, _, disk| {
        let geometry = disk.ready().await.unwrap();
        assert_eq!(geometry.sector_bytes, 4096);
        assert_eq!(geometry.mode, Mode::ReadOnly);
        assert_eq!(geometry.medium, blkfront::Medium::Cdrom);
        let mut block = [0; 4096];
        assert_eq!(
            disk.read(Sector(1), &mut block).await,
            Err(Error::Unaligned)
        );
        assert_eq!(
            disk.read(Sector(0), &mut block[..512]).await,
            Err(Error::Unaligned)
        );
        assert_eq!(
            disk.read(Sector(2048), &mut block).await,
            Err(Error::OutOfRange)
        );
        assert_eq!(
            disk.read(Sector(!7), &mut block).await,
            Err(Error::OutOfRange)
        );
        assert_eq!(disk.read(Sector(2040), &mut block).await, Ok(()));
        assert_eq!(disk.write(Sector(0), &block).await, Err(Error::ReadOnly));
        assert_eq!(
            disk.discard(Sector(0), 8, Discard::Plain).await,
            Err(Error::ReadOnly)
        );
        assert_eq!(disk.flush().await, Ok(()));
        assert_eq!(disk.read(Sector(0), &mut []).await, Ok(()));
    });
}

#[test]
fn discards_and_failures_are_told() {
    with_disk(
        DiskConfig::default(),
        blkfront::Config::default(),
        async |xen, id, disk| {
            disk.write(Sector(0), &pattern(8192, 1)).await.unwrap();
            disk.discard(Sector(8), 8, Discard::Secure).await.unwrap();
            assert_eq!(xen.disk_content(id)[4096..8192], [0; 4096]);
            xen.fail_disk(id, 1);
            assert_eq!(disk.write(Sector(0), &[7; 512]).await, Err(Error::Io));
            assert_eq!(disk.write(Sector(0), &[7; 512]).await, Ok(()));
        },
    );
}

#[test]
fn pages_of_ones_own_are_not_copied() {
    for trusted in [true, false] {
        let config = DiskConfig {
            trusted,
            ..DiskConfig::default()
        };
        with_disk(
            config,
            blkfront::Config::default(),
            async |xen, id, disk| {
                let mut buffer = disk.buffer(100).await.unwrap();
                let bytes = pattern(100 * 4096, 5);
                assert_eq!(buffer.copy_from(0, &bytes), bytes.len());
                let (buffer, written) = disk.write_granted(Sector(16), buffer).await;
                written.unwrap();
                assert!(xen.disk_content(id)[8192..][..bytes.len()] == bytes);
                assert_eq!(disk.counters().pages == 0, trusted);
                let (buffer, read) = disk.read_granted(Sector(8), buffer).await;
                read.unwrap();
                let mut read = vec![0; 100 * 4096];
                buffer.copy_to(0, &mut read);
                assert!(read[4096..] == bytes[..99 * 4096]);
                let (_buffer, read) = disk.read_granted(Sector(2047), buffer).await;
                assert_eq!(read, Err(Error::OutOfRange));
            },
        );
    }
}

/// A backend keeps them mapped, so they are the next buffers: nothing waits in
/// quarantine, and nothing of before is seen in them.
#[test]
fn pages_of_buffers_are_used_again() {
    let config = DiskConfig::default();
    with_disk(config, blkfront::Config::default(), async |_, _, disk| {
        for round in 0..20 {
            let mut buffer = disk.buffer(1 + round % 40).await.unwrap();
            let mut bytes = vec![1; buffer.len_bytes()];
            buffer.copy_to(0, &mut bytes);
            assert!(bytes.iter().all(|byte| *byte == 0));
            buffer.copy_from(0, &pattern(bytes.len(), 3));
            let (mut small, written) = disk.write_granted(Sector(0), buffer).await;
            written.unwrap();
            // Another beside it has other pages.
            let large = disk.buffer(40).await.unwrap();
            small.copy_from(0, &[7; 4096]);
            assert_eq!(large.copy_to(0, &mut [0; 4096]), 4096);
            let (mut large, read) = disk.read_granted(Sector(8), large).await;
            read.unwrap();
            large.copy_from(0, &pattern(40 * 4096, 9));
            drop(small);
            assert_eq!(disk.bus().grants().quarantined(), 0);
            let grants = disk.bus().grants();
            let used = grants.references() - grants.free_references();
            assert!(used < 120, "{used} in round {round}");
        }
        disk.close().await;
    });
}

/// A backend of before may still be at work on its pages: they are nobody's next buffer.
#[test]
fn pages_of_another_connection_are_not() {
    let config = DiskConfig::default();
    with_disk(
        config,
        blkfront::Config::default(),
        async |xen, id, disk| {
            let used = || {
                let grants = disk.bus().grants();
                grants.references() - grants.free_references()
            };
            let buffer = disk.buffer(40).await.unwrap();
            drop(disk.buffer(30).await.unwrap());
            let before = used();
            xen.restart_disk(id);
            disk.write(Sector(0), &[1; 512]).await.unwrap();
            // Those that were kept are gone, and the other's go.
            assert!(used() + 29 <= before + 2, "{} of {before}", used());
            let now = used();
            drop(buffer);
            assert_eq!(used() + 40, now);
            disk.close().await;
        },
    );
}

#[test]
fn a_future_that_is_dropped_harms_nobody() {
    let slow = DiskConfig {
        latency_ns: 1_000_000,
        ..DiskConfig::default()
    };
    with_disk(slow, blkfront::Config::default(), async |xen, id, disk| {
        disk.ready().await.unwrap();
        let bytes = pattern(4096, 8);
        for at in 0..100 {
            let write = std::pin::pin!(disk.write(Sector(at * 8), &bytes));
            // Polled once, then dropped.
            assert!(futures_util::poll!(write).is_pending());
        }
        let mut block = [0; 4096];
        disk.read(Sector(0), &mut block).await.unwrap();
        assert_eq!(block[..], bytes);
        // The last of those that were sent is done, too.
        disk.flush().await.unwrap();
        assert!(xen.disk_content(id)[..32 * 4096] == bytes.repeat(32));
    });
}

#[test]
fn a_disk_that_changes_its_size() {
    with_disk(
        DiskConfig::default(),
        blkfront::Config::default(),
        async |xen, id, disk| {
            let mut sector = [0; 512];
            assert_eq!(
                disk.read(Sector(2048), &mut sector).await,
                Err(Error::OutOfRange)
            );
            xen.resize_disk(id, 4096);
            // Whoever uses the disk sees it, sooner or later.
            while disk.geometry().unwrap().sectors != 4096 {
                kernel::pause().await;
                disk.read(Sector(0), &mut sector).await.unwrap();
            }
            assert_eq!(disk.read(Sector(2048), &mut sector).await, Ok(()));
            xen.resize_disk(id, 8);
            assert_eq!(disk.read(Sector(2048), &mut sector).await, Err(Error::Io));
            while disk.geometry().unwrap().sectors != 8 {
                kernel::pause().await;
                disk.read(Sector(0), &mut sector).await.unwrap();
            }
            assert_eq!(
                disk.read(Sector(2048), &mut sector).await,
                Err(Error::OutOfRange)
            );
        },
    );
}

/// What a backend has and a frontend wants.
fn two_slow_queues() -> (DiskConfig, blkfront::Config) {
    let slow = DiskConfig {
        latency_ns: 1_000_000,
        queues: 2,
        ..DiskConfig::default()
    };
    let wanted = blkfront::Config {
        queues: 2,
        ..blkfront::Config::default()
    };
    (slow, wanted)
}

#[test]
fn a_backend_that_begins_anew_does_what_the_old_one_did_not() {
    let (slow, wanted) = two_slow_queues();
    with_disk(slow, wanted, async |xen, id, disk| {
        disk.ready().await.unwrap();
        let blocks: Vec<Vec<u8>> = (0..100).map(|at| pattern(4096, at as u8)).collect();
        let writes = blocks.iter().enumerate();
        let writes = writes.map(|(at, block)| disk.write(Sector(at as u64 * 8), block));
        let all = futures_util::future::join_all(writes);
        let mut all = std::pin::pin!(all);
        assert!(futures_util::poll!(&mut all).is_pending());
        xen.restart_disk(id);
        for written in all.await {
            written.unwrap();
        }
        assert!(xen.disk_content(id)[..100 * 4096] == blocks.concat());
        assert!(disk.counters().sent > 100);
    });
}

/// A guest that goes on elsewhere, in other frames and without a grant or a port: what
/// was asked is asked again, in its order, and what is lent is lent there.
#[test]
fn a_guest_that_goes_on_elsewhere_goes_on_with_its_disk() {
    let (slow, wanted) = two_slow_queues();
    let slow = DiskConfig {
        indirect_segments: 0,
        ..slow
    };
    with_disk(slow, wanted, async |xen, id, disk| {
        disk.ready().await.unwrap();
        let domid = disk.bus().ports().platform().domid();
        let mut own = disk.buffer(40).await.unwrap();
        for round in 1..4 {
            let blocks: Vec<Vec<u8>> = (0..100).map(|at| pattern(4096, at ^ round)).collect();
            let mine = pattern(40 * 4096, !round);
            own.copy_from(0, &mine);
            let writes = blocks.iter().enumerate();
            let writes = writes.map(|(at, block)| disk.write(Sector(at as u64 * 8), block));
            let all = futures_util::future::join_all(writes);
            let all = futures_util::future::join(all, disk.write_granted(Sector(1000), own));
            let mut all = std::pin::pin!(all);
            assert!(futures_util::poll!(&mut all).is_pending());
            xen.suspend(domid, Suspend::Moved).unwrap();
            let (written, (back, granted)) = all.await;
            assert!(written.into_iter().all(|written| written.is_ok()));
            granted.unwrap();
            own = back;
            disk.flush().await.unwrap();
            let content = xen.disk_content(id);
            assert!(content[..100 * 4096] == blocks.concat());
            assert!(content[1000 * 512..][..mine.len()] == mine);
            assert_eq!(disk.bus().ports().resumes(), u32::from(round));
        }
        let pages = disk.counters().pages;
        let (own, read) = disk.read_granted(Sector(1000), own).await;
        read.unwrap();
        let mut bytes = vec![0; own.len_bytes()];
        own.copy_to(0, &mut bytes);
        assert!(bytes == pattern(40 * 4096, !3));
        assert_eq!(disk.counters().pages, pages, "it was copied");
        disk.close().await;
    });
}

#[test]
fn one_that_is_taken_away_and_given_back() {
    with_disk(
        DiskConfig::default(),
        blkfront::Config::default(),
        async |xen, id, disk| {
            disk.write(Sector(0), &[1; 512]).await.unwrap();
            xen.detach_disk(id);
            let mut sector = [0; 512];
            // It is still asked what it was asked before.
            while disk.read(Sector(0), &mut sector).await.is_ok() {
                kernel::pause().await;
            }
            assert_eq!(disk.status(), Status::Gone);
            assert_eq!(disk.read(Sector(0), &mut sector).await, Err(Error::Gone));
            let new = xen.attach_disk(
                hypercall_abi::DomId(1),
                DiskConfig {
                    medium: Medium::Bytes(pattern(4096, 9)),
                    sectors: 0,
                    ..DiskConfig::default()
                },
            );
            while disk.read(Sector(0), &mut sector).await.is_err() {
                kernel::pause().await;
            }
            assert_eq!(sector[..], pattern(4096, 9)[..512]);
            assert_eq!(disk.geometry().unwrap().sectors, 8);
            disk.close().await;
            xen.remove_disk(new);
        },
    );
}

#[test]
fn a_backend_that_lies_breaks_the_disk_and_nothing_else() {
    let mischiefs = [
        (Mischief::Answer(12345), Some("the backend")),
        (Mischief::Answer(u64::MAX), Some("the backend")),
        (Mischief::AnswerAgain, Some("the backend")),
        (Mischief::Index(1 << 31), Some("index")),
        (Mischief::Sectors("x"), Some("sectors")),
        (Mischief::Sectors("18446744073709551615"), Some("sectors")),
        (Mischief::Hoard, None),
        (Mischief::Storm, None),
        (Mischief::Offers("99999999999"), None),
        (Mischief::State(99), None),
    ];
    for (mischief, reason) in mischiefs {
        with_disk(
            DiskConfig::default(),
            blkfront::Config::default(),
            async |xen, id, disk| {
                let mut sector = [0; 512];
                disk.write(Sector(0), &[6; 512]).await.unwrap();
                xen.disk_mischief(id, mischief);
                let result = disk.read(Sector(0), &mut sector).await;
                let mut told = disk.read(Sector(0), &mut sector).await;
                for _ in 0..100 {
                    // What is in the store is seen a little later.
                    kernel::pause().await;
                    told = told.and(disk.read(Sector(0), &mut sector).await);
                }
                match reason {
                    None => {
                        result.unwrap_or_else(|error| panic!("{mischief:?}: {error}"));
                        assert_eq!(sector, [6; 512]);
                    }
                    Some(reason) => {
                        let Err(error) = told else {
                            panic!("{mischief:?} was not noticed: {told:?}");
                        };
                        assert!(error.to_string().contains(reason), "{mischief:?}: {error}");
                        assert!(matches!(disk.status(), Status::Broken(_)));
                        let told = xen.store_read("/local/domain/1/error/device/vbd/51712/error");
                        assert!(String::from_utf8(told.unwrap()).unwrap().contains(reason));
                    }
                }
                // A backend that is repaired is as good as another.
                xen.resize_disk(id, 2048);
                disk.reconnect().await.unwrap();
                disk.write(Sector(0), &[7; 512]).await.unwrap();
                assert_eq!(xen.disk_content(id)[..512], [7; 512]);
            },
        );
    }
}

/// A request for which the ring had no room yet: the backend cannot know its number.
#[test]
fn a_request_that_was_not_sent_is_not_done() {
    let slow = DiskConfig {
        latency_ns: 1_000_000,
        ring_page_order: 0,
        ..DiskConfig::default()
    };
    let wanted = blkfront::Config {
        ring_page_order: 1,
        ..blkfront::Config::default()
    };
    with_disk(slow, wanted, async |xen, id, disk| {
        disk.ready().await.unwrap();
        let mut blocks = [[1_u8; 512]; 40];
        let reads = blocks.iter_mut().map(|block| disk.read(Sector(0), block));
        let mut all = std::pin::pin!(futures_util::future::join_all(reads));
        assert!(futures_util::poll!(&mut all).is_pending());
        assert_eq!(disk.counters().sent, 32);
        // Numbers are given from 0 up, and were not used before.
        xen.disk_mischief(id, Mischief::Answer(35));
        let fault = Fault::Response("a request that it does not have");
        for result in all.await {
            assert_eq!(result, Err(Error::Broken(fault)));
        }
        xen.restart_disk(id);
        disk.reconnect().await.unwrap();
        disk.write(Sector(0), &[7; 512]).await.unwrap();
    });
}

#[test]
fn absurd_offers_are_not_believed() {
    with_disk(
        DiskConfig::default(),
        blkfront::Config::default(),
        async |xen, id, disk| {
            xen.disk_mischief(id, Mischief::Offers("-1"));
            let geometry = disk.ready().await.unwrap();
            assert_eq!(geometry.flush, Flush::NotNeeded);
            disk.write(Sector(0), &pattern(100_352, 1)).await.unwrap();
        },
    );
}

/// What a request costs in calls of Xen, sleeps aside, where the backend is as slow
/// as one in another domain: one to tell it, or less.
#[test]
fn requests_cost_few_calls() {
    for (depth, most) in [(1, 1.0), (32, 0.05)] {
        let xen = Xen::new(Time::Virtual);
        let domain = guest(&xen);
        let slow = DiskConfig {
            latency_ns: 50_000,
            ..DiskConfig::default()
        };
        xen.attach_disk(domain.domid(), slow);
        let outcome = domain.run(|domain| {
            kernel::run_until(domain, None, async |bus: Bus<'_, &Domain>| {
                let disk = Disk::new(bus, "51712", blkfront::Config::default());
                disk.ready().await.unwrap();
                // The bus has looked at what its own writes changed.
                let _late = bus
                    .timeout(core::time::Duration::from_millis(1), disk.serve())
                    .await;
                let calls = || domain.calls().values().sum::<u64>();
                let before = calls();
                let tasks = (0..depth).map(|_| async {
                    let mut block = [0; 4096];
                    for at in 0..200 {
                        disk.read(Sector(at * 8), &mut block).await.unwrap();
                    }
                });
                futures_util::future::join_all(tasks).await;
                (calls() - before) as f64 / f64::from(200 * depth)
            })
        });
        let Outcome::Returned(cost) = outcome else {
            panic!("{outcome:?}");
        };
        let cost = cost.unwrap().unwrap();
        assert!(cost <= most, "{cost} calls a request at depth {depth}");
    }
}
