//! The ring of a queue: that of a backend that comes, goes, and comes back.

use alloc::vec::Vec;

use event_channels::{Channel, Ports};
use hypercall_abi::{DomId, GrantRef, Port, io::ring::FrontRing, platform::Platform};

use super::{Id, Line, Op, Owner, Queue, Request, Slot, State};
use crate::{
    blkfront::{Error, Flush},
    granted_buf::lend_on,
    ring_pages::RingPages,
    xenbus::Fault,
};

impl<'g, P: Platform> Queue<'g, P> {
    /// Makes a ring of so many pages for `peer`, and a port; says how the peer
    /// is told of them. What is in the ring before this is to be in it again.
    pub(in crate::blkfront) fn attach(
        &mut self,
        ports: &'g Ports<P>,
        peer: DomId,
        pages: usize,
    ) -> Result<(Vec<GrantRef>, Port), Fault> {
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
    pub(in crate::blkfront) fn is_released(&mut self) -> bool {
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
    pub(in crate::blkfront) fn open(&mut self, segments: usize, flush: Flush) -> Result<(), Fault> {
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
    pub(in crate::blkfront) fn detach(&mut self) {
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
            }
            if request.owner == Owner::Gone {
                self.release(index as u32);
            }
        }
        self.empty_pools();
        self.wake_all();
    }

    /// Moves what waits here into another queue.
    pub(in crate::blkfront) fn move_to(&mut self, other: &mut Self) {
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
}
