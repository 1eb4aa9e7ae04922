//! Writes that must not meet: those to a sector of the disk's own that is read, changed
//! and written, because only a part of it is wanted.

use alloc::{sync::Arc, vec::Vec};
use core::{
    ops::Range,
    task::{Context, Poll, Waker},
};

use spin::Mutex;

/// How sectors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whole: such writes may go on at once, as for any disk.
    Write,
    /// Read, changed and written: nothing else writes there meanwhile.
    Rewrite,
}

#[derive(Debug)]
struct Entry {
    ticket: u64,
    sectors: Range<u64>,
    kind: Kind,
    waker: Option<Waker>,
}

impl Entry {
    fn excludes(&self, other: &Self) -> bool {
        (self.kind == Kind::Rewrite || other.kind == Kind::Rewrite)
            && self.sectors.start < other.sectors.end
            && other.sectors.start < self.sectors.end
    }
}

/// The writes that go on or wait, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Ranges(Mutex<Vec<Entry>>);

impl Ranges {
    /// Queues up for a write, as number `ticket`.
    pub(super) fn enter(self: &Arc<Self>, ticket: u64, sectors: Range<u64>, kind: Kind) -> Held {
        self.0.lock().push(Entry {
            ticket,
            sectors,
            kind,
            waker: None,
        });
        Held {
            ranges: Arc::clone(self),
            ticket,
        }
    }

    /// Wakes one that waits, other than `ticket`; false: none does.
    pub(super) fn wake_another(&self, ticket: u64) -> bool {
        let waker = {
            let mut all = self.0.lock();
            let mut others = all.iter_mut().filter(|entry| entry.ticket != ticket);
            others.find_map(|entry| entry.waker.take())
        };
        waker.map(Waker::wake).is_some()
    }
}

/// A place in the queue for sectors; dropping it leaves it.
#[derive(Debug)]
pub(super) struct Held {
    ranges: Arc<Ranges>,
    ticket: u64,
}

impl Held {
    /// Waits until nothing before this excludes it.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut all = self.ranges.0.lock();
        let Some(at) = all.iter().position(|entry| entry.ticket == self.ticket) else {
            return Poll::Ready(());
        };
        let (before, rest) = all.split_at_mut(at);
        let Some(own) = rest.first_mut() else {
            return Poll::Ready(());
        };
        if !before.iter().any(|entry| entry.excludes(own)) {
            return Poll::Ready(());
        }
        own.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.ranges.0.lock();
        all.retain(|entry| entry.ticket != self.ticket);
        let wakers: Vec<Waker> = all
            .iter_mut()
            .filter_map(|entry| entry.waker.take())
            .collect();
        drop(all);
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_wait_for_what_rewrites_their_sectors() {
        let ranges = Arc::new(Ranges::default());
        let cx = &mut Context::from_waker(Waker::noop());
        let first = ranges.enter(1, 0..8, Kind::Write);
        let beside = ranges.enter(2, 4..16, Kind::Write);
        assert!(first.poll(cx).is_ready() && beside.poll(cx).is_ready());
        let rewrite = ranges.enter(3, 8..16, Kind::Rewrite);
        let later = ranges.enter(4, 0..16, Kind::Write);
        let elsewhere = ranges.enter(5, 16..24, Kind::Rewrite);
        assert!(rewrite.poll(cx).is_pending() && later.poll(cx).is_pending());
        assert!(elsewhere.poll(cx).is_ready());
        drop(beside);
        assert!(rewrite.poll(cx).is_ready() && later.poll(cx).is_pending());
        drop(rewrite);
        assert!(later.poll(cx).is_ready());
        drop((first, later, elsewhere));
        assert!(ranges.0.lock().is_empty());
    }
}
