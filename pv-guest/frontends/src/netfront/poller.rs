//! A network interface for those who poll: network stacks, and the futures of
//! [`Nic`].

use alloc::vec::Vec;
use core::{
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use hypercall_abi::platform::Platform;

use super::{
    Error, Interface, Mac, Membership, Nic, Status, core::Told, queue::Queue, waiters::Place,
};
use crate::xenbus::{Fault, Service};

/// Somebody who waits for a network interface. Its methods that get a
/// [`Context`] have that task woken when it is worth while to ask again.
#[derive(Debug)]
pub struct Poller<'g, P: Platform> {
    pub(super) nic: Nic<'g, P>,
    place: Place,
    /// Whoever waits next yields first.
    pub(super) yields: bool,
    /// Bytes of the largest packet that there was no room for when that was asked, until
    /// there is, or this task was told to ask again.
    pub(super) lacks_bytes: Option<usize>,
    /// Where packets are written that need several pages.
    pub(super) large: Vec<u8>,
}

impl<'g, P: Platform> Poller<'g, P> {
    pub(super) fn new(nic: Nic<'g, P>) -> Self {
        let place = nic.core().waiters.place();
        Self {
            nic,
            place,
            yields: false,
            lacks_bytes: None,
            large: Vec::new(),
        }
    }

