//! How a connection of TCP ends, in order and otherwise.

use std::{cell::RefCell, future::Future, pin::Pin};

use futures_util::{FutureExt as _, StreamExt as _, future::join, stream::FuturesUnordered};
use mock_hypervisor::{Domain, NicConfig};
use pv_frontends::{
    net::{Config, Error, Stack},
    netfront::{self, Nic},
};
use pv_guest::executor::select;
use smoltcp::{socket::tcp, wire::IpAddress};

use crate::{
    clients::{Clients, PORT, ROOM, SECOND, V4_SERVER, bytes, config, raw, until, with_stack},
    nic::{self, with_nic},
};

const SYN: u8 = 0x02;
const RST: u8 = 0x04;

#[test]
fn who_never_reads_is_given_up() {
    let config = Config {
        patience: 5 * SECOND,
        keep_alive: 2 * SECOND,
        ..config()
    };
    with_stack(config, async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let lazy = clients.connect(V4_SERVER, 4096);
        let mut stream = listener.accept().await.unwrap();
        let begin_ns = stack.bus().now_ns();
        let all = bytes(1 << 20);
        let written = stream.write_all(&all).await;
        assert_eq!(written, Err(Error::TimedOut));
        let took_ns = stack.bus().now_ns() - begin_ns;
        assert!(
            (4_900_000_000..6_000_000_000).contains(&took_ns),
            "{took_ns}"
        );
        drop(stream);
        until(stack, || stack.connections() == 0).await;
        // He is told that it is over.
        until(stack, || clients.state(lazy) == tcp::State::Closed).await;
        // One to whom nothing is due is not: he may have nothing to say.
        let quiet = clients.connect(V4_SERVER, 4096);
        let _stream = listener.accept().await.unwrap();
        stack.bus().sleep(60 * SECOND).await;
        assert_eq!(clients.state(quiet), tcp::State::Established);
    });
}

/// Nobody who has vanished keeps his place.
#[test]
fn who_has_vanished_is_given_up() {
    let config = Config {
        patience: 5 * SECOND,
        keep_alive: 2 * SECOND,
        ..config()
    };
    with_stack(config, async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        clients.connect(V4_SERVER, ROOM);
        let mut reads = listener.accept().await.unwrap();
        clients.connect(V4_SERVER, ROOM);
        let ends = listener.accept().await.unwrap();
        clients.vanish();
        ends.finish();
        let begin_ns = stack.bus().now_ns();
        assert_eq!(reads.read(&mut [0; 9]).await, Err(Error::Reset));
        drop(reads);
        until(stack, || stack.connections() == 0).await;
        let took_ns = stack.bus().now_ns() - begin_ns;
        assert!(took_ns < 12_000_000_000, "{took_ns}");
    });
}

#[test]
fn a_reset_in_the_middle_ends_it() {
    with_stack(config(), async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let client = clients.connect(V4_SERVER, 20_000);
        let mut stream = listener.accept().await.unwrap();
        let all = bytes(1 << 20);
        let hang_up = async {
            until(stack, || {
                clients.with(client, |socket| socket.recv_queue()) == 20_000
            })
            .await;
            clients.with(client, tcp::Socket::abort);
        };
        let (written, ()) = join(stream.write_all(&all), hang_up).await;
        assert_eq!(written, Err(Error::Reset));
        assert_eq!(stream.read(&mut [0; 9]).await, Err(Error::Reset));
        assert_eq!(stream.acknowledged().await, Err(Error::Reset));
        drop(stream);
        until(stack, || stack.connections() == 0).await;
    });
}

/// What was finished arrives, however late the other end reads it.
#[test]
fn what_was_written_arrives_after_the_end() {
    with_stack(config(), async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        for waits in [false, true] {
            let client = clients.connect(V4_SERVER, 5000);
            let mut stream = listener.accept().await.unwrap();
            let all = bytes(30_000);
            stream.write_all(&all).await.unwrap();
            stream.close();
            assert_eq!(stream.write(b"more").await, Err(Error::Closed));
            let read = async {
                let came = RefCell::new(Vec::new());
                stack.bus().sleep(2 * SECOND).await;
                until(stack, || {
                    came.borrow_mut().extend(clients.take(client));
                    clients.state(client) == tcp::State::CloseWait
                })
                .await;
                assert!(*came.borrow() == all);
                clients.with(client, tcp::Socket::close);
            };
            match waits {
                true => {
                    let (over, ()) = join(stream.shutdown(20 * SECOND), read).await;
                    assert_eq!(over, Ok(()));
                }
                false => {
                    stream.finish();
                    read.await;
                }
            }
            until(stack, || stack.connections() == 0).await;
        }
        // One who does not end his side has a bound.
        clients.connect(V4_SERVER, 5000);
        let stream = listener.accept().await.unwrap();
        assert_eq!(stream.shutdown(3 * SECOND).await, Err(Error::TimedOut));
        until(stack, || stack.connections() == 0).await;
    });
}

