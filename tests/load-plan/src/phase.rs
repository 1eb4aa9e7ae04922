//! One kind of load.

use alloc::{
    format,
    string::{String, ToString},
};
use core::{fmt, str::FromStr};

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// On a disk.
    Disk(Disk),
    /// On a network.
    Network(Network),
}

/// What a phase loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// A disk.
    Disk,
    /// A network.
    Network,
}

/// Requests of one kind on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What they do.
    pub direction: Direction,
    /// Where.
    pub order: Order,
    /// Bytes of each, in KiB.
    pub kib: u32,
    /// How many there are at a time.
    pub depth: u32,
}

/// Reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Bytes come.
    Read,
    /// Bytes go.
    Write,
}

/// Where requests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One behind the other.
    Sequential,
    /// Anywhere.
    Random,
}

/// What a request does, and where.
pub type Access = (Direction, Order);

/// What is done on a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A datagram goes, and comes back.
    UdpEcho,
    /// The same by TCP.
    TcpEcho,
    /// A stream out.
    TcpOut,
    /// A stream in.
    TcpIn,
}

const NETWORK: [(Network, &str); 4] = [
    (Network::UdpEcho, "udp-echo"),
    (Network::TcpEcho, "tcp-echo"),
    (Network::TcpOut, "tcp-out"),
    (Network::TcpIn, "tcp-in"),
];

const ACCESSES: [(Access, &str); 4] = [
    ((Direction::Read, Order::Random), "randread"),
    ((Direction::Write, Order::Random), "randwrite"),
    ((Direction::Read, Order::Sequential), "read"),
    ((Direction::Write, Order::Sequential), "write"),
];

impl Phase {
    /// What it loads.
    pub const fn device(&self) -> Device {
        match self {
            Self::Disk(_) => Device::Disk,
            Self::Network(_) => Device::Network,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(kind) => {
                let known = NETWORK.iter().find(|(known, _)| known == kind);
                f.write_str(known.map_or("", |(_, name)| name))
            }
            Self::Disk(disk) => {
                let access = (disk.direction, disk.order);
                let known = ACCESSES.iter().find(|(known, _)| *known == access);
                let name = known.map_or("", |(_, name)| name);
                write!(f, "{name}-{}k-{}", disk.kib, disk.depth)
            }
        }
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((kind, _)) = NETWORK.iter().find(|(_, name)| *name == text) {
            return Ok(Self::Network(*kind));
        }
        let disk = || {
            let mut parts = text.split('-');
            let name = parts.next()?;
            let ((direction, order), _) = ACCESSES.iter().find(|(_, known)| *known == name)?;
            Some(Disk {
                direction: *direction,
                order: *order,
                kib: parts
                    .next()?
                    .strip_suffix('k')?
                    .parse()
                    .ok()
                    .filter(|kib| *kib > 0)?,
                depth: parts.next()?.parse().ok().filter(|depth| *depth > 0)?,
            })
        };
        let disk = disk().ok_or_else(|| format!("there is no phase {text:?}"))?;
        match Self::Disk(disk) {
            known if known.to_string() == text => Ok(known),
            _ => Err(format!("there is no phase {text:?}")),
        }
    }
}
