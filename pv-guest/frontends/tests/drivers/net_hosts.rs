//! Network interfaces as hosts have them: each test is something that a frontend met.

use std::{num::NonZeroU16, time::Duration};

use futures_util::{FutureExt as _, future::join_all, select_biased};
use mock_hypervisor::{
    Checksum as Sum, Config, Domain, Frame, Mischief, NicConfig, Outcome, Segments, Time, Xen,
};
use pv_frontends::{
    netfront::{
        self, Checksum, Error, Features, Mac, Membership, Multicast, Nic, Offload, Protocol,
        Received, Segmentation, Status,
    },
    xenbus::Bus,
};

use crate::{
    kernel,
    nic::{MAC, OTHER, ethernet, guest, plain, with_nic},
    tcp::{sum, tcp},
};

/// Runs a guest whose devices the test makes.
fn run<T>(domain: &Domain, main: impl for<'g> AsyncFnOnce(Bus<'g, &'g Domain>) -> T) -> T {
    let outcome = domain.run(|domain| {
        kernel::run_until(domain, Some(60_000_000_000), async |bus: Bus<'_, _>| {
            main(bus).await
        })
    });
    match outcome {
        Outcome::Returned(value) => value.unwrap().expect("it waits for ever"),
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

/// Looks after an interface for a while.
async fn serve(nic: &Nic<'_, &Domain>, pauses: u32) {
    for _ in 0..pauses {
        select_biased! {
            () = nic.serve().fuse() => {}
            () = kernel::pause().fuse() => {}
        }
    }
}

// ---- What an earlier frontend left ----

/// Keys of a frontend with queues, groups and a headroom of its own mislead a backend that
/// reads them as Linux's does.
#[test]
fn keys_of_an_earlier_frontend_mislead_nobody() {
    for (split, queues) in [(true, 1), (false, 1), (true, 2), (false, 2)] {
        let xen = Xen::new(Time::Virtual);
        let domain = guest(&xen);
        let config = NicConfig {
            queues: 4,
            split,
            ..NicConfig::default()
        };
        xen.attach_nic(domain.domid(), config);
        let tap = xen.tap("xenbr0");
        let own = format!("/local/domain/{}/device/vif/0", domain.domid());
        for (key, value) in [
            ("multi-queue-num-queues", "4"),
            ("queue-3/tx-ring-ref", "8"),
            ("queue-1/event-channel-tx", "77"),
            ("queue-1/event-channel-rx", "78"),
            ("event-channel-tx", "79"),
            ("event-channel-rx", "80"),
            ("event-channel", "81"),
            ("ctrl-ring-ref", "9"),
            ("request-multicast-control", "1"),
            ("feature-no-csum-offload", "1"),
            ("xdp-headroom", "256"),
        ] {
            xen.store_write(&format!("{own}/{key}"), value.as_bytes())
                .unwrap();
        }
        run(&domain, async |bus: Bus<'_, _>| {
            let wanted = netfront::Config {
                queues,
                ..netfront::Config::default()
            };
            let nic = Nic::new(bus, "0", wanted);
            assert_eq!(nic.ready().await.unwrap().queues, queues as usize);
            // All groups come, and nothing but packets.
            let packet = plain([1, 0, 0x5e, 0, 0, 9], 60);
            tap.send(Frame::whole(packet.clone()));
            let mut buffer = Vec::new();
            nic.receive(&mut buffer).await.unwrap();
            assert_eq!(buffer, packet);
            // A blank checksum, too.
            let frame = Frame {
                bytes: tcp(false, MAC, 100),
                checksum: Sum::Blank,
                segments: None,
            };
            tap.send(frame);
            let received = nic.receive(&mut buffer).await.unwrap();
            assert_eq!(received.offload.checksum, Checksum::Blank);
            nic.close().await;
        });
    }
}