    /// The interface.
    pub const fn nic(&self) -> &Nic<'g, P> {
        &self.nic
    }

    /// Does the connection's own work; an error: there is nothing to wait for.
    pub(super) fn drive(&self) -> Result<Status, Error> {
        self.nic.0.driver_task.drive();
        let status = self.nic.status();
        Error::of(status).map_or(Ok(status), Err)
    }

    /// Does something with a queue. A backend that did what it must not do loses
    /// the queue, and the bus is told.
    pub(super) fn with_queue<T>(
        &self,
        index: usize,
        act: impl FnOnce(&mut Queue<'g, P>) -> Result<T, Fault>,
    ) -> Option<T> {
        let core = self.nic.core();
        let mut queue = core.queues.get(index)?.lock();
        match act(&mut queue) {
            Ok(value) => Some(value),
            Err(fault) => {
                queue.detach();
                drop(queue);
                core.requests.fault(fault);
                None
            }
        }
    }

    /// Something waits for more: this task is to look again, when it has done what it
    /// does now.
    pub(super) fn hold(&self) {
        let core = self.nic.core();
        if !core.holds.swap(true, Ordering::AcqRel) {
            core.waiters.wake(self.place);
        }
    }

    /// Sends what waits for more.
    pub(super) fn flush(&self) {
        let holds = &self.nic.core().holds;
        if holds.load(Ordering::Acquire) && holds.swap(false, Ordering::AcqRel) {
            for index in 0..self.queues() {
                self.with_queue(index, |queue| {
                    queue.tx.close_train();
                    queue.publish()
                });
            }
        }
    }

    /// Whether the task is to yield now: it is woken at once, and what came is still
    /// there then.
    pub(super) fn is_turn_over(&mut self, cx: &Context<'_>) -> bool {
        let yields = core::mem::take(&mut self.yields);
        if yields {
            cx.waker().wake_by_ref();
        }
        let is_over = yields || self.nic.core().turns.is_over(cx);
        if is_over {
            self.flush();
        }
        is_over
    }

    /// How many queues there are.
    pub(super) fn queues(&self) -> usize {
        self.nic.core().live().len()
    }

    /// Before sleeping to what is told in the store: the task is woken at once, if
    /// something came already.
    fn sleep_to_news(&self, cx: &Context<'_>) {
        self.flush();
        self.nic.core().waiters.wait(self.place, cx.waker());
        self.nic.0.driver_task.listen(cx);
    }

    /// Before sleeping: `Ready` if something came. It may be something else that the
    /// task waits for, which is asked for once more.
    pub(super) fn sleep(&self, cx: &mut Context<'_>) -> Poll<()> {
        let came = self.sleep_to_events(cx);
        if came.is_ready() {
            cx.waker().wake_by_ref();
        }
        came
    }

    /// Before sleeping: `Ready` if something came, and the task is to look at everything
    /// that it waits for.
    pub(super) fn sleep_to_events(&self, cx: &mut Context<'_>) -> Poll<()> {
        let core = self.nic.core();
        // Whoever asks again without sleeping waits for the backend all the same.
        core.bus.ports().flush_if_asked_again();
        self.sleep_to_news(cx);
        let mut came = Poll::Pending;
        let mut bell = Context::from_waker(core.waiters.bell());
        for queue in core.live() {
            if queue.lock().poll_events(&mut bell).is_ready() {
                came = Poll::Ready(());
            }
        }
        let answered = {
            let control = core.control.lock();
            let events = control
                .as_ref()
                .map(|control| control.poll_events(&mut bell));
            events.is_some_and(|events| events.is_ready())
        };
        if answered {
            came = Poll::Ready(());
            if let Err(fault) = core.advance_control() {
                core.requests.fault(fault);
            }
        }
        match core.go_on_telling_groups() {
            Ok(Told::Something) => came = Poll::Ready(()),
            Ok(Told::Nothing) => {}
            Err(fault) => core.requests.fault(fault),
        }
        if came.is_ready() {
            // It may be for another.
            core.waiters.wake_others(self.place);
            if core.is_draining() {
                // It may be the bus that waits for it.
                self.nic.0.driver_task.schedule();
            }
        }
        came
    }

    /// Waits until the interface is connected, and says what it is.
    ///
    /// # Errors
    /// Those of [`Nic::ready`].
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<Interface, Error>> {
        loop {
            let status = self.drive()?;
            if let (Status::Connected, Some(interface)) = (status, self.nic.interface()) {
                return Poll::Ready(Ok(interface));
            }
            if self.sleep(cx).is_pending() && self.nic.status() == status {
                return Poll::Pending;
            }
            if self.is_turn_over(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Waits until the backend has said whether it passes a group.
    pub(super) fn poll_joined(
        &mut self,
        cx: &mut Context<'_>,
        group: Mac,
    ) -> Poll<Result<(), Error>> {
        loop {
            self.drive()?;
            match self.nic.membership(group) {
                Membership::Refused => return Poll::Ready(Err(Error::GroupRefused)),
                Membership::Asked => {}
                // Somebody else left it meanwhile, who wants no packets.
                Membership::Joined | Membership::No => return Poll::Ready(Ok(())),
            }
            let slept = self.sleep(cx);
            if slept.is_pending() && self.nic.membership(group) == Membership::Asked {
                return Poll::Pending;
            }
            if self.is_turn_over(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Waits until nobody looks after the connection any more.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ended = |poller: &Self| poller.nic.core().link.lock().service == Service::Ended;
        loop {
            self.nic.0.driver_task.drive();
            if ended(self) {
                return Poll::Ready(());
            }
            if self.sleep(cx).is_pending() && !ended(self) {
                return Poll::Pending;
            }
            if self.is_turn_over(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Waits until the status is another than `known`.
    pub fn poll_status_change(&mut self, cx: &mut Context<'_>, known: Status) -> Poll<Status> {
        loop {
            self.nic.0.driver_task.drive();
            if self.nic.status() != known {
                return Poll::Ready(self.nic.status());
            }
            if self.sleep(cx).is_pending() && self.nic.status() == known {
                return Poll::Pending;
            }
            if self.is_turn_over(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Whether packets can come and go just now; the task is woken when that
    /// changes.
    pub fn poll_interface(&mut self, cx: &mut Context<'_>) -> Option<Interface> {
        let connected = |poller: &Self| match poller.drive() {
            Ok(Status::Connected) => poller.nic.interface(),
            _ => None,
        };
        loop {
            let interface = connected(self);
            // Nothing in the rings changes it.
            self.sleep_to_news(cx);
            if connected(self) == interface {
                return interface;
            }
            self.nic.core().waiters.wake_others(self.place);
            if self.is_turn_over(cx) {
                return interface;
            }
        }
    }

    /// Waits until a packet came, there is room again if there was none, or the
    /// interface came or went.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let status = self.nic.status();
        self.nic.0.driver_task.drive();
        if self.is_turn_over(cx) {
            return Poll::Pending;
        }
        let slept = self.sleep_to_events(cx);
        let mut came = false;
        let mut has_room = false;
        for index in 0..self.queues() {
            // Whoever has room wants to know nothing of what was sent.
            has_room |= self.lacks_room() && self.listen_for_room(index);
            came |= self.with_queue(index, Queue::listen_rx) == Some(true);
        }
        if has_room {
            // It is told once, to be asked for again.
            self.lacks_bytes = None;
            came = true;
        }
        match slept.is_ready() || came || self.nic.status() != status {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<P: Platform> Drop for Poller<'_, P> {
    fn drop(&mut self) {
        self.flush();
        self.nic.core().waiters.leave(self.place);
    }
}
