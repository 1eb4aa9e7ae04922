//! A packet of TCP, seen before smoltcp sees it: whose it is, and whether it begins a
//! connection.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::netfront::{
    ETHERNET_BYTES,
    checksum::{IPV4, TCP, carried, number},
};

const IP: usize = ETHERNET_BYTES;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// A packet of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) kind: Kind,
    pub(super) ends: Ends,
}

/// What a packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It asks for a connection: SYN alone.
    Asks,
    /// It is the answer to one that did.
    Answers,
    /// It is any other.
    Other,
}

impl Segment {
    /// That of a frame, if it is a whole one of TCP. Nothing else of it is looked at: the
    /// stack does that.
    ///
    /// Source: RFC 791, 3.1; RFC 8200, 3; RFC 9293, 3.1.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let (TCP, start) = carried(frame)? else {
            return None;
        };
        let (from, to): (IpAddr, IpAddr) = match number(frame, 12)? {
            IPV4 => {
                let from: [u8; 4] = *frame.get(IP + 12..)?.first_chunk()?;
                let to: [u8; 4] = *frame.get(IP + 16..)?.first_chunk()?;
                (Ipv4Addr::from(from).into(), Ipv4Addr::from(to).into())
            }
            _ => {
                let from: [u8; 16] = *frame.get(IP + 8..)?.first_chunk()?;
                let to: [u8; 16] = *frame.get(IP + 24..)?.first_chunk()?;
                (Ipv6Addr::from(from).into(), Ipv6Addr::from(to).into())
            }
        };
        let kind = match *frame.get(start + 13)? & (SYN | RST | ACK) {
            SYN => Kind::Asks,
            flags if flags == SYN | ACK => Kind::Answers,
            _ => Kind::Other,
        };
        Some(Self {
            kind,
            ends: Ends {
                local: SocketAddr::new(to, number(frame, start + 2)?),
                remote: SocketAddr::new(from, number(frame, start)?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn v4() -> Vec<u8> {
        let mut frame = alloc::vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0]);
        frame.extend([10, 0, 0, 9, 10, 0, 0, 2]);
        frame.extend([0x1f, 0x90, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN]);
        frame.extend([0xff, 0xff, 0, 0, 0, 0]);
        frame
    }

    #[test]
    fn first_packets_are_known() {
        let syn = Segment::of(&v4()).unwrap();
        assert_eq!(syn.ends.local, "10.0.0.2:80".parse().unwrap());
        assert_eq!(syn.ends.remote, "10.0.0.9:8080".parse().unwrap());
        for (at, value) in [(13, 6), (20, 0x20), (21, 1), (23, 17)] {
            let mut other = v4();
            other[at] = value;
            assert_eq!(Segment::of(&other), None, "{at}");
        }
        for flags in [ACK, SYN | RST, 0, RST] {
            let mut other = v4();
            other[47] = flags;
            let segment = Segment {
                kind: Kind::Other,
                ..syn
            };
            assert_eq!(Segment::of(&other), Some(segment));
        }
        let mut answer = v4();
        answer[47] |= ACK;
        let answers = Segment {
            kind: Kind::Answers,
            ..syn
        };
        assert_eq!(
            (syn.kind, Segment::of(&answer)),
            (Kind::Asks, Some(answers))
        );
        // With options of IPv4 its ports are elsewhere.
        let mut long = v4();
        long[14] = 0x46;
        long.splice(34..34, [1; 4]);
        assert_eq!(Segment::of(&long), Some(syn));
        for len in 0..48 {
            assert_eq!(Segment::of(&v4()[..len]), None, "{len}");
        }
        long[14] = 0x4f;
        assert_eq!(Segment::of(&long), None);
    }

    #[test]
    fn ipv6_asks_as_well() {
        let mut frame = alloc::vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, TCP, 64]);
        frame.extend([0xfd; 16]);
        frame.extend([0xfe; 16]);
        frame.extend(&v4()[34..]);
        let syn = Segment::of(&frame).unwrap();
        assert_eq!(syn.kind, Kind::Asks);
        assert_eq!(syn.ends.local.port(), 80);
        assert_eq!(syn.ends.remote.ip(), IpAddr::from([0xfd; 16]));
        assert_eq!(syn.ends.local.ip(), IpAddr::from([0xfe; 16]));
        // Behind an extension it is the same.
        frame[20] = 0;
        frame.splice(54..54, [TCP, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(Segment::of(&frame), Some(syn));
        frame[20] = 44;
        assert_eq!(Segment::of(&frame), None);
    }
}
