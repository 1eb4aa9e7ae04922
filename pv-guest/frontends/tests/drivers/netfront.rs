//! Network interfaces, with backends that are honest, weak, or mean harm.

use std::{cell::Cell, future::poll_fn, num::NonZeroU16, task::Poll, time::Duration};

use futures_util::{FutureExt as _, join, select_biased};
use hypercall_abi::io::netif::NetifHashTypes;
use mock_hypervisor::{
    Checksum as Sum, Domain, Frame, Mischief, NicConfig, Outcome, Segments, Time, Xen,
};
use pv_frontends::{
    netfront::{
        self, Carrier, Checksum, Error, Features, Mac, Multicast, Nic, Offload, Offloads, Poller,
        Protocol, Segmentation, Status, Steered, Steering,
    },
    xenbus::{Bus, Fault},
};

use crate::{
    kernel,
    nic::{Host, MAC, OTHER, ethernet, guest, plain, with_nic},
    tcp::{sum, tcp},
};

/// Restarts the backend, and waits until it is connected again.
async fn restart(host: &Host, nic: &Nic<'_, &Domain>) {
    let before = nic.counters().connections;
    host.xen.restart_nic(host.id);
    while nic.counters().connections == before {
        // Whoever waits looks after the connection.
        select_biased! {
            () = nic.serve().fuse() => {}
            () = kernel::pause().fuse() => {}
        }
    }
}

#[test]
fn packets_go_both_ways() {
    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        let interface = nic.ready().await.unwrap();
        assert_eq!(interface.mac, Mac(MAC));
        assert_eq!((interface.mtu, interface.carrier), (1500, Carrier::Up));
        assert!(
            interface
                .features
                .contains(Features::SEGMENT_V4 | Features::CHECKSUM_V6)
        );
        let mut buffer = Vec::new();
        for len in [14, 60, 1000, 1514].into_iter().cycle().take(2000) {
            let packet = plain(OTHER, len);
            let (head, rest) = packet.split_at(7);
            nic.send(&[head, &[], rest], Offload::default())
                .await
                .unwrap();
            assert_eq!(host.tap.receive(), Some(Frame::whole(packet)));
            let packet = plain(MAC, len);
            host.tap.send(Frame::whole(packet.clone()));
            let received = nic.receive(&mut buffer).await.unwrap();
            assert_eq!(received.len_bytes, len);
            assert_eq!(received.offload, Offload::default());
            assert!(buffer == packet);
        }
        // It hears what is for it and for all, and nothing else.
        for to in [OTHER, MAC, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
            host.tap.send(Frame::whole(plain(to, 100)));
        }
        for to in [MAC, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
            nic.receive(&mut buffer).await.unwrap();
            assert_eq!(buffer[..6], to);
        }
        let counters = nic.counters();
        assert_eq!((counters.tx_packets, counters.rx_packets), (2000, 2003));
        assert_eq!((counters.tx_dropped, counters.rx_dropped), (0, 0));
        // No page was lent but those of the start: the next packet uses the last.
        assert!(counters.pages <= 256 + 8, "{counters:?}");
        let too_long = nic.send(&[&plain(OTHER, 1519)], Offload::default()).await;
        assert_eq!(too_long, Err(Error::TooLong));
        nic.close().await;
        assert_eq!(nic.receive(&mut buffer).await, Err(Error::Closed));
    });
}

/// A sender that is faster than its backend waits; nothing is out of order.
#[test]
fn a_full_ring_is_waited_for() {
    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        nic.ready().await.unwrap();
        for round in 0..20_u32 {
            let sends = (0..100_u32).map(|index| {
                let mut packet = plain(OTHER, 64);
                packet[14..18].copy_from_slice(&(round * 100 + index).to_be_bytes());
                let nic = nic.clone();
                async move { nic.send(&[&packet], Offload::default()).await }
            });
            for sent in futures_util::future::join_all(sends).await {
                sent.unwrap();
            }
            for index in 0..100 {
                let frame = host.tap.receive().unwrap();
                assert_eq!(
                    frame.bytes[14..18],
                    (round * 100 + index as u32).to_be_bytes()
                );
            }
        }
        // More than anybody has room for: what does not fit is dropped, and the
        // rest comes in its order.
        for index in 0..3000_u32 {
            let mut packet = plain(MAC, 64);
            packet[14..18].copy_from_slice(&index.to_be_bytes());
            host.tap.send(Frame::whole(packet));
        }
        let mut buffer = Vec::new();
        for index in 0..256 + 1024_u32 {
            nic.receive(&mut buffer).await.unwrap();
            assert_eq!(buffer[14..18], index.to_be_bytes());
        }
        host.tap.send(Frame::whole(plain(MAC, 77)));
        assert_eq!(nic.receive(&mut buffer).await.unwrap().len_bytes, 77);
        nic.close().await;
    });
}

