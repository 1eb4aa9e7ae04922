//! A network interface for those who poll: network stacks, and the futures of
//! [`Nic`].

use alloc::vec::Vec;
use core::{
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use hypercall_abi::platform::Platform;

use super::{
    Error, Features, Interface, Mac, Membership, Nic, Offload, Protocol, Received, Status,
    checksum::{Fix, settle},
    core::Told,
    packet::Packet,
    queue::Queue,
    rx::Came,
    tx::{self, Ended, Pushed, Tx},
    waiters::Place,
};
use crate::xenbus::{Fault, Service};

/// Somebody who waits for a network interface. Its methods that get a
/// [`Context`] have that task woken when it is worth while to ask again.
#[derive(Debug)]
pub struct Poller<'g, P: Platform> {
    nic: Nic<'g, P>,
    place: Place,
    /// Whoever waits next yields first.
    yields: bool,
    /// Bytes of the largest packet that there was no room for when that was asked, until
    /// there is, or this task was told to ask again.
    lacks_bytes: Option<usize>,
    /// Where packets are written that need several pages.
    large: Vec<u8>,
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
    fn drive(&self) -> Result<Status, Error> {
        self.nic.0.attendant.drive();
        let status = self.nic.status();
        Error::of(status).map_or(Ok(status), Err)
    }

    /// Does something with a queue. A backend that did what it must not do loses
    /// the queue, and the bus is told.
    fn with_queue<T>(
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
    fn hold(&self) {
        let core = self.nic.core();
        if !core.holds.swap(true, Ordering::AcqRel) {
            core.waiters.wake(self.place);
        }
    }

    /// Sends what waits for more.
    fn flush(&self) {
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
    fn is_turn_over(&mut self, cx: &Context<'_>) -> bool {
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
    fn queues(&self) -> usize {
        self.nic.core().live().len()
    }

    /// Before sleeping to what is told in the store: the task is woken at once, if
    /// something came already.
    fn sleep_to_news(&self, cx: &Context<'_>) {
        self.flush();
        self.nic.core().waiters.wait(self.place, cx.waker());
        self.nic.0.attendant.listen(cx);
    }

    /// Before sleeping: `Ready` if something came. It may be something else that the
    /// task waits for, which is asked for once more.
    fn sleep(&self, cx: &mut Context<'_>) -> Poll<()> {
        let came = self.sleep_to_events(cx);
        if came.is_ready() {
            cx.waker().wake_by_ref();
        }
        came
    }

    /// Before sleeping: `Ready` if something came, and the task is to look at everything
    /// that it waits for.
    fn sleep_to_events(&self, cx: &mut Context<'_>) -> Poll<()> {
        let core = self.nic.core();
        // Whoever asks again without sleeping waits for the backend all the same.
        core.bus.ports().tell_on();
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
                self.nic.0.attendant.rouse();
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
            self.nic.0.attendant.drive();
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
            self.nic.0.attendant.drive();
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

    /// The next packet, which replaces what is in `target`.
    ///
    /// # Errors
    /// Those of [`Nic::receive`].
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
            self.nic.core().bus.ports().tell_on();
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

    /// Whether [`Self::send_with`] would send any packet of `len_bytes` bytes just now.
    ///
    /// # Errors
    /// Those of [`Nic::ready`].
    pub fn poll_room(&mut self, cx: &mut Context<'_>, len_bytes: usize) -> Poll<Result<(), Error>> {
        loop {
            let status = self.drive()?;
            if self.has_room(len_bytes) {
                return Poll::Ready(Ok(()));
            }
            let slept = self.sleep(cx);
            let came = (0..self.queues()).any(|index| self.listen_for_room(index));
            if slept.is_pending() && !came && self.nic.status() == status {
                return Poll::Pending;
            }
            if self.is_turn_over(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Whether [`Self::send_with`] would send any packet of `len_bytes` bytes just now.
    /// If not, [`Self::poll_changed`] waits for room, too.
    pub fn has_room(&mut self, len_bytes: usize) -> bool {
        let room = |queue: &mut Queue<'g, P>| Ok(queue.is_open() && queue.tx.has_room(len_bytes)?);
        let mut has_room = self.nic.status() == Status::Connected;
        // All are asked: answers that nobody takes would be news for ever.
        for index in 0..self.queues() {
            has_room &= self.with_queue(index, room) == Some(true);
        }
        // Room for a small packet is none for a large one that waits.
        self.lacks_bytes = match has_room {
            true => self
                .lacks_bytes
                .filter(|lacks_bytes| *lacks_bytes > len_bytes),
            false => self.lacks_bytes.max(Some(len_bytes)),
        };
        has_room
    }

    /// Whether [`Self::has_room`] has said no, for a packet that there is still no room for as
    /// far as is known: it has not said yes since, for one as large, nor was there anything
    /// that [`Self::poll_changed`] told.
    pub const fn lacks_room(&self) -> bool {
        self.lacks_bytes.is_some()
    }

    /// Before sleeping for room: whether there is some.
    fn listen_for_room(&self, index: usize) -> bool {
        self.with_queue(index, Queue::listen_for_room) == Some(true)
    }

    /// Before sleeping for answers: whether some came.
    fn listen_tx(&self, index: usize) -> bool {
        self.with_queue(index, |queue| Ok(queue.tx.listen())) == Some(true)
    }

    /// Waits until a packet came, there is room again if there was none, or the
    /// interface came or went.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let status = self.nic.status();
        self.nic.0.attendant.drive();
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

    /// Sends a packet of `len_bytes` bytes, which `fill` writes, and says how
    /// much of it is left to the backend; see [`Self::poll_room`]. Its bytes are
    /// not zeroed first. One that finds no room, or is too long, is dropped, as on
    /// a wire.
    ///
    /// A full segment of TCP may be joined by those that follow, if the backend can cut
    /// them again: the last such is sent when this is next asked for something, for
    /// which the task is woken at once.
    pub fn send_with<R>(
        &mut self,
        len_bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> (Offload, R),
    ) -> R {
        let core = self.nic.core();
        let interface = self.nic.interface();
        // What is done about the packet that `fill` wrote; None: it is dropped.
        let settled = |bytes: &mut [u8], offload| {
            let packet = Packet::of(&[bytes], offload);
            let (offload, fix) = check(interface.as_ref()?, &packet).ok()?;
            fix.apply(bytes);
            Some((offload, packet.flow))
        };
        if let [queue] = core.live() {
            let mut queue = queue.lock();
            if queue.is_open()
                && let Some(bytes) = queue.tx.next_page(len_bytes)
            {
                let (offload, value) = fill(bytes);
                let pushed = match settled(bytes, offload) {
                    Some((offload, _)) => queue.tx.push_page(len_bytes, offload),
                    None => queue.tx.drop_packet(),
                };
                let told = queue.publish();
                drop(queue);
                let _told = self.with_queue(0, |_| told);
                if pushed == Pushed::Held {
                    self.hold();
                }
                return value;
            }
        }
        // Which flow it is of, and so which queue's, is known when it is there.
        let mut large = core::mem::take(&mut self.large);
        if large.len() < len_bytes {
            large.resize(len_bytes, 0);
        }
        let bytes = large.get_mut(..len_bytes).unwrap_or_default();
        let (offload, value) = fill(bytes);
        let settled = settled(bytes, offload);
        let flow = settled.map_or(0, |(_, flow)| flow);
        let index = flow as usize % self.queues().max(1);
        let pushed = self.with_queue(index, |queue| {
            let Some((offload, _)) = settled else {
                return Ok(queue.tx.drop_packet());
            };
            if !queue.is_open() {
                return Ok(queue.tx.drop_packet());
            }
            let pushed = if let Some(page) = queue.tx.next_page(len_bytes) {
                page.copy_from_slice(bytes);
                queue.tx.push_page(len_bytes, offload)
            } else if let Ok(Some(())) = queue.tx.send(&[bytes], offload) {
                Pushed::InRing
            } else {
                queue.tx.drop_packet()
            };
            queue.publish()?;
            Ok(pushed)
        });
        self.large = large;
        if pushed == Some(Pushed::Held) {
            self.hold();
        }
        value
    }

    /// Sends something on the queue of a flow, when there is room; says on which.
    pub(super) fn poll_tx<R>(
        &mut self,
        cx: &mut Context<'_>,
        packet: &Packet,
        mut send: impl FnMut(&mut Tx<'g, P>, Offload, Fix) -> Result<Option<R>, Error>,
    ) -> Poll<Result<(usize, R), Error>> {
        loop {
            let status = self.drive()?;
            let index = packet.flow as usize % self.queues().max(1);
            let interface = self.nic.interface();
            if let Some(interface) = interface.filter(|_| status == Status::Connected) {
                let (offload, fix) = check(&interface, packet)?;
                let sent = self.with_queue(index, |queue| {
                    if !queue.is_open() || !queue.tx.has_room(packet.len_bytes)? {
                        return Ok(Ok(None));
                    }
                    let sent = send(&mut queue.tx, offload, fix);
                    Ok(sent.map(|sent| sent.map(|sent| (sent, queue.publish()))))
                });
                if let Some((sent, told)) = sent.transpose()?.flatten() {
                    // It is in the ring, whatever becomes of that.
                    let _told = self.with_queue(index, |_| told);
                    return Poll::Ready(Ok((index, sent)));
                }
            }
            let slept = self.sleep(cx);
            if slept.is_pending() && !self.listen_for_room(index) && self.nic.status() == status {
                return Poll::Pending;
            }
            if self.is_turn_over(cx) {
                return Poll::Pending;
            }
        }
    }
}

impl<P: Platform> Drop for Poller<'_, P> {
    fn drop(&mut self) {
        self.flush();
        self.nic.core().waiters.leave(self.place);
    }
}

/// Whether the backend takes such a packet, and how.
fn check(interface: &Interface, packet: &Packet) -> Result<(Offload, Fix), Error> {
    let Packet {
        len_bytes, offload, ..
    } = *packet;
    let features = interface.features;
    if len_bytes > tx::MOST_BYTES {
        return Err(Error::TooLong);
    }
    let needed = match offload.segmentation.map(|it| it.protocol) {
        Some(Protocol::TcpV4) => Features::SEGMENT_V4,
        Some(Protocol::TcpV6) => Features::SEGMENT_V6,
        None => {
            let most = usize::from(interface.mtu) + super::ETHERNET_BYTES + 4;
            if len_bytes > most {
                return Err(Error::TooLong);
            }
            Features::empty()
        }
    };
    if !features.contains(needed) {
        return Err(Error::NotSupported("segmentation"));
    }
    if len_bytes > hypercall_abi::PAGE_SIZE && !features.contains(Features::SCATTER) {
        return Err(Error::NotSupported("packets of several pieces"));
    }
    settle(features, packet.layout.as_ref(), offload)
}

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
            if self.poller.sleep(cx).is_pending() && !self.poller.listen_tx(self.queue) {
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
