//! A guest's ring: `xen/include/public/io/xs_wire.h`,
//! `docs/misc/xenstore-ring.txt`.

use alloc::{sync::Arc, task::Wake};
use core::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU32, Ordering, fence},
    task::{Context, Poll, Waker},
    time::Duration,
};

use event_channels::{Channel, Ports, Wait};
use hypercall_abi::{
    Port,
    io::xs_wire::{
        XENSTORE_CONNECTED, XENSTORE_ERROR_NONE, XENSTORE_RECONNECT, XENSTORE_RING_SIZE,
        XenstoreDomainInterface, XenstoreFeatures,
    },
    peer::{PeerPtr, PeerSlice},
    peer_field,
    platform::{Clock, Hypercall, Pages, Park},
};

use super::{Link, Renewal, Transport};

/// The ring that the toolstack set up for this guest.
#[derive(Debug)]
pub struct Ring<'t, P: Hypercall + Pages> {
    page: PeerPtr<'static, XenstoreDomainInterface>,
    channel: Channel<'t, P>,
    /// This side's own indices, `req_prod` and `rsp_cons`. The page has copies for the
    /// server; what the server writes there misleads nobody but itself.
    sent: AtomicU32,
    received: AtomicU32,
    /// We asked for a new start and have no answer.
    asked: AtomicBool,
    /// An index made no sense.
    broken: AtomicBool,
    dead: AtomicBool,
}

impl<'t, P: Hypercall + Pages> Ring<'t, P> {
    /// The ring in `page`, whose server is told by `channel`.
    pub fn new(page: PeerPtr<'static, XenstoreDomainInterface>, channel: Channel<'t, P>) -> Self {
        let ring = Self {
            page,
            channel,
            sent: AtomicU32::new(0),
            received: AtomicU32::new(0),
            asked: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        };
        ring.adopt_indices();
        ring
    }

    /// Begins where the page says: when the connection does. Indices need not begin at
    /// zero: somebody else may have used the ring before.
    fn adopt_indices(&self) {
        let sent = peer_field!(self.page, XenstoreDomainInterface, req_prod);
        let received = peer_field!(self.page, XenstoreDomainInterface, rsp_cons);
        // Whatever they are, only distances to the server's own indices matter, and these
        // are checked.
        self.sent.store(sent.load().trust(), Ordering::Relaxed);
        self.received
            .store(received.load().trust(), Ordering::Relaxed);
    }

    /// Whether the server emptied the ring without being asked, as it does when a
    /// toolstack introduces the domain once more (`domain_conn_reset` in
    /// `tools/xenstored/domain.c`): watches and transactions are gone as well.
    fn was_emptied(&self) -> bool {
        let is_zero = |index: PeerPtr<'_, u32>| index.load_acquire().trust() == 0;
        self.sent.load(Ordering::Relaxed) != 0
            && is_zero(peer_field!(self.page, XenstoreDomainInterface, req_prod))
            && is_zero(peer_field!(self.page, XenstoreDomainInterface, req_cons))
    }

    /// The ports that its channel is one of.
    pub const fn ports(&self) -> &'t Ports<P> {
        self.channel.ports()
    }

    /// The ring is empty, and its server at another port.
    pub(crate) fn resume(&self, port: Port) -> Result<(), event_channels::Error> {
        self.channel.adopt_again(port)?;
        for flag in [&self.asked, &self.broken, &self.dead] {
            flag.store(false, Ordering::Relaxed);
        }
        self.adopt_indices();
        Ok(())
    }

    /// What the server can do.
    pub fn server_features(&self) -> XenstoreFeatures {
        let features = peer_field!(self.page, XenstoreDomainInterface, server_features);
        XenstoreFeatures::from_bits_retain(features.load().trust())
    }

    /// The bytes between two indices, if they make sense.
    fn used(&self, producer: u32, consumer: u32) -> Option<usize> {
        let used = producer.wrapping_sub(consumer) as usize;
        if used > XENSTORE_RING_SIZE {
            self.broken.store(true, Ordering::Relaxed);
            return None;
        }
        Some(used)
    }

    fn connection(&self) -> PeerPtr<'static, u32> {
        peer_field!(self.page, XenstoreDomainInterface, connection)
    }

    fn notify(&self) {
        // A server that is gone hears nothing; that shows in the answers.
        let _gone = self.channel.notify();
    }
}

