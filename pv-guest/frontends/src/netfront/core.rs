//! What all handles of a network interface share, and what the bus knows of it.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    task::{Context, Poll},
};

use hypercall_abi::{DomId, io::xenbus::XenbusState, platform::Platform};
use spin::Mutex;

use super::{
    Config, Features, Interface, Multicast, Offloads,
    control::Control,
    groups::{Filter, Groups},
    queue::{Events, Queue},
    turn::Turns,
    waiters::Waiters,
};
use crate::{
    buffers::{KeptPages, Lender},
    xenbus::{
        Bus, Fault, Frontend, Key, KeyName, Offer, Request, Requests, Service, Status, Stop,
        Trusted,
    },
};

/// What was agreed on.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) status: Status,
    /// As it was when there was a connection last.
    pub(super) interface: Option<Interface>,
    pub(super) peer: DomId,
    /// Multicast groups that are wanted.
    pub(super) groups: Groups,
    /// Whether pages of the user's may be lent to the backend.
    pub(super) trusted: Trusted,
    /// Connections that there were.
    pub(super) connections: u64,
    /// Whether somebody looks after the connection.
    pub(super) service: Service,
}

/// Whether the backend said something of groups, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Something,
    Nothing,
}

/// A network interface.
#[derive(Debug)]
pub(super) struct Core<'g, P: Platform> {
    pub(super) bus: Bus<'g, P>,
    /// Who lends to its backend.
    pub(super) lender: Lender<'g, P>,
    pub(super) id: String,
    pub(super) config: Config,
    pub(super) queues: Vec<Mutex<Queue<'g, P>>>,
    live_queues: AtomicUsize,
    /// The backend ends, and the bus waits for its answers.
    is_draining: AtomicBool,
    pub(super) link: Mutex<Link>,
    pub(super) control: Mutex<Option<Control<'g, P>>>,
    pub(super) requests: Requests,
    /// Pages of buffers that the backend has not let go of.
    pub(super) kept: Arc<KeptPages<'g, P>>,
    pub(super) waiters: Waiters,
    /// Somebody holds a packet back: see [`Poller::send_with`](super::Poller::send_with).
    pub(super) holds: AtomicBool,
    /// The backend is still to be told of groups, or to answer.
    tells_groups: AtomicBool,
    pub(super) turns: Turns,
    /// The queue that is asked for a packet next: all take turns, so that a flood on one
    /// keeps nothing of the others' back.
    pub(super) next_queue: AtomicUsize,
}

impl<'g, P: Platform> Core<'g, P> {
    pub(super) fn new(bus: Bus<'g, P>, id: String, config: Config) -> Self {
        let rx_pages = config.rx_pages as usize;
        let lender = Lender::new(bus.grants(), bus.owner_of(Self::KIND, &id));
        let queues = (0..config.queues.max(1)).map(|_| Mutex::new(Queue::new(lender, rx_pages)));
        Self {
            bus,
            lender,
            id,
            config,
            queues: queues.collect(),
            live_queues: AtomicUsize::new(1),
            is_draining: AtomicBool::new(false),
            link: Mutex::new(Link {
                status: Status::Connecting,
                interface: None,
                peer: DomId(0),
                groups: Groups::new(),
                trusted: Trusted::No,
                connections: 0,
                service: Service::GoesOn,
            }),
            control: Mutex::new(None),
            requests: Requests::default(),
            // A backend maps a packet's pages for that packet: no others are of use to it.
            kept: KeptPages::new(0),
            waiters: Waiters::new(),
            holds: AtomicBool::new(false),
            tells_groups: AtomicBool::new(false),
            turns: Turns::default(),
            next_queue: AtomicUsize::new(0),
        }
    }

    /// The queues that the backend serves.
    pub(super) fn live(&self) -> &[Mutex<Queue<'g, P>>] {
        let live = self.live_queues.load(Ordering::Acquire).max(1);
        self.queues.get(..live).unwrap_or(&self.queues)
    }

