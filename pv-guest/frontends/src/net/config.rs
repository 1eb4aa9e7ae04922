//! What a stack is to be.

use core::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use smoltcp::wire::{Ipv4Cidr, Ipv6Cidr};

use super::Error;

/// The IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V4 {
    /// None.
    None,
    /// The one that a DHCP server gives.
    Dhcp,
    /// This one.
    Static {
        /// It, with the length of its network's prefix.
        address: Ipv4Cidr,
        /// Who takes packets for other networks.
        gateway: Option<Ipv4Addr>,
    },
}

/// The IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V6 {
    /// None.
    None,
    /// This one.
    Static {
        /// It, with the length of its network's prefix.
        address: Ipv6Cidr,
        /// Who takes packets for other networks.
        gateway: Option<Ipv6Addr>,
    },
}

/// What a stack is to be, and what it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The IPv4 address.
    pub v4: V4,
    /// The IPv6 address.
    pub v6: V6,
    /// What sequence numbers and ports of connections begin with: another at each start.
    /// `None`: the time.
    pub seed: Option<u64>,
    /// Connections at a time, with those that are not complete or not quite over. Fewer, if
    /// `memory_bytes` is too little for them.
    pub connections: usize,
    /// Those of them that are not complete: whose other end has not answered yet, and may
    /// never.
    pub half_open: usize,
    /// Bytes of the buffers of all connections together. The first get what `rx_bytes` and
    /// `tx_bytes` say, and the more there are, the less each: 6 KiB at least.
    pub memory_bytes: usize,
    /// Bytes of a connection that wait to be read, at the most.
    pub rx_bytes: usize,
    /// Bytes of a connection that were written, and that the other end has not acknowledged,
    /// at the most.
    pub tx_bytes: usize,
    /// How long the other end may be silent while an answer of it is due, or take less than
    /// half of what a stream can hold: its connection is aborted then. So is one that was
    /// [finished](super::Stream::finish) and is not over by then.
    pub patience: Duration,
    /// How long a connection may be silent until the other end is asked whether it is there.
    pub keep_alive: Duration,
}

impl Default for Config {
    /// An address by DHCP; 256 connections in 8 MiB.
    fn default() -> Self {
        Self {
            v4: V4::Dhcp,
            v6: V6::None,
            seed: None,
            connections: 256,
            half_open: 128,
            memory_bytes: 8 << 20,
            rx_bytes: 8 << 10,
            tx_bytes: 128 << 10,
            patience: Duration::from_secs(60),
            keep_alive: Duration::from_secs(30),
        }
    }
}

impl Config {
    pub(super) fn check(&self) -> Result<(), Error> {
        let v4 = match self.v4 {
            V4::Static { address, gateway } => is_host(address.address(), gateway),
            V4::None | V4::Dhcp => true,
        };
        let v6 = match self.v6 {
            V6::Static { address, gateway } => {
                let all = [Some(address.address()), gateway];
                all.into_iter()
                    .flatten()
                    .all(|address| !address.is_multicast() && !address.is_unspecified())
            }
            V6::None => true,
        };
        match v4 && v6 {
            true => Ok(()),
            false => Err(Error::NotUnicast),
        }
    }
}

/// Whether an address, and a gateway's, may be those of single hosts.
pub(super) fn is_host(address: Ipv4Addr, gateway: Option<Ipv4Addr>) -> bool {
    let all = [Some(address), gateway];
    all.into_iter().flatten().all(|address| {
        !address.is_multicast() && !address.is_broadcast() && !address.is_unspecified()
    })
}
