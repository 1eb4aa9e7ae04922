//! How large the packets are that a stack sends, and that it says it takes, if it was told
//! of a larger MTU than there is.
//!
//! `smoltcp` 0.14 makes large packets of TCP over IPv6 and drops those above its MTU, and so
//! it is told of one that none is above. What it says of that to others, and they to it, is
//! put right on its way.
//!
//! Source: RFC 9293, 3.2 and 3.7.1; RFC 2132, 9.10.

use alloc::vec::Vec;
use core::{
    net::{Ipv6Addr, SocketAddrV6},
    num::NonZeroU16,
};

use crate::netfront::{
    ETHERNET_BYTES,
    checksum::{IPV4, IPV6, TCP, UDP, carried, number},
};

const IP: usize = ETHERNET_BYTES;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const SYN: u8 = 0x02;
/// Where a message of DHCP has its options, and a server its port.
const DHCP_OPTIONS: usize = 240;
const DHCP_SERVER: u16 = 67;
/// Numbers of options.
const MAX_SEGMENT: u8 = 2;
const MAX_MESSAGE: u8 = 57;
/// What a peer takes over IPv6 that does not say it, and what each is believed to take:
/// as smoltcp has it.
const UNTOLD_BYTES: u16 = 1220;
const MIN_BYTES: u16 = 48;

/// The largest segment that an interface takes which has this MTU.
fn max_segment(packet: &[u8], mtu: u16) -> u16 {
    let ip_bytes = match number(packet, 12) {
        Some(IPV4) => IPV4_BYTES,
        _ => IPV6_BYTES,
    };
    mtu.saturating_sub((ip_bytes + TCP_BYTES) as u16)
}

/// How options stand one behind the other.
struct Form {
    padding: u8,
    end: u8,
    /// Whether an option's length counts its number and itself.
    counted: usize,
}

const OF_TCP: Form = Form {
    padding: 1,
    end: 0,
    counted: 2,
};
const OF_DHCP: Form = Form {
    padding: 0,
    end: 255,
    counted: 0,
};

impl Form {
    /// Has `act` look at each option of this number that has two bytes.
    fn each(&self, options: &mut [u8], wanted: u8, mut act: impl FnMut(&mut [u8; 2])) {
        let _end = self.each_of(options, wanted, &mut act);
    }

    fn each_of(
        &self,
        mut options: &mut [u8],
        wanted: u8,
        act: &mut impl FnMut(&mut [u8; 2]),
    ) -> Option<()> {
        loop {
            let (kind, rest) = options.split_first_mut()?;
            if *kind == self.padding {
                options = rest;
                continue;
            }
            if *kind == self.end {
                return None;
            }
            let (len, rest) = rest.split_first_mut()?;
            let len = usize::from(*len).checked_sub(self.counted)?;
            let (value, rest) = rest.split_at_mut_checked(len)?;
            if *kind == wanted
                && let Ok(value) = value.try_into()
            {
                act(value);
            }
            options = rest;
        }
    }
}

/// The options of a SYN; None: it is another packet.
fn syn_options(packet: &mut [u8]) -> Option<&mut [u8]> {
    let (protocol, start) = carried(packet)?;
    if protocol != TCP || packet.get(start + 13)? & SYN == 0 {
        return None;
    }
    let end = start + usize::from(packet.get(start + 12)? >> 4) * 4;
    packet.get_mut(start + TCP_BYTES..end)
}

/// What has an option say no more than that.
fn bound(most: u16) -> impl FnMut(&mut [u8; 2]) {
    move |bytes| *bytes = u16::from_be_bytes(*bytes).min(most).to_be_bytes()
}

/// Has a SYN say of no larger segments than the MTU has room for.
pub(super) fn bound_segments(packet: &mut [u8], mtu: u16) {
    let most = max_segment(packet, mtu);
    if let Some(options) = syn_options(packet) {
        OF_TCP.each(options, MAX_SEGMENT, bound(most));
    }
}

