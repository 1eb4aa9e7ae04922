//! A server's side of TCP: connections on demand, and clients who do what they must not.

#![cfg(feature = "net")]

#[path = "kernel/clients.rs"]
mod clients;
#[expect(dead_code, reason = "nothing here pauses")]
mod kernel;
#[expect(dead_code, reason = "all packets are of TCP")]
#[path = "kernel/nic.rs"]
mod nic;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use futures_util::future::{join, select as select_all};
use mock_hypervisor::{Domain, Frame, NicConfig};
use pv_guest::{
    executor::select,
    net::{Config, Error, Stack, Stream, V4, V6},
    netfront::{self, Nic},
};
use smoltcp::{
    socket::tcp,
    wire::{
        DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress,
        EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, Ipv4Address,
        Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
    },
};

use clients::{Clients, until};
use nic::{Host, MAC, OTHER, ethernet, with_nic};

const PORT: u16 = 80;
const V4_SERVER: (IpAddress, u16) = (IpAddress::v4(10, 0, 0, 1), PORT);
const V6_SERVER: (IpAddress, u16) = (IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 1), PORT);
const SECOND: Duration = Duration::from_secs(1);
/// What a client can hold that was not read.
const ROOM: usize = 256 << 10;

fn config() -> Config {
    Config {
        v4: V4::Static {
            address: "10.0.0.1/24".parse().unwrap(),
            gateway: None,
        },
        v6: V6::Static {
            address: "fd00::1/64".parse().unwrap(),
            gateway: None,
        },
        ..Config::default()
    }
}

/// Runs `test` in a guest with a stack, beside clients on the wire.
fn with_stack<T>(
    config: Config,
    test: impl AsyncFnOnce(&Host, &Stack<'_, &Domain>, &Clients<'_>) -> T,
) -> T {
    let wanted = netfront::Config::default();
    with_nic(NicConfig::default(), wanted, async |host, nic| {
        let stack = Stack::new(&nic, config).await.unwrap();
        let clients = Clients::new(&host.tap);
        let value = clients.run(&stack, test(host, &stack, &clients)).await;
        drop(stack);
        nic.close().await;
        value
    })
}

fn byte(at: usize) -> u8 {
    ((at * 31) ^ (at >> 8)) as u8
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(byte).collect()
}

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
                assert!((6 << 10..=72 << 10).contains(&used_bytes), "{used_bytes}");
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

/// A packet that asks for a connection, from an address that nobody has.
fn knock(number: u32) -> Frame {
    let [.., high, low] = number.to_be_bytes();
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet.extend([10, 0, 0, 20 + (number >> 16) as u8, 10, 0, 0, 1]);
    let sum = !tcp_sum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend([high, low | 1, 0, PORT as u8, 0, 0, 0, 9, 0, 0, 0, 0]);
    packet.extend([0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    clients::local(ethernet(MAC, 0x0800, &packet))
}

fn tcp_sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    ((sum & 0xffff) + (sum >> 16)) as u16
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
                host.tap.send(knock(number * 2));
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

/// What a DHCP server answers to a frame, if it asks one.
fn answer_dhcp(frame: &[u8]) -> Option<Vec<u8>> {
    let server = Ipv4Address::new(10, 0, 0, 9);
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    (ethernet.ethertype() == EthernetProtocol::Ipv4).then_some(())?;
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    (ip.next_header() == IpProtocol::Udp).then_some(())?;
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    (udp.dst_port() == DHCP_SERVER_PORT).then_some(())?;
    let packet = DhcpPacket::new_checked(udp.payload()).ok()?;
    let asked = DhcpRepr::parse(&packet).ok()?;
    let answer = DhcpRepr {
        message_type: match asked.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            _ => DhcpMessageType::Ack,
        },
        your_ip: Ipv4Address::new(10, 0, 0, 1),
        server_ip: server,
        server_identifier: Some(server),
        subnet_mask: Some(Ipv4Address::new(255, 255, 255, 0)),
        router: Some(server),
        lease_duration: Some(3600),
        secs: 0,
        renew_duration: None,
        rebind_duration: None,
        dns_servers: None,
        requested_ip: None,
        client_identifier: None,
        parameter_request_list: None,
        max_size: None,
        additional_options: &[],
        ..asked
    };
    let udp = UdpRepr {
        src_port: DHCP_SERVER_PORT,
        dst_port: DHCP_CLIENT_PORT,
    };
    let ip = Ipv4Repr {
        src_addr: server,
        dst_addr: Ipv4Address::new(10, 0, 0, 1),
        next_header: IpProtocol::Udp,
        payload_len: 8 + answer.buffer_len(),
        hop_limit: 64,
    };
    let head = EthernetRepr {
        src_addr: EthernetAddress(OTHER),
        dst_addr: EthernetAddress(MAC),
        ethertype: EthernetProtocol::Ipv4,
    };
    let sums = smoltcp::phy::ChecksumCapabilities::default();
    let mut bytes = vec![0; 14 + 20 + ip.payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    head.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &sums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    udp.emit(
        &mut datagram,
        &ip.src_addr.into(),
        &ip.dst_addr.into(),
        answer.buffer_len(),
        |payload| {
            answer
                .emit(&mut DhcpPacket::new_unchecked(payload))
                .unwrap()
        },
        &sums,
    );
    Some(bytes)
}

#[test]
fn dhcp_gives_an_address() {
    let config = Config::default();
    let wanted = netfront::Config::default();
    with_nic(
        NicConfig::default(),
        wanted,
        async |host, nic: Nic<'_, &Domain>| {
            let stack = Stack::new(&nic, config).await.unwrap();
            assert_eq!(stack.v4(), None);
            let server = async {
                let mut answers = 0;
                while answers < 2 {
                    while let Some(frame) = host.tap.receive() {
                        if let Some(answer) =
                            frame.on_wire().iter().find_map(|one| answer_dhcp(one))
                        {
                            host.tap.send(clients::local(answer));
                            answers += 1;
                        }
                    }
                    stack.bus().sleep(Duration::from_millis(1)).await;
                }
            };
            let work = async {
                let (known, ()) = join(stack.ready(), server).await;
                known.unwrap();
            };
            select(stack.run(), work).await;
            assert_eq!(stack.v4(), Some("10.0.0.1/24".parse().unwrap()));
            let clients = Clients::new(&host.tap);
            let test = async {
                let listener = stack.listen(PORT).unwrap();
                clients.connect(V4_SERVER, ROOM);
                listener.accept().await.unwrap();
            };
            clients.run(&stack, test).await;
            drop(stack);
            nic.close().await;
        },
    );
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
