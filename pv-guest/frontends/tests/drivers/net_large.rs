//! Large answers: packets that the backend cuts, over both families, as others take them.

use std::{cell::RefCell, net::SocketAddr, time::Duration};

use mock_hypervisor::{Domain, NicConfig};
use pv_frontends::{
    adapters::smoltcp::Device,
    net::{Config, Stack},
    netfront::{self, Nic},
};
use pv_guest::executor::select;
use smoltcp::{
    phy::{Device as _, RxToken as _, TxToken as _},
    socket::tcp,
    time::Instant,
    wire::IpAddress,
};

use crate::{
    clients::{
        self, Client, Clients, PORT, ROOM, V4_SERVER, V6_SERVER, bytes, config, local, until,
    },
    nic::{Host, MAC, OTHER, ethernet, plain, with_nic},
};

const SERVERS: [(IpAddress, u16); 2] = [V4_SERVER, V6_SERVER];
const LARGE: usize = 100_000;
const CLIENT_PORT: u16 = 4000;

/// Runs `test` in a guest with a stack, beside clients who take frames of so many bytes.
fn beside(
    (host, config): (NicConfig, Config),
    frame_bytes: usize,
    test: impl AsyncFnOnce(&Host, &Nic<'_, &Domain>, &Stack<'_, &Domain>, &Clients<'_>),
) {
    with_nic(host, netfront::Config::default(), async |host, nic| {
        let stack = Stack::new(&nic, config).await.unwrap();
        let clients = Clients::of_frames(&host.tap, frame_bytes);
        let all = test(host, &nic, &stack, &clients);
        clients.run(&stack, all).await;
        drop(stack);
        nic.close().await;
    });
}

/// Waits until a client has all of an answer, and it is right.
async fn take(stack: &Stack<'_, &Domain>, clients: &Clients<'_>, client: Client, answer: &[u8]) {
    let came = RefCell::new(Vec::new());
    until(stack, || {
        came.borrow_mut().extend(clients.take(client));
        came.borrow().len() >= answer.len()
    })
    .await;
    assert!(*came.borrow() == answer);
}

#[test]
fn large_answers_leave_in_few_packets() {
    let host = NicConfig::default();
    beside((host, config()), 1514, async |_, nic, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let answer = bytes(LARGE);
        for server in SERVERS {
            let client = clients.connect(server, ROOM);
            let mut stream = listener.accept().await.unwrap();
            let before = nic.counters().tx_packets;
            let send = async {
                stream.write_all(&answer).await.unwrap();
                stream.acknowledged().await.unwrap();
            };
            let both = futures_util::future::join(send, take(stack, clients, client, &answer));
            both.await;
            let packets = nic.counters().tx_packets - before;
            assert!((2..=4).contains(&packets), "{packets} packets");
            assert_eq!(clients.largest_bytes(), 1514);
        }
    });
}

/// A peer gets no segments that are larger than he said, nor than the interface's MTU, whoever
/// began.
#[test]
fn segments_are_as_large_as_both_ends_take() {
    for (frame_bytes, mtu, max_bytes) in [
        (1294, 1500, 1294),
        (1514, 1500, 1514),
        (9014, 1500, 1514),
        (9014, 9000, 9014),
        (1400, 9000, 1400),
    ] {
        let host = NicConfig {
            mtu,
            ..NicConfig::default()
        };
        let of = (host, config());
        beside(of, frame_bytes, async |host, nic, stack, clients| {
            assert_eq!(nic.interface().unwrap().mtu, mtu);
            let listener = stack.listen(PORT).unwrap();
            let answer = bytes(LARGE);
            clients.largest_bytes();
            for server in SERVERS {
                let client = clients.connect(server, ROOM);
                let mut stream = listener.accept().await.unwrap();
                // Somebody else says that this client takes more.
                let remote = stream.remote().unwrap();
                if let SocketAddr::V6(_) = remote {
                    host.tap.send(syn_v6(remote.port(), Some(8000)));
                }
                let send = stream.write_all(&answer);
                let both = futures_util::future::join(send, take(stack, clients, client, &answer));
                both.await.0.unwrap();
                assert_eq!(clients.largest_bytes(), max_bytes, "{server:?}");
                stream.finish();
            }
            for ip in ["10.0.0.9", "fd00::9"] {
                clients.listen(CLIENT_PORT, 1);
                let mut remote = SocketAddr::new(ip.parse().unwrap(), CLIENT_PORT);
                if let SocketAddr::V6(remote) = &mut remote {
                    // Packets do not have it.
                    remote.set_scope_id(3);
                }
                let mut stream = stack.connect(remote).await.unwrap();
                // What he has room for, who reads nothing.
                stream.write_all(&answer[..4096]).await.unwrap();
                stream.acknowledged().await.unwrap();
                let least_bytes = max_bytes.min(4096);
                let largest_bytes = clients.largest_bytes();
                assert!(
                    (least_bytes..=max_bytes).contains(&largest_bytes),
                    "{largest_bytes}"
                );
            }
        });
    }
}

/// A SYN from the clients' address over IPv6, and what it says of segments.
fn syn_v6(port: u16, segment_bytes: Option<u16>) -> mock_hypervisor::Frame {
    let options = segment_bytes.map_or(vec![], |bytes| {
        let [high, low] = bytes.to_be_bytes();
        vec![2, 4, high, low]
    });
    let len = 20 + options.len() as u8;
    let mut packet = vec![0x60, 0, 0, 0, 0, len, 6, 64];
    for last in [9, 1] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(port.to_be_bytes());
    packet.extend(PORT.to_be_bytes());
    packet.extend([
        0,
        0,
        0,
        9,
        0,
        0,
        0,
        0,
        (len / 4) << 4,
        2,
        0xff,
        0xff,
        0,
        0,
        0,
        0,
    ]);
    packet.extend(options);
    local(ethernet(MAC, 0x86dd, &packet))
}

