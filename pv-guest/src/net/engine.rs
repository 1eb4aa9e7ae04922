//! What a stack does: packets in and out, and who is told.

use alloc::vec::Vec;
use core::{
    net::SocketAddr,
    task::{Context, Poll},
};

use hypercall_abi::platform::Platform;
use smoltcp::{
    iface::{self, Interface},
    socket::tcp,
    time::Instant,
    wire::{HardwareAddress, IpAddress},
};

use super::{
    Config, Error,
    addresses::Addresses,
    connection::{Connection, Id, Waiting},
    connections::Connections,
    syn::{Kind, Syn},
};
use crate::{
    adapt::smoltcp::Device,
    netfront::{self, Nic, TURN},
    xenbus::{Alarm, Bus},
};

/// When a stack is asked again that says it has something to do, and does nothing.
const STUCK_NS: u64 = 1_000_000;
/// Rounds of a turn.
const ROUNDS: u32 = 8;

/// After so many whole turns in a row in which only this side sent, and for nobody new, and
/// those that it takes to send all there is, a connection sends for no reason.
const IDLE_TURNS: u32 = 3;

pub(super) struct Engine<'g, P: Platform> {
    bus: Bus<'g, P>,
    nic: Nic<'g, P>,
    device: Device<'g, P>,
    interface: Interface,
    addresses: Addresses,
    connections: Connections,
    pub(super) config: Config,
    /// Whole turns of sending in a row, since something came or was done.
    idle_turns: u32,
    /// When TCP has something to do.
    tcp_ns: Option<u64>,
    /// Who waits for addresses, or until all has arrived.
    news: Vec<Waiting>,
    /// Nothing works any more, for this reason.
    pub(super) ended: Option<netfront::Error>,
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
        let mut connections = Connections::new(config, seed, now_ns);
        let addresses = Addresses::new(&config, &mut interface, &mut connections.sockets);
        Self {
            bus,
            nic: nic.clone(),
            device,
            interface,
            addresses,
            connections,
            config,
            idle_turns: 0,
            tcp_ns: None,
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
            let is_touched = self.connections.is_touched();
            if is_touched {
                self.idle_turns = 0;
            }
            if is_touched || self.next_ns().is_some_and(|at_ns| at_ns <= now_ns) {
                self.connections.clear_touch();
                self.configure(now_ns);
                self.send(now_ns);
                if self.connections.update(now_ns) {
                    self.tell_news();
                }
                if self.connections.is_touched() {
                    continue;
                }
            }
            if let Some(error) = netfront::Error::of(self.nic.status()) {
                self.end(error);
                return Poll::Ready(error);
            }
            let lacked_room = self.device.lacks_room();
            if self.device.poll_changed(cx).is_ready() {
                if lacked_room {
                    self.connections.touch();
                }
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

    fn next_ns(&self) -> Option<u64> {
        let all = [
            self.tcp_ns,
            self.connections.ends_ns(),
            self.addresses.next_ns(),
        ];
        all.into_iter().flatten().min()
    }

    /// Takes the packets that came: a turn's worth of them.
    fn receive(&mut self, now_ns: u64) {
        let mut count = 0;
        while let Some(frame) = self.device.look() {
            count += 1;
            if let Some(syn) = Syn::of(frame) {
                if syn.kind == Kind::Asks && !self.on_syn(syn, now_ns) {
                    self.device.pass_over();
                    continue;
                }
                self.note_segments(syn);
            }
            self.connections.touch();
            let (device, sockets) = (&mut self.device, &mut self.connections.sockets);
            self.interface
                .poll_ingress_single(instant(now_ns), device, sockets);
        }
        if count < TURN {
            self.connections.has_heard(now_ns);
        }
    }

    /// Makes room for who asks for a connection. False: there is none. A SYN to another host,
    /// whatever its port, is none of this stack's.
    fn on_syn(&mut self, syn: Syn, now_ns: u64) -> bool {
        let is_own = self.interface.has_ip_addr(IpAddress::from(syn.local.ip()));
        !is_own || self.connections.on_syn(syn, now_ns)
    }

    /// The other end of a connection says how large the segments are that it takes. Once: what
    /// it says later is not heard, and somebody else may have said it.
    fn note_segments(&mut self, syn: Syn) {
        let SocketAddr::V6(remote) = syn.remote else {
            return;
        };
        let local = syn.local.ip();
        let connections = &self.connections;
        let state = |(remote, port)| {
            connections.state(SocketAddr::new(local, port), SocketAddr::V6(remote))
        };
        let ends = (remote, syn.local.port());
        if state(ends).is_none_or(|state| state == tcp::State::SynSent) {
            self.device
                .note_segments(ends, |other| state(other).is_some());
        }
    }

    /// Takes over the addresses that DHCP has found out.
    fn configure(&mut self, now_ns: u64) {
        let (interface, sockets) = (&mut self.interface, &mut self.connections.sockets);
        if self.addresses.update(now_ns, interface, sockets) {
            self.tell_news();
        }
    }

    /// Sends what is to be sent, and notes when there is more.
    fn send(&mut self, now_ns: u64) {
        let now = instant(now_ns);
        let mut has_sent = true;
        for _ in 0..TURN {
            let (device, sockets) = (&mut self.device, &mut self.connections.sockets);
            let result = self.interface.poll_egress(now, device, sockets);
            let at = self.interface.poll_at(now, &self.connections.sockets);
            let is_due = at.is_some_and(|at| at <= now);
            let had_sent = has_sent;
            has_sent = result == iface::PollResult::SocketStateChanged;
            self.tcp_ns = match is_due {
                // It goes on when there is room.
                true if self.device.lacks_room() => None,
                true if had_sent || has_sent => continue,
                true => Some(now_ns.saturating_add(STUCK_NS)),
                false => at.map(nanoseconds),
            };
            return;
        }
        self.idle_turns += 1;
        self.tcp_ns = Some(now_ns);
        let turns = self.connections.most_packets() / TURN;
        if self.idle_turns >= turns.saturating_add(IDLE_TURNS) {
            self.connections.end_storms(now_ns);
            self.tcp_ns = Some(now_ns.saturating_add(STUCK_NS));
        }
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

    /// The stack has something to do. True: its task is to be woken.
    pub(super) const fn touch(&mut self) -> bool {
        self.connections.touch()
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
