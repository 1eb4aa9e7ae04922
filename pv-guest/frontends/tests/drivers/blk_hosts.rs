//! Disks as real hosts have them: odd values, ways that fail, little room, large sectors,
//! backends that are not trusted.

use event_channels::Channel;
use futures_util::{FutureExt as _, future::join_all, select_biased};
use grant_tables::Page;
use hypercall_abi::{DomId, platform::Clock as _};
use mock_hypervisor::{Config, DiskConfig, DiskId, Domain, Mischief, Outcome, Suspend, Time, Xen};
use pv_frontends::{
    blkfront::{
        self, Discard, DiscardLimits, Disk, Error, Flush, Mode, Sector, Secure, Status, Trust,
        Volume,
    },
    xenbus::{Bus, Fault},
};

use crate::kernel;

/// Runs a guest with these disks, 51712 and up, and so many ports (0: as many as there
/// may be).
fn with_disks<T>(
    configs: Vec<DiskConfig>,
    max_event_channels: u32,
    main: impl for<'g> AsyncFnOnce(&Xen, &[DiskId], Bus<'g, &'g Domain>) -> T,
) -> T {
    let xen = Xen::new(Time::Virtual);
    let config = Config {
        memory_mib: 16,
        max_event_channels,
        ..Config::default()
    };
    let domain = xen.domain(config).unwrap();
    let ids: Vec<DiskId> = (51712..)
        .step_by(16)
        .zip(configs)
        .map(|(vdev, config)| xen.attach_disk(domain.domid(), DiskConfig { vdev, ..config }))
        .collect();
    let host = xen.clone();
    let outcome = domain.run(|domain| {
        let deadline = Some(60_000_000_000);
        let value = kernel::run_until(domain, deadline, async |bus: Bus<'_, _>| {
            main(&host, &ids, bus).await
        });
        let value = value.unwrap().expect("it waits for ever");
        let kept: usize = ids.iter().map(|id| xen.remove_disk(*id)).sum();
        assert_eq!(domain.grants_in_use(), kept);
        value
    });
    match outcome {
        Outcome::Returned(value) => value,
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

fn with_disk<T>(
    config: DiskConfig,
    main: impl for<'g> AsyncFnOnce(&Xen, DiskId, Disk<'g, &'g Domain>) -> T,
) -> T {
    with_disks(vec![config], 0, async |xen, ids, bus| {
        let disk = Disk::new(bus, "51712", blkfront::Config::default());
        main(xen, ids[0], disk).await
    })
}

/// Goes on with the connection for a while.
async fn attend(disk: &Disk<'_, &Domain>) {
    for _ in 0..50 {
        select_biased! {
            () = disk.serve().fuse() => {}
            () = kernel::pause().fuse() => {}
        }
    }
}

#[test]
fn hints_that_make_no_sense_are_not_there() {
    // The key, what it says, and the hint's value: of sectors' bytes, of what is
    // discarded together, of where that begins.
    let cases: [(&str, &[u8], [u32; 3]); 22] = [
        ("physical-sector-size", b"0", [512, 512, 0]),
        ("physical-sector-size", b"1000", [512, 512, 0]),
        ("physical-sector-size", b"256", [512, 512, 0]),
        ("physical-sector-size", b"4294967296", [512, 512, 0]),
        ("physical-sector-size", b"", [512, 512, 0]),
        ("physical-sector-size", b"4096\n", [4096, 512, 0]),
        ("discard-granularity", b"0", [512, 512, 0]),
        ("discard-granularity", b"1000", [512, 512, 0]),
        ("discard-granularity", b"-1", [512, 512, 0]),
        ("discard-granularity", b"4096\0", [512, 4096, 0]),
        ("discard-alignment", b"4294967295", [512, 512, 0]),
        ("discard-alignment", b"-1", [512, 512, 0]),
        ("max-ring-page-order", b"-1", [512, 512, 0]),
        ("max-ring-page-order", b"4294967295", [512, 512, 0]),
        ("max-ring-pages", b"0", [512, 512, 0]),
        ("multi-queue-max-queues", b"0", [512, 512, 0]),
        ("multi-queue-max-queues", b"4294967296", [512, 512, 0]),
        ("feature-max-indirect-segments", b"-1", [512, 512, 0]),
        ("mode", b"\xff\xfe", [512, 512, 0]),
        ("mode", b"w\0", [512, 512, 0]),
        ("removable", b"\xff", [512, 512, 0]),
        ("discard-secure", b"x", [512, 512, 0]),
    ];
    for (key, value, [physical, granularity_bytes, alignment_bytes]) in cases {
        let config = DiskConfig {
            says: vec![(key, value)],
            ..DiskConfig::default()
        };
        with_disk(config, async |_, _, disk| {
            let what = format!("{key} = {}", String::from_utf8_lossy(value));
            let geometry = disk
                .ready()
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(geometry.physical_sector_bytes, physical, "{what}");
            let secure = match key {
                "discard-secure" => Secure::NotOffered,
                _ => Secure::Offered,
            };
            let discard = DiscardLimits {
                granularity_bytes,
                alignment_bytes,
                secure,
            };
            assert_eq!(geometry.discard, Some(discard), "{what}");
            let bytes = [7; 100 * 512];
            disk.write(Sector(5), &bytes).await.unwrap();
            let mut read = [0; 100 * 512];
            disk.read(Sector(5), &mut read).await.unwrap();
            assert_eq!(read, bytes, "{what}");
        });
    }
}

#[test]
fn an_alignment_lies_within_the_granularity() {
    let config = DiskConfig {
        says: vec![
            ("discard-granularity", b"4096"),
            ("discard-alignment", b"5120"),
        ],
        ..DiskConfig::default()
    };
    with_disk(config, async |_, _, disk| {
        let limits = disk.ready().await.unwrap().discard.unwrap();
        assert_eq!(
            (limits.granularity_bytes, limits.alignment_bytes),
            (4096, 1024)
        );
    });
}

/// Values are read up to their NUL, here and where there must be one.
#[test]
fn values_end_at_their_nul() {
    let config = DiskConfig {
        says: vec![
            ("sectors", b"128\0"),
            ("sector-size", b" 512\n"),
            ("info", b"4\0"),
            ("mode", b"r\0"),
            ("feature-discard", b"1\0"),
        ],
        ..DiskConfig::default()
    };
    with_disk(config, async |xen, _, disk| {
        let own = "/local/domain/1/device/vbd/51712/trusted";
        xen.store_write(own, b"0\0").unwrap();
        let geometry = disk.ready().await.unwrap();
        assert_eq!((geometry.sectors, geometry.mode), (128, Mode::ReadOnly));
        assert!(geometry.discard.is_some());
        let grants = disk.bus().grants();
        let used = grants.references() - grants.free_references();
        let _buffer = disk.buffer(3).await.unwrap();
        assert_eq!(
            grants.references() - grants.free_references(),
            used,
            "it is trusted"
        );
    });
}

#[test]
fn what_a_disk_is_must_make_sense() {
    let cases: [(&str, &[u8]); 9] = [
        ("sectors", b"-1"),
        ("sectors", b"36028797018963968"),
        ("sectors", b""),
        ("sector-size", b"0"),
        ("sector-size", b"1000"),
        ("sector-size", b"256"),
        ("sector-size", b"8192"),
        ("sector-size", b"x"),
        ("info", b"x"),
    ];
    for (key, value) in cases {
        let config = DiskConfig {
            says: vec![(key, value)],
            ..DiskConfig::default()
        };
        with_disk(config, async |_, _, disk| {
            let ready = disk.ready().await;
            assert_eq!(ready, Err(Error::Broken(Fault::Value(key))), "{value:?}");
        });
    }
}

/// A hint that becomes nonsense while the disk is used takes nothing away.
#[test]
fn hints_that_change_break_nothing() {
    with_disk(DiskConfig::default(), async |xen, _, disk| {
        disk.ready().await.unwrap();
        let back = "/local/domain/0/backend/vbd/1/51712";
        for (key, value) in [
            ("physical-sector-size", "0"),
            ("discard-granularity", "-1"),
            ("mode", "?"),
        ] {
            xen.store_write(&format!("{back}/{key}"), value.as_bytes())
                .unwrap();
            attend(&disk).await;
            assert_eq!(disk.status(), Status::Connected, "{key}");
            disk.write(Sector(0), &[7; 512]).await.unwrap();
        }
    });
}

/// A backend that refuses ways of flushing which it offered: the next best is used, and
/// the geometry says so.
#[test]
fn a_flush_that_is_not_supported() {
    let refuses: [(&[_], bool, Flush, [u64; 2]); 3] = [
        (
            &[("feature-flush-cache", b"1")],
            true,
            Flush::Barrier,
            [2, 1],
        ),
        (
            &[("feature-flush-cache", b"1"), ("feature-barrier", b"1")],
            false,
            Flush::NotNeeded,
            [2, 0],
        ),
        (
            &[("feature-barrier", b"1")],
            false,
            Flush::NotNeeded,
            [1, 0],
        ),
    ];
    for (says, barrier, way, requests) in refuses {
        let says = says.iter().map(|(key, value)| (*key, &value[..]));
        let config = DiskConfig {
            flush: false,
            barrier,
            says: says.collect(),
            ..DiskConfig::default()
        };
        with_disk(config, async |xen, id, disk| {
            disk.ready().await.unwrap();
            for (round, wanted) in requests.into_iter().enumerate() {
                let before = disk.counters().sent;
                disk.flush().await.unwrap();
                assert_eq!(disk.counters().sent - before, wanted, "{way:?} {round}");
                assert_eq!(disk.geometry().unwrap().flush, way);
            }
            // What is written to the store does not make it forget.
            xen.resize_disk(id, 4096);
            attend(&disk).await;
            assert_eq!(disk.geometry().unwrap().sectors, 4096);
            assert_eq!(disk.geometry().unwrap().flush, way);
        });
    }
}

/// Older backends answer an error to what they cannot do.
#[test]
fn a_flush_that_fails_before_it_ever_worked() {
    with_disk(DiskConfig::default(), async |xen, id, disk| {
        disk.write(Sector(0), &[7; 512]).await.unwrap();
        for _ in 0..2 {
            let before = disk.counters().sent;
            xen.fail_disk(id, 1);
            disk.flush().await.unwrap();
            assert_eq!(disk.counters().sent - before, 2, "flush, then barrier");
        }
        // With no way that works, it is said that nothing is certain.
        xen.fail_disk(id, 2);
        assert_eq!(disk.flush().await, Err(Error::Io));
        assert_eq!(disk.flush().await, Ok(()));
    });
}

/// One that worked and fails now has lost something: no second try makes up for it.
#[test]
fn a_flush_that_fails_after_it_worked() {
    for barrier in [true, false] {
        let config = DiskConfig {
            barrier,
            ..DiskConfig::default()
        };
        with_disk(config, async |xen, id, disk| {
            disk.flush().await.unwrap();
            xen.fail_disk(id, 1);
            assert_eq!(disk.flush().await, Err(Error::Io));
            assert_eq!(disk.flush().await, Ok(()));
            // Another backend may be another's work.
            xen.restart_disk(id);
            disk.write(Sector(0), &[7; 512]).await.unwrap();
            xen.fail_disk(id, 1);
            let wanted = if barrier { Ok(()) } else { Err(Error::Io) };
            assert_eq!(disk.flush().await, wanted);
        });
    }
}

#[test]
fn a_discard_that_is_not_supported() {
    let config = DiskConfig {
        discard: false,
        says: vec![("feature-discard", b"1"), ("discard-secure", b"1")],
        ..DiskConfig::default()
    };
    with_disk(config, async |_, _, disk| {
        assert_eq!(
            disk.ready().await.unwrap().discard.unwrap().secure,
            Secure::Offered
        );
        let refused = Err(Error::NotSupported("discard"));
        assert_eq!(disk.discard(Sector(0), 8, Discard::Secure).await, refused);
        let limits = disk.geometry().unwrap().discard.unwrap();
        assert_eq!(limits.secure, Secure::NotOffered);
        assert_eq!(disk.discard(Sector(0), 8, Discard::Plain).await, refused);
        assert_eq!(disk.geometry().unwrap().discard, None);
        let before = disk.counters().sent;
        assert_eq!(disk.discard(Sector(0), 8, Discard::Plain).await, refused);
        assert_eq!(disk.counters().sent, before);
        disk.write(Sector(0), &[7; 512]).await.unwrap();
    });
}

/// Ports for some queues make some queues, and leave some ports for others.
#[test]
fn few_ports_make_few_queues() {
    let config = || DiskConfig {
        queues: 8,
        ..DiskConfig::default()
    };
    let wanted = blkfront::Config {
        queues: 8,
        ..blkfront::Config::default()
    };
    // Two are taken: port 0, and the store's.
    for (ports, queues) in [(3, 1), (4, 1), (6, 2), (8, 3), (9, 4), (12, 8), (64, 8)] {
        with_disks(vec![config()], ports, async |_, _, bus| {
            let disk = Disk::new(bus, "51712", wanted);
            disk.ready()
                .await
                .unwrap_or_else(|error| panic!("{ports} ports: {error}"));
            assert_eq!(disk.queues(), queues, "{ports} ports");
            disk.write(Sector(0), &[7; 512 * 300]).await.unwrap();
            let mut left = Vec::new();
            while let Ok(channel) = Channel::unbound(bus.ports(), DomId(0)) {
                left.push(channel);
            }
            assert_eq!(left.len() + queues + 2, ports as usize);
        });
    }
    with_disks(vec![config(), config(), config()], 12, async |_, _, bus| {
        for id in ["51712", "51728", "51744"] {
            let disk = Disk::new(bus, id, wanted);
            disk.ready()
                .await
                .unwrap_or_else(|error| panic!("{id}: {error}"));
            std::mem::forget(disk);
        }
    });
}

/// The same of memory: fewer queues, then smaller rings.
#[test]
fn little_memory_makes_little_rings() {
    for (left, queues) in [(200, 8), (60, 1), (8, 1)] {
        let config = DiskConfig {
            queues: 8,
            ..DiskConfig::default()
        };
        with_disks(vec![config], 0, async |_, _, bus| {
            let wanted = blkfront::Config {
                queues: 8,
                ring_page_order: 4,
                ..blkfront::Config::default()
            };
            let mut pages: Vec<_> = std::iter::from_fn(|| Page::new(bus.grants()).ok()).collect();
            pages.truncate(pages.len() - left);
            let disk = Disk::new(bus, "51712", wanted);
            disk.ready()
                .await
                .unwrap_or_else(|error| panic!("{left} pages: {error}"));
            assert!(disk.queues() >= queues, "{} of {left}", disk.queues());
            disk.write(Sector(0), &[7; 512]).await.unwrap();
            drop(pages);
        });
    }
}

/// A whole page of it is put before what is written: it is to be seen nowhere.
const SECRET: u8 = 0x5a;

fn sees_secret(xen: &Xen, id: DiskId) -> bool {
    let pages = xen.disk_mapped_pages(id);
    assert!(!pages.is_empty());
    pages
        .iter()
        .any(|page| page.windows(16).any(|bytes| bytes == [SECRET; 16]))
}

/// `trusted` is 0, or the guest trusts nobody: no page of a buffer is ever granted.
#[test]
fn no_page_of_a_buffer_is_granted_to_a_backend_that_is_not_trusted() {
    for (trusted, trust) in [(false, Trust::Toolstack), (true, Trust::Nobody)] {
        let config = DiskConfig {
            trusted,
            ..DiskConfig::default()
        };
        with_disks(vec![config], 0, async |xen, ids, bus| {
            let wanted = blkfront::Config {
                trust,
                ..blkfront::Config::default()
            };
            let disk = Disk::new(bus, "51712", wanted);
            disk.ready().await.unwrap();
            let used = || bus.grants().references() - bus.grants().free_references();
            let before = used();
            let mut buffer = disk.buffer(10).await.unwrap();
            assert_eq!((used(), buffer.len_bytes()), (before, 40960));
            let bytes: Vec<u8> = (0..40960_u32).map(|at| (at / 13) as u8).collect();
            assert_eq!(buffer.copy_from(0, &bytes), bytes.len());
            assert_eq!(buffer.copy_from(4000, &bytes[..200]), 200);
            let (mut buffer, written) = disk.write_granted(Sector(8), buffer).await;
            written.unwrap();
            let content = xen.disk_content(ids[0]);
            assert_eq!(content[4096..][..4000], bytes[..4000]);
            assert_eq!(content[4096 + 4000..][..200], bytes[..200]);
            assert_eq!(content[4096 + 4200..][..36760], bytes[4200..]);
            buffer.copy_from(0, &[SECRET; 40960]);
            let (buffer, read) = disk.read_granted(Sector(8), buffer).await;
            read.unwrap();
            let mut read = vec![0; 40960];
            assert_eq!(buffer.copy_to(0, &mut read), 40960);
            assert_eq!(read, content[4096..][..40960]);
            assert!(!sees_secret(xen, ids[0]));
        });
    }
}

/// A backend that is trusted no more gets nothing of what it was trusted with.
#[test]
fn trust_that_ends_takes_buffers_back() {
    let slow = DiskConfig {
        latency_ns: 1_000_000,
        ..DiskConfig::default()
    };
    with_disk(slow, async |xen, id, disk| {
        let mut buffer = disk.buffer(4).await.unwrap();
        buffer.copy_from(0, &[3; 4 * 4096]);
        let other = disk.buffer(2).await.unwrap();
        let mut third = disk.buffer(1).await.unwrap();
        let mut write = std::pin::pin!(disk.write_granted(Sector(0), buffer));
        assert!(futures_util::poll!(&mut write).is_pending());
        let own = "/local/domain/1/device/vbd/51712/trusted";
        xen.store_write(own, b"0").unwrap();
        xen.restart_disk(id);
        let (buffer, written) = write.await;
        written.unwrap();
        assert_eq!(xen.disk_content(id)[..4 * 4096], [3; 4 * 4096]);
        // Before it is used again: its page is granted to nobody.
        let grants = disk.bus().grants();
        let used = || grants.references() - grants.free_references();
        let before = used();
        assert_eq!(third.copy_from(0, &[SECRET; 4096]), 4096);
        assert_eq!(used(), before - 1);
        let (other, read) = disk.read_granted(Sector(0), other).await;
        read.unwrap();
        let mut bytes = [0; 8192];
        other.copy_to(0, &mut bytes);
        assert_eq!(bytes, [3; 8192]);
        // What is granted is the driver's: the ring, and pages of the queue.
        grants.release_quarantine();
        let used = used();
        assert!(
            used <= disk.counters().pages + 2 + 1,
            "{used} grants are in use"
        );
        drop((buffer, other, third));
    });
}

/// A guest that goes on elsewhere: the backend there finds in the pages what it is to
/// write, and zeroes.
#[test]
fn a_backend_elsewhere_sees_only_what_it_is_to_write() {
    let slow = DiskConfig {
        latency_ns: 1_000_000,
        ..DiskConfig::default()
    };
    with_disk(slow, async |xen, id, disk| {
        disk.write(Sector(8), &[SECRET; 5 * 4096]).await.unwrap();
        disk.discard(Sector(8), 40, Discard::Plain).await.unwrap();
        let domid = disk.bus().ports().platform().domid();
        let mut block = [1; 512];
        let mut write = std::pin::pin!(disk.write(Sector(0), &[7; 512]));
        let mut read = std::pin::pin!(disk.read(Sector(8), &mut block));
        assert!(futures_util::poll!(&mut write).is_pending());
        assert!(futures_util::poll!(&mut read).is_pending());
        xen.suspend(domid, Suspend::Moved).unwrap();
        // It goes before they are answered.
        kernel::pause().await;
        write.await.unwrap();
        read.await.unwrap();
        assert!(!sees_secret(xen, id));
        // Also in those that were used by nobody then.
        let writes = (1..8).map(|at| disk.write(Sector(at), &[8; 512]));
        assert!(join_all(writes).await.iter().all(Result::is_ok));
        assert!(disk.counters().pages < 8, "some are of before");
        assert!(!sees_secret(xen, id));
        assert_eq!(xen.disk_content(id)[..512], [7; 512]);
    });
}

fn large_sectors() -> DiskConfig {
    DiskConfig {
        sector_bytes: 4096,
        latency_ns: 100_000,
        ..DiskConfig::default()
    }
}

/// File systems know of blocks of 512 bytes.
#[test]
fn small_blocks_on_large_sectors() {
    with_disk(large_sectors(), async |xen, id, disk| {
        let bytes: Vec<u8> = (0..64 * 512_u32).map(|at| (at / 7 % 251) as u8).collect();
        disk.write(Sector(0), &bytes).await.unwrap();
        let whole = Volume::whole(&disk).await.unwrap();
        // A partition that was made for small sectors.
        for (volume, base) in [
            (whole.clone(), 0),
            (whole.part(Sector(3), 50).unwrap(), 3 * 512),
        ] {
            for (offset, len) in [(0, 1), (511, 2), (1024, 8192), (4095, 4098), (7, 0)] {
                let mut read = vec![0; len];
                volume.read_at(offset as u64, &mut read).await.unwrap();
                assert_eq!(
                    read,
                    bytes[base + offset..][..len],
                    "{len} bytes at {offset}"
                );
            }
            let (mut one, mut other) = ([0; 512], [0; 1024]);
            volume
                .read(Sector(6), &mut [&mut one, &mut other])
                .await
                .unwrap();
            assert_eq!([&one[..], &other].concat(), bytes[base + 3072..][..1536]);
        }
        let mut model = bytes;
        for (first, count, fill) in [
            (1, 1, 1),
            (7, 2, 2),
            (15, 18, 3),
            (8, 8, 4),
            (24, 9, 5),
            (63, 1, 6),
        ] {
            let new = vec![fill; count * 512];
            whole
                .write(Sector(first), &[&new[..100], &new[100..]])
                .await
                .unwrap();
            model[first as usize * 512..][..new.len()].copy_from_slice(&new);
            assert!(
                xen.disk_content(id)[..model.len()] == model,
                "{count} from {first}"
            );
        }
        let end = Sector(2048);
        assert_eq!(whole.write(end, &[&[0; 512]]).await, Err(Error::OutOfRange));
        assert_eq!(
            whole.write(Sector(1), &[&[0; 100]]).await,
            Err(Error::Unaligned)
        );
        assert_eq!(
            whole.read(Sector(1), &mut [&mut [0; 100]]).await,
            Err(Error::Unaligned)
        );
        // The disk itself takes its own sectors only.
        assert_eq!(
            disk.write(Sector(1), &[0; 512]).await,
            Err(Error::Unaligned)
        );
    });
}

/// Of those who write parts of the same sector at once, none undoes what another did,
/// nor what is written whole, nor what was begun and left.
#[test]
fn parts_of_a_sector_are_written_one_after_the_other() {
    with_disk(large_sectors(), async |xen, id, disk| {
        let volume = Volume::whole(&disk).await.unwrap();
        let parts: Vec<[u8; 512]> = (1..=16).map(|fill| [fill; 512]).collect();
        for round in 0..4 {
            let writes = (0_u64..).zip(&parts).map(|(at, part)| {
                let place = Sector((at * 5 + round) % 16);
                let volume = &volume;
                async move { volume.write(place, &[&part[..]]).await.unwrap() }
            });
            join_all(writes).await;
            let content = xen.disk_content(id);
            for (at, part) in (0_u64..).zip(&parts) {
                let place = ((at * 5 + round) % 16) as usize * 512;
                assert_eq!(
                    content[place..place + 512],
                    part[..],
                    "{at} in round {round}"
                );
            }
        }
        // A part that is left in the middle, before others.
        {
            let write = std::pin::pin!(volume.write(Sector(5), &[&[2; 512]]));
            assert!(futures_util::poll!(write).is_pending());
        }
        let mut buffer = disk.buffer(1).await.unwrap();
        buffer.copy_from(0, &[4; 4096]);
        let granted = disk.write_granted(Sector(0), buffer);
        let part = volume.write(Sector(2), &[&[5; 512]]);
        let ((_, granted), part) = futures_util::join!(granted, part);
        granted.and(part).unwrap();
        let content = xen.disk_content(id);
        assert_eq!(content[2 * 512..3 * 512], [5; 512]);
        assert_eq!(content[3 * 512..4096], [4; 5 * 512]);
        let gone = volume.write(Sector(1), &[&[6; 512]]);
        let (gone, discarded) =
            futures_util::join!(gone, disk.discard(Sector(0), 8, Discard::Plain));
        gone.and(discarded).unwrap();
        assert_eq!(xen.disk_content(id)[..4096], [0; 4096]);
    });
}

/// A whole sector that is on its way, by another queue, and whose future is gone: what is
/// written to a part of it comes after that.
#[test]
fn a_part_is_written_after_what_is_on_its_way() {
    let config = DiskConfig {
        queues: 2,
        ..large_sectors()
    };
    with_disks(vec![config], 0, async |xen, ids, bus| {
        let wanted = blkfront::Config {
            queues: 2,
            ..blkfront::Config::default()
        };
        let disk = Disk::new(bus, "51712", wanted);
        let volume = Volume::whole(&disk).await.unwrap();
        for round in 1..=4 {
            let whole = [round; 4096];
            let write = disk.write(Sector(0), &whole);
            let mut write = Box::pin(write);
            assert!(futures_util::poll!(&mut write).is_pending());
            drop(write);
            volume.write(Sector(3), &[&[!round; 512]]).await.unwrap();
            let content = xen.disk_content(ids[0]);
            assert_eq!(content[..3 * 512], whole[..3 * 512], "round {round}");
            assert_eq!(content[3 * 512..][..512], [!round; 512]);
            assert_eq!(content[4 * 512..4096], whole[4 * 512..]);
            // The other queue is the next one's.
            disk.read(Sector(0), &mut [0; 4096]).await.unwrap();
            if round % 2 == 0 {
                disk.read(Sector(0), &mut [0; 4096]).await.unwrap();
            }
        }
    });
}

/// Sizes are in units of 512 bytes, whatever a disk's sectors are.
#[test]
fn units_of_a_size() {
    let config = DiskConfig {
        sector_bytes: 4096,
        sectors: 128,
        ..DiskConfig::default()
    };
    with_disk(config, async |_, _, disk| {
        assert_eq!(disk.ready().await.unwrap().len_bytes(), 65536);
        assert_eq!(disk.write(Sector(120), &[3; 4096]).await, Ok(()));
        let behind = disk.write(Sector(128), &[3; 4096]).await;
        assert_eq!(behind, Err(Error::OutOfRange));
    });
}

/// The directory of a disk in another domain is written over that of this one. The old
/// backend never lets go of its pages: it has answered all, and is not waited for.
#[test]
fn a_disk_moves_by_its_keys() {
    let xen = Xen::new(Time::Virtual);
    let domain = xen.domain(Config::default()).unwrap();
    let owners = [(); 2].map(|()| xen.domain(Config::default()).unwrap());
    let at = |owner: &Domain| DiskConfig {
        backend: owner.domid(),
        ..DiskConfig::default()
    };
    xen.attach_disk(domain.domid(), at(&owners[0]));
    let host = xen.clone();
    let outcome = domain.run(|domain| {
        let done = kernel::run_until(domain, Some(60_000_000_000), async |bus: Bus<'_, _>| {
            let disk = Disk::new(bus, "51712", blkfront::Config::default());
            disk.write(Sector(0), &[7; 512]).await.unwrap();
            let second = host.attach_disk(domain.domid(), at(&owners[1]));
            let begin_ns = domain.now_ns();
            attend(&disk).await;
            while disk.write(Sector(1), &[8; 512]).await.is_err() {
                kernel::pause().await;
            }
            let took_ns = domain.now_ns() - begin_ns;
            assert!(took_ns < 1_000_000_000, "{took_ns} ns");
            assert_eq!(host.disk_content(second)[512], 8);
            disk.close().await;
        });
        done.unwrap().expect("it waits for ever");
    });
    assert!(matches!(outcome, Outcome::Returned(())));
}

/// Whatever state a backend is in when the frontend comes, it works when the backend has
/// begun anew.
#[test]
fn a_backend_in_any_state_when_the_frontend_comes() {
    for state in 0..=8 {
        with_disk(DiskConfig::default(), async |xen, id, disk| {
            xen.disk_mischief(id, Mischief::State(state));
            attend(&disk).await;
            xen.restart_disk(id);
            let ready = disk.ready().await;
            ready.unwrap_or_else(|error| panic!("state {state}: {error}"));
            disk.write(Sector(0), &[7; 512]).await.unwrap();
        });
    }
}
