//! Checksums of TCP and UDP, which one side of a device may leave to the other.
//!
//! Source: `io/netif.h` (`csum_blank`), RFC 1071; and what Linux's frontend and backend
//! do about packets that come with one.

use core::ops::Range;

use super::{Checksum, ETHERNET_BYTES, Error, Features, Offload, Protocol};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
const IPV6_BYTES: usize = 40;
/// Headers of IPv6 that may stand between its own and that of TCP or UDP.
const MAX_EXTENSIONS: usize = 8;

/// What a packet's checksum is made of.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// What the backend must be able to do to fill it in.
    pub(crate) feature: Features,
    /// The IP header's addresses.
    addresses: Range<usize>,
    pub(crate) protocol: u8,
    /// What is summed, and where the sum stands.
    body: Range<usize>,
    pub(crate) checksum: usize,
}

pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u16> {
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
pub(crate) fn sum(bytes: &[u8], start: u32) -> u16 {
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

/// The sum of whole words.
#[cfg(any(feature = "embassy-net", feature = "smoltcp"))]
pub(crate) fn internet_sum(bytes: &[u8]) -> u16 {
    sum(bytes, 0)
}

impl Layout {
    /// That of a whole packet of TCP or UDP.
    pub(crate) fn of(packet: &[u8]) -> Option<Self> {
        Self::of_head(packet, packet.len())
    }

    /// That of a packet of `len_bytes` bytes which begins so. None: it is none of TCP or
    /// UDP, or not whole, or its headers are longer.
    pub(super) fn of_head(packet: &[u8], len_bytes: usize) -> Option<Self> {
        const IP: usize = ETHERNET_BYTES;
        let (protocol, start) = carried(packet)?;
        let (feature, addresses, end) = match number(packet, 12)? {
            IPV4 => {
                let end = IP + usize::from(number(packet, IP + 2)?);
                (Features::CHECKSUM_V4, IP + 12..IP + 20, end)
            }
            _ => {
                let end = IP + IPV6_BYTES + usize::from(number(packet, IP + 4)?);
                (Features::CHECKSUM_V6, IP + 8..IP + 40, end)
            }
        };
        let checksum = match protocol {
            TCP => start + 16,
            UDP => start + 6,
            _ => return None,
        };
        (checksum + 2 <= end && end <= len_bytes).then_some(Self {
            feature,
            addresses,
            protocol,
            body: start..end,
            checksum,
        })
    }

    /// Which kind of TCP it is, if it is.
    pub(crate) const fn segmented(&self) -> Option<Protocol> {
        match (self.protocol, self.feature) {
            (TCP, Features::CHECKSUM_V4) => Some(Protocol::TcpV4),
            (TCP, _) => Some(Protocol::TcpV6),
            _ => None,
        }
    }

    /// Puts the sum of the pseudo header in the checksum's place: others fill it in.
    pub(crate) fn blank(&self, packet: &mut [u8]) {
        let pseudo = self.pseudo(packet);
        self.put(packet, pseudo);
    }

    /// Fills the checksum in.
    pub(crate) fn fill(&self, packet: &mut [u8]) {
        self.put(packet, 0);
        let whole = !self.sum(packet);
        // Of UDP, zero means that there is none.
        let is_none = whole == 0 && self.protocol == UDP;
        self.put(packet, if is_none { !0 } else { whole });
    }

    fn pseudo(&self, packet: &[u8]) -> u16 {
        let len = self.body.len() as u32;
        let addresses = packet.get(self.addresses.clone()).unwrap_or_default();
        sum(addresses, u32::from(self.protocol) + len)
    }

    pub(crate) fn sum(&self, packet: &[u8]) -> u16 {
        let body = packet.get(self.body.clone()).unwrap_or_default();
        sum(body, self.pseudo(packet).into())
    }

    fn put(&self, packet: &mut [u8], value: u16) {
        if let Some(field) = packet.get_mut(self.checksum..self.checksum + 2) {
            field.copy_from_slice(&value.to_be_bytes());
        }
    }
}

/// The protocol of what a packet of IP carries, and where that begins. None: it is no whole
/// packet of IP, but a part of one, or of something else.
pub(crate) fn carried(packet: &[u8]) -> Option<(u8, usize)> {
    const IP: usize = ETHERNET_BYTES;
    match number(packet, 12)? {
        IPV4 => {
            let is_part = number(packet, IP + 6)? & 0x3fff != 0;
            let start = IP + usize::from(packet.get(IP)? & 0xf) * 4;
            (!is_part).then_some((*packet.get(IP + 9)?, start))
        }
        IPV6 => skip_extensions(packet, *packet.get(IP + 6)?),
        _ => None,
    }
}

/// The header after IPv6's extensions, and where it begins.
fn skip_extensions(packet: &[u8], first: u8) -> Option<(u8, usize)> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let (mut next, mut at) = (first, ETHERNET_BYTES + IPV6_BYTES);
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION) {
            return Some((next, at));
        }
        next = *packet.get(at)?;
        at += (usize::from(*packet.get(at + 1)?) + 1) * 8;
    }
    None
}

