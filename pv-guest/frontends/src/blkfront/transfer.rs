//! An operation on a disk: cut into requests, followed until all are done.

use alloc::{sync::Arc, vec::Vec};
use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use hypercall_abi::{PAGE_SIZE, platform::Platform};
use smallvec::{SmallVec, smallvec};

use super::{
    Disk, Error, SECTOR_BYTES, Sector,
    core::error_of,
    data::Data,
    queue::{Id, Op, Outcome, Queue, Source, Wanted},
    ranges::Held,
};
use crate::xenbus::Trusted;

/// How often an operation looks for news before others get their turn: a backend has some
/// each time, if it wants to.
pub(super) const MAX_LOOKS: u32 = 64;

/// A request of the operation's that is not done.
struct Part {
    queue: usize,
    id: Id,
    offset: usize,
    len_bytes: usize,
}

/// An operation. Dropping it leaves its requests to themselves: they are done,
/// and nobody hears of it.
#[must_use = "futures do nothing unless polled"]
pub(super) struct Transfer<'d, 'g, P: Platform, D: Data<'g, P>> {
    disk: &'d Disk<'g, P>,
    op: Op,
    first: Sector,
    data: D,
    queue: usize,
    token: u64,
    parts: SmallVec<[Part; 1]>,
    /// What is still to be made into requests: where, and how much.
    rest: SmallVec<[(usize, usize); 1]>,
    result: Result<(), Error>,
    /// Whether it waits for room, or did when it was polled last.
    room: Room,
    /// What keeps others from the sectors that are written.
    held: Option<Arc<Held>>,
    /// Pages of the caller's that the backend is not to have any more.
    withdrawn: Withdrawn,
}

/// Whether there was room for an operation's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    Lacking,
}

/// Whether an operation is to be done again with pages of the driver's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Withdrawn {
    Yes,
    No,
}