/// The same of this driver: the next wants less than the one before it.
#[test]
fn the_next_frontend_may_want_less() {
    let xen = Xen::new(Time::Virtual);
    let domain = guest(&xen);
    let config = NicConfig {
        queues: 4,
        ..NicConfig::default()
    };
    xen.attach_nic(domain.domid(), config);
    let tap = xen.tap("xenbr0");
    run(&domain, async |bus: Bus<'_, _>| {
        let many = netfront::Config {
            queues: 4,
            rx_pages: 32,
            multicast: Multicast::Joined,
            ..netfront::Config::default()
        };
        for wanted in [many, netfront::Config::default(), many] {
            let nic = Nic::new(bus, "0", wanted);
            assert_eq!(nic.ready().await.unwrap().queues, wanted.queues as usize);
            tap.send(Frame::whole(plain([1, 0, 0x5e, 0, 0, 9], 60)));
            tap.send(Frame::whole(plain(MAC, 61)));
            let mut buffer = Vec::new();
            let first = nic.receive(&mut buffer).await.unwrap().len_bytes;
            let expected = match wanted.multicast {
                Multicast::All => 60,
                Multicast::Joined => 61,
            };
            assert_eq!(first, expected);
            nic.close().await;
        }
    });
}

/// A frontend that was dropped without a word: its backend is connected, with what it was
/// told then.
#[test]
fn a_backend_that_is_connected_already() {
    let xen = Xen::new(Time::Virtual);
    let domain = guest(&xen);
    xen.attach_nic(domain.domid(), NicConfig::default());
    let tap = xen.tap("xenbr0");
    run(&domain, async |bus: Bus<'_, _>| {
        for _ in 0..3 {
            let nic = Nic::new(bus, "0", netfront::Config::default());
            nic.ready().await.unwrap();
            nic.send(&[&plain(OTHER, 80)], Offload::default())
                .await
                .unwrap();
            assert_eq!(tap.receive(), Some(Frame::whole(plain(OTHER, 80))));
        }
    });
}

// ---- Groups ----

fn group(number: u8) -> Mac {
    Mac([1, 0, 0x5e, 0, 1, number])
}

fn joined() -> netfront::Config {
    netfront::Config {
        multicast: Multicast::Joined,
        ..netfront::Config::default()
    }
}

/// Linux's backend passes 64 groups; whoever asks for another is told, and no packet is
/// said to be dropped.
#[test]
fn groups_beyond_the_limit_are_refused() {
    with_nic(NicConfig::default(), joined(), async |host, nic| {
        let all = join_all((0..80).map(|at| nic.join(group(at)))).await;
        for (at, result) in all.into_iter().enumerate() {
            let expected = match at < 64 {
                true => Ok(()),
                false => Err(Error::GroupRefused),
            };
            assert_eq!(result, expected, "{at}");
        }
        assert_eq!(nic.membership(group(63)), Membership::Joined);
        assert_eq!(nic.membership(group(64)), Membership::Refused);
        assert_eq!(nic.membership(group(90)), Membership::No);
        // There is room again when one is left.
        nic.leave(group(0));
        nic.join(group(64)).await.unwrap();
        let mut buffer = Vec::new();
        for at in [0, 64, 65, 63] {
            host.tap.send(Frame::whole(plain(group(at).0, 60)));
        }
        for at in [64, 63] {
            nic.receive(&mut buffer).await.unwrap();
            assert_eq!(buffer[..6], group(at).0);
        }
        let counters = nic.counters();
        assert_eq!((counters.tx_dropped, counters.tx_packets), (0, 0));
        assert_eq!(nic.status(), Status::Connected);
        nic.close().await;
    });
}

