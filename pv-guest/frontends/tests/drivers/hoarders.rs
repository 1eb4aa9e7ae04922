//! Backends that keep every page that they map, for ever: what a device costs the guest
//! has a bound, whatever the device is used for.

use std::{
    future::Future as _,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use grant_tables::{Borrowed, GrantTable, Granted, Page, PeerWrites, ReadWrite, Version};
use hypercall_abi::DomId;
use mock_hypervisor::{
    Config, DiskConfig, DiskId, Domain, Mischief, NicConfig, NicId, Outcome, Time, Xen,
};
use pv_frontends::{
    blkfront::{self, Disk, Sector},
    netfront::{self, Nic, Offload},
    xenbus::{Bus, Fault, MAX_QUARANTINED_PAGES, Status},
};

use crate::kernel;

const SECOND: Duration = Duration::from_secs(1);
/// What a connection takes beside: rings, and pages of requests.
const OF_A_CONNECTION: u32 = 200;

/// Runs a guest of 4,096 pages, with a disk and an interface.
fn with(main: impl for<'g> AsyncFnOnce(&Xen, DiskId, NicId, Bus<'g, &'g Domain>)) {
    let xen = Xen::new(Time::Virtual);
    let config = Config {
        memory_mib: 16,
        ..Config::default()
    };
    let domain = xen.domain(config).unwrap();
    let disk = DiskConfig {
        sectors: 1 << 15,
        ..DiskConfig::default()
    };
    let disk = xen.attach_disk(domain.domid(), disk);
    let nic = NicConfig {
        latency_ns: 100_000,
        ..NicConfig::default()
    };
    let nic = xen.attach_nic(domain.domid(), nic);
    let outcome = domain.run(|domain| {
        let done = kernel::run_until(domain, Some(600_000_000_000), async |bus: Bus<'_, _>| {
            main(&xen, disk, nic, bus).await;
        });
        done.unwrap().expect("it waits for ever");
    });
    assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
}

/// References that are taken: each has a page.
fn lent(bus: Bus<'_, &Domain>) -> u32 {
    bus.grants().references() - bus.grants().free_references()
}

/// A device is the same, however often a driver of it begins anew.
#[test]
fn a_driver_that_begins_anew_is_counted_with_the_one_before() {
    with(async |xen, id, _, bus| {
        xen.disk_mischief(id, Mischief::HoardAll);
        let bytes = vec![7; 256 << 10];
        let mut connected = 0;
        let mut last = Status::Connecting;
        for _ in 0..20 {
            let disk = Disk::new(bus, "51712", blkfront::Config::default());
            match disk.ready_within(SECOND).await {
                Ok(_) => {
                    connected += 1;
                    disk.write(Sector(0), &bytes).await.unwrap();
                }
                Err(_) => last = disk.status(),
            }
            disk.close().await;
        }
        let kept = bus.grants().quarantined();
        let most = MAX_QUARANTINED_PAGES..MAX_QUARANTINED_PAGES + OF_A_CONNECTION;
        assert!(
            most.contains(&kept) && connected < 10,
            "{kept} pages are kept after {connected} connections"
        );
        let Status::Retrying { fault, .. } = last else {
            panic!("{last:?}");
        };
        assert_eq!(fault, Fault::Quarantine);
        assert!(Page::new(bus.grants()).is_ok());
        // Another device's backend has done nothing.
        let nic = Nic::new(bus, "0", netfront::Config::default());
        nic.ready().await.unwrap();
        nic.close().await;
    });
}

/// Pages that the backend does not let go of are the next buffer's, however many they are.
#[test]
fn buffers_of_a_disk_are_made_of_what_is_kept() {
    const PAGES: usize = 1500;
    with(async |xen, id, _, bus| {
        xen.disk_mischief(id, Mischief::HoardAll);
        let disk = Disk::new(bus, "51712", blkfront::Config::default());
        disk.ready().await.unwrap();
        for _ in 0..4 {
            let buffer = disk.buffer(PAGES).await.unwrap();
            let (_, read) = disk.read_granted(Sector(0), buffer).await;
            read.unwrap();
        }
        let (all, kept) = (lent(bus), bus.grants().quarantined());
        assert!(all < PAGES as u32 + OF_A_CONNECTION, "{all} pages are lent");
        assert_eq!(kept, 0);
        disk.close().await;
    });
}

