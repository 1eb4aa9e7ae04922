//! One queue of a disk: the requests that were made, and the ring that carries
//! them.
//!
//! A request lives here from when it is made until whoever made it has taken the
//! outcome, or, if nobody waits any more, until the backend has answered. Its
//! pages are its own all that time. A queue without a ring (the backend is away)
//! keeps its requests, and sends them, the oldest first, when there is a ring
//! again.

mod connection;
mod exchange;

use alloc::{collections::VecDeque, sync::Arc, vec::Vec};
use core::task::{Poll, Waker};

use event_channels::Channel;
use hypercall_abi::{
    DomId, PAGE_SIZE,
    io::{
        blkif::{BLKIF_DISCARD_SECURE, BlkifRequest, BlkifRequestSegment},
        ring::FrontRing,
    },
    platform::Platform,
};

use super::{Error, Flush, Sector, ranges::Held, waiters::Waiters};
use crate::buffers::{KeptPages, Lender, Lent, RingPages, lend};

/// Bytes of a slot of the ring.
const SLOT_BYTES: usize = size_of::<BlkifRequest>();
/// Segments in a page of them.
const SEGMENTS_PER_PAGE: usize = PAGE_SIZE / size_of::<BlkifRequestSegment>();
/// The most segments that a request may have.
pub(super) const MAX_SEGMENTS: usize = SEGMENTS_PER_PAGE;

/// A number that nobody who waits has.
pub(super) const NOBODY: u64 = 0;

/// What a request is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    Write,
    Flush(Flush),
    /// Forget so many sectors; with the wire's flag.
    Discard(u64, u8),
}

/// The wire's flag for a discard that nobody can undo.
pub(super) const SECURE: u8 = BLKIF_DISCARD_SECURE;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is to be sent.
    Waits,
    /// It is in the ring.
    Sent,
    /// This came of it.
    Done(Result<(), Error>),
    /// It is now that of this number in the first queue.
    Moved(Id),
    /// It is larger than the new backend takes: to be made again.
    TooLarge,
    /// The new backend is not trusted with the caller's pages: to be made again, with
    /// others.
    Withdrawn,
}

/// Whose pages a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The queue's.
    Pool,
    /// The caller's: see [`GrantedBuf`](crate::GrantedBuf).
    Caller,
}

/// A request that is to be made.
#[derive(Debug)]
pub(super) struct Wanted<'g, P: Platform> {
    pub(super) op: Op,
    pub(super) first: Sector,
    /// What is read or written: this many bytes at the start of the pages.
    pub(super) len_bytes: usize,
    pub(super) pages: Vec<Lent<'g, P>>,
    pub(super) source: Source,
    /// What keeps others from its sectors until it is done.
    pub(super) held: Option<Arc<Held>>,
}

/// Pages of a request that is over.
#[derive(Debug)]
pub(super) struct Batch<'g, P: Platform> {
    pub(super) pages: Vec<Lent<'g, P>>,
    source: Source,
    /// To which peer they are lent: see [`Queue::epoch`].
    epoch: u64,
    /// What kept others from its sectors, if it was not done.
    pub(super) held: Option<Arc<Held>>,
}

/// Whether somebody waits for the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Waits,
    Gone,
}

/// What is to become of a request's pages, and what became of the request.
#[derive(Debug)]
pub(super) enum Outcome<'g, P: Platform> {
    Done(Result<(), Error>, Batch<'g, P>),
    /// It is in the first queue now.
    Moved(Id),
    /// It is to be made again, in parts.
    TooLarge(Batch<'g, P>),
    /// It is to be made again, with pages of the queue's.
    Withdrawn(Batch<'g, P>),
}

/// A request's number in its queue, and which of those that had that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    index: u32,
    generation: u32,
}

impl Id {
    const fn to_wire(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    const fn from_wire(wire: u64) -> Self {
        Self {
            index: wire as u32,
            generation: (wire >> 32) as u32,
        }
    }
}

#[derive(Debug)]
struct Request<'g, P: Platform> {
    op: Op,
    first: Sector,
    /// What is read or written: this many bytes at the start of the pages.
    len_bytes: usize,
    pages: Vec<Lent<'g, P>>,
    source: Source,
    /// The peer to which they are lent: see [`Queue::epoch`].
    epoch: u64,
    /// What keeps others from its sectors until it is done.
    held: Option<Arc<Held>>,
    /// The page of segments of an indirect request that was sent. A backend that
    /// keeps grants mapped maps them all to write; nobody reads it here.
    indirect: Option<Lent<'g, P>>,
    state: State,
    owner: Owner,
    waker: Option<Waker>,
    /// The number of whoever waits for it.
    token: u64,
    /// The order in which requests were made, across queues.
    order: u64,
}

#[derive(Debug)]
struct Slot<'g, P: Platform> {
    generation: u32,
    request: Option<Request<'g, P>>,
}