/// A backend that says that it filters, and refuses.
#[test]
fn a_group_that_is_refused_is_no_dropped_packet() {
    let xen = Xen::new(Time::Virtual);
    let domain = guest(&xen);
    let config = NicConfig {
        multicast: false,
        ..NicConfig::default()
    };
    xen.attach_nic(domain.domid(), config);
    let back = format!("/local/domain/0/backend/vif/{}/0", domain.domid());
    xen.store_write(&format!("{back}/feature-multicast-control"), b"1")
        .unwrap();
    run(&domain, async |bus: Bus<'_, _>| {
        let nic = Nic::new(bus, "0", joined());
        assert_eq!(nic.join(group(1)).await, Err(Error::GroupRefused));
        for _ in 0..3 {
            nic.send(&[&plain(OTHER, 60)], Offload::default())
                .await
                .unwrap();
        }
        kernel::pause().await;
        assert_eq!(nic.counters().tx_dropped, 0);
        nic.close().await;
    });
}

/// More groups than there are slots are told one after the other, also by whoever waits for
/// packets only; where the backend does not filter, all come.
#[test]
fn groups_are_told_to_each_backend() {
    with_nic(NicConfig::default(), joined(), async |host, nic| {
        join_all((0..64).map(|at| nic.join(group(at)))).await;
        let before = nic.counters().connections;
        host.xen.restart_nic(host.id);
        while nic.counters().connections == before {
            serve(&nic, 1).await;
        }
        let mut buffer = Vec::new();
        // Nobody asks again: whoever waits for a packet takes the answers, too.
        host.tap.send(Frame::whole(plain(MAC, 60)));
        nic.receive(&mut buffer).await.unwrap();
        serve(&nic, 10).await;
        for at in 0..64 {
            assert_eq!(nic.membership(group(at)), Membership::Joined, "{at}");
        }
        nic.close().await;
    });
    for (multicast, wanted) in [
        (false, joined()),
        (true, netfront::Config::default()),
        (false, netfront::Config::default()),
    ] {
        let config = NicConfig {
            multicast,
            ..NicConfig::default()
        };
        with_nic(config, wanted, async |_, nic| {
            for at in 0..80 {
                assert_eq!(nic.join(group(at)).await, Ok(()));
            }
            nic.close().await;
        });
    }
}

// ---- Little is left ----

/// Not enough ports for all queues, or for both directions: there are fewer.
#[test]
fn few_ports_make_few_queues() {
    let mut counts = Vec::new();
    for max_event_channels in 4..30 {
        let xen = Xen::new(Time::Virtual);
        let config = Config {
            memory_mib: 16,
            max_event_channels,
            ..Config::default()
        };
        let domain = xen.domain(config).unwrap();
        let config = NicConfig {
            queues: 8,
            ..NicConfig::default()
        };
        xen.attach_nic(domain.domid(), config);
        let tap = xen.tap("xenbr0");
        let count = run(&domain, async |bus: Bus<'_, _>| {
            let wanted = netfront::Config {
                queues: 8,
                rx_pages: 18,
                ..netfront::Config::default()
            };
            let nic = Nic::new(bus, "0", wanted);
            let count = match nic.ready().await {
                Ok(interface) => interface.queues,
                Err(Error::Broken(_)) => return 0,
                Err(other) => panic!("{other}"),
            };
            nic.send(&[&plain(OTHER, 60)], Offload::default())
                .await
                .unwrap();
            assert!(tap.receive().is_some());
            tap.send(Frame::whole(plain(MAC, 60)));
            nic.receive(&mut Vec::new()).await.unwrap();
            nic.close().await;
            count
        });
        counts.push(count);
    }
    // None at first, then one by one all.
    assert!(counts.is_sorted(), "{counts:?}");
    for count in 1..=8 {
        assert!(counts.contains(&count), "{counts:?}");
    }
}