    /// Whether the bus is to know of events.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    pub(super) fn set_status(&self, status: Status) {
        self.link.lock().status = status;
        self.waiters.wake_all();
    }

    /// Asks the bus to connect anew; until it does, packets wait. An interface that nobody
    /// looks after any more stays as it is.
    pub(super) fn begin_again(&self) {
        {
            let mut link = self.link.lock();
            if link.service == Service::Ended {
                return;
            }
            link.status = Status::Connecting;
        }
        self.waiters.wake_all();
        self.requests.begin_again();
    }

    /// Nobody looks after the connection any more, and this is how it stays.
    pub(super) fn end_service(&self, outcome: Result<(), xenstore_client::Error>) {
        self.link.lock().service = Service::Ended;
        self.set_status(Status::at_end(outcome));
    }

    /// Tells the backend of groups, as far as there is room, and takes its answers.
    pub(super) fn tell_groups(&self) -> Result<Told, Fault> {
        let mut link = self.link.lock();
        let Some(first) = self.queues.first() else {
            return Ok(Told::Nothing);
        };
        let mut queue = first.lock();
        if !queue.is_open() {
            return Ok(Told::Nothing);
        }
        queue.tx.reclaim()?;
        let mut told = Told::Nothing;
        for answer in queue.tx.take_answers() {
            link.groups.answered(answer);
            told = Told::Something;
        }
        while let Some((kind, group)) = link.groups.next() {
            if !queue.tx.push_group(kind, group) {
                break;
            }
            link.groups.asked(kind, group);
        }
        queue.publish()?;
        let waits = link.groups.waits();
        self.tells_groups.store(waits, Ordering::Release);
        // Who sleeps is woken by the next answer.
        if waits && queue.tx.listen() {
            told = Told::Something;
        }
        drop(queue);
        drop(link);
        if told == Told::Something {
            self.waiters.wake_all();
        }
        Ok(told)
    }

    /// The same, if there is something to be told, or to be answered.
    pub(super) fn go_on_telling_groups(&self) -> Result<Told, Fault> {
        match self.tells_groups.load(Ordering::Acquire) {
            true => self.tell_groups(),
            false => Ok(Told::Nothing),
        }
    }

    /// Goes on telling the backend how to choose queues.
    pub(super) fn advance_control(&self) -> Result<(), Fault> {
        let mut control = self.control.lock();
        control.as_mut().map_or(Ok(()), Control::advance)
    }

    /// Makes so many queues, or fewer if ports, grants or memory are short; says how many.
    ///
    /// # Errors
    /// There is not enough for one.
    fn attach(&self, offer: &Offer, trusted: Trusted, wanted: usize) -> Result<usize, Fault> {
        let events = match offer.backend.has("feature-split-event-channels") {
            true => Events::Split,
            false => Events::One,
        };
        for queue in self.queues.iter().skip(wanted) {
            queue.lock().fail();
        }
        let mut count = 0;
        for queue in self.queues.iter().take(wanted) {
            let mut queue = queue.lock();
            match queue.attach(self.bus.ports(), (offer.domid, trusted), events) {
                Ok(()) => count += 1,
                Err(fault) => {
                    // Neither this one nor those behind it.
                    queue.fail();
                    if count == 0 {
                        return Err(fault);
                    }
                    break;
                }
            }
        }
        for queue in self.queues.iter().take(wanted).skip(count) {
            queue.lock().fail();
        }
        Ok(count)
    }

    fn features(&self) -> Vec<Key> {
        let flag = |name, value: bool| Key::new(name, u32::from(value));
        let offloads = self.config.offloads == Offloads::All;
        let mut keys = alloc::vec![
            flag("request-rx-copy", true),
            flag("feature-rx-notify", true),
            flag("feature-sg", true),
            flag("feature-gso-tcpv4", offloads),
            flag("feature-gso-tcpv6", offloads),
            flag("feature-no-csum-offload", !offloads),
            flag("feature-ipv6-csum-offload", offloads),
        ];
        if self.config.multicast == Multicast::Joined {
            keys.push(flag("request-multicast-control", true));
        }
        keys
    }
}

