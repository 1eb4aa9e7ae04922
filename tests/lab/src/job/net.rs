//! Networks for guests: a port of this machine that leads to a guest's port 80.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context, Result, bail};

/// Guests that are of no use without a network.
const WANT_ONE: [&str; 2] = ["web", "echo"];
/// The port that they get, if it is free.
const USUAL_PORT: u16 = 8080;
/// Those of guests that run at once.
const APART: Range<u16> = 18_080..28_080;
/// The address that QEMU's network gives to the first who asks.
const GUEST: &str = "10.0.2.15:80";

/// A guest's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    /// The port that leads to it.
    pub(crate) port: u16,
}

impl Net {
    /// The network of a guest, which was asked for or which it wants anyway.
    pub(crate) fn of(guest: &str, wanted: Option<u16>) -> Result<Option<Self>> {
        let listener = match wanted {
            None if !WANT_ONE.contains(&guest) => return Ok(None),
            None => TcpListener::bind(("127.0.0.1", USUAL_PORT))
                .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?,
            Some(port) => TcpListener::bind(("127.0.0.1", port))
                .with_context(|| format!("port {port} is not to be had; --net 0 takes any"))?,
        };
        let port = listener.local_addr()?.port();
        Ok(Some(Self { port }))
    }

    /// The network of a guest that wants one, at a port that no other guest of this process
    /// gets. It is none of those that are given to whoever makes a connection.
    pub(crate) fn apart(guest: &str) -> Result<Option<Self>> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        if !WANT_ONE.contains(&guest) {
            return Ok(None);
        }
        for _ in APART {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let port = APART.start + step % (APART.end - APART.start);
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(Some(Self { port }));
            }
        }
        bail!("no port of {APART:?} is to be had")
    }

    /// The port, as a program opens it.
    pub(crate) fn address(self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where a browser finds it.
    pub(crate) fn url(self) -> String {
        format!("http://{}/", self.address())
    }
}

/// An address of this machine's own that nobody else on it uses: whoever makes a
/// connection gets a port of 127.0.0.1's for it, and that may be any which is free.
const PRIVATE: Ipv4Addr = Ipv4Addr::new(127, 88, 101, 110);

/// A port there that is free, and is so when somebody else opens it a moment later.
pub(crate) fn private() -> Result<SocketAddr> {
    Ok(TcpListener::bind((PRIVATE, 0))?.local_addr()?)
}

/// The network of the lab's machine, as QEMU is told of it, with the port that leads
/// to the guest. Nothing else leads in, and nothing out: QEMU would pass on what is sent to
/// any address that nobody on the bridge has, to its host's own network.
pub(crate) fn user(port: Option<SocketAddr>) -> String {
    let forward = port.map(|port| format!(",hostfwd=tcp:{port}-{GUEST}"));
    format!("user,id=net0,restrict=on{}", forward.unwrap_or_default())
}
