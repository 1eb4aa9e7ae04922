//! Clients on the wire: a network stack of `smoltcp`'s on a tap, and the time that passes.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use mock_hypervisor::{Checksum, Domain, Frame, NicConfig, Tap};
use pv_frontends::{
    net::{Config, Stack, V4, V6},
    netfront,
};
use pv_guest::executor::{Either, select};
use smoltcp::{
    iface::{self, Interface, SocketHandle, SocketSet},
    phy::{self, Checksum as Sums, DeviceCapabilities, Medium},
    socket::tcp,
    time::Instant,
    wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr},
};

use crate::nic::{Host, MAC, OTHER, ethernet, with_nic};

/// How often the clients look at the wire.
const LOOK: Duration = Duration::from_micros(500);

/// A frame that never was on a wire.
pub(crate) fn local(bytes: Vec<u8>) -> Frame {
    Frame {
        bytes,
        checksum: Checksum::Validated,
        segments: None,
    }
}

struct Wire<'a> {
    tap: &'a Tap,
    came: VecDeque<Vec<u8>>,
    /// How many frames are taken at a look, and may still be at this one.
    pace: usize,
    left: usize,
    /// The most bytes of a frame, and what the largest had that came.
    frame_bytes: usize,
    largest_bytes: usize,
}

struct Came(Vec<u8>);

impl phy::RxToken for Came {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Goes<'a>(&'a Tap);

impl phy::TxToken for Goes<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let value = f(&mut bytes);
        self.0.send(local(bytes));
        value
    }
}

impl phy::Device for Wire<'_> {
    type RxToken<'a>
        = Came
    where
        Self: 'a;
    type TxToken<'a>
        = Goes<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Came, Goes<'_>)> {
        while let Some(frame) = self.tap.receive() {
            for one in frame.on_wire() {
                self.largest_bytes = self.largest_bytes.max(one.len());
                self.came.push_back(one);
            }
        }
        self.left = self.left.checked_sub(1)?;
        Some((Came(self.came.pop_front()?), Goes(self.tap)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Goes<'_>> {
        Some(Goes(self.tap))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.frame_bytes;
        capabilities.checksum.tcp = Sums::Rx;
        capabilities
    }
}

struct Inner<'a> {
    wire: Wire<'a>,
    interface: Interface,
    sockets: SocketSet<'static>,
    next_port: u16,
}

/// All clients: 10.0.0.9 and fd00::9.
pub(crate) struct Clients<'a> {
    inner: RefCell<Inner<'a>>,
    have_vanished: Cell<bool>,
    /// How often the stack may still be polled.
    turns_left: Cell<u64>,
}

pub(crate) type Client = SocketHandle;

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros(now_ns as i64 / 1000)
}

impl<'a> Clients<'a> {
    pub(crate) fn new(tap: &'a Tap) -> Self {
        Self::of_frames(tap, 1514)
    }