/// The same of memory: no queue takes all that there is.
#[test]
fn little_memory_makes_few_queues() {
    let xen = Xen::new(Time::Virtual);
    let config = Config {
        memory_mib: 4,
        ..Config::default()
    };
    let domain = xen.domain(config).unwrap();
    let config = NicConfig {
        queues: 8,
        ..NicConfig::default()
    };
    xen.attach_nic(domain.domid(), config);
    run(&domain, async |bus: Bus<'_, _>| {
        let wanted = netfront::Config {
            queues: 8,
            rx_pages: 256,
            ..netfront::Config::default()
        };
        // A queue wants 258 pages; 20 are enough.
        let mut taken = Vec::new();
        while let Ok(page) = grant_tables::Page::new(bus.grants()) {
            taken.push(page);
        }
        taken.truncate(taken.len() - 110);
        let nic = Nic::new(bus, "0", wanted);
        let interface = nic.ready().await.unwrap();
        assert!((1..8).contains(&interface.queues), "{interface:?}");
        nic.close().await;
    });
}

// ---- Checksums and segments ----

/// A backend that fills in checksums of one family only, and one that lies about neither:
/// what it cannot fill in is filled in here.
#[test]
fn checksums_are_the_backends_by_family() {
    for (v4, v6) in [(true, false), (false, true), (false, false), (true, true)] {
        let config = NicConfig {
            checksums_v4: v4,
            checksums_v6: v6,
            ..NicConfig::default()
        };
        with_nic(config, netfront::Config::default(), async |host, nic| {
            let features = nic.ready().await.unwrap().features;
            assert_eq!(features.contains(Features::CHECKSUM_V4), v4);
            assert_eq!(features.contains(Features::CHECKSUM_V6), v6);
            // Segments get a checksum each.
            assert_eq!(features.contains(Features::SEGMENT_V4), v4);
            assert_eq!(features.contains(Features::SEGMENT_V6), v6);
            let blank = Offload {
                checksum: Checksum::Blank,
                segmentation: None,
            };
            for (is_v6, can) in [(false, v4), (true, v6)] {
                let packet = tcp(is_v6, OTHER, 200);
                let expected = if can { Sum::Blank } else { Sum::Complete };
                let (head, rest) = packet.split_at(30);
                nic.send(&[head, rest], blank).await.unwrap();
                let mut buffer = nic.buffer(1).await.unwrap();
                buffer.copy_from(0, &packet);
                let (_, lent) = nic.send_granted(buffer, packet.len(), blank).await;
                lent.unwrap();
                nic.poller().send_with(packet.len(), |target| {
                    target.copy_from_slice(&packet);
                    (blank, ())
                });
                for _ in 0..3 {
                    let sent = host.tap.receive().unwrap();
                    assert_eq!(sent.checksum, expected);
                    assert!(sent.is_right());
                }
                let segmentation = Some(Segmentation {
                    protocol: if is_v6 {
                        Protocol::TcpV6
                    } else {
                        Protocol::TcpV4
                    },
                    segment_bytes: NonZeroU16::new(1000).unwrap(),
                });
                let large = tcp(is_v6, OTHER, 5000);
                let offload = Offload {
                    checksum: Checksum::Blank,
                    segmentation,
                };
                let sent = nic.send(&[&large], offload).await;
                match can {
                    true => assert_eq!(sent, Ok(())),
                    false => assert_eq!(sent, Err(Error::NotSupported("segmentation"))),
                }
                while host.tap.receive().is_some() {}
            }
            // Nobody finds a checksum there.
            let sent = nic.send(&[&plain(OTHER, 100)], blank).await;
            let reason = "checksums of what is neither TCP nor UDP";
            assert_eq!(sent, Err(Error::NotSupported(reason)));
            let before = nic.counters().tx_dropped;
            nic.poller().send_with(100, |target| {
                target.copy_from_slice(&plain(OTHER, 100));
                (blank, ())
            });
            assert_eq!(nic.counters().tx_dropped, before + 1);
            assert_eq!(host.tap.receive(), None);
            nic.close().await;
        });
    }
}

fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let len = (packet.len() - 34) as u32;
    packet[50..52].fill(0);
    let right = !sum(&[&packet[26..34], &[0, 6], &len.to_be_bytes(), &packet[34..]]);
    packet[50..52].copy_from_slice(&right.to_be_bytes());
    packet
}

