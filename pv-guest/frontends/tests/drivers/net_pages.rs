//! What backends of a network interface see of the guest's pages: of packets of before,
//! nothing; and what one of before still reads is not written over.

use std::{num::NonZeroU16, time::Duration};

use futures_util::{FutureExt as _, future::join_all, join, poll, select_biased};
use mock_hypervisor::{Config, Domain, Frame, Mischief, NicConfig, Outcome, Suspend, Time, Xen};
use pv_frontends::{
    netfront::{self, Checksum, Error, Nic, Offload, Protocol, Segmentation, Status},
    xenbus::{Bus, Fault, MAX_QUARANTINED_PAGES},
};

use crate::{
    kernel,
    nic::{Host, MAC, OTHER, ethernet, guest, plain, with_nic},
    tcp::tcp,
};

/// What packets of before are full of.
const SECRET: [u8; 16] = [0x5a; 16];

fn secret(to: [u8; 6]) -> Vec<u8> {
    ethernet(to, 0x88b5, &[SECRET[0]; 1000])
}

fn tells_secret(pages: &[Vec<u8>]) -> bool {
    assert!(!pages.is_empty());
    let tells = |page: &Vec<u8>| page.windows(16).any(|bytes| bytes == SECRET);
    pages.iter().any(tells)
}

/// Looks after an interface until there is another connection.
async fn another_connection(nic: &Nic<'_, &Domain>, before: u64) {
    while nic.counters().connections == before {
        select_biased! {
            () = nic.serve().fuse() => {}
            () = kernel::pause().fuse() => {}
        }
    }
}

async fn restart(host: &Host, nic: &Nic<'_, &Domain>) {
    let before = nic.counters().connections;
    host.xen.restart_nic(host.id);
    another_connection(nic, before).await;
}

/// Packets that were sent and received are full of it, on their way and back.
async fn exchange_secrets(host: &Host, nic: &Nic<'_, &Domain>) {
    let (mut buffer, packet) = (Vec::new(), secret(OTHER));
    let parts = [&packet[..]];
    nic.ready().await.unwrap();
    // At once, and before one is answered, so that each has a page of its own.
    for sent in join_all((0..40).map(|_| nic.send(&parts, Offload::default()))).await {
        sent.unwrap();
    }
    for _ in 0..40 {
        host.tap.send(Frame::whole(secret(MAC)));
        nic.receive(&mut buffer).await.unwrap();
    }
    nic.bus().sleep(Duration::from_secs(1)).await;
    // Whoever sends takes the answers of before.
    nic.send(&parts, Offload::default()).await.unwrap();
}

/// The next backend may be another's, on another host, under the same number.
#[test]
fn the_next_backend_sees_nothing_of_before() {
    let config = netfront::Config::default();
    let slow = NicConfig {
        latency_ns: 1_000_000,
        ..NicConfig::default()
    };
    with_nic(slow, config, async |host, nic| {
        nic.ready().await.unwrap();
        let bus = nic.bus();
        let domain = bus.ports().platform();
        exchange_secrets(host, &nic).await;
        let peer = nic.buffer(1).await.unwrap().peer();
        assert!(tells_secret(&domain.granted_to(peer)), "nothing is shown");
        restart(host, &nic).await;
        assert!(!tells_secret(&domain.granted_to(peer)));
        // Buffers start with zeroes, too.
        let mut buffer = nic.buffer(4).await.unwrap();
        buffer.copy_from(0, &SECRET);
        drop(buffer);
        let _buffer = nic.buffer(4).await.unwrap();
        assert!(!tells_secret(&domain.granted_to(peer)));
        nic.close().await;
    });
}

/// Writes the directory of another backend's interface over that of this one, and leaves
/// the frontend's state as it is: it is not seen to go.
fn move_to(xen: &Xen, domain: &Domain, config: NicConfig) {
    xen.attach_nic(domain.domid(), config);
    let state = format!("/local/domain/{}/device/vif/0/state", domain.domid());
    xen.store_write(&state, b"4").unwrap();
}

