//! How much a task does before it lets others go on.
//!
//! Packets come from anybody on the wire, and events from a backend: both may come
//! faster than they can be looked at. A task that finds more each time that it looks
//! would never end its poll; so it yields after some, and is woken at once.

use core::{
    sync::atomic::{AtomicU32, Ordering},
    task::Context,
};

/// Packets, slots of a ring, or looks for something new, after which a task yields.
pub(crate) const TURN: u32 = 64;

/// What those who wait for an interface have done together.
#[derive(Debug, Default)]
pub(super) struct Turns(AtomicU32);

impl Turns {
    /// Counts one more look. True: the turn is over; the task is woken again, and is to
    /// return [`Poll::Pending`](core::task::Poll) now.
    pub(super) fn is_over(&self, cx: &Context<'_>) -> bool {
        let done = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let is_over = done.is_multiple_of(TURN);
        if is_over {
            cx.waker().wake_by_ref();
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use core::task::Waker;

    use super::*;

    #[test]
    fn every_turn_ends() {
        let turns = Turns::default();
        let cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!((1..TURN).all(|_| !turns.is_over(&cx)));
            assert!(turns.is_over(&cx));
        }
    }
}
