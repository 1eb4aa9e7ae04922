//! Load on a network: the other side is a Linux process.

use alloc::{boxed::Box, vec, vec::Vec};
use core::{future::Future, pin::Pin};

use embassy_net::{
    Ipv4Address, Ipv4Cidr, Stack, StackResources, StaticConfigV4,
    tcp::TcpSocket,
    udp::{PacketMetadata, UdpSocket},
};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use load_plan::{
    ECHO_BYTES, ECHO_PORT, GUEST, Network, Phase, SERVER, SINK_PORT, SOURCE_PORT, Samples,
};
use pv_guest::{
    Error,
    adapt::embassy_net::Device,
    netfront::{Config, Nic},
    time::now_ns,
    xenbus::Bus,
};

/// Memory of a stream, each way.
const STREAM_BYTES: usize = 512 << 10;
/// Bytes of one call.
const CHUNK: usize = 64 << 10;
const SOCKETS: usize = 4;

type Task<'t> = Pin<Box<dyn Future<Output = Result<(), Error>> + 't>>;

/// Has `work` done with a stack on the first network that there is.
pub(crate) async fn with_network(
    bus: Bus<'static>,
    work: impl AsyncFnOnce(Stack<'static>) -> Result<(), Error>,
) -> Result<(), Error> {
    let ids = bus.devices("vif").await;
    let ids = ids.map_err(|_| Error::Failed("the store does not tell of networks"))?;
    let id = ids.first().ok_or(Error::Failed("there is no network"))?;
    let nic = Nic::new(bus, id.as_str(), Config::default());
    let device = Device::new(&nic).await;
    let device = device.map_err(|_| Error::Failed("the network does not come"))?;
    let config = embassy_net::Config::ipv4_static(StaticConfigV4 {
        address: Ipv4Cidr::new(address(GUEST), 24),
        gateway: None,
        dns_servers: Default::default(),
    });
    // It is used until the guest ends.
    let resources = Box::leak(Box::new(StackResources::<SOCKETS>::new()));
    let (stack, mut runner) = embassy_net::new(device, config, resources, 1);
    // Two tasks: whoever uses a socket has the stack woken, and would so wake
    // itself without an end.
    let mut tasks: FuturesUnordered<Task<'_>> = FuturesUnordered::new();
    tasks.push(Box::pin(async move { runner.run().await }));
    tasks.push(Box::pin(work(stack)));
    let done = tasks.next().await;
    nic.close().await;
    done.unwrap_or(Ok(()))
}

fn address([a, b, c, d]: [u8; 4]) -> Ipv4Address {
    Ipv4Address::new(a, b, c, d)
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
pub(crate) async fn run(
    stack: Stack<'static>,
    phase: &Phase,
    end_ns: u64,
) -> Result<Samples, Error> {
    let Phase::Network(kind) = *phase else {
        return Err(Error::Failed("this is no phase for networks"));
    };
    match kind {
        Network::UdpEcho => udp_echo(stack, end_ns).await,
        Network::TcpEcho => tcp(stack, ECHO_PORT, end_ns, tcp_echo).await,
        Network::TcpOut => tcp(stack, SINK_PORT, end_ns, tcp_out).await,
        Network::TcpIn => tcp(stack, SOURCE_PORT, end_ns, tcp_in).await,
    }
}

async fn udp_echo(stack: Stack<'static>, end_ns: u64) -> Result<Samples, Error> {
    let mut metadata = [[PacketMetadata::EMPTY; 4]; 2];
    let mut memory = [[0; 4 * ECHO_BYTES]; 2];
    let ([rx_metadata, tx_metadata], [rx, tx]) = (&mut metadata, &mut memory);
    let mut socket = UdpSocket::new(stack, rx_metadata, rx, tx_metadata, tx);
    let bound = socket.bind(1024);
    bound.map_err(|_| Error::Failed("there is no port"))?;
    repeat(end_ns, async || {
        let mut message = [1; ECHO_BYTES];
        socket
            .send_to(&message, (address(SERVER), ECHO_PORT))
            .await
            .ok()?;
        let (len, _) = socket.recv_from(&mut message).await.ok()?;
        Some(len)
    })
    .await
}

async fn tcp(
    stack: Stack<'static>,
    port: u16,
    end_ns: u64,
    load: impl AsyncFnOnce(&mut TcpSocket<'_>, u64) -> Result<Samples, Error>,
) -> Result<Samples, Error> {
    let mut memory: [Vec<u8>; 2] = [vec![0; STREAM_BYTES], vec![0; STREAM_BYTES]];
    let [rx, tx] = &mut memory;
    let mut socket = TcpSocket::new(stack, rx, tx);
    socket.set_nagle_enabled(false);
    let connected = socket.connect((address(SERVER), port)).await;
    connected.map_err(|_| Error::Failed("nobody is there"))?;
    let samples = load(&mut socket, end_ns).await;
    socket.abort();
    let _gone = socket.flush().await;
    samples
}

async fn tcp_echo(socket: &mut TcpSocket<'_>, end_ns: u64) -> Result<Samples, Error> {
    repeat(end_ns, async || {
        let mut message = [1; ECHO_BYTES];
        write_all(socket, &message).await?;
        let mut rest = &mut message[..];
        while !rest.is_empty() {
            let len = socket.read(rest).await.ok().filter(|len| *len > 0)?;
            rest = rest.get_mut(len..)?;
        }
        Some(ECHO_BYTES)
    })
    .await
}

async fn tcp_out(socket: &mut TcpSocket<'_>, end_ns: u64) -> Result<Samples, Error> {
    let bytes = vec![1; CHUNK];
    repeat(end_ns, async || {
        write_all(socket, &bytes).await?;
        Some(CHUNK)
    })
    .await
}

async fn tcp_in(socket: &mut TcpSocket<'_>, end_ns: u64) -> Result<Samples, Error> {
    let mut bytes = vec![0; CHUNK];
    repeat(end_ns, async || {
        let len = socket.read(&mut bytes).await;
        len.ok().filter(|len| *len > 0)
    })
    .await
}

async fn write_all(socket: &mut TcpSocket<'_>, mut bytes: &[u8]) -> Option<()> {
    while !bytes.is_empty() {
        let len = socket.write(bytes).await.ok().filter(|len| *len > 0)?;
        bytes = bytes.get(len..)?;
    }
    Some(())
}
