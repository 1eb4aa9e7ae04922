//! A server's side of TCP: connections on demand, and what each costs.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
};

use futures_util::future::{join, select as select_all};
use mock_hypervisor::{Domain, NicConfig};
use pv_frontends::{
    net::{Config, Error, Stack, Stream},
    netfront::{self, Nic},
};
use pv_guest::executor::select;
use smoltcp::socket::tcp;

use crate::{
    clients::{
        self, Clients, PORT, ROOM, SECOND, V4_SERVER, V6_SERVER, bytes, config, syn, until,
        with_stack,
    },
    nic::{self, with_nic},
};

/// Sends back what comes, until no more does.
async fn echo(mut stream: Stream<'_, &Domain>) {
    let mut buffer = [0; 3000];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    stream.finish();
}

#[test]
fn a_connection_has_memory_while_it_lasts() {
    with_stack(config(), async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        assert_eq!(stack.listen(PORT).unwrap_err(), Error::PortInUse(PORT));
        let test = async {
            for server in [V4_SERVER, V6_SERVER] {
                assert_eq!((stack.connections(), stack.used_bytes()), (0, 0));
                let client = clients.connect(server, ROOM);
                until(stack, || clients.state(client) == tcp::State::Established).await;
                assert_eq!(stack.connections(), 1);
                let used_bytes = stack.used_bytes();
                assert!((6 << 10..=136 << 10).contains(&used_bytes), "{used_bytes}");
                let sent = bytes(20_000);
                clients.send(client, &sent);
                let came = RefCell::new(Vec::new());
                until(stack, || {
                    came.borrow_mut().extend(clients.take(client));
                    came.borrow().len() == sent.len()
                })
                .await;
                assert_eq!(*came.borrow(), sent);
                clients.with(client, tcp::Socket::close);
                until(stack, || stack.connections() == 0).await;
            }
            assert_eq!(stack.used_bytes(), 0);
        };
        select(listener.serve(echo), test).await;
    });
}

/// Where nobody listens, who asks is refused; where somebody does, he is not, however many
/// come.
#[test]
fn who_finds_no_room_asks_again() {
    let config = Config {
        connections: 2,
        ..config()
    };
    with_stack(config, async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let other = (V4_SERVER.0, PORT + 1);
        let refused = clients.connect(other, ROOM);
        let all = [(); 3].map(|()| clients.connect(V4_SERVER, ROOM));
        let first = listener.accept().await.unwrap();
        let second = listener.accept().await.unwrap();
        until(stack, || clients.state(refused) == tcp::State::Closed).await;
        stack.bus().sleep(5 * SECOND).await;
        assert_eq!(stack.connections(), 2);
        let asks = |client: &_| clients.state(*client) == tcp::State::SynSent;
        assert_eq!(all.iter().filter(|client| asks(client)).count(), 1);
        first.finish();
        for client in all.iter().filter(|client| !asks(client)) {
            clients.with(*client, tcp::Socket::close);
        }
        let third = stack.bus().timeout(20 * SECOND, listener.accept()).await;
        assert!(third.unwrap().is_ok());
        drop(second);
    });
}

#[test]
fn a_flood_of_questions_ties_up_little_and_shuts_nobody_out() {
    const HALF_OPEN: usize = 8;
    let config = Config {
        half_open: HALF_OPEN,
        ..config()
    };
    with_stack(config, async |host, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        // Somebody was there before, and stays.
        let before = clients.connect(V4_SERVER, ROOM);
        let is_over = Cell::new(false);
        let flood = async {
            // Three times as many as there is room for.
            for number in 0.. {
                if is_over.get() {
                    break;
                }
                host.tap.send(syn(number * 2));
                stack.bus().sleep(SECOND / (3 * HALF_OPEN as u32)).await;
                assert!(stack.connections() <= HALF_OPEN + 2);
            }
        };
        let test = async {
            until(stack, || stack.connections() == HALF_OPEN + 1).await;
            // An old friend is served as ever.
            clients.send(before, b"still here");
            until(stack, || {
                clients.with(before, |socket| socket.recv_queue()) == 10
            })
            .await;
            // Who comes now has to ask for a while, but not for ever.
            let client = clients.connect(V4_SERVER, ROOM);
            clients.with(client, |socket| socket.set_timeout(None));
            for _ in 0..60 {
                stack.bus().sleep(SECOND).await;
                if clients.state(client) == tcp::State::Established {
                    break;
                }
            }
            assert_eq!(clients.state(client), tcp::State::Established);
            is_over.set(true);
            stack.bus().sleep(15 * SECOND).await;
            assert_eq!(stack.connections(), 2);
        };
        select(listener.serve(echo), join(flood, test)).await;
    });
}

