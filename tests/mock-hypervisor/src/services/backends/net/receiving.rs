//! What a frontend is given.

use hypercall_abi::{
    PAGE_SIZE,
    io::{
        netif::{
            NetRxFlags, NetifExtraFlags, NetifExtraGso, NetifExtraHash, NetifExtraInfo,
            NetifExtraType, NetifGsoType, NetifRxRequest, NetifRxResponse, NetifStatus,
            XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
        },
        ring::Notify,
    },
};

use super::{MAX_WAITING, Net};
use crate::{
    core::memory::Access,
    services::{
        Services,
        backends::{Checksum, Frame, Segments},
    },
};

impl Net {
    /// A packet comes for the frontend.
    pub(super) fn offer(&mut self, frame: &Frame) {
        let Some(target) = frame.bytes.first_chunk::<6>() else {
            return;
        };
        let is_group = target[0] & 1 != 0;
        let is_wanted = match is_group {
            false => *target == self.config.mac,
            true => *target == [0xff; 6] || !self.takes.joined || self.groups.contains(target),
        };
        if is_wanted && !self.queues.is_empty() && self.waiting.len() < MAX_WAITING {
            let is_v6 = frame.bytes.get(12..14) == Some(&[0x86, 0xdd]);
            let (checksums, segments) = match is_v6 {
                true => (self.takes.checksum_v6, self.takes.segments_v6),
                false => (self.takes.checksum_v4, self.takes.segments_v4),
            };
            let is_blank = frame.checksum == Checksum::Blank;
            if (is_blank && !checksums) || (frame.segments.is_some() && !segments) {
                let wire = frame.on_wire().into_iter();
                self.waiting.extend(wire.map(Frame::whole));
            } else {
                self.waiting.push_back(frame.clone());
            }
        }
    }

    /// Gives the frontend what waits, as far as it has room.
    pub(super) fn deliver(&mut self, services: &mut Services) {
        let (domid, front) = self.domids;
        let count = self.queues.len();
        while let Some(frame) = self.waiting.front() {
            let steered = self
                .steering
                .as_ref()
                .and_then(|it| it.choose(&frame.bytes));
            // A connection's packets come in their order, by one queue.
            let flow = match frame.bytes.get(12..14) {
                Some([0x08, 0x00]) => frame.bytes.get(26..38),
                Some([0x86, 0xdd]) => frame.bytes.get(22..58),
                _ => None,
            };
            let flow = flow.unwrap_or_default().iter();
            let index = flow.fold(0_usize, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
            });
            let index = steered.map_or(index % count.max(1), |(_, _, queue)| queue as usize);
            let Some(queue) = self.queues.get_mut(index) else {
                break;
            };
            while let Ok(Some(request)) = queue.rx.pop::<NetifRxRequest>() {
                queue.posted.push_back(request);
            }
            let extras = extras(frame, steered, self.takes.headroom);
            let needed = frame.bytes.len().div_ceil(PAGE_SIZE).max(1) + extras.len();
            if queue.posted.len() < needed {
                // It is rung for when there is more.
                if queue.is_broken || !queue.rx.listen() {
                    break;
                }
                continue;
            }
            let Some(frame) = self.waiting.pop_front() else {
                break;
            };
            let mut posted = queue.posted.drain(..needed);
            let chunks = frame.bytes.chunks(PAGE_SIZE);
            let last = chunks.len().saturating_sub(1);
            for (index, chunk) in chunks.enumerate() {
                let Some(request) = posted.next() else {
                    break;
                };
                let mut flags = NetRxFlags::empty();
                flags.set(NetRxFlags::MORE_DATA, index < last);
                if index == 0 {
                    flags |= match frame.checksum {
                        Checksum::Complete => NetRxFlags::empty(),
                        Checksum::Validated => NetRxFlags::DATA_VALIDATED,
                        Checksum::Blank => NetRxFlags::CSUM_BLANK | NetRxFlags::DATA_VALIDATED,
                    };
                    flags.set(NetRxFlags::EXTRA_INFO, !extras.is_empty());
                }
                let used = services.acquire(domid, front, request.gref, Access::Write);
                let copied = used.ok().and_then(|used| {
                    let page = services.granted_page(&used);
                    let copied = page.map(|page| page.copy_from(chunk));
                    services.release(&used, Access::Write);
                    copied
                });
                let response = NetifRxResponse {
                    id: request.id,
                    flags: flags.bits(),
                    status: copied.map_or(NetifStatus::ERROR.0, |copied| copied as i16),
                    ..NetifRxResponse::default()
                };
                let _room = queue.rx.push(&response);
                for extra in extras.iter().filter(|_| index == 0) {
                    let _its = posted.next();
                    let _room = queue.rx.push(extra);
                }
            }
        }
        for queue in &mut self.queues {
            if queue.rx.publish() == Notify::Yes
                && let Some((port, _)) = queue.ports.last()
            {
                services.notify_front(front, *port);
            }
        }
    }
}

/// Linux's information about what is free before a packet.
const XDP: NetifExtraType = NetifExtraType(5);

/// More about a packet: how it is to be cut, and its hash.
fn extras(frame: &Frame, steered: Option<(u8, u32, u32)>, headroom: u16) -> Vec<NetifExtraInfo> {
    let gso = frame.segments.map(|segments| {
        let gso = NetifExtraGso {
            size: segments.bytes(),
            r#type: match segments {
                Segments::TcpV4(_) => NetifGsoType::TCPV4,
                Segments::TcpV6(_) => NetifGsoType::TCPV6,
            },
            ..NetifExtraGso::default()
        };
        (NetifExtraType::GSO, zerocopy::transmute!(gso))
    });
    let hash = steered.map(|(kind, value, _)| {
        let hash = NetifExtraHash {
            r#type: kind,
            algorithm: XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
            value: value.to_le_bytes(),
        };
        (NetifExtraType::HASH, zerocopy::transmute!(hash))
    });
    let headroom = (headroom > 0).then_some((XDP, [headroom, 0, 0]));
    let mut all: Vec<_> = gso
        .into_iter()
        .chain(hash)
        .chain(headroom)
        .map(|(r#type, u)| NetifExtraInfo {
            r#type,
            flags: NetifExtraFlags::MORE.bits(),
            u,
        })
        .collect();
    if let Some(last) = all.last_mut() {
        last.flags = NetifExtraFlags::empty().bits();
    }
    all
}
