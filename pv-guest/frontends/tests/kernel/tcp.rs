//! Packets of TCP.

use crate::nic::ethernet;

pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A packet of TCP whose checksum is to be filled in.
pub(crate) fn tcp(is_v6: bool, to: [u8; 6], payload_bytes: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload_bytes)
        .map(|at| ((at * 13) >> 3) as u8)
        .collect();
    let len = 20 + payload.len();
    let mut header = vec![0; 20];
    header[..4].copy_from_slice(&[0x1f, 0x90, 0xc0, 0x00]);
    header[4..8].copy_from_slice(&0xffff_f000_u32.to_be_bytes());
    header[12..14].copy_from_slice(&[0x50, 0x18]);
    let (ip, addresses) = if is_v6 {
        let mut ip = vec![0x60, 0, 0, 0, 0, 0, 6, 64];
        ip[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        ip.extend([0xfd; 32]);
        let addresses = ip[8..].to_vec();
        (ip, addresses)
    } else {
        let mut ip = vec![
            0x45, 0, 0, 0, 0, 9, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        ip[2..4].copy_from_slice(&((len + 20) as u16).to_be_bytes());
        let own = !sum(&[&ip]);
        ip[10..12].copy_from_slice(&own.to_be_bytes());
        let addresses = ip[12..].to_vec();
        (ip, addresses)
    };
    let pseudo = sum(&[&addresses, &[0, 6], &(len as u32).to_be_bytes()]);
    header[16..18].copy_from_slice(&pseudo.to_be_bytes());
    let kind = if is_v6 { 0x86dd } else { 0x0800 };
    ethernet(to, kind, &[ip, header, payload].concat())
}
