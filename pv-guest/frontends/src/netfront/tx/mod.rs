//! Packets that are sent.
//!
//! Each slot of the ring has a page of its own, lent for good: a packet is
//! written into the pages of as many slots as it needs. Packets that the caller
//! lends ([`GrantedBuf`](crate::GrantedBuf)) are jobs, which end when the last of
//! their slots was answered.

mod jobs;
mod train;

use alloc::vec::Vec;

use grant_tables::{Granted, PeerReads};
use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE,
    io::{
        netif::{
            NetTxFlags, NetifExtraFlags, NetifExtraGso, NetifExtraInfo, NetifExtraMcast,
            NetifExtraType, NetifStatus, NetifTxRequest, NetifTxResponse, XEN_NETIF_MAX_TX_SIZE,
            XEN_NETIF_NR_SLOTS_MIN,
        },
        ring::{FrontRing, Notify},
    },
    platform::Platform,
};
use zerocopy::{FromBytes, IntoBytes};

use super::{Checksum, Counters, Error, Features, Mac, Offload, groups::Answer};
use crate::{
    buffers::{Lender, RingPages},
    xenbus::{Fault, Trusted},
};
use jobs::Job;
use train::Train;

pub(super) use jobs::Ended;
pub(super) use train::Pushed;

/// Bytes of a slot of the ring.
const SLOT_BYTES: usize = size_of::<NetifTxRequest>();
/// Slots of it.
const SLOTS: usize = hypercall_abi::io::ring::slots(PAGE_SIZE, SLOT_BYTES);
/// Slots that every backend takes for one packet.
const MAX_PIECES: usize = XEN_NETIF_NR_SLOTS_MIN;
/// Bytes of a packet, with its Ethernet header.
pub(super) const MAX_BYTES: usize = XEN_NETIF_MAX_TX_SIZE;

/// What a slot of the ring is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nothing.
    Free,
    /// A piece of a packet in its own page.
    Own,
    /// A piece of this job's.
    Job(usize),
    /// A request without bytes, about a group.
    Group(NetifExtraType, Mac),
}

#[derive(Debug)]
struct Slot<'g, P: Platform> {
    page: Option<Granted<'g, P, PeerReads>>,
    used: Use,
}

/// One direction of a queue.
#[derive(Debug)]
pub(super) struct Tx<'g, P: Platform> {
    grants: Lender<'g, P>,
    peer: DomId,
    trusted: Trusted,
    ring: Option<FrontRing<RingPages<'g, P>, SLOT_BYTES>>,
    slots: Vec<Slot<'g, P>>,
    /// Slots that are not used, the last used on top.
    free: Vec<u16>,
    /// Slots of the ring with more information: each is answered by nothing.
    extras: u32,
    jobs: Vec<Option<Job<'g, P>>>,
    /// What the backend answered about groups, until somebody takes it.
    answers: Vec<Answer>,
    /// What the backend can do about packets that are joined.
    joins: Features,
    /// A packet that is not in the ring yet.
    train: Option<Train>,
    pub(super) counters: Counters,
}

/// A packet's pieces on their way into the ring.
type Pieces = [(GrantRef, u16); MAX_PIECES];

impl<'g, P: Platform> Tx<'g, P> {
    pub(super) fn new(grants: Lender<'g, P>) -> Self {
        let slots = (0..SLOTS).map(|_| Slot {
            page: None,
            used: Use::Free,
        });
        Self {
            grants,
            peer: DomId(0),
            trusted: Trusted::No,
            ring: None,
            slots: slots.collect(),
            free: (0..SLOTS as u16).rev().collect(),
            extras: 0,
            jobs: Vec::new(),
            answers: Vec::new(),
            joins: Features::empty(),
            train: None,
            counters: Counters::default(),
        }
    }

    /// Whether pages that are lent to `peer` may be sent: it is the backend, and trusted.
    pub(super) fn takes_lent(&self, peer: DomId) -> bool {
        self.peer == peer && self.trusted == Trusted::Yes
    }

