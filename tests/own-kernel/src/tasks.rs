//! One task, and those that wait for a time.

use alloc::vec::Vec;
use core::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use event_channels::Ports;
use hypercall_abi::{
    VcpuId,
    platform::{Clock as _, Timer},
};
use spin::Mutex;

use crate::platform::Kernel;

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
    /// Forgets those whose time has come, and says when the next one is.
    fn next_ns(&self, now_ns: u64) -> Option<u64> {
        let mut alarms = self.0.lock();
        alarms.retain(|(at, _)| *at > now_ns);
        alarms.iter().map(|(at, _)| *at).min()
    }
}

/// Runs a task to its end. There is one, and so whatever happens is for it: it is polled
/// after each sleep, and its waker need not do anything. This kernel takes no upcalls.
pub(crate) fn block_on<F: Future>(ports: &Ports<Kernel>, alarms: &Alarms, task: F) -> F::Output {
    let mut task = pin!(task);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        ports.hold_back();
        if let Poll::Ready(value) = task.as_mut().poll(&mut cx) {
            ports.tell();
            return value;
        }
        let next_ns = alarms.next_ns(Kernel::here().now_ns());
        let _early = ports.sleep(VcpuId(0), next_ns);
    }
}