/// Who comes again from the same port while his last connection waits for late packets gets
/// a new one.
#[test]
fn a_client_may_come_again_from_the_same_port() {
    with_stack(config(), async |host, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let client = clients.connect(V4_SERVER, ROOM);
        let stream = listener.accept().await.unwrap();
        let own = clients
            .with(client, |socket| socket.local_endpoint())
            .unwrap();
        // The guest closes first: it is the one that waits.
        stream.finish();
        until(stack, || clients.state(client) == tcp::State::CloseWait).await;
        clients.with(client, tcp::Socket::close);
        until(stack, || clients.state(client) == tcp::State::Closed).await;
        assert_eq!(stack.connections(), 1);
        let IpAddress::Ipv4(address) = own.addr else {
            panic!("{own}");
        };
        host.tap.send(raw(
            address.octets(),
            own.port,
            0x7fff_0000,
            0,
            SYN,
            0xffff,
            &[],
            &[],
        ));
        stack.bus().sleep(SECOND / 10).await;
        host.tap.send(raw(
            address.octets(),
            own.port,
            0x7fff_0001,
            0,
            RST,
            0,
            &[],
            &[],
        ));
        stack.bus().sleep(SECOND / 10).await;
        // The new one was there, and has ended by the reset; the old one went for it.
        assert_eq!(stack.connections(), 0);
    });
}

/// What is still sent to a stream that was finished is not kept, and holds nobody up.
#[test]
fn what_comes_after_the_end_is_taken_and_dropped() {
    let config = Config {
        rx_bytes: 4096,
        ..config()
    };
    with_stack(config, async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let client = clients.connect(V4_SERVER, ROOM);
        let stream = listener.accept().await.unwrap();
        stream.finish();
        clients.send(client, &bytes(60_000));
        clients.with(client, tcp::Socket::close);
        until(stack, || {
            clients.with(client, |socket| socket.send_queue()) == 0
        })
        .await;
        until(stack, || stack.connections() == 0).await;
    });
}

/// One who ends before he was accepted is not there any more.
#[test]
fn who_ends_before_he_is_accepted_leaves_nothing() {
    with_stack(config(), async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let gone = clients.connect(V4_SERVER, ROOM);
        until(stack, || clients.state(gone) == tcp::State::Established).await;
        clients.with(gone, tcp::Socket::abort);
        until(stack, || stack.connections() == 0).await;
        // The next is the first that is accepted.
        let next = clients.connect(V4_SERVER, ROOM);
        let stream = listener.accept().await.unwrap();
        let own = clients
            .with(next, |socket| socket.local_endpoint())
            .unwrap();
        assert_eq!(stream.remote().map(|remote| remote.port()), Some(own.port));
    });
}

/// An interface that ends tells everybody who waits for something.
#[test]
fn the_end_wakes_everybody() {
    let wanted = netfront::Config::default();
    with_nic(
        NicConfig::default(),
        wanted,
        async |host, nic: Nic<'_, &Domain>| {
            let stack = Stack::new(&nic, config()).await.unwrap();
            let clients = Clients::new(&host.tap);
            let listener = stack.listen(PORT).unwrap();
            clients.connect(V4_SERVER, 4096);
            let mut reader = clients.run(&stack, listener.accept()).await.unwrap();
            clients.connect(V4_SERVER, 4096);
            let mut writer = clients.run(&stack, listener.accept()).await.unwrap();
            clients.connect(V4_SERVER, 4096);
            let ending = clients.run(&stack, listener.accept()).await.unwrap();
            let (mut buffer, large) = ([0; 100], bytes(1 << 20));
            let is_the_end = |result: Result<(), Error>| {
                assert!(matches!(result, Err(Error::Interface(_))), "{result:?}");
            };
            // Each is polled only when it was woken itself.
            let waits = FuturesUnordered::<Pin<Box<dyn Future<Output = ()>>>>::new();
            let read = reader.read(&mut buffer).map(|read| read.map(|_| ()));
            waits.push(Box::pin(read.map(is_the_end)));
            waits.push(Box::pin(writer.write_all(&large).map(is_the_end)));
            waits.push(Box::pin(ending.shutdown(3000 * SECOND).map(is_the_end)));
            let accept = listener.accept().map(|accepted| accepted.map(|_| ()));
            waits.push(Box::pin(accept.map(is_the_end)));
            waits.push(Box::pin(stack.settled().map(is_the_end)));
            let waits = waits.collect::<Vec<()>>();
            let end = async {
                stack.bus().sleep(SECOND).await;
                nic.clone().close().await;
            };
            let all = join(stack.run(), join(waits, end));
            let (_, (woken, ())) = stack.bus().timeout(60 * SECOND, all).await.unwrap();
            assert_eq!(woken.len(), 5);
        },
    );
}

