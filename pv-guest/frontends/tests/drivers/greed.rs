//! Whoever feeds a task without end has it yield: a store's server, and a backend.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::future::{Either, select};
use hypercall_abi::{
    DomId,
    io::xs_wire::{XsMessageType, XsdSockmsg},
    peer::PeerPtr,
    peer_field,
    xen::{SharedInfo, VcpuInfo},
};
use mock_hypervisor::{
    Config, DiskConfig, DiskId, Domain, Mischief, NicConfig, Outcome, Time, Xen,
};
use pv_frontends::{
    blkfront::{self, Disk, Sector},
    netfront::{self, Nic},
    xenbus::Bus,
};
use zerocopy::IntoBytes;

use crate::kernel;

/// Runs a guest with a disk and an interface.
fn with_devices<T>(
    config: DiskConfig,
    main: impl for<'g> AsyncFnOnce(&Xen, DiskId, Bus<'g, &'g Domain>) -> T,
) -> T {
    let xen = Xen::new(Time::Virtual);
    let domain = Config {
        memory_mib: 16,
        ..Config::default()
    };
    let domain = xen.domain(domain).unwrap();
    let id = xen.attach_disk(domain.domid(), config);
    xen.attach_nic(domain.domid(), NicConfig::default());
    let outcome = domain.run(|domain| {
        let value = kernel::run_until(domain, Some(600_000_000_000), async |bus: Bus<'_, _>| {
            main(&xen, id, bus).await
        });
        value.unwrap().expect("it waits for ever")
    });
    match outcome {
        Outcome::Returned(value) => value,
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

const FLOOD: u64 = 20_000;
/// So many events at most are looked at in one turn of a task.
const MAX_AT_ONCE: u64 = 2_000;

/// Events of this path and token, as many as a [`FLOOD`].
fn flood(xen: &Xen, path: &str, token: &str) {
    let payload = format!("{path}\0{token}\0");
    let header = XsdSockmsg {
        r#type: XsMessageType::WATCH_EVENT,
        req_id: 0,
        tx_id: 0,
        len: payload.len() as u32,
    };
    let event = [header.as_bytes(), payload.as_bytes()].concat();
    xen.store_inject(DomId(1), &event.repeat(FLOOD as usize));
}

/// The most events of nobody's that one poll of the future looks at; it is polled until it
/// is done, or for a second.
async fn max_events_at_once(bus: Bus<'_, &Domain>, future: impl Future) -> u64 {
    let (most, events) = (Cell::new(0), || bus.store().strays().events);
    let mut future = pin!(future);
    let polled = poll_fn(|cx| {
        let before = events();
        let polled = future.as_mut().poll(cx);
        most.set(most.get().max(events() - before));
        polled
    });
    let _late = bus.timeout(Duration::from_secs(1), polled).await;
    assert_eq!(events(), FLOOD);
    most.get()
}

#[test]
fn a_store_that_floods_has_those_who_serve_devices_yield() {
    let long = "x".repeat(200);
    for user in 0..5 {
        with_devices(DiskConfig::default(), async |xen, _, bus| {
            let disk = Disk::new(bus, "51712", blkfront::Config::default());
            let nic = Nic::new(bus, "0", netfront::Config::default());
            disk.ready().await.unwrap();
            nic.ready().await.unwrap();
            let (mut bytes, mut packet) = ([0; 512], Vec::new());
            flood(xen, &long, "nobody's");
            let most = match user {
                0 => max_events_at_once(bus, disk.serve()).await,
                1 => max_events_at_once(bus, nic.receive(&mut packet)).await,
                2 => {
                    let reads = async {
                        loop {
                            disk.read(Sector(0), &mut bytes).await.unwrap();
                            kernel::pause().await;
                        }
                    };
                    max_events_at_once(bus, reads).await
                }
                3 => max_events_at_once(bus, nic.serve()).await,
                _ => {
                    let mut found = bus.discover("vbd").await.unwrap();
                    let next = async {
                        found.next().await.unwrap();
                        found.next().await.unwrap();
                    };
                    max_events_at_once(bus, next).await
                }
            };
            assert!(
                most < MAX_AT_ONCE,
                "{most} events in one poll of user {user}"
            );
        });
    }
}

/// The events are of the watch by which devices are found: each poll takes some.
#[test]
fn a_store_that_floods_has_those_who_look_for_devices_yield() {
    with_devices(DiskConfig::default(), async |xen, _, bus| {
        let mut found = bus.discover("vbd").await.unwrap();
        found.next().await.unwrap();
        flood(xen, &format!("device/vbd/{}", "x".repeat(1000)), "w1");
        let mut polls = 0;
        let mut next = pin!(found.next());
        let next = poll_fn(|cx| {
            polls += 1;
            next.as_mut().poll(cx)
        });
        let late = bus.timeout(Duration::from_secs(1), next).await;
        assert!(late.is_err());
        // 40 MiB, and no more than one in a poll.
        assert!(polls > 40, "{polls} polls");
    });
}

/// Each request of the guest's makes news, before it is answered: a key that changes.
fn have_requests_make_news(xen: &Xen, domain: &Domain, path: &'static str) -> Arc<AtomicU64> {
    let made = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&made);
    let host = xen.clone();
    // SAFETY: the domain's page, which lives as long as the domain; and so does what is
    // called by it.
    let shared: PeerPtr<'static, SharedInfo> = unsafe { PeerPtr::new(domain.shared_info()) };
    let first = peer_field!(shared, SharedInfo, vcpu_info).get(0).unwrap();
    domain.on_upcall(move |_| {
        // This is no guest's upcall: its executor takes the events.
        peer_field!(first, VcpuInfo, evtchn_upcall_pending).store(0);
        if count.fetch_add(1, Ordering::Relaxed) < NEWS {
            host.store_write(path, b"").unwrap();
            peer_field!(first, VcpuInfo, evtchn_upcall_pending).store(0);
        }
    });
    peer_field!(first, VcpuInfo, evtchn_upcall_mask).store(0);
    made
}

