//! Packets that go, for those who poll.

use core::task::{Context, Poll};

use hypercall_abi::platform::Platform;

use super::{
    Error, Features, Interface, Offload, Poller, Protocol, Status,
    checksum::{Fix, settle},
    packet::Packet,
    queue::Queue,
    tx::{self, Pushed, Tx},
};

impl<'g, P: Platform> Poller<'g, P> {
    /// Whether [`Self::send_with`] would send any packet of `len_bytes` bytes just now.
    ///
    /// # Errors
    /// Those of [`Nic::ready`](super::Nic::ready).
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
    pub(super) fn listen_for_room(&self, index: usize) -> bool {
        self.with_queue(index, Queue::listen_for_room) == Some(true)
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

/// Whether the backend takes such a packet, and how.
fn check(interface: &Interface, packet: &Packet) -> Result<(Offload, Fix), Error> {
    let Packet {
        len_bytes, offload, ..
    } = *packet;
    let features = interface.features;
    if len_bytes > tx::MAX_BYTES {
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
