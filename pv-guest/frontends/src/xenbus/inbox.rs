//! What a driver wants of the bus, whatever the bus is doing.

use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
};

use spin::Mutex;

use super::{Fault, Request, driver::Driver};

/// Whether the driver shares something with a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum InUse {
    Yes,
    #[default]
    No,
}

/// What was asked for, and not done yet.
#[derive(Debug, Default)]
struct Asked {
    /// What users want.
    order: Option<Request>,
    /// The first one of this connection.
    fault: Option<Fault>,
    in_use: InUse,
}

impl Asked {
    fn note(&mut self, request: Request) {
        match request {
            Request::Fault(fault) if self.in_use == InUse::Yes => {
                self.fault.get_or_insert(fault);
            }
            // It is of a connection that is over.
            Request::Fault(_) => {}
            Request::Reconnect => {
                self.order.get_or_insert(request);
            }
            Request::Close => self.order = Some(request),
        }
    }

    /// What users want goes before what is wrong.
    fn take(&mut self) -> Option<Request> {
        let order = self.order.take();
        order.or_else(|| self.fault.take().map(Request::Fault))
    }
}

/// A driver's requests.
pub(super) struct Inbox<'d> {
    driver: &'d dyn Driver,
    asked: Mutex<Asked>,
}

impl<'d> Inbox<'d> {
    pub(super) fn new(driver: &'d dyn Driver) -> Self {
        let asked = Mutex::default();
        Self { driver, asked }
    }

    /// Takes what there is; the task is woken when there is more.
    fn collect(&self, cx: &mut Context<'_>) {
        while let Poll::Ready(request) = self.driver.poll_request(cx) {
            self.asked.lock().note(request);
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Request> {
        self.collect(cx);
        let asked = self.asked.lock().take();
        asked.map_or(Poll::Pending, Poll::Ready)
    }

    /// Does `work` until it ends, or until the driver wants something: then it is dropped
    /// where it waits, for it may wait for one who never answers.
    ///
    /// # Errors
    /// What the driver wants.
    pub(super) async fn unless_asked<W: Future>(&self, work: W) -> Result<W::Output, Request> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(request) = self.poll(cx) {
                return Poll::Ready(Err(request));
            }
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            // Again: the end of a connection takes this task's waker away.
            self.poll(cx).map(Err)
        })
        .await
    }

    /// There is a connection, or there is to be one.
    pub(super) fn begin_use(&self) {
        self.asked.lock().in_use = InUse::Yes;
    }

    /// The connection is over: what its backend did concerns no other.
    pub(super) fn end_use(&self) {
        if self.in_use() == InUse::Yes {
            self.collect(&mut Context::from_waker(Waker::noop()));
            let mut asked = self.asked.lock();
            (asked.in_use, asked.fault) = (InUse::No, None);
        }
    }

    pub(super) fn in_use(&self) -> InUse {
        self.asked.lock().in_use
    }
}