const NEWS: u64 = 1_000;
/// So much of it is looked at in one turn of a task.
const MAX_NEWS_AT_ONCE: u64 = 20;

#[test]
fn news_without_end_has_those_who_look_at_it_yield() {
    const OWN: &str = "/local/domain/1/device/vbd/51712/none";
    for path in [OWN, "/local/domain/0/backend/vbd/1/51712/none"] {
        with_devices(DiskConfig::default(), async |xen, _, bus| {
            let disk = Disk::new(bus, "51712", blkfront::Config::default());
            disk.ready().await.unwrap();
            let made = have_requests_make_news(xen, bus.ports().platform(), path);
            let mut most = 0;
            let mut serving = pin!(disk.serve());
            let polled = poll_fn(|cx| {
                let before = made.load(Ordering::Relaxed);
                let _going_on = serving.as_mut().poll(cx);
                most = most.max(made.load(Ordering::Relaxed) - before);
                Poll::<()>::Pending
            });
            xen.store_write(path, b"").unwrap();
            let _late = bus.timeout(Duration::from_secs(1), polled).await;
            assert!(made.load(Ordering::Relaxed) >= NEWS, "{path}: {made:?}");
            assert!(most < MAX_NEWS_AT_ONCE, "{most} in one poll, of {path}");
        });
    }
}

/// A backend rings ten times as often as is allowed, while a request waits.
#[test]
fn a_backend_that_rings_for_nothing_is_held_back() {
    let config = DiskConfig {
        latency_ns: 100_000_000,
        ..DiskConfig::default()
    };
    with_devices(config, async |xen, id, bus| {
        let disk = Disk::new(bus, "51712", blkfront::Config::default());
        disk.ready().await.unwrap();
        let mut bytes = [0; 512];
        let begin_ns = bus.now_ns();
        let mut polls = 0;
        let mut read = pin!(disk.read(Sector(0), &mut bytes));
        let read = poll_fn(|cx| {
            polls += 1;
            read.as_mut().poll(cx)
        });
        let storms = pin!(async {
            loop {
                // 10,000 times in 10 ms.
                xen.disk_mischief(id, Mischief::Storm);
                bus.sleep(Duration::from_millis(11)).await;
            }
        });
        match select(read, storms).await {
            Either::Left((read, _)) => read.unwrap(),
            Either::Right(((), _)) => unreachable!(),
        }
        let windows = (bus.now_ns() - begin_ns) / 10_000_000 + 1;
        assert!(polls < windows * 1100, "{polls} polls in {windows} windows");
    });
}

/// A backend that answers at once has something new each time that an operation looks.
#[test]
fn an_operation_of_many_requests_lets_others_have_their_turn() {
    with_devices(DiskConfig::default(), async |_, _, bus| {
        let config = blkfront::Config {
            max_pages: 1,
            ..blkfront::Config::default()
        };
        let disk = Disk::new(bus, "51712", config);
        disk.ready().await.unwrap();
        let bytes = vec![7; 1 << 20];
        let (sent, mut most) = (|| disk.counters().sent, 0);
        let mut write = pin!(disk.write(Sector(0), &bytes));
        let write = poll_fn(|cx| {
            let before = sent();
            let polled = write.as_mut().poll(cx);
            most = most.max(sent() - before);
            polled
        });
        write.await.unwrap();
        assert!(sent() >= 256);
        assert!((2..=65).contains(&most), "{most} requests in one poll");
    });
}