/// Segments come with a right checksum, with that of the pseudo header, or with a wrong one
/// (a card that joined them does not make one), whatever is said of it. What is given to
/// the user is blank, and can be sent on.
#[test]
fn segments_without_a_word_about_checksums() {
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic| {
            nic.ready().await.unwrap();
            let blank = tcp(false, MAC, 9000);
            let mut wrong = blank.clone();
            wrong[50] ^= 0x55;
            for bytes in [with_checksum(blank.clone()), blank.clone(), wrong] {
                for checksum in [Sum::Complete, Sum::Validated, Sum::Blank] {
                    if checksum == Sum::Blank && bytes != blank {
                        continue;
                    }
                    host.tap.send(Frame {
                        bytes: bytes.clone(),
                        checksum,
                        segments: Some(Segments::TcpV4(1448)),
                    });
                    let mut buffer = Vec::new();
                    let Received { offload, .. } = nic.receive(&mut buffer).await.unwrap();
                    assert_eq!(offload.checksum, Checksum::Blank);
                    assert!(offload.segmentation.is_some() && buffer == blank);
                    nic.send(&[&buffer], offload).await.unwrap();
                    let wire = host.tap.receive().unwrap().on_wire();
                    assert_eq!(wire.len(), 7);
                    assert!(wire.into_iter().all(|one| Frame::whole(one).is_right()));
                }
            }
            // What a user says of segments of its own, too, by each way to send.
            let offload = |checksum| Offload {
                checksum,
                segmentation: Some(Segmentation {
                    protocol: Protocol::TcpV4,
                    segment_bytes: NonZeroU16::new(1448).unwrap(),
                }),
            };
            for checksum in [Checksum::Complete, Checksum::Validated, Checksum::Blank] {
                let bytes = match checksum {
                    Checksum::Blank => blank.clone(),
                    _ => with_checksum(blank.clone()),
                };
                nic.send(&[&bytes], offload(checksum)).await.unwrap();
                let mut buffer = nic.buffer(3).await.unwrap();
                buffer.copy_from(0, &bytes);
                let (_, sent) = nic
                    .send_granted(buffer, bytes.len(), offload(checksum))
                    .await;
                sent.unwrap();
                for _ in 0..2 {
                    let sent = host.tap.receive().unwrap();
                    assert!(sent.is_right() && sent.checksum == Sum::Blank);
                }
            }
            // A checksum that nobody finds is to be filled in: it is dropped, as Linux does.
            host.tap.send(Frame {
                bytes: plain(MAC, 100),
                checksum: Sum::Blank,
                segments: None,
            });
            host.tap.send(Frame::whole(plain(MAC, 101)));
            let mut buffer = Vec::new();
            assert_eq!(nic.receive(&mut buffer).await.unwrap().len_bytes, 101);
            assert_eq!(nic.counters().rx_dropped, 1);
            nic.close().await;
        },
    );
}

