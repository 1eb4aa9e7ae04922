//! What all handles of a disk share, and what the bus knows of it.

use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
};

use hypercall_abi::{
    DomId, GrantRef, Port,
    io::{protocols::XEN_IO_PROTO_ABI_NATIVE, xenbus::XenbusState},
    platform::Platform,
};
use spin::Mutex;

use super::{
    Config, DiscardLimits, Error, Flush, Geometry, Secure,
    geometry::Flushes,
    queue::{MAX_SEGMENTS, NOBODY, Queue},
    ranges::Ranges,
    waiters::Waiters,
};

use crate::{
    buffers::{KeptPages, Lender},
    xenbus::{
        Bus, Fault, Frontend, Key, KeyName, Offer, Request, Requests, Service, Status, Stop, Trust,
        Trusted,
    },
};
use hypercall_abi::io::blkif::BLKIF_MAX_SEGMENTS_PER_REQUEST;

/// The most pages of buffers that are kept unused: about as many as Linux's backend keeps
/// mapped.
const MAX_UNUSED: usize = 1024;
/// The largest ring, as Linux's backend has it.
const MAX_RING_ORDER: u32 = 4;

/// Why requests fail, if they do.
pub(super) const fn error_of(status: Status) -> Option<Error> {
    match status {
        Status::Connecting | Status::Retrying { .. } | Status::Connected => None,
        Status::Broken(fault) => Some(Error::Broken(fault)),
        Status::Gone => Some(Error::Gone),
        Status::Closed => Some(Error::Closed),
    }
}

/// What was agreed on.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) status: Status,
    /// As it was when there was a connection last.
    pub(super) geometry: Option<Geometry>,
    /// Segments of a request.
    pub(super) segments: usize,
    pub(super) trusted: Trusted,
    /// The ways of flushing that are left.
    flushes: Flushes,
    /// Connections that there were.
    connection: u64,
    pub(super) peer: DomId,
    /// Those who wait for it to change.
    pub(super) waiters: Waiters,
    /// Whether somebody looks after the connection.
    pub(super) service: Service,
}

/// A disk.
#[derive(Debug)]
pub(super) struct Core<'g, P: Platform> {
    pub(super) bus: Bus<'g, P>,
    /// Who lends to its backend.
    pub(super) lender: Lender<'g, P>,
    pub(super) id: String,
    config: Config,
    pub(super) queues: Vec<Mutex<Queue<'g, P>>>,
    /// How many of them the backend serves.
    live_queues: AtomicUsize,
    pub(super) link: Mutex<Link>,
    /// Numbers for all that is ordered.
    next: AtomicU64,
    pub(super) requests: Requests,
    /// Pages of buffers that are nobody's just now.
    pub(super) kept: Arc<KeptPages<'g, P>>,
    /// What is written to, of a disk with large sectors.
    pub(super) ranges: Arc<Ranges>,
}

impl<'g, P: Platform> Core<'g, P> {
    pub(super) fn new(bus: Bus<'g, P>, id: String, config: Config) -> Self {
        let depth = 32 << config.ring_page_order.min(MAX_RING_ORDER);
        let handle = id.parse::<u64>().unwrap_or(0) as u16;
        let max_pages = config.max_pages.max(1);
        let lender = Lender::new(bus.grants(), bus.owner_of(Self::KIND, &id));
        let kept = KeptPages::new(MAX_UNUSED);
        let queues = (0..config.queues.max(1)).map(|_| {
            let limits = (depth, max_pages);
            Mutex::new(Queue::new(lender, handle, limits, Arc::clone(&kept)))
        });
        let queues = queues.collect();
        Self {
            bus,
            lender,
            id,
            config,
            queues,
            live_queues: AtomicUsize::new(1),
            link: Mutex::new(Link {
                status: Status::Connecting,
                geometry: None,
                segments: BLKIF_MAX_SEGMENTS_PER_REQUEST,
                trusted: Trusted::Yes,
                flushes: Flushes::default(),
                connection: 0,
                peer: DomId(0),
                waiters: Waiters::default(),
                service: Service::GoesOn,
            }),
            next: AtomicU64::new(1),
            requests: Requests::default(),
            kept,
            ranges: Arc::default(),
        }
    }

    /// A number that none before it reaches.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// How many queues there are to use.
    pub(super) fn live_queues(&self) -> usize {
        self.live_queues.load(Ordering::Acquire).max(1)
    }

    /// Asks the bus to connect anew; until it does, requests wait. A disk that nobody
    /// looks after any more stays as it is.
    pub(super) fn begin_again(&self) {
        let mut link = self.link.lock();
        if link.service == Service::Ended {
            return;
        }
        link.status = Status::Connecting;
        let waiting = link.waiters.take();
        drop(link);
        waiting.for_each(Waker::wake);
        self.requests.begin_again();
    }

    /// Wakes one of those who wait for the status; false: nobody does.
    pub(super) fn wake_one(&self) -> bool {
        self.link.lock().waiters.wake_one()
    }

    fn set_status(&self, status: Status) {
        let mut link = self.link.lock();
        link.status = status;
        let waiting = link.waiters.take();
        drop(link);
        waiting.for_each(Waker::wake);
    }

