//! What goes with a packet.

use alloc::vec::Vec;
use core::num::NonZeroU16;

use hypercall_abi::io::netif::NetifGsoType;

use super::checksum::Layout;

/// How things are with the checksum of a packet's TCP or UDP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It is there; nobody has looked whether it is right.
    #[default]
    Complete,
    /// It is there, and right.
    Validated,
    /// In its place is that of the pseudo header (not inverted): whoever puts the
    /// packet on a wire fills in the whole. What comes like this never was on a
    /// wire, and is right.
    Blank,
}

/// What is cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
}

impl Protocol {
    pub(super) const fn from_wire(wire: NetifGsoType) -> Option<Self> {
        match wire {
            NetifGsoType::TCPV4 => Some(Self::TcpV4),
            NetifGsoType::TCPV6 => Some(Self::TcpV6),
            _ => None,
        }
    }

    pub(super) const fn to_wire(self) -> NetifGsoType {
        match self {
            Self::TcpV4 => NetifGsoType::TCPV4,
            Self::TcpV6 => NetifGsoType::TCPV6,
        }
    }
}

/// A packet that is several on the wire: larger than the MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// What is cut.
    pub protocol: Protocol,
    /// Bytes of payload of each segment but the last.
    pub segment_bytes: NonZeroU16,
}

/// What is left to others, or was done by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The checksum.
    pub checksum: Checksum,
    /// Cutting into segments.
    pub segmentation: Option<Segmentation>,
}

/// A packet's hash, by which a backend chose its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    /// The number of the bit in
    /// [`NetifHashTypes`](hypercall_abi::io::netif::NetifHashTypes).
    pub kind: u8,
    /// Its value.
    pub value: u32,
}

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of it.
    pub len_bytes: usize,
    /// What was done about it.
    pub offload: Offload,
    /// Its hash, if the backend has one.
    pub hash: Option<Hash>,
    /// The queue on which it came.
    pub queue: usize,
}

/// A packet that is to be sent, as far as it is looked at.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) len_bytes: usize,
    /// Which queue's it is.
    pub(super) flow: u32,
    pub(super) offload: Offload,
    /// Where its checksum is, if others are to do something about it.
    pub(super) layout: Option<Layout>,
}

impl Packet {
    /// The packet of these parts.
    pub(super) fn of(parts: &[&[u8]], offload: Offload) -> Self {
        let head = parts.first().copied().unwrap_or_default();
        let len_bytes = parts.iter().map(|part| part.len()).sum();
        let mut packet = Self {
            len_bytes,
            flow: flow(head),
            offload,
            layout: None,
        };
        if packet.leaves_something() {
            packet.layout = Layout::of_head(head, len_bytes);
            if packet.layout.is_none() && parts.len() > 1 {
                let whole: Vec<u8> = parts.concat();
                packet.layout = Layout::of(&whole);
            }
        }
        packet
    }

    /// The packet of `len_bytes` bytes that begins so.
    pub(super) fn of_head(head: &[u8], len_bytes: usize, offload: Offload) -> Self {
        let mut packet = Self {
            len_bytes,
            ..Self::of(&[head], Offload::default())
        };
        packet.offload = offload;
        if packet.leaves_something() {
            packet.layout = Layout::of_head(head, len_bytes);
        }
        packet
    }

    /// Whether its checksum is not simply there.
    fn leaves_something(&self) -> bool {
        self.offload.checksum == Checksum::Blank || self.offload.segmentation.is_some()
    }

    /// Whether more of it must be looked at.
    pub(super) fn needs_look(&self) -> bool {
        self.leaves_something() && self.layout.is_none()
    }
}

/// A number that is the same for all packets of a connection, so that they go by
/// one queue, in their order.
pub(super) fn flow(packet: &[u8]) -> u32 {
    const IPV4: [u8; 2] = [8, 0];
    const IPV6: [u8; 2] = [0x86, 0xdd];
    let part = match packet.get(12..14) {
        // Addresses, and ports if the header is short.
        Some(kind) if kind == IPV4 => packet.get(26..38),
        Some(kind) if kind == IPV6 => packet.get(22..58),
        _ => None,
    };
    let bytes = part.unwrap_or_default().iter();
    bytes.fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