/// A packet that comes by one interface and goes by another arrives right, whatever the
/// second one's backend can do; segments stay together where it can cut them.
#[test]
fn what_is_sent_on_arrives_right() {
    for (checksums_v4, checksums_v6) in [(true, true), (true, false), (false, true), (false, false)]
    {
        let xen = Xen::new(Time::Virtual);
        let domain = guest(&xen);
        let nic = |handle, bridge: &str| NicConfig {
            handle,
            bridge: bridge.into(),
            mac: [0, 0x16, 0x3e, 0, 0, handle as u8 + 1],
            ..NicConfig::default()
        };
        xen.attach_nic(domain.domid(), nic(0, "in"));
        let second = NicConfig {
            checksums_v4,
            checksums_v6,
            ..nic(1, "out")
        };
        xen.attach_nic(domain.domid(), second);
        let taps = [xen.tap("in"), xen.tap("out")];
        run(&domain, async |bus: Bus<'_, _>| {
            let [first, second] =
                ["0", "1"].map(|id| Nic::new(bus, id, netfront::Config::default()));
            let features = second.ready().await.unwrap().features;
            first.ready().await.unwrap();
            for is_v6 in [false, true] {
                let segments = match is_v6 {
                    true => Segments::TcpV6(1400),
                    false => Segments::TcpV4(1400),
                };
                let can = if is_v6 { checksums_v6 } else { checksums_v4 };
                let small = tcp(is_v6, MAC, 300);
                let mut frames = vec![Frame {
                    bytes: small.clone(),
                    checksum: Sum::Blank,
                    segments: None,
                }];
                let whole = frames[0].on_wire().remove(0);
                for checksum in [Sum::Complete, Sum::Validated] {
                    frames.push(Frame {
                        bytes: whole.clone(),
                        checksum,
                        segments: None,
                    });
                }
                frames.push(Frame {
                    bytes: tcp(is_v6, MAC, 20_000),
                    checksum: Sum::Blank,
                    segments: Some(segments),
                });
                for frame in frames {
                    taps[0].send(frame.clone());
                    let mut buffer = Vec::new();
                    let received = first.receive(&mut buffer).await.unwrap();
                    let sent = second.send(&[&buffer], received.offload).await;
                    if frame.segments.is_some() && !can {
                        assert_eq!(
                            sent,
                            Err(Error::NotSupported("segmentation")),
                            "{features:?}"
                        );
                        continue;
                    }
                    sent.unwrap();
                    let out = taps[1].receive().unwrap();
                    assert_eq!(out.segments, frame.segments);
                    assert_eq!(out.on_wire(), frame.on_wire());
                    assert!(
                        out.on_wire()
                            .into_iter()
                            .all(|one| Frame::whole(one).is_right())
                    );
                }
            }
            first.close().await;
            second.close().await;
        });
    }
}

/// Without scatter and gather a packet has one page: the MTU says what can be sent.
#[test]
fn a_large_mtu_and_a_backend_of_one_page() {
    for (segments, expected) in [(false, 1500), (true, 9000)] {
        let config = NicConfig {
            mtu: 9000,
            segments,
            ..NicConfig::default()
        };
        with_nic(config, netfront::Config::default(), async |host, nic| {
            let mtu = usize::from(nic.ready().await.unwrap().mtu);
            assert_eq!(mtu, expected);
            let packet = plain(OTHER, mtu + 14);
            nic.send(&[&packet], Offload::default()).await.unwrap();
            assert_eq!(host.tap.receive(), Some(Frame::whole(packet)));
            let long = nic
                .send(&[&plain(OTHER, mtu + 19)], Offload::default())
                .await;
            assert_eq!(long, Err(Error::TooLong));
            nic.close().await;
        });
    }
}

// ---- Backends that come and go ----

/// A backend that goes to its end at once, and is there again.
#[test]
fn a_backend_that_skips_closing() {
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic| {
            nic.ready().await.unwrap();
            for _ in 0..10 {
                let before = nic.counters().connections;
                // One that ends sooner, again and again, is not asked at once.
                nic.bus().sleep(Duration::from_secs(31)).await;
                host.xen.nic_mischief(host.id, Mischief::State(6));
                serve(&nic, 20).await;
                host.xen.restart_nic(host.id);
                let mut tries = 0;
                while nic.counters().connections == before {
                    tries += 1;
                    assert!(tries < 1000, "{:?}", nic.status());
                    serve(&nic, 1).await;
                }
            }
            nic.close().await;
        },
    );
}