/// A ring, and the port that goes with it.
#[derive(Debug)]
struct RingChannel<'g, P: Platform> {
    ring: FrontRing<RingPages<'g, P>, SLOT_BYTES>,
    channel: Channel<'g, P>,
    /// It is not used before the backend is ready for it.
    is_open: bool,
}

/// A ring of a connection that is over.
#[derive(Debug)]
struct OldRing<'g, P: Platform> {
    pages: RingPages<'g, P>,
    /// Requests that were not answered there.
    unanswered: u32,
}

/// What is counted of a disk's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that were put into the ring; of those that were sent again, each
    /// time.
    pub sent: u64,
    /// Responses that were taken.
    pub answered: u64,
    /// Times that the backend was told of requests.
    pub notified: u64,
    /// Pages that are lent to the backend for good.
    pub pages: u32,
}

/// A queue.
#[derive(Debug)]
pub(super) struct Queue<'g, P: Platform> {
    grants: Lender<'g, P>,
    /// Where pages of callers go who left.
    kept: Arc<KeptPages<'g, P>>,
    peer: DomId,
    /// Goes up when what was lent before is not to be used again: it is another peer's,
    /// or one that is gone may still use it.
    epoch: u64,
    /// The device's number, as requests have it.
    handle: u16,
    line: Option<RingChannel<'g, P>>,
    /// Rings of before. A backend that has not let go of them may still be at
    /// work on what was in them.
    old_rings: Vec<OldRing<'g, P>>,
    slots: Vec<Slot<'g, P>>,
    free: Vec<u32>,
    /// The numbers of those that are to be sent, in their order.
    waiting: VecDeque<u32>,
    /// Pages that are lent and not used just now, the last used on top.
    pool: Vec<Lent<'g, P>>,
    /// Pages of segments, likewise.
    segment_pool: Vec<Lent<'g, P>>,
    /// Pages that were lent and may still be.
    max_pages: u32,
    /// Who waits for a free slot or page.
    room: Waiters,
    /// Who looks at the ring when an event comes: see [`Self::listen`].
    leader: u64,
    /// The backend ends: nothing new is sent.
    is_draining: bool,
    /// It has ended all it had, and the bus knows.
    is_drained: bool,
    /// All requests have failed, and nothing is lent until there is a ring.
    is_down: bool,
    pub(super) counters: Counters,
}

impl<'g, P: Platform> Queue<'g, P> {
    /// One without a ring, of so many requests and pages at the most.
    pub(super) fn new(
        grants: Lender<'g, P>,
        handle: u16,
        (depth, max_pages): (u32, u32),
        kept: Arc<KeptPages<'g, P>>,
    ) -> Self {
        let slots = (0..depth).map(|_| Slot {
            generation: 0,
            request: None,
        });
        Self {
            grants,
            kept,
            peer: DomId(0),
            epoch: 0,
            handle,
            line: None,
            old_rings: Vec::new(),
            slots: slots.collect(),
            free: (0..depth).rev().collect(),
            waiting: VecDeque::new(),
            pool: Vec::new(),
            segment_pool: Vec::new(),
            max_pages,
            room: Waiters::default(),
            leader: NOBODY,
            is_draining: false,
            is_drained: false,
            is_down: false,
            counters: Counters::default(),
        }
    }