/// What an answer to a SYN says of segments.
fn told(frame: &[u8]) -> Option<u16> {
    let tcp = match frame[12..14] {
        [8, 0] => 34,
        _ => 54,
    };
    let end = tcp + usize::from(frame.get(tcp + 12)? >> 4) * 4;
    (frame[tcp + 13] == 0x12).then_some(())?;
    let mut options = &frame[tcp + 20..end];
    loop {
        match *options {
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([high, low])),
            [1, ref rest @ ..] => options = rest,
            [_, len, ..] => options = &options[usize::from(len)..],
            _ => return None,
        }
    }
}

/// Others are told of the interface's MTU, and of no other.
#[test]
fn what_is_said_of_segments_is_true() {
    let host = NicConfig::default();
    with_nic(host, netfront::Config::default(), async |host, nic| {
        let stack = Stack::new(&nic, config()).await.unwrap();
        let _listener = stack.listen(PORT).unwrap();
        let test = async {
            // The stack asks where the clients are.
            let addresses = Clients::new(&host.tap);
            let all = SERVERS.map(|server| addresses.connect(server, ROOM));
            let is_there = |client: &_| addresses.state(*client) == tcp::State::Established;
            while !all.iter().all(is_there) {
                addresses.look(stack.bus().now_ns());
                stack.bus().sleep(Duration::from_millis(1)).await;
            }
            host.tap
                .send(clients::raw([10, 0, 0, 9], 77, 9, 0, 2, 0xffff, &[], &[]));
            host.tap.send(syn_v6(77, None));
            host.tap.send(syn_v6(78, Some(9000)));
            stack.bus().sleep(Duration::from_millis(20)).await;
            let frames = std::iter::from_fn(|| host.tap.receive());
            let mut all: Vec<_> = frames.filter_map(|frame| told(&frame.bytes)).collect();
            all.sort_unstable();
            assert_eq!(all, [1440, 1440, 1460]);
        };
        select(stack.run(), test).await;
        drop(stack);
        nic.close().await;
    });
}

/// What comes does not wait for what goes: it may be what makes room.
#[test]
fn packets_are_taken_when_nothing_can_be_sent() {
    const COUNT: usize = 40;
    let host = NicConfig {
        latency_ns: 1_000_000,
        ..NicConfig::default()
    };
    with_nic(host, netfront::Config::default(), async |host, nic| {
        let mut device = Device::new(&nic).await.unwrap();
        let packet = plain(OTHER, 100);
        while let Some(room) = device.transmit(Instant::ZERO) {
            room.consume(packet.len(), |bytes| bytes.copy_from_slice(&packet));
        }
        assert!(device.lacks_room());
        let before = nic.counters().tx_dropped;
        let mut answers = 0;
        for _ in 0..COUNT {
            host.tap.send(local(plain(MAC, 100)));
            let (came, room) = device.receive(Instant::ZERO).expect("it has come");
            came.consume(|bytes| assert_eq!(bytes.len(), 100));
            // Some is kept for answers; one that finds none is counted.
            room.consume(packet.len(), |bytes| bytes.copy_from_slice(&packet));
            answers += u64::from(nic.counters().tx_dropped == before);
        }
        assert!((20..COUNT as u64).contains(&answers), "{answers}");
        assert_eq!(nic.counters().tx_dropped - before, COUNT as u64 - answers);
        assert!(device.lacks_room());
        let room = async {
            while device.transmit(Instant::ZERO).is_none() {
                device.changed().await;
            }
        };
        let bus = nic.bus();
        assert!(bus.timeout(Duration::from_millis(20), room).await.is_ok());
        nic.close().await;
    });
}

/// A guest with more to send than there is room for sleeps until there is some, also while
/// packets come; and nobody waits for long.
#[test]
fn who_waits_for_room_sleeps() {
    const CLIENTS: usize = 32;
    let host = NicConfig {
        latency_ns: 200_000,
        ..NicConfig::default()
    };
    beside((host, config()), 1514, async |_, _, stack, clients| {
        let listener = stack.listen(PORT).unwrap();
        let answer = bytes(LARGE);
        let serve = listener.serve(async |mut stream| {
            let mut question = [0; 4];
            while let Ok(1..) = stream.read(&mut question).await {
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
        let test = async {
            for server in SERVERS {
                let all: Vec<_> = (0..CLIENTS)
                    .map(|_| clients.connect(server, ROOM))
                    .collect();
                for client in &all {
                    until(stack, || clients.state(*client) == tcp::State::Established).await;
                }
                let begin_ns = stack.bus().now_ns();
                clients.bound_turns(20 * CLIENTS as u64);
                for client in &all {
                    clients.send(*client, b"more");
                }
                for client in &all {
                    take(stack, clients, *client, &answer).await;
                }
                clients.bound_turns(u64::MAX);
                let took_ms = (stack.bus().now_ns() - begin_ns) / 1_000_000;
                assert!(took_ms < 100, "{took_ms} ms");
                for client in all {
                    clients.with(client, tcp::Socket::abort);
                }
            }
        };
        select(serve, test).await;
    });
}