/// The backend's domain goes, with packets on their way, and another has the device then.
/// Nothing that was granted to one is seen by the next.
#[test]
fn another_domain_has_the_backend() {
    let xen = Xen::new(Time::Virtual);
    let domain = guest(&xen);
    let owners = [(); 3].map(|()| xen.domain(Config::default()).unwrap());
    let slow = |owner: &Domain| NicConfig {
        backend: owner.domid(),
        latency_ns: 1_000_000,
        ..NicConfig::default()
    };
    let tap = xen.tap("xenbr0");
    let mut id = xen.attach_nic(domain.domid(), slow(&owners[0]));
    run(&domain, async |bus: Bus<'_, _>| {
        let nic = Nic::new(bus, "0", netfront::Config::default());
        nic.ready().await.unwrap();
        for owner in [1, 2, 1, 0, 2] {
            for _ in 0..20 {
                nic.send(&[&plain(OTHER, 300)], Offload::default())
                    .await
                    .unwrap();
            }
            xen.remove_nic(id);
            id = xen.attach_nic(domain.domid(), slow(&owners[owner]));
            let mut tries = 0;
            while !xen.nic_is_connected(id) {
                tries += 1;
                assert!(tries < 1000, "{:?}", nic.status());
                serve(&nic, 1).await;
            }
            nic.ready().await.unwrap();
            while tap.receive().is_some() {}
            tap.send(Frame::whole(ethernet(MAC, 0x88b5, &[7; 100])));
            let mut buffer = Vec::new();
            nic.receive(&mut buffer).await.unwrap();
            assert_eq!(buffer[14..], [7; 100]);
        }
        nic.close().await;
    });
}

/// A buffer of a backend that is not trusted any more is granted to nobody before anything
/// is written into it, and so is one that is sent as it is.
#[test]
fn trust_that_ends_takes_packets_back() {
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic| {
            nic.ready().await.unwrap();
            let packet = plain(OTHER, 1000);
            let mut written = nic.buffer(2).await.unwrap();
            let mut sent = nic.buffer(2).await.unwrap();
            sent.copy_from(0, &packet);
            let own = "/local/domain/1/device/vif/0/trusted";
            host.xen.store_write(own, b"0").unwrap();
            nic.reconnect().await.unwrap();
            let grants = nic.bus().grants();
            let used = || grants.references() - grants.free_references();
            let before = used();
            assert_eq!(written.copy_from(0, &packet), packet.len());
            assert_eq!(used(), before - 2);
            let (sent, result) = nic
                .send_granted(sent, packet.len(), Offload::default())
                .await;
            result.unwrap();
            assert_eq!(host.tap.receive(), Some(Frame::whole(packet.clone())));
            // The driver's own page was lent for the packet.
            assert_eq!(used(), before - 2 - 2 + 1);
            let mut bytes = vec![0; packet.len()];
            sent.copy_to(0, &mut bytes);
            assert_eq!(bytes, packet);
            nic.close().await;
        },
    );
}

/// No page of the user's is lent to a backend that is not trusted.
#[test]
fn an_untrusted_backend_gets_copies() {
    for (trusted, expected) in [(true, 10), (false, 0)] {
        let config = NicConfig {
            trusted,
            ..NicConfig::default()
        };
        with_nic(config, netfront::Config::default(), async |host, nic| {
            nic.ready().await.unwrap();
            let bus = nic.bus();
            let used = || bus.grants().references() - bus.grants().free_references();
            let before = used();
            let mut buffer = nic.buffer(10).await.unwrap();
            assert_eq!(used() - before, expected);
            let packet = plain(OTHER, 1000);
            buffer.copy_from(0, &packet);
            // One that was made for a backend that is trusted, too.
            let other = pv_frontends::GrantedBuf::new(bus.grants(), buffer.peer(), 1);
            let mut other = other.unwrap();
            other.copy_from(0, &packet);
            for buffer in [other, buffer] {
                let before = nic.counters().tx_packets;
                let pages = nic.counters().pages;
                let (_, sent) = nic
                    .send_granted(buffer, packet.len(), Offload::default())
                    .await;
                sent.unwrap();
                assert_eq!(host.tap.receive(), Some(Frame::whole(packet.clone())));
                // Only a copy has a page of the driver's, which is lent when it is first
                // needed.
                if before == 0 {
                    assert_eq!(nic.counters().pages > pages, !trusted);
                }
            }
            nic.close().await;
        });
    }
}