    /// Those who take frames of so many bytes at the most, and say so when they connect.
    pub(crate) fn of_frames(tap: &'a Tap, frame_bytes: usize) -> Self {
        let mut wire = Wire {
            tap,
            came: VecDeque::new(),
            pace: usize::MAX,
            left: usize::MAX,
            frame_bytes,
            largest_bytes: 0,
        };
        let address = HardwareAddress::Ethernet(EthernetAddress(OTHER));
        let config = iface::Config::new(address);
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|all| {
            let v6 = IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 9);
            all.push(IpCidr::new(IpAddress::v4(10, 0, 0, 9), 24))
                .unwrap();
            all.push(IpCidr::new(v6, 64)).unwrap();
        });
        Self {
            inner: RefCell::new(Inner {
                wire,
                interface,
                sockets: SocketSet::new(Vec::new()),
                next_port: 50_000,
            }),
            have_vanished: Cell::new(false),
            turns_left: Cell::new(u64::MAX),
        }
    }

    /// The stack is polled no more than so often from now on.
    pub(crate) fn bound_turns(&self, most: u64) {
        self.turns_left.set(most);
    }

    /// Bytes of the largest frame that came since this was asked.
    pub(crate) fn largest_bytes(&self) -> usize {
        core::mem::take(&mut self.inner.borrow_mut().wire.largest_bytes)
    }

    /// They take one frame at a time, and acknowledge each.
    pub(crate) fn dawdle(&self) {
        self.inner.borrow_mut().wire.pace = 1;
    }

    /// They have vanished: nothing is heard of them any more.
    pub(crate) fn vanish(&self) {
        self.have_vanished.set(true);
    }

    /// Looks at the wire once.
    pub(crate) fn look(&self, now_ns: u64) {
        if self.have_vanished.get() {
            return;
        }
        let inner = &mut *self.inner.borrow_mut();
        inner.wire.left = inner.wire.pace;
        inner
            .interface
            .poll(instant(now_ns), &mut inner.wire, &mut inner.sockets);
    }

    /// A client who begins a connection; `rx_bytes` wait to be read at most.
    pub(crate) fn connect(&self, to: (IpAddress, u16), rx_bytes: usize) -> Client {
        let inner = &mut *self.inner.borrow_mut();
        let buffer = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
        let mut socket = tcp::Socket::new(buffer(rx_bytes), buffer(64 << 10));
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        inner.next_port += 1;
        socket
            .connect(inner.interface.context(), to, inner.next_port)
            .unwrap();
        inner.sockets.add(socket)
    }

    /// So many servers, each for one connection.
    pub(crate) fn listen(&self, port: u16, count: usize) {
        let inner = &mut *self.inner.borrow_mut();
        for _ in 0..count {
            let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
            let mut socket = tcp::Socket::new(buffer(), buffer());
            socket.listen(port).unwrap();
            inner.sockets.add(socket);
        }
    }

    pub(crate) fn with<T>(
        &self,
        client: Client,
        act: impl FnOnce(&mut tcp::Socket<'static>) -> T,
    ) -> T {
        act(self.inner.borrow_mut().sockets.get_mut(client))
    }

    pub(crate) fn state(&self, client: Client) -> tcp::State {
        self.with(client, |socket| socket.state())
    }

    pub(crate) fn send(&self, client: Client, bytes: &[u8]) {
        let sent = self.with(client, |socket| socket.send_slice(bytes));
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// What has come for a client.
    pub(crate) fn take(&self, client: Client) -> Vec<u8> {
        self.with(client, |socket| {
            let mut all = Vec::new();
            while socket.can_recv() {
                socket
                    .recv(|bytes| {
                        all.extend_from_slice(bytes);
                        (bytes.len(), ())
                    })
                    .unwrap();
            }
            all
        })
    }

    /// Runs the stack, the clients and the test.
    pub(crate) async fn run<T>(
        &self,
        stack: &Stack<'_, &Domain>,
        test: impl Future<Output = T>,
    ) -> T {
        let bus = stack.bus();
        let world = async {
            loop {
                self.look(bus.now_ns());
                bus.sleep(LOOK).await;
            }
        };
        let all = pin!(select(world, test));
        let mut run = pin!(stack.run());
        let counted = poll_fn(|cx| {
            let left = self.turns_left.get().checked_sub(1);
            self.turns_left
                .set(left.expect("the stack is polled without end"));
            run.as_mut().poll(cx)
        });
        match select(counted, all).await {
            Either::Second(Either::Second(value)) => value,
            Either::Second(Either::First(never)) => never,
            Either::First(error) => panic!("the stack has ended: {error}"),
        }
    }
}

/// Waits until something is so, for half a minute at the most.
pub(crate) async fn until(stack: &Stack<'_, &Domain>, is_so: impl Fn() -> bool) {
    let bus = stack.bus();
    let wait = async {
        while !is_so() {
            bus.sleep(LOOK).await;
        }
    };
    let so = bus.timeout(Duration::from_secs(30), wait).await;
    assert!(so.is_ok(), "it does not come to be so");
}

/// What is sent: no two places of a few hundred have the same.
fn byte(at: usize) -> u8 {
    ((at * 31) ^ (at >> 8)) as u8
}

pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(byte).collect()
}

pub(crate) const PORT: u16 = 80;
pub(crate) const V4_SERVER: (IpAddress, u16) = (IpAddress::v4(10, 0, 0, 1), PORT);
pub(crate) const V6_SERVER: (IpAddress, u16) = (IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 1), PORT);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// What a client can hold that was not read.
pub(crate) const ROOM: usize = 256 << 10;

/// A stack with both of these addresses.
pub(crate) fn config() -> Config {
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
pub(crate) fn with_stack<T>(
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

/// The sum of a header, as its checksum has it.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A segment of TCP from an address of nobody's, by the fields of its header.
#[expect(clippy::too_many_arguments, reason = "the fields of a header")]
pub(crate) fn raw(
    from: [u8; 4],
    sport: u16,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options: &[u8],
    payload: &[u8],
) -> Frame {
    assert!(options.len().is_multiple_of(4));
    let len = 20 + 20 + options.len() + payload.len();
    let [lh, ll] = (len as u16).to_be_bytes();
    let mut packet = vec![0x45, 0, lh, ll, 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet.extend(from);
    packet.extend([10, 0, 0, 1]);
    let s = !sum(&packet);
    packet[10..12].copy_from_slice(&s.to_be_bytes());
    packet.extend(sport.to_be_bytes());
    packet.extend(PORT.to_be_bytes());
    packet.extend(seq.to_be_bytes());
    packet.extend(ack.to_be_bytes());
    packet.extend([((5 + options.len() / 4) as u8) << 4, flags]);
    packet.extend(window.to_be_bytes());
    packet.extend([0, 0, 0, 0]);
    packet.extend(options);
    packet.extend(payload);
    local(ethernet(MAC, 0x0800, &packet))
}

/// A SYN from an address that nobody has.
pub(crate) fn syn(number: u32) -> Frame {
    raw(
        [10, 0, 0, 20 + (number >> 16) as u8],
        number as u16 | 1,
        9,
        0,
        2,
        0xffff,
        &[],
        &[],
    )
}
