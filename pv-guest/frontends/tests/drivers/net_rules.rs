//! What is said of packets, both ways: where it makes no sense, and where headers are odd.
//! And queues that are fewer than wanted, each of which works.

use std::num::NonZeroU16;

use event_channels::Channel;
use futures_util::{FutureExt as _, select_biased};
use hypercall_abi::{DomId, io::netif::NetifHashTypes};
use mock_hypervisor::{
    Checksum as Sum, Config, Domain, Frame, NicConfig, Outcome, Segments, Time, Xen,
};
use pv_frontends::{
    netfront::{
        self, Checksum, Error, Features, Nic, Offload, Protocol, Segmentation, Steered, Steering,
    },
    xenbus::Bus,
};

use crate::{
    kernel,
    nic::{MAC, OTHER, ethernet, guest, plain, with_nic},
    tcp::{sum, tcp},
};

/// Runs a guest with one interface, of which the toolstack says more than is usual: keys
/// of the backend's directory, or of the frontend's.
fn with_keys(
    config: NicConfig,
    keys: [&[(&str, &str)]; 2],
    main: impl for<'g> AsyncFnOnce(Nic<'g, &'g Domain>),
) {
    let xen = Xen::new(Time::Virtual);
    let domain = guest(&xen);
    let domid = domain.domid();
    xen.attach_nic(domid, config);
    let folders = [
        format!("/local/domain/0/backend/vif/{domid}/0"),
        format!("/local/domain/{domid}/device/vif/0"),
    ];
    for (folder, keys) in folders.iter().zip(keys) {
        for (key, value) in keys {
            let path = format!("{folder}/{key}");
            xen.store_write(&path, value.as_bytes()).unwrap();
        }
    }
    let outcome = domain.run(|domain| {
        let done = kernel::run_until(domain, Some(60_000_000_000), async |bus: Bus<'_, _>| {
            main(Nic::new(bus, "0", netfront::Config::default())).await;
        });
        done.unwrap().expect("it waits for ever");
    });
    assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
}

fn offload(checksum: Checksum, segments: Option<Protocol>) -> Offload {
    Offload {
        checksum,
        segmentation: segments.map(|protocol| Segmentation {
            protocol,
            segment_bytes: NonZeroU16::new(1400).unwrap(),
        }),
    }
}

// ---- What is offered ----

/// Who cuts packets takes several pieces: without that, one who says that it cuts is not
/// believed, and a packet has one page.
#[test]
fn segments_come_in_several_pieces() {
    let keys: [&[_]; 2] = [&[("feature-sg", "0")], &[("mtu", "9000")]];
    with_keys(NicConfig::default(), keys, async |nic| {
        let interface = nic.ready().await.unwrap();
        let segments = Features::SEGMENT_V4 | Features::SEGMENT_V6;
        assert!(!interface.features.intersects(segments));
        assert_eq!(interface.mtu, 1500);
        for is_v6 in [false, true] {
            let protocol = [Protocol::TcpV4, Protocol::TcpV6][usize::from(is_v6)];
            let offload = offload(Checksum::Blank, Some(protocol));
            let sent = nic.send(&[&tcp(is_v6, OTHER, 3000)], offload).await;
            assert_eq!(sent, Err(Error::NotSupported("segmentation")));
        }
        nic.close().await;
    });
}

#[test]
fn an_mtu_lies_within_bounds() {
    for (mtu, expected) in [
        ("0", 68),
        ("67", 68),
        ("68", 68),
        ("65535", 65_517),
        ("65536", 1500),
        ("-1", 1500),
        ("x", 1500),
    ] {
        let keys: [&[_]; 2] = [&[], &[("mtu", mtu)]];
        with_keys(NicConfig::default(), keys, async |nic| {
            assert_eq!(nic.ready().await.unwrap().mtu, expected, "{mtu}");
            nic.close().await;
        });
    }
}

// ---- What is sent ----

