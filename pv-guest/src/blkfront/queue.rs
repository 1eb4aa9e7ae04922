//! One queue of a disk: the requests that were made, and the ring that carries
//! them.
//!
//! A request lives here from when it is made until whoever made it has taken the
//! outcome, or, if nobody waits any more, until the backend has answered. Its
//! pages are its own all that time. A queue without a ring (the backend is away)
//! keeps its requests, and sends them, the oldest first, when there is a ring
//! again.

use alloc::{collections::VecDeque, vec::Vec};
use core::task::{Context, Poll, Waker};

use event_channels::Channel;
use grant_tables::GrantTable;
use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE,
    io::{
        blkif::{
            BLKIF_DISCARD_SECURE, BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
            BLKIF_MAX_SEGMENTS_PER_REQUEST, BlkifOp, BlkifRequest, BlkifRequestDiscard,
            BlkifRequestIndirect, BlkifRequestSegment, BlkifResponse, BlkifStatus,
        },
        ring::{FrontRing, Notify},
    },
    platform::Platform,
};
use zerocopy::IntoBytes;

use super::{Error, Flush, SECTOR_BYTES, Sector};
use crate::{
    granted_buf::{Lent, lend, lend_on},
    ring_pages::RingPages,
    xenbus::Fault,
};

/// Bytes of a slot of the ring.
const SLOT_BYTES: usize = size_of::<BlkifRequest>();
/// Segments in a page of them.
const SEGMENTS_PER_PAGE: usize = PAGE_SIZE / size_of::<BlkifRequestSegment>();
/// The most segments that a request may have.
pub(super) const MOST_SEGMENTS: usize = SEGMENTS_PER_PAGE;

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
}

/// Whether somebody waits for the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Waits,
    Gone,
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
struct Line<'g, P: Platform> {
    ring: FrontRing<RingPages<'g, P>, SLOT_BYTES>,
    channel: Channel<'g, P>,
    /// It is not used before the backend is ready for it.
    is_open: bool,
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
    grants: &'g GrantTable<P>,
    peer: DomId,
    /// The device's number, as requests have it.
    handle: u16,
    line: Option<Line<'g, P>>,
    /// Rings of before. A backend that has not let go of them may still be at
    /// work on what was in them.
    old_rings: Vec<RingPages<'g, P>>,
    slots: Vec<Slot<'g, P>>,
    free: Vec<u32>,
    /// The numbers of those that are to be sent, in their order.
    waiting: VecDeque<u32>,
    /// Pages that are lent and not used just now, the last used on top.
    pool: Vec<Lent<'g, P>>,
    /// Pages of segments, likewise.
    segment_pool: Vec<Lent<'g, P>>,
    /// Pages that were lent and may still be.
    most_pages: u32,
    /// Who waits for a free slot or page.
    room_wakers: VecDeque<Waker>,
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

/// What an encoded request may look like.
enum Wire {
    Direct(BlkifRequest),
    Indirect(BlkifRequestIndirect),
    Discard(BlkifRequestDiscard),
}

impl<'g, P: Platform> Queue<'g, P> {
    /// One without a ring, of so many requests and pages at the most.
    pub(super) fn new(grants: &'g GrantTable<P>, handle: u16, depth: u32, most_pages: u32) -> Self {
        let slots = (0..depth).map(|_| Slot {
            generation: 0,
            request: None,
        });
        Self {
            grants,
            peer: DomId(0),
            handle,
            line: None,
            old_rings: Vec::new(),
            slots: slots.collect(),
            free: (0..depth).rev().collect(),
            waiting: VecDeque::new(),
            pool: Vec::new(),
            segment_pool: Vec::new(),
            most_pages,
            room_wakers: VecDeque::new(),
            leader: NOBODY,
            is_draining: false,
            is_drained: false,
            is_down: false,
            counters: Counters::default(),
        }
    }

    // ---- The ring ----

    /// Makes a ring of so many pages for `peer`, and a port; says how the peer
    /// is told of them. What is in the ring before this is to be in it again.
    pub(super) fn attach(
        &mut self,
        ports: &'g event_channels::Ports<P>,
        peer: DomId,
        pages: usize,
    ) -> Result<(Vec<GrantRef>, hypercall_abi::Port), Fault> {
        self.detach();
        self.lend_on(peer)?;
        let pages = RingPages::new(self.grants, peer, pages)?;
        let grefs = pages.grefs();
        let ring = FrontRing::new(pages).ok_or(Fault::NoMemory)?;
        let channel = Channel::unbound(ports, peer)?;
        let port = channel.port();
        self.line = Some(Line {
            ring,
            channel,
            is_open: false,
        });
        self.is_draining = false;
        self.is_down = false;
        Ok((grefs, port))
    }

