//! Packets on a bridge, and what a backend does for those who cannot do it
//! themselves: checksums, and cutting into segments.

use std::ops::Range;

/// How things are with a packet's checksum of TCP or UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It is there; nobody has looked.
    #[default]
    Complete,
    /// It is there, and right.
    Validated,
    /// Only that of the pseudo header is.
    Blank,
}

/// How a large packet is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// TCP over IPv4, of so many bytes each.
    TcpV4(u16),
    /// TCP over IPv6.
    TcpV6(u16),
}

impl Segments {
    pub(super) const fn bytes(self) -> u16 {
        match self {
            Self::TcpV4(bytes) | Self::TcpV6(bytes) => bytes,
        }
    }
}

/// A packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Its checksum.
    pub checksum: Checksum,
    /// How it is to be cut.
    pub segments: Option<Segments>,
}

/// Where things are in a packet.
struct Layout {
    /// The addresses of the IP header.
    addresses: Range<usize>,
    protocol: u8,
    /// Where the header of TCP or UDP begins, and where its checksum is.
    header: usize,
    checksum: usize,
    end: usize,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const IP: usize = 14;

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(target) = bytes.get_mut(at..at + 2) {
        target.copy_from_slice(&value.to_be_bytes());
    }
}

/// The sum of the Internet checksum, not inverted.
fn sum(bytes: &[u8], start: u32) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let words = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)));
    let last = rest.first().map(|byte| u32::from(*byte) << 8);
    fold(words.chain(last).fold(start, u32::wrapping_add))
}

const fn fold(mut sum: u32) -> u32 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

impl Layout {
    fn of(bytes: &[u8]) -> Option<Self> {
        let (addresses, protocol, header, end) = match number(bytes, 12)? {
            0x0800 => {
                let header = IP + usize::from(bytes.get(IP)? & 15) * 4;
                let end = IP + usize::from(number(bytes, IP + 2)?);
                (IP + 12..IP + 20, *bytes.get(IP + 9)?, header, end)
            }
            0x86dd => {
                let end = IP + 40 + usize::from(number(bytes, IP + 4)?);
                (IP + 8..IP + 40, *bytes.get(IP + 6)?, IP + 40, end)
            }
            _ => return None,
        };
        let checksum = match protocol {
            TCP => header + 16,
            UDP => header + 6,
            _ => return None,
        };
        (checksum + 2 <= end && end <= bytes.len()).then_some(Self {
            addresses,
            protocol,
            header,
            checksum,
            end,
        })
    }

    /// The sum of the pseudo header.
    fn pseudo(&self, bytes: &[u8]) -> u32 {
        let len = (self.end - self.header) as u32;
        sum(
            &bytes[self.addresses.clone()],
            fold(u32::from(self.protocol) + len),
        )
    }
}

impl Frame {
    /// Looks at what is left to the backend, as Linux's does: segments have a blank
    /// checksum, whatever was said. Says whether it is IPv6's; none: there is something
    /// to be filled in, and nobody knows where.
    pub(super) fn settle(&mut self) -> Option<bool> {
        let is_v6 = number(&self.bytes, 12) == Some(0x86dd);
        let is_blank = self.checksum == Checksum::Blank;
        if !is_blank && self.segments.is_none() {
            return Some(is_v6);
        }
        let layout = Layout::of(&self.bytes)?;
        // A fragment has no checksum of its own.
        if !is_v6 && number(&self.bytes, IP + 6)? & 0x3fff != 0 {
            return None;
        }
        if !is_blank {
            let pseudo = layout.pseudo(&self.bytes);
            put(&mut self.bytes, layout.checksum, pseudo as u16);
            self.checksum = Checksum::Blank;
        }
        Some(is_v6)
    }

    /// A packet as it is on a wire.
    pub const fn whole(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            checksum: Checksum::Complete,
            segments: None,
        }
    }

    /// Whether the checksum of TCP or UDP is right: of one that is blank,
    /// whether it is that of the pseudo header. Others have none to be wrong.
    pub fn is_right(&self) -> bool {
        let Some(layout) = Layout::of(&self.bytes) else {
            return true;
        };
        let pseudo = layout.pseudo(&self.bytes);
        match self.checksum {
            Checksum::Blank => number(&self.bytes, layout.checksum).map(u32::from) == Some(pseudo),
            _ => sum(&self.bytes[layout.header..layout.end], pseudo) == 0xffff,
        }
    }

    /// The packets that a wire would carry: cut, with checksums.
    pub fn on_wire(&self) -> Vec<Vec<u8>> {
        let mut whole = vec![self.bytes.clone()];
        if let Some(segments) = self.segments {
            whole = cut(&self.bytes, segments).unwrap_or_default();
        } else if self.checksum != Checksum::Blank {
            return whole;
        }
        for bytes in &mut whole {
            fill_in(bytes);
        }
        whole
    }
}

fn fill_in(bytes: &mut [u8]) {
    let Some(layout) = Layout::of(bytes) else {
        return;
    };
    put(bytes, layout.checksum, 0);
    let pseudo = layout.pseudo(bytes);
    let whole = !(sum(&bytes[layout.header..layout.end], pseudo) as u16);
    // Of UDP, zero means that there is none.
    let whole = if whole == 0 && layout.protocol == UDP {
        0xffff
    } else {
        whole
    };
    put(bytes, layout.checksum, whole);
}

fn cut(bytes: &[u8], segments: Segments) -> Option<Vec<Vec<u8>>> {
    let layout = Layout::of(bytes).filter(|layout| layout.protocol == TCP)?;
    let headers = layout.header + usize::from(bytes.get(layout.header + 12)? >> 4) * 4;
    let (head, payload) = (bytes.get(..headers)?, bytes.get(headers..layout.end)?);
    let first = u32::from_be_bytes(*head.get(layout.header + 4..)?.first_chunk()?);
    let size = usize::from(segments.bytes().max(1));
    let count = payload.len().div_ceil(size).max(1);
    let mut all = Vec::new();
    for (index, part) in payload.chunks(size).enumerate() {
        let mut one = [head, part].concat();
        let sequence = first.wrapping_add((index * size) as u32);
        one[layout.header + 4..layout.header + 8].copy_from_slice(&sequence.to_be_bytes());
        if index + 1 < count {
            // FIN and PSH are the last one's.
            one[layout.header + 13] &= !0b1001;
        }
        match segments {
            Segments::TcpV4(_) => {
                let len = (one.len() - IP) as u16;
                put(&mut one, IP + 2, len);
                let id = number(&one, IP + 4)?.wrapping_add(index as u16);
                put(&mut one, IP + 4, id);
                put(&mut one, IP + 10, 0);
                let own = !(sum(&one[IP..layout.header], 0) as u16);
                put(&mut one, IP + 10, own);
            }
            Segments::TcpV6(_) => {
                let len = (one.len() - layout.header) as u16;
                put(&mut one, IP + 4, len);
            }
        }
        all.push(one);
    }
    Some(all)
}
