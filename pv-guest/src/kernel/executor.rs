//! Tasks of a single vCPU, which sleeps when none of them can go on.

mod select;

use alloc::{boxed::Box, rc::Rc, vec::Vec};
use core::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, RawWaker, RawWakerVTable, Waker},
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use hypercall_abi::platform::Park;

use super::time;
use crate::hypervisor::{self, ports};

pub use select::{Either, select};

/// How often anybody was woken. A count, not a flag: one `block_on` within
/// another then takes no wakeup away from it.
static WAKES: AtomicU64 = AtomicU64::new(0);

fn wake() {
    WAKES.fetch_add(1, Ordering::AcqRel);
}

/// A static, not a constant: wakers are taken for the same if it has the same
/// address.
static VTABLE: RawWakerVTable = RawWakerVTable::new(raw_waker, |_| wake(), |_| wake(), |_| {});

const fn raw_waker(_data: *const ()) -> RawWaker {
    RawWaker::new(core::ptr::null(), &VTABLE)
}

/// Wakes the vCPU. Takes no locks and has no memory: an upcall may use it.
pub fn waker() -> Waker {
    // SAFETY: its functions use no data, and may be called by anybody.
    unsafe { Waker::from_raw(raw_waker(core::ptr::null())) }
}

/// Sleeps until the [`waker`] was woken `since` it was counted, or whoever
/// waits for a time has to be woken (which this does). What executors of other
/// makes call when they have nothing to do.
pub fn park(since: Wakes) {
    let due = time::expire();
    let platform = hypervisor::current();
    let held = ports::get().and_then(|ports| ports.release_throttled(time::now_ns()));
    let next = due.into_iter().chain(held).min();
    // Before upcalls are held back for the sleep: an answer that comes at once would
    // have to wait, and to let it in then is one more way to the hypervisor.
    if !hypervisor::sleep_tells()
        && let Some(ports) = ports::get()
    {
        ports.flush_notifications();
    }
    Park::idle(&platform, next, &|| Wakes::now() != since);
}

/// How often anybody was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wakes(u64);

impl Wakes {
    /// Until now. Take it before you look for something to do.
    pub fn now() -> Self {
        Self(WAKES.load(Ordering::Acquire))
    }
}

/// Runs `future` to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = waker();
    let mut cx = Context::from_waker(&waker);
    loop {
        let since = Wakes::now();
        // What is told to others now can wait for the end of this round.
        if let Some(ports) = ports::get() {
            ports.defer_notifications();
        }
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            if let Some(ports) = ports::get() {
                ports.flush_notifications();
            }
            return value;
        }
        // Woken again at once (by another task's yield, say): no sleep.
        while Wakes::now() == since {
            park(since);
        }
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Many tasks at once. A handle: its clones are the same executor.
///
/// ```
/// use pv_guest::executor::Executor;
///
/// let executor = Executor::new();
/// let other = executor.clone();
/// executor.spawn(async move { other.spawn(async {}) });
/// executor.run();
/// ```
#[derive(Clone, Default)]
pub struct Executor {
    new: Rc<RefCell<Vec<Task>>>,
}

impl core::fmt::Debug for Executor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Executor").finish_non_exhaustive()
    }
}

impl Executor {
    /// One without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task. Tasks may do that, too.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.new.borrow_mut().push(Box::pin(task));
        wake();
    }

    /// Runs until all tasks have ended. Fair: of those that can go on, none
    /// goes twice before another goes once.
    pub fn run(&self) {
        let mut tasks = FuturesUnordered::new();
        block_on(poll_fn(|cx| {
            loop {
                tasks.extend(self.new.take());
                match tasks.poll_next_unpin(cx) {
                    Poll::Ready(Some(())) => {}
                    _ if !self.new.borrow().is_empty() => {}
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::waker;

    #[test]
    fn wakers_are_the_same() {
        // Network stacks wake whom a waker that they take for another replaces.
        let one = waker();
        assert!(one.will_wake(&one.clone()) && one.clone().will_wake(&waker()));
    }
}
