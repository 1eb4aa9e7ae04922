//! A packet of TCP as several smaller ones, for a backend that cannot cut it or an
//! interface of a smaller MTU: those that the stack was made for could, and had a larger one.

use alloc::vec::Vec;
use core::num::NonZeroU16;

use super::offload::{IPV4, internet_sum, protocol};
use crate::netfront::{ETHERNET_BYTES, checksum::number};

const IP: usize = ETHERNET_BYTES;
const IPV6_BYTES: usize = 40;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;

/// Packets of up to `segment_bytes` of the payload of `packet`, without checksums of
/// TCP. None: it is no whole packet of TCP.
pub(super) fn segments(
    packet: &[u8],
    segment_bytes: NonZeroU16,
) -> impl Iterator<Item = Vec<u8>> + '_ {
    let (tcp, headers, payload) = parts(packet).unwrap_or_default();
    let mut chunks = payload.chunks(usize::from(segment_bytes.get())).peekable();
    let mut done = 0;
    core::iter::from_fn(move || {
        let chunk = chunks.next()?;
        let mut segment = [headers, chunk].concat();
        finish(&mut segment, tcp, done, chunks.peek().is_none());
        done += chunk.len();
        Some(segment)
    })
}

/// The largest payload of TCP that fits into `max_bytes` with the headers of `packet`;
/// `None`: there is none, or it is no packet of TCP.
pub(super) fn max_payload(packet: &[u8], max_bytes: usize) -> Option<NonZeroU16> {
    protocol(packet)?;
    let (_, headers, _) = parts(packet)?;
    let room = max_bytes.checked_sub(headers.len())?;
    NonZeroU16::new(u16::try_from(room).unwrap_or(u16::MAX))
}

/// Where the header of TCP is, all headers, and the rest.
fn parts(packet: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let tcp = match number(packet, 12)? {
        IPV4 => IP + usize::from(packet.get(IP)? & 0xf) * 4,
        _ => IP + IPV6_BYTES,
    };
    let header_bytes = tcp + usize::from(packet.get(tcp + 12)? >> 4) * 4;
    let (headers, payload) = packet.split_at_checked(header_bytes)?;
    (header_bytes >= tcp + 20).then_some((tcp, headers, payload))
}

/// Makes a segment's headers its own: that of the whole packet, which begins `done`
/// bytes before it.
fn finish(segment: &mut [u8], tcp: usize, done: usize, is_last: bool) {
    let put = |segment: &mut [u8], at: usize, value: u16| {
        if let Some(field) = segment.get_mut(at..at + 2) {
            field.copy_from_slice(&value.to_be_bytes());
        }
    };
    let is_v4 = number(segment, 12) == Some(IPV4);
    let start = if is_v4 { IP } else { IP + IPV6_BYTES };
    let len_bytes = segment.len().saturating_sub(start) as u16;
    if is_v4 {
        put(segment, IP + 2, len_bytes);
        put(segment, IP + 10, 0);
        let checksum = !internet_sum(segment.get(IP..tcp).unwrap_or_default());
        put(segment, IP + 10, checksum);
    } else {
        put(segment, IP + 4, len_bytes);
    }
    let sequence = segment.get_mut(tcp + 4..).and_then(<[u8]>::first_chunk_mut);
    if let Some(sequence) = sequence {
        *sequence = u32::from_be_bytes(*sequence)
            .wrapping_add(done as u32)
            .to_be_bytes();
    }
    if let Some(flags) = segment.get_mut(tcp + 13).filter(|_| !is_last) {
        *flags &= !(FIN | PSH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segments_are_the_whole() {
        let payload: Vec<u8> = (0..5000_u32).map(|byte| byte as u8).collect();
        for is_v4 in [true, false] {
            let mut packet = [2; 12].to_vec();
            if is_v4 {
                packet.extend([8, 0, 0x45, 0, 0x13, 0xb0, 0, 7, 0x40, 0, 64, 6, 0, 0]);
                packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            } else {
                packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0x13, 0x9c, 6, 64]);
                packet.extend([0xfd; 32]);
            }
            let tcp = packet.len();
            packet.extend([0, 80, 0x80, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9]);
            packet.extend([0x50, 0x19, 0x10, 0, 0, 0, 0, 0]);
            let headers = packet.len();
            packet.extend(&payload);
            let size = NonZeroU16::new(1460).unwrap();
            let all: Vec<_> = segments(&packet, size).collect();
            let lens: Vec<_> = all.iter().map(|one| one.len() - headers).collect();
            assert_eq!(lens, [1460, 1460, 1460, 620]);
            let bytes: Vec<_> = all.iter().flat_map(|one| &one[headers..]).collect();
            assert!(bytes.into_iter().eq(&payload));
            for (index, one) in all.iter().enumerate() {
                let [length, len] = match is_v4 {
                    true => [IP + 2, one.len() - IP],
                    false => [IP + 4, one.len() - IP - IPV6_BYTES],
                };
                assert_eq!(number(one, length), Some(len as u16));
                assert!(!is_v4 || internet_sum(&one[IP..tcp]) == 0xffff);
                let sequence = u32::MAX.wrapping_add(index as u32 * 1460);
                assert_eq!(one[tcp + 4..tcp + 8], sequence.to_be_bytes());
                assert_eq!(one[tcp + 13], if index == 3 { 0x19 } else { 0x10 });
            }
            let most = max_payload(&packet, headers + 1460);
            assert_eq!(most, Some(size));
            assert_eq!(max_payload(&packet, headers), None);
            packet[if is_v4 { IP + 9 } else { IP + 6 }] = 17;
            assert_eq!(max_payload(&packet, headers + 1460), None);
            for len in 0..headers {
                assert_eq!(segments(&packet[..len], size).count(), 0);
            }
        }
    }
}
