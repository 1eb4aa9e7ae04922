//! The other side of the network's phases, in domain 0: sends back, throws away, or
//! sends without an end.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
};

use anyhow::Result;
use load_plan::{ECHO_PORT, SINK_PORT, SOURCE_PORT};

const CHUNK: usize = 128 << 10;
/// Of IPv6 and of IPv4.
const ANY: &str = "::";

pub(crate) fn run() -> Result<()> {
    let socket = UdpSocket::bind((ANY, ECHO_PORT))?;
    for (port, serve) in [
        (ECHO_PORT, echo as fn(TcpStream)),
        (SINK_PORT, swallow),
        (SOURCE_PORT, pour),
    ] {
        let listener = TcpListener::bind((ANY, port))?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream));
            }
        });
    }
    let mut message = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut message)?;
        // Whoever is gone hears nothing.
        let _gone = socket.send_to(&message[..len], from);
    }
}

fn echo(mut stream: TcpStream) {
    let _slow = stream.set_nodelay(true);
    let mut bytes = vec![0; CHUNK];
    while let Ok(len @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..len]).is_err() {
            return;
        }
    }
}

fn swallow(mut stream: TcpStream) {
    let mut bytes = vec![0; CHUNK];
    while let Ok(1..) = stream.read(&mut bytes) {}
}

fn pour(mut stream: TcpStream) {
    let bytes = vec![2; CHUNK];
    while stream.write_all(&bytes).is_ok() {}
}