/// What is to be done about a packet's checksum before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fix {
    /// Nothing.
    Nothing,
    /// It is filled in: the backend cannot do that for this family.
    Fill,
    /// It is left to the backend, which wants it so of what it cuts into segments.
    Blank,
}

impl Fix {
    pub(super) fn apply(self, packet: &mut [u8]) {
        match (self, Layout::of(packet)) {
            (Self::Fill, Some(layout)) => layout.fill(packet),
            (Self::Blank, Some(layout)) => layout.blank(packet),
            (Self::Nothing, _) | (_, None) => {}
        }
    }
}

/// How a packet of this layout is sent to a backend that can do so much: `offload` as
/// the backend is told, and what is to be done before. Segmentation has been looked at.
///
/// # Errors
/// [`Error::NotSupported`]: no backend finds the checksum that it is to fill in.
pub(super) fn settle(
    features: Features,
    layout: Option<&Layout>,
    offload: Offload,
) -> Result<(Offload, Fix), Error> {
    let told = |checksum| Offload {
        checksum,
        ..offload
    };
    let is_blank = offload.checksum == Checksum::Blank;
    if let Some(segmentation) = offload.segmentation {
        let is_right = layout.and_then(Layout::segmented) == Some(segmentation.protocol);
        let fix = if is_blank { Fix::Nothing } else { Fix::Blank };
        return match is_right {
            true => Ok((told(Checksum::Blank), fix)),
            false => Err(Error::NotSupported("segmentation of what is not TCP")),
        };
    }
    if !is_blank {
        return Ok((offload, Fix::Nothing));
    }
    let layout = layout.ok_or(Error::NotSupported(
        "checksums of what is neither TCP nor UDP",
    ))?;
    Ok(match features.contains(layout.feature) {
        true => (offload, Fix::Nothing),
        false => (told(Checksum::Complete), Fix::Fill),
    })
}

/// What a packet that came is, with a checksum that whoever sends it on can leave as it
/// is. None: its checksum is to be filled in, and nobody knows where that is.
///
/// Segments have a blank checksum, whatever the backend said: that of the whole packet
/// would say nothing about them. Source: so does Linux's frontend.
pub(super) fn received(packet: &mut [u8], offload: Offload) -> Option<Offload> {
    let is_blank = offload.checksum == Checksum::Blank;
    if !is_blank && offload.segmentation.is_none() {
        return Some(offload);
    }
    let layout = Layout::of(packet)?;
    if let Some(segmentation) = offload.segmentation {
        if layout.segmented() != Some(segmentation.protocol) {
            return None;
        }
        if !is_blank {
            layout.blank(packet);
        }
    }
    Some(Offload {
        checksum: Checksum::Blank,
        ..offload
    })
}
