//! What a stack does: packets in and out, and who is told.

use alloc::vec::Vec;
use core::{
    net::SocketAddr,
    task::{Context, Poll},
};

use hypercall_abi::platform::Platform;
use smoltcp::{
    iface::{self, Interface, SocketSet},
    socket::tcp::{self, State},
    time::Instant,
    wire::{HardwareAddress, IpAddress},
};

use super::{
    Config, Error,
    addresses::Addresses,
    connection::{Connection, Id, Waiting},
    connections::{Connections, Whose},
    segment::{Ends, Kind, Segment},
    sending::{At, STUCK_NS},
};
use crate::{
    adapters::smoltcp::Device,
    netfront::{
        self, Nic, TURN,
        checksum::{carried, number},
    },
    xenbus::{Alarm, Bus},
};

/// Rounds of a turn.
const ROUNDS: u32 = 8;

/// What there is beside connections.
struct Others {
    sockets: SocketSet<'static>,
    /// Something came or was done: there may be something to send.
    has_work: bool,
    /// When there will be.
    next_ns: Option<u64>,
    /// The sockets of packets of TCP that are nobody's: none.
    nobodys: SocketSet<'static>,
}

impl Others {
    fn new() -> Self {
        Self {
            sockets: SocketSet::new(Vec::new()),
            has_work: true,
            next_ns: None,
            nobodys: SocketSet::new(Vec::new()),
        }
    }
}

pub(super) struct Engine<'g, P: Platform> {
    bus: Bus<'g, P>,
    nic: Nic<'g, P>,
    device: Device<'g, P>,
    interface: Interface,
    addresses: Addresses,
    connections: Connections,
    others: Others,
    pub(super) config: Config,
    /// Who waits for addresses, or until all has arrived.
    news: Vec<Waiting>,
    /// Nothing works any more, for this reason.
    pub(super) ended: Option<netfront::Error>,
}

/// Whether a frame may say where somebody is: ARP, and ICMP of IPv6.
fn tells_of_neighbors(frame: &[u8]) -> bool {
    const ARP: u16 = 0x0806;
    const ICMPV6: u8 = 58;
    number(frame, 12) == Some(ARP) || matches!(carried(frame), Some((ICMPV6, _)))
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns / 1000).unwrap_or(i64::MAX))
}

fn nanoseconds(at: Instant) -> u64 {
    u64::try_from(at.total_micros())
        .unwrap_or(0)
        .saturating_mul(1000)
}

impl<'g, P: Platform> Engine<'g, P> {
    pub(super) fn new(nic: &Nic<'g, P>, mut device: Device<'g, P>, config: Config) -> Self {
        let bus = nic.bus();
        let now_ns = bus.now_ns();
        let address = HardwareAddress::Ethernet(device.address());
        let mut wanted = iface::Config::new(address);
        let seed = config.seed.unwrap_or(now_ns);
        wanted.random_seed = seed;
        let mut interface = Interface::new(wanted, &mut device, instant(now_ns));
        let connections = Connections::new(config, seed, now_ns);
        let mut others = Others::new();
        let addresses = Addresses::new(&config, &mut interface, &mut others.sockets);
        Self {
            bus,
            nic: nic.clone(),
            device,
            interface,
            addresses,
            connections,
            others,
            config,
            news: Vec::new(),
            ended: None,
        }
    }

    pub(super) const fn interface(&self) -> &Interface {
        &self.interface
    }