/// Who has no room for a large packet is told when there is some, whatever else he asks
/// meanwhile, and is told once.
#[test]
fn room_for_a_large_packet_is_waited_for_beside_room_for_a_small_one() {
    const LARGE_BYTES: usize = 65_535;
    const SOON: Duration = Duration::from_millis(20);
    let host = NicConfig {
        latency_ns: 1_000_000,
        ..NicConfig::default()
    };
    let config = netfront::Config::default();
    with_nic(host, config, async |_, nic| {
        nic.ready().await.unwrap();
        let bus = nic.bus();
        let mut poller = nic.poller();
        let fill = |poller: &mut Poller<'_, _>| {
            let packet = plain(OTHER, 200);
            while poller.has_room(LARGE_BYTES) {
                poller.send_with(packet.len(), |bytes| {
                    bytes.copy_from_slice(&packet);
                    (Offload::default(), ())
                });
            }
        };
        for _ in 0..3 {
            fill(&mut poller);
            assert!(poller.lacks_room());
            assert!(poller.has_room(100) && poller.lacks_room());
            let told = bus.timeout(SOON, poll_fn(|cx| poller.poll_changed(cx)));
            assert_eq!(told.await, Ok(()));
            assert!(!poller.lacks_room() && poller.has_room(LARGE_BYTES));
        }
        // Who wants it no more hears of it once, and then of nothing.
        fill(&mut poller);
        let told = bus.timeout(SOON, poll_fn(|cx| poller.poll_changed(cx)));
        assert_eq!(told.await, Ok(()));
        bus.sleep(SOON).await;
        let mut count = 0;
        let told = bus.timeout(
            SOON,
            poll_fn(|cx| {
                while poller.poll_changed(cx).is_ready() {
                    count += 1;
                    assert!(count < 5, "it is told without end");
                }
                Poll::<()>::Pending
            }),
        );
        assert!(told.await.is_err());
        nic.close().await;
    });
}

/// What others are to do about a packet goes both ways with it.
#[test]
fn large_packets_and_blank_checksums() {
    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        nic.ready().await.unwrap();
        let mut buffer = Vec::new();
        for (is_v6, len) in [
            (false, 9000),
            (true, 9000),
            (false, 65_000),
            (true, 64_000),
            (false, 4042),
        ] {
            let (protocol, segments) = match is_v6 {
                true => (Protocol::TcpV6, Segments::TcpV6(1440)),
                false => (Protocol::TcpV4, Segments::TcpV4(1440)),
            };
            let offload = Offload {
                checksum: Checksum::Blank,
                segmentation: Some(Segmentation {
                    protocol,
                    segment_bytes: NonZeroU16::new(1440).unwrap(),
                }),
            };
            let packet = tcp(is_v6, OTHER, len);
            nic.send(&[&packet], offload).await.unwrap();
            let sent = host.tap.receive().unwrap();
            assert_eq!((sent.checksum, sent.segments), (Sum::Blank, Some(segments)));
            assert!(sent.bytes == packet && sent.is_right());
            let wire = sent.on_wire();
            assert_eq!(wire.len(), len.div_ceil(1440));
            assert!(wire.into_iter().all(|one| Frame::whole(one).is_right()));
            // And back.
            let frame = Frame {
                bytes: tcp(is_v6, MAC, len),
                checksum: Sum::Blank,
                segments: Some(segments),
            };
            host.tap.send(frame.clone());
            let received = nic.receive(&mut buffer).await.unwrap();
            assert!(buffer == frame.bytes);
            assert_eq!(received.offload, offload);
        }
        let frame = Frame {
            bytes: plain(MAC, 200),
            checksum: Sum::Validated,
            segments: None,
        };
        host.tap.send(frame);
        let received = nic.receive(&mut buffer).await.unwrap();
        assert_eq!(received.offload.checksum, Checksum::Validated);
        nic.close().await;
    });
}

