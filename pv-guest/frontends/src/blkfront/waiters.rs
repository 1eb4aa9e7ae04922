//! Those who wait for something that a disk has, each with a number of its own: who
//! leaves is woken no more, and keeps nobody else from it.

use alloc::collections::VecDeque;
use core::task::Waker;

/// Who waits, in the order in which they began to.
#[derive(Debug, Default)]
pub(super) struct Waiters(VecDeque<(u64, Waker)>);

impl Waiters {
    /// Has `waker` woken when it is the turn of number `token`.
    pub(super) fn wait(&mut self, token: u64, waker: &Waker) {
        match self.0.iter_mut().find(|(other, _)| *other == token) {
            Some((_, known)) => known.clone_from(waker),
            None => self.0.push_back((token, waker.clone())),
        }
    }

    /// Number `token` waits no longer.
    pub(super) fn leave(&mut self, token: u64) {
        self.0.retain(|(other, _)| *other != token);
    }

    /// Wakes the one that waits longest; false: nobody does. It waits no longer until it
    /// says so again: whoever leaves without having looked has to wake the next.
    pub(super) fn wake_one(&mut self) -> bool {
        let first = self.0.pop_front();
        first.map(|(_, waker)| waker.wake()).is_some()
    }

    /// Takes all of them, to be woken.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        core::mem::take(&mut self.0)
            .into_iter()
            .map(|(_, waker)| waker)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{sync::Arc, task::Wake};
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_left_is_not_woken_and_the_others_are_in_their_order() {
        let counts: [Arc<Count>; 4] = core::array::from_fn(|_| Arc::default());
        let woken = || {
            counts
                .each_ref()
                .map(|count| count.0.load(Ordering::Relaxed))
        };
        let mut waiters = Waiters::default();
        for (token, count) in counts.iter().enumerate() {
            waiters.wait(token as u64, &Waker::from(Arc::clone(count)));
        }
        // The same once more is still one.
        waiters.wait(0, &Waker::from(Arc::clone(&counts[0])));
        waiters.leave(1);
        assert_eq!(Arc::strong_count(&counts[1]), 1);
        assert!(waiters.wake_one());
        assert_eq!(woken(), [1, 0, 0, 0]);
        waiters.take().for_each(Waker::wake);
        assert_eq!(woken(), [1, 0, 1, 1]);
        assert!(!waiters.wake_one());
    }
}
