//! Checksums of TCP and UDP between a network stack that leaves them to others
//! and a backend that may or may not make them.

pub(super) use crate::netfront::checksum::{IPV4, internet_sum};
use crate::netfront::{
    Checksum, Features, Offload, Protocol, Received,
    checksum::{Layout, UDP, number},
};

/// Bytes of the largest packet.
#[cfg(feature = "smoltcp")]
pub(super) const MAX_BYTES: usize = hypercall_abi::io::netif::XEN_NETIF_MAX_TX_SIZE;

/// Which kind of TCP a packet is of, if it is.
pub(super) fn protocol(packet: &[u8]) -> Option<Protocol> {
    Layout::of(packet)?.segmented()
}

/// Gets a packet ready whose checksum the stack has left out: for the backend,
/// if that can fill it in, or with one.
pub(super) fn prepare(packet: &mut [u8], features: Features) -> Offload {
    let mut offload = Offload::default();
    if let Some(layout) = Layout::of(packet) {
        if features.contains(layout.feature) {
            layout.blank(packet);
            offload.checksum = Checksum::Blank;
        } else {
            layout.fill(packet);
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
    use crate::netfront::checksum::{number, sum};
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