/// A stream's connection is its own until it is dropped, whatever the other end does: another
/// client never gets it.
#[test]
fn a_held_connection_is_nobody_elses() {
    const ACK: u8 = 0x10;
    let guest = async |host: &nic::Host, nic: Nic<'_, &Domain>| {
        let stack = Stack::new(&nic, config()).await.unwrap();
        let listener = stack.listen(PORT).unwrap();
        let bus = stack.bus();
        let pause = || bus.sleep(SECOND / 50);
        let from = [10, 0, 0, 9];
        let test = async {
            // The stack learns where he is.
            let all = Clients::new(&host.tap);
            let first = all.connect(V4_SERVER, ROOM);
            while all.state(first) != tcp::State::Established {
                all.look(bus.now_ns());
                pause().await;
            }
            drop(listener.accept().await.unwrap());
            pause().await;
            while host.tap.receive().is_some() {}
            host.tap.send(raw(from, 1000, 0, 0, SYN, 0xffff, &[], &[]));
            pause().await;
            let answer = host.tap.receive().unwrap().on_wire().remove(0);
            let number = u32::from_be_bytes(answer[38..42].try_into().unwrap());
            let ack = |count: u32| {
                let ack = number.wrapping_add(1 + count);
                host.tap.send(raw(from, 1000, 1, ack, ACK, 0, &[], &[]));
            };
            ack(0);
            let mut held = listener.accept().await.unwrap();
            held.write_all(b"0123456789").await.unwrap();
            held.close();
            pause().await;
            ack(0);
            pause().await;
            // He acknowledges the end, for which he had no room.
            let mut buffer = [0; 64];
            ack(11);
            let told = bus.timeout(SECOND, held.read(&mut buffer)).await;
            assert_eq!(told, Ok(Err(Error::Reset)));
            assert_eq!(stack.connections(), 1);
            // The next client is somebody else.
            let client = all.connect(V4_SERVER, ROOM);
            let look = async {
                loop {
                    all.look(bus.now_ns());
                    pause().await;
                }
            };
            let rest = async {
                let mut other = listener.accept().await.unwrap();
                assert_eq!((stack.connections(), held.remote()), (2, None));
                all.send(client, b"secret");
                bus.sleep(SECOND).await;
                assert_eq!(held.read(&mut buffer).await, Err(Error::Reset));
                drop(held);
                bus.sleep(SECOND).await;
                assert_eq!(all.state(client), tcp::State::Established);
                assert_eq!(other.read(&mut buffer).await, Ok(6));
            };
            select(look, rest).await;
        };
        select(stack.run(), test).await;
        drop(listener);
        drop(stack);
        nic.close().await;
    };
    with_nic(NicConfig::default(), netfront::Config::default(), guest);
}

/// What comes while a stream shuts down is thrown away as fast as it comes.
#[test]
fn who_shuts_down_keeps_no_window_closed() {
    let config = Config {
        rx_bytes: 4096,
        ..config()
    };
    with_stack(config, async |_, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let client = clients.connect(V4_SERVER, ROOM);
        let stream = listener.accept().await.unwrap();
        let begin_ns = stack.bus().now_ns();
        let send = async {
            clients.send(client, &bytes(40_960));
            let unsent = || clients.with(client, |socket| socket.send_queue());
            until(stack, || unsent() == 0).await;
            clients.with(client, tcp::Socket::close);
        };
        let (over, ()) = join(stream.shutdown(25 * SECOND), send).await;
        assert_eq!(over, Ok(()));
        // The client's own probes of a closed window take a second each.
        let took_ns = stack.bus().now_ns() - begin_ns;
        assert!(took_ns < 500_000_000, "{took_ns} ns");
    });
}

/// What was written to who is gone is waited for by nobody.
#[test]
fn what_nobody_takes_any_more_is_settled() {
    for drops in [false, true] {
        with_stack(config(), async |_, stack, clients| {
            let listener = stack.listen(PORT).unwrap();
            let client = clients.connect(V4_SERVER, 4096);
            let mut stream = listener.accept().await.unwrap();
            stream.write_all(&bytes(30_000)).await.unwrap();
            let bus = stack.bus();
            bus.sleep(SECOND).await;
            let begin_ns = bus.now_ns();
            let mut all: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + '_>>> =
                FuturesUnordered::new();
            all.push(Box::pin(async {
                let settled = bus.timeout(100 * SECOND, stack.settled()).await;
                assert_eq!(settled, Ok(Ok(())));
                let took_ns = bus.now_ns() - begin_ns;
                assert!(took_ns < 10_000_000_000, "{took_ns} ns");
            }));
            all.push(Box::pin(async {
                bus.sleep(SECOND).await;
                match drops {
                    true => drop(stream),
                    false => {
                        clients.with(client, tcp::Socket::abort);
                        bus.sleep(20 * SECOND).await;
                        drop(stream);
                    }
                }
            }));
            while all.next().await.is_some() {}
        });
    }
}
