//! A port for many clients at once.
//!
//! The port that QEMU's network leads to a guest has a queue of one: of many clients
//! who come at the same time, most are dropped, and some of them reset later. This one
//! has a long queue, and goes to that one by one.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::job::net;

/// How long a client knocks at QEMU's port before it knocks again: one who is not let
/// in at once was dropped.
const KNOCK: Duration = Duration::from_millis(100);
/// How often.
const KNOCKS: usize = 600;
const STACK_BYTES: usize = 128 << 10;

/// The port; it closes when this is dropped.
pub(crate) struct Relay {
    outer: SocketAddr,
    inner: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Relay {
    /// Opens a port, to lead to another, which is free.
    pub(crate) fn open(outer: SocketAddr) -> Result<Self> {
        let listener =
            TcpListener::bind(outer).with_context(|| format!("{outer} is not to be had"))?;
        let inner = net::private()?;
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        thread::spawn(move || serve(&listener, inner, &stop));
        Ok(Self { outer, inner, over })
    }

    /// Where it leads.
    pub(crate) const fn inner(&self) -> SocketAddr {
        self.inner
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It waits for somebody.
        let _woken = TcpStream::connect(self.outer);
    }
}

fn serve(listener: &TcpListener, inner: SocketAddr, over: &AtomicBool) {
    let door = Arc::new(Mutex::new(inner));
    while let Ok((client, _)) = listener.accept() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let door = Arc::clone(&door);
        let lead = move || {
            // Whoever cannot be led on is left: he sees that his connection ends.
            let _ended = enter(&door).and_then(|guest| join(&client, &guest));
        };
        let builder = thread::Builder::new().stack_size(STACK_BYTES);
        let _no_room = builder.spawn(lead);
    }
}

/// Goes in, alone.
fn enter(door: &Mutex<SocketAddr>) -> io::Result<TcpStream> {
    let door = door.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 1..KNOCKS {
        match TcpStream::connect_timeout(&door, KNOCK) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            result => return result,
        }
    }
    TcpStream::connect_timeout(&door, KNOCK)
}

/// Moves bytes both ways until there are no more.
fn join(client: &TcpStream, guest: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    guest.set_nodelay(true)?;
    thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(STACK_BYTES);
        builder.spawn_scoped(scope, || pass(client, guest))?;
        pass(guest, client);
        Ok(())
    })
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    match io::copy(&mut from, &mut to) {
        Ok(_) => {
            let _gone = to.shutdown(Shutdown::Write);
        }
        // The other way is of no use any more.
        Err(_) => {
            let _gone = from.shutdown(Shutdown::Both);
            let _gone = to.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn many_at_once_get_what_is_theirs() {
        const CLIENTS: u8 = 100;
        let relay = Relay::open(net::private().unwrap()).unwrap();
        let guest = TcpListener::bind(relay.inner()).unwrap();
        thread::spawn(move || {
            for client in guest.incoming().map_while(Result::ok) {
                thread::spawn(move || pass(&client, &client));
            }
        });
        let outer = relay.outer;
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                scope.spawn(move || {
                    let mut client = TcpStream::connect(outer).unwrap();
                    client.write_all(&[number; 5000]).unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                    let mut answer = Vec::new();
                    client.read_to_end(&mut answer).unwrap();
                    assert_eq!(answer, [number; 5000]);
                });
            }
        });
    }
}