/// What a stack sends segment by segment goes as one packet, if the backend can cut it,
/// and ends as the same segments on a wire; what does not belong to it stays alone.
#[test]
fn segments_of_a_stream_go_as_one_packet() {
    for queues in [1, 2] {
        for is_v6 in [false, true] {
            let config = NicConfig {
                queues,
                ..NicConfig::default()
            };
            let wanted = netfront::Config {
                queues,
                ..netfront::Config::default()
            };
            with_nic(config, wanted, async |host, nic| {
                nic.ready().await.unwrap();
                let segments = match is_v6 {
                    true => Segments::TcpV6(1440),
                    false => Segments::TcpV4(1440),
                };
                let whole = Frame {
                    bytes: tcp(is_v6, OTHER, 10_000),
                    checksum: Sum::Blank,
                    segments: Some(segments),
                };
                let wire = whole.on_wire();
                let mut poller = nic.poller();
                let mut send = |bytes: &[u8], checksum| {
                    let offload = Offload {
                        checksum,
                        segmentation: None,
                    };
                    poller.send_with(bytes.len(), |target| {
                        target.copy_from_slice(bytes);
                        (offload, ())
                    });
                };
                for segment in &wire {
                    send(&blank(is_v6, segment), Checksum::Blank);
                }
                // A gap in the stream, one with its checksum, and the end.
                send(&blank(is_v6, &wire[0]), Checksum::Blank);
                send(&blank(is_v6, &wire[2]), Checksum::Blank);
                send(&wire[3], Checksum::Complete);
                send(&blank(is_v6, &wire[4]), Checksum::Blank);
                assert_eq!(host.tap.receive().unwrap().on_wire(), wire);
                for expected in [&wire[0], &wire[2], &wire[3]] {
                    let sent = host.tap.receive().unwrap();
                    assert_eq!(sent.segments, None);
                    assert_eq!(sent.on_wire(), [expected.as_slice()]);
                }
                // It waits for the next, until nobody has one.
                assert_eq!(host.tap.receive(), None);
                let _changed = poll_fn(|cx| poller.poll_changed(cx)).now_or_never();
                let sent = host.tap.receive().unwrap();
                assert_eq!(sent.on_wire(), [wire[4].as_slice()]);
                assert_eq!(nic.counters().tx_packets, 5);
                drop(poller);
                nic.close().await;
            });
        }
    }
}

/// A segment whose checksum is to be filled in.
fn blank(is_v6: bool, segment: &[u8]) -> Vec<u8> {
    let mut segment = segment.to_vec();
    let (addresses, header) = if is_v6 { (22..54, 54) } else { (26..34, 34) };
    let len = (segment.len() - header) as u32;
    let pseudo = sum(&[&segment[addresses], &[0, 6], &len.to_be_bytes()]);
    segment[header + 16..header + 18].copy_from_slice(&pseudo.to_be_bytes());
    segment
}

/// A frontend that takes nothing of the kind gets what a wire would carry.
#[test]
fn without_offloads_packets_are_as_on_a_wire() {
    let wanted = netfront::Config {
        offloads: Offloads::None,
        ..netfront::Config::default()
    };
    with_nic(NicConfig::default(), wanted, async |host, nic| {
        nic.ready().await.unwrap();
        let mut buffer = Vec::new();
        for (is_v6, segments) in [
            (false, Segments::TcpV4(1000)),
            (true, Segments::TcpV6(1000)),
        ] {
            host.tap.send(Frame {
                bytes: tcp(is_v6, MAC, 10_000),
                checksum: Sum::Blank,
                segments: Some(segments),
            });
            for _ in 0..10 {
                let received = nic.receive(&mut buffer).await.unwrap();
                assert_eq!(received.offload, Offload::default());
                assert!(Frame::whole(buffer.clone()).is_right());
            }
        }
        nic.close().await;
    });
}

/// Everything that a backend may lack.
#[test]
fn weak_backends_do() {
    let weak = NicConfig {
        split: false,
        segments: false,
        checksums_v4: false,
        checksums_v6: false,
        multicast: false,
        control: false,
        ..NicConfig::default()
    };
    let wanted = netfront::Config {
        queues: 4,
        multicast: Multicast::Joined,
        ..netfront::Config::default()
    };
    with_nic(weak, wanted, async |host, nic| {
        let interface = nic.ready().await.unwrap();
        assert_eq!(
            (interface.features, interface.queues),
            (Features::empty(), 1)
        );
        nic.join(Mac([1, 0, 0x5e, 0, 0, 9])).await.unwrap();
        let offload = Offload {
            checksum: Checksum::Blank,
            segmentation: None,
        };
        // What it cannot fill in is filled in here.
        for is_v6 in [false, true] {
            let packet = tcp(is_v6, OTHER, 100);
            nic.send(&[&packet], offload).await.unwrap();
            let sent = host.tap.receive().unwrap();
            assert!(sent.checksum == Sum::Complete && sent.is_right());
        }
        nic.send(&[&plain(OTHER, 1000)], Offload::default())
            .await
            .unwrap();
        assert!(host.tap.receive().is_some());
        let mut buffer = Vec::new();
        host.tap.send(Frame::whole(plain([1; 6], 50)));
        nic.receive(&mut buffer).await.unwrap();
        nic.close().await;
    });
    let old = NicConfig {
        rx_copy: false,
        ..NicConfig::default()
    };
    with_nic(old, wanted, async |_, nic| {
        let fault = Fault::Lacks("feature-rx-copy");
        assert_eq!(nic.ready().await, Err(Error::Broken(fault)));
        nic.close().await;
    });
}

