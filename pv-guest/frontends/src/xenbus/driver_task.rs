//! A connection that those who use a device look after.
//!
//! A driver has no task of its own: [`Bus::serve`](super::Bus::serve) is a
//! future that the device's handle keeps, and that whoever waits for the device
//! polls when there is something to do.

use alloc::{boxed::Box, sync::Arc, task::Wake};
use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
};

use atomic_waker::AtomicWaker;
use spin::Mutex;

use super::{Fault, Request};

/// Wakes whoever is to look after the connection.
#[derive(Debug)]
struct News {
    /// There is something to look at.
    is_there: AtomicBool,
    waker: AtomicWaker,
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_there.store(true, Ordering::Release);
        self.waker.wake();
    }
}

type Serving<'g> = Pin<Box<dyn Future<Output = ()> + Send + 'g>>;

/// The connection's own work, done by whoever waits.
pub(crate) struct DriverTask<'g> {
    serving: Mutex<Option<Serving<'g>>>,
    news: Arc<News>,
}

impl<'g> DriverTask<'g> {
    pub(crate) fn new(serving: impl Future<Output = ()> + Send + 'g) -> Self {
        Self {
            serving: Mutex::new(Some(Box::pin(serving))),
            news: Arc::new(News {
                is_there: AtomicBool::new(true),
                waker: AtomicWaker::new(),
            }),
        }
    }

    /// Does the work, if there is some: once. A connection that has work again at once
    /// (because its own budget is spent, or because somebody feeds it without end) waits
    /// for the next time, and other tasks go on meanwhile.
    pub(crate) fn drive(&self) {
        if !self.news.is_there.load(Ordering::Acquire) {
            return;
        }
        let Some(mut serving) = self.serving.try_lock() else {
            // Another does it; whoever listens looks again.
            return;
        };
        self.news.is_there.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.news));
        let mut cx = Context::from_waker(&waker);
        let ended = serving
            .as_mut()
            .is_some_and(|serving| serving.as_mut().poll(&mut cx).is_ready());
        if ended {
            *serving = None;
        }
    }

    /// Before sleeping: has this task woken when there is work, and no other task. If
    /// there is some already, it is woken now: it is to return, and to look again in its
    /// next turn.
    pub(crate) fn listen(&self, cx: &Context<'_>) {
        self.news.waker.register(cx.waker());
        if self.news.is_there.load(Ordering::Acquire) {
            cx.waker().wake_by_ref();
        }
    }

    /// Schedules another poll of the connection.
    pub(crate) fn schedule(&self) {
        Wake::wake_by_ref(&self.news);
    }
}

/// Whether the bus looks after a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    GoesOn,
    /// The device was closed, or the connection to the store ended.
    Ended,
}

/// All that a driver may want at once.
#[derive(Debug, Default)]
struct Wanted {
    fault: Option<Fault>,
    reconnect: bool,
    close: bool,
}

/// What a driver wants of the bus.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    wanted: Mutex<Wanted>,
    waker: AtomicWaker,
}

impl Requests {
    fn ask(&self, note: impl FnOnce(&mut Wanted)) {
        note(&mut self.wanted.lock());
        self.waker.wake();
    }

    /// Tells the bus that the backend did what it must not do; what it was told first
    /// stays.
    pub(crate) fn fault(&self, fault: Fault) {
        self.ask(|wanted| {
            wanted.fault.get_or_insert(fault);
        });
    }

    /// Asks for a new connection, whatever was wrong with the old.
    pub(crate) fn begin_again(&self) {
        self.ask(|wanted| wanted.reconnect = true);
    }

    /// Asks for the end.
    pub(crate) fn close(&self) {
        self.ask(|wanted| wanted.close = true);
    }

    /// What [`Frontend::poll_request`](super::Frontend::poll_request) says: what its users
    /// want goes before what is wrong.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Request> {
        self.waker.register(cx.waker());
        let mut wanted = self.wanted.lock();
        if core::mem::take(&mut wanted.close) {
            return Poll::Ready(Request::Close);
        }
        if core::mem::take(&mut wanted.reconnect) {
            wanted.fault = None;
            return Poll::Ready(Request::Reconnect);
        }
        let fault = wanted.fault.take();
        fault.map_or(Poll::Pending, |fault| Poll::Ready(Request::Fault(fault)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_want_goes_before_what_is_wrong() {
        let requests = Requests::default();
        let cx = Context::from_waker(Waker::noop());
        requests.fault(Fault::Ring);
        requests.fault(Fault::NoMemory);
        requests.close();
        assert_eq!(requests.poll(&cx), Poll::Ready(Request::Close));
        assert_eq!(requests.poll(&cx), Poll::Ready(Request::Fault(Fault::Ring)));
        requests.fault(Fault::Ring);
        requests.begin_again();
        assert_eq!(requests.poll(&cx), Poll::Ready(Request::Reconnect));
        assert_eq!(requests.poll(&cx), Poll::Pending);
    }
}