/// Segments of a kind that the packet is not of: nobody could cut it so.
#[test]
fn segments_are_of_their_packets_kind() {
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic| {
            nic.ready().await.unwrap();
            let datagram = datagram([0, 0]);
            for (packet, protocol) in [
                (tcp(false, OTHER, 3000), Protocol::TcpV6),
                (tcp(true, OTHER, 3000), Protocol::TcpV4),
                (datagram, Protocol::TcpV4),
                (plain(OTHER, 100), Protocol::TcpV4),
            ] {
                for checksum in [Checksum::Blank, Checksum::Complete] {
                    let offload = offload(checksum, Some(protocol));
                    let reason = "segmentation of what is not TCP";
                    let refused = Err(Error::NotSupported(reason));
                    assert_eq!(nic.send(&[&packet], offload).await, refused);
                    let before = nic.counters().tx_dropped;
                    nic.poller().send_with(packet.len(), |target| {
                        target.copy_from_slice(&packet);
                        (offload, ())
                    });
                    assert_eq!(nic.counters().tx_dropped, before + 1);
                }
            }
            assert_eq!(host.tap.receive(), None);
            nic.close().await;
        },
    );
}

/// What is known of a packet is told, and nothing else: not even a wrong checksum is
/// changed where there is one.
#[test]
fn what_is_said_of_a_checksum_is_told() {
    for checksums_v4 in [true, false] {
        let config = NicConfig {
            checksums_v4,
            ..NicConfig::default()
        };
        with_nic(config, netfront::Config::default(), async |host, nic| {
            nic.ready().await.unwrap();
            // One that is not right, and a datagram that has none.
            for packet in [tcp(false, OTHER, 200), datagram([0, 0])] {
                for (said, told) in [
                    (Checksum::Validated, Sum::Validated),
                    (Checksum::Complete, Sum::Complete),
                ] {
                    let offload = offload(said, None);
                    nic.send(&[&packet], offload).await.unwrap();
                    let mut buffer = nic.buffer(1).await.unwrap();
                    buffer.copy_from(0, &packet);
                    let (_, sent) = nic.send_granted(buffer, packet.len(), offload).await;
                    sent.unwrap();
                    nic.poller().send_with(packet.len(), |target| {
                        target.copy_from_slice(&packet);
                        (offload, ())
                    });
                    for _ in 0..3 {
                        let sent = host.tap.receive().unwrap();
                        assert_eq!((sent.checksum, &sent.bytes), (told, &packet));
                    }
                }
            }
            nic.close().await;
        });
    }
}

/// No backend has to make a segmented packet's checksum blank.
#[test]
fn segments_are_told_with_a_blank_checksum() {
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic| {
            nic.ready().await.unwrap();
            let packet = tcp(false, OTHER, 5000);
            for checksum in [Checksum::Blank, Checksum::Complete, Checksum::Validated] {
                let offload = offload(checksum, Some(Protocol::TcpV4));
                nic.send(&[&packet], offload).await.unwrap();
                let mut buffer = nic.buffer(2).await.unwrap();
                buffer.copy_from(0, &packet);
                let sent = nic.send_granted(buffer, packet.len(), offload).await;
                sent.1.unwrap();
                for _ in 0..2 {
                    assert!(host.tap.receive().unwrap().is_right());
                }
            }
            assert_eq!(host.xen.nic_checksum_fixups(host.id), 0);
            nic.close().await;
        },
    );
}

/// A datagram of UDP whose checksum is to be filled in or is there.
fn datagram(payload: [u8; 2]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend([0, 53, 0x12, 0x34, 0, 10, 0, 0]);
    packet.extend(payload);
    ethernet(OTHER, 0x0800, &packet)
}

/// Of UDP, zero means that there is no checksum: one whose sum it is has the other zero.
#[test]
fn a_checksum_of_zero_is_not_none() {
    // What is summed: addresses, protocol, the length twice, ports.
    let rest = sum(&[
        &[10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 10, 0, 53, 0x12, 0x34],
        &[0, 10],
    ]);
    let config = NicConfig {
        checksums_v4: false,
        ..NicConfig::default()
    };
    with_nic(config, netfront::Config::default(), async |host, nic| {
        let blank = offload(Checksum::Blank, None);
        for (payload, expected) in [(!rest, 0xffff), (!rest - 1, 1)] {
            let packet = datagram(payload.to_be_bytes());
            nic.send(&[&packet], blank).await.unwrap();
            let sent = host.tap.receive().unwrap();
            assert!(sent.checksum == Sum::Complete && sent.is_right());
            assert_eq!(sent.bytes[40..42], u16::to_be_bytes(expected));
        }
        nic.close().await;
    });
}

