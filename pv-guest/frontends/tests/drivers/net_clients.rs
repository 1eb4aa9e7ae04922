//! Clients that send what no stack sends, many at once, and what a guest's own use of its
//! stack must not do to others.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Wake, Waker},
    time::Duration,
};

use crate::{clients, nic::OTHER};
use mock_hypervisor::{Domain, NicConfig, seed_count, seeds};
use pv_frontends::{
    net::{Config, Error, Stack, Stream, V4},
    netfront::{self, Nic},
};
use pv_guest::executor::select;
use smoltcp::{socket::tcp, wire::IpAddress};

use crate::{
    clients::{
        Clients, PORT, ROOM, SECOND, V4_SERVER, V6_SERVER, config, raw, syn, until, with_stack,
    },
    nic::{MAC, ethernet, with_nic},
};

#[test]
fn a_listener_that_goes_turns_away_who_waits_at_once() {
    with_stack(config(), async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let client = clients.connect(V4_SERVER, ROOM);
        until(stack, || clients.state(client) == tcp::State::Established).await;
        stack.bus().sleep(SECOND).await;
        let begin = stack.bus().now_ns();
        drop(listener);
        let wait = async {
            while clients.state(client) != tcp::State::Closed {
                stack.bus().sleep(Duration::from_millis(1)).await;
            }
        };
        let so = stack.bus().timeout(120 * SECOND, wait).await;
        let took = stack.bus().now_ns() - begin;
        println!(
            "told: {so:?} after {} ms; connections {}",
            took / 1_000_000,
            stack.connections()
        );
        assert!(so.is_ok() && took < 1_000_000_000, "{took}");
    });
}

#[test]
fn a_flood_does_not_keep_the_guest_from_connecting() {
    let config = Config {
        half_open: 8,
        ..config()
    };
    with_stack(config, async |host, stack, _| {
        let _listener = stack.listen(PORT).unwrap();
        let mut refused = 0;
        let mut number = 0;
        for _ in 0..20 {
            for _ in 0..8 {
                host.tap.send(syn(number * 2));
                number += 1;
            }
            stack.bus().sleep(SECOND / 10).await;
            let error = stack
                .connect("10.0.0.9:9".parse().unwrap())
                .await
                .unwrap_err();
            if error == Error::NoRoom {
                refused += 1;
            }
        }
        println!(
            "{refused} of 20 NoRoom; used {} of 8 MiB",
            stack.used_bytes()
        );
        assert_eq!(refused, 0);
    });
}

#[test]
fn memory_without_a_bound_is_no_panic() {
    let config = Config {
        memory_bytes: usize::MAX,
        ..config()
    };
    with_stack(config, async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        clients.connect(V4_SERVER, ROOM);
        listener.accept().await.unwrap();
    });
}

struct Count;
impl Wake for Count {
    fn wake(self: Arc<Self>) {}
}

/// How many wakers a stack keeps after `ask`, of one who waits for an address that never comes.
fn wakers_kept(ask: impl Fn(&Stack<'_, &Domain>, &mut Context<'_>)) -> usize {
    let config = Config {
        v4: V4::Dhcp,
        ..config()
    };
    with_stack(config, async |_, stack, _| {
        let waker = Arc::new(Count);
        let task = Waker::from(Arc::clone(&waker));
        ask(stack, &mut Context::from_waker(&task));
        Arc::strong_count(&waker)
    })
}

#[test]
fn who_asks_again_is_noted_once() {
    let kept = wakers_kept(|stack, cx| {
        let mut ready = pin!(stack.ready());
        for _ in 0..1000 {
            assert!(ready.as_mut().poll(cx).is_pending());
        }
    });
    assert!(kept < 10, "{kept}");
}

#[test]
fn waits_that_were_given_up_leave_nothing() {
    let kept = wakers_kept(|stack, cx| {
        for _ in 0..1000 {
            assert!(pin!(stack.ready()).poll(cx).is_pending());
        }
    });
    assert!(kept < 10, "{kept}");
}

/// Packets of TCP that are nearly right, in any order: none is a panic, costs memory beyond
/// the bounds, or has the guest send without end.
#[test]
fn random_packets_do_no_harm() {
    seeds(seed_count(200), fuzz);
}

