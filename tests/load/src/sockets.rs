//! Load on a network: the other side is a Linux process.

use alloc::{vec, vec::Vec};

use load_plan::{
    ECHO_BYTES, ECHO_PORT, GUEST, Network, Phase, SERVER, SINK_PORT, SOURCE_PORT, Samples,
};
use pv_guest::{
    Error,
    adapt::smoltcp::Device,
    netfront::{Config, Nic},
    time::{now_ns, timeout_at},
    xenbus::Bus,
};
use smoltcp::{
    iface::{self, Interface, SocketHandle, SocketSet},
    socket::{AnySocket, tcp, udp},
    time::Instant,
    wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint, Ipv4Address},
};

/// Memory of a stream, each way.
const STREAM_BYTES: usize = 512 << 10;
/// Bytes of one call.
const CHUNK: usize = 64 << 10;
/// This side's ports: each connection has the next.
const FIRST_PORT: u16 = 49_152;

/// A network stack.
pub(crate) struct Net {
    device: Device<'static>,
    interface: Interface,
    sockets: SocketSet<'static>,
    next_port: u16,
}

fn now() -> Instant {
    Instant::from_micros((now_ns() / 1000) as i64)
}

fn address([a, b, c, d]: [u8; 4]) -> IpAddress {
    IpAddress::Ipv4(Ipv4Address::new(a, b, c, d))
}

/// Has `work` done with a stack on the first network that there is.
pub(crate) async fn with_network(
    bus: Bus<'static>,
    work: impl AsyncFnOnce(&mut Net) -> Result<(), Error>,
) -> Result<(), Error> {
    let ids = bus.devices("vif").await;
    let ids = ids.map_err(|_| Error::Failed("the store does not tell of networks"))?;
    let id = ids.first().ok_or(Error::Failed("there is no network"))?;
    let nic = Nic::new(bus, id.as_str(), Config::default());
    let mut net = Net::new(&nic, &[IpCidr::new(address(GUEST), 24)]).await?;
    let done = work(&mut net).await;
    drop(net);
    nic.close().await;
    done
}

impl Net {
    /// A stack on an interface, with these addresses.
    pub(crate) async fn new(nic: &Nic<'static>, addresses: &[IpCidr]) -> Result<Self, Error> {
        let device = Device::new(nic).await;
        let mut device = device.map_err(|_| Error::Failed("the network does not come"))?;
        let hardware = HardwareAddress::Ethernet(device.address());
        let mut interface = Interface::new(iface::Config::new(hardware), &mut device, now());
        let mut is_set = Ok(());
        interface.update_ip_addrs(|all| is_set = all.extend_from_slice(addresses));
        is_set.map_err(|_| Error::Failed("there is no room for an address"))?;
        Ok(Self {
            device,
            interface,
            sockets: SocketSet::new(Vec::new()),
            next_port: FIRST_PORT,
        })
    }

