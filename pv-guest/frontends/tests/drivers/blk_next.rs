//! What was asked of one backend and is done by the next, which can do less; and writes to
//! parts of a sector that meet others.

use std::{pin::pin, time::Duration};

use futures_util::{FutureExt as _, future::join_all, join, poll, select_biased};
use hypercall_abi::io::blkif::VdiskInfo;
use mock_hypervisor::{Config, DiskConfig, DiskId, Domain, Mischief, Outcome, Time, Xen};
use pv_frontends::{
    blkfront::{self, Discard, Disk, Error, Flush, Sector, Secure, Volume},
    xenbus::Bus,
};

use crate::kernel;

/// A guest's disk, whose directory another backend's may be written over.
struct Host<'x> {
    xen: &'x Xen,
    domain: &'x Domain,
    next: Domain,
    id: DiskId,
}

impl Host<'_> {
    /// Another domain has the backend from one moment to the next: the frontend's state
    /// stays, so the disk is not seen to go.
    fn move_to(&self, config: DiskConfig) -> DiskId {
        let backend = self.next.domid();
        let domid = self.domain.domid();
        let id = self
            .xen
            .attach_disk(domid, DiskConfig { backend, ..config });
        let state = format!("/local/domain/{domid}/device/vbd/51712/state");
        self.xen.store_write(&state, b"4").unwrap();
        id
    }
}

fn with_disk(config: DiskConfig, main: impl for<'g> AsyncFnOnce(Host<'g>, Disk<'g, &'g Domain>)) {
    let xen = Xen::new(Time::Virtual);
    let domain = xen.domain(Config::default()).unwrap();
    let next = xen.domain(Config::default()).unwrap();
    let queues = config.queues;
    let id = xen.attach_disk(domain.domid(), config);
    let outcome = domain.run(|domain| {
        let done = kernel::run_until(domain, Some(60_000_000_000), async |bus: Bus<'_, _>| {
            let wanted = blkfront::Config {
                queues,
                ..blkfront::Config::default()
            };
            let disk = Disk::new(bus, "51712", wanted);
            disk.ready().await.unwrap();
            let host = Host {
                xen: &xen,
                domain,
                next,
                id,
            };
            main(host, disk).await;
        });
        done.unwrap().expect("it waits for ever");
    });
    assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
}

fn slow() -> DiskConfig {
    DiskConfig {
        latency_ns: 1_000_000,
        ..DiskConfig::default()
    }
}

// ---- A backend that can do less ----

/// The segments of a large request are the next backend's to read, too.
#[test]
fn a_large_request_is_done_by_the_next_backend() {
    with_disk(slow(), async |host, disk| {
        let bytes = vec![7; 128 << 10];
        let mut write = pin!(disk.write(Sector(0), &bytes));
        assert!(poll!(&mut write).is_pending());
        assert_eq!(disk.counters().sent, 1);
        let next = host.move_to(slow());
        write.await.unwrap();
        assert_eq!(host.xen.disk_content(next)[..bytes.len()], bytes);
    });
}

/// Requests of several queues are sent to a backend of one in the order in which they were
/// made: the last write to a sector is the one that stays.
#[test]
fn queues_that_become_one_keep_the_order_of_requests() {
    let of_queues = |queues| DiskConfig { queues, ..slow() };
    // Whichever queue has the first of them.
    for before in 0..2 {
        with_disk(of_queues(2), async |host, disk| {
            assert_eq!(disk.queues(), 2);
            for _ in 0..before {
                disk.read(Sector(0), &mut [0; 512]).await.unwrap();
            }
            let fills = [[1; 512], [2; 512], [3; 512], [4; 512], [5; 512]];
            let writes = fills.iter().map(|fill| disk.write(Sector(0), fill));
            let mut all = pin!(join_all(writes));
            assert!(poll!(&mut all).is_pending());
            let next = host.move_to(of_queues(1));
            assert_eq!(all.await, [Ok(()); 5]);
            assert_eq!(disk.queues(), 1);
            assert_eq!(host.xen.disk_content(next)[..512], [5; 512]);
        });
    }
}

/// What one backend had done, and whoever wanted it looks at when another has the disk.
#[test]
fn pages_of_what_was_done_before_are_not_lent_to_the_next() {
    with_disk(slow(), async |host, disk| {
        let mut early = pin!(disk.write(Sector(0), &[1; 4096]));
        assert!(poll!(&mut early).is_pending());
        // Another takes the answer.
        disk.write(Sector(8), &[2; 4096]).await.unwrap();
        let next = host.move_to(slow());
        while !host.xen.disk_is_connected(next) {
            select_biased! {
                () = disk.serve().fuse() => {}
                () = kernel::pause().fuse() => {}
            }
        }
        early.await.unwrap();
        let sectors = (0..4).map(|row| Sector(8 * row));
        let all = join_all(sectors.map(|at| disk.write(at, &[3; 4096]))).await;
        assert_eq!(all, [Ok(()); 4]);
        assert_eq!(host.xen.disk_content(next)[..4 * 4096], [3; 4 * 4096]);
    });
}

