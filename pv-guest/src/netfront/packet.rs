//! What goes with a packet.

use core::num::NonZeroU16;

use hypercall_abi::io::netif::NetifGsoType;

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