#[test]
fn several_queues_share_the_work() {
    for split in [false, true] {
        let config = NicConfig {
            queues: 8,
            split,
            ..NicConfig::default()
        };
        let wanted = netfront::Config {
            queues: 3,
            rx_pages: 64,
            ..netfront::Config::default()
        };
        with_nic(config, wanted, async |host, nic| {
            assert_eq!(nic.ready().await.unwrap().queues, 3);
            let mut buffer = Vec::new();
            let mut seen = std::collections::BTreeSet::new();
            for index in 0..100_u8 {
                let mut packet = tcp(false, MAC, 20);
                packet[35] = index;
                host.tap.send(Frame::whole(packet.clone()));
                let received = nic.receive(&mut buffer).await.unwrap();
                seen.insert(received.queue);
                assert_eq!(buffer[35], index);
                nic.send(&[&packet], Offload::default()).await.unwrap();
                assert!(host.tap.receive().is_some());
            }
            assert_eq!(seen.len(), 3);
            nic.close().await;
        });
    }
}

/// A backend that is told how chooses queues so, and says the hash.
#[test]
fn queues_are_chosen_as_wanted() {
    let steering = Steering {
        key: std::array::from_fn(|at| (at as u8).wrapping_mul(77) ^ 0x6d),
        hashes: NetifHashTypes::IPV4_TCP | NetifHashTypes::IPV6,
    };
    let config = |control| NicConfig {
        queues: 4,
        control,
        ..NicConfig::default()
    };
    let wanted = netfront::Config {
        queues: 4,
        rx_pages: 32,
        steering: Some(steering),
        ..netfront::Config::default()
    };
    with_nic(config(true), wanted, async |host, nic| {
        nic.ready().await.unwrap();
        let mut buffer = Vec::new();
        for _ in 0..2 {
            // The answers come when somebody waits.
            host.tap.send(Frame::whole(plain(MAC, 60)));
            nic.receive(&mut buffer).await.unwrap();
            while nic.steered() == Steered::Asked {
                select_biased! {
                    () = nic.serve().fuse() => {}
                    () = kernel::pause().fuse() => {}
                }
            }
            assert_eq!(nic.steered(), Steered::Yes);
            let mut seen = std::collections::BTreeSet::new();
            for index in 0..200_u8 {
                let is_v6 = index % 2 == 0;
                let mut packet = tcp(is_v6, MAC, 20);
                packet[if is_v6 { 30 } else { 34 }] = index;
                host.tap.send(Frame::whole(packet.clone()));
                let received = nic.receive(&mut buffer).await.unwrap();
                let hash = received.hash.unwrap();
                assert_eq!(hash.kind, if is_v6 { 2 } else { 1 });
                assert_eq!(received.queue, hash.value as usize % 64 % 4);
                seen.insert(received.queue);
                // A large one has its hash behind the other information.
                host.tap.send(Frame {
                    bytes: packet,
                    checksum: Sum::Blank,
                    segments: Some(if is_v6 {
                        Segments::TcpV6(10)
                    } else {
                        Segments::TcpV4(10)
                    }),
                });
                let received = nic.receive(&mut buffer).await.unwrap();
                assert_eq!(received.hash, Some(hash));
                assert!(received.offload.segmentation.is_some());
            }
            assert_eq!(seen.len(), 4);
            restart(host, &nic).await;
        }
        nic.close().await;
    });
    with_nic(config(false), wanted, async |_, nic| {
        nic.ready().await.unwrap();
        assert_eq!(nic.steered(), Steered::No);
        nic.close().await;
    });
}

