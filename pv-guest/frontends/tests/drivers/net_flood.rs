//! Packets and answers that come faster than they are looked at: a task that waits for
//! them yields, others go on, and nothing is lost.

use std::{cell::Cell, future::poll_fn, mem::replace, task::Poll};

use futures_util::join;
use mock_hypervisor::{Frame, NicConfig};
use pv_frontends::netfront;

use crate::{
    kernel,
    nic::{MAC, ethernet, plain, with_nic},
};

/// As many as a ring and what waits behind it hold.
const FLOOD: u32 = 256 + 1024;
/// Packets and slots that one poll looks at, at most.
const TURN: u32 = 64;
/// Turns of others meanwhile.
const MIN_TURNS: u32 = FLOOD / TURN - 1;

/// A datagram of UDP from 10.0.0.1 to 10.0.0.2 whose checksum is not right.
#[cfg(any(feature = "smoltcp", feature = "embassy-net"))]
fn wrong() -> Frame {
    let mut packet = vec![
        0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    packet.extend([0, 53, 0x12, 0x34, 0, 13, 9, 9]);
    packet.extend(b"hello");
    Frame::whole(ethernet(MAC, 0x0800, &packet))
}

/// One of another kind, by its number.
fn numbered(number: u32) -> Frame {
    let mut packet = plain(MAC, 64);
    packet[14..18].copy_from_slice(&number.to_be_bytes());
    Frame::whole(packet)
}

/// Counts how often another task goes on until `work` is done.
async fn turns_beside(work: impl Future<Output = ()>) -> u32 {
    // What was sent has come.
    kernel::pause().await;
    let (is_done, turns) = (Cell::new(false), Cell::new(0));
    let other = async {
        while !is_done.get() {
            turns.set(turns.get() + 1);
            // Not as `kernel::pause`: it is to go on whenever the other yields.
            let mut is_woken = false;
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                match replace(&mut is_woken, true) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
        }
    };
    let work = async {
        work.await;
        is_done.set(true);
    };
    join!(work, other);
    turns.get()
}

#[test]
fn a_flood_of_packets_leaves_others_their_turns() {
    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        nic.ready().await.unwrap();
        for number in 0..FLOOD {
            host.tap.send(numbered(number));
        }
        let turns = turns_beside(async {
            let mut buffer = Vec::new();
            for number in 0..FLOOD {
                nic.receive(&mut buffer).await.unwrap();
                assert_eq!(buffer[14..18], number.to_be_bytes());
            }
        });
        let turns = turns.await;
        assert!(turns >= MIN_TURNS, "{turns}");
        nic.close().await;
    });
}

/// What is no packet is looked at for as long, and what comes behind it is not lost.
#[test]
fn a_flood_of_slots_without_a_packet_leaves_others_their_turns() {
    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        nic.ready().await.unwrap();
        for _ in 1..FLOOD {
            // Shorter than an Ethernet header.
            host.tap.send(Frame::whole([&MAC[..], &[0; 4]].concat()));
        }
        host.tap.send(numbered(7));
        let turns = turns_beside(async {
            let mut buffer = Vec::new();
            nic.receive(&mut buffer).await.unwrap();
            assert_eq!(buffer[14..18], 7_u32.to_be_bytes());
        });
        let turns = turns.await;
        assert!(turns >= MIN_TURNS, "{turns}");
        assert_eq!(nic.counters().rx_dropped, u64::from(FLOOD) - 1);
        nic.close().await;
    });
}

/// Whoever yields goes on, also if nobody else has anything to do.
#[test]
fn who_yields_is_woken() {
    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        nic.ready().await.unwrap();
        let mut buffer = Vec::new();
        for round in 0..4 {
            for _ in 1..FLOOD {
                host.tap.send(Frame::whole([&MAC[..], &[0; 4]].concat()));
            }
            host.tap.send(numbered(round));
            nic.receive(&mut buffer).await.unwrap();
            assert_eq!(buffer[14..18], round.to_be_bytes());
        }
        nic.close().await;
    });
}

