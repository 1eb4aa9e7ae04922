//! A network for a guest on a host that gives nobody rights: a router that
//! answers DHCP, and a port of the host's that leads to the guest's port 80.
//!
//! The router has a network stack of its own, on a [`Tap`]; for each connection
//! to the host's port, it makes one to the guest.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant as Started},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{self, Checksum as Sums, ChecksumCapabilities, DeviceCapabilities, Medium},
    socket::tcp,
    time::Instant,
    wire::{
        DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress,
        EthernetFrame, EthernetProtocol, EthernetRepr, HardwareAddress, IpAddress, IpCidr,
        IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
    },
};

use super::devices::Tap;
use crate::services::backends::{Checksum, Frame};

/// The router's address, and the guest's.
const ROUTER: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);
const GUEST: Ipv4Address = Ipv4Address::new(10, 0, 2, 15);
const MASK: Ipv4Address = Ipv4Address::new(255, 255, 255, 0);
const PREFIX_BITS: u8 = 24;
const ROUTER_MAC: EthernetAddress = EthernetAddress([0x52, 0x55, 10, 0, 2, 2]);
const LEASE_S: u32 = 86_400;
const GUEST_PORT: u16 = 80;
/// A stack may send more at once than a wire carries.
const MTU: usize = 1514;
const BUFFER_BYTES: usize = 256 << 10;
const FIRST_PORT: u16 = 49_152;
/// How long the host's programs have to take what the guest sent last.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a guest has sent, and the router has acknowledged, when the guest ends.
pub(crate) struct Delivery(UnixStream);

impl Delivery {
    /// Waits until the host's programs have it all, but not for those who take nothing.
    pub(crate) fn complete(&self) {
        let mut router = &self.0;
        let asked = router.set_read_timeout(Some(PATIENCE));
        let _late = asked
            .and_then(|()| router.write_all(&[0]))
            .and_then(|()| router.read_exact(&mut [0]));
    }
}

/// Begins; says where the host's port is. Port 0 is any.
pub(crate) fn start(tap: Tap, guest: [u8; 6], port: &str) -> io::Result<(SocketAddr, Delivery)> {
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let bell = tap.bell()?;
    let (delivery, end) = UnixStream::pair()?;
    end.set_nonblocking(true)?;
    thread::spawn(move || Router::new(tap, EthernetAddress(guest)).run(&listener, bell, end));
    Ok((address, Delivery(delivery)))
}

/// The tap, as the router's stack sees it.
struct Wire {
    tap: Tap,
    guest: EthernetAddress,
    came: VecDeque<Vec<u8>>,
}

impl Wire {
    /// Takes what came, and answers what is DHCP.
    fn take(&mut self, frame: Frame) {
        match answer_dhcp(&frame.bytes, self.guest) {
            Some(answer) => self.tap.send(Frame::whole(answer)),
            None => self.came.push_back(frame.bytes),
        }
    }
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
        self.0.send(Frame {
            bytes,
            checksum: Checksum::Validated,
            segments: None,
        });
        value
    }
}

impl phy::Device for Wire {
    type RxToken<'a> = Came;
    type TxToken<'a> = Goes<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Came, Goes<'_>)> {
        while let Some(frame) = self.tap.receive() {
            self.take(frame);
        }
        let came = self.came.pop_front()?;
        Some((Came(came), Goes(&self.tap)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Goes<'_>> {
        Some(Goes(&self.tap))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU;
        // What guests send may be without; what is sent to them is believed.
        capabilities.checksum.tcp = Sums::None;
        capabilities.checksum.udp = Sums::None;
        capabilities
    }
}

/// A connection of the host's, and the one to the guest that goes with it.
struct Pair {
    host: TcpStream,
    guest: SocketHandle,
    /// Bytes of the host's that the guest has no room for yet.
    to_guest: Vec<u8>,
    /// The host has no more to say.
    is_half: bool,
    /// The host takes nothing any more.
    is_gone: bool,
}

struct Router {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    pairs: Vec<Pair>,
    next_port: u16,
    started: Started,
}

impl Router {
    fn new(tap: Tap, guest: EthernetAddress) -> Self {
        let mut wire = Wire {
            tap,
            guest,
            came: VecDeque::new(),
        };
        let config = Config::new(HardwareAddress::Ethernet(ROUTER_MAC));
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|all| {
            let _room = all.push(IpCidr::new(IpAddress::Ipv4(ROUTER), PREFIX_BITS));
        });
        Self {
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
            pairs: Vec::new(),
            next_port: FIRST_PORT,
            started: Started::now(),
        }
    }

    fn run(&mut self, listener: &TcpListener, mut bell: UnixStream, mut end: UnixStream) {
        let mut is_ending = false;
        loop {
            let now = Instant::from_micros(self.started.elapsed().as_micros() as i64);
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            while let Ok((host, _)) = listener.accept() {
                self.connect(host);
            }
            let mut moved = false;
            let sockets = &mut self.sockets;
            self.pairs.retain_mut(|pair| {
                let socket = sockets.get_mut::<tcp::Socket<'_>>(pair.guest);
                let goes_on = pair.pump(socket, &mut moved);
                if !goes_on {
                    sockets.remove(pair.guest);
                }
                goes_on
            });
            if !moved {
                is_ending |= matches!(end.read(&mut [0]), Ok(1));
                if is_ending && !self.has_some_for_host() {
                    is_ending = end.write_all(&[0]).is_err();
                }
                self.sleep(listener, &bell, &end);
                while matches!(bell.read(&mut [0; 64]), Ok(1..)) {}
            }
        }
    }

    /// Sleeps until somebody comes, or says something, or a timer of TCP's is due.
    fn sleep(&mut self, listener: &TcpListener, bell: &UnixStream, end: &UnixStream) {
        let now = Instant::from_micros(self.started.elapsed().as_micros() as i64);
        let most = self.interface.poll_delay(now, &self.sockets);
        let most = most.map(|time| Timespec {
            tv_sec: time.secs() as i64,
            tv_nsec: time.micros() as i64 * 1000,
        });
        let mut all = vec![
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(bell, PollFlags::IN),
            PollFd::new(end, PollFlags::IN),
        ];
        for pair in &self.pairs {
            let socket = self.sockets.get::<tcp::Socket<'_>>(pair.guest);
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, pair.takes(socket));
            // What could not be written.
            wanted.set(PollFlags::OUT, socket.can_recv());
            if !wanted.is_empty() {
                all.push(PollFd::new(&pair.host, wanted));
            }
        }
        let _interrupted = poll(&mut all, most.as_ref());
    }

    /// Whether there is something that the guest sent and the host has not taken.
    fn has_some_for_host(&self) -> bool {
        let socket = |pair: &Pair| self.sockets.get::<tcp::Socket<'_>>(pair.guest).can_recv();
        self.pairs.iter().any(socket)
    }

    fn connect(&mut self, host: TcpStream) {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        // A guest that waits for an acknowledgement gets it.
        socket.set_ack_delay(None);
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        let remote = (IpAddress::Ipv4(GUEST), GUEST_PORT);
        let begun = socket.connect(self.interface.context(), remote, port);
        if begun.is_ok() && host.set_nonblocking(true).is_ok() {
            let _late = host.set_nodelay(true);
            self.pairs.push(Pair {
                host,
                guest: self.sockets.add(socket),
                to_guest: Vec::new(),
                is_half: false,
                is_gone: false,
            });
        }
    }
}