#[test]
fn only_groups_that_were_joined_come() {
    let wanted = netfront::Config {
        multicast: Multicast::Joined,
        ..netfront::Config::default()
    };
    let group = |last| [1, 0, 0x5e, 0, 0, last];
    with_nic(NicConfig::default(), wanted, async |host, nic| {
        nic.join(Mac(group(1))).await.unwrap();
        nic.join(Mac(group(2))).await.unwrap();
        nic.join(Mac(group(3))).await.unwrap();
        nic.leave(Mac(group(2)));
        let mut buffer = Vec::new();
        let mut check = async |host: &Host| {
            for last in 0..5 {
                host.tap.send(Frame::whole(plain(group(last), 100)));
            }
            for last in [1, 3] {
                nic.receive(&mut buffer).await.unwrap();
                assert_eq!(buffer[..6], group(last));
            }
        };
        check(host).await;
        // The next backend is told, too.
        restart(host, &nic).await;
        check(host).await;
        nic.close().await;
    });
}

/// A frontend before this one wanted more queues and only some groups: the next, which
/// wants one queue and all that comes, is another object, as after a restart of the
/// driver.
#[test]
fn keys_of_an_earlier_frontend_mislead_nobody() {
    let config = NicConfig {
        queues: 4,
        ..NicConfig::default()
    };
    let wanted = netfront::Config {
        queues: 4,
        multicast: Multicast::Joined,
        ..netfront::Config::default()
    };
    with_nic(config, wanted, async |host, first| {
        assert_eq!(first.ready().await.unwrap().queues, 4);
        first.close().await;
        let next = Nic::new(first.bus(), "0", netfront::Config::default());
        assert_eq!(next.ready().await.unwrap().queues, 1);
        let packet = plain([1, 0, 0x5e, 0, 0, 9], 100);
        host.tap.send(Frame::whole(packet.clone()));
        let mut buffer = Vec::new();
        next.receive(&mut buffer).await.unwrap();
        assert_eq!(buffer, packet);
        next.close().await;
    });
}

#[test]
fn what_is_lent_is_not_copied() {
    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        let mut buffer = nic.buffer(3).await.unwrap();
        let offload = Offload {
            checksum: Checksum::Blank,
            segmentation: Some(Segmentation {
                protocol: Protocol::TcpV4,
                segment_bytes: NonZeroU16::new(1400).unwrap(),
            }),
        };
        let pages = nic.counters().pages;
        for len in [100, 4000, 9000] {
            let packet = tcp(false, OTHER, len);
            buffer.copy_from(0, &packet);
            let sent = nic.send_granted(buffer, packet.len(), offload).await;
            buffer = sent.0;
            sent.1.unwrap();
            assert!(host.tap.receive().unwrap().bytes == packet);
        }
        assert_eq!(nic.counters().pages, pages);
        let (buffer, long) = nic.send_granted(buffer, 3 * 4096 + 1, offload).await;
        assert_eq!(long, Err(Error::TooLong));
        assert_eq!(buffer.len_bytes(), 3 * 4096);
        // Too short for a packet: the backend says so.
        let (buffer, short) = nic.send_granted(buffer, 5, Offload::default()).await;
        assert_eq!(short, Err(Error::Dropped));
        // Nobody waits for it: its pages are taken back when they may be.
        let dropped = nic.send_granted(buffer, 60, Offload::default());
        select_biased! {
            _ = dropped.fuse() => {}
            () = std::future::ready(()).fuse() => {}
        }
        nic.close().await;
    });
}

#[test]
fn the_wire_may_be_pulled_out() {
    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        nic.ready().await.unwrap();
        let mut poller = nic.poller();
        let mut carrier = async |wanted: Carrier| {
            poll_fn(|cx| match poller.poll_interface(cx) {
                Some(interface) if interface.carrier == wanted => Poll::Ready(()),
                _ => Poll::Pending,
            })
            .await;
        };
        carrier(Carrier::Up).await;
        host.xen.set_carrier(host.id, 0);
        carrier(Carrier::Down).await;
        host.xen.set_carrier(host.id, 1);
        carrier(Carrier::Up).await;
        nic.close().await;
    });
}