fn fuzz(seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut rng = move |n: u32| -> u32 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 16) as u32) % n.max(1)
    };
    let config = Config {
        connections: 8,
        half_open: 4,
        memory_bytes: 128 << 10,
        patience: 5 * SECOND,
        keep_alive: 2 * SECOND,
        ..config()
    };
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic: Nic<'_, &Domain>| {
            let stack = Stack::new(&nic, config).await.unwrap();
            let listener = stack.listen(PORT).unwrap();
            let mode = rng(3);
            let serve = listener.serve(async |mut stream: Stream<'_, &Domain>| {
                let mut buffer = [0; 3000];
                let big = vec![7u8; 20_000];
                match mode {
                    0 => {
                        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                            if stream.write_all(&buffer[..count]).await.is_err() {
                                return;
                            }
                        }
                        stream.finish();
                    }
                    1 => {
                        let _ = stream.write_all(&big).await;
                        stream.finish();
                    }
                    _ => {
                        let _ = stream.read(&mut buffer).await;
                        let _ = stream.write_all(&big).await;
                        let _ = stream.shutdown(2 * SECOND).await;
                    }
                }
            });
            let drive = async {
                // Of each port: the guest's next sequence number, and what it acknowledged last.
                let mut known: std::collections::HashMap<u16, (u32, u32)> = Default::default();
                let ports = [1001u16, 1002, 1003];
                let mut base = [rng(u32::MAX), rng(u32::MAX), rng(u32::MAX)];
                for _ in 0..120 {
                    while let Some(frame) = host.tap.receive() {
                        for one in frame.on_wire() {
                            // A question of ARP's.
                            if one.len() >= 42 && one[12..14] == [8, 6] && one[21] == 1 {
                                let mut answer = vec![0, 1, 8, 0, 6, 4, 0, 2];
                                answer.extend(OTHER);
                                answer.extend(&one[38..42]);
                                answer.extend(&one[22..32]);
                                host.tap
                                    .send(clients::local(ethernet(MAC, 0x0806, &answer)));
                            }
                            if one.len() >= 54 && one[12..14] == [8, 0] && one[23] == 6 {
                                let port = u16::from_be_bytes([one[36], one[37]]);
                                let seq = u32::from_be_bytes(one[38..42].try_into().unwrap());
                                let ack = u32::from_be_bytes(one[42..46].try_into().unwrap());
                                let total = u32::from(u16::from_be_bytes([one[16], one[17]]));
                                let hl = u32::from(one[46] >> 4) * 4;
                                let flags = one[47];
                                let len = total - 20 - hl
                                    + u32::from(flags & 2 != 0)
                                    + u32::from(flags & 1 != 0);
                                known.insert(port, (seq.wrapping_add(len), ack));
                            }
                        }
                    }
                    for _ in 0..1 + rng(4) {
                        let which = rng(3) as usize;
                        let port = ports[which];
                        let (nxt, acked) = known.get(&port).copied().unwrap_or((0, base[which]));
                        let near = |rng: &mut dyn FnMut(u32) -> u32, at: u32| match rng(14) {
                            0 => at.wrapping_add(rng(40_000)),
                            1 => at.wrapping_sub(rng(40_000)),
                            2 => at.wrapping_add(1),
                            3 => at.wrapping_sub(1),
                            4 => at.wrapping_add(0x7fff_ff00 + rng(0x200)),
                            5 => at.wrapping_add(20_000 + rng(5)),
                            _ => at,
                        };
                        let seq = near(&mut rng, acked);
                        let ack = near(&mut rng, nxt);
                        let flags = match rng(16) {
                            0..4 => 2,
                            4 => 0x11,
                            5 => 0x14,
                            6 => 0x12,
                            7 => rng(64) as u8,
                            8 => 1,
                            _ => 0x10 | (rng(2) as u8) << 3,
                        };
                        let window = match rng(5) {
                            0 => 0,
                            1 => 1,
                            2 => rng(65536) as u16,
                            _ => 0xffff,
                        };
                        let mut options = Vec::new();
                        match rng(8) {
                            0 => options.extend([2, 4, 0, rng(256) as u8]),
                            1 => options.extend([3, 3, rng(256) as u8, 1]),
                            2 => options.extend([4, 2, 1, 1]),
                            3 => {
                                let l = rng(8) as usize * 4;
                                for _ in 0..l {
                                    options.push(rng(256) as u8);
                                }
                            }
                            4 => {
                                options.extend([1, 1, 5, 10]);
                                options.extend(near(&mut rng, nxt).to_be_bytes());
                                options.extend(near(&mut rng, nxt).to_be_bytes());
                            }
                            5 => {
                                options.extend([2, 4, 5, 180, 3, 3, 14, 1, 4, 2, 1, 1]);
                            }
                            6 => {
                                options.extend([1, 1, 8, 10]);
                                options.extend(rng(u32::MAX).to_be_bytes());
                                options.extend(rng(u32::MAX).to_be_bytes());
                            }
                            _ => {}
                        }
                        let payload = if flags & 2 != 0 && rng(4) != 0 {
                            vec![]
                        } else {
                            vec![
                                5u8;
                                match rng(4) {
                                    0 => 0,
                                    1 => 1,
                                    2 => rng(1460) as usize,
                                    _ => 1400,
                                }
                            ]
                        };
                        let mut from = [10, 0, 0, 9];
                        if rng(40) == 0 {
                            from = match rng(4) {
                                0 => [0, 0, 0, 0],
                                1 => [10, 0, 0, 1],
                                2 => [127, 0, 0, 1],
                                _ => [10, 0, 0, 255],
                            };
                        }
                        let mut frame =
                            raw(from, port, seq, ack, flags, window, &options, &payload);
                        if rng(20) == 0 {
                            let at = rng(frame.bytes.len() as u32) as usize;
                            frame.bytes[at] = rng(256) as u8;
                        }
                        if rng(40) == 0 {
                            let at = 14 + rng(frame.bytes.len() as u32 - 14) as usize;
                            frame.bytes.truncate(at.max(14));
                        }
                        host.tap.send(frame);
                        if flags == 2 && rng(30) == 0 {
                            base[which] = rng(u32::MAX);
                        }
                    }
                    let pause = match rng(12) {
                        0 => 3_000_000_u64,
                        1 => 200_000,
                        2 => 12_000_000,
                        _ => 1000,
                    };
                    stack.bus().sleep(Duration::from_micros(pause)).await;
                    assert!(stack.connections() <= 8);
                    assert!(stack.used_bytes() <= 128 << 10);
                }
                stack.bus().sleep(60 * SECOND).await;
                let left = stack.connections();
                if left > 0 {
                    stack.bus().sleep(60 * SECOND).await;
                    println!(
                        "seed {seed} mode {mode}: {left} then {} connections left",
                        stack.connections()
                    );
                }
            };
            {
                let mut run = pin!(stack.run());
                let bus = stack.bus();
                let (mut last, mut same) = (0, 0);
                let run = std::future::poll_fn(|cx| {
                    let now = bus.now_ns();
                    same = if now == last { same + 1 } else { 0 };
                    last = now;
                    if same > 300 {
                        let mut frames = Vec::new();
                        while let Some(frame) = host.tap.receive() {
                            frames.extend(frame.on_wire());
                        }
                        let n = frames.len();
                        for one in frames.iter().skip(n.saturating_sub(6)) {
                            println!(
                                "{} bytes: seq {:02x?} ack {:02x?} hl/flags {:02x?} window {:02x?} port {:02x?}",
                                one.len(),
                                &one[38..42],
                                &one[42..46],
                                &one[46..48],
                                &one[48..50],
                                &one[36..38]
                            );
                        }
                        panic!("seed {seed} mode {mode}: {n} frames in no time at {now}");
                    }
                    run.as_mut().poll(cx)
                });
                select(run, select(serve, drive)).await;
            }
            drop((listener, stack));
            nic.close().await;
        },
    );
}

