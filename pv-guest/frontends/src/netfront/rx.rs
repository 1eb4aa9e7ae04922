//! Packets that are received.
//!
//! The backend has pages into which it writes packets, lent for good. A packet
//! is copied out once, when all of it is there: what the backend writes
//! afterwards changes nothing.

use alloc::vec::Vec;
use core::num::NonZeroU16;

use grant_tables::Granted;
use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE,
    io::{
        netif::{
            NetRxFlags, NetifExtraFlags, NetifExtraGso, NetifExtraHash, NetifExtraInfo,
            NetifExtraType, NetifRxRequest, NetifRxResponse, XEN_NETIF_NR_SLOTS_MIN,
        },
        ring::{FrontRing, Notify},
    },
    platform::Platform,
};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    Checksum, Counters, Hash, Offload, Received, Segmentation, checksum, packet::Protocol,
    turn::TURN, tx,
};
use crate::{
    buffers::{Lender, Lent, RingPages, clear_from, lend},
    xenbus::Fault,
};

/// Bytes of a slot of the ring.
const SLOT_BYTES: usize = size_of::<NetifRxResponse>();
/// Slots of it.
const SLOTS: usize = hypercall_abi::io::ring::slots(PAGE_SIZE, SLOT_BYTES);
/// Pages are given back to the backend when there are so many.
const BATCH: usize = 32;
/// The most bytes that a packet can have.
const MAX_BYTES: usize = tx::MAX_BYTES + super::ETHERNET_BYTES + 4;
/// Pieces of a packet: an honest backend's have as many as they need.
const MAX_PIECES: usize = 2 * XEN_NETIF_NR_SLOTS_MIN;

/// A piece of a packet: in which page, and where there.
#[derive(Clone, Copy, Debug)]
struct Piece {
    page: u16,
    offset: usize,
    len_bytes: usize,
}

/// Slots with more information: one of each kind at most.
const MAX_EXTRAS: usize = NetifExtraType::MAX.0 as usize - 1;

/// What the next slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A packet's first piece.
    First,
    /// More information; then what comes after it.
    Extra(More),
    /// A further piece.
    Piece,
}

/// Whether a packet goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    Yes,
    No,
}

/// A packet that is not complete.
#[derive(Debug, Default)]
struct Partial {
    pieces: Vec<Piece>,
    len_bytes: usize,
    offload: Offload,
    hash: Option<Hash>,
    /// Slots with more information.
    extras: usize,
    /// The backend could not write all of it.
    is_bad: bool,
}

impl Partial {
    fn clear(&mut self) {
        self.pieces.clear();
        (self.len_bytes, self.extras, self.is_bad) = (0, 0, false);
        (self.offload, self.hash) = (Offload::default(), None);
    }
}

/// One direction of a queue.
#[derive(Debug)]
pub(super) struct Rx<'g, P: Platform> {
    grants: Lender<'g, P>,
    peer: DomId,
    ring: Option<FrontRing<RingPages<'g, P>, SLOT_BYTES>>,
    wanted_pages: usize,
    pages: Vec<Lent<'g, P>>,
    /// Which page is at which place of the ring.
    posted: Vec<u16>,
    /// How many slots were posted and taken: their remainders are places.
    put: usize,
    taken: usize,
    /// Pages that the backend has not.
    free: Vec<u16>,
    next: Next,
    partial: Partial,
    pub(super) counters: Counters,
}

impl<'g, P: Platform> Rx<'g, P> {
    pub(super) fn new(grants: Lender<'g, P>, wanted_pages: usize) -> Self {
        Self {
            grants,
            peer: DomId(0),
            ring: None,
            wanted_pages: wanted_pages.clamp(XEN_NETIF_NR_SLOTS_MIN, SLOTS),
            pages: Vec::new(),
            posted: alloc::vec![0; SLOTS],
            put: 0,
            taken: 0,
            free: Vec::new(),
            next: Next::First,
            partial: Partial::default(),
            counters: Counters::default(),
        }
    }