/// A backend that is restarted, a device that is taken away and given back: the
/// same handle goes on.
#[test]
fn interfaces_come_and_go() {
    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        nic.ready().await.unwrap();
        let mut buffer = Vec::new();
        for round in 0..50 {
            // One that ends sooner, again and again, is not asked at once.
            nic.bus().sleep(Duration::from_secs(31)).await;
            restart(host, &nic).await;
            nic.send(&[&plain(OTHER, 100 + round)], Offload::default())
                .await
                .unwrap();
            assert_eq!(host.tap.receive().unwrap().bytes.len(), 100 + round);
            host.tap.send(Frame::whole(plain(MAC, 100)));
            nic.receive(&mut buffer).await.unwrap();
        }
        host.xen.detach_nic(host.id);
        assert_eq!(nic.receive(&mut buffer).await, Err(Error::Gone));
        assert_eq!(nic.status(), Status::Gone);
    });
}

/// Whoever leaves has another take its place.
#[test]
fn nobody_waits_for_one_who_left() {
    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        nic.ready().await.unwrap();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            let first = nic.receive(&mut one);
            let waits = async {
                let mut last = Box::pin(nic.receive(&mut two));
                // It waits, and so is the one that is woken; then it goes.
                let mut polled = false;
                poll_fn(|cx| {
                    if std::mem::replace(&mut polled, true) {
                        return Poll::Ready(());
                    }
                    assert!(last.poll_unpin(cx).is_pending());
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
                drop(last);
                host.tap.send(Frame::whole(plain(MAC, 99)));
            };
            let (received, ()) = join!(first, waits);
            assert_eq!(received.unwrap().len_bytes, 99);
        }
        nic.close().await;
    });
}

/// A slot with more information is answered by nothing, and no packet's is.
#[test]
fn nothing_is_no_answer_to_a_packet() {
    let slow = NicConfig {
        latency_ns: 1_000_000,
        ..NicConfig::default()
    };
    with_nic(slow, netfront::Config::default(), async |host, nic| {
        nic.ready().await.unwrap();
        nic.send(&[&plain(OTHER, 60)], Offload::default())
            .await
            .unwrap();
        host.xen.nic_mischief(host.id, Mischief::AnswerNull);
        let fault = Fault::Response("a packet with nothing");
        // It is seen when there is something to send.
        let sent = async {
            loop {
                nic.send(&[&plain(OTHER, 60)], Offload::default()).await?;
                kernel::pause().await;
            }
        };
        let sent: Result<(), Error> = sent.await;
        assert_eq!(sent, Err(Error::Broken(fault)));
        assert_eq!(nic.status(), Status::Broken(fault));
        host.xen.restart_nic(host.id);
        nic.reconnect().await.unwrap();
        nic.close().await;
    });
}