/// A flush is done by the way that the next backend has, or not at all if it has none.
#[test]
fn a_flush_goes_by_the_next_backends_way() {
    for (barrier, sent) in [(true, 2), (false, 1)] {
        with_disk(slow(), async |host, disk| {
            let before = disk.counters().sent;
            let mut flush = pin!(disk.flush());
            assert!(poll!(&mut flush).is_pending());
            host.move_to(DiskConfig {
                flush: false,
                barrier,
                ..slow()
            });
            flush.await.unwrap();
            assert_eq!(disk.counters().sent - before, sent);
            let way = if barrier {
                Flush::Barrier
            } else {
                Flush::NotNeeded
            };
            assert_eq!(disk.geometry().unwrap().flush, way);
        });
    }
}

/// A way that one backend refused may be the next one's best.
#[test]
fn a_refused_flush_is_the_refusing_backends_only() {
    let refuses = DiskConfig {
        flush: false,
        barrier: false,
        says: vec![("feature-flush-cache", b"1")],
        ..slow()
    };
    with_disk(refuses, async |host, disk| {
        let mut flush = pin!(disk.flush());
        assert!(poll!(&mut flush).is_pending());
        // Others take the answer, and go on.
        disk.read(Sector(0), &mut [0; 512]).await.unwrap();
        let next = host.move_to(slow());
        while !host.xen.disk_is_connected(next) {
            select_biased! {
                () = disk.serve().fuse() => {}
                () = kernel::pause().fuse() => {}
            }
        }
        disk.read(Sector(0), &mut [0; 512]).await.unwrap();
        let before = disk.counters().sent;
        flush.await.unwrap();
        assert_eq!(disk.counters().sent - before, 1);
        assert_eq!(disk.geometry().unwrap().flush, Flush::Cache);
    });
}

/// What the next backend cannot do is refused by this side, and it is not asked.
#[test]
fn discards_and_writes_are_the_next_backends_to_take() {
    let without = DiskConfig {
        discard: false,
        ..slow()
    };
    let plain_only = || DiskConfig {
        says: vec![("discard-secure", b"0")],
        ..slow()
    };
    let read_only = || DiskConfig {
        info: VdiskInfo::READONLY,
        ..slow()
    };
    let not_secure = Err(Error::NotSupported("secure discard"));
    for (next, how, expected) in [
        (
            without,
            Some(Discard::Plain),
            Err(Error::NotSupported("discard")),
        ),
        (plain_only(), Some(Discard::Secure), not_secure),
        (plain_only(), Some(Discard::Plain), Ok(())),
        (read_only(), Some(Discard::Plain), Err(Error::ReadOnly)),
        (read_only(), None, Err(Error::ReadOnly)),
    ] {
        with_disk(slow(), async |host, disk| {
            let before = disk.counters().sent;
            let mut asked = pin!(async {
                match how {
                    Some(how) => disk.discard(Sector(0), 8, how).await,
                    None => disk.write(Sector(0), &[7; 4096]).await,
                }
            });
            assert!(poll!(&mut asked).is_pending());
            host.move_to(next);
            assert_eq!(asked.await, expected);
            let sent = disk.counters().sent - before;
            assert_eq!(sent, 1 + u64::from(expected.is_ok()), "{how:?}");
        });
    }
}

/// What a backend was found not to do, it still does not when it writes something; what it
/// never offered is not asked for.
#[test]
fn a_discard_that_was_refused_is_not_offered_again() {
    let config = DiskConfig {
        discard: false,
        says: vec![("feature-discard", b"1"), ("discard-secure", b"1")],
        ..DiskConfig::default()
    };
    with_disk(config, async |host, disk| {
        for (how, sectors) in [(Discard::Secure, 4096), (Discard::Plain, 6000)] {
            assert!(disk.discard(Sector(0), 8, how).await.is_err());
            host.xen.resize_disk(host.id, sectors);
            while disk.geometry().unwrap().sectors != sectors {
                select_biased! {
                    () = disk.serve().fuse() => {}
                    () = kernel::pause().fuse() => {}
                }
            }
            let secure = disk.geometry().unwrap().discard.map(|limits| limits.secure);
            let expected = match how {
                Discard::Secure => Some(Secure::NotOffered),
                Discard::Plain => None,
            };
            assert_eq!(secure, expected);
            let before = disk.counters().sent;
            let again = disk.discard(Sector(0), 8, Discard::Secure).await;
            assert!(matches!(again, Err(Error::NotSupported(_))), "{again:?}");
            assert_eq!(disk.counters().sent, before);
        }
    });
}