    /// Pages for a request: as many as there are, up to `count`. None: there will
    /// be some when other requests are done.
    pub(super) fn pages(&mut self, count: usize) -> Result<Vec<Lent<'g, P>>, Error> {
        while self.pool.len() < count && self.counters.pages < self.max_pages {
            match lend(self.grants, self.peer) {
                Ok(page) => {
                    self.pool.push(page);
                    self.counters.pages += 1;
                }
                Err(_) if !self.pool.is_empty() || self.free.len() < self.slots.len() => break,
                Err(_) => return Err(Error::NoMemory),
            }
        }
        let rest = self.pool.len().saturating_sub(count);
        Ok(self.pool.split_off(rest))
    }

    /// To whom pages are lent.
    pub(super) const fn peer(&self) -> DomId {
        self.peer
    }

    /// Whether there is a number for a request.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Makes a request, if there is room: it is sent when there is a ring that
    /// has room, too. Who is woken when something has become of it is said by
    /// [`Self::poll`].
    pub(super) fn submit(
        &mut self,
        wanted: Wanted<'g, P>,
        (token, order): (u64, u64),
        waker: &Waker,
    ) -> Option<Id> {
        let index = self.free.pop()?;
        let slot = self.slots.get_mut(index as usize)?;
        slot.request = Some(Request {
            op: wanted.op,
            first: wanted.first,
            len_bytes: wanted.len_bytes,
            pages: wanted.pages,
            source: wanted.source,
            epoch: self.epoch,
            held: wanted.held,
            indirect: None,
            state: State::Waits,
            owner: Owner::Waits,
            waker: Some(waker.clone()),
            token,
            order,
        });
        self.waiting.push_back(index);
        let generation = slot.generation;
        self.room.leave(token);
        // One is woken for each request that is over, which may have had room for several.
        let has_pages = !self.pool.is_empty() || self.counters.pages < self.max_pages;
        if has_pages && self.has_room() {
            let _somebody = self.room.wake_one();
        }
        Some(Id { index, generation })
    }

    fn request(&mut self, id: Id) -> Option<&mut Request<'g, P>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.request
            .as_mut()
            .filter(|_| slot.generation == id.generation)
    }

    /// What became of a request; if nothing yet, `waker` is woken when there is
    /// something.
    pub(super) fn poll(&mut self, id: Id, waker: &Waker) -> Poll<Outcome<'g, P>> {
        let epoch = self.epoch;
        let Some(request) = self.request(id) else {
            let none = Batch {
                pages: Vec::new(),
                source: Source::Pool,
                epoch,
                held: None,
            };
            return Poll::Ready(Outcome::Done(Err(Error::Gone), none));
        };
        let state = request.state;
        if matches!(state, State::Waits | State::Sent) {
            match &mut request.waker {
                Some(known) if known.will_wake(waker) => {}
                other => *other = Some(waker.clone()),
            }
            return Poll::Pending;
        }
        let batch = request.batch();
        self.release(id.index);
        Poll::Ready(match state {
            State::Done(result) => Outcome::Done(result, batch),
            State::Moved(to) => Outcome::Moved(to),
            State::Withdrawn => Outcome::Withdrawn(batch),
            State::TooLarge | State::Waits | State::Sent => Outcome::TooLarge(batch),
        })
    }

    /// Nobody waits for this any more: it is done all the same.
    pub(super) fn forget(&mut self, id: Id) {
        let Some(request) = self.request(id) else {
            return;
        };
        request.owner = Owner::Gone;
        request.waker = None;
        if !matches!(request.state, State::Waits | State::Sent) {
            self.release(id.index);
        }
    }

    /// The number is free again; its pages are the pool's.
    fn release(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return;
        };
        slot.generation = slot.generation.wrapping_add(1);
        if let Some(mut request) = slot.request.take() {
            self.give_back(request.batch());
        }
        self.free.push(index);
        let _somebody = self.room.wake_one();
    }

    /// Pages that are not needed any more.
    pub(super) fn give_back(&mut self, mut batch: Batch<'g, P>) {
        let count = batch.pages.len() as u32;
        if batch.source == Source::Caller {
            // Of a caller who left: as many as there is room for.
            if self.counters.pages.saturating_add(count) > self.max_pages {
                if !self.is_down && batch.epoch == self.epoch {
                    batch.pages.retain(|page| !page.is_over());
                    self.kept.adopt(self.peer, batch.pages);
                }
                return;
            }
            self.counters.pages += count;
        }
        if self.is_down || batch.epoch != self.epoch {
            batch.pages.clear();
        }
        // A resume may have ended them.
        batch.pages.retain(|page| !page.is_over());
        let lost = count - batch.pages.len() as u32;
        self.counters.pages = self.counters.pages.saturating_sub(lost);
        self.pool.append(&mut batch.pages);
    }

    /// Has `waker` woken when there is room for one more request.
    pub(super) fn wait_for_room(&mut self, token: u64, waker: &Waker) {
        self.room.wait(token, waker);
    }

    /// `token` waits for room no longer. If it was told of some, it has not used it:
    /// another may.
    pub(super) fn leave_room(&mut self, token: u64) {
        self.room.leave(token);
        if self.has_room() {
            let _somebody = self.room.wake_one();
        }
    }

    fn wake_all(&mut self) {
        for request in self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.request.as_mut())
        {
            if let Some(waker) = request.waker.take() {
                waker.wake();
            }
        }
        self.room.take().for_each(Waker::wake);
    }
}

impl<'g, P: Platform> Request<'g, P> {
    fn batch(&mut self) -> Batch<'g, P> {
        Batch {
            pages: core::mem::take(&mut self.pages),
            source: self.source,
            epoch: self.epoch,
            held: self.held.take(),
        }
    }
}
