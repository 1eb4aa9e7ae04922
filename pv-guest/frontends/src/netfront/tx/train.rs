//! Segments of a stream, one behind the other, that go as one packet: the backend
//! cuts it again where it must, and mostly need not.
//!
//! A stack makes a packet for each segment; what a packet costs a backend is many times
//! what its bytes do. So a segment that may have a successor is kept back, in the pages
//! of the ring's next slots, until something else is sent, or
//! [`Tx::close_train`] is called.

use core::num::NonZeroU16;

use hypercall_abi::{PAGE_SIZE, platform::Platform};

use super::{MAX_BYTES, MAX_PIECES, Pieces, Tx, Use};
use crate::netfront::{Checksum, Features, Offload, Protocol, Segmentation, segment::Segment};

// Their pages are full, but for the last.
const _: () = assert!(MAX_BYTES.div_ceil(PAGE_SIZE) <= MAX_PIECES);

/// A packet that may become longer.
#[derive(Debug)]
pub(super) struct Train {
    first: Segment,
    last: Segment,
    len_bytes: usize,
    /// How many segments it has.
    pub(super) segments: u32,
    /// The slots whose pages have it.
    ids: [u16; MAX_PIECES],
    pub(super) pages: usize,
}

impl Train {
    fn new(first: Segment, id: u16) -> Self {
        let mut ids = [0; MAX_PIECES];
        ids[0] = id;
        Self {
            first,
            last: first,
            len_bytes: first.header_bytes + first.payload_bytes,
            segments: 1,
            ids,
            pages: 1,
        }
    }

    /// The slots whose pages have it, in their order.
    pub(super) fn ids(&self) -> &[u16] {
        self.ids.get(..self.pages).unwrap_or(&self.ids)
    }

    /// Slots of the ring that it will need.
    pub(super) const fn needed(&self) -> usize {
        // And one that says how it is to be cut.
        self.pages + 1
    }

    /// Whether `next`, in the page `theirs`, can be a part of it, which begins in the
    /// page `own`.
    fn takes(&self, own: &[u8], next: &Segment, theirs: &[u8]) -> bool {
        next.payload_bytes <= self.first.payload_bytes
            && self.len_bytes + next.payload_bytes <= MAX_BYTES
            && self.last.goes_on_with(own, next, theirs)
    }

    /// Whether nothing can follow: what is cut has one size, but for the last part.
    const fn is_complete(&self) -> bool {
        self.last.is_last || self.last.payload_bytes < self.first.payload_bytes
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::netfront) enum Pushed {
    /// It is in the ring.
    InRing,
    /// It waits for more, until [`Tx::close_train`].
    Held,
}

impl<P: Platform> Tx<'_, P> {
    /// The segment that was written into `id`'s page, if it can be a part of a train.
    fn segment(&self, id: u16, len_bytes: usize, offload: Offload) -> Option<Segment> {
        let blank = Offload {
            checksum: Checksum::Blank,
            segmentation: None,
        };
        if offload != blank || !self.joins.contains(Features::SCATTER) {
            return None;
        }
        let page = self.slots.get(usize::from(id))?.page.as_ref()?;
        let segment = Segment::of(page.bytes().get(..len_bytes)?)?;
        let needed = match segment.protocol {
            Protocol::TcpV4 => Features::SEGMENT_V4,
            Protocol::TcpV6 => Features::SEGMENT_V6,
        };
        self.joins.contains(needed).then_some(segment)
    }

    /// Sends what was written into [`Self::next_page`], perhaps with what follows.
    pub(in crate::netfront) fn push_page(&mut self, len_bytes: usize, offload: Offload) -> Pushed {
        let Some(id) = self.free.last().copied() else {
            return Pushed::InRing;
        };
        let segment = self.segment(id, len_bytes, offload);
        if let Some(next) = &segment
            && let Some(joined) = self.append(next, id)
        {
            if joined == Pushed::InRing {
                self.close_train();
            }
            return joined;
        }
        self.close_train();
        match segment {
            Some(first) if !first.is_last => {
                self.free.pop();
                self.train = Some(Train::new(first, id));
                Pushed::Held
            }
            _ => {
                let slot = self.slots.get(usize::from(id));
                if let Some(page) = slot.and_then(|slot| slot.page.as_ref()) {
                    let piece = (page.gref(), len_bytes as u16);
                    self.push(&[piece], offload, Use::Own);
                }
                Pushed::InRing
            }
        }
    }

    /// Puts the payload of `next`, which is in `id`'s page, behind the train, if it can
    /// be a part of that. What does not fit into its last page stays in that page, which
    /// is the train's then. `InRing`: nothing can follow.
    fn append(&mut self, next: &Segment, id: u16) -> Option<Pushed> {
        let train = self.train.as_mut()?;
        let page = |id: u16| self.slots.get(usize::from(id))?.page.as_ref();
        if !train.takes(page(train.ids[0])?.bytes(), next, page(id)?.bytes()) {
            return None;
        }
        let tail = train.ids().last().copied()?;
        let both = [usize::from(tail), usize::from(id)];
        let [tail, source] = self.slots.get_disjoint_mut(both).ok()?;
        let (tail, source) = (tail.page.as_mut()?, source.page.as_mut()?);
        let begin = next.header_bytes;
        let used = train.len_bytes - (train.pages - 1) * PAGE_SIZE;
        let here = next.payload_bytes.min(PAGE_SIZE - used);
        let target = tail.bytes_mut().get_mut(used..used + here)?;
        target.copy_from_slice(source.bytes().get(begin..begin + here)?);
        let rest = begin + here..begin + next.payload_bytes;
        if !rest.is_empty() {
            *train.ids.get_mut(train.pages)? = id;
            train.pages += 1;
            self.free.pop();
            source.bytes_mut().copy_within(rest, 0);
        }
        train.len_bytes += next.payload_bytes;
        train.segments += 1;
        train.last = *next;
        Some(match train.is_complete() {
            true => Pushed::InRing,
            false => Pushed::Held,
        })
    }

    /// Nothing more is expected: what was kept back goes into the ring.
    pub(in crate::netfront) fn close_train(&mut self) {
        let Some(train) = self.train.take() else {
            return;
        };
        let mut pieces: Pieces = Default::default();
        let mut rest = train.len_bytes;
        for (piece, id) in pieces.iter_mut().zip(train.ids()) {
            let slot = self.slots.get_mut(usize::from(*id));
            let Some(page) = slot.and_then(|slot| slot.page.as_mut()) else {
                continue;
            };
            if rest == train.len_bytes && train.segments > 1 {
                let payload_bytes = rest - train.first.header_bytes;
                let is_last = train.last.is_last;
                train.first.extend(page.bytes_mut(), payload_bytes, is_last);
            }
            let here = rest.min(PAGE_SIZE);
            *piece = (page.gref(), here as u16);
            rest -= here;
        }
        let segmentation = NonZeroU16::new(train.first.payload_bytes as u16)
            .filter(|_| train.segments > 1)
            .map(|segment_bytes| Segmentation {
                protocol: train.first.protocol,
                segment_bytes,
            });
        let offload = Offload {
            checksum: Checksum::Blank,
            segmentation,
        };
        // The first is used first.
        self.free.extend(train.ids().iter().rev());
        let pieces = pieces.get(..train.pages).unwrap_or_default();
        self.push(pieces, offload, Use::Own);
    }
}