impl<'d, 'g, P: Platform, D: Data<'g, P> + Unpin> Transfer<'d, 'g, P, D> {
    pub(super) fn new(
        disk: &'d Disk<'g, P>,
        op: Op,
        first: Sector,
        len_bytes: usize,
        data: D,
        queue: usize,
    ) -> Self {
        Self {
            disk,
            op,
            first,
            data,
            queue,
            token: disk.core().number(),
            parts: SmallVec::new(),
            rest: smallvec![(0, len_bytes)],
            result: Ok(()),
            room: Room::Enough,
            held: None,
            withdrawn: Withdrawn::No,
        }
    }

    /// Keeps its sectors until they are written.
    pub(super) fn holding(mut self, held: Option<Arc<Held>>) -> Self {
        self.held = held;
        self
    }

    /// Whether it is to be done again with other pages: the backend is not trusted with
    /// these.
    pub(super) const fn withdrawn(&self) -> Withdrawn {
        self.withdrawn
    }

    /// Its data.
    pub(super) const fn data_mut(&mut self) -> &mut D {
        &mut self.data
    }

    /// Takes what is done in one queue. `Ready`: some of it is in another queue now,
    /// where it may be done already.
    fn collect(&mut self, queue: &mut Queue<'g, P>, index: usize, cx: &Context<'_>) -> Poll<()> {
        let mut at = 0;
        let mut moved = Poll::Pending;
        while let Some(part) = self.parts.get_mut(at) {
            if part.queue != index {
                at += 1;
                continue;
            }
            match queue.poll(part.id, cx.waker()) {
                Poll::Pending => at += 1,
                Poll::Ready(Outcome::Moved(id)) => {
                    (part.queue, part.id) = (0, id);
                    self.queue = 0;
                    moved = Poll::Ready(());
                }
                Poll::Ready(Outcome::Done(result, batch)) => {
                    let (offset, len) = (part.offset, part.len_bytes);
                    self.data.done(queue, offset, len, batch, result);
                    self.parts.remove(at);
                    self.result = self.result.and(result);
                }
                Poll::Ready(Outcome::TooLarge(mut batch)) => {
                    self.held = batch.held.take().or(self.held.take());
                    let (offset, len) = (part.offset, part.len_bytes);
                    let again = Err(Error::Gone);
                    self.data.done(queue, offset, len, batch, again);
                    self.parts.remove(at);
                    self.rest.push((offset, len));
                }
                Poll::Ready(Outcome::Withdrawn(batch)) => {
                    let (offset, len) = (part.offset, part.len_bytes);
                    let again = Err(Error::Gone);
                    self.data.done(queue, offset, len, batch, again);
                    self.parts.remove(at);
                    self.withdrawn = Withdrawn::Yes;
                    self.rest.clear();
                }
            }
        }
        moved
    }

    /// Makes requests of what is left, as far as there is room.
    fn submit(&mut self, queue: &mut Queue<'g, P>, cx: &Context<'_>) {
        while let Some((offset, len)) = self.rest.pop() {
            let (status, segments, may_lend) = {
                let link = self.disk.core().link.lock();
                let is_peer = self.data.peer().is_none_or(|peer| peer == link.peer);
                let may_lend = is_peer && link.trusted == Trusted::Yes;
                (link.status, link.segments, may_lend)
            };
            if let Some(error) = error_of(status).or(self.result.err()) {
                self.rest.clear();
                self.result = self.result.and(Err(error));
                return;
            }
            if D::SOURCE == Source::Caller && !may_lend {
                self.rest.clear();
                self.withdrawn = Withdrawn::Yes;
                return;
            }
            let wanted = len.min(segments * PAGE_SIZE);
            let room = queue.has_room();
            let pages = if room {
                self.data.pages(queue, offset, wanted)
            } else {
                Ok(Vec::new())
            };
            let pages = match pages {
                Ok(pages) if room && (!pages.is_empty() || len == 0) => pages,
                Ok(_) => {
                    self.rest.push((offset, len));
                    self.room = Room::Lacking;
                    queue.wait_for_room(self.token, cx.waker());
                    return;
                }
                Err(error) => {
                    self.rest.clear();
                    self.result = self.result.and(Err(error));
                    return;
                }
            };
            let taken = wanted.min(pages.len() * PAGE_SIZE);
            let first = Sector(self.first.0 + (offset / SECTOR_BYTES) as u64);
            let numbers = (self.token, self.disk.core().number());
            let wanted = Wanted {
                op: self.op,
                first,
                len_bytes: taken,
                pages,
                source: D::SOURCE,
                held: self.held.clone(),
            };
            if let Some(id) = queue.submit(wanted, numbers, cx.waker()) {
                self.room = Room::Enough;
                self.parts.push(Part {
                    queue: self.queue,
                    id,
                    offset,
                    len_bytes: taken,
                });
            }
            if taken < len {
                self.rest.push((offset + taken, len - taken));
            }
        }
        // Its requests have it now.
        self.held = None;
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<Poll<Result<(), Error>>> {
        let disk = self.disk;
        disk.drive();
        let queues = &disk.core().queues;
        for index in 0..queues.len() {
            let is_ours = index == self.queue || self.parts.iter().any(|part| part.queue == index);
            let Some(queue) = queues.get(index).filter(|_| is_ours) else {
                continue;
            };
            let mut queue = queue.lock();
            let received = queue.receive(self.token);
            let moved = self.collect(&mut queue, index, cx);
            if index == self.queue {
                self.submit(&mut queue, cx);
            }
            let pumped = queue.pump();
            if let Err(fault) = received.and(pumped) {
                // The bus ends all requests, and so wakes this.
                disk.core().requests.fault(fault);
                if moved.is_pending() {
                    continue;
                }
            }
            if queue.has_drained() {
                // The bus waits for that.
                disk.0.driver_task.schedule();
            }
            if self.parts.is_empty() && self.rest.is_empty() {
                break;
            }
            if moved.is_ready() || queue.listen(cx, self.token).is_ready() {
                return Poll::Pending;
            }
        }
        if self.parts.is_empty() && self.rest.is_empty() {
            return Poll::Ready(Poll::Ready(self.result));
        }
        disk.listen(cx, self.token);
        Poll::Ready(Poll::Pending)
    }
}

impl<'g, P: Platform, D: Data<'g, P> + Unpin> Future for Transfer<'_, 'g, P, D> {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // Whoever asks again without sleeping waits for the backend all the same.
        this.disk.core().bus.ports().flush_if_asked_again();
        for _ in 0..MAX_LOOKS {
            // Until there was nothing to do.
            if let Poll::Ready(result) = this.poll_once(cx) {
                return result;
            }
        }
        // A backend that notifies without a pause does not keep others from their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<'g, P: Platform, D: Data<'g, P>> Drop for Transfer<'_, 'g, P, D> {
    fn drop(&mut self) {
        for part in &self.parts {
            if let Some(queue) = self.disk.core().queues.get(part.queue) {
                queue.lock().forget(part.id);
            }
        }
        if self.room == Room::Lacking {
            for queue in &self.disk.core().queues {
                queue.lock().leave_room(self.token);
            }
        }
        self.disk.leave(self.token);
    }
}