impl Pair {
    /// Whether something of the host's is wanted.
    fn takes(&self, socket: &tcp::Socket<'_>) -> bool {
        self.to_guest.is_empty() && !self.is_half && socket.can_send()
    }

    /// Moves bytes both ways; false: it is over.
    fn pump(&mut self, socket: &mut tcp::Socket<'_>, moved: &mut bool) -> bool {
        // One that is over may have something left for the host.
        if !socket.is_active() && (self.is_gone || !socket.can_recv()) {
            return false;
        }
        if self.takes(socket) {
            let mut piece = [0; 16 << 10];
            match self.host.read(&mut piece) {
                Ok(0) => self.is_half = true,
                Ok(count) => self.to_guest.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    socket.abort();
                    self.is_gone = true;
                    return true;
                }
            }
        }
        if !self.to_guest.is_empty()
            && let Ok(count @ 1..) = socket.send_slice(&self.to_guest)
        {
            self.to_guest.drain(..count);
            *moved = true;
        }
        if self.is_half && self.to_guest.is_empty() && socket.may_send() {
            socket.close();
        }
        if socket.can_recv() {
            let sent = socket.recv(|bytes| match self.host.write(bytes) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match sent {
                Ok(Ok(count)) => *moved |= count > 0,
                Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => {}
                _ => {
                    socket.abort();
                    self.is_gone = true;
                }
            }
        } else if !socket.may_recv() && socket.state() != tcp::State::SynSent {
            // The guest has said all.
            let _gone = self.host.shutdown(std::net::Shutdown::Write);
            socket.close();
        }
        true
    }
}

/// The answer to a question of DHCP's.
fn answer_dhcp(frame: &[u8], guest: EthernetAddress) -> Option<Vec<u8>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 || ip.next_header() != IpProtocol::Udp {
        return None;
    }
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    if udp.dst_port() != DHCP_SERVER_PORT {
        return None;
    }
    let packet = DhcpPacket::new_checked(udp.payload()).ok()?;
    let asked = DhcpRepr::parse(&packet).ok()?;
    let dhcp = DhcpRepr {
        message_type: match asked.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request => DhcpMessageType::Ack,
            _ => return None,
        },
        your_ip: GUEST,
        server_ip: ROUTER,
        router: Some(ROUTER),
        subnet_mask: Some(MASK),
        server_identifier: Some(ROUTER),
        lease_duration: Some(LEASE_S),
        renew_duration: None,
        rebind_duration: None,
        requested_ip: None,
        client_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        additional_options: &[],
        ..asked
    };
    let sums = ChecksumCapabilities::default();
    let udp = UdpRepr {
        src_port: DHCP_SERVER_PORT,
        dst_port: DHCP_CLIENT_PORT,
    };
    let to = Ipv4Address::BROADCAST;
    let ip = Ipv4Repr {
        src_addr: ROUTER,
        dst_addr: to,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + dhcp.buffer_len(),
        hop_limit: 64,
    };
    let ethernet = EthernetRepr {
        src_addr: ROUTER_MAC,
        dst_addr: guest,
        ethertype: EthernetProtocol::Ipv4,
    };
    let mut bytes = vec![0; ethernet.buffer_len() + ip.buffer_len() + ip.payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &sums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    let write = |payload: &mut [u8]| {
        let _fits = dhcp.emit(&mut DhcpPacket::new_unchecked(payload));
    };
    let (from, to) = (IpAddress::Ipv4(ROUTER), IpAddress::Ipv4(to));
    udp.emit(&mut datagram, &from, &to, dhcp.buffer_len(), write, &sums);
    Some(bytes)
}