/// Headers that are longer than what is looked at first.
#[test]
fn a_checksum_behind_many_headers_is_filled_in() {
    let config = NicConfig {
        checksums_v6: false,
        ..NicConfig::default()
    };
    with_nic(config, netfront::Config::default(), async |host, nic| {
        // Two headers of options, 240 bytes each, and a datagram.
        let mut packet = vec![0x60, 0, 0, 0, 1, 0xea, 60, 64];
        packet.extend([0xfd; 32]);
        for next in [60, 17] {
            packet.extend([next, 29, 1, 236]);
            packet.extend([0; 236]);
        }
        packet.extend([0, 53, 0x12, 0x34, 0, 10, 0, 0, 7, 8]);
        let packet = ethernet(OTHER, 0x86dd, &packet);
        let blank = offload(Checksum::Blank, None);
        nic.send(&[&packet[..60], &packet[60..]], blank)
            .await
            .unwrap();
        let mut buffer = nic.buffer(1).await.unwrap();
        buffer.copy_from(0, &packet);
        let (_, lent) = nic.send_granted(buffer, packet.len(), blank).await;
        lent.unwrap();
        for _ in 0..2 {
            let sent = host.tap.receive().unwrap().bytes;
            let datagram = &sent[534..];
            let whole = sum(&[&[0xfd; 32], &[0, 17, 0, 10], datagram]);
            assert_eq!(whole, 0xffff, "{datagram:?}");
        }
        nic.close().await;
    });
}

// ---- What comes ----

/// Segments of a kind that the packet is not of are none: whoever sent them on would have
/// them cut wrong.
#[test]
fn what_comes_with_segments_of_another_kind_is_dropped() {
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic| {
            nic.ready().await.unwrap();
            let mut dropped = 0;
            for (bytes, segments) in [
                (tcp(false, MAC, 3000), Segments::TcpV6(1000)),
                (tcp(true, MAC, 3000), Segments::TcpV4(1000)),
                (plain(MAC, 3000), Segments::TcpV4(1000)),
            ] {
                host.tap.send(Frame {
                    bytes,
                    checksum: Sum::Blank,
                    segments: Some(segments),
                });
                host.tap.send(Frame::whole(plain(MAC, 101)));
                let mut buffer = Vec::new();
                let received = nic.receive(&mut buffer).await.unwrap();
                assert_eq!(received.len_bytes, 101);
                dropped += 1;
                assert_eq!(nic.counters().rx_dropped, dropped);
            }
            nic.close().await;
        },
    );
}

// ---- Queues ----

fn queues(count: u32) -> netfront::Config {
    netfront::Config {
        queues: count,
        rx_pages: 32,
        ..netfront::Config::default()
    }
}

/// A packet of a flow of its own, of which there may be 256.
fn of_flow(flow: u8) -> Vec<u8> {
    let mut packet = tcp(false, MAC, 20);
    packet[35] = flow;
    packet
}

/// Whoever polls gets a packet whichever queue has it.
#[test]
fn a_poll_looks_at_all_queues() {
    let config = NicConfig {
        queues: 4,
        ..NicConfig::default()
    };
    with_nic(config, queues(4), async |host, nic| {
        nic.ready().await.unwrap();
        let mut poller = nic.poller();
        let (mut buffer, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
        for flow in 0..100 {
            host.tap.send(Frame::whole(of_flow(flow)));
            let received = poller.receive(&mut buffer).expect("it is there");
            assert_eq!(buffer[35], flow);
            seen.insert(received.queue);
            assert_eq!(poller.receive(&mut buffer), None);
        }
        assert_eq!(seen.len(), 4);
        drop(poller);
        nic.close().await;
    });
}

/// A single port does for both directions, where the backend would take two.
#[test]
fn the_last_port_does_for_both_directions() {
    let config = NicConfig {
        queues: 4,
        ..NicConfig::default()
    };
    for (ports, expected) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        with_nic(config.clone(), queues(4), async |host, nic| {
            let bus = nic.bus();
            let mut taken = Vec::new();
            while let Ok(channel) = Channel::unbound(bus.ports(), DomId(0)) {
                taken.push(channel);
            }
            taken.truncate(taken.len() - ports);
            assert_eq!(nic.ready().await.unwrap().queues, expected);
            let mut buffer = Vec::new();
            for flow in 0..20 {
                host.tap.send(Frame::whole(of_flow(flow)));
                nic.receive(&mut buffer).await.unwrap();
                assert_eq!(buffer[35], flow);
                nic.send(&[&buffer], Offload::default()).await.unwrap();
                assert!(host.tap.receive().is_some());
            }
            nic.close().await;
        });
    }
}

