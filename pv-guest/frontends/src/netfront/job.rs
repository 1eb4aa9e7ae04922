//! The wait for a packet in lent pages.

use core::task::{Context, Poll};

use hypercall_abi::platform::Platform;

use super::{Poller, queue::Queue, tx::Ended};

/// A packet in lent pages, until the backend has sent it.
pub(super) struct Job<'p, 'g, P: Platform> {
    poller: &'p Poller<'g, P>,
    queue: usize,
    id: Option<usize>,
}

impl<'p, 'g, P: Platform> Job<'p, 'g, P> {
    pub(super) const fn new(poller: &'p Poller<'g, P>, (queue, id): (usize, usize)) -> Self {
        Self {
            poller,
            queue,
            id: Some(id),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended<'g, P>> {
        loop {
            // Its job ends with the connection, if that ends.
            let _status = self.poller.drive();
            let _faulty = self
                .poller
                .with_queue(self.queue, |queue| queue.tx.reclaim());
            if let Some(id) = self.id {
                let ended = self
                    .poller
                    .with_queue(self.queue, |queue| Ok(queue.tx.poll_job(id, cx.waker())));
                if let Some(Poll::Ready(ended)) = ended {
                    self.id = None;
                    return Poll::Ready(ended);
                }
            }
            let listen = |queue: &mut Queue<'g, P>| Ok(queue.tx.listen());
            let came = self.poller.with_queue(self.queue, listen) == Some(true);
            if self.poller.sleep(cx).is_pending() && !came {
                return Poll::Pending;
            }
            if self.poller.nic.core().turns.is_over(cx) {
                return Poll::Pending;
            }
        }
    }
}

impl<P: Platform> Drop for Job<'_, '_, P> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.poller.with_queue(self.queue, |queue| {
                queue.tx.forget_job(id);
                Ok(())
            });
        }
    }
}
