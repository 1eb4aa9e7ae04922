//! Addresses by DHCP, from servers of all kinds.

use std::{cell::Cell, time::Duration};

use mock_hypervisor::{Domain, NicConfig};
use pv_frontends::{
    net::{Config, Error, Stack},
    netfront::{self, Nic},
};
use pv_guest::executor::select;
use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr,
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use crate::{
    clients::{self, Clients, PORT, ROOM, SECOND, V4_SERVER},
    nic::{Host, MAC, OTHER, ethernet, with_nic},
};

/// What a server gives.
#[derive(Clone, Copy)]
struct Lease {
    address: Ipv4Address,
    mask: Ipv4Address,
    time_s: u32,
    /// When it wants to be asked again, first alone and then with others.
    again_s: Option<(u32, u32)>,
    /// What it says to a request.
    to_request: DhcpMessageType,
}

const LEASE: Lease = Lease {
    address: Ipv4Address::new(10, 0, 0, 1),
    mask: Ipv4Address::new(255, 255, 255, 0),
    time_s: 3600,
    again_s: None,
    to_request: DhcpMessageType::Ack,
};

/// A server on the wire.
struct Server {
    /// None: it says nothing.
    lease: Cell<Option<Lease>>,
    asked: Cell<u32>,
}

impl Server {
    const fn new(lease: Lease) -> Self {
        Self {
            lease: Cell::new(Some(lease)),
            asked: Cell::new(0),
        }
    }

    /// Runs a guest whose stack has this server, beside `test`.
    fn beside(&self, test: impl AsyncFnOnce(&Host, &Stack<'_, &Domain>)) {
        let wanted = netfront::Config::default();
        let guest = async |host: &Host, nic: Nic<'_, &Domain>| {
            let stack = Stack::new(&nic, Config::default()).await.unwrap();
            assert_eq!(stack.v4(), None);
            let serve = async {
                loop {
                    while let Some(frame) = host.tap.receive() {
                        for one in frame.on_wire() {
                            if let Some(asked) = asked(&one) {
                                self.asked.set(self.asked.get() + 1);
                                let lease = self.lease.get();
                                if let Some(answer) = lease.map(|lease| lease.answer(&asked)) {
                                    host.tap.send(clients::local(answer));
                                }
                            }
                        }
                    }
                    stack.bus().sleep(Duration::from_millis(5)).await;
                }
            };
            select(stack.run(), select(serve, test(host, &stack))).await;
            drop(stack);
            nic.close().await;
        };
        with_nic(NicConfig::default(), wanted, guest);
    }
}

/// The bytes of a question, if a frame is one.
fn asked(frame: &[u8]) -> Option<Vec<u8>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    (ethernet.ethertype() == EthernetProtocol::Ipv4).then_some(())?;
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    (ip.next_header() == IpProtocol::Udp).then_some(())?;
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    (udp.dst_port() == DHCP_SERVER_PORT).then(|| udp.payload().to_vec())
}