    /// Whether the backends of before have let go of the rings, and so of all
    /// that was asked of them there.
    pub(super) fn is_released(&mut self) -> bool {
        self.old_rings.retain(RingPages::is_used);
        self.old_rings.is_empty()
    }

    /// Lends what is lent to another now to `peer`; anew also what one that has
    /// not let go of it may still read or write, and what a resume has ended.
    fn lend_on(&mut self, peer: DomId) -> Result<(), Fault> {
        let requests = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.request.as_mut());
        let pages = requests.flat_map(|request| &mut request.pages);
        let pages = pages.chain(&mut self.pool).chain(&mut self.segment_pool);
        for page in pages {
            page.renew(peer)?;
        }
        let is_other = core::mem::replace(&mut self.peer, peer) != peer;
        if self.is_released() && !is_other {
            return Ok(());
        }
        self.old_rings.clear();
        self.empty_pools();
        for request in self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.request.as_mut())
        {
            for page in core::mem::take(&mut request.pages) {
                request.pages.push(lend_on(self.grants, peer, page)?);
            }
        }
        Ok(())
    }

    fn empty_pools(&mut self) {
        self.counters.pages = self.counters.pages.saturating_sub(self.pool.len() as u32);
        self.pool.clear();
        self.segment_pool.clear();
    }

    /// The backend is ready: what waits is sent, as this backend takes it.
    pub(super) fn open(&mut self, segments: usize, flush: Flush) -> Result<(), Fault> {
        if let Some(line) = &mut self.line {
            line.is_open = true;
        }
        for index in core::mem::take(&mut self.waiting) {
            let slot = self.slots.get_mut(index as usize);
            let Some(request) = slot.and_then(|slot| slot.request.as_mut()) else {
                continue;
            };
            match request.op {
                Op::Flush(_) if flush == Flush::NotNeeded => request.state = State::Done(Ok(())),
                Op::Flush(_) => request.op = Op::Flush(flush),
                _ if request.pages.len() > segments => request.state = State::TooLarge,
                _ => {}
            }
            match (request.state, request.owner) {
                (State::Waits, _) => self.waiting.push_back(index),
                (_, Owner::Gone) => self.release(index),
                (_, Owner::Waits) => {}
            }
        }
        let pumped = self.pump();
        self.wake_all();
        pumped
    }

    /// There is no ring any more: what was in it waits to be sent again.
    pub(super) fn detach(&mut self) {
        // Its channel is closed.
        let line = self.line.take();
        let pages = line.map(|line| line.ring.into_memory());
        self.old_rings.extend(pages);
        let mut again: Vec<(u64, u32)> = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(request) = &mut slot.request else {
                continue;
            };
            if request.state == State::Sent {
                request.state = State::Waits;
            }
            // It may still be read there.
            request.indirect = None;
            if request.state == State::Waits {
                again.push((request.order, index as u32));
            }
        }
        again.sort_unstable();
        self.waiting = again.into_iter().map(|(_, index)| index).collect();
    }

    /// Nothing new is sent until the next ring.
    pub(super) const fn drain(&mut self) {
        self.is_draining = true;
        self.is_drained = false;
    }

    /// Whether the backend, which ends, has just answered all that it had: told
    /// once.
    pub(super) fn has_drained(&mut self) -> bool {
        let told = self.is_draining && self.in_ring() == 0 && !self.is_drained;
        self.is_drained |= told;
        told
    }

    /// Whether the backend has the other end of the port: one that does not will
    /// answer nothing.
    pub(super) fn is_served(&self) -> bool {
        let line = self.line.as_ref();
        line.is_some_and(|line| line.channel.is_connected().unwrap_or(false))
    }

    /// Requests that are in the ring.
    pub(super) fn in_ring(&self) -> u32 {
        self.line.as_ref().map_or(0, |line| line.ring.in_flight())
    }

    /// All requests fail.
    pub(super) fn fail(&mut self, error: Error) {
        self.detach();
        self.waiting.clear();
        self.is_down = true;
        for index in 0..self.slots.len() {
            let done = State::Done(Err(error));
            let slot = self.slots.get_mut(index);
            let Some(request) = slot.and_then(|slot| slot.request.as_mut()) else {
                continue;
            };
            if request.state == State::Waits {
                request.state = done;
            }
            if request.owner == Owner::Gone {
                self.release(index as u32);
            }
        }
        self.empty_pools();
        self.wake_all();
    }

    /// Moves what waits here into another queue.
    pub(super) fn move_to(&mut self, other: &mut Self) {
        for index in core::mem::take(&mut self.waiting) {
            let Some(slot) = self.slots.get_mut(index as usize) else {
                continue;
            };
            let Some(request) = slot.request.take() else {
                continue;
            };
            let pages = request.pages.len() as u32;
            self.counters.pages = self.counters.pages.saturating_sub(pages);
            other.counters.pages += pages;
            if request.owner == Owner::Gone {
                slot.generation = slot.generation.wrapping_add(1);
                self.free.push(index);
                other.insert_anyway(request);
                continue;
            }
            let stub = Request {
                op: request.op,
                first: request.first,
                len_bytes: 0,
                pages: Vec::new(),
                indirect: None,
                state: State::Waits,
                owner: Owner::Waits,
                waker: request.waker.clone(),
                token: request.token,
                order: request.order,
            };
            let id = other.insert_anyway(request);
            slot.request = Some(Request {
                state: State::Moved(id),
                ..stub
            });
        }
        self.empty_pools();
        self.wake_all();
    }

    /// Puts a request in, also if there are more than there should be.
    fn insert_anyway(&mut self, request: Request<'g, P>) -> Id {
        if self.free.is_empty() {
            self.free.push(self.slots.len() as u32);
            self.slots.push(Slot {
                generation: 0,
                request: None,
            });
        }
        let index = self.free.pop().unwrap_or(0);
        let order = request.order;
        let before = |other: &u32| {
            let slot = self.slots.get(*other as usize);
            let other = slot.and_then(|slot| slot.request.as_ref());
            other.is_some_and(|other| other.order < order)
        };
        let place = self
            .waiting
            .iter()
            .take_while(|other| before(other))
            .count();
        self.waiting.insert(place, index);
        let slot = self.slots.get_mut(index as usize);
        let generation = slot.map_or(0, |slot| {
            slot.request = Some(request);
            slot.generation
        });
        Id { index, generation }
    }

    // ---- Requests ----

    /// Pages for a request: as many as there are, up to `count`. None: there will
    /// be some when other requests are done.
    pub(super) fn pages(&mut self, count: usize) -> Result<Vec<Lent<'g, P>>, Error> {
        while self.pool.len() < count && self.counters.pages < self.most_pages {
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
        op: Op,
        first: Sector,
        len_bytes: usize,
        pages: Vec<Lent<'g, P>>,
        (token, order): (u64, u64),
        waker: &Waker,
    ) -> Option<Id> {
        let index = self.free.pop()?;
        let slot = self.slots.get_mut(index as usize)?;
        slot.request = Some(Request {
            op,
            first,
            len_bytes,
            pages,
            indirect: None,
            state: State::Waits,
            owner: Owner::Waits,
            waker: Some(waker.clone()),
            token,
            order,
        });
        self.waiting.push_back(index);
        Some(Id {
            index,
            generation: slot.generation,
        })
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
        let Some(request) = self.request(id) else {
            return Poll::Ready(Outcome::Done(Err(Error::Gone), Vec::new()));
        };
        match request.state {
            State::Done(result) => {
                let pages = core::mem::take(&mut request.pages);
                self.release(id.index);
                Poll::Ready(Outcome::Done(result, pages))
            }
            State::Moved(to) => {
                self.release(id.index);
                Poll::Ready(Outcome::Moved(to))
            }
            State::TooLarge => {
                let pages = core::mem::take(&mut request.pages);
                self.release(id.index);
                Poll::Ready(Outcome::TooLarge(pages))
            }
            State::Waits | State::Sent => {
                match &mut request.waker {
                    Some(known) if known.will_wake(waker) => {}
                    other => *other = Some(waker.clone()),
                }
                Poll::Pending
            }
        }
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
        let pages = slot.request.take().map(|request| request.pages);
        self.give_back(pages.unwrap_or_default());
        self.free.push(index);
        if let Some(waker) = self.room_wakers.pop_front() {
            waker.wake();
        }
    }

    /// Pages that are not needed any more.
    pub(super) fn give_back(&mut self, mut pages: Vec<Lent<'g, P>>) {
        if self.is_down {
            let count = pages.len() as u32;
            self.counters.pages = self.counters.pages.saturating_sub(count);
        } else {
            self.pool.append(&mut pages);
        }
    }

    /// Has `waker` woken when there is room for one more request.
    pub(super) fn wait_for_room(&mut self, waker: &Waker) {
        if !self.room_wakers.iter().any(|known| known.will_wake(waker)) {
            self.room_wakers.push_back(waker.clone());
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
        for waker in self.room_wakers.drain(..) {
            waker.wake();
        }
    }

    // ---- Sending and receiving ----

    /// Sends what waits, as far as the ring has room.
    pub(super) fn pump(&mut self) -> Result<(), Fault> {
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        if !line.is_open || self.is_draining {
            return Ok(());
        }
        while line.ring.room() > 0 {
            let Some(index) = self.waiting.front().copied() else {
                break;
            };
            let slot = self.slots.get_mut(index as usize);
            let Some(slot) = slot else {
                break;
            };
            let Some(request) = &mut slot.request else {
                self.waiting.pop_front();
                continue;
            };
            let id = Id {
                index,
                generation: slot.generation,
            };
            if request.pages.len() > BLKIF_MAX_SEGMENTS_PER_REQUEST && request.indirect.is_none() {
                let page = match self.segment_pool.pop() {
                    Some(page) => page,
                    None => match lend(self.grants, self.peer) {
                        Ok(page) => page,
                        // Later, when others have given theirs back.
                        Err(_) if line.ring.in_flight() > 0 => break,
                        Err(error) => return Err(error.into()),
                    },
                };
                request.indirect = Some(page);
            }
            let sent = match encode(id, self.handle, request) {
                Wire::Direct(wire) => {
                    // The segments that are not used are not worth copying.
                    let used = size_of::<BlkifRequest>()
                        - (BLKIF_MAX_SEGMENTS_PER_REQUEST - request.pages.len())
                            * size_of::<BlkifRequestSegment>();
                    line.ring.push(wire.as_bytes().get(..used).unwrap_or(&[]))
                }
                Wire::Indirect(wire) => line.ring.push(&wire),
                Wire::Discard(wire) => line.ring.push(&wire),
            };
            if !sent {
                break;
            }
            request.state = State::Sent;
            self.waiting.pop_front();
            self.counters.sent += 1;
        }
        if line.ring.publish() == Notify::Yes {
            self.counters.notified += 1;
            line.channel.notify_soon()?;
        }
        Ok(())
    }

    /// Takes the backend's answers, and tells those who wait for them, but for
    /// `token`, who is here and looks next.
    pub(super) fn receive(&mut self, token: u64) -> Result<(), Fault> {
        if let Some(line) = &self.line {
            // What it is for is looked at now: nobody needs to look once more.
            let _event = line.channel.take();
        }
        loop {
            let Some(line) = &mut self.line else {
                return Ok(());
            };
            let Some(response) = line.ring.pop::<BlkifResponse>()? else {
                return Ok(());
            };
            self.counters.answered += 1;
            self.answer(response, token)?;
        }
    }

    fn answer(&mut self, response: BlkifResponse, token: u64) -> Result<(), Fault> {
        let id = Id::from_wire(response.id);
        let Some(request) = self.request(id).filter(|it| it.state == State::Sent) else {
            return Err(Fault::Response("a request that it does not have"));
        };
        let indirect = request.indirect.take();
        request.state = State::Done(match response.status {
            BlkifStatus::OKAY => Ok(()),
            BlkifStatus::EOPNOTSUPP => Err(Error::NotSupported(match request.op {
                Op::Flush(_) => "flush",
                Op::Discard(..) => "discard",
                Op::Read | Op::Write => "such request",
            })),
            // Whatever it says, it is not done.
            _ => Err(Error::Io),
        });
        let waker = request.waker.take().filter(|_| request.token != token);
        let owner = request.owner;
        self.segment_pool.extend(indirect);
        if owner == Owner::Gone {
            self.release(id.index);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Before sleeping: has the task woken by the next event. `Ready`: something
    /// came meanwhile.
    ///
    /// The port wakes one task only, the last that asked: that one is the
    /// leader, who takes the answers for all. A leader that leaves must call
    /// [`Self::hand_over`].
    pub(super) fn listen(&mut self, cx: &mut Context<'_>, token: u64) -> Poll<()> {
        let Some(line) = &self.line else {
            return Poll::Pending;
        };
        if line.ring.listen() {
            return Poll::Ready(());
        }
        // Whatever comes of it, the port knows this task now and no other.
        self.leader = token;
        line.channel.poll_wait(cx)
    }

    /// If `token` is the leader, another of those who wait is to be it. False:
    /// nobody is, and the bus waits for answers that may still come.
    pub(super) fn hand_over(&mut self, token: u64) -> bool {
        // Nobody: it was handed to one who left without looking.
        if self.leader != token && self.leader != NOBODY {
            // It asked to be told of an answer that has been taken meanwhile.
            let line = self.line.as_ref();
            if !line.is_some_and(|line| line.ring.listen()) {
                return true;
            }
        }
        self.leader = NOBODY;
        self.wake_one() || !self.is_draining
    }

    /// Wakes one of those who wait; false: nobody does.
    pub(super) fn wake_one(&mut self) -> bool {
        let requests = self.slots.len() - self.free.len();
        let used = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.request.as_mut());
        let waker = used.take(requests).find_map(|request| request.waker.take());
        let waker = waker.or_else(|| self.room_wakers.pop_front());
        waker.map(Waker::wake).is_some()
    }
}

/// What is to become of a request's pages, and what became of the request.
#[derive(Debug)]
pub(super) enum Outcome<'g, P: Platform> {
    Done(Result<(), Error>, Vec<Lent<'g, P>>),
    /// It is in the first queue now.
    Moved(Id),
    /// It is to be made again, in parts.
    TooLarge(Vec<Lent<'g, P>>),
}

/// The sectors of each page.
fn segments<'r, P: Platform>(
    request: &'r Request<'_, P>,
) -> impl Iterator<Item = BlkifRequestSegment> + 'r {
    let pages = request.pages.iter().enumerate();
    pages.map(|(index, page)| {
        let rest = request.len_bytes.saturating_sub(index * PAGE_SIZE);
        let sectors = rest.min(PAGE_SIZE).div_ceil(SECTOR_BYTES).max(1);
        BlkifRequestSegment {
            gref: page.gref(),
            first_sect: 0,
            last_sect: (sectors - 1) as u8,
            ..BlkifRequestSegment::default()
        }
    })
}