impl<P: Platform> Frontend for Core<'_, P> {
    const KIND: &'static str = "vif";
    const BACKEND_KEYS: &'static [&'static str] = Interface::BACKEND_KEYS;
    const OWN_KEYS: &'static [&'static str] = Interface::OWN_KEYS;
    /// Source: `io/netif.h`; Linux's frontends and backends (`xdp-headroom`).
    const FRONTEND_KEYS: &'static [KeyName] = &[
        KeyName::One("multi-queue-num-queues"),
        KeyName::Numbered("queue-"),
        KeyName::One("tx-ring-ref"),
        KeyName::One("rx-ring-ref"),
        KeyName::One("event-channel"),
        KeyName::One("event-channel-tx"),
        KeyName::One("event-channel-rx"),
        KeyName::One("ctrl-ring-ref"),
        KeyName::One("event-channel-ctrl"),
        KeyName::One("request-rx-copy"),
        KeyName::One("request-multicast-control"),
        KeyName::One("feature-rx-notify"),
        KeyName::One("feature-sg"),
        KeyName::One("feature-gso-tcpv4"),
        KeyName::One("feature-gso-tcpv4-prefix"),
        KeyName::One("feature-gso-tcpv6"),
        KeyName::One("feature-gso-tcpv6-prefix"),
        KeyName::One("feature-no-csum-offload"),
        KeyName::One("feature-ipv6-csum-offload"),
        KeyName::One("xdp-headroom"),
    ];
    const PUBLISHED_STATE: XenbusState = XenbusState::CONNECTED;

    fn negotiate(&self, offer: &Offer) -> Result<Vec<Key>, Fault> {
        let most = self.queues.len() as u32;
        let wanted = offer.backend.up_to("multi-queue-max-queues", 1..=most) as usize;
        let mut interface = Interface::read(offer, wanted)?;
        let trusted = self.config.trust.of(offer);
        let count = self.attach(offer, trusted, wanted)?;
        interface.queues = count;
        let mut keys = self.features();
        if count > 1 {
            keys.push(Key::new("multi-queue-num-queues", count));
        }
        for (index, queue) in self.queues.iter().enumerate().take(count) {
            keys.extend(queue.lock().keys((index, count)));
        }
        self.live_queues.store(count, Ordering::Release);
        *self.control.lock() = None;
        if let Some(steering) = &self.config.steering
            && count > 1
            && interface.features.contains(Features::STEERING)
        {
            let (grants, ports) = (self.lender, self.bus.ports());
            // One that is not to be had is done without: the backend chooses as it likes.
            if let Ok((control, told)) = Control::new(grants, ports, offer.domid, steering, count) {
                keys.extend(told);
                *self.control.lock() = Some(control);
            }
        }
        self.kept.begin(offer.domid);
        if trusted == Trusted::No {
            self.kept.withdraw();
        }
        let mut link = self.link.lock();
        link.peer = offer.domid;
        link.trusted = trusted;
        link.interface = Some(interface);
        Ok(keys)
    }

    fn is_served(&self) -> bool {
        Self::live(self)
            .iter()
            .all(|queue| queue.lock().is_served())
    }

    fn live(&self, offer: &Offer) -> Result<(), Fault> {
        let mut features = Features::empty();
        let mut link = self.link.lock();
        let carrier = Interface::carrier(&offer.backend);
        if let Some(interface) = &mut link.interface {
            interface.carrier = carrier;
            features = interface.features;
        }
        link.connections += 1;
        let is_told = self.config.multicast == Multicast::Joined;
        link.groups
            .begin(match is_told && features.contains(Features::MULTICAST) {
                true => Filter::Groups,
                false => Filter::Nothing,
            });
        drop(link);
        for queue in Self::live(self) {
            queue.lock().open(features)?;
        }
        self.tell_groups()?;
        self.advance_control()?;
        self.set_status(Status::Connected);
        Ok(())
    }

    fn changed(&self, offer: &Offer) -> Result<(), Fault> {
        let carrier = Interface::carrier(&offer.backend);
        let mut link = self.link.lock();
        if let Some(interface) = &mut link.interface {
            interface.carrier = carrier;
        }
        drop(link);
        // Of the carrier, and of what a backend that began anew told nobody.
        self.waiters.wake_all();
        Ok(())
    }

    fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        for queue in &self.queues {
            queue.lock().drain();
        }
    }

    fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        for queue in Self::live(self) {
            loop {
                let mut queue = queue.lock();
                if queue.tx.reclaim().is_err() || queue.tx.in_ring() == 0 || !queue.is_served() {
                    break;
                }
                if queue.tx.listen() {
                    continue;
                }
                // The bus waits in place of those who wait for packets, who are
                // told when this is over.
                if queue.poll_events(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    fn stop(&self, why: Stop) {
        let status = Status::from(why);
        self.is_draining.store(false, Ordering::Release);
        // First: what the backend may be about to send is not lent again.
        self.kept.end();
        for queue in &self.queues {
            let mut queue = queue.lock();
            match why {
                Stop::Lost => queue.detach(),
                _ => queue.fail(),
            }
        }
        *self.control.lock() = None;
        self.link.lock().groups.begin(Filter::Unknown);
        self.tells_groups.store(false, Ordering::Release);
        self.set_status(status);
    }

    fn retrying(&self, fault: Fault, attempts: u32) {
        self.set_status(Status::Retrying { fault, attempts });
    }

    fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Request> {
        self.requests.poll(cx)
    }
}