#[test]
fn a_listener_that_goes_holds_up_no_other_stream() {
    let config = Config {
        keep_alive: 3000 * SECOND,
        patience: 3000 * SECOND,
        ..config()
    };
    with_stack(config, async |_, stack, clients| {
        let first = stack.listen(PORT).unwrap();
        let one = clients.connect(V4_SERVER, ROOM);
        let mut stream = first.accept().await.unwrap();
        let other = clients.connect(V4_SERVER, ROOM);
        until(stack, || clients.state(other) == tcp::State::Established).await;
        stack.bus().sleep(20 * SECOND).await;
        drop(first);
        let begin = stack.bus().now_ns();
        stream.write_all(b"hello").await.unwrap();
        let wait = async {
            while clients.with(one, |socket| socket.recv_queue()) < 5 {
                stack.bus().sleep(Duration::from_millis(1)).await;
            }
        };
        let so = stack.bus().timeout(600 * SECOND, wait).await;
        let took = stack.bus().now_ns() - begin;
        println!("hello: {so:?} after {} ms", took / 1_000_000);
        assert!(so.is_ok() && took < 1_000_000_000, "{took}");
    });
}

async fn patient(stack: &Stack<'_, &Domain>, clients: &Clients<'_>) {
    let listener = stack.listen(PORT).unwrap();
    let client = clients.connect(V4_SERVER, ROOM);
    let mut stream = listener.accept().await.unwrap();
    stack.bus().sleep(SECOND).await;
    assert_eq!(clients.state(client), tcp::State::Established);
    stream.write_all(b"hello").await.unwrap();
    until(stack, || {
        clients.with(client, |socket| socket.recv_queue()) == 5
    })
    .await;
}

#[test]
fn patience_without_end_is_no_end_at_once() {
    with_stack(
        Config {
            patience: Duration::MAX,
            ..config()
        },
        async |_, stack, clients| {
            patient(stack, clients).await;
        },
    );
}