/// What a backend puts into the ring of received packets, as the wire has it.
fn response(id: u16, offset: u16, flags: u16, status: i16) -> Mischief {
    let [a, b] = id.to_le_bytes();
    let [c, d] = offset.to_le_bytes();
    let [e, f] = flags.to_le_bytes();
    let [g, h] = status.to_le_bytes();
    Mischief::Answer(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

#[test]
fn a_backend_that_lies_breaks_the_interface_and_nothing_else() {
    const MORE: u16 = 4;
    const EXTRA: u16 = 8;
    // A hash, and there is more.
    const ANOTHER: u64 = 0x0104;
    let lies: [(&[Mischief], Option<Fault>); 12] = [
        (
            &[response(7, 0, 0, 100)],
            Some(Fault::Response("a page that it was not asked for")),
        ),
        (
            &[response(0, 4000, 0, 100)],
            Some(Fault::Response("more than a page holds")),
        ),
        (
            &[response(0, 0, 0, i16::MAX)],
            Some(Fault::Response("more than a page holds")),
        ),
        // A packet that it could not write is none.
        (&[response(0, 0, 0, -1)], None),
        (
            &[
                response(0, 0, EXTRA, 100),
                Mischief::Answer(0x0000_0003_0001_0001),
            ],
            Some(Fault::Response("segments of no kind")),
        ),
        (
            &[
                response(0, 0, EXTRA, 100),
                Mischief::Answer(0x0000_0001_0000_0001),
            ],
            Some(Fault::Response("segments of no kind")),
        ),
        (
            &[response(0, 0, EXTRA, 100), Mischief::Answer(0x77)],
            Some(Fault::Response("information of no kind")),
        ),
        (
            &[
                response(0, 0, EXTRA, 100),
                Mischief::Answer(ANOTHER),
                Mischief::Answer(ANOTHER),
                Mischief::Answer(ANOTHER),
                Mischief::Answer(ANOTHER),
                Mischief::Answer(ANOTHER),
            ],
            Some(Fault::Response("information without an end")),
        ),
        (&[Mischief::Index(1 << 20)], Some(Fault::Ring)),
        (&[Mischief::AnswerAgain], Some(Fault::Ring)),
        // A packet whose end does not come is waited for.
        (&[response(0, 0, MORE, 100)], None),
        (
            &[Mischief::State(77), Mischief::Offers("x"), Mischief::Storm],
            None,
        ),
    ];
    for (lie, expected) in lies {
        let config = netfront::Config {
            rx_pages: 18,
            ..netfront::Config::default()
        };
        with_nic(NicConfig::default(), config, async |host, nic| {
            nic.ready().await.unwrap();
            for mischief in lie {
                host.xen.nic_mischief(host.id, *mischief);
            }
            let mut buffer = Vec::new();
            if let Some(fault) = expected {
                // What it answers to what is sent is seen when there is something
                // to send.
                let seen = async {
                    for _ in 0..300 {
                        nic.send(&[&plain(OTHER, 60)], Offload::default()).await?;
                        kernel::pause().await;
                    }
                    std::future::pending::<Result<(), Error>>().await
                };
                let result = select_biased! {
                    received = nic.receive(&mut buffer).fuse() => received.map(|_| ()),
                    sent = Box::pin(seen).fuse() => sent,
                };
                assert_eq!(result, Err(Error::Broken(fault)), "{lie:?}");
                assert_eq!(nic.status(), Status::Broken(fault));
            }
            // It is mended.
            host.xen.restart_nic(host.id);
            nic.reconnect().await.unwrap();
            while host.tap.receive().is_some() {}
            nic.send(&[&plain(OTHER, 100)], Offload::default())
                .await
                .unwrap();
            assert!(host.tap.receive().is_some());
            host.tap.send(Frame::whole(plain(MAC, 100)));
            assert_eq!(nic.receive(&mut buffer).await.unwrap().len_bytes, 100);
            nic.close().await;
        });
    }
}

/// An answer to a packet that has been answered.
#[test]
fn packets_are_answered_once() {
    let slow = NicConfig {
        latency_ns: 1_000_000,
        ..NicConfig::default()
    };
    with_nic(slow, netfront::Config::default(), async |host, nic| {
        let (packet, plain_one) = (plain(OTHER, 60), Offload::default());
        let buffer = nic.buffer(1).await.unwrap();
        let (mut buffer, sent) = nic.send_granted(buffer, 60, plain_one).await;
        sent.unwrap();
        for _ in 0..2 {
            nic.send(&[&packet], plain_one).await.unwrap();
        }
        host.xen.nic_mischief(host.id, Mischief::AnswerAgain);
        host.xen.nic_mischief(host.id, Mischief::AnswerAgain);
        let fault = Fault::Response("a packet that it does not have");
        (buffer, _) = {
            let (buffer, sent) = nic.send_granted(buffer, 60, plain_one).await;
            assert_eq!(sent, Err(Error::Broken(fault)));
            (buffer, sent)
        };
        assert_eq!(buffer.len_bytes(), 4096);
        nic.close().await;
    });
}

/// A packet that the backend had when it went away is reported lost to whoever
/// lent it, and its pages come back.
#[test]
fn packets_are_lost_with_their_backend() {
    let slow = NicConfig {
        latency_ns: 5_000_000,
        ..NicConfig::default()
    };
    with_nic(slow, netfront::Config::default(), async |host, nic| {
        let buffer = nic.buffer(2).await.unwrap();
        let sent = nic.send_granted(buffer, 1000, Offload::default());
        let meanwhile = async {
            kernel::pause().await;
            host.xen.restart_nic(host.id);
        };
        let ((buffer, sent), ()) = join!(sent, meanwhile);
        assert_eq!((buffer.len_bytes(), sent), (8192, Err(Error::Lost)));
        nic.ready().await.unwrap();
        let (_, sent) = nic.send_granted(buffer, 1000, Offload::default()).await;
        assert_eq!(sent, Ok(()));
        assert!(host.tap.receive().is_some());
        nic.close().await;
    });
}

/// A packet with no end is not followed for ever: one of many pieces with nothing in them,
/// nor one of whole pages.
#[test]
fn endless_packets_break_it() {
    for (pieces, len_bytes) in [(100, 0), (17, 4096)] {
        let config = netfront::Config::default();
        with_nic(NicConfig::default(), config, async |host, nic| {
            nic.ready().await.unwrap();
            for id in 0..pieces {
                host.xen
                    .nic_mischief(host.id, response(id, 0, 4, len_bytes));
            }
            // An end, for whoever has waited for it.
            let last = response(pieces, 0, 0, 60);
            host.xen.nic_mischief(host.id, last);
            let fault = Fault::Response("a packet without an end");
            let received = nic.receive(&mut Vec::new()).await;
            assert_eq!(received, Err(Error::Broken(fault)));
            nic.close().await;
        });
    }
}

/// What the backend keeps mapped (a page for packets, and one of a ring) is nobody else's:
/// not the next connection's, and not memory that is given out again.
#[test]
fn hoarded_pages_are_not_used_again() {
    let config = netfront::Config {
        rx_pages: 32,
        ..netfront::Config::default()
    };
    // How many pages there are when the interface has ended, and how many are set aside.
    let left = |hoards: bool| {
        with_nic(NicConfig::default(), config, async |host, nic| {
            nic.ready().await.unwrap();
            if hoards {
                host.xen.nic_mischief(host.id, Mischief::Hoard);
            }
            restart(host, &nic).await;
            // The next connection works, with another ring.
            host.tap.send(Frame::whole(plain(MAC, 60)));
            nic.receive(&mut Vec::new()).await.unwrap();
            nic.send(&[&plain(OTHER, 60)], Offload::default())
                .await
                .unwrap();
            assert!(host.tap.receive().is_some());
            let bus = nic.bus();
            nic.close().await;
            drop(nic);
            bus.grants().release_quarantine();
            let set_aside = bus.grants().quarantined();
            let mut pages = Vec::new();
            while let Ok(page) = grant_tables::Page::new(bus.grants()) {
                pages.push(page);
            }
            (pages.len(), set_aside)
        })
    };
    let (all, none) = left(false);
    assert_eq!(none, 0);
    assert_eq!(left(true), (all - 2, 2));
}

/// A backend that rings ten thousand times for nothing, each microsecond: it is listened to
/// now and then, and packets come all the same.
#[test]
fn a_storm_is_not_followed() {
    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        nic.ready().await.unwrap();
        host.xen.nic_mischief(host.id, Mischief::Storm);
        let polls = Cell::new(0);
        let mut buffer = Vec::new();
        for _ in 0..10 {
            let received = async {
                let mut received = Box::pin(nic.receive(&mut buffer));
                poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    received.poll_unpin(cx)
                })
                .await
            };
            let later = async {
                nic.bus().sleep(Duration::from_millis(1)).await;
                host.tap.send(Frame::whole(plain(MAC, 60)));
            };
            let (received, ()) = join!(received, later);
            assert_eq!(received.unwrap().len_bytes, 60);
        }
        println!("{} polls", polls.get());
        // Each of its two ports may ring 1000 times in 10 ms.
        assert!((10..2500).contains(&polls.get()), "{}", polls.get());
        nic.close().await;
    });
}

