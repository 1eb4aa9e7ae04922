//! What a stack does: packets in and out, and who is told.

use alloc::{collections::VecDeque, vec::Vec};
use core::{
    net::SocketAddr,
    task::{Context, Poll},
};

use hypercall_abi::platform::Platform;
use smoltcp::{
    iface::{self, Interface, SocketHandle, SocketSet},
    socket::{dhcpv4, tcp},
    time::{Duration, Instant},
    wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint},
};

use super::{
    Config, Error, V4, V6,
    buffers::Budget,
    config::is_host,
    connection::{Connection, Id, Phase, Port, Table, Waiting},
    knock::Knock,
};
use crate::{
    adapt::smoltcp::Device,
    netfront::{self, Nic, TURN},
    xenbus::{Alarm, Bus},
};

/// How long a client has to answer before another may have his place: until the question
/// was put again, for he may be many among those who come at once.
const GRACE_NS: u64 = 1_000_000_000;
/// How long he has if nobody wants it.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an acknowledgement waits for an answer to go with. An answer from memory takes
/// less; and one large packet may be all that the other end can send without it.
const ACK_DELAY: Duration = Duration::from_millis(1);
/// How long it is tried to tell the other end that a connection was aborted.
const ABORT_NS: u64 = 2_000_000_000;
/// When a stack is asked again that says it has something to do, and does nothing.
const STUCK_NS: u64 = 1_000_000;
/// Rounds of a turn.
const ROUNDS: u32 = 8;
const FIRST_EPHEMERAL: u16 = 49_152;

/// After so many whole turns in a row in which only this side sent, and for nobody new, a
/// connection sends for no reason.
const IDLE_TURNS: u32 = 3;

/// For whom there is to be room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RoomFor {
    /// A client, of whom nothing is known: such ones are bounded.
    Client,
    /// This side.
    Us,
}

/// What becomes of one who asks for a connection.
enum Asked {
    /// It is none of this stack's concern, or it has the connection already.
    Pass,
    /// There is a socket for it now.
    Opened(Id),
    /// There is no room: he is not answered.
    Full,
}

pub(super) struct Engine<'g, P: Platform> {
    bus: Bus<'g, P>,
    nic: Nic<'g, P>,
    device: Device<'g, P>,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: Option<SocketHandle>,
    pub(super) config: Config,
    pub(super) table: Table,
    ports: Vec<Port>,
    budget: Budget,
    half_open: usize,
    /// When all that had come had been looked at.
    heard_ns: u64,
    next_port: u16,
    /// Something was done that may have to leave.
    is_touched: bool,
    /// Whole turns of sending in a row, since something came or was done.
    idle_turns: u32,
    /// When TCP has something to do, or a connection's time is over.
    tcp_ns: Option<u64>,
    ends_ns: Option<u64>,
    /// Who waits for addresses, or until all has arrived.
    pub(super) news: Vec<Waiting>,
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

/// Never is a time that can be added to any other.
fn smol(time: core::time::Duration) -> Duration {
    const NEVER_US: u64 = i64::MAX as u64 / 4;
    Duration::from_micros(u64::try_from(time.as_micros()).map_or(NEVER_US, |us| us.min(NEVER_US)))
}

impl<'g, P: Platform> Engine<'g, P> {
    pub(super) fn new(nic: &Nic<'g, P>, mut device: Device<'g, P>, config: Config) -> Self {
        let bus = nic.bus();
        let now_ns = bus.now_ns();
        let address = HardwareAddress::Ethernet(device.address());
        let mut wanted = iface::Config::new(address);
        let seed = config.seed.unwrap_or(now_ns);
        wanted.random_seed = seed;
        let interface = Interface::new(wanted, &mut device, instant(now_ns));
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = (config.v4 == V4::Dhcp).then(|| sockets.add(dhcpv4::Socket::new()));
        let mut engine = Self {
            bus,
            nic: nic.clone(),
            device,
            interface,
            sockets,
            dhcp,
            config,
            table: Table::default(),
            ports: Vec::new(),
            budget: Budget::new(&config),
            half_open: 0,
            heard_ns: now_ns,
            next_port: FIRST_EPHEMERAL | (seed >> 7) as u16,
            is_touched: true,
            idle_turns: 0,
            tcp_ns: None,
            ends_ns: None,
            news: Vec::new(),
            ended: None,
        };
        if let V4::Static { address, gateway } = config.v4 {
            engine.set_v4(Some((address.into(), gateway)));
        }
        if let V6::Static { address, gateway } = config.v6 {
            engine.interface.update_ip_addrs(|all| {
                let _full = all.push(address.into());
            });
            if let Some(gateway) = gateway {
                let routes = engine.interface.routes_mut();
                let _full = routes.add_default_ipv6_route(gateway);
            }
        }
        engine
    }