/// The other end acknowledges 40 ms late, as Linux does: nobody waits for it.
#[test]
fn flush_waits_for_nobody() {
    with_stack(config(), async |_, stack, clients| {
        use embedded_io_async::Write as _;

        const DELAY_MS: u64 = 40;
        let listener = stack.listen(PORT).unwrap();
        let client = clients.connect(V4_SERVER, ROOM);
        clients.with(client, |socket| {
            socket.set_ack_delay(Some(smoltcp::time::Duration::from_millis(DELAY_MS)));
        });
        let mut stream = listener.accept().await.unwrap();
        let now_ns = || stack.bus().now_ns();
        for _ in 0..10 {
            clients.send(client, b"what is there?");
            let begin_ns = now_ns();
            let mut question = [0; 99];
            assert_eq!(stream.read(&mut question).await, Ok(14));
            stream.write_all(b"a head").await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(b"and a body").await.unwrap();
            stream.flush().await.unwrap();
            until(stack, || {
                clients.with(client, |socket| socket.recv_queue()) == 16
            })
            .await;
            clients.take(client);
            let took_ns = now_ns() - begin_ns;
            assert!(took_ns < 5_000_000, "{took_ns}");
        }
        // Who wants to know can.
        let begin_ns = now_ns();
        stream.acknowledged().await.unwrap();
        assert!(now_ns() - begin_ns > 20_000_000);
    });
}

#[test]
fn answers_leave_in_large_packets() {
    for server in [V4_SERVER, V6_SERVER] {
        let wanted = netfront::Config::default();
        with_nic(
            NicConfig::default(),
            wanted,
            async |host, nic: Nic<'_, &Domain>| {
                let stack = Stack::new(&nic, config()).await.unwrap();
                let clients = Clients::new(&host.tap);
                let test = async {
                    let listener = stack.listen(PORT).unwrap();
                    let client = clients.connect(server, ROOM);
                    let mut stream = listener.accept().await.unwrap();
                    // However little is acknowledged at a time.
                    clients.dawdle();
                    let before = nic.counters();
                    let all = bytes(1 << 20);
                    let came = RefCell::new(Vec::new());
                    let read = async {
                        until(&stack, || {
                            came.borrow_mut().extend(clients.take(client));
                            came.borrow().len() == all.len()
                        })
                        .await;
                    };
                    let (written, ()) = join(stream.write_all(&all), read).await;
                    written.unwrap();
                    assert!(*came.borrow() == all);
                    let after = nic.counters();
                    let packets = after.tx_packets - before.tx_packets;
                    let each = (after.tx_bytes - before.tx_bytes) / packets;
                    assert!(each > 8_000, "{packets} packets of {each} bytes");
                };
                clients.run(&stack, test).await;
                drop(stack);
                nic.close().await;
            },
        );
    }
}

#[test]
fn a_restarted_backend_loses_no_byte() {
    with_stack(config(), async |host, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let client = clients.connect(V4_SERVER, 30_000);
        let mut stream = listener.accept().await.unwrap();
        let all = bytes(1 << 20);
        let came = RefCell::new(Vec::new());
        let read = async {
            let mut restarts = 0;
            while came.borrow().len() < all.len() {
                let before = came.borrow().len();
                until(stack, || {
                    came.borrow_mut().extend(clients.take(client));
                    came.borrow().len() > before
                })
                .await;
                if came.borrow().len() > (restarts + 1) * 200_000 {
                    restarts += 1;
                    host.xen.restart_nic(host.id);
                }
            }
            assert!(restarts >= 4);
        };
        let (written, ()) = join(stream.write_all(&all), read).await;
        written.unwrap();
        assert!(*came.borrow() == all);
    });
}

