//! What an interface is, as its toolstack and its backend say.

use core::{fmt, str::FromStr};

use bitflags::bitflags;

use crate::xenbus::{Fault, Nodes, Offer, Trust};

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text is no hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMac;

impl FromStr for Mac {
    type Err = NoMac;

    /// Six numbers, as `00:16:3e:01:02:03`.
    fn from_str(text: &str) -> Result<Self, NoMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(NoMac)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NoMac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| NoMac)?;
        }
        parts.next().map_or(Ok(Self(bytes)), |_| Err(NoMac))
    }
}

/// Whether there is somebody at the other end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// There is.
    Up,
    /// There is nobody: nothing arrives.
    Down,
}

bitflags! {
    /// What a backend can do with what is sent to it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Features: u32 {
        /// Fill in checksums of TCP and UDP over IPv4.
        const CHECKSUM_V4 = 1 << 0;
        /// Those over IPv6.
        const CHECKSUM_V6 = 1 << 1;
        /// Cut TCP over IPv4 into segments.
        const SEGMENT_V4 = 1 << 2;
        /// Cut TCP over IPv6 into segments.
        const SEGMENT_V6 = 1 << 3;
        /// Packets of several pieces.
        const SCATTER = 1 << 4;
        /// Pass only the multicast groups that are asked for.
        const MULTICAST = 1 << 5;
        /// Choose queues by a hash that this side says how to make.
        const STEERING = 1 << 6;
    }
}

/// What an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its hardware address.
    pub mac: Mac,
    /// Bytes of a packet without its Ethernet header: 1500 at most without
    /// [`Features::SCATTER`].
    pub mtu: u16,
    /// Whether the wire is there.
    pub carrier: Carrier,
    /// What its backend can do.
    pub features: Features,
    /// Queues that are used.
    pub queues: usize,
}

/// Bytes of an Ethernet header.
pub const ETHERNET_BYTES: usize = 14;
const USUAL_MTU: u16 = 1500;
/// What IPv4 asks of all.
const MIN_MTU: u16 = 68;
/// With an Ethernet header, and a tag, what a request's size can say.
const MAX_MTU: u16 = 65_517;

impl Interface {
    pub(super) const BACKEND_KEYS: &'static [&'static str] = &[
        "feature-rx-copy",
        "feature-sg",
        "feature-gso-tcpv4",
        "feature-gso-tcpv6",
        "feature-no-csum-offload",
        "feature-ipv6-csum-offload",
        "feature-multicast-control",
        "feature-split-event-channels",
        "feature-ctrl-ring",
        "multi-queue-max-queues",
        "carrier",
    ];
    pub(super) const OWN_KEYS: &'static [&'static str] = &["mac", "mtu", Trust::KEY];

    /// Source: `io/netif.h`.
    pub(super) fn read(offer: &Offer, queues: usize) -> Result<Self, Fault> {
        if !offer.backend.has("feature-rx-copy") {
            return Err(Fault::Lacks("feature-rx-copy"));
        }
        let mtu = offer.own.number("mtu").ok().flatten().unwrap_or(USUAL_MTU);
        let features = features(&offer.backend);
        let most = match features.contains(Features::SCATTER) {
            true => MAX_MTU,
            // So Linux has it of such a backend.
            false => USUAL_MTU,
        };
        Ok(Self {
            mac: offer.own.required("mac")?,
            mtu: mtu.clamp(MIN_MTU, most),
            carrier: Self::carrier(&offer.backend),
            features,
            queues,
        })
    }

    /// A wire that nobody speaks of is there.
    pub(super) fn carrier(nodes: &Nodes) -> Carrier {
        match nodes.number("carrier") {
            Ok(Some(0_u32)) => Carrier::Down,
            _ => Carrier::Up,
        }
    }
}

fn features(nodes: &Nodes) -> Features {
    let mut features = Features::empty();
    features.set(Features::CHECKSUM_V4, !nodes.has("feature-no-csum-offload"));
    for (name, feature) in [
        ("feature-ipv6-csum-offload", Features::CHECKSUM_V6),
        ("feature-gso-tcpv4", Features::SEGMENT_V4),
        ("feature-gso-tcpv6", Features::SEGMENT_V6),
        ("feature-sg", Features::SCATTER),
        ("feature-multicast-control", Features::MULTICAST),
        ("feature-ctrl-ring", Features::STEERING),
    ] {
        features.set(feature, nodes.has(name));
    }
    // A large packet is one of several pieces, and each segment gets a checksum.
    for (segments, checksums) in [
        (Features::SEGMENT_V4, Features::CHECKSUM_V4),
        (Features::SEGMENT_V6, Features::CHECKSUM_V6),
    ] {
        if !features.contains(Features::SCATTER | checksums) {
            features.remove(segments);
        }
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_six_numbers() {
        let mac: Mac = "00:16:3e:0a:FF:01".parse().unwrap();
        assert_eq!(mac.0, [0, 0x16, 0x3e, 10, 255, 1]);
        assert_eq!(
            alloc::string::ToString::to_string(&mac),
            "00:16:3e:0a:ff:01"
        );
        for wrong in [
            "",
            "00",
            "00:16:3e:0a:ff",
            "00:16:3e:0a:ff:01:02",
            "0:1:2:3:4:5",
            "+1:16:3e:0a:ff:01",
        ] {
            assert_eq!(wrong.parse::<Mac>(), Err(NoMac), "{wrong}");
        }
    }
}
