//! One task, and those that wait for a time.

use alloc::{sync::Arc, task::Wake, vec::Vec};
use core::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
};

use event_channels::Ports;
use hypercall_abi::{
    VcpuId,
    platform::{Clock, Hypercall, Pages, Timer},
};
use spin::Mutex;

/// Who is to be woken when.
#[derive(Default)]
pub(crate) struct Alarms(Mutex<Vec<(u64, Waker)>>);

impl Timer for Alarms {
    fn wake_at(&self, deadline_ns: u64, waker: &Waker) {
        let mut alarms = self.0.lock();
        if !alarms
            .iter()
            .any(|(at, known)| *at == deadline_ns && known.will_wake(waker))
        {
            alarms.push((deadline_ns, waker.clone()));
        }
    }
}

impl Alarms {
    /// Wakes those whose time has come, and says when the next one's comes.
    fn expire(&self, now_ns: u64) -> Option<u64> {
        loop {
            let mut alarms = self.0.lock();
            let Some(due) = alarms.iter().position(|(at, _)| *at <= now_ns) else {
                return alarms.iter().map(|(at, _)| *at).min();
            };
            let (_, waker) = alarms.swap_remove(due);
            // A waker may run what asks for a time.
            drop(alarms);
            waker.wake();
        }
    }
}

/// Whether the task is to be polled.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs a task to its end. This kernel takes no upcalls: events are looked for when it
/// sleeps.
pub(crate) fn block_on<P, F>(ports: &Ports<P>, alarms: &Alarms, task: F) -> F::Output
where
    P: Hypercall + Pages + Clock,
    F: Future,
{
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut task = pin!(task);
    loop {
        ports.defer_notifications();
        if woken.0.swap(false, Ordering::AcqRel)
            && let Poll::Ready(value) = task.as_mut().poll(&mut cx)
        {
            ports.flush_notifications();
            return value;
        }
        // Both may wake the task: the time of an alarm can have come while it was polled.
        let now_ns = ports.platform().now_ns();
        let held = ports.release_throttled(now_ns);
        let next_ns = alarms.expire(now_ns).into_iter().chain(held).min();
        if !woken.0.load(Ordering::Acquire) && ports.sleep(VcpuId(0), next_ns).is_err() {
            // There are more channels than can be slept for: events are looked for, again
            // and again.
            let _found = ports.dispatch(VcpuId(0));
        }
    }
}