/// A guest's stack as a client: of one on the wire there is none.
#[test]
fn whoever_connects_is_told_how_it_went() {
    let config = Config {
        patience: 3 * SECOND,
        ..config()
    };
    with_stack(config, async |_, stack, _| {
        let closed = "10.0.0.9:9".parse().unwrap();
        assert_eq!(
            stack.connect(closed).await.unwrap_err(),
            Error::NotConnected
        );
        let nobody = "10.0.0.77:9".parse().unwrap();
        assert_eq!(
            stack.connect(nobody).await.unwrap_err(),
            Error::NotConnected
        );
        until(stack, || stack.connections() == 0).await;
    });
}

/// A SYN is for the address in it.
#[test]
fn a_question_to_another_host_is_not_answered() {
    with_stack(config(), async |host, stack, _| {
        let _listener = stack.listen(PORT).unwrap();
        host.tap.send(syn(2));
        until(stack, || stack.connections() == 1).await;
        for to in [
            [10, 0, 0, 2],
            [10, 0, 0, 255],
            [255; 4],
            [224, 0, 0, 1],
            [0; 4],
        ] {
            let mut frame = syn(4);
            // Its address, and the checksum of the header anew.
            frame.bytes[30..34].copy_from_slice(&to);
            frame.bytes[24..26].fill(0);
            let sum = !clients::sum(&frame.bytes[14..34]);
            frame.bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            host.tap.send(frame);
            stack.bus().sleep(SECOND / 10).await;
            assert_eq!(stack.connections(), 1, "{to:?}");
        }
    });
}

/// A packet that seems to ask for a connection, and that TCP does not take.
#[test]
fn a_question_that_is_none_leaves_nothing() {
    with_stack(config(), async |host, stack, _| {
        let _listener = stack.listen(PORT).unwrap();
        // A head of TCP that is longer than the packet.
        let mut frame = syn(2);
        frame.bytes[14 + 20 + 12] = 0xf0;
        host.tap.send(frame);
        stack.bus().sleep(SECOND / 10).await;
        assert_eq!((stack.connections(), stack.used_bytes()), (0, 0));
    });
}

/// Who has sent all that there was room for goes on when some of it was read, at once.
#[test]
fn a_read_opens_the_window() {
    let config = Config {
        rx_bytes: 4096,
        ..config()
    };
    with_stack(config, async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let client = clients.connect(V4_SERVER, ROOM);
        let mut stream = listener.accept().await.unwrap();
        let sent = bytes(40_960);
        clients.send(client, &sent);
        stack.bus().sleep(SECOND / 2).await;
        let begin_ns = stack.bus().now_ns();
        let mut came = Vec::new();
        let mut buffer = [0; 4096];
        while came.len() < sent.len() {
            let count = stream.read(&mut buffer).await.unwrap();
            came.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(came, sent);
        // The client's own probes of a closed window take a second and more.
        let took_ns = stack.bus().now_ns() - begin_ns;
        assert!(took_ns < 200_000_000, "{took_ns} ns");
    });
}

/// Flags of the last packet of TCP over IPv4 that came to this port, and its number.
fn last_to(host: &nic::Host, port: u16) -> Option<(u8, u32)> {
    let frames = std::iter::from_fn(|| host.tap.receive());
    let own = frames.filter(|frame| frame.bytes.get(36..38) == Some(&port.to_be_bytes()[..]));
    let told = own.map(|frame| {
        let number = frame.bytes[38..42].try_into().unwrap();
        (frame.bytes[47], u32::from_be_bytes(number))
    });
    told.last()
}

