//! What a frontend sends.

use hypercall_abi::io::{
    netif::{
        NetTxFlags, NetifExtraFlags, NetifExtraGso, NetifExtraInfo, NetifExtraType, NetifGsoType,
        NetifStatus, NetifTxRequest, NetifTxResponse, XEN_NETIF_NR_SLOTS_MIN,
    },
    ring::Notify,
};
use zerocopy::{FromBytes, IntoBytes};

use super::{Net, Queue};
use crate::{
    core::memory::Access,
    services::{
        Services,
        backends::{Checksum, Frame, Segments},
    },
};

/// The shortest packet: an Ethernet header.
const MIN_BYTES: usize = 14;
/// Groups that it passes. Source: Linux's `XEN_NETBK_MCAST_MAX`.
const MAX_GROUPS: usize = 64;

/// A packet that was sent is wrong.
struct Wrong;

impl Net {
    /// Takes all packets that the frontend has sent.
    pub(super) fn take_sent(&mut self, services: &mut Services) {
        let mut queues = std::mem::take(&mut self.queues);
        for queue in &mut queues {
            loop {
                if queue.is_broken {
                    break;
                }
                match queue.tx.pop::<NetifTxRequest>() {
                    Ok(Some(request)) => self.take_packet(services, queue, request),
                    Ok(None) if queue.tx.listen() => {}
                    Ok(None) => break,
                    Err(_) => queue.is_broken = true,
                }
            }
            if queue.tx.publish() == Notify::Yes
                && let Some((port, _)) = queue.ports.first()
            {
                services.notify_front(self.domids.1, *port);
            }
        }
        self.queues = queues;
    }

    /// Takes one packet, of which `first` is the first request.
    fn take_packet(&mut self, services: &mut Services, queue: &mut Queue, first: NetifTxRequest) {
        let mut requests = vec![first];
        let mut extras = Vec::new();
        let flags = |request: &NetifTxRequest| NetTxFlags::from_bits_retain(request.flags);
        let mut more = flags(&first).contains(NetTxFlags::EXTRA_INFO);
        while more {
            let Ok(Some(extra)) = queue.tx.pop::<NetifExtraInfo>() else {
                queue.is_broken = true;
                return;
            };
            more = NetifExtraFlags::from_bits_retain(extra.flags).contains(NetifExtraFlags::MORE);
            extras.push(extra);
        }
        while requests
            .last()
            .is_some_and(|last| flags(last).contains(NetTxFlags::MORE_DATA))
        {
            match queue.tx.pop::<NetifTxRequest>() {
                Ok(Some(request)) => requests.push(request),
                _ => {
                    queue.is_broken = true;
                    return;
                }
            }
        }
        let status = match self.packet(services, &requests, &extras) {
            Ok(frame) => {
                self.sent.extend(frame);
                NetifStatus::OKAY
            }
            Err(Wrong) => NetifStatus::ERROR,
        };
        // The first slot, those of more information, and the rest.
        for (index, request) in requests.iter().enumerate() {
            queue.last = NetifTxResponse {
                id: request.id,
                status,
            };
            let _room = queue.tx.push(&queue.last);
            let nothing = NetifTxResponse {
                id: 0xdead,
                status: NetifStatus::NULL,
            };
            for _ in extras.iter().filter(|_| index == 0) {
                let _room = queue.tx.push(&nothing);
            }
        }
    }

    /// The packet that these requests are; none, if they were about something
    /// else.
    fn packet(
        &mut self,
        services: &mut Services,
        requests: &[NetifTxRequest],
        extras: &[NetifExtraInfo],
    ) -> Result<Option<Frame>, Wrong> {
        let mut frame = Frame::default();
        for extra in extras {
            match extra.r#type {
                NetifExtraType::GSO if self.config.segments => {
                    let gso = NetifExtraGso::read_from_bytes(extra.u.as_bytes());
                    let gso = gso.map_err(|_| Wrong)?;
                    frame.segments = Some(match gso.r#type {
                        NetifGsoType::TCPV4 if gso.size > 0 => Segments::TcpV4(gso.size),
                        NetifGsoType::TCPV6 if gso.size > 0 => Segments::TcpV6(gso.size),
                        _ => return Err(Wrong),
                    });
                }
                kind @ (NetifExtraType::MCAST_ADD | NetifExtraType::MCAST_DEL) => {
                    let group = extra.u.as_bytes().first_chunk().copied();
                    let group = group.filter(|_| self.config.multicast).ok_or(Wrong)?;
                    let place = self.groups.iter().position(|known| *known == group);
                    if kind == NetifExtraType::MCAST_DEL {
                        place.map(|place| self.groups.remove(place));
                    } else if self.groups.len() < MAX_GROUPS {
                        self.groups.push(group);
                    } else {
                        return Err(Wrong);
                    }
                    return Ok(None);
                }
                _ => return Err(Wrong),
            }
        }
        let Some((first, others)) = requests.split_first() else {
            return Err(Wrong);
        };
        if services.happens(|faults| faults.io_fails) || requests.len() > XEN_NETIF_NR_SLOTS_MIN {
            return Err(Wrong);
        }
        let total = usize::from(first.size);
        let rest: usize = others.iter().map(|other| usize::from(other.size)).sum();
        let own = total.checked_sub(rest).ok_or(Wrong)?;
        let most = match frame.segments {
            Some(_) => usize::from(u16::MAX),
            None => usize::from(self.config.mtu) + MIN_BYTES + 4,
        };
        if total < MIN_BYTES || total > most || (!others.is_empty() && !self.config.segments) {
            return Err(Wrong);
        }
        let flags = NetTxFlags::from_bits_retain(first.flags);
        frame.checksum = if flags.contains(NetTxFlags::CSUM_BLANK) {
            Checksum::Blank
        } else if flags.contains(NetTxFlags::DATA_VALIDATED) {
            Checksum::Validated
        } else {
            Checksum::Complete
        };
        let (domid, front) = self.domids;
        for (index, request) in requests.iter().enumerate() {
            let len = if index == 0 {
                own
            } else {
                usize::from(request.size)
            };
            let used = services.acquire(domid, front, request.gref, Access::Read);
            let used = used.map_err(|_| Wrong)?;
            let at = frame.bytes.len();
            frame.bytes.resize(at + len, 0);
            let page = services.granted_page(&used);
            let part = page.and_then(|page| page.get(usize::from(request.offset), len));
            let copied = part.map(|part| part.copy_to(&mut frame.bytes[at..]));
            match self.hoards_all {
                true => self.hoarded.push(used),
                false => services.release(&used, Access::Read),
            }
            copied.ok_or(Wrong)?;
        }
        let is_blank = frame.checksum == Checksum::Blank;
        self.checksum_fixups += u64::from(frame.segments.is_some() && !is_blank);
        match frame.settle() {
            Some(is_v6) if frame.checksum == Checksum::Blank => match is_v6 {
                true if !self.config.checksums_v6 => Err(Wrong),
                false if !self.config.checksums_v4 => Err(Wrong),
                _ => Ok(Some(frame)),
            },
            Some(_) => Ok(Some(frame)),
            // Linux's has answered by then.
            None => Ok(None),
        }
    }
}