/// The request as the ring has it.
fn encode<P: Platform>(id: Id, handle: u16, request: &Request<'_, P>) -> Wire {
    let operation = match request.op {
        Op::Read => BlkifOp::READ,
        Op::Write => BlkifOp::WRITE,
        Op::Flush(Flush::Barrier) => BlkifOp::WRITE_BARRIER,
        Op::Flush(_) => BlkifOp::FLUSH_DISKCACHE,
        Op::Discard(nr_sectors, flag) => {
            return Wire::Discard(BlkifRequestDiscard {
                operation: BlkifOp::DISCARD,
                flag,
                handle,
                id: id.to_wire(),
                sector_number: request.first.0,
                nr_sectors,
                ..BlkifRequestDiscard::default()
            });
        }
    };
    let Some(page) = &request.indirect else {
        let mut wire = BlkifRequest {
            operation,
            nr_segments: request.pages.len() as u8,
            handle,
            id: id.to_wire(),
            sector_number: request.first.0,
            ..BlkifRequest::default()
        };
        for (slot, segment) in wire.seg.iter_mut().zip(segments(request)) {
            *slot = segment;
        }
        return Wire::Direct(wire);
    };
    let slots = page.peer();
    for (index, segment) in segments(request).enumerate() {
        let at = index * size_of::<BlkifRequestSegment>();
        if let Some(slot) = slots.get(at, size_of::<BlkifRequestSegment>()) {
            slot.copy_from(segment.as_bytes());
        }
    }
    let mut indirect_grefs = [GrantRef(0); BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST];
    indirect_grefs[0] = page.gref();
    Wire::Indirect(BlkifRequestIndirect {
        operation: BlkifOp::INDIRECT,
        indirect_op: operation,
        nr_segments: request.pages.len() as u16,
        handle,
        id: id.to_wire(),
        sector_number: request.first.0,
        indirect_grefs,
        ..BlkifRequestIndirect::default()
    })
}