    pub(super) const fn bus(&self) -> Bus<'g, P> {
        self.bus
    }

    pub(super) const fn connections(&self) -> &Connections {
        &self.connections
    }

    // ---- A turn ----

    /// Does what is to be done, and has the task woken when there is more; `Ready`: the
    /// interface has ended.
    pub(super) fn turn(
        &mut self,
        cx: &mut Context<'_>,
        alarm: &mut Option<Alarm<'g>>,
    ) -> Poll<netfront::Error> {
        for _ in 0..ROUNDS {
            let now_ns = self.bus.now_ns();
            self.receive(now_ns);
            self.connections.wake_due(now_ns);
            self.serve_others(now_ns);
            self.send(now_ns);
            if !self.device.lacks_room() && self.has_work() {
                continue;
            }
            if let Some(error) = netfront::Error::of(self.nic.status()) {
                self.end(error);
                return Poll::Ready(error);
            }
            if self.device.poll_changed(cx).is_ready() {
                continue;
            }
            let Some(at_ns) = self.next_ns() else {
                *alarm = None;
                return Poll::Pending;
            };
            if alarm.as_ref().map(Alarm::deadline_ns) != Some(at_ns) {
                *alarm = Some(Alarm::new(self.bus.timer(), at_ns));
            }
            let due = alarm.as_mut().map(|alarm| alarm.poll(now_ns, cx));
            if due.is_none_or(|due| due.is_pending()) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn has_work(&self) -> bool {
        self.connections.has_work() || self.others.has_work
    }

    fn next_ns(&self) -> Option<u64> {
        let all = [
            self.others.next_ns,
            self.connections.next_ns(),
            self.addresses.next_ns(),
        ];
        all.into_iter().flatten().min()
    }

    /// Takes the packets that came: a turn's worth of them. Each goes to its connection's
    /// socket, or to all that are none of TCP.
    fn receive(&mut self, now_ns: u64) {
        let mut count = 0;
        while let Some(frame) = self.device.look() {
            count += 1;
            let tells_of_neighbors = tells_of_neighbors(frame);
            let segment = Segment::of(frame);
            let whose = segment.map(|segment| self.whose(segment, now_ns));
            let (id, sockets) = match whose {
                Some(Whose::Unanswered) => {
                    self.device.pass_over();
                    continue;
                }
                Some(Whose::Of(id)) => (Some(id), self.connections.set(id)),
                Some(Whose::Nobodys) | None => (None, None),
            };
            let sockets = match (whose, sockets) {
                (_, Some(sockets)) => sockets,
                (None, None) => {
                    self.others.has_work = true;
                    &mut self.others.sockets
                }
                (Some(_), None) => &mut self.others.nobodys,
            };
            let (device, now) = (&mut self.device, instant(now_ns));
            self.interface.poll_ingress_single(now, device, sockets);
            if let Some(id) = id {
                self.connections.touch(id);
                self.connections.update(id, now_ns);
            }
            if tells_of_neighbors {
                self.connections.wake_waiting();
            }
        }
        if count < TURN {
            self.connections.has_heard(now_ns);
        }
    }

    /// Whose a packet of TCP is. One to another host, whatever its port, is nobody's here.
    fn whose(&mut self, segment: Segment, now_ns: u64) -> Whose {
        let local = IpAddress::from(segment.ends.local.ip());
        if !self.interface.has_ip_addr(local) {
            return Whose::Nobodys;
        }
        let whose = self.connections.whose(segment, now_ns);
        if segment.kind != Kind::Other && matches!(whose, Whose::Of(_)) {
            self.note_segments(segment.ends);
        }
        whose
    }

    /// The other end of a connection says how large the segments are that it takes. Once: what
    /// it says later is not heard, and somebody else may have said it.
    fn note_segments(&mut self, ends: Ends) {
        let SocketAddr::V6(remote) = ends.remote else {
            return;
        };
        let connections = &self.connections;
        let state = |(remote, port)| {
            connections.state(Ends {
                local: SocketAddr::new(ends.local.ip(), port),
                remote: SocketAddr::V6(remote),
            })
        };
        let ends = (remote, ends.local.port());
        if matches!(state(ends), Some(State::SynSent | State::Listen)) {
            self.device
                .note_segments(ends, |other| state(other).is_some());
        }
    }

    /// What there is beside TCP: DHCP, and its addresses.
    fn serve_others(&mut self, now_ns: u64) {
        let next_ns = [self.others.next_ns, self.addresses.next_ns()];
        let is_due = next_ns.into_iter().flatten().any(|at_ns| at_ns <= now_ns);
        if !is_due && !self.others.has_work {
            return;
        }
        self.configure(now_ns);
        let (has_sent, at) = self.poll(now_ns, None);
        self.configure(now_ns);
        self.others.has_work = at == At::Now && (has_sent || self.device.lacks_room());
        self.others.next_ns = match at {
            At::Never => None,
            At::Later(at_ns) => Some(at_ns),
            At::Now if self.others.has_work => None,
            At::Now => Some(now_ns.saturating_add(STUCK_NS)),
        };
    }

    /// Takes over the addresses that DHCP has found out.
    fn configure(&mut self, now_ns: u64) {
        let (interface, sockets) = (&mut self.interface, &mut self.others.sockets);
        if self.addresses.update(now_ns, interface, sockets) {
            // Whose address is gone is told so when he is asked to send.
            self.connections.touch_all();
            self.tell_news();
        }
    }

    /// Has those send who have something, one packet each in turns: a turn's worth of them.
    fn send(&mut self, now_ns: u64) {
        let mut has_done = false;
        for _ in 0..TURN {
            let Some(id) = self.connections.next() else {
                break;
            };
            has_done = true;
            let (has_sent, at) = self.poll(now_ns, Some(id));
            if at == At::Now && self.device.lacks_room() {
                // It goes on when there is some.
                self.connections.put_back(id);
                self.connections.update(id, now_ns);
                break;
            }
            self.connections.has_sent(id, has_sent, at, now_ns);
            self.connections.update(id, now_ns);
        }
        has_done |= self.connections.take_removed();
        if has_done && !self.news.is_empty() && self.connections.is_settled() {
            self.tell_news();
        }
    }

    /// Has a connection send a packet, or what there is beside TCP: whether it did, and when
    /// it is to be asked again.
    fn poll(&mut self, now_ns: u64, id: Option<Id>) -> (bool, At) {
        let sockets = match id {
            Some(id) => self.connections.set(id),
            None => Some(&mut self.others.sockets),
        };
        let Some(sockets) = sockets else {
            return (false, At::Never);
        };
        let now = instant(now_ns);
        let result = self.interface.poll_egress(now, &mut self.device, sockets);
        let at = match self.interface.poll_at(now, sockets) {
            Some(at) if at <= now => At::Now,
            Some(at) => At::Later(nanoseconds(at)),
            None => At::Never,
        };
        (result == iface::PollResult::SocketStateChanged, at)
    }

    // ---- News ----

    /// The task is woken once when there are addresses, when all has arrived, or at the end.
    pub(super) fn wait_for_news(&mut self, cx: &Context<'_>) {
        // Once, however often somebody asks.
        if !self.news.iter().any(|known| known.is_for(cx.waker())) {
            let mut waiting = Waiting::default();
            waiting.set(cx.waker());
            self.news.push(waiting);
        }
    }

    fn tell_news(&mut self) {
        for mut waiting in self.news.drain(..) {
            waiting.wake();
        }
    }

    fn end(&mut self, error: netfront::Error) {
        self.ended = Some(error);
        self.connections.wake_all();
        self.tell_news();
    }

    // ---- Connections ----

    /// Something was done with a connection. True: the stack's task is to be woken.
    pub(super) fn touch(&mut self, id: Id) -> bool {
        self.connections.touch(id)
    }

    pub(super) fn socket(&mut self, id: Id) -> Option<&mut tcp::Socket<'static>> {
        self.connections.socket(id)
    }

    /// A connection, and its socket.
    pub(super) fn both(&mut self, id: Id) -> Option<(&mut Connection, &mut tcp::Socket<'static>)> {
        self.connections.both(id)
    }

    /// Begins a connection to somebody else.
    pub(super) fn connect(&mut self, remote: SocketAddr) -> Result<Id, Error> {
        let context = self.interface.context();
        self.connections.connect(context, remote)
    }

    /// A connection's stream has closed it, and leaves it to the stack.
    pub(super) fn finish(&mut self, id: Id) {
        self.connections.finish(id, self.bus.now_ns());
    }

    /// A connection's stream is gone.
    pub(super) fn abort(&mut self, id: Id) {
        self.connections.abort(id, self.bus.now_ns());
    }

    pub(super) fn listen(&mut self, port: u16) -> Result<(), Error> {
        self.connections.listen(port)
    }

    pub(super) fn unlisten(&mut self, port: u16) {
        self.connections.unlisten(port, self.bus.now_ns());
    }

    /// The next client of a port's.
    pub(super) fn poll_accept(&mut self, port: u16, cx: &Context<'_>) -> Poll<Result<Id, Error>> {
        match self.ended {
            Some(error) => Poll::Ready(Err(error.into())),
            None => self.connections.poll_accept(port, cx),
        }
    }
}