/// Two guests on one bridge.
#[test]
fn guests_talk_to_each_other() {
    let xen = Xen::new(Time::Virtual);
    let domains = [guest(&xen), guest(&xen)];
    let macs = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
    for (domain, mac) in domains.iter().zip(macs) {
        let config = NicConfig {
            mac,
            ..NicConfig::default()
        };
        xen.attach_nic(domain.domid(), config);
    }
    let run = |index: usize| {
        let domain = &domains[index];
        domain.run(|domain| {
            kernel::run_until(domain, Some(60_000_000_000), async |bus: Bus<'_, _>| {
                let nic = Nic::new(bus, "0", netfront::Config::default());
                nic.ready().await.unwrap();
                let mut buffer = Vec::new();
                let mut count = 0_u32;
                // One asks until the other answers; then each waits for the other.
                while count < 500 {
                    if index == 0 {
                        let mut packet = ethernet(macs[1], 0x88b5, &count.to_be_bytes());
                        packet.resize(1000, count as u8);
                        nic.send(&[&packet], Offload::default()).await.unwrap();
                    }
                    let received = select_biased! {
                        received = nic.receive(&mut buffer).fuse() => Some(received.unwrap()),
                        () = kernel::pause().fuse() => None,
                    };
                    if received.is_none() {
                        continue;
                    }
                    if index == 1 {
                        let packet = [&macs[0], &buffer[6..]].concat();
                        nic.send(&[&packet], Offload::default()).await.unwrap();
                    }
                    count += 1;
                }
                nic.close().await;
            })
            .unwrap()
            .is_some()
        })
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        assert!(matches!(run(0), Outcome::Returned(true)));
        assert!(matches!(other.join().unwrap(), Outcome::Returned(true)));
    });
}
