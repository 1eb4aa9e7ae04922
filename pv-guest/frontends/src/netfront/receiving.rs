//! Packets that come, for those who poll.

use alloc::vec::Vec;
use core::{
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use hypercall_abi::platform::Platform;

use super::{Error, Poller, Received, queue::Queue, rx::Came};

impl<P: Platform> Poller<'_, P> {
    /// The next packet, which replaces what is in `target`.
    ///
    /// # Errors
    /// Those of [`Nic::receive`](super::Nic::receive).
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut Vec<u8>,
    ) -> Poll<Result<Received, Error>> {
        loop {
            let status = self.drive()?;
            if self.is_turn_over(cx) {
                return Poll::Pending;
            }
            if let Some(received) = self.receive_now(target) {
                return Poll::Ready(Ok(received));
            }
            if self.yields && self.is_turn_over(cx) {
                return Poll::Pending;
            }
            let slept = self.sleep(cx);
            let listens = |index| self.with_queue(index, Queue::listen_rx);
            // All of them are to be asked.
            let came = (0..self.queues()).filter_map(listens).any(|came| came);
            if slept.is_pending() && !came && self.nic.status() == status {
                return Poll::Pending;
            }
        }
    }

    /// The next packet, if one is there, which replaces what is in `target`: for
    /// whoever waits in another way, by [`Self::poll_changed`].
    pub fn receive(&mut self, target: &mut Vec<u8>) -> Option<Received> {
        let _status = self.drive().ok()?;
        let received = self.receive_now(target);
        if received.is_none() {
            self.flush();
            self.nic.core().bus.ports().flush_if_asked_again();
        }
        received
    }

    /// Whoever waits next is to yield first, since more came than is looked at at once.
    #[cfg(feature = "smoltcp")]
    pub(crate) const fn yield_next(&mut self) {
        self.yields = true;
    }

    /// A packet that is there.
    fn receive_now(&mut self, target: &mut Vec<u8>) -> Option<Received> {
        let queues = self.queues().max(1);
        for _ in 0..queues {
            let next = &self.nic.core().next_queue;
            let index = next.fetch_add(1, Ordering::Relaxed) % queues;
            match self.with_queue(index, |queue| queue.receive(target)) {
                Some(Came::Packet(received)) => {
                    return Some(Received {
                        queue: index,
                        ..received
                    });
                }
                Some(Came::Nonsense) => self.yields = true,
                Some(Came::Nothing) | None => {}
            }
        }
        None
    }
}
