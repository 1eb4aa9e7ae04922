//! The ring of a queue: that of a backend that comes, goes, and comes back.

use alloc::vec::Vec;

use event_channels::{Channel, Ports};
use hypercall_abi::{DomId, GrantRef, PAGE_SIZE, Port, io::ring::FrontRing, platform::Platform};

use super::{Id, OldRing, Op, Owner, Queue, Request, RingChannel, SECURE, Slot, Source, State};
use crate::{
    blkfront::{Error, Flush, Geometry, Mode, Secure},
    buffers::{Lender, Lent, RingPages, clear_from, lend_on},
    xenbus::{Fault, Trusted},
};

/// To whom pages are lent from now on, and in which state of things.
#[derive(Clone, Copy)]
struct NewPeer {
    domid: DomId,
    trusted: Trusted,
    /// Another may still read or write what it was lent.
    others: Others,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    /// There is another who may use the pages: it is to find nothing of the new peer's
    /// there, and the other way round.
    MayUse,
    Gone,
}

impl<'g, P: Platform> Queue<'g, P> {
    /// Makes a ring of so many pages for `peer`, and a port; says how the peer
    /// is told of them. What is in the ring before this is to be in it again.
    pub(in crate::blkfront) fn attach(
        &mut self,
        ports: &'g Ports<P>,
        (peer, trusted): (DomId, Trusted),
        pages: usize,
    ) -> Result<(Vec<GrantRef>, Port), Fault> {
        self.detach();
        self.lend_on(peer, trusted);
        let pages = RingPages::new(self.grants, peer, pages)?;
        let grefs = pages.grefs();
        let ring = FrontRing::new(pages).ok_or(Fault::NoMemory)?;
        let channel = Channel::unbound(ports, peer)?;
        let port = channel.port();
        self.line = Some(RingChannel {
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
    pub(in crate::blkfront) fn is_released(&mut self) -> bool {
        self.old_rings.retain(|ring| ring.pages.is_used());
        self.old_rings.is_empty()
    }

    /// Whether no backend of before can still be at work on a request: it has let go, or
    /// had answered all.
    pub(in crate::blkfront) fn is_over(&mut self) -> bool {
        self.is_released() || self.old_rings.iter().all(|ring| ring.unanswered == 0)
    }

    /// Lends what is lent to another now to `peer`; anew also what one that has
    /// not let go of it may still read or write, and what a resume has ended. The peer
    /// finds nothing in it but what it is to write. A request whose pages cannot be lent
    /// has failed.
    fn lend_on(&mut self, peer: DomId, trusted: Trusted) {
        let is_other = core::mem::replace(&mut self.peer, peer) != peer;
        let others = match self.is_released() && !is_other {
            true => Others::Gone,
            false => Others::MayUse,
        };
        let to = NewPeer {
            domid: peer,
            trusted,
            others,
        };
        if others == Others::MayUse {
            self.epoch += 1;
            self.old_rings.clear();
            self.empty_pools();
        }
        let before = self.pool.len();
        for pool in [&mut self.pool, &mut self.segment_pool] {
            pool.retain_mut(|page| {
                if page.is_over() {
                    clear_from(page.peer(), 0);
                }
                page.renew(peer).is_ok()
            });
        }
        let mut lost = before - self.pool.len();
        let (grants, epoch) = (self.grants, self.epoch);
        let requests = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.request.as_mut());
        for request in requests.filter(|request| request.state == State::Waits) {
            lost += request.lend_on(grants, to);
            request.epoch = epoch;
        }
        self.counters.pages = self.counters.pages.saturating_sub(lost as u32);
        self.settle();
    }

    /// Those of the waiting that wait no longer have an outcome now.
    fn settle(&mut self) {
        for index in core::mem::take(&mut self.waiting) {
            let slot = self.slots.get_mut(index as usize);
            let Some(request) = slot.and_then(|slot| slot.request.as_mut()) else {
                continue;
            };
            match (request.state, request.owner) {
                (State::Waits, _) => self.waiting.push_back(index),
                (_, Owner::Gone) => self.release(index),
                (_, Owner::Waits) => {
                    if let Some(waker) = request.waker.take() {
                        waker.wake();
                    }
                }
            }
        }
    }

    fn empty_pools(&mut self) {
        self.counters.pages = self.counters.pages.saturating_sub(self.pool.len() as u32);
        self.pool.clear();
        self.segment_pool.clear();
    }

    /// The backend is ready: what waits is sent, as this backend takes it.
    pub(in crate::blkfront) fn open(
        &mut self,
        segments: usize,
        geometry: &Geometry,
    ) -> Result<(), Fault> {
        if let Some(line) = &mut self.line {
            line.is_open = true;
        }
        for index in &self.waiting {
            let slot = self.slots.get_mut(*index as usize);
            if let Some(request) = slot.and_then(|slot| slot.request.as_mut()) {
                request.suit(segments, geometry);
            }
        }
        self.settle();
        let pumped = self.pump();
        self.wake_all();
        pumped
    }

    /// There is no ring any more: what was in it waits to be sent again.
    pub(in crate::blkfront) fn detach(&mut self) {
        // Its channel is closed.
        let line = self.line.take();
        self.old_rings.extend(line.map(|line| OldRing {
            unanswered: line.ring.in_flight(),
            pages: line.ring.into_memory(),
        }));
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
    pub(in crate::blkfront) const fn drain(&mut self) {
        self.is_draining = true;
        self.is_drained = false;
    }

    /// Whether the backend, which ends, has just answered all that it had: told
    /// once.
    pub(in crate::blkfront) fn has_drained(&mut self) -> bool {
        let told = self.is_draining && self.in_ring() == 0 && !self.is_drained;
        self.is_drained |= told;
        told
    }

    /// Whether the backend has the other end of the port: one that does not will
    /// answer nothing.
    pub(in crate::blkfront) fn is_served(&self) -> bool {
        let line = self.line.as_ref();
        line.is_some_and(|line| line.channel.is_connected().unwrap_or(false))
    }

    /// Requests that are in the ring.
    pub(in crate::blkfront) fn in_ring(&self) -> u32 {
        self.line.as_ref().map_or(0, |line| line.ring.in_flight())
    }

    /// All requests fail.
    pub(in crate::blkfront) fn fail(&mut self, error: Error) {
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
                request.held = None;
            }
            if request.owner == Owner::Gone {
                self.release(index as u32);
            }
        }
        self.empty_pools();
        self.wake_all();
    }

    /// Moves what waits here into another queue, which has a peer: what is lent is lent
    /// to that one.
    pub(in crate::blkfront) fn move_to(&mut self, other: &mut Self, trusted: Trusted) {
        self.detach();
        let to = NewPeer {
            domid: other.peer,
            trusted,
            others: match self.is_released() && self.peer == other.peer {
                true => Others::Gone,
                false => Others::MayUse,
            },
        };
        for index in core::mem::take(&mut self.waiting) {
            let Some(slot) = self.slots.get_mut(index as usize) else {
                continue;
            };
            let Some(mut request) = slot.request.take() else {
                continue;
            };
            let count = |request: &Request<'_, P>| match request.source {
                Source::Pool => request.pages.len() as u32,
                Source::Caller => 0,
            };
            self.counters.pages = self.counters.pages.saturating_sub(count(&request));
            let _lost = request.lend_on(self.grants, to);
            other.counters.pages += count(&request);
            request.epoch = other.epoch;
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
                source: request.source,
                epoch: self.epoch,
                held: None,
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
        other.settle();
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
}

impl<'g, P: Platform> Request<'g, P> {
    /// Lends its pages to a new peer. If that fails, so has the request; one whose pages
    /// are the caller's is to be made again if the new peer is not trusted. Says how many
    /// pages of the queue's are lost.
    fn lend_on(&mut self, grants: Lender<'g, P>, to: NewPeer) -> usize {
        if (self.source, to.trusted) == (Source::Caller, Trusted::No) {
            self.state = State::Withdrawn;
            return 0;
        }
        let before = self.pages.len();
        let bytes_of_page = match self.op {
            Op::Write => self.len_bytes,
            // What is to be read is not shown before.
            _ => 0,
        };
        let mut pages = Vec::with_capacity(self.pages.len());
        for (index, page) in core::mem::take(&mut self.pages).into_iter().enumerate() {
            let keep_bytes = bytes_of_page.saturating_sub(index * PAGE_SIZE);
            match lend_one(grants, to, page, keep_bytes) {
                Ok(page) => pages.push(page),
                Err(_) => self.state = State::Done(Err(Error::NoMemory)),
            }
        }
        self.pages = pages;
        match self.source {
            Source::Pool => before - self.pages.len(),
            Source::Caller => 0,
        }
    }

    /// Makes it one that the backend can do, or says what becomes of it.
    fn suit(&mut self, segments: usize, geometry: &Geometry) {
        let is_read_only = geometry.mode == Mode::ReadOnly;
        match (self.op, geometry.discard) {
            (Op::Flush(_), _) if geometry.flush == Flush::NotNeeded => {
                self.state = State::Done(Ok(()));
            }
            (Op::Flush(_), _) => self.op = Op::Flush(geometry.flush),
            (Op::Write | Op::Discard(..), _) if is_read_only => {
                self.state = State::Done(Err(Error::ReadOnly));
            }
            (Op::Discard(..), None) => {
                self.state = State::Done(Err(Error::NotSupported("discard")));
            }
            (Op::Discard(_, SECURE), Some(limits)) if limits.secure == Secure::NotOffered => {
                self.state = State::Done(Err(Error::NotSupported("secure discard")));
            }
            _ if self.pages.len() > segments => self.state = State::TooLarge,
            _ => {}
        }
    }
}

fn lend_one<'g, P: Platform>(
    grants: Lender<'g, P>,
    to: NewPeer,
    mut page: Lent<'g, P>,
    keep_bytes: usize,
) -> Result<Lent<'g, P>, grant_tables::Error> {
    if page.is_over() {
        clear_from(page.peer(), keep_bytes);
    }
    page.renew(to.domid)?;
    match to.others {
        Others::MayUse => lend_on(grants, to.domid, page, keep_bytes),
        Others::Gone => Ok(page),
    }
}