/// An interface that is another domain's from one moment to the next: pages are lent to that domain, without what was in them, and buffers that the first one has
/// are copied.
#[test]
fn an_interface_moves_by_its_keys() {
    let xen = Xen::new(Time::Virtual);
    let domain = guest(&xen);
    let owners = [(); 2].map(|()| xen.domain(Config::default()).unwrap());
    let bridges = ["first", "second"];
    let at = |owner: usize| NicConfig {
        backend: owners[owner].domid(),
        bridge: bridges[owner].into(),
        latency_ns: 1_000_000,
        ..NicConfig::default()
    };
    let id = xen.attach_nic(domain.domid(), at(0));
    let taps = bridges.map(|bridge| xen.tap(bridge));
    let [tap, second] = taps;
    let host = Host {
        xen: xen.clone(),
        id,
        tap,
    };
    let outcome = domain.run(|domain| {
        let done = kernel::run_until(domain, Some(60_000_000_000), async |bus: Bus<'_, _>| {
            let nic = Nic::new(bus, "0", netfront::Config::default());
            exchange_secrets(&host, &nic).await;
            let mut lent = nic.buffer(1).await.unwrap();
            let packet = plain(OTHER, 300);
            lent.copy_from(0, &packet);
            let before = nic.counters().connections;
            move_to(&xen, domain, at(1));
            another_connection(&nic, before).await;
            assert!(!tells_secret(&domain.granted_to(owners[1].domid())));
            let (_, sent) = nic.send_granted(lent, 300, Offload::default()).await;
            sent.unwrap();
            nic.send(&[&packet], Offload::default()).await.unwrap();
            bus.sleep(Duration::from_secs(1)).await;
            for _ in 0..2 {
                assert_eq!(second.receive(), Some(Frame::whole(packet.clone())));
            }
            let mut buffer = Vec::new();
            for len in 60..400 {
                second.send(Frame::whole(plain(MAC, len)));
                nic.receive(&mut buffer).await.unwrap();
                assert_eq!(buffer, plain(MAC, len));
            }
            assert_eq!(nic.counters().rx_dropped, 0);
            nic.close().await;
        });
        done.unwrap().expect("it waits for ever");
    });
    assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
}

/// What a backend had not sent when it went, it may still be about to send: the packet is
/// what it was, whatever is sent by the next.
#[test]
fn packets_of_a_backend_that_is_gone_are_not_written_over() {
    let slow = NicConfig {
        latency_ns: 5_000_000,
        ..NicConfig::default()
    };
    with_nic(slow, netfront::Config::default(), async |host, nic| {
        nic.ready().await.unwrap();
        host.xen.nic_mischief(host.id, Mischief::HoardAll);
        let sent = nic.send(&[&secret(OTHER)], Offload::default()).await;
        sent.unwrap();
        restart(host, &nic).await;
        for _ in 0..40 {
            let sent = nic.send(&[&plain(OTHER, 1000)], Offload::default()).await;
            sent.unwrap();
        }
        assert!(tells_secret(&host.xen.nic_kept_pages(host.id)));
        nic.close().await;
    });
}

/// Pages that are lent for good are counted, and no others: each but those of rings.
#[test]
fn what_is_lent_is_what_is_counted() {
    let slow = NicConfig {
        latency_ns: 5_000_000,
        ..NicConfig::default()
    };
    with_nic(slow, netfront::Config::default(), async |host, nic| {
        let bus = nic.bus();
        let used = || bus.grants().references() - bus.grants().free_references();
        let before = used();
        nic.ready().await.unwrap();
        for round in 0..4 {
            // The last of them have no answer yet.
            for _ in 0..50 {
                let sent = nic.send(&[&plain(OTHER, 100)], Offload::default()).await;
                sent.unwrap();
            }
            assert_eq!(used() - before, nic.counters().pages + 2, "round {round}");
            restart(host, &nic).await;
            bus.grants().release_quarantine();
            assert_eq!(used() - before, nic.counters().pages + 2, "round {round}");
        }
        nic.close().await;
        assert_eq!(nic.counters().pages, 0);
    });
}