// ---- A backend that is another domain's ----

/// It finds what it is to write, and nothing of what was written and read before.
#[test]
fn another_domain_sees_no_more_than_what_it_is_to_do() {
    const SECRET: u8 = 0x5a;
    const MARK: u8 = 7;
    // Those that the backend before it still has are others by then.
    for keeps in [false, true] {
        with_disk(slow(), async |host, disk| {
            if keeps {
                host.xen.disk_mischief(host.id, Mischief::HoardAll);
            }
            // Each page has been full of it.
            let sectors = (0..16).map(|row| Sector(8 * row));
            let full = join_all(sectors.map(|at| disk.write(at, &[SECRET; 4096]))).await;
            assert!(full.into_iter().all(|done| done.is_ok()));
            let mut read = [0; 4096];
            let (mut read, marked) = (pin!(disk.read(Sector(0), &mut read)), [MARK; 512]);
            let mut write = pin!(disk.write(Sector(256), &marked));
            assert!(poll!(&mut read).is_pending() && poll!(&mut write).is_pending());
            let next = host.move_to(slow());
            while !host.xen.disk_is_connected(next) {
                select_biased! {
                    () = disk.serve().fuse() => {}
                    () = kernel::pause().fuse() => {}
                }
            }
            let pages = host.domain.granted_to(host.next.domid());
            let with = |byte: u8| {
                let row = [byte; 64];
                let has = |page: &&Vec<u8>| page.windows(row.len()).any(|bytes| bytes == row);
                pages.iter().filter(has).count()
            };
            assert_eq!((with(SECRET), with(MARK)), (0, 1), "of {}", pages.len());
            read.await.unwrap();
            write.await.unwrap();
        });
    }
}

// ---- Parts of sectors ----

fn large() -> DiskConfig {
    DiskConfig {
        sector_bytes: 4096,
        ..slow()
    }
}

/// Who does not look at what became of his write keeps nobody from its sector.
#[test]
fn a_write_that_nobody_looks_at_keeps_nobody() {
    with_disk(large(), async |host, disk| {
        let volume = Volume::whole(&disk).await.unwrap();
        let mut whole = pin!(disk.write(Sector(0), &[1; 4096]));
        assert!(poll!(&mut whole).is_pending());
        let parts = [&[2; 512][..]];
        let part = volume.write(Sector(1), &parts);
        let part = disk.bus().timeout(Duration::from_secs(1), part).await;
        assert_eq!(part, Ok(Ok(())));
        whole.await.unwrap();
        let content = host.xen.disk_content(host.id);
        assert_eq!((content[0], content[512], content[1024]), (1, 2, 1));
    });
}

/// Whoever writes a whole sector while a part of it is on its way comes after that, also
/// with pages of its own.
#[test]
fn a_whole_sector_is_written_after_a_part_of_it() {
    with_disk(large(), async |host, disk| {
        let volume = Volume::whole(&disk).await.unwrap();
        for fill in 1..5 {
            let mut buffer = disk.buffer(1).await.unwrap();
            buffer.copy_from(0, &[fill; 4096]);
            let parts = [&[!fill; 512][..]];
            let mut part = pin!(volume.write(Sector(3), &parts));
            assert!(poll!(&mut part).is_pending());
            let ((_, granted), part) = join!(disk.write_granted(Sector(0), buffer), part);
            granted.and(part).unwrap();
            let content = host.xen.disk_content(host.id);
            assert_eq!(content[..4096], [fill; 4096], "{fill}");
        }
    });
}

/// Whoever waits for a part of a sector goes on when the one before it leaves, whose
/// requests were all answered.
#[test]
fn who_leaves_lets_the_next_go_on() {
    with_disk(large(), async |host, disk| {
        let volume = Volume::whole(&disk).await.unwrap();
        let parts = [[1; 512], [2; 512]];
        let (one, other) = ([&parts[0][..]], [&parts[1][..]]);
        let mut first = Box::pin(volume.write(Sector(0), &one));
        assert!(poll!(&mut first).is_pending());
        let leaves = async {
            disk.bus().sleep(Duration::from_secs(1)).await;
            drop(first);
        };
        let (second, ()) = join!(volume.write(Sector(1), &other), leaves);
        second.unwrap();
        let content = host.xen.disk_content(host.id);
        assert_eq!(content[..512], [0; 512]);
        assert_eq!(content[512..1024], [2; 512]);
    });
}
