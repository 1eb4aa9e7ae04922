//! The console ring: bytes out, bytes in, in a page shared with the console's
//! daemon.
//!
//! The daemon is another program, so its indices are checked; if they are
//! impossible the ring is [`Broken`] and never used again.

use core::sync::atomic::{Ordering, fence};

use event_channels::PortRef;
use hypercall_abi::{
    Port,
    io::console::XenconsInterface,
    peer::{PeerPtr, PeerSlice, Untrusted},
    peer_field,
    platform::Platform,
};

use super::output::Stall;

pub use crate::error::Broken;

/// Waiting for the daemon ends after this long, to look again.
const LOOK_AGAIN_NS: u64 = 20_000_000;

/// The guest's side of a console ring.
#[derive(Debug)]
pub struct ConsoleRing<P: Platform> {
    platform: P,
    page: PeerPtr<'static, XenconsInterface>,
    port: PortRef,
    /// This side's own indices, `out_prod` and `in_cons`. The page has copies for the
    /// daemon; what it writes there misleads nobody but itself.
    written: u32,
    taken: u32,
    broken: Option<Broken>,
    /// A wait for room has taken an event, which may have been about input.
    has_event: bool,
    /// The daemon is still to be notified of output.
    is_untold: bool,
    pub(super) stall: Stall,
}

/// How many bytes lie between two free-running indices of a ring.
fn used(producer: u32, consumer: u32, size: usize) -> Result<usize, Broken> {
    let used = producer.wrapping_sub(consumer) as usize;
    if used > size { Err(Broken) } else { Ok(used) }
}

/// The longest stretch from `index` without wrapping: offset and length.
fn stretch(index: u32, wanted: usize, size: usize) -> (usize, usize) {
    let offset = index as usize & (size - 1);
    (offset, wanted.min(size - offset))
}

impl<P: Platform> ConsoleRing<P> {
    /// A console over `page`, which goes on where whoever had it before was.
    pub fn new(platform: P, page: PeerPtr<'static, XenconsInterface>, port: PortRef) -> Self {
        let mut ring = Self {
            platform,
            page,
            port,
            written: 0,
            taken: 0,
            broken: None,
            has_event: false,
            is_untold: false,
            stall: Stall::default(),
        };
        ring.go_on();
        ring
    }

    /// Goes on where the page says that the last user of another handle on this ring was:
    /// who has changed that is misled himself.
    pub(super) fn go_on(&mut self) {
        // Whatever they are, only distances to the daemon's own indices matter, and these
        // are checked.
        let written = peer_field!(self.page, XenconsInterface, out_prod).load();
        let taken = peer_field!(self.page, XenconsInterface, in_cons).load();
        (self.written, self.taken) = (written.trust(), taken.trust());
        // Of what that one has written, the daemon may not have been notified.
        self.is_untold = true;
    }

    /// Another handle on the same ring, for a user of this one who never goes on.
    pub(super) fn again(&self) -> Self
    where
        P: Copy,
    {
        Self::new(self.platform, self.page, self.port)
    }

    /// The port by which the daemon says that something changed.
    pub const fn port(&self) -> Port {
        self.port.port()
    }

    /// The same port, by another interface.
    pub const fn set_port(&mut self, port: PortRef) {
        self.port = port;
    }

    fn latch<T>(&mut self, result: Result<T, Broken>) -> Result<T, Broken> {
        if let Err(broken) = result {
            self.broken = Some(broken);
        }
        result
    }

    fn ok(&self) -> Result<(), Broken> {
        self.broken.map_or(Ok(()), Err)
    }

