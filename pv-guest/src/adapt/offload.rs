//! Checksums of TCP and UDP between a network stack that leaves them to others
//! and a backend that may or may not make them.

use core::ops::Range;

#[cfg(feature = "smoltcp")]
use crate::netfront::Protocol;
use crate::netfront::{Checksum, ETHERNET_BYTES, Features, Offload, Received};

const TCP: u8 = 6;
const UDP: u8 = 17;
pub(super) const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const IPV6_BYTES: usize = 40;
/// Headers of IPv6 that may stand between its own and that of TCP or UDP.
const MOST_EXTENSIONS: usize = 8;

/// What a packet's checksum is made of.
struct Layout {
    /// What the backend must be able to do to fill it in.
    feature: Features,
    /// The IP header's addresses.
    addresses: Range<usize>,
    protocol: u8,
    /// What is summed, and where the sum stands.
    body: Range<usize>,
    checksum: usize,
}

pub(super) fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*pair))
}

const fn fold(mut sum: u32) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of the Internet checksum, not inverted. Source: RFC 1071.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum = u64::from(start);
    for word in words {
        sum += u64::from(u32::from_be_bytes(*word));
    }
    let (pairs, last) = rest.as_chunks::<2>();
    for pair in pairs {
        sum += u64::from(u16::from_be_bytes(*pair));
    }
    if let Some(last) = last.first() {
        sum += u64::from(*last) << 8;
    }
    let high = u32::from(fold((sum >> 32) as u32));
    fold(high + u32::from(fold(sum as u32)))
}

/// Bytes of the largest packet.
#[cfg(feature = "smoltcp")]
pub(super) const MOST_BYTES: usize = hypercall_abi::io::netif::XEN_NETIF_MAX_TX_SIZE;

/// Which kind of TCP a packet is of, if it is.
#[cfg(feature = "smoltcp")]
pub(super) fn protocol(packet: &[u8]) -> Option<Protocol> {
    let layout = Layout::of(packet).filter(|layout| layout.protocol == TCP)?;
    Some(match layout.feature {
        Features::CHECKSUM_V4 => Protocol::TcpV4,
        _ => Protocol::TcpV6,
    })
}

/// The sum of whole words.
#[cfg(feature = "smoltcp")]
pub(super) fn internet_sum(bytes: &[u8]) -> u16 {
    sum(bytes, 0)
}

impl Layout {
    /// That of a whole packet of TCP or UDP.
    fn of(packet: &[u8]) -> Option<Self> {
        const IP: usize = ETHERNET_BYTES;
        let (feature, addresses, protocol, start, end) = match number(packet, 12)? {
            IPV4 => {
                let start = IP + usize::from(packet.get(IP)? & 0xf) * 4;
                let end = IP + usize::from(number(packet, IP + 2)?);
                // A fragment has only a part of what is summed.
                if number(packet, IP + 6)? & 0x3fff != 0 {
                    return None;
                }
                let protocol = *packet.get(IP + 9)?;
                (
                    Features::CHECKSUM_V4,
                    IP + 12..IP + 20,
                    protocol,
                    start,
                    end,
                )
            }
            IPV6 => {
                let end = IP + IPV6_BYTES + usize::from(number(packet, IP + 4)?);
                let (protocol, start) = skip_extensions(packet, *packet.get(IP + 6)?)?;
                (Features::CHECKSUM_V6, IP + 8..IP + 40, protocol, start, end)
            }
            _ => return None,
        };
        let checksum = match protocol {
            TCP => start + 16,
            UDP => start + 6,
            _ => return None,
        };
        (checksum + 2 <= end && end <= packet.len()).then_some(Self {
            feature,
            addresses,
            protocol,
            body: start..end,
            checksum,
        })
    }

    fn pseudo(&self, packet: &[u8]) -> u16 {
        let len = self.body.len() as u32;
        let addresses = packet.get(self.addresses.clone()).unwrap_or_default();
        sum(addresses, u32::from(self.protocol) + len)
    }

    fn sum(&self, packet: &[u8]) -> u16 {
        let body = packet.get(self.body.clone()).unwrap_or_default();
        sum(body, self.pseudo(packet).into())
    }

    fn put(&self, packet: &mut [u8], value: u16) {
        if let Some(field) = packet.get_mut(self.checksum..self.checksum + 2) {
            field.copy_from_slice(&value.to_be_bytes());
        }
    }
}

