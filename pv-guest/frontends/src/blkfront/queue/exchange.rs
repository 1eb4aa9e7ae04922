//! What a queue sends and receives.

use alloc::vec::Vec;
use core::task::{Context, Poll, Waker};

use hypercall_abi::{
    GrantRef, PAGE_SIZE,
    io::{
        blkif::{
            BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST, BLKIF_MAX_SEGMENTS_PER_REQUEST, BlkifOp,
            BlkifRequest, BlkifRequestDiscard, BlkifRequestIndirect, BlkifRequestSegment,
            BlkifResponse, BlkifStatus,
        },
        ring::Notify,
    },
    platform::Platform,
};
use zerocopy::IntoBytes;

use super::{Id, NOBODY, Op, Owner, Queue, Request, State};
use crate::{
    blkfront::{Error, Flush, SECTOR_BYTES, ranges::Ranges},
    buffers::lend,
    xenbus::Fault,
};

/// What an encoded request may look like.
enum Wire {
    Direct(BlkifRequest),
    Indirect(BlkifRequestIndirect),
    Discard(BlkifRequestDiscard),
}

impl<'g, P: Platform> Queue<'g, P> {
    /// Sends what waits, as far as the ring has room.
    pub(in crate::blkfront) fn pump(&mut self) -> Result<(), Fault> {
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        if !line.is_open || self.is_draining {
            return Ok(());
        }
        let mut failed = Vec::new();
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
                        Err(_) => {
                            self.waiting.pop_front();
                            request.state = State::Done(Err(Error::NoMemory));
                            request.held = None;
                            request.waker.take().into_iter().for_each(Waker::wake);
                            failed.push(index);
                            continue;
                        }
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
            line.channel.notify_deferred()?;
        }
        for index in failed {
            let slot = self.slots.get(index as usize);
            let request = slot.and_then(|slot| slot.request.as_ref());
            if request.is_some_and(|request| request.owner == Owner::Gone) {
                self.release(index);
            }
        }
        Ok(())
    }

    /// Takes the backend's answers, and tells those who wait for them, but for
    /// `token`, who is here and looks next.
    pub(in crate::blkfront) fn receive(&mut self, token: u64) -> Result<(), Fault> {
        if let Some(line) = &self.line
            && line.ring.ready()? > 0
        {
            // What it is for is looked at now: nobody needs to look once more. One that
            // brought nothing is left to `listen`, and is counted there: a backend may
            // ring for nothing as often as it likes, but answers only what it was asked.
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
        // Others may write there, whether somebody looks at the outcome or not.
        request.held = None;
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
    pub(in crate::blkfront) fn listen(&mut self, cx: &mut Context<'_>, token: u64) -> Poll<()> {
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

    /// `token` waits no longer. If it is the leader, another of those who wait is to be
    /// it, also of those who wait for `ranges`. False: nobody is, and the bus waits for
    /// answers that may still come.
    pub(in crate::blkfront) fn hand_over(&mut self, token: u64, ranges: &Ranges) -> bool {
        // Nobody: it was handed to one who left without looking.
        if self.leader != token && self.leader != NOBODY {
            // It asked to be told of an answer that has been taken meanwhile.
            let line = self.line.as_ref();
            if !line.is_some_and(|line| line.ring.listen()) {
                return true;
            }
        }
        self.leader = NOBODY;
        self.wake_one() || ranges.wake_another(token) || !self.is_draining
    }

    /// Wakes one of those who wait; false: nobody does.
    pub(in crate::blkfront) fn wake_one(&mut self) -> bool {
        let requests = self.slots.len() - self.free.len();
        let used = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.request.as_mut());
        let waker = used.take(requests).find_map(|request| request.waker.take());
        waker.map(Waker::wake).is_some() || self.room.wake_one()
    }
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