/// Where memory is short the first queue leaves some: for other queues, for what is sent,
/// and for whoever else needs a page. The backend steers to the queues that there are.
#[test]
fn fewer_queues_leave_memory_and_are_steered_to() {
    let xen = Xen::new(Time::Virtual);
    let small = Config {
        memory_mib: 4,
        ..Config::default()
    };
    let domain = xen.domain(small).unwrap();
    let config = NicConfig {
        queues: 8,
        ..NicConfig::default()
    };
    xen.attach_nic(domain.domid(), config);
    let tap = xen.tap("xenbr0");
    let outcome = domain.run(|domain| {
        let done = kernel::run_until(domain, Some(60_000_000_000), async |bus: Bus<'_, _>| {
            let wanted = netfront::Config {
                rx_pages: 256,
                steering: Some(Steering {
                    key: [0x6d; 40],
                    hashes: NetifHashTypes::IPV4_TCP,
                }),
                ..queues(8)
            };
            let mut taken = Vec::new();
            while let Ok(page) = grant_tables::Page::new(bus.grants()) {
                taken.push(page);
            }
            taken.truncate(taken.len() - 110);
            let nic = Nic::new(bus, "0", wanted);
            let count = nic.ready().await.unwrap().queues;
            assert!((2..8).contains(&count), "{count}");
            let spare = grant_tables::Page::new(bus.grants());
            drop(spare.expect("no page is left"));
            while nic.steered() == Steered::Asked {
                select_biased! {
                    () = nic.serve().fuse() => {}
                    () = kernel::pause().fuse() => {}
                }
            }
            assert_eq!(nic.steered(), Steered::Yes);
            let (mut buffer, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
            for flow in 0..=255 {
                tap.send(Frame::whole(of_flow(flow)));
                let received = nic.receive(&mut buffer).await.unwrap();
                assert_eq!(buffer[35], flow);
                seen.insert(received.queue);
                nic.send(&[&plain(OTHER, 60)], Offload::default())
                    .await
                    .unwrap();
                assert!(tap.receive().is_some());
            }
            assert!(seen.into_iter().eq(0..count));
            nic.close().await;
        });
        done.unwrap().expect("it waits for ever");
    });
    assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
}

/// The backend's domain is another, which takes fewer queues: what the others had is free.
#[test]
fn queues_that_are_not_used_any_more_keep_nothing() {
    let xen = Xen::new(Time::Virtual);
    let domain = guest(&xen);
    let owner = xen.domain(Config::default()).unwrap();
    let many = NicConfig {
        queues: 4,
        ..NicConfig::default()
    };
    let first = xen.attach_nic(domain.domid(), many);
    let outcome = domain.run(|domain| {
        let done = kernel::run_until(domain, Some(60_000_000_000), async |bus: Bus<'_, _>| {
            let nic = Nic::new(bus, "0", queues(4));
            assert_eq!(nic.ready().await.unwrap().queues, 4);
            assert_eq!(nic.counters().pages, 4 * 32);
            let few = NicConfig {
                backend: owner.domid(),
                ..NicConfig::default()
            };
            // Its directory is written over that of the first, which is not seen to go.
            xen.attach_nic(domain.domid(), few);
            let state = format!("/local/domain/{}/device/vif/0/state", domain.domid());
            xen.store_write(&state, b"4").unwrap();
            while nic.counters().connections == 1 {
                select_biased! {
                    () = nic.serve().fuse() => {}
                    () = kernel::pause().fuse() => {}
                }
            }
            assert_eq!(nic.ready().await.unwrap().queues, 1);
            assert_eq!(nic.counters().pages, 32);
            xen.remove_nic(first);
            bus.grants().release_quarantine();
            // One queue's pages, and its rings.
            let used = bus.grants().references() - bus.grants().free_references();
            assert!((34..40).contains(&used), "{used}");
            nic.close().await;
        });
        done.unwrap().expect("it waits for ever");
    });
    assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
}