/// Who has reset a connection may begin anew from the same port, also while somebody still
/// holds the stream of before.
#[test]
fn who_was_reset_may_begin_anew() {
    const PORT_AGAIN: u16 = 77;
    const SYN_ACK: u8 = 0x12;
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic| {
            let stack = Stack::new(&nic, config()).await.unwrap();
            let listener = stack.listen(PORT).unwrap();
            let bus = stack.bus();
            let soon = async || bus.sleep(SECOND / 100).await;
            let send = |seq, ack, flags| {
                let from = [10, 0, 0, 9];
                host.tap.send(clients::raw(
                    from,
                    PORT_AGAIN,
                    seq,
                    ack,
                    flags,
                    0xffff,
                    &[],
                    &[],
                ));
            };
            let test = async {
                // The stack asks where the client is.
                let other = Clients::new(&host.tap);
                let client = other.connect(V4_SERVER, ROOM);
                while other.state(client) != tcp::State::Established {
                    other.look(bus.now_ns());
                    soon().await;
                }
                let _other = listener.accept().await.unwrap();
                let mut held = Vec::new();
                for seq in [10, 100_000, 200_000] {
                    send(seq, 0, 0x02);
                    soon().await;
                    let (flags, number) = last_to(host, PORT_AGAIN).expect("it is answered");
                    assert_eq!(flags, SYN_ACK, "{seq}");
                    send(seq + 1, number.wrapping_add(1), 0x10);
                    let accepted = bus.timeout(SECOND, listener.accept()).await;
                    held.push(accepted.expect("he is let in").unwrap());
                    send(seq + 1, 0, 0x04);
                    soon().await;
                }
                assert_eq!(held.len(), 3);
            };
            select(stack.run(), test).await;
            drop(listener);
            drop(stack);
            nic.close().await;
        },
    );
}

/// Each connection of the guest's own has a port of its own.
#[test]
fn no_local_port_is_used_twice() {
    let config = Config {
        // The last port but three.
        seed: Some(0xfffc << 7),
        patience: SECOND,
        ..config()
    };
    with_stack(config, async |_, stack, clients| {
        clients.listen(PORT + 1, 8);
        let mut all = Vec::new();
        for _ in 0..8 {
            let stream = stack.connect("10.0.0.9:81".parse().unwrap()).await;
            all.push(stream.unwrap());
        }
        let ports = all.iter().map(|stream| stream.local().unwrap().port());
        let ports: std::collections::BTreeSet<_> = ports.collect();
        assert_eq!(ports.len(), 8, "{ports:?}");
        assert!(ports.iter().all(|port| *port >= 49_152), "{ports:?}");
    });
}

/// Counts how often a future is polled.
async fn counted<F: Future>(count: &Cell<u32>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        count.set(count.get() + 1);
        future.as_mut().poll(cx)
    })
    .await
}

/// Whatever else a task has, the stack sleeps while nothing comes, and has no timer.
#[test]
fn an_idle_stack_sleeps_in_every_pairing() {
    enum Pairing {
        Select,
        SelectOfOthers,
        Join,
    }
    for pairing in [Pairing::Select, Pairing::SelectOfOthers, Pairing::Join] {
        with_nic(
            NicConfig::default(),
            netfront::Config::default(),
            async |host, nic: Nic<'_, &Domain>| {
                let config = Config {
                    // None while this looks.
                    keep_alive: 3000 * SECOND,
                    patience: 3000 * SECOND,
                    ..config()
                };
                let stack = Stack::new(&nic, config).await.unwrap();
                let clients = Clients::new(&host.tap);
                let listener = stack.listen(PORT).unwrap();
                let client = clients.connect(V4_SERVER, ROOM);
                let mut stream = clients.run(&stack, listener.accept()).await.unwrap();
                // Something was read and written before.
                clients.send(client, b"hello");
                clients
                    .run(&stack, async {
                        let mut hello = [0; 5];
                        stream.read(&mut hello).await.unwrap();
                        stream.write_all(&hello).await.unwrap();
                        stream.acknowledged().await.unwrap();
                    })
                    .await;
                let polls = [const { Cell::new(0) }; 3];
                let bus = stack.bus();
                let mut hello = [0; 5];
                let work = async {
                    let read = pin!(counted(&polls[1], stream.read(&mut hello)));
                    let wait = pin!(counted(&polls[2], listener.accept()));
                    let look = pin!(bus.sleep(300 * SECOND));
                    let idle = select_all(select_all(read, wait), look).await;
                    assert!(matches!(idle, futures_util::future::Either::Right(_)));
                };
                let run = counted(&polls[0], stack.run());
                match pairing {
                    Pairing::Select => {
                        select(run, work).await;
                    }
                    Pairing::SelectOfOthers => {
                        select_all(pin!(run), pin!(work)).await;
                    }
                    Pairing::Join => {
                        let _late = bus.timeout(299 * SECOND, join(run, work)).await;
                    }
                }
                for count in polls {
                    // In five minutes.
                    assert!(count.get() < 12, "{} polls", count.get());
                }
                drop((stream, listener, stack));
                nic.close().await;
            },
        );
    }
}