    /// Makes a ring for `peer`, with pages in it.
    pub(super) fn attach(&mut self, peer: DomId) -> Result<GrantRef, Fault> {
        self.detach();
        if core::mem::replace(&mut self.peer, peer) != peer {
            self.forget_pages();
        }
        for page in &mut self.pages {
            // What came before is not this backend's: it may be another's on another host.
            clear_from(page.peer(), 0);
            page.renew(peer)?;
        }
        let pages = RingPages::new(self.grants, peer, 1)?;
        let gref = pages.grefs().first().copied().ok_or(Fault::NoMemory)?;
        while self.pages.len() < self.wanted_pages {
            match lend(self.grants, peer) {
                Ok(page) => self.pages.push(page),
                // Fewer will do, if the largest packet fits; and something is left for
                // what is sent, and for others.
                Err(_) if self.pages.len() >= XEN_NETIF_NR_SLOTS_MIN => {
                    let most = (self.pages.len() / 2).max(XEN_NETIF_NR_SLOTS_MIN);
                    self.pages.truncate(most);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.counters.pages = self.pages.len() as u32;
        self.ring = Some(FrontRing::new(pages).ok_or(Fault::NoMemory)?);
        self.free = (0..self.pages.len() as u16).rev().collect();
        (self.put, self.taken) = (0, 0);
        self.refill();
        Ok(gref)
    }

    /// There is no ring any more.
    pub(super) fn detach(&mut self) {
        self.ring = None;
        self.free.clear();
        self.partial.clear();
        self.next = Next::First;
    }

    /// Nothing is lent any more.
    pub(super) fn forget_pages(&mut self) {
        self.free.clear();
        self.pages.clear();
        self.counters.pages = 0;
    }

    /// Gives the backend all pages that it has not; they are shown to it by
    /// [`Self::publish`].
    fn refill(&mut self) {
        let Some(ring) = &mut self.ring else {
            return;
        };
        while let Some(index) = self.free.last().copied() {
            let place = self.put % SLOTS;
            let Some(page) = self.pages.get(usize::from(index)) else {
                break;
            };
            let request = NetifRxRequest {
                id: place as u16,
                gref: page.gref(),
                ..NetifRxRequest::default()
            };
            if !ring.push(&request) {
                break;
            }
            if let Some(posted) = self.posted.get_mut(place) {
                *posted = index;
            }
            self.put = self.put.wrapping_add(1);
            self.free.pop();
        }
    }

    /// Shows the backend the pages that it may use, if it is worth while or
    /// there is nothing else to do, and says whether it is to be told.
    pub(super) fn publish(&mut self, when: Refill) -> Notify {
        if self.free.len() < BATCH && when == Refill::Batch {
            return Notify::No;
        }
        self.refill();
        let notify = self.ring.as_mut().map_or(Notify::No, FrontRing::publish);
        self.counters.rx_notified += u64::from(notify == Notify::Yes);
        notify
    }

    /// The next packet, if there is one, into `target`.
    pub(super) fn receive(&mut self, target: &mut Vec<u8>) -> Result<Came, Fault> {
        for _ in 0..TURN {
            let Some(ring) = &mut self.ring else {
                return Ok(Came::Nothing);
            };
            let Some(slot) = ring.pop::<[u8; SLOT_BYTES]>()? else {
                return Ok(Came::Nothing);
            };
            let place = self.taken % SLOTS;
            self.taken = self.taken.wrapping_add(1);
            let page = self.posted.get(place).copied().unwrap_or(0);
            if self.step(slot, place, page)? == More::Yes {
                continue;
            }
            self.next = Next::First;
            let received = self.copy_out(target);
            self.partial.clear();
            if let Some(received) = received {
                return Ok(Came::Packet(received));
            }
        }
        Ok(Came::Nonsense)
    }

    /// Looks at a slot; says whether its packet goes on.
    fn step(&mut self, slot: [u8; SLOT_BYTES], place: usize, page: u16) -> Result<More, Fault> {
        match self.next {
            Next::Extra(more) => {
                // Its page was not used.
                self.free.push(page);
                let extra = NetifExtraInfo::read_from_bytes(&slot).unwrap_or_default();
                self.partial.extras += 1;
                if self.partial.extras > MAX_EXTRAS {
                    return Err(Fault::Response("information without an end"));
                }
                self.look_at(&extra)?;
                if NetifExtraFlags::from_bits_retain(extra.flags).contains(NetifExtraFlags::MORE) {
                    return Ok(More::Yes);
                }
                self.next = Next::Piece;
                Ok(more)
            }
            is_first @ (Next::First | Next::Piece) => {
                let response = NetifRxResponse::read_from_bytes(&slot).unwrap_or_default();
                if usize::from(response.id) != place {
                    return Err(Fault::Response("a page that it was not asked for"));
                }
                let offset = usize::from(response.offset);
                let len_bytes = usize::try_from(response.status);
                self.partial.is_bad |= len_bytes.is_err();
                let len_bytes = len_bytes.unwrap_or(0);
                if offset + len_bytes > PAGE_SIZE {
                    return Err(Fault::Response("more than a page holds"));
                }
                self.partial.len_bytes += len_bytes;
                self.partial.pieces.push(Piece {
                    page,
                    offset,
                    len_bytes,
                });
                let is_long = self.partial.pieces.len() > MAX_PIECES;
                if is_long || self.partial.len_bytes > MAX_BYTES {
                    return Err(Fault::Response("a packet without an end"));
                }
                let flags = NetRxFlags::from_bits_retain(response.flags);
                let more = match flags.contains(NetRxFlags::MORE_DATA) {
                    true => More::Yes,
                    false => More::No,
                };
                self.next = Next::Piece;
                if is_first == Next::First {
                    self.partial.offload.checksum = checksum_of(flags);
                    if flags.contains(NetRxFlags::EXTRA_INFO) {
                        self.next = Next::Extra(more);
                        return Ok(More::Yes);
                    }
                }
                Ok(more)
            }
        }
    }

    /// More about the packet.
    fn look_at(&mut self, extra: &NetifExtraInfo) -> Result<(), Fault> {
        match extra.r#type {
            NetifExtraType::GSO => {
                let gso = NetifExtraGso::read_from_bytes(extra.u.as_bytes()).unwrap_or_default();
                let segmentation = Protocol::from_wire(gso.r#type)
                    .zip(NonZeroU16::new(gso.size))
                    .map(|(protocol, segment_bytes)| Segmentation {
                        protocol,
                        segment_bytes,
                    });
                self.partial.offload.segmentation =
                    Some(segmentation.ok_or(Fault::Response("segments of no kind"))?);
            }
            NetifExtraType::HASH => {
                let hash = NetifExtraHash::read_from_bytes(extra.u.as_bytes()).unwrap_or_default();
                self.partial.hash = Some(Hash {
                    kind: hash.r#type,
                    value: u32::from_le_bytes(hash.value),
                });
            }
            _ => return Err(Fault::Response("information of no kind")),
        }
        Ok(())
    }

    /// Copies the packet out, and frees its pages. `None`: it is none.
    fn copy_out(&mut self, target: &mut Vec<u8>) -> Option<Received> {
        let Partial {
            len_bytes,
            offload,
            hash,
            is_bad,
            ..
        } = self.partial;
        let is_packet = !is_bad && len_bytes >= super::ETHERNET_BYTES;
        if is_packet {
            // Bytes that are there need not be zeroed first.
            target.resize(len_bytes, 0);
        }
        let mut done = 0;
        for piece in &self.partial.pieces {
            self.free.push(piece.page);
            if !is_packet {
                continue;
            }
            let page = self.pages.get(usize::from(piece.page)).map(Granted::peer);
            let part = page.and_then(|page| page.get(piece.offset, piece.len_bytes));
            if let (Some(part), Some(rest)) = (part, target.get_mut(done..)) {
                done += part.copy_to(rest);
            }
        }
        let offload = match is_packet {
            true => checksum::received(target, offload),
            false => None,
        };
        let Some(offload) = offload else {
            self.counters.rx_dropped += 1;
            return None;
        };
        self.counters.rx_packets += 1;
        self.counters.rx_bytes += len_bytes as u64;
        Some(Received {
            len_bytes,
            offload,
            hash,
            queue: 0,
        })
    }

    /// Before sleeping: whether something came.
    pub(super) fn listen(&self) -> bool {
        self.ring.as_ref().is_some_and(FrontRing::listen)
    }
}

/// What was found in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// A packet.
    Packet(Received),
    /// Nothing is there.
    Nothing,
    /// So many slots without a packet that whoever looks yields first; there may be more.
    Nonsense,
}

/// When pages are given to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refill {
    /// When there are many.
    Batch,
    /// Whatever there is.
    Now,
}

const fn checksum_of(flags: NetRxFlags) -> Checksum {
    if flags.contains(NetRxFlags::CSUM_BLANK) {
        Checksum::Blank
    } else if flags.contains(NetRxFlags::DATA_VALIDATED) {
        Checksum::Validated
    } else {
        Checksum::Complete
    }
}