/// Backends that keep all that they map have a bound, which counts buffers of the user's.
#[test]
fn backends_that_keep_pages_do_not_get_all_of_them() {
    const SECOND: Duration = Duration::from_secs(1);
    let slow = NicConfig {
        latency_ns: 5_000_000,
        ..NicConfig::default()
    };
    let wanted = netfront::Config {
        rx_pages: 18,
        ..netfront::Config::default()
    };
    with_nic(slow, wanted, async |host, nic| {
        let bus = nic.bus();
        nic.ready().await.unwrap();
        host.xen.nic_mischief(host.id, Mischief::HoardAll);
        let packet = tcp(false, OTHER, 32_000);
        let offload = Offload {
            checksum: Checksum::Blank,
            segmentation: Some(Segmentation {
                protocol: Protocol::TcpV4,
                segment_bytes: NonZeroU16::new(1400).unwrap(),
            }),
        };
        let mut refused = false;
        for _ in 0..60 {
            let round = async {
                let mut buffer = nic.buffer(8).await?;
                buffer.copy_from(0, &packet);
                let sent = nic.send_granted(buffer, packet.len(), offload);
                let gone = async {
                    kernel::pause().await;
                    host.xen.restart_nic(host.id);
                };
                let ((_, sent), ()) = join!(sent, gone);
                sent
            };
            let outcome = bus.timeout(SECOND, round).await;
            // Either there is no buffer, or no connection.
            refused |= matches!(outcome, Err(_) | Ok(Err(Error::Quarantine)));
            // By itself the bus does not ask one again that ends so soon.
            let _again = bus.timeout(SECOND, nic.reconnect()).await;
        }
        let kept = bus.grants().quarantined();
        let most = MAX_QUARANTINED_PAGES..MAX_QUARANTINED_PAGES + 40;
        assert!(refused && most.contains(&kept), "{kept} pages are kept");
        // Nor is there another connection.
        assert!(nic.ready_within(SECOND).await.is_err());
        let status = nic.status();
        let Status::Retrying { fault, .. } = status else {
            panic!("{status:?}");
        };
        assert_eq!(fault, Fault::Quarantine);
        assert!(grant_tables::Page::new(bus.grants()).is_ok());
        nic.close().await;
    });
}

/// Whoever has a packet in lent pages when the interface is closed is told, and has its
/// pages back.
#[test]
fn a_lent_packet_ends_with_the_interface() {
    let slow = NicConfig {
        latency_ns: 5_000_000,
        ..NicConfig::default()
    };
    with_nic(slow, netfront::Config::default(), async |_, nic| {
        let buffer = nic.buffer(2).await.unwrap();
        let mut sent = Box::pin(nic.send_granted(buffer, 1000, Offload::default()));
        assert!(poll!(&mut sent).is_pending());
        nic.close().await;
        let (buffer, sent) = sent.await;
        assert_eq!((buffer.len_bytes(), sent), (8192, Err(Error::Lost)));
    });
}

/// Its grants ended where it was made; it is lent anew when it is sent.
#[test]
fn a_packet_that_was_made_before_a_move_is_sent_after_it() {
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic| {
            nic.ready().await.unwrap();
            let mut buffer = nic.buffer(1).await.unwrap();
            let packet = ethernet(OTHER, 0x88b5, &[7; 100]);
            buffer.copy_from(0, &packet);
            let before = nic.counters().connections;
            let domid = nic.bus().ports().platform().domid();
            host.xen.suspend(domid, Suspend::Moved).unwrap();
            another_connection(&nic, before).await;
            while host.tap.receive().is_some() {}
            let sent = nic.send_granted(buffer, packet.len(), Offload::default());
            let (buffer, sent) = sent.await;
            assert_eq!((buffer.len_bytes(), sent), (4096, Ok(())));
            assert_eq!(host.tap.receive().map(|frame| frame.bytes), Some(packet));
            nic.close().await;
        },
    );
}