impl Lease {
    /// What the server answers to a question.
    fn answer(&self, asked: &[u8]) -> Vec<u8> {
        let server = Ipv4Address::new(10, 0, 0, 9);
        let packet = DhcpPacket::new_checked(asked).unwrap();
        let asked = DhcpRepr::parse(&packet).unwrap();
        // No more than there is room for on the wire, whatever the stack believes.
        assert_eq!(asked.max_size, Some(1500));
        let times = self
            .again_s
            .map(|(renew_s, rebind_s)| [(58, renew_s.to_be_bytes()), (59, rebind_s.to_be_bytes())]);
        let options: Vec<_> = times
            .iter()
            .flatten()
            .map(|(kind, data)| DhcpOption { kind: *kind, data })
            .collect();
        let answer = DhcpRepr {
            message_type: match asked.message_type {
                DhcpMessageType::Discover => DhcpMessageType::Offer,
                _ => self.to_request,
            },
            your_ip: self.address,
            server_ip: server,
            server_identifier: Some(server),
            subnet_mask: Some(self.mask),
            router: Some(server),
            lease_duration: Some(self.time_s),
            secs: 0,
            renew_duration: None,
            rebind_duration: None,
            dns_servers: None,
            requested_ip: None,
            client_identifier: None,
            parameter_request_list: None,
            max_size: None,
            additional_options: &options,
            ..asked
        };
        let udp = UdpRepr {
            src_port: DHCP_SERVER_PORT,
            dst_port: DHCP_CLIENT_PORT,
        };
        let ip = Ipv4Repr {
            src_addr: server,
            dst_addr: Ipv4Address::BROADCAST,
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
        bytes
    }
}

#[test]
fn dhcp_gives_an_address() {
    let server = Server::new(LEASE);
    server.beside(async |_, stack| {
        stack.ready().await.unwrap();
        assert_eq!(stack.v4(), Some("10.0.0.1/24".parse().unwrap()));
    });
    assert_eq!(server.asked.get(), 2);
}

/// It is one that clients reach.
#[test]
fn who_asks_for_the_address_is_answered() {
    let wanted = netfront::Config::default();
    with_nic(
        NicConfig::default(),
        wanted,
        async |host, nic: Nic<'_, &Domain>| {
            let stack = Stack::new(&nic, Config::default()).await.unwrap();
            let server = async {
                while stack.v4().is_none() {
                    while let Some(frame) = host.tap.receive() {
                        for asked in frame.on_wire().iter().filter_map(|one| asked(one)) {
                            host.tap.send(clients::local(LEASE.answer(&asked)));
                        }
                    }
                    stack.bus().sleep(Duration::from_millis(1)).await;
                }
            };
            select(stack.run(), server).await;
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

/// A server that gives no time is not asked as fast as it answers.
#[test]
fn a_short_lease_is_not_asked_for_without_end() {
    for time_s in [0, 1, 5] {
        let server = Server::new(Lease { time_s, ..LEASE });
        server.beside(async |_, stack| {
            stack.ready().await.unwrap();
            let mut without = 0;
            for _ in 0..200 {
                stack.bus().sleep(SECOND).await;
                without += u32::from(stack.v4().is_none());
            }
            assert!(without < 10, "{time_s} s: {without} s without an address");
        });
        let asked = server.asked.get();
        // A short one is renewed in time, and one of no time after a minute.
        assert!((4..100).contains(&asked), "{time_s} s: asked {asked} times");
    }
}

#[test]
fn refusals_are_not_asked_for_again_at_once() {
    let server = Server::new(Lease {
        to_request: DhcpMessageType::Nak,
        ..LEASE
    });
    server.beside(async |_, stack| {
        stack.bus().sleep(60 * SECOND).await;
        assert_eq!(stack.v4(), None);
        // It has thought better of it.
        server.lease.set(Some(LEASE));
        let ready = stack.bus().timeout(60 * SECOND, stack.ready()).await;
        ready.unwrap().unwrap();
    });
    let asked = server.asked.get();
    assert!((3..40).contains(&asked), "asked {asked} times");
}

#[test]
fn a_lease_that_ends_takes_its_address_with_it() {
    let server = Server::new(Lease {
        time_s: 120,
        ..LEASE
    });
    server.beside(async |_, stack| {
        stack.ready().await.unwrap();
        stack.bus().sleep(600 * SECOND).await;
        // It was asked in time, each time.
        assert!(stack.v4().is_some());
        server.lease.set(None);
        stack.bus().sleep(130 * SECOND).await;
        assert_eq!(stack.v4(), None);
        server.lease.set(Some(LEASE));
        let ready = stack.bus().timeout(60 * SECOND, stack.ready()).await;
        ready.unwrap().unwrap();
    });
}

/// What no single host can have is not taken.
#[test]
fn an_address_of_many_is_none() {
    let all = [
        (Ipv4Address::new(224, 0, 0, 1), LEASE.mask),
        (Ipv4Address::BROADCAST, LEASE.mask),
        (LEASE.address, Ipv4Address::UNSPECIFIED),
    ];
    for (address, mask) in all {
        let server = Server::new(Lease {
            address,
            mask,
            ..LEASE
        });
        server.beside(async |_, stack| {
            let ready = stack.bus().timeout(30 * SECOND, stack.ready()).await;
            assert!(ready.is_err(), "{address} {mask}: {:?}", stack.v4());
        });
        assert!(server.asked.get() >= 1);
    }
}

/// Which a server may say, on purpose or not; and so may anybody else who answers.
#[test]
fn a_server_that_wants_to_be_asked_at_once_is_not() {
    let server = Server::new(Lease {
        again_s: Some((0, 1800)),
        ..LEASE
    });
    server.beside(async |host, stack| {
        stack.ready().await.unwrap();
        for _ in 0..100 {
            // Who asks is known: a question to the server alone finds its way.
            let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
            arp.extend(OTHER);
            arp.extend([10, 0, 0, 9]);
            arp.extend([0; 6]);
            arp.extend([10, 0, 0, 1]);
            let arp = clients::local(ethernet(MAC, 0x0806, &arp));
            host.tap.send(arp);
            stack.bus().sleep(SECOND).await;
        }
        assert!(stack.v4().is_some());
    });
    let asked = server.asked.get();
    assert!((10..40).contains(&asked), "asked {asked} times in 100 s");
}

/// Who has a stream at an address that is gone is told so at once.
#[test]
fn an_address_that_goes_takes_its_streams_along() {
    let guest = async |host: &Host, nic: Nic<'_, &Domain>| {
        let config = Config {
            keep_alive: 3600 * SECOND,
            patience: 7200 * SECOND,
            ..Config::default()
        };
        let stack = Stack::new(&nic, config).await.unwrap();
        let lease = Lease {
            time_s: 120,
            ..LEASE
        };
        let server = async {
            while stack.v4().is_none() {
                while let Some(frame) = host.tap.receive() {
                    for asked in frame.on_wire().iter().filter_map(|one| asked(one)) {
                        host.tap.send(clients::local(lease.answer(&asked)));
                    }
                }
                stack.bus().sleep(Duration::from_millis(1)).await;
            }
        };
        select(stack.run(), server).await;
        let clients = Clients::new(&host.tap);
        let test = async {
            let bus = stack.bus();
            let listener = stack.listen(PORT).unwrap();
            let _client = clients.connect(V4_SERVER, ROOM);
            let mut stream = listener.accept().await.unwrap();
            let mut buffer = [0; 9];
            let read = bus.timeout(200 * SECOND, stream.read(&mut buffer)).await;
            assert_eq!(read, Ok(Err(Error::Reset)));
            assert_eq!(stack.v4(), None);
            drop(stream);
            bus.sleep(SECOND).await;
            assert_eq!(stack.connections(), 0);
        };
        clients.run(&stack, test).await;
        drop(stack);
        nic.close().await;
    };
    with_nic(NicConfig::default(), netfront::Config::default(), guest);
}

/// A SYN over IPv6 to a port where nobody listens, with an option that says of small segments.
fn small_syn() -> mock_hypervisor::Frame {
    let mut packet = vec![0x60, 0, 0, 0, 0, 24, 6, 64];
    for last in [9, 1] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend([
        0, 77, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    packet.extend([2, 4, 0, 100]);
    clients::local(ethernet(MAC, 0x86dd, &packet))
}

/// The server is asked for no larger messages, whoever takes only small segments.
#[test]
fn what_dhcp_asks_for_depends_on_no_connection() {
    for listens in [false, true] {
        let guest = async |host: &Host, nic: Nic<'_, &Domain>| {
            let config = Config {
                v4: pv_frontends::net::V4::Dhcp,
                ..clients::config()
            };
            let stack = Stack::new(&nic, config).await.unwrap();
            let listener = listens.then(|| stack.listen(PORT).unwrap());
            let test = async {
                stack.bus().sleep(SECOND).await;
                while host.tap.receive().is_some() {}
                host.tap.send(small_syn());
                stack.bus().sleep(60 * SECOND).await;
                let frames = std::iter::from_fn(|| host.tap.receive());
                let all: Vec<_> = frames.filter_map(|one| asked(&one.bytes)).collect();
                assert!(!all.is_empty());
                for asked in all {
                    let packet = DhcpPacket::new_checked(&asked[..]).unwrap();
                    let size = DhcpRepr::parse(&packet).unwrap().max_size;
                    assert_eq!(size, Some(1500));
                }
            };
            select(stack.run(), test).await;
            drop(listener);
            drop(stack);
            nic.close().await;
        };
        with_nic(NicConfig::default(), netfront::Config::default(), guest);
    }
}