    /// Makes a ring for `peer`.
    pub(super) fn attach(&mut self, peer: DomId, trusted: Trusted) -> Result<GrantRef, Fault> {
        self.detach();
        self.trusted = trusted;
        if core::mem::replace(&mut self.peer, peer) != peer {
            self.forget_pages();
        }
        for page in self.slots.iter_mut().filter_map(|slot| slot.page.as_mut()) {
            // What was sent before is not this backend's: it may be another's on another
            // host.
            page.bytes_mut().fill(0);
            page.renew(peer)?;
        }
        let pages = RingPages::new(self.grants, peer, 1)?;
        let gref = pages.grefs().first().copied().ok_or(Fault::NoMemory)?;
        self.ring = Some(FrontRing::new(pages).ok_or(Fault::NoMemory)?);
        Ok(gref)
    }

    /// There is no ring any more. Packets without an answer are lost, as packets
    /// may be; those who lent theirs are told so.
    pub(super) fn detach(&mut self) {
        self.ring = None;
        self.extras = 0;
        if let Some(train) = self.train.take() {
            self.counters.tx_lost += u64::from(train.segments);
            self.free.extend(train.ids().iter().rev());
        }
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else {
                break;
            };
            let used = slot.used;
            if used == Use::Free {
                continue;
            }
            if used == Use::Own {
                // The backend may be about to send it: it is not written over.
                slot.page = None;
                self.counters.pages = self.counters.pages.saturating_sub(1);
                self.counters.tx_lost += 1;
            }
            self.free_slot(index as u16, Err(Error::Lost));
        }
        self.answers.clear();
    }

    /// What the backend answered about groups.
    pub(super) fn take_answers(&mut self) -> Vec<Answer> {
        core::mem::take(&mut self.answers)
    }

    /// Says what the backend can do.
    pub(super) const fn set_features(&mut self, features: Features) {
        self.joins = features;
    }

    /// Nothing is lent any more.
    pub(super) fn forget_pages(&mut self) {
        for slot in &mut self.slots {
            slot.page = None;
        }
        self.counters.pages = 0;
    }

    /// Requests without an answer.
    pub(super) fn in_ring(&self) -> u32 {
        self.ring.as_ref().map_or(0, FrontRing::in_flight)
    }

    /// Slots that a packet needs.
    fn needed(len_bytes: usize, offload: Offload) -> usize {
        len_bytes.div_ceil(PAGE_SIZE).max(1) + usize::from(offload.segmentation.is_some())
    }

    /// Whether there is room for any packet.
    pub(super) fn has_room(&mut self, len_bytes: usize) -> Result<bool, Fault> {
        // Slots that were answered are used again first: fewer pages are lent.
        self.reclaim()?;
        Ok(self.room() > len_bytes.div_ceil(PAGE_SIZE).max(1))
    }

    fn room(&self) -> usize {
        let ring = self.ring.as_ref().map_or(0, FrontRing::room) as usize;
        let train = self.train.as_ref().map_or(0, Train::needed);
        ring.saturating_sub(train).min(self.free.len())
    }

    /// Makes sure that the next so many free slots have pages.
    fn lend_pages(&mut self, count: usize) -> Result<(), Error> {
        for id in self.free.iter().rev().take(count) {
            let Some(slot) = self.slots.get_mut(usize::from(*id)) else {
                continue;
            };
            if slot.page.is_none() {
                let page = self.grants.page().map_err(|_| Error::NoMemory)?;
                let lent = self.grants.share::<PeerReads>(self.peer, page);
                slot.page = Some(lent.map_err(|_| Error::NoMemory)?);
                self.counters.pages += 1;
            }
        }
        Ok(())
    }

    /// The page that the next packet is written into; `None`: there is none, or
    /// the packet is longer.
    pub(super) fn next_page(&mut self, len_bytes: usize) -> Option<&mut [u8]> {
        if len_bytes > PAGE_SIZE || self.room() < 2 {
            return None;
        }
        self.lend_pages(1).ok()?;
        let id = self.free.last()?;
        let page = self.slots.get_mut(usize::from(*id))?.page.as_mut()?;
        page.bytes_mut().get_mut(..len_bytes)
    }

    /// A packet that the backend would not take is dropped, as on a wire.
    pub(super) const fn drop_packet(&mut self) -> Pushed {
        self.counters.tx_dropped += 1;
        Pushed::InRing
    }

    /// Sends a packet of several parts, if there is room: `None` if there is not.
    pub(super) fn send(&mut self, parts: &[&[u8]], offload: Offload) -> Result<Option<()>, Error> {
        let len_bytes: usize = parts.iter().map(|part| part.len()).sum();
        if len_bytes > MAX_BYTES {
            return Err(Error::TooLong);
        }
        self.close_train();
        if self.room() < Self::needed(len_bytes, offload) {
            return Ok(None);
        }
        let count = len_bytes.div_ceil(PAGE_SIZE).max(1);
        self.lend_pages(count)?;
        let mut pieces: Pieces = Default::default();
        let mut source = parts.iter().flat_map(|part| part.iter().copied());
        let mut rest = len_bytes;
        for (piece, id) in pieces.iter_mut().zip(self.free.iter().rev().take(count)) {
            let slot = self.slots.get_mut(usize::from(*id));
            let Some(page) = slot.and_then(|slot| slot.page.as_mut()) else {
                return Err(Error::NoMemory);
            };
            let here = rest.min(PAGE_SIZE);
            *piece = (page.gref(), here as u16);
            let target = page.bytes_mut().get_mut(..here).unwrap_or_default();
            if let &[part] = parts {
                let from = len_bytes - rest;
                let part = part.get(from..from + here).unwrap_or_default();
                target.copy_from_slice(part);
            } else {
                target.fill_with(|| source.next().unwrap_or(0));
            }
            rest -= here;
        }
        self.push(pieces.get(..count).unwrap_or_default(), offload, Use::Own);
        Ok(Some(()))
    }

    /// Asks for a multicast group, or no longer; false: there is no room.
    pub(super) fn push_group(&mut self, kind: NetifExtraType, group: Mac) -> bool {
        if self.room() < 2 {
            return false;
        }
        let extra = extra(kind, NetifExtraMcast { addr: group.0 }.as_bytes());
        let request = NetifTxRequest {
            flags: NetTxFlags::EXTRA_INFO.bits(),
            ..NetifTxRequest::default()
        };
        self.push_request(request, Use::Group(kind, group));
        self.push_extra(&extra);
        true
    }

    /// Puts a packet into the ring, which has room for it.
    fn push(&mut self, pieces: &[(GrantRef, u16)], offload: Offload, used: Use) {
        let total: usize = pieces.iter().map(|(_, len)| usize::from(*len)).sum();
        let mut flags = match (offload.checksum, offload.segmentation) {
            (Checksum::Blank, _) | (_, Some(_)) => {
                NetTxFlags::CSUM_BLANK | NetTxFlags::DATA_VALIDATED
            }
            (Checksum::Validated, None) => NetTxFlags::DATA_VALIDATED,
            (Checksum::Complete, None) => NetTxFlags::empty(),
        };
        if offload.segmentation.is_some() {
            flags |= NetTxFlags::EXTRA_INFO;
        }
        let last = pieces.len().saturating_sub(1);
        for (index, (gref, len)) in pieces.iter().enumerate() {
            flags.set(NetTxFlags::MORE_DATA, index < last);
            let request = NetifTxRequest {
                gref: *gref,
                flags: flags.bits(),
                size: if index == 0 { total as u16 } else { *len },
                ..NetifTxRequest::default()
            };
            self.push_request(request, used);
            if index > 0 {
                continue;
            }
            if let Some(segmentation) = offload.segmentation {
                let gso = NetifExtraGso {
                    size: segmentation.segment_bytes.get(),
                    r#type: segmentation.protocol.to_wire(),
                    ..NetifExtraGso::default()
                };
                self.push_extra(&extra(NetifExtraType::GSO, gso.as_bytes()));
            }
            // Those are the first piece's.
            flags = NetTxFlags::empty();
        }
        self.counters.tx_packets += 1;
        self.counters.tx_bytes += total as u64;
    }

    fn push_request(&mut self, request: NetifTxRequest, used: Use) {
        let Some(id) = self.free.pop() else {
            return;
        };
        let pushed = self
            .ring
            .as_mut()
            .is_some_and(|ring| ring.push(&NetifTxRequest { id, ..request }));
        match self.slots.get_mut(usize::from(id)) {
            Some(slot) if pushed => slot.used = used,
            _ => self.free.push(id),
        }
    }

    fn push_extra(&mut self, extra: &NetifExtraInfo) {
        let ring = self.ring.as_mut();
        if ring.is_some_and(|ring| ring.push(extra)) {
            self.extras += 1;
        }
    }

    /// Shows the backend what was pushed, and says whether it is to be told.
    pub(super) fn publish(&mut self) -> Notify {
        let notify = self.ring.as_mut().map_or(Notify::No, FrontRing::publish);
        self.counters.tx_notified += u64::from(notify == Notify::Yes);
        notify
    }

    /// Takes the backend's answers.
    pub(super) fn reclaim(&mut self) -> Result<(), Fault> {
        loop {
            let Some(ring) = &mut self.ring else {
                return Ok(());
            };
            let Some(response) = ring.pop::<NetifTxResponse>()? else {
                return Ok(());
            };
            if response.status == NetifStatus::NULL {
                // Of a slot with more information: its number says nothing.
                let rest = self.extras.checked_sub(1);
                self.extras = rest.ok_or(Fault::Response("a packet with nothing"))?;
                continue;
            }
            let slot = self.slots.get(usize::from(response.id));
            if slot.is_none_or(|slot| slot.used == Use::Free) {
                return Err(Fault::Response("a packet that it does not have"));
            }
            let result = match response.status {
                NetifStatus::OKAY => Ok(()),
                _ => Err(Error::Dropped),
            };
            let used = slot.map(|slot| slot.used);
            if let Some(Use::Group(kind, group)) = used {
                self.answers.push(Answer {
                    kind,
                    group,
                    is_done: result.is_ok(),
                });
            } else {
                self.counters.tx_dropped += u64::from(result.is_err());
            }
            self.free_slot(response.id, result);
        }
    }

    /// A slot was answered.
    fn free_slot(&mut self, id: u16, result: Result<(), Error>) {
        let Some(slot) = self.slots.get_mut(usize::from(id)) else {
            return;
        };
        let used = core::mem::replace(&mut slot.used, Use::Free);
        self.free.push(id);
        if let Use::Job(index) = used {
            self.answer_job(index, result);
        }
    }

    /// Before sleeping for room or an answer: whether there is one already.
    pub(super) fn listen(&self) -> bool {
        self.ring.as_ref().is_some_and(FrontRing::listen)
    }

    /// Before sleeping for room: whether half of what was sent is answered, or, if
    /// somebody waits for an answer, the first. Each event costs more than room is worth.
    pub(super) fn listen_for_room(&self) -> bool {
        let is_waited_for = self.jobs.iter().any(Option::is_some);
        self.ring.as_ref().is_some_and(|ring| match is_waited_for {
            true => ring.listen(),
            false => ring.listen_for(ring.in_flight() / 2),
        })
    }
}

fn extra(r#type: NetifExtraType, body: &[u8]) -> NetifExtraInfo {
    NetifExtraInfo {
        r#type,
        flags: NetifExtraFlags::empty().bits(),
        u: <[u16; 3]>::read_from_bytes(body).unwrap_or_default(),
    }
}