    /// Nobody looks after the connection any more, and this is how it stays.
    pub(super) fn end_service(&self, outcome: Result<(), xenstore_client::Error>) {
        self.link.lock().service = Service::Ended;
        self.set_status(Status::at_end(outcome));
    }

    fn each_queue(&self, mut act: impl FnMut(&mut Queue<'g, P>)) {
        for queue in &self.queues {
            act(&mut queue.lock());
        }
    }

    /// Pages and queues that both sides can do.
    fn ring_order(&self, offer: &Offer) -> u32 {
        let by_order = offer
            .backend
            .up_to("max-ring-page-order", 0..=MAX_RING_ORDER);
        let by_pages = offer
            .backend
            .up_to("max-ring-pages", 1..=1 << MAX_RING_ORDER);
        by_order
            .max(by_pages.ilog2())
            .min(self.config.ring_page_order)
    }

    fn segments(&self, offer: &Offer) -> usize {
        let indirect = offer.backend.up_to(
            "feature-max-indirect-segments",
            0..=self.config.segments.min(MAX_SEGMENTS as u32),
        );
        let most = self.config.max_pages.max(1) as usize;
        BLKIF_MAX_SEGMENTS_PER_REQUEST
            .max(indirect as usize)
            .min(most)
    }
}

impl<P: Platform> Frontend for Core<'_, P> {
    const KIND: &'static str = "vbd";
    const BACKEND_KEYS: &'static [&'static str] = Geometry::BACKEND_KEYS;
    const OWN_KEYS: &'static [&'static str] = &[Trust::KEY];
    /// Source: `io/blkif.h`, "Frontend XenBus Nodes"; Linux's and QEMU's backends.
    const FRONTEND_KEYS: &'static [KeyName] = &[
        KeyName::One("ring-page-order"),
        KeyName::One("num-ring-pages"),
        KeyName::One("ring-ref"),
        KeyName::Numbered("ring-ref"),
        KeyName::One("event-channel"),
        KeyName::One("multi-queue-num-queues"),
        KeyName::Numbered("queue-"),
        KeyName::One("protocol"),
        KeyName::One("feature-persistent"),
        KeyName::One("feature-large-sector-size"),
    ];
    const PUBLISHED_STATE: XenbusState = XenbusState::INITIALISED;

    fn negotiate(&self, offer: &Offer) -> Result<Vec<Key>, Fault> {
        let most = self.queues.len() as u32;
        let wanted = offer.backend.up_to("multi-queue-max-queues", 1..=most) as usize;
        let trusted = self.config.trust.of(offer);
        if trusted == Trusted::No {
            // Before anything is submitted to this backend.
            self.link.lock().trusted = trusted;
        }
        let (rings, order) = self.attach(offer.domid, trusted, wanted, self.ring_order(offer))?;
        let queues = rings.len();
        let mut keys = Vec::new();
        if order > 0 {
            keys.push(Key::new("ring-page-order", order));
            keys.push(Key::new("num-ring-pages", 1 << order));
        }
        if queues > 1 {
            keys.push(Key::new("multi-queue-num-queues", queues));
        }
        keys.push(Key::new("protocol", XEN_IO_PROTO_ABI_NATIVE));
        // The pages are lent for good, whether the backend cares or not.
        keys.push(Key::new("feature-persistent", 1));
        for (index, (grefs, port)) in rings.iter().enumerate() {
            for (page, gref) in grefs.iter().enumerate() {
                let name = match order {
                    0 => "ring-ref".into(),
                    _ => format!("ring-ref{page}"),
                };
                keys.push(Key::of_queue(index, queues, &name, gref));
            }
            keys.push(Key::of_queue(index, queues, "event-channel", port));
        }
        // What waits in queues that this backend does not serve.
        if let Some((first, others)) = self.queues.split_first() {
            for queue in others.iter().skip(queues - 1) {
                queue.lock().move_to(&mut first.lock(), trusted);
            }
        }
        self.live_queues.store(queues, Ordering::Release);
        self.kept.begin(offer.domid);
        if trusted == Trusted::No {
            self.kept.withdraw();
        }
        let mut link = self.link.lock();
        link.peer = offer.domid;
        link.segments = self.segments(offer);
        link.trusted = trusted;
        Ok(keys)
    }

    fn is_served(&self) -> bool {
        let mut queues = self.queues.iter().take(self.live_queues());
        queues.all(|queue| queue.lock().is_served())
    }

    fn live(&self, offer: &Offer) -> Result<(), Fault> {
        let geometry = Geometry::read(offer)?;
        let mut link = self.link.lock();
        link.geometry = Some(geometry);
        link.flushes = Flushes::offered(&offer.backend);
        link.connection += 1;
        let segments = link.segments;
        drop(link);
        for queue in self.queues.iter().take(self.live_queues()) {
            queue.lock().open(segments, &geometry)?;
        }
        self.set_status(Status::Connected);
        Ok(())
    }

    fn changed(&self, offer: &Offer) -> Result<(), Fault> {
        let geometry = Geometry::read(offer)?;
        let mut link = self.link.lock();
        // What it was found not to do, it still does not.
        let known = link.geometry.unwrap_or(geometry);
        link.geometry = Some(Geometry {
            flush: known.flush,
            discard: still(known.discard, geometry.discard),
            ..geometry
        });
        drop(link);
        // Nobody was told of the answers of a backend that began anew.
        for queue in self.queues.iter().take(self.live_queues()) {
            let mut queue = queue.lock();
            queue.receive(NOBODY)?;
            let _another = queue.hand_over(NOBODY, &self.ranges);
            queue.pump()?;
        }
        Ok(())
    }

    fn drain(&self) {
        self.each_queue(Queue::drain);
    }

    fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        // It takes answers, too: perhaps nobody waits for them.
        let token = self.number();
        for queue in &self.queues {
            loop {
                let mut queue = queue.lock();
                if queue.receive(NOBODY).is_err() || queue.in_ring() == 0 || !queue.is_served() {
                    break;
                }
                if queue.listen(cx, token).is_pending() {
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    fn is_released(&self) -> bool {
        let mut queues = self.queues.iter();
        queues.all(|queue| queue.lock().is_over())
    }

    fn stop(&self, why: Stop) {
        let status = Status::from(why);
        self.set_status(status);
        self.kept.end();
        match error_of(status) {
            None => self.each_queue(Queue::detach),
            Some(error) => self.each_queue(|queue| queue.fail(error)),
        }
    }

    fn retrying(&self, fault: Fault, attempts: u32) {
        self.set_status(Status::Retrying { fault, attempts });
    }

    fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Request> {
        self.requests.poll(cx)
    }
}

impl<'g, P: Platform> Core<'g, P> {
    /// Makes rings, as many and as large as wanted. If ports, grants or memory run out,
    /// there are fewer (half of what could be had, since others need some, too), and
    /// smaller ones; without a single small one there is no disk.
    #[expect(clippy::type_complexity, reason = "how a backend is told of a ring")]
    fn attach(
        &self,
        peer: DomId,
        trusted: Trusted,
        wanted: usize,
        mut order: u32,
    ) -> Result<(Vec<(Vec<GrantRef>, Port)>, u32), Fault> {
        loop {
            let mut rings = Vec::new();
            let mut missing = None;
            for queue in self.queues.iter().take(wanted) {
                let mut queue = queue.lock();
                match queue.attach(self.bus.ports(), (peer, trusted), 1 << order) {
                    Ok(ring) => rings.push(ring),
                    Err(fault) => {
                        missing = Some(fault);
                        break;
                    }
                }
            }
            match missing {
                None => return Ok((rings, order)),
                Some(fault) if rings.is_empty() && order == 0 => return Err(fault),
                Some(_) if rings.is_empty() => order -= 1,
                Some(_) => {
                    rings.truncate(rings.len().div_ceil(2));
                    return Ok((rings, order));
                }
            }
        }
    }

    /// The way of flushing that is used now, and in which connection; after one that has
    /// `failed`, another.
    pub(super) fn flush_way(&self, failed: Option<Flush>) -> Result<(Flush, u64), Error> {
        let link = self.link.lock();
        let way = match failed {
            None => link.flushes.best(),
            Some(failed) => link.flushes.other(failed).ok_or(Error::Io)?,
        };
        Ok((way, link.connection))
    }

    /// What came of a flush by `way`: whether it may have failed because the backend has
    /// no such way, and another is to be tried.
    pub(super) fn flushed(
        &self,
        (way, connection): (Flush, u64),
        result: Result<(), Error>,
    ) -> TryAnother {
        let mut link = self.link.lock();
        if link.connection != connection {
            // Another backend's, perhaps of another request.
            return TryAnother::Yes;
        }
        match result {
            Ok(()) => link.flushes.works(way),
            Err(Error::NotSupported(_)) => {
                link.flushes.refuse(way);
                let flush = link.flushes.best();
                if let Some(geometry) = &mut link.geometry {
                    geometry.flush = flush;
                }
                return TryAnother::Yes;
            }
            // It did it before: what it failed to make last is lost.
            Err(_) if link.flushes.is_known_to_work(way) => {}
            Err(_) => return TryAnother::Yes,
        }
        TryAnother::No
    }

    /// The disk has no such discard after all.
    pub(super) fn discard_refused(&self, secure: Secure) {
        let mut link = self.link.lock();
        if let Some(geometry) = &mut link.geometry {
            match (secure, &mut geometry.discard) {
                (Secure::Offered, Some(limits)) => limits.secure = Secure::NotOffered,
                (_, discard) => *discard = None,
            }
        }
    }
}

/// Whether another way may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TryAnother {
    Yes,
    No,
}

/// What can be discarded after the backend wrote something: what it is known not to do,
/// it still does not.
fn still(known: Option<DiscardLimits>, new: Option<DiscardLimits>) -> Option<DiscardLimits> {
    let (known, new) = (known?, new?);
    Some(match known.secure {
        Secure::Offered => new,
        Secure::NotOffered => DiscardLimits {
            secure: Secure::NotOffered,
            ..new
        },
    })
}
