//! Segments of TCP, as far as it takes to make one packet of several.

use super::{ETHERNET_BYTES, Protocol};

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const TCP: u8 = 6;
/// Four bits each: version, and words of a header without options.
const PLAIN_IPV4: u8 = 0x45;
const IP: usize = ETHERNET_BYTES;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// A packet with a part of a stream, and nothing special about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) protocol: Protocol,
    sequence: u32,
    /// Where the header of TCP is.
    tcp: usize,
    /// Bytes of all headers.
    pub(super) header_bytes: usize,
    /// Bytes behind them.
    pub(super) payload_bytes: usize,
    /// The sender has no more just now.
    pub(super) is_last: bool,
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*pair))
}

/// The sum of two numbers as Internet checksums have it.
const fn sum(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(carry as u16)
}

impl Segment {
    /// `None`: this is another kind of packet.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let rest = packet.len().checked_sub(IP)?;
        let (protocol, tcp, next, said) = match packet.get(12..14)? {
            kind if kind == IPV4 => {
                let is_whole = number(packet, IP + 6)? & 0x3fff == 0;
                let is_plain = *packet.get(IP)? == PLAIN_IPV4 && is_whole;
                let said = number(packet, IP + 2).filter(|_| is_plain)?;
                (Protocol::TcpV4, IP + IPV4_BYTES, IP + 9, said)
            }
            kind if kind == IPV6 => {
                let said = number(packet, IP + 4)?.checked_add(IPV6_BYTES as u16)?;
                (Protocol::TcpV6, IP + IPV6_BYTES, IP + 6, said)
            }
            _ => return None,
        };
        let header = packet.get(tcp..)?.first_chunk::<TCP_BYTES>()?;
        let [_, _, _, _, s3, s2, s1, s0, _, _, _, _, words, flags, ..] = *header;
        let header_bytes = tcp + usize::from(words >> 4) * 4;
        let payload_bytes = packet.len().checked_sub(header_bytes)?;
        let is_ours = *packet.get(next)? == TCP
            && usize::from(said) == rest
            && header_bytes >= tcp + TCP_BYTES
            && flags & !PSH == ACK
            && payload_bytes > 0;
        is_ours.then_some(Self {
            protocol,
            sequence: u32::from_be_bytes([s3, s2, s1, s0]),
            tcp,
            header_bytes,
            payload_bytes,
            is_last: flags & PSH != 0,
        })
    }

    /// Whether `next`, whose headers are `theirs`, is the part of the same stream
    /// behind this one, whose headers are like `own`.
    pub(super) fn goes_on_with(&self, own: &[u8], next: &Self, theirs: &[u8]) -> bool {
        // As words: IP's header and TCP's begin with one.
        let words = |headers| {
            let headers: &[u8] = headers;
            let (first, rest) = headers.get(..self.header_bytes)?.split_first_chunk()?;
            const { assert!(IP % 4 == 2) };
            Some((first as &[u8; 2], rest.as_chunks::<4>().0))
        };
        let (Some(own), Some(theirs)) = (words(own), words(theirs)) else {
            return false;
        };
        let is_same = |(index, (own, theirs)): (usize, (&[u8; 4], &[u8; 4]))| {
            let differs = u32::from_be_bytes(*own) ^ u32::from_be_bytes(*theirs);
            differs == 0 || differs & self.common(index * 4 + IP % 4) == 0
        };
        self.sequence.wrapping_add(self.payload_bytes as u32) == next.sequence
            && self.header_bytes == next.header_bytes
            && own.0 == theirs.0
            && own.1.iter().zip(theirs.1).enumerate().all(is_same)
    }

    /// The bits of the headers' word at `at` that all packets of a stream have in
    /// common: not lengths, the number of an IPv4 packet, the place in the stream, the
    /// flag at its end, and checksums.
    const fn common(&self, at: usize) -> u32 {
        const FIRST: u32 = 0xffff_0000;
        const SECOND: u32 = 0xffff;
        match (
            self.protocol,
            at.wrapping_sub(IP),
            at.wrapping_sub(self.tcp),
        ) {
            (_, _, 4) => 0,
            (_, _, 12) => !((PSH as u32) << 16),
            (_, _, 16) => SECOND,
            (Protocol::TcpV4, 0 | 8, _) => FIRST,
            (Protocol::TcpV4 | Protocol::TcpV6, 4, _) => SECOND,
            _ => u32::MAX,
        }
    }

    /// Makes its headers those of a packet that has the next parts, too: all of
    /// `payload_bytes`. Its checksum is left to the backend, in whose place is the
    /// sum of the addresses and the length.
    pub(super) fn extend(&self, headers: &mut [u8], payload_bytes: usize, is_last: bool) {
        let more = payload_bytes.saturating_sub(self.payload_bytes) as u16;
        let change = |headers: &mut [u8], at: usize, to: &dyn Fn(u16) -> u16| {
            if let Some(field) = headers.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *field = to(u16::from_be_bytes(*field)).to_be_bytes();
            }
        };
        let longer = |len: u16| len.wrapping_add(more);
        match self.protocol {
            Protocol::TcpV4 => {
                change(headers, IP + 2, &longer);
                change(headers, IP + 10, &|checksum| !sum(!checksum, more));
            }
            Protocol::TcpV6 => change(headers, IP + 4, &longer),
        }
        change(headers, self.tcp + 16, &|blank| sum(blank, more));
        if let Some(flags) = headers.get_mut(self.tcp + 13).filter(|_| is_last) {
            *flags |= PSH;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// A packet, with a right checksum of IPv4 and the sum of addresses and length in
    /// the place of TCP's.
    fn packet(protocol: Protocol, sequence: u32, payload: &[u8], flags: u8) -> Vec<u8> {
        let tcp_bytes = (TCP_BYTES + payload.len()) as u16;
        let mut packet = [2; 12].to_vec();
        let addresses = match protocol {
            Protocol::TcpV4 => {
                packet.extend(IPV4);
                let mut ip = [0x45, 0, 0, 0, 7, 7, 0x40, 0, 64, TCP, 0, 0].to_vec();
                ip[2..4].copy_from_slice(&(tcp_bytes + 20).to_be_bytes());
                ip.extend([10, 0, 0, 1, 10, 0, 0, 2]);
                let checksum = !words(&ip);
                ip[10..12].copy_from_slice(&checksum.to_be_bytes());
                packet.extend(&ip);
                words(&ip[12..])
            }
            Protocol::TcpV6 => {
                packet.extend(IPV6);
                packet.extend([0x60, 0, 0, 0]);
                packet.extend(tcp_bytes.to_be_bytes());
                packet.extend([TCP, 64]);
                packet.extend([0xfd; 32]);
                words(&[0xfd; 32])
            }
        };
        packet.extend([0, 80, 0x80, 0]);
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 9, 0x50, flags, 0x10, 0]);
        let blank = sum(sum(addresses, TCP.into()), tcp_bytes);
        packet.extend(blank.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        packet
    }

    fn words(bytes: &[u8]) -> u16 {
        let (pairs, _) = bytes.as_chunks::<2>();
        let words = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
        words.fold(0, sum)
    }

    #[test]
    fn a_longer_packet_is_as_if_it_had_been_made_so() {
        for protocol in [Protocol::TcpV4, Protocol::TcpV6] {
            let both: Vec<u8> = (0..5000_u32).map(|byte| byte as u8).collect();
            let mut joined = packet(protocol, u32::MAX - 5, &both[..1460], ACK);
            let next = packet(protocol, 1454, &both[1460..], ACK | PSH);
            let [first, second] = [&joined, &next].map(|packet| Segment::of(packet).unwrap());
            assert!(first.goes_on_with(&joined, &second, &next));
            assert!(!second.goes_on_with(&next, &first, &joined));
            assert_eq!((first.is_last, second.is_last), (false, true));
            joined.extend(&both[1460..]);
            first.extend(&mut joined, both.len(), true);
            assert_eq!(joined, packet(protocol, u32::MAX - 5, &both, ACK | PSH));
        }
    }

    #[test]
    fn another_stream_or_anything_special_does_not_join() {
        let first = packet(Protocol::TcpV4, 0, &[1; 100], ACK);
        let next = packet(Protocol::TcpV4, 100, &[1; 100], ACK);
        let segment = Segment::of(&first).unwrap();
        for (at, value) in [
            (0, 3),       // another machine
            (IP + 1, 8),  // another kind of service
            (IP + 8, 63), // another time to live
            (IP + 13, 9), // addresses
            (IP + 19, 9),
            (IP + 21, 81), // ports
            (IP + 23, 1),
            (IP + 31, 8),   // what is acknowledged
            (IP + 35, 1),   // the window
            (IP + 27, 101), // the place
        ] {
            let mut other = next.clone();
            other[at] = value;
            let other_segment = Segment::of(&other).unwrap();
            assert!(
                !segment.goes_on_with(&first, &other_segment, &other),
                "{at}"
            );
        }
        for (at, value) in [
            (13, 6),             // ARP
            (IP, 0x46),          // options
            (IP + 3, 1),         // another length
            (IP + 6, 0x20),      // a fragment
            (IP + 9, 17),        // UDP
            (IP + 32, 0x40),     // a header that is too short
            (IP + 32, 0xf0),     // one that is longer than the packet, but for some
            (IP + 33, ACK | 1),  // the end
            (IP + 33, ACK | 2),  // the begin
            (IP + 33, ACK | 4),  // a reset
            (IP + 33, ACK | 32), // urgent
            (IP + 33, 0),
        ] {
            let mut other = next.clone();
            other[at] = value;
            let segment = Segment::of(&other);
            assert!(segment.is_none() || (at, value) == (IP + 32, 0xf0), "{at}");
        }
        for len in 0..IP + IPV4_BYTES + TCP_BYTES + 1 {
            assert!(Segment::of(&next[..len]).is_none());
        }
        assert!(Segment::of(&packet(Protocol::TcpV6, 0, &[], ACK)).is_none());
    }
}