    /// Waits until `look` finds what it looks for in a socket.
    async fn until<S: AnySocket<'static>, T>(
        &mut self,
        socket: SocketHandle,
        mut look: impl FnMut(&mut S) -> Option<T>,
    ) -> T {
        loop {
            if let Some(found) = look(self.sockets.get_mut(socket)) {
                return found;
            }
            self.interface
                .poll(now(), &mut self.device, &mut self.sockets);
            if let Some(found) = look(self.sockets.get_mut(socket)) {
                return found;
            }
            let due = self.interface.poll_at(now(), &self.sockets);
            match due.filter(|_| !self.device.lacks_room()) {
                Some(due) => {
                    let due_ns = due.total_micros().unsigned_abs() * 1000;
                    let _late = timeout_at(due_ns, self.device.changed()).await;
                }
                None => self.device.changed().await,
            }
        }
    }

    /// A connection to a port of the other side's.
    pub(crate) async fn connect(
        &mut self,
        other: impl Into<IpEndpoint>,
    ) -> Result<SocketHandle, Error> {
        let memory = || tcp::SocketBuffer::new(vec![0; STREAM_BYTES]);
        let mut socket = tcp::Socket::new(memory(), memory());
        socket.set_nagle_enabled(false);
        self.next_port += 1;
        let context = self.interface.context();
        let begun = socket.connect(context, other.into(), self.next_port);
        begun.map_err(|_| Error::Failed("there is no way to the other side"))?;
        let socket = self.sockets.add(socket);
        let is_there = self
            .until(socket, |tcp: &mut tcp::Socket<'_>| {
                (tcp.may_send() || !tcp.is_open()).then(|| tcp.may_send())
            })
            .await;
        match is_there {
            true => Ok(socket),
            false => Err(Error::Failed("nobody is there")),
        }
    }

    /// Ends a connection at once.
    pub(crate) fn end(&mut self, socket: SocketHandle) {
        self.sockets.get_mut::<tcp::Socket<'_>>(socket).abort();
        self.interface
            .poll(now(), &mut self.device, &mut self.sockets);
        self.sockets.remove(socket);
    }

    /// Writes all of `bytes`; `None`: the connection broke.
    pub(crate) async fn write(&mut self, socket: SocketHandle, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let written = self.until(socket, |tcp: &mut tcp::Socket<'_>| match tcp.can_send() {
                true => Some(tcp.send_slice(bytes).ok()),
                false => (!tcp.may_send()).then_some(None),
            });
            bytes = bytes.get(written.await?..)?;
        }
        Some(())
    }

    /// Reads what there is, and at least a byte; `None`: the connection broke.
    pub(crate) async fn read(&mut self, socket: SocketHandle, target: &mut [u8]) -> Option<usize> {
        self.until(socket, |tcp: &mut tcp::Socket<'_>| match tcp.can_recv() {
            true => Some(tcp.recv_slice(target).ok()),
            false => (!tcp.may_recv()).then_some(None),
        })
        .await
    }
}

/// Counts what `operation` does, until `end_ns`.
async fn repeat(
    end_ns: u64,
    mut operation: impl AsyncFnMut() -> Option<usize>,
) -> Result<Samples, Error> {
    let mut samples = Samples::new();
    loop {
        let begun = now_ns();
        if begun >= end_ns {
            return Ok(samples);
        }
        let bytes = operation().await;
        let bytes = bytes.ok_or(Error::Failed("the connection broke"))?;
        samples.add(now_ns() - begun, bytes);
    }
}

/// One phase, until `end_ns`.
pub(crate) async fn run(net: &mut Net, phase: &Phase, end_ns: u64) -> Result<Samples, Error> {
    let Phase::Network(kind) = *phase else {
        return Err(Error::Failed("this is no phase for networks"));
    };
    let port = match kind {
        Network::UdpEcho => return udp_echo(net, end_ns).await,
        Network::TcpEcho => ECHO_PORT,
        Network::TcpOut => SINK_PORT,
        Network::TcpIn => SOURCE_PORT,
    };
    let socket = net.connect((address(SERVER), port)).await?;
    let mut chunk = vec![1; CHUNK];
    let samples = repeat(end_ns, async || match kind {
        Network::TcpOut => net.write(socket, &chunk).await.map(|()| CHUNK),
        Network::TcpIn => net.read(socket, &mut chunk).await,
        _ => tcp_echo(net, socket).await,
    });
    let samples = samples.await;
    net.end(socket);
    samples
}

async fn tcp_echo(net: &mut Net, socket: SocketHandle) -> Option<usize> {
    let mut message = [1; ECHO_BYTES];
    net.write(socket, &message).await?;
    let mut rest = &mut message[..];
    while !rest.is_empty() {
        let len = net.read(socket, rest).await?;
        rest = rest.get_mut(len..)?;
    }
    Some(ECHO_BYTES)
}

async fn udp_echo(net: &mut Net, end_ns: u64) -> Result<Samples, Error> {
    let memory =
        || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4 * ECHO_BYTES]);
    let mut socket = udp::Socket::new(memory(), memory());
    let bound = socket.bind(FIRST_PORT);
    bound.map_err(|_| Error::Failed("there is no port"))?;
    let socket = net.sockets.add(socket);
    let samples = repeat(end_ns, async || {
        let mut message = [1; ECHO_BYTES];
        let other = (address(SERVER), ECHO_PORT);
        let udp = net.sockets.get_mut::<udp::Socket<'_>>(socket);
        udp.send_slice(&message, other).ok()?;
        net.until(socket, |udp: &mut udp::Socket<'_>| {
            udp.can_recv().then(|| udp.recv_slice(&mut message).ok())
        })
        .await
        .map(|(len, _)| len)
    });
    let samples = samples.await;
    net.sockets.remove(socket);
    samples
}