/// One flow that floods its queue does not keep another's packets back.
#[test]
fn a_flood_on_one_queue_keeps_no_other_back() {
    let config = NicConfig {
        queues: 4,
        ..NicConfig::default()
    };
    let wanted = netfront::Config {
        queues: 4,
        rx_pages: 256,
        ..netfront::Config::default()
    };
    let datagram = |port: u8| {
        let mut packet = vec![0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1];
        packet.extend([10, 0, 0, 2, 0, port, 0x12, 0x34, 0, 13, 0, 0]);
        packet.extend(b"hello");
        Frame::whole(ethernet(MAC, 0x0800, &packet))
    };
    with_nic(config, wanted, async |host, nic| {
        nic.ready().await.unwrap();
        let mut buffer = Vec::new();
        // Which queue each flow has.
        let mut queues = Vec::new();
        for port in 0..4 {
            host.tap.send(datagram(port));
            queues.push(nic.receive(&mut buffer).await.unwrap().queue);
        }
        for flood in 0..4_u8 {
            let others =
                (0..4).filter(|port| queues[usize::from(*port)] != queues[usize::from(flood)]);
            let others: Vec<u8> = others.collect();
            assert!(!others.is_empty());
            for _ in 0..200 {
                host.tap.send(datagram(flood));
            }
            for port in &others {
                host.tap.send(datagram(*port));
            }
            let mut seen = Vec::new();
            for count in 0..200 + others.len() {
                nic.receive(&mut buffer).await.unwrap();
                if buffer[35] != flood {
                    assert!(count < 4 * (others.len() + 1), "{count}");
                    seen.push(buffer[35]);
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, others);
        }
        nic.close().await;
    });
}

/// A stack asks for packets until there are none, and wrong ones are not passed on.
#[cfg(feature = "smoltcp")]
#[test]
fn a_stack_is_not_kept_by_wrong_checksums() {
    use pv_frontends::adapters::smoltcp::Device;
    use smoltcp::{
        phy::{Device as _, RxToken as _},
        time::Instant,
    };

    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        let mut device = Device::new(&nic).await.unwrap();
        for _ in 1..FLOOD {
            host.tap.send(wrong());
        }
        host.tap.send(numbered(7));
        let turns = turns_beside(async {
            loop {
                let before = nic.counters().rx_packets;
                let came = device.receive(Instant::ZERO);
                let came = came.map(|(arrived, _)| {
                    arrived.consume(|bytes| assert_eq!(bytes[14..18], 7_u32.to_be_bytes()));
                });
                let looked_at = nic.counters().rx_packets - before;
                assert!(looked_at <= u64::from(TURN), "{looked_at}");
                if came.is_some() {
                    return;
                }
                device.changed().await;
            }
        });
        let turns = turns.await;
        assert!(turns >= MIN_TURNS, "{turns}");
        // Right ones are counted, too: a stack asks until there are none.
        for number in 0..FLOOD {
            host.tap.send(numbered(number));
        }
        let turns = turns_beside(async {
            let mut number = 0_u32;
            while number < FLOOD {
                let mut at_once = 0;
                while let Some((arrived, _)) = device.receive(Instant::ZERO) {
                    arrived.consume(|bytes| assert_eq!(bytes[14..18], number.to_be_bytes()));
                    (number, at_once) = (number + 1, at_once + 1);
                }
                assert!(at_once <= TURN, "{at_once}");
                if number < FLOOD {
                    device.changed().await;
                }
            }
        });
        let turns = turns.await;
        assert!(turns >= MIN_TURNS, "{turns}");
        drop(device);
        nic.close().await;
    });
}

/// The same for a stack that is polled with a task's context.
#[cfg(feature = "embassy-net")]
#[test]
fn a_polled_stack_is_not_kept_by_wrong_checksums() {
    use pv_frontends::adapters::embassy_net::{
        Device,
        driver::{Driver as _, RxToken as _},
    };

    let config = netfront::Config::default();
    with_nic(NicConfig::default(), config, async |host, nic| {
        let mut device = Device::new(&nic).await.unwrap();
        for _ in 1..FLOOD {
            host.tap.send(wrong());
        }
        host.tap.send(numbered(7));
        let turns = turns_beside(poll_fn(|cx| {
            let before = nic.counters().rx_packets;
            let came = device.receive(cx).map(|(arrived, _)| {
                arrived.consume(|bytes| assert_eq!(bytes[14..18], 7_u32.to_be_bytes()));
            });
            let looked_at = nic.counters().rx_packets - before;
            assert!(looked_at <= u64::from(TURN), "{looked_at}");
            came.map_or(Poll::Pending, Poll::Ready)
        }));
        let turns = turns.await;
        assert!(turns >= MIN_TURNS, "{turns}");
        drop(device);
        nic.close().await;
    });
}
