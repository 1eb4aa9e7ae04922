//! Load on a network: the other side is `serve`.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use load_plan::{ECHO_BYTES, ECHO_PORT, Network, Phase, SERVER, SINK_PORT, SOURCE_PORT, Samples};

/// Bytes of one call.
const CHUNK: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

fn server(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(SERVER), port)
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server(port).into(), PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

pub(crate) fn run(phase: &Phase, end: Instant) -> Result<Samples> {
    match phase {
        Phase::Network(Network::UdpEcho) => {
            let socket = UdpSocket::bind(("0.0.0.0", 0))?;
            socket.connect(server(ECHO_PORT))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            repeat(end, || {
                let mut message = [1; ECHO_BYTES];
                socket.send(&message)?;
                Ok(socket.recv(&mut message)?)
            })
        }
        Phase::Network(Network::TcpEcho) => {
            let mut stream = connect(ECHO_PORT)?;
            repeat(end, || {
                let mut message = [1; ECHO_BYTES];
                stream.write_all(&message)?;
                stream.read_exact(&mut message)?;
                Ok(ECHO_BYTES)
            })
        }
        Phase::Network(Network::TcpOut) => {
            let mut stream = connect(SINK_PORT)?;
            let bytes = vec![1; CHUNK];
            repeat(end, || {
                stream.write_all(&bytes)?;
                Ok(CHUNK)
            })
        }
        Phase::Network(Network::TcpIn) => {
            let mut stream = connect(SOURCE_PORT)?;
            let mut bytes = vec![0; CHUNK];
            repeat(end, || Ok(stream.read(&mut bytes)?))
        }
        Phase::Disk(_) => bail!("{phase} is not for networks"),
    }
}

fn repeat(end: Instant, mut operation: impl FnMut() -> Result<usize>) -> Result<Samples> {
    let mut samples = Samples::new();
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(samples);
        }
        let bytes = operation()?;
        samples.add(begun.elapsed().as_nanos() as u64, bytes);
    }
}