/// The longest stretch from `index` that does not wrap.
fn stretch(ring: PeerSlice<'_>, index: u32, wanted: usize) -> Option<PeerSlice<'_>> {
    let offset = index as usize % XENSTORE_RING_SIZE;
    ring.get(offset, wanted.min(XENSTORE_RING_SIZE - offset))
}

impl<P: Hypercall + Pages + Park + Clock> Transport for Ring<'_, P> {
    fn link(&self) -> Link {
        if self.dead.load(Ordering::Relaxed) {
            return Link::Dead;
        }
        let connection = self.connection().load_acquire().trust();
        if self.asked.load(Ordering::Relaxed) {
            if connection != XENSTORE_CONNECTED {
                return Link::Waiting;
            }
            self.asked.store(false, Ordering::Relaxed);
            self.adopt_indices();
            return Link::Up;
        }
        if connection != XENSTORE_CONNECTED {
            // Somebody else (the toolstack, for a restored guest) asked.
            self.asked.store(true, Ordering::Relaxed);
            return Link::Lost;
        }
        if self.was_emptied() {
            self.sent.store(0, Ordering::Relaxed);
            self.received.store(0, Ordering::Relaxed);
            self.broken.store(false, Ordering::Relaxed);
            return Link::Lost;
        }
        let features = self.server_features();
        let error = peer_field!(self.page, XenstoreDomainInterface, error);
        let failed = features.contains(XenstoreFeatures::ERROR)
            && error.load().trust() != XENSTORE_ERROR_NONE;
        if !failed && !self.broken.load(Ordering::Relaxed) {
            return Link::Up;
        }
        match self.reconnect() {
            Renewal::Begun => Link::Lost,
            Renewal::NotOffered => {
                self.dead.store(true, Ordering::Relaxed);
                Link::Dead
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> usize {
        let producer = peer_field!(self.page, XenstoreDomainInterface, req_prod);
        let consumer = peer_field!(self.page, XenstoreDomainInterface, req_cons);
        let ring = peer_field!(self.page, XenstoreDomainInterface, req).as_slice();
        let start = self.sent.load(Ordering::Relaxed);
        let Some(used) = self.used(start, consumer.load_acquire().trust()) else {
            return 0;
        };
        let mut rest = bytes;
        let mut at = start;
        let mut room = XENSTORE_RING_SIZE - used;
        while room > 0 && !rest.is_empty() {
            let Some(place) = stretch(ring, at, room.min(rest.len())) else {
                break;
            };
            let sent = place.copy_from(rest);
            rest = rest.get(sent..).unwrap_or(&[]);
            at = at.wrapping_add(sent as u32);
            room -= sent;
        }
        if at != start {
            self.sent.store(at, Ordering::Relaxed);
            producer.store_release(at);
            fence(Ordering::SeqCst);
            self.notify();
        }
        at.wrapping_sub(start) as usize
    }

    fn receive(&self, buffer: &mut [u8]) -> usize {
        let producer = peer_field!(self.page, XenstoreDomainInterface, rsp_prod);
        let consumer = peer_field!(self.page, XenstoreDomainInterface, rsp_cons);
        let ring = peer_field!(self.page, XenstoreDomainInterface, rsp).as_slice();
        let start = self.received.load(Ordering::Relaxed);
        let Some(used) = self.used(producer.load_acquire().trust(), start) else {
            return 0;
        };
        let wanted = used.min(buffer.len());
        let mut at = start;
        let mut done = 0;
        while done < wanted {
            let place = stretch(ring, at, wanted - done);
            let (Some(place), Some(rest)) = (place, buffer.get_mut(done..)) else {
                break;
            };
            let got = place.copy_to(rest);
            done += got;
            at = at.wrapping_add(got as u32);
        }
        if done > 0 {
            self.received.store(at, Ordering::Relaxed);
            consumer.store_release(at);
            fence(Ordering::SeqCst);
            // A server that found the ring full waits for room.
            let now = producer.load().trust().wrapping_sub(start) as usize;
            if now >= XENSTORE_RING_SIZE {
                self.notify();
            }
        }
        done
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.channel.poll_wait(cx)
    }

    fn reconnect(&self) -> Renewal {
        if !self
            .server_features()
            .contains(XenstoreFeatures::RECONNECTION)
        {
            return Renewal::NotOffered;
        }
        self.broken.store(false, Ordering::Relaxed);
        self.asked.store(true, Ordering::Relaxed);
        self.connection().store_release(XENSTORE_RECONNECT);
        fence(Ordering::SeqCst);
        self.notify();
        Renewal::Begun
    }

    fn block_on<F: Future>(&self, most: Option<Duration>, future: F) -> Option<F::Output> {
        struct Flag(AtomicBool);
        impl Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Release);
            }
        }
        let platform = self.channel.platform();
        let deadline = most.map(|most| {
            let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
            platform.now_ns().saturating_add(most)
        });
        let mut future = pin!(future);
        let woken = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return Some(value);
            }
            if woken.0.swap(false, Ordering::AcqRel) {
                // A server that always has more does not move the deadline.
                if deadline.is_some_and(|deadline| platform.now_ns() >= deadline) {
                    return None;
                }
                continue;
            }
            if self.channel.wait_blocking(deadline) == Wait::Deadline {
                return None;
            }
        }
    }
}