/// Has a packet of this side's own ask for nothing that is larger than the MTU: a SYN, or a
/// question to a DHCP server.
pub(super) fn bound_wishes(packet: &mut [u8], mtu: u16) {
    match carried(packet) {
        Some((TCP, _)) => bound_segments(packet, mtu),
        Some((UDP, start)) if number(packet, start + 2) == Some(DHCP_SERVER) => {
            let options = packet.get_mut(start + UDP_BYTES + DHCP_OPTIONS..);
            OF_DHCP.each(options.unwrap_or_default(), MAX_MESSAGE, bound(mtu));
        }
        _ => {}
    }
}

/// Both ends of a connection over IPv6: the other one, and the port of this.
pub(crate) type Ends = (SocketAddrV6, u16);

/// Who takes smaller segments than the interface does.
#[derive(Debug, Default)]
pub(super) struct Limits(Vec<(Ends, u16)>);

impl Limits {
    /// Takes down what `packet` says of segments, which came from the other end of a
    /// connection as its first. Those of connections that are no more are forgotten.
    pub(super) fn note(
        &mut self,
        packet: &mut [u8],
        mtu: u16,
        ends: Ends,
        is_there: impl Fn(Ends) -> bool,
    ) {
        let most = max_segment(packet, mtu);
        let Some(options) = syn_options(packet) else {
            return;
        };
        let mut told = None;
        OF_TCP.each(options, MAX_SEGMENT, |bytes| {
            let bytes = u16::from_be_bytes(*bytes);
            // None is no size, and of several the least holds.
            if bytes > 0 {
                told = Some(told.map_or(bytes, |told: u16| told.min(bytes)));
            }
        });
        let told = told.unwrap_or(UNTOLD_BYTES);
        self.0.retain(|(other, _)| *other != ends);
        if told < most {
            self.0.retain(|(other, _)| is_there(*other));
            self.0.push((ends, told.max(MIN_BYTES)));
        }
    }

    /// Whether a packet of TCP over IPv6 of so many bytes may have to be cut.
    pub(super) const fn may_cut(&self, len_bytes: usize, mtu: u16) -> bool {
        let least = IP + IPV6_BYTES + TCP_BYTES + MIN_BYTES as usize;
        len_bytes > mtu as usize + ETHERNET_BYTES || !self.0.is_empty() && len_bytes > least
    }