/// Of pages that the backend lets go of, some are kept, and the others given back.
#[test]
fn an_honest_backend_leaves_no_more_than_some_pages_behind() {
    with(async |_, _, _, bus| {
        let disk = Disk::new(bus, "51712", blkfront::Config::default());
        disk.ready().await.unwrap();
        let before = lent(bus);
        drop(disk.buffer(1500).await.unwrap());
        assert_eq!(lent(bus) - before, 1024);
        let nic = Nic::new(bus, "0", netfront::Config::default());
        nic.ready().await.unwrap();
        let before = lent(bus);
        drop(nic.buffer(8).await.unwrap());
        assert_eq!(lent(bus), before);
        disk.close().await;
        nic.close().await;
    });
}

#[test]
fn buffers_of_an_interface_are_made_of_what_is_kept() {
    with(async |xen, _, id, bus| {
        xen.nic_mischief(id, Mischief::HoardAll);
        let nic = Nic::new(bus, "0", netfront::Config::default());
        nic.ready().await.unwrap();
        let before = lent(bus);
        for _ in 0..100 {
            let mut buffer = nic.buffer(1).await.unwrap();
            let mut bytes = [0xff; 200];
            buffer.copy_to(0, &mut bytes);
            assert_eq!(bytes, [0; 200], "a buffer is zeroed when it is made");
            buffer.copy_from(0, &[0x42; 200]);
            let (_, sent) = nic.send_granted(buffer, 200, Offload::default()).await;
            sent.unwrap();
        }
        assert_eq!(lent(bus) - before, 1);
        nic.close().await;
    });
}

/// Whoever leaves his pages in a ring, again and again, is told when that is too many.
#[test]
fn buffers_that_are_left_with_a_backend_have_a_bound() {
    with(async |xen, _, id, bus| {
        xen.nic_mischief(id, Mischief::HoardAll);
        let nic = Nic::new(bus, "0", netfront::Config::default());
        nic.ready().await.unwrap();
        let mut refused = None;
        for _ in 0..1000 {
            let buffer = match nic.buffer(1).await {
                Ok(buffer) => buffer,
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            };
            let mut sent = pin!(nic.send_granted(buffer, 200, Offload::default()));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(sent.as_mut().poll(&mut cx).is_pending());
            // The answer comes when nobody waits for it.
            let answered_ns = bus.now_ns() + 1_000_000;
            while bus.now_ns() < answered_ns {
                kernel::pause().await;
            }
        }
        assert_eq!(refused, Some(netfront::Error::Quarantine));
        let kept = bus.grants().quarantined();
        let most = MAX_QUARANTINED_PAGES..MAX_QUARANTINED_PAGES + 20;
        assert!(most.contains(&kept), "{kept} pages are kept");
        let its = bus.grants().quarantined_of(bus.owner_of("vif", "0"));
        assert_eq!(its, kept, "pages are counted for another");
        // The interface itself goes on, and so does everybody else.
        nic.send(&[&[0x42; 200]], Offload::default()).await.unwrap();
        assert!(Page::new(bus.grants()).is_ok());
        nic.close().await;
    });
}

/// Pages that backends have let go of meanwhile keep no connection from being made.
#[test]
fn what_was_kept_and_let_go_of_is_not_counted() {
    with(async |xen, _, _, bus| {
        let (grants, owner) = (bus.grants(), bus.owner_of("vbd", "51712"));
        let before = xen.domain(Config::default()).unwrap();
        let theirs = GrantTable::new(&before, Version::One).unwrap();
        let lent: Vec<_> = (0..=MAX_QUARANTINED_PAGES)
            .map(|_| {
                let page = Page::new(grants).unwrap();
                let mut lent = grants.share::<PeerWrites>(before.domid(), page).unwrap();
                lent.set_owner(owner);
                lent
            })
            .collect();
        let grefs: Vec<_> = lent.iter().map(Granted::gref).collect();
        let kept = Borrowed::<_, ReadWrite>::map(&theirs, DomId(1), &grefs).unwrap();
        drop(lent);
        assert_eq!(grants.quarantined_of(owner), MAX_QUARANTINED_PAGES + 1);
        let disk = Disk::new(bus, "51712", blkfront::Config::default());
        assert!(disk.ready_within(SECOND / 2).await.is_err());
        let Status::Retrying { fault, .. } = disk.status() else {
            panic!("{:?}", disk.status());
        };
        assert_eq!(fault, Fault::Quarantine);
        drop(kept);
        disk.ready_within(10 * SECOND).await.unwrap();
        disk.close().await;
    });
}