/// The header after IPv6's extensions, and where it begins.
fn skip_extensions(packet: &[u8], first: u8) -> Option<(u8, usize)> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let (mut next, mut at) = (first, ETHERNET_BYTES + IPV6_BYTES);
    for _ in 0..MOST_EXTENSIONS {
        if !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION) {
            return Some((next, at));
        }
        next = *packet.get(at)?;
        at += (usize::from(*packet.get(at + 1)?) + 1) * 8;
    }
    None
}

/// Gets a packet ready whose checksum the stack has left out: for the backend,
/// if that can fill it in, or with one.
pub(super) fn prepare(packet: &mut [u8], features: Features) -> Offload {
    let mut offload = Offload::default();
    if let Some(layout) = Layout::of(packet) {
        if features.contains(layout.feature) {
            let pseudo = layout.pseudo(packet);
            layout.put(packet, pseudo);
            offload.checksum = Checksum::Blank;
        } else {
            layout.put(packet, 0);
            let whole = !layout.sum(packet);
            // Of UDP, zero means that there is none.
            let is_none = whole == 0 && layout.protocol == UDP;
            layout.put(packet, if is_none { !0 } else { whole });
        }
    }
    offload
}

/// Whether a packet is to be passed on to a stack that does not look.
pub(super) fn is_right(packet: &[u8], received: &Received) -> bool {
    if received.offload.checksum != Checksum::Complete {
        return true;
    }
    let Some(layout) = Layout::of(packet) else {
        return true;
    };
    let has_none = layout.protocol == UDP
        && layout.feature == Features::CHECKSUM_V4
        && number(packet, layout.checksum) == Some(0);
    has_none || layout.sum(packet) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// A datagram from 10.0.0.1:53 to 10.0.0.2:4660, with "hello" in it.
    fn datagram() -> Vec<u8> {
        let mut bytes = alloc::vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        bytes.extend([
            0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        bytes.extend([0, 53, 0x12, 0x34, 0, 13, 0, 0]);
        bytes.extend(b"hello");
        bytes
    }

    const RECEIVED: Received = Received {
        len_bytes: 0,
        offload: Offload {
            checksum: Checksum::Complete,
            segmentation: None,
        },
        hash: None,
        queue: 0,
    };

    #[test]
    fn sums_are_those_of_the_rfc() {
        // The example of RFC 1071, section 3.
        assert_eq!(
            sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0),
            0xddf2
        );
        assert_eq!(sum(&[], 0), 0);
        assert_eq!(sum(&[0xff; 65_535], 0), 0xff00);
        assert_eq!(sum(&[1, 2, 3], 0), 0x0402);
    }

    #[test]
    fn checksums_are_made_and_looked_at() {
        let mut packet = datagram();
        assert_eq!(prepare(&mut packet, Features::empty()), Offload::default());
        assert!(is_right(&packet, &RECEIVED));
        for at in [26, 34, 40, 41, 42, 46] {
            packet[at] ^= 1;
            assert!(!is_right(&packet, &RECEIVED), "{at}");
            packet[at] ^= 1;
        }
        let blank = prepare(&mut packet, Features::CHECKSUM_V4);
        assert_eq!(blank.checksum, Checksum::Blank);
        // 10.0.0.1 + 10.0.0.2 + 17 + 13.
        assert_eq!(number(&packet, 40), Some(0x1421));
        // Without one, and cut short: nothing to look at.
        packet[40..42].fill(0);
        assert!(is_right(&packet, &RECEIVED));
        for len in 0..packet.len() {
            let mut part = packet[..len].to_vec();
            assert_eq!(prepare(&mut part, Features::all()), Offload::default());
            assert!(is_right(&part, &RECEIVED));
        }
        // A fragment's is not its own.
        packet[20] = 0x20;
        packet[41] = 1;
        assert!(is_right(&packet, &RECEIVED));
    }

    #[test]
    fn extensions_of_ipv6_are_passed_over() {
        let mut packet = alloc::vec![0; 12];
        packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 29, 0, 64]);
        packet.extend([0xfd; 32]);
        packet.extend([60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]);
        packet.extend([0, 53, 0x12, 0x34, 0, 13, 0, 0, 1, 2, 3, 4, 5]);
        assert_eq!(prepare(&mut packet, Features::empty()), Offload::default());
        assert_ne!(number(&packet, 76), Some(0));
        assert!(is_right(&packet, &RECEIVED));
        packet[80] ^= 4;
        assert!(!is_right(&packet, &RECEIVED));
        // Of UDP over IPv6, there must be one.
        packet[76..78].fill(0);
        assert!(!is_right(&packet, &RECEIVED));
    }
}
