//! Packets by hand: what tells whether an interface works, whoever has a stack.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use load_plan::{ECHO_PORT, GUEST, SERVER};
use pv_guest::{
    Error,
    netfront::{Checksum, Mac, Nic, Offload, Received},
    println,
};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
        EthernetRepr, IpAddress, IpProtocol, IpRepr, Ipv4Address, Ipv4Packet, Ipv6Address,
        Ipv6Packet, UdpPacket, UdpRepr,
    },
};

/// How long an answer may take before it is asked for again.
const ANSWER: Duration = Duration::from_secs(2);
/// How often it is asked for: a bridge may have just got the interface.
const TRIES: u32 = 15;
/// The server's address in IPv6, and the guest's.
pub(crate) const SERVER6: Ipv6Address = Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
/// The guest's.
pub(crate) const GUEST6: Ipv6Address = Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// The guest's port.
const PORT: u16 = 49_151;
const HEADER_BYTES: usize = 14;
const UDP_BYTES: usize = 8;
const HOP_LIMIT: u8 = 64;

type Result<T> = core::result::Result<T, Error>;

pub(crate) const fn v4([a, b, c, d]: [u8; 4]) -> Ipv4Address {
    Ipv4Address::new(a, b, c, d)
}

/// The next packet that `is_it` takes, if it comes in time.
pub(crate) async fn wait_for<T>(
    nic: &Nic<'static>,
    time: Duration,
    mut is_it: impl FnMut(&[u8], Received) -> Option<T>,
) -> Result<Option<T>> {
    let mut packet = Vec::new();
    let come = async {
        loop {
            let received = nic.receive(&mut packet).await;
            let received = received.map_err(|_| Error::Failed("an interface does not receive"))?;
            if let Some(it) = is_it(&packet, received) {
                return Ok(it);
            }
        }
    };
    nic.bus().timeout(time, come).await.ok().transpose()
}

/// Asks domain 0 for its hardware address, and waits for the answer.
pub(crate) async fn round_trip(nic: &Nic<'static>, own: Mac) -> Result<()> {
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(own.0),
        source_protocol_addr: v4(GUEST),
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: v4(SERVER),
    };
    let mut bytes = ethernet(
        own,
        Mac([0xff; 6]),
        EthernetProtocol::Arp,
        request.buffer_len(),
    );
    let mut arp = ArpPacket::new_unchecked(bytes.get_mut(HEADER_BYTES..).unwrap_or_default());
    request.emit(&mut arp);
    for _ in 0..TRIES {
        send(nic, &bytes, Offload::default()).await?;
        let answer = wait_for(nic, ANSWER, |packet, _| {
            let arp = ArpPacket::new_checked(packet.get(HEADER_BYTES..)?).ok()?;
            let is_it = arp.operation() == ArpOperation::Reply
                && arp.source_protocol_addr() == v4(SERVER).octets()
                && arp.target_hardware_addr() == own.0;
            is_it.then_some(())
        });
        if answer.await?.is_some() {
            return Ok(());
        }
    }
    // Whether it was sent, and whether anything came, tells where it got lost.
    println!("devices: {:?}, {:?}", nic.status(), nic.counters());
    Err(Error::Failed("nobody answers a packet"))
}

/// Sends a packet.
async fn send(nic: &Nic<'static>, packet: &[u8], offload: Offload) -> Result<()> {
    let sent = nic.send(&[packet], offload).await;
    sent.map_err(|_| Error::Failed("an interface does not send"))
}

/// The start of a packet with room for so many bytes more.
fn ethernet(from: Mac, to: Mac, ethertype: EthernetProtocol, len_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES + len_bytes];
    let header = EthernetRepr {
        src_addr: EthernetAddress(from.0),
        dst_addr: EthernetAddress(to.0),
        ethertype,
    };
    header.emit(&mut EthernetFrame::new_unchecked(&mut bytes));
    bytes
}

