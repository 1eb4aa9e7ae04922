//! Futures of one task that are polled only when they were woken themselves.

use alloc::{sync::Arc, task::Wake};
use core::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
};

use atomic_waker::AtomicWaker;

/// What came of the one of two that ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// What came of the first.
    First(A),
    /// What came of the second.
    Second(B),
}

/// Who is woken for one of them.
struct Part {
    is_woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Part {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// A future that is polled when it was woken, and not when its task was.
struct Sleeper {
    part: Arc<Part>,
    waker: Waker,
}

impl Sleeper {
    fn new() -> Self {
        let part = Arc::new(Part {
            is_woken: AtomicBool::new(true),
            task: AtomicWaker::new(),
        });
        Self {
            waker: Waker::from(Arc::clone(&part)),
            part,
        }
    }

    fn poll<F: Future>(&self, future: Pin<&mut F>, cx: &Context<'_>) -> Poll<F::Output> {
        self.part.task.register(cx.waker());
        match self.part.is_woken.swap(false, Ordering::AcqRel) {
            true => future.poll(&mut Context::from_waker(&self.waker)),
            false => Poll::Pending,
        }
    }
}

/// Runs two futures until one of them ends, and drops the other.
///
/// Each is polled when it was woken itself. Where both are polled whenever the task is (as
/// by other crates' functions of this name), two that wake each other without need never
/// sleep: `embassy-net`'s runner and a socket of its stack, for instance.
///
/// ```
/// use pv_guest::executor::{Either, block_on, select};
///
/// let first = block_on(select(async { 5 }, core::future::pending::<()>()));
/// assert_eq!(first, Either::First(5));
/// ```
pub async fn select<A: Future, B: Future>(first: A, second: B) -> Either<A::Output, B::Output> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (one, other) = (Sleeper::new(), Sleeper::new());
    poll_fn(|cx| {
        if let Poll::Ready(value) = one.poll(first.as_mut(), cx) {
            return Poll::Ready(Either::First(value));
        }
        other.poll(second.as_mut(), cx).map(Either::Second)
    })
    .await
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    #[test]
    fn who_was_not_woken_is_not_polled() {
        let (one, other) = (Cell::new(0), Cell::new(0));
        let first = poll_fn(|_| {
            one.set(one.get() + 1);
            Poll::<()>::Pending
        });
        let second = poll_fn(|cx: &mut Context<'_>| {
            other.set(other.get() + 1);
            if other.get() < 4 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        let mut both = pin!(select(first, second));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..10 {
            assert!(both.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!((one.get(), other.get()), (1, 4));
    }
}