    pub(super) fn interface(&self) -> &Interface {
        &self.interface
    }

    pub(super) const fn bus(&self) -> Bus<'g, P> {
        self.bus
    }

    pub(super) const fn used_bytes(&self) -> usize {
        self.budget.used_bytes()
    }

    fn set_v4(&mut self, known: Option<(IpCidr, Option<core::net::Ipv4Addr>)>) {
        self.interface.update_ip_addrs(|all| {
            all.retain(|one| matches!(one, IpCidr::Ipv6(_)));
            if let Some((address, _)) = known {
                let _full = all.push(address);
            }
        });
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some((_, Some(gateway))) = known {
            let _full = routes.add_default_ipv4_route(gateway);
        }
        self.tell_news();
    }

    fn tell_news(&mut self) {
        for mut waiting in self.news.drain(..) {
            waiting.wake();
        }
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
            if self.is_touched {
                self.idle_turns = 0;
            }
            if self.is_touched || self.next_ns().is_some_and(|at_ns| at_ns <= now_ns) {
                self.is_touched = false;
                self.configure();
                self.send(now_ns);
                self.sweep(now_ns);
                if self.is_touched {
                    continue;
                }
            }
            if let Some(error) = netfront::Error::of(self.nic.status()) {
                self.end(error);
                return Poll::Ready(error);
            }
            let lacked_room = self.device.lacks_room();
            if self.device.poll_changed(cx).is_ready() {
                self.is_touched |= lacked_room;
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
        self.tcp_ns.into_iter().chain(self.ends_ns).min()
    }

    /// Takes the packets that came: a turn's worth of them.
    fn receive(&mut self, now_ns: u64) {
        let mut count = 0;
        while let Some(frame) = self.device.look() {
            count += 1;
            let knock = Knock::of(frame);
            let asked = knock.map_or(Asked::Pass, |knock| self.ask(knock, now_ns));
            if matches!(asked, Asked::Full) {
                self.device.pass_over();
                continue;
            }
            self.is_touched = true;
            let (device, sockets) = (&mut self.device, &mut self.sockets);
            self.interface
                .poll_ingress_single(instant(now_ns), device, sockets);
            // The packet was not what it seemed to be.
            if let Asked::Opened(id) = asked
                && self
                    .socket(id)
                    .is_none_or(|socket| socket.state() == tcp::State::Listen)
            {
                self.remove(id);
            }
        }
        if count < TURN {
            self.heard_ns = now_ns;
        }
    }

    /// Makes a socket for one who asks for a connection, if there is none.
    fn ask(&mut self, knock: Knock, now_ns: u64) -> Asked {
        let port = knock.local.port();
        let address = IpAddress::from(knock.local.ip());
        if self.ports.iter().all(|one| one.number != port) || !self.interface.has_ip_addr(address) {
            return Asked::Pass;
        }
        if let Some(id) = self.find(knock) {
            if !self.is_in_time_wait(id) {
                return Asked::Pass;
            }
            // He begins anew: what was before is over for him.
            self.remove(id);
        }
        if !self.make_room(RoomFor::Client) {
            return Asked::Full;
        }
        let Some((id, socket)) = self.open(Phase::Opening { since_ns: now_ns }) else {
            return Asked::Full;
        };
        socket.set_timeout(Some(HANDSHAKE));
        let listen = IpListenEndpoint {
            addr: Some(address),
            port,
        };
        let _is_new = socket.listen(listen);
        self.half_open += 1;
        Asked::Opened(id)
    }

    /// The connection between these.
    fn find(&self, knock: Knock) -> Option<Id> {
        let (local, remote) = (
            IpEndpoint::from(knock.local),
            IpEndpoint::from(knock.remote),
        );
        let mut all = self.table.iter();
        let found = all.find(|(_, one)| {
            let socket = self.sockets.get::<tcp::Socket<'_>>(one.handle);
            socket.remote_endpoint() == Some(remote) && socket.local_endpoint() == Some(local)
        });
        found.map(|(id, _)| id)
    }

    fn is_in_time_wait(&mut self, id: Id) -> bool {
        let is_ending = |one: &mut Connection| matches!(one.phase, Phase::Ending { .. });
        self.table.get(id).is_some_and(is_ending)
            && self
                .socket(id)
                .is_some_and(|socket| socket.state() == tcp::State::TimeWait)
    }

    /// Whether there is room for one more: those go first who are over but for the last
    /// wait, then the one who has been asked for an answer for longest.
    fn make_room(&mut self, whom: RoomFor) -> bool {
        loop {
            let is_bounded = whom == RoomFor::Us || self.half_open < self.config.half_open;
            if is_bounded && self.budget.has_room() {
                return true;
            }
            let over = self.table.iter().map(|(id, _)| id).collect::<Vec<_>>();
            let over = over
                .into_iter()
                .find(|id| is_bounded && self.is_in_time_wait(*id));
            let silent = || {
                let all = self.table.iter().filter_map(|(id, one)| match one.phase {
                    // His answer is not among what waits to be looked at.
                    Phase::Opening { since_ns } if since_ns + GRACE_NS <= self.heard_ns => {
                        Some((since_ns, id))
                    }
                    _ => None,
                });
                all.min_by_key(|(since_ns, _)| *since_ns).map(|(_, id)| id)
            };
            let Some(id) = over.or_else(silent) else {
                return false;
            };
            self.remove(id);
        }
    }

    /// What DHCP has found out.
    fn configure(&mut self) {
        let Some(handle) = self.dhcp else {
            return;
        };
        let event = self.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll();
        let known = match event {
            None => return,
            Some(dhcpv4::Event::Deconfigured) => None,
            Some(dhcpv4::Event::Configured(found)) => {
                let usable = is_host(found.address.address(), found.router);
                usable.then_some((found.address.into(), found.router))
            }
        };
        self.set_v4(known);
    }

    /// Sends what is to be sent, and notes when there is more.
    fn send(&mut self, now_ns: u64) {
        let now = instant(now_ns);
        let mut has_sent = true;
        for _ in 0..TURN {
            let (device, sockets) = (&mut self.device, &mut self.sockets);
            let result = self.interface.poll_egress(now, device, sockets);
            let at = self.interface.poll_at(now, &self.sockets);
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
        if self.idle_turns >= IDLE_TURNS {
            self.end_storms(now_ns);
            self.tcp_ns = Some(now_ns.saturating_add(STUCK_NS));
        }
    }

    /// A peer that acknowledges the end of what it has no window for leaves smoltcp 0.14
    /// with a probe of that window which is always due. There is nothing left to tell it.
    fn end_storms(&mut self, now_ns: u64) {
        for id in (0..self.table.len()).map(Id) {
            let is_told_all = self.socket(id).is_some_and(|socket| {
                socket.state() == tcp::State::FinWait2 && socket.send_queue() == 0
            });
            if is_told_all {
                self.abort(id, now_ns);
            }
        }
    }

    /// Looks at all connections: who can go on is woken, and what is over goes.
    fn sweep(&mut self, now_ns: u64) {
        let (mut ends_ns, mut is_settled) = (None, true);
        for id in (0..self.table.len()).map(Id) {
            let Some(one) = self.table.get(id) else {
                continue;
            };
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(one.handle);
            let state = socket.state();
            is_settled &= socket.send_queue() == 0;
            match one.phase {
                Phase::Held => one.wake(socket),
                Phase::Opening { .. } => match state {
                    tcp::State::SynReceived => {}
                    tcp::State::Closed | tcp::State::Listen => self.remove(id),
                    _ => self.let_in(id),
                },
                Phase::Waiting if state == tcp::State::Closed => self.remove(id),
                Phase::Waiting => {}
                Phase::Ending { until_ns } => {
                    // Nobody reads it any more.
                    let _gone = socket.recv(|bytes| (bytes.len(), ()));
                    let is_over = state == tcp::State::TimeWait;
                    if state == tcp::State::Closed && socket.remote_endpoint().is_none() {
                        self.remove(id);
                    } else if now_ns < until_ns {
                        ends_ns = earliest(ends_ns, until_ns);
                    } else if is_over {
                        self.remove(id);
                    } else {
                        self.abort(id, now_ns);
                    }
                }
                Phase::Aborted { until_ns } => {
                    if now_ns >= until_ns || socket.remote_endpoint().is_none() {
                        self.remove(id);
                    } else {
                        ends_ns = earliest(ends_ns, until_ns);
                    }
                }
            }
        }
        self.ends_ns = ends_ns;
        if is_settled {
            self.tell_news();
        }
    }

    /// A client has answered: he waits for a listener.
    fn let_in(&mut self, id: Id) {
        let patience = self.config.patience;
        let number = self.socket(id).and_then(|socket| {
            socket.set_timeout(Some(smol(patience)));
            Some(socket.local_endpoint()?.port)
        });
        self.half_open = self.half_open.saturating_sub(1);
        if let Some(one) = self.table.get(id) {
            one.phase = Phase::Waiting;
        }
        let mut ports = self.ports.iter_mut();
        match ports.find(|port| Some(port.number) == number) {
            Some(port) => {
                port.ready.push_back(id);
                port.waiting.wake();
            }
            None => self.abort(id, self.bus.now_ns()),
        }
    }

    fn end(&mut self, error: netfront::Error) {
        self.ended = Some(error);
        for id in (0..self.table.len()).map(Id) {
            if let Some(one) = self.table.get(id) {
                one.wake_all();
            }
        }
        for port in &mut self.ports {
            port.waiting.wake();
        }
        self.tell_news();
    }

    // ---- Connections ----

    /// The stack has something to do. True: its task is to be woken.
    pub(super) const fn touch(&mut self) -> bool {
        !core::mem::replace(&mut self.is_touched, true)
    }

    pub(super) fn socket(&mut self, id: Id) -> Option<&mut tcp::Socket<'static>> {
        let handle = self.table.get(id)?.handle;
        Some(self.sockets.get_mut(handle))
    }

    /// A connection, and its socket.
    pub(super) fn both(&mut self, id: Id) -> Option<(&mut Connection, &mut tcp::Socket<'static>)> {
        let one = self.table.get(id)?;
        let socket = self.sockets.get_mut(one.handle);
        Some((one, socket))
    }

    fn open(&mut self, phase: Phase) -> Option<(Id, &mut tcp::Socket<'static>)> {
        let (sizes, rx, tx) = self.budget.take()?;
        let buffers = (tcp::SocketBuffer::new(rx), tcp::SocketBuffer::new(tx));
        let mut socket = tcp::Socket::new(buffers.0, buffers.1);
        // What is written is written in large pieces.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(ACK_DELAY));
        // Now: one that is open already would ask at once.
        socket.set_keep_alive(Some(smol(self.config.keep_alive)));
        let handle = self.sockets.add(socket);
        let id = self.table.insert(Connection::new(handle, sizes, phase));
        Some((id, self.sockets.get_mut(handle)))
    }

    /// Begins a connection to somebody else.
    pub(super) fn connect(&mut self, remote: SocketAddr) -> Result<Id, Error> {
        let patience = self.config.patience;
        if !self.make_room(RoomFor::Us) {
            return Err(Error::NoRoom);
        }
        let port = self.free_port().ok_or(Error::NoRoom)?;
        let (id, _) = self.open(Phase::Held).ok_or(Error::NoRoom)?;
        let handle = self.table.get(id).ok_or(Error::NoRoom)?.handle;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.set_timeout(Some(smol(patience)));
        if socket
            .connect(self.interface.context(), remote, port)
            .is_err()
        {
            self.remove(id);
            return Err(Error::NoRoute);
        }
        self.is_touched = true;
        Ok(id)
    }

    /// A port of this side's that nobody uses.
    fn free_port(&mut self) -> Option<u16> {
        (0..=u16::MAX - FIRST_EPHEMERAL).find_map(|_| {
            let port = self.next_port;
            self.next_port = port.wrapping_add(1) | FIRST_EPHEMERAL;
            let is_used = self.table.iter().any(|(_, one)| {
                let socket = self.sockets.get::<tcp::Socket<'_>>(one.handle);
                socket.local_endpoint().is_some_and(|own| own.port == port)
            });
            (!is_used).then_some(port)
        })
    }

    /// Aborts a connection: the other end is told, if that can be.
    pub(super) fn abort(&mut self, id: Id, now_ns: u64) {
        let until_ns = now_ns.saturating_add(ABORT_NS);
        if let Some((one, socket)) = self.both(id) {
            let is_over = matches!(socket.state(), tcp::State::TimeWait | tcp::State::Closed);
            if is_over && socket.remote_endpoint().is_none() {
                self.remove(id);
                return;
            }
            socket.abort();
            one.phase = Phase::Aborted { until_ns };
            self.is_touched = true;
        }
    }

    /// Forgets a connection, and frees its memory.
    pub(super) fn remove(&mut self, id: Id) {
        let Some(one) = self.table.remove(id) else {
            return;
        };
        drop(self.sockets.remove(one.handle));
        self.budget.give_back(one.sizes);
        match one.phase {
            Phase::Opening { .. } => self.half_open = self.half_open.saturating_sub(1),
            Phase::Waiting => {
                for port in &mut self.ports {
                    port.ready.retain(|other| *other != id);
                }
            }
            Phase::Held | Phase::Ending { .. } | Phase::Aborted { .. } => {}
        }
    }

    // ---- Ports ----

    pub(super) fn listen(&mut self, number: u16) -> Result<(), Error> {
        if number == 0 || self.ports.iter().any(|port| port.number == number) {
            return Err(Error::PortInUse(number));
        }
        self.ports.push(Port {
            number,
            ready: VecDeque::new(),
            waiting: Waiting::default(),
        });
        Ok(())
    }

    /// Nobody listens there any more: those who wait are turned away.
    pub(super) fn unlisten(&mut self, number: u16) {
        let Some(at) = self.ports.iter().position(|port| port.number == number) else {
            return;
        };
        let port = self.ports.swap_remove(at);
        let now_ns = self.bus.now_ns();
        for id in port.ready {
            self.abort(id, now_ns);
        }
    }

    /// The next client of a port's.
    pub(super) fn accept(&mut self, number: u16, cx: &Context<'_>) -> Poll<Result<Id, Error>> {
        if let Some(error) = self.ended {
            return Poll::Ready(Err(error.into()));
        }
        let Some(port) = self.ports.iter_mut().find(|port| port.number == number) else {
            return Poll::Ready(Err(Error::Closed));
        };
        let Some(id) = port.ready.pop_front() else {
            port.waiting.set(cx.waker());
            return Poll::Pending;
        };
        if let Some(one) = self.table.get(id) {
            one.phase = Phase::Held;
        }
        Poll::Ready(Ok(id))
    }

    /// Whether the other ends have all that was written.
    pub(super) fn is_settled(&self) -> bool {
        let mut all = self.table.iter();
        all.all(|(_, one)| self.sockets.get::<tcp::Socket<'_>>(one.handle).send_queue() == 0)
    }
}

fn earliest(known: Option<u64>, other: u64) -> Option<u64> {
    Some(known.map_or(other, |known| known.min(other)))
}
