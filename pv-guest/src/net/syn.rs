//! The first packet of each side of a connection, seen before smoltcp sees it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const ETHERNET_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
/// Bits of a fragment that is not all of a packet: more of them, and where this one lies.
const FRAGMENT: u16 = 0x3fff;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A packet with SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syn {
    pub(super) kind: Kind,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// What a packet with SYN does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It asks for a connection.
    Asks,
    /// It is the answer to one that did.
    Answers,
}

impl Syn {
    /// What a frame says of a connection, if it is its sender's first. Nothing else of it is
    /// looked at: the stack does that.
    ///
    /// Source: RFC 791, 3.1; RFC 8200, 3; RFC 9293, 3.1.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let (ethernet, packet) = frame.split_at_checked(ETHERNET_BYTES)?;
        let kind = u16::from_be_bytes(*ethernet.last_chunk()?);
        let (tcp, from, to): (&[u8], IpAddr, IpAddr) = match kind {
            IPV4 => {
                let header_bytes = usize::from(packet.first()? & 0xf) * 4;
                let header: &[u8; 20] = packet.first_chunk()?;
                let [
                    ..,
                    f0,
                    f1,
                    _,
                    protocol,
                    _,
                    _,
                    s0,
                    s1,
                    s2,
                    s3,
                    d0,
                    d1,
                    d2,
                    d3,
                ] = *header;
                if protocol != TCP || u16::from_be_bytes([f0, f1]) & FRAGMENT != 0 {
                    return None;
                }
                let from = Ipv4Addr::new(s0, s1, s2, s3);
                let to = Ipv4Addr::new(d0, d1, d2, d3);
                (packet.get(header_bytes..)?, from.into(), to.into())
            }
            IPV6 => {
                let (header, rest) = packet.split_at_checked(IPV6_BYTES)?;
                if *header.get(6)? != TCP {
                    return None;
                }
                let from: [u8; 16] = *header.get(8..)?.first_chunk()?;
                let to: [u8; 16] = *header.last_chunk()?;
                (rest, Ipv6Addr::from(from).into(), Ipv6Addr::from(to).into())
            }
            _ => return None,
        };
        let [s0, s1, d0, d1] = *tcp.first_chunk()?;
        let kind = match *tcp.get(13)? & (SYN | RST | ACK) {
            SYN => Kind::Asks,
            flags if flags == SYN | ACK => Kind::Answers,
            _ => return None,
        };
        Some(Self {
            kind,
            local: SocketAddr::new(to, u16::from_be_bytes([d0, d1])),
            remote: SocketAddr::new(from, u16::from_be_bytes([s0, s1])),
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
    fn only_first_packets_are_looked_at() {
        let syn = Syn::of(&v4()).unwrap();
        assert_eq!(syn.local, "10.0.0.2:80".parse().unwrap());
        assert_eq!(syn.remote, "10.0.0.9:8080".parse().unwrap());
        for (at, value) in [
            (13, 6),
            (20, 0x20),
            (21, 1),
            (23, 17),
            (47, ACK),
            (47, SYN | RST),
        ] {
            let mut other = v4();
            other[at] = value;
            assert_eq!(Syn::of(&other), None, "{at}");
        }
        let mut answer = v4();
        answer[47] |= ACK;
        let answers = Syn {
            kind: Kind::Answers,
            ..syn
        };
        assert_eq!((syn.kind, Syn::of(&answer)), (Kind::Asks, Some(answers)));
        // With options of IPv4 its ports are elsewhere.
        let mut long = v4();
        long[14] = 0x46;
        long.splice(34..34, [1; 4]);
        assert_eq!(Syn::of(&long), Some(syn));
        for len in 0..48 {
            assert_eq!(Syn::of(&v4()[..len]), None, "{len}");
        }
        long[14] = 0x4f;
        assert_eq!(Syn::of(&long), None);
    }

    #[test]
    fn ipv6_asks_as_well() {
        let mut frame = alloc::vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, TCP, 64]);
        frame.extend([0xfd; 16]);
        frame.extend([0xfe; 16]);
        frame.extend(&v4()[34..]);
        let syn = Syn::of(&frame).unwrap();
        assert_eq!(syn.local.port(), 80);
        assert_eq!(syn.remote.ip(), IpAddr::from([0xfd; 16]));
        assert_eq!(syn.local.ip(), IpAddr::from([0xfe; 16]));
        frame[20] = 0;
        assert_eq!(Syn::of(&frame), None);
    }
}