/// The sum that stands in the place of a checksum which others fill in.
fn pseudo_sum(ip: &IpRepr, len_bytes: usize) -> u16 {
    let mut words: Vec<u8> = Vec::new();
    for address in [ip.src_addr(), ip.dst_addr()] {
        match address {
            IpAddress::Ipv4(address) => words.extend(address.octets()),
            IpAddress::Ipv6(address) => words.extend(address.octets()),
        }
    }
    words.extend([0, u8::from(IpProtocol::Udp)]);
    words.extend((len_bytes as u16).to_be_bytes());
    let (pairs, _) = words.as_chunks::<2>();
    let mut sum: u32 = pairs
        .iter()
        .map(|pair| u32::from(u16::from_be_bytes(*pair)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A datagram to domain 0's echo, whose checksum is there or blank.
fn datagram(own: Mac, to: Mac, ip: &IpRepr, payload: &[u8], checksum: Checksum) -> Vec<u8> {
    let len_bytes = UDP_BYTES + payload.len();
    let ethertype = match ip {
        IpRepr::Ipv4(_) => EthernetProtocol::Ipv4,
        IpRepr::Ipv6(_) => EthernetProtocol::Ipv6,
    };
    let mut bytes = ethernet(own, to, ethertype, ip.header_len() + len_bytes);
    let all = ChecksumCapabilities::default();
    let (_, packet) = bytes.split_at_mut(HEADER_BYTES);
    ip.emit(&mut *packet, &all);
    let (_, body) = packet.split_at_mut(ip.header_len());
    let mut udp = UdpPacket::new_unchecked(body);
    let header = UdpRepr {
        src_port: PORT,
        dst_port: ECHO_PORT,
    };
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    let fill = |body: &mut [u8]| body.copy_from_slice(payload);
    header.emit(&mut udp, &from, &to, payload.len(), fill, &all);
    if checksum == Checksum::Blank {
        udp.set_checksum(pseudo_sum(ip, len_bytes));
    }
    bytes
}

/// The body of the echo's answer.
fn echoed(packet: &[u8]) -> Option<&[u8]> {
    let ethernet = EthernetFrame::new_checked(packet).ok()?;
    let udp = match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            (ip.next_header() == IpProtocol::Udp).then(|| ip.payload())?
        }
        EthernetProtocol::Ipv6 => {
            let ip = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
            (ip.next_header() == IpProtocol::Udp).then(|| ip.payload())?
        }
        _ => return None,
    };
    let udp = UdpPacket::new_checked(udp).ok()?;
    let is_it = udp.src_port() == ECHO_PORT && udp.dst_port() == PORT;
    is_it.then(|| udp.payload())
}

/// Which protocol a datagram goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    fn ip(self, payload_len: usize) -> IpRepr {
        let (from, to) = match self {
            Self::V4 => (v4(GUEST).into(), v4(SERVER).into()),
            Self::V6 => (GUEST6.into(), SERVER6.into()),
        };
        IpRepr::new(
            from,
            to,
            IpProtocol::Udp,
            UDP_BYTES + payload_len,
            HOP_LIMIT,
        )
    }
}

/// Has a datagram sent back by domain 0, and says how its checksum came. None: nobody
/// sent it back.
pub(crate) async fn echo(
    nic: &Nic<'static>,
    (own, server): (Mac, Mac),
    family: Family,
    checksum: Checksum,
) -> Result<Option<Checksum>> {
    let mut payload = [0; 500];
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte = (at % 251) as u8 ^ checksum as u8;
    }
    let packet = datagram(own, server, &family.ip(payload.len()), &payload, checksum);
    let offload = Offload {
        checksum,
        ..Offload::default()
    };
    for _ in 0..TRIES {
        send(nic, &packet, offload).await?;
        let answer = wait_for(nic, ANSWER, |packet, received| {
            (echoed(packet)? == payload).then_some(received.offload.checksum)
        });
        if let Some(checksum) = answer.await? {
            return Ok(Some(checksum));
        }
    }
    Ok(None)
}