    /// Puts as many bytes into the ring as there is room for, and says how
    /// many.
    ///
    /// # Errors
    /// The daemon broke the ring.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        self.ok()?;
        let out = peer_field!(self.page, XenconsInterface, out).as_slice();
        let size = out.len_bytes();
        let mut producer = self.written;
        let queued = self.out_queued(size);
        let queued = self.latch(queued)?;
        let (mut rest, mut written) = (bytes, 0);
        let mut room = size - queued;
        // At most twice: up to the end of the ring, and from its start.
        while room > 0 && !rest.is_empty() {
            let (offset, len) = stretch(producer, room.min(rest.len()), size);
            let copied = out.get(offset, len).map_or(0, |part| part.copy_from(rest));
            if copied == 0 {
                break;
            }
            rest = rest.get(copied..).unwrap_or(&[]);
            producer = producer.wrapping_add(copied as u32);
            room -= copied;
            written += copied;
        }
        if written > 0 {
            self.written = producer;
            peer_field!(self.page, XenconsInterface, out_prod).store_release(producer);
            self.is_untold = true;
            // A line is told of at once: whoever goes on with the message may hang.
            if !self.stall.is_in_message() || bytes.ends_with(b"\n") {
                self.tell_on();
            }
        }
        Ok(written)
    }

    /// Notifies the daemon of output of which it was not notified yet.
    pub(super) fn tell_on(&mut self) {
        if core::mem::take(&mut self.is_untold) {
            self.port.notify(&self.platform);
        }
    }

    fn out_queued(&self, size: usize) -> Result<usize, Broken> {
        let consumer: Untrusted<u32> =
            peer_field!(self.page, XenconsInterface, out_cons).load_acquire();
        consumer.check_with(|consumer| used(self.written, consumer, size))
    }

    pub(super) fn out_bytes(&self) -> usize {
        peer_field!(self.page, XenconsInterface, out)
            .as_slice()
            .len_bytes()
    }

    /// How many bytes the daemon has not yet taken.
    ///
    /// # Errors
    /// The daemon broke the ring.
    pub fn pending_output(&mut self) -> Result<usize, Broken> {
        self.ok()?;
        let queued = self.out_queued(self.out_bytes());
        self.latch(queued)
    }

    /// How many bytes there is room for.
    pub(super) fn room(&mut self) -> Result<usize, Broken> {
        let queued = self.pending_output()?;
        Ok(self.out_bytes().saturating_sub(queued))
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.platform.now_ns()
    }

    /// Takes bytes that came in, as many as there are and `buffer` holds.
    ///
    /// # Errors
    /// The daemon broke the ring.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        self.ok()?;
        let ring: PeerSlice<'_> = peer_field!(self.page, XenconsInterface, r#in).as_slice();
        let size = ring.len_bytes();
        let mut consumer = self.taken;
        let available = peer_field!(self.page, XenconsInterface, in_prod)
            .load_acquire()
            .check_with(|producer| used(producer, consumer, size));
        let mut available = self.latch(available)?;
        let mut taken = 0;
        while available > 0 {
            let Some(rest) = buffer.get_mut(taken..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let (offset, len) = stretch(consumer, available.min(rest.len()), size);
            let copied = ring.get(offset, len).map_or(0, |part| part.copy_to(rest));
            if copied == 0 {
                break;
            }
            consumer = consumer.wrapping_add(copied as u32);
            available -= copied;
            taken += copied;
        }
        if taken > 0 {
            // The daemon may fill the room only after we have read it.
            fence(Ordering::SeqCst);
            self.taken = consumer;
            peer_field!(self.page, XenconsInterface, in_cons).store_release(consumer);
            self.port.notify(&self.platform);
        }
        Ok(taken)
    }

    /// Whether there is input that was not taken: also an index that cannot be, about
    /// which [`read`](Self::read) complains.
    pub fn has_input(&self) -> bool {
        let producer = peer_field!(self.page, XenconsInterface, in_prod);
        self.broken.is_some() || producer.load_acquire().trust() != self.taken
    }

    /// Sleeps until the daemon did something, `deadline_ns` has come, or it is
    /// worth another look.
    pub fn wait(&mut self, deadline_ns: Option<u64>) {
        self.tell_on();
        let soon = self.platform.now_ns().saturating_add(LOOK_AGAIN_NS);
        let until = deadline_ns.map_or(soon, |deadline| deadline.min(soon));
        self.platform.park(&[self.port.port()], Some(until));
        self.has_event |= self.port.clear_pending();
    }

    /// Whether [`wait`](Self::wait) has taken an event since this was last asked: one who
    /// waits for input has not seen it.
    pub(super) const fn take_event(&mut self) -> bool {
        core::mem::replace(&mut self.has_event, false)
    }

    /// Sleeps until there may be input, or `deadline_ns` has come. For a guest that takes
    /// no upcalls: one could take the event.
    pub fn wait_for_input(&mut self, deadline_ns: Option<u64>) {
        // Before the look: what comes later ends the sleep.
        self.port.clear_pending();
        if !self.has_input() {
            self.platform.park(&[self.port.port()], deadline_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_run_freely_and_impossible_ones_are_noticed() {
        assert_eq!(used(5, 5, 16), Ok(0));
        assert_eq!(used(3, u32::MAX - 4, 16), Ok(8));
        assert_eq!(used(16, 0, 16), Ok(16));
        assert_eq!(used(17, 0, 16), Err(Broken));
        assert_eq!(used(0, 1, 16), Err(Broken));
    }

    #[test]
    fn a_stretch_ends_at_the_end_of_the_ring() {
        assert_eq!(stretch(14, 8, 16), (14, 2));
        assert_eq!(stretch(u32::MAX, 8, 16), (15, 1));
        assert_eq!(stretch(16, 8, 16), (0, 8));
    }
}