#[test]
fn keep_alive_never_is_not_always() {
    let config = Config {
        keep_alive: Duration::MAX,
        ..config()
    };
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic| {
            let stack = Stack::new(&nic, config).await.unwrap();
            let clients = Clients::new(&host.tap);
            clients
                .run(&stack, async {
                    patient(&stack, &clients).await;
                    let before = nic.counters().tx_packets;
                    stack.bus().sleep(10 * SECOND).await;
                    let sent = nic.counters().tx_packets - before;
                    println!("{sent} packets while nothing is said");
                    assert!(sent < 5);
                })
                .await;
            drop(stack);
            nic.close().await;
        },
    );
}

#[test]
fn a_client_who_acknowledges_an_end_that_was_not_sent_starts_no_storm() {
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic: Nic<'_, &Domain>| {
            let stack = Stack::new(&nic, config()).await.unwrap();
            {
                let listener = stack.listen(PORT).unwrap();
                let bus = stack.bus();
                let serve = listener.serve(async |mut stream: Stream<'_, &Domain>| {
                    stream.write_all(b"0123456789").await.unwrap();
                    stream.finish();
                });
                let drive = async {
                    let pause = || bus.sleep(Duration::from_millis(20));
                    let from = [10, 0, 0, 9];
                    // Who is there.
                    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
                    arp.extend(OTHER);
                    arp.extend(from);
                    arp.extend([0; 6]);
                    arp.extend([10, 0, 0, 1]);
                    host.tap.send(clients::local(ethernet(MAC, 0x0806, &arp)));
                    pause().await;
                    while host.tap.receive().is_some() {}
                    host.tap.send(raw(from, 1000, 0, 0, 2, 0xffff, &[], &[]));
                    pause().await;
                    let answer = host.tap.receive().unwrap().on_wire().remove(0);
                    let seq =
                        u32::from_be_bytes(answer[38..42].try_into().unwrap()).wrapping_add(1);
                    host.tap.send(raw(from, 1000, 1, seq, 0x10, 0, &[], &[]));
                    pause().await;
                    // There is no room: the guest is to ask for it now and then.
                    host.tap.send(raw(from, 1000, 1, seq, 0x10, 0, &[], &[]));
                    pause().await;
                    // All came, with the end: which was never sent.
                    host.tap
                        .send(raw(from, 1000, 1, seq.wrapping_add(11), 0x10, 0, &[], &[]));
                    let before = nic.counters().tx_packets;
                    bus.sleep(10 * SECOND).await;
                    let sent = nic.counters().tx_packets - before;
                    assert!(sent < 1000, "{sent} packets in 10 s");
                };
                let mut run = pin!(stack.run());
                let (mut last, mut same) = (0, 0);
                let run = std::future::poll_fn(|cx| {
                    let now = bus.now_ns();
                    same = if now == last { same + 1 } else { 0 };
                    last = now;
                    assert!(
                        same < 1000,
                        "{} packets, {} ms after the start, and time stands still",
                        nic.counters().tx_packets,
                        now / 1_000_000
                    );
                    run.as_mut().poll(cx)
                });
                select(run, select(serve, drive)).await;
            }
            drop(stack);
            nic.close().await;
        },
    );
}

/// One who waits for an answer, while others are sent much that they take in small pieces.
async fn wait_beside_a_large_answer(
    stack: &Stack<'_, &Domain>,
    clients: &Clients<'_>,
    takers: usize,
    server: (IpAddress, u16),
) {
    let listener = stack.listen(PORT).unwrap();
    // The guest has said all that it has to say.
    let asked = clients.connect(V4_SERVER, ROOM);
    let mut quiet = listener.accept().await.unwrap();
    quiet.write_all(b"question").await.unwrap();
    quiet.close();
    until(stack, || clients.state(asked) == tcp::State::CloseWait).await;
    let mut streams = Vec::new();
    for _ in 0..takers {
        clients.connect(server, ROOM);
        streams.push(listener.accept().await.unwrap());
    }
    let bytes = vec![7; 60_000];
    let all = streams.iter_mut().map(|stream| stream.write_all(&bytes));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    stack.bus().sleep(SECOND).await;
    clients.send(asked, b"answer");
    let mut answer = [0; 16];
    assert_eq!(quiet.read(&mut answer).await, Ok(6));
}

#[test]
fn small_segments_end_no_other_connection() {
    // The least that IPv6 and IPv4 have for a segment of 48 bytes.
    for (frame_bytes, segments, takers, server) in [
        (122, true, 1, V6_SERVER),
        (122, true, 8, V6_SERVER),
        (102, false, 1, V4_SERVER),
    ] {
        let config_of_nic = NicConfig {
            segments,
            ..NicConfig::default()
        };
        with_nic(
            config_of_nic,
            netfront::Config::default(),
            async |host, nic| {
                let stack = Stack::new(&nic, config()).await.unwrap();
                let clients = Clients::of_frames(&host.tap, frame_bytes);
                let test = wait_beside_a_large_answer(&stack, &clients, takers, server);
                clients.run(&stack, test).await;
                drop(stack);
                nic.close().await;
            },
        );
    }
}