    /// Bytes of payload in each segment that a packet of TCP over IPv6 is to be cut into;
    /// None: it is another one, or has no more than that.
    pub(super) fn segment_bytes(&self, packet: &[u8], mtu: u16) -> Option<NonZeroU16> {
        let (TCP, start) = carried(packet).filter(|_| number(packet, 12) == Some(IPV6))? else {
            return None;
        };
        let mut most = max_segment(packet, mtu);
        if !self.0.is_empty() {
            let to: [u8; 16] = *packet.get(IP + 24..)?.first_chunk()?;
            let remote = SocketAddrV6::new(Ipv6Addr::from(to), number(packet, start + 2)?, 0, 0);
            let ends = (remote, number(packet, start)?);
            let told = self.0.iter().find(|(other, _)| *other == ends);
            most = told.map_or(most, |(_, told)| most.min(*told));
        }
        let header_bytes = usize::from(packet.get(start + 12)? >> 4) * 4;
        let options_bytes = header_bytes.checked_sub(TCP_BYTES)?;
        let most = most.checked_sub(options_bytes as u16)?;
        let payload_bytes = packet.len().checked_sub(start + header_bytes)?;
        NonZeroU16::new(most).filter(|_| payload_bytes > usize::from(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Ends = (SocketAddrV6::new(Ipv6Addr::LOCALHOST, 77, 0, 0), 80);

    /// A packet of TCP over IPv6 from 80 to ::1, 77, with so many bytes of payload.
    fn tcp(flags: u8, options: &[u8], payload_bytes: usize) -> Vec<u8> {
        let mut packet = alloc::vec![2; 12];
        packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, TCP, 64]);
        packet.extend([0xfd; 16]);
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend([0, 80, 0, 77, 0, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([
            0x50 + (options.len() as u8 / 4) * 16,
            flags,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        packet.extend(options);
        packet.resize(packet.len() + payload_bytes, 9);
        packet
    }

    fn noted(options: &[u8]) -> Limits {
        let mut limits = Limits::default();
        limits.note(&mut tcp(SYN, options, 0), 1500, ENDS, |_| true);
        limits
    }

    #[test]
    fn who_takes_little_gets_little() {
        for (options, most) in [
            (&[2, 4, 0x10, 0][..], 1440),
            (&[2, 4, 5, 0xa0], 1440),
            (&[1, 1, 1, 2, 4, 4, 0, 0], 1024),
            (&[3, 3, 7, 2, 4, 0, 100, 0], 100),
            (&[2, 4, 0, 1], 48),
            (&[2, 4, 3, 0xe8, 2, 4, 0x10, 0], 1000),
            (&[2, 4, 0x10, 0, 2, 4, 3, 0xe8], 1000),
            // Who says nothing.
            (&[2, 4, 0, 0], 1220),
            (&[], 1220),
            (&[0, 0, 0, 0, 2, 4, 4, 0], 1220),
            (&[2, 3, 4, 0], 1220),
            (&[9, 1, 2, 4, 4, 0, 0, 0], 1220),
            (&[9, 9, 2, 4], 1220),
        ] {
            let limits = noted(options);
            assert_eq!(limits.segment_bytes(&tcp(0, &[], most), 1500), None);
            let cut = limits.segment_bytes(&tcp(0, &[], most + 1), 1500);
            assert_eq!(cut, NonZeroU16::new(most as u16), "{options:?}");
            let with_times = limits.segment_bytes(&tcp(0, &[1; 12], 5000), 1500);
            assert_eq!(with_times, NonZeroU16::new((most - 12) as u16));
            // Another is none of them.
            let mut other = tcp(0, &[], 5000);
            other[57] = 78;
            let cut = limits.segment_bytes(&other, 1500);
            assert_eq!(cut, NonZeroU16::new(1440));
            assert!(limits.may_cut(1515, 1500) && !limits.may_cut(74, 1500));
            assert_eq!(limits.may_cut(1300, 1500), most < 1440);
        }
        let mut datagram = tcp(0, &[], 5000);
        datagram[20] = UDP;
        assert_eq!(noted(&[]).segment_bytes(&datagram, 1500), None);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut limits = noted(&[2, 4, 1, 0]);
        for port in 1..100 {
            let ends = (ENDS.0, port);
            let there = |other| other == ends || other == ENDS;
            limits.note(&mut tcp(SYN, &[2, 4, 1, 0], 0), 1500, ends, there);
            assert!(limits.0.len() <= 3);
        }
        // He begins anew, and takes all.
        limits.note(&mut tcp(SYN, &[2, 4, 9, 0], 0), 1500, ENDS, |_| true);
        let cut = limits.segment_bytes(&tcp(0, &[], 5000), 1500);
        assert_eq!(cut, NonZeroU16::new(1440));
    }

    #[test]
    fn only_a_first_packet_is_changed_and_only_if_it_says_too_much() {
        let mut syn = tcp(SYN, &[1, 2, 4, 0x23, 0x28, 1, 1, 1], 0);
        let before = syn.clone();
        bound_segments(&mut syn, 9060);
        assert_eq!(syn, before);
        bound_segments(&mut syn, 1500);
        assert_eq!(syn[77..79], 1440_u16.to_be_bytes());
        syn[77..79].copy_from_slice(&before[77..79]);
        assert_eq!(syn, before);
        let mut other = tcp(0x18, &[1, 2, 4, 0x23, 0x28, 1, 1, 1], 30);
        let before = other.clone();
        bound_wishes(&mut other, 1500);
        assert_eq!(other, before);
        // Cut short anywhere, or with headers that say anything.
        for len in 0..syn.len() {
            bound_wishes(&mut syn[..len].to_vec(), 1500);
            let _limits = noted(&syn[len..][..len.min(40).min(syn.len() - len)]);
        }
        for value in 0..=u8::MAX {
            for at in [12, 14, 20, 66, 74, 75, 76] {
                let mut odd = syn.clone();
                odd[at] = value;
                bound_wishes(&mut odd, 1500);
                bound_segments(&mut odd, 0);
                let _cut = Limits::default().segment_bytes(&odd, 0);
            }
        }
    }
}
