//! The connections of a stack, from the SYN of each to its end, and the ports at which
//! they are accepted.

use alloc::collections::VecDeque;
use core::{
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use litemap::LiteMap;
use smoltcp::{
    iface::{self, SocketSet},
    socket::tcp,
    time,
    wire::{IpEndpoint, IpListenEndpoint},
};

use super::{
    Config, Error,
    buffers::Budget,
    connection::{Connection, Id, Phase, Table},
    ports::Ports,
    segment::{Ends, Kind, Segment},
};

/// How long a client has to answer before another may have his place: until the question
/// was put again, for he may be many among those who come at once.
const GRACE_NS: u64 = 1_000_000_000;
/// How long he has if nobody wants it.
const HANDSHAKE: time::Duration = time::Duration::from_secs(10);
/// How long an acknowledgement waits for an answer to go with. An answer from memory takes
/// less; and one large packet may be all that the other end can send without it.
const ACK_DELAY: time::Duration = time::Duration::from_millis(1);
/// How long it is tried to tell the other end that a connection was aborted.
const ABORT_NS: u64 = 2_000_000_000;
const FIRST_EPHEMERAL: u16 = 49_152;

/// For whom there is to be room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RoomFor {
    /// A client, of whom nothing is known: such ones are bounded.
    Client,
    /// This side.
    Us,
}

pub(super) struct Connections {
    pub(super) table: Table,
    by_ends: LiteMap<Ends, Id>,
    /// Those that may have something to send, in their order.
    pub(super) queue: VecDeque<Id>,
    ports: Ports,
    budget: Budget,
    config: Config,
    half_open: usize,
    /// When all that had come had been looked at.
    heard_ns: u64,
    next_port: u16,
    /// When a connection has something to do, or a bit earlier.
    pub(super) next_ns: Option<u64>,
    has_removed: bool,
}

/// Whose a packet is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// A connection's.
    Of(Id),
    /// Nobody's: its sender is told so.
    Nobodys,
    /// That of one who asks for a connection, for which there is no room: no answer is
    /// better than a refusal.
    Unanswered,
}

/// Never is a time that can be added to any other.
fn smol(time: Duration) -> time::Duration {
    const NEVER_US: u64 = i64::MAX as u64 / 4;
    let us = u64::try_from(time.as_micros()).map_or(NEVER_US, |us| us.min(NEVER_US));
    time::Duration::from_micros(us)
}

impl Connections {
    pub(super) fn new(config: Config, seed: u64, now_ns: u64) -> Self {
        Self {
            table: Table::default(),
            by_ends: LiteMap::new(),
            queue: VecDeque::new(),
            ports: Ports::default(),
            budget: Budget::new(&config),
            config,
            half_open: 0,
            heard_ns: now_ns,
            next_port: FIRST_EPHEMERAL | (seed >> 7) as u16,
            next_ns: None,
            has_removed: false,
        }
    }

    pub(super) const fn used_bytes(&self) -> usize {
        self.budget.used_bytes()
    }

    pub(super) fn count(&self) -> usize {
        self.table.iter().count()
    }

    /// All that had come has been looked at.
    pub(super) const fn has_heard(&mut self, now_ns: u64) {
        self.heard_ns = now_ns;
    }

    pub(super) const fn next_ns(&self) -> Option<u64> {
        self.next_ns
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        (0..self.table.len()).map(Id)
    }

    pub(super) fn socket(&mut self, id: Id) -> Option<&mut tcp::Socket<'static>> {
        self.table.both(id).map(|(_, socket)| socket)
    }

    /// A connection, and its socket.
    pub(super) fn both(&mut self, id: Id) -> Option<(&mut Connection, &mut tcp::Socket<'static>)> {
        self.table.both(id)
    }

    /// The set of a connection's socket.
    pub(super) fn set(&mut self, id: Id) -> Option<&mut SocketSet<'static>> {
        self.table.set(id).map(|(_, set)| set)
    }

    /// Whether the other ends have all that was written, or are there no more.
    pub(super) fn is_settled(&self) -> bool {
        let mut all = self.table.iter();
        all.all(|(_, _, socket)| {
            let is_over =
                socket.state() == tcp::State::Closed && socket.remote_endpoint().is_none();
            is_over || socket.send_queue() == 0
        })
    }

    /// Whether one was forgotten since this was last asked.
    pub(super) const fn take_removed(&mut self) -> bool {
        core::mem::replace(&mut self.has_removed, false)
    }

    /// Wakes everybody who waits for a connection or at a port.
    pub(super) fn wake_all(&mut self) {
        for id in self.ids() {
            if let Some(one) = self.table.get(id) {
                one.wake_all();
            }
        }
        self.ports.wake_all();
    }

    // ---- How one begins ----

    /// Whose a packet is that came to an address of this stack's. A SYN to a port at which
    /// somebody listens gets a socket, if there is none.
    pub(super) fn whose(&mut self, segment: Segment, now_ns: u64) -> Whose {
        let Ends { local, .. } = segment.ends;
        let asks = segment.kind == Kind::Asks && self.ports.has(local.port());
        if let Some(id) = self.find(segment.ends) {
            if !asks || !self.is_in_time_wait(id) {
                return Whose::Of(id);
            }
            // He begins anew: what was before is over for him.
            self.remove(id);
        }
        if !asks {
            return Whose::Nobodys;
        }
        if !self.make_room(RoomFor::Client) {
            return Whose::Unanswered;
        }
        let phase = Phase::SynReceived { since_ns: now_ns };
        let listen = IpListenEndpoint::from(IpEndpoint::from(local));
        let opened = self.open(phase, |socket| {
            socket.set_timeout(Some(HANDSHAKE));
            socket.listen(listen).is_ok().then_some(segment.ends)
        });
        let Some(id) = opened else {
            return Whose::Unanswered;
        };
        self.half_open += 1;
        Whose::Of(id)
    }

    /// Begins a connection to somebody else.
    pub(super) fn connect(
        &mut self,
        context: &mut iface::Context,
        remote: SocketAddr,
    ) -> Result<Id, Error> {
        let patience = self.config.patience;
        if !self.make_room(RoomFor::Us) {
            return Err(Error::NoRoom);
        }
        let port = self.free_port().ok_or(Error::NoRoom)?;
        let mut is_routed = true;
        let opened = self.open(Phase::Held, |socket| {
            socket.set_timeout(Some(smol(patience)));
            is_routed = socket.connect(context, remote, port).is_ok();
            let local = socket.local_endpoint()?;
            Some(Ends {
                local: SocketAddr::new(local.addr.into(), local.port),
                // Without a scope, as packets have none.
                remote: SocketAddr::new(remote.ip(), remote.port()),
            })
        });
        let id = opened.ok_or(match is_routed {
            true => Error::NoRoom,
            false => Error::NoRoute,
        })?;
        self.touch(id);
        Ok(id)
    }

    /// A connection with a new socket, which `begin` sets going and says the ends of; None:
    /// there is no memory, or it did not.
    fn open(
        &mut self,
        phase: Phase,
        begin: impl FnOnce(&mut tcp::Socket<'static>) -> Option<Ends>,
    ) -> Option<Id> {
        let (sizes, rx, tx) = self.budget.take()?;
        let buffers = (tcp::SocketBuffer::new(rx), tcp::SocketBuffer::new(tx));
        let mut socket = tcp::Socket::new(buffers.0, buffers.1);
        // What is written is written in large pieces.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(ACK_DELAY));
        // Now: one that is open already would ask at once.
        socket.set_keep_alive(Some(smol(self.config.keep_alive)));
        let Some(ends) = begin(&mut socket) else {
            self.budget.give_back(sizes);
            return None;
        };
        let mut connection = Connection::new(sizes, phase);
        connection.ends = Some(ends);
        let id = self.table.insert(connection, socket);
        self.by_ends.insert(ends, id);
        Some(id)
    }

    /// The connection between these.
    fn find(&self, ends: Ends) -> Option<Id> {
        self.by_ends.get(&ends).copied()
    }

    /// The state of the connection between these, if there is one.
    pub(super) fn state(&self, ends: Ends) -> Option<tcp::State> {
        self.table.state(self.find(ends)?)
    }

    /// A port of this side's that nobody uses.
    fn free_port(&mut self) -> Option<u16> {
        (0..=u16::MAX - FIRST_EPHEMERAL).find_map(|_| {
            let port = self.next_port;
            self.next_port = port.wrapping_add(1) | FIRST_EPHEMERAL;
            let mut used = self.by_ends.keys();
            let is_used = used.any(|ends| ends.local.port() == port);
            (!is_used).then_some(port)
        })
    }

    fn is_in_time_wait(&mut self, id: Id) -> bool {
        self.both(id).is_some_and(|(one, socket)| {
            matches!(one.phase, Phase::Ending { .. }) && socket.state() == tcp::State::TimeWait
        })
    }

    /// Whether there is room for one more: those go first who are over but for the last
    /// wait, then the one who has been asked for an answer for longest.
    fn make_room(&mut self, whom: RoomFor) -> bool {
        loop {
            let is_bounded = whom == RoomFor::Us || self.half_open < self.config.half_open;
            if is_bounded && self.budget.has_room() {
                return true;
            }
            let over = self
                .ids()
                .find(|id| is_bounded && self.is_in_time_wait(*id));
            let Some(id) = over.or_else(|| self.silent()) else {
                return false;
            };
            self.remove(id);
        }
    }

    /// Who has not answered for longest, and was asked again.
    fn silent(&self) -> Option<Id> {
        let all = self
            .table
            .iter()
            .filter_map(|(id, one, _)| match one.phase {
                // His answer is not among what waits to be looked at.
                Phase::SynReceived { since_ns } if since_ns + GRACE_NS <= self.heard_ns => {
                    Some((since_ns, id))
                }
                _ => None,
            });
        all.min_by_key(|(since_ns, _)| *since_ns).map(|(_, id)| id)
    }

    // ---- How one goes on ----

    /// Looks at a connection for which something came, or that did something: who can go on
    /// is woken, and what is over goes.
    pub(super) fn update(&mut self, id: Id, now_ns: u64) {
        let Some((one, socket)) = self.table.both(id) else {
            return;
        };
        let state = socket.state();
        // Somebody may hold its stream for long: the other end may begin anew meanwhile.
        if state == tcp::State::Closed
            && socket.remote_endpoint().is_none()
            && let Some(ends) = one.ends.take()
        {
            self.by_ends.remove(&ends);
        }
        match one.phase {
            Phase::Held => one.wake(socket),
            Phase::SynReceived { .. } => match state {
                tcp::State::SynReceived => {}
                // The packet was not what it seemed to be, or the client has gone.
                tcp::State::Closed | tcp::State::Listen => self.remove(id),
                _ => self.establish(id, now_ns),
            },
            Phase::Established if state == tcp::State::Closed => self.remove(id),
            Phase::Established => {}
            Phase::Ending { until_ns } => {
                // Nobody reads it any more.
                let _gone = socket.recv(|bytes| (bytes.len(), ()));
                let is_over = state == tcp::State::TimeWait;
                if state == tcp::State::Closed && socket.remote_endpoint().is_none() {
                    self.remove(id);
                } else if now_ns >= until_ns {
                    match is_over {
                        true => self.remove(id),
                        false => self.abort(id, now_ns),
                    }
                }
            }
            Phase::Aborted { until_ns } => {
                if now_ns >= until_ns || socket.remote_endpoint().is_none() {
                    self.remove(id);
                }
            }
        }
    }

    /// A client has answered: he waits to be accepted.
    fn establish(&mut self, id: Id, now_ns: u64) {
        let patience = smol(self.config.patience);
        self.half_open = self.half_open.saturating_sub(1);
        let Some((one, socket)) = self.both(id) else {
            return;
        };
        one.phase = Phase::Established;
        socket.set_timeout(Some(patience));
        let number = socket.local_endpoint().map(|own| own.port);
        if !number.is_some_and(|number| self.ports.push(number, id)) {
            self.abort(id, now_ns);
        }
    }

    // ---- How one ends ----

    /// Its stream has closed it, and leaves it to the stack.
    pub(super) fn finish(&mut self, id: Id, now_ns: u64) {
        let patience_ns = u64::try_from(self.config.patience.as_nanos()).unwrap_or(u64::MAX);
        if let Some(one) = self.table.get(id) {
            one.phase = Phase::Ending {
                until_ns: now_ns.saturating_add(patience_ns),
            };
            self.touch(id);
            self.note_time(id);
        }
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
            self.touch(id);
            self.note_time(id);
        }
    }

    /// Forgets a connection, and frees its memory.
    fn remove(&mut self, id: Id) {
        let Some(one) = self.table.remove(id) else {
            return;
        };
        if let Some(ends) = one.ends {
            self.by_ends.remove(&ends);
        }
        if one.is_queued {
            self.queue.retain(|other| *other != id);
        }
        self.has_removed = true;
        self.budget.give_back(one.sizes);
        match one.phase {
            Phase::SynReceived { .. } => self.half_open = self.half_open.saturating_sub(1),
            Phase::Established => self.ports.forget(id),
            Phase::Held | Phase::Ending { .. } | Phase::Aborted { .. } => {}
        }
    }

    // ---- Ports ----

    pub(super) fn listen(&mut self, number: u16) -> Result<(), Error> {
        self.ports.listen(number)
    }

    /// Nobody listens there any more: those who wait are turned away.
    pub(super) fn unlisten(&mut self, number: u16, now_ns: u64) {
        for id in self.ports.unlisten(number) {
            self.abort(id, now_ns);
        }
    }

    /// The next client of a port's.
    pub(super) fn poll_accept(&mut self, number: u16, cx: &Context<'_>) -> Poll<Result<Id, Error>> {
        let accepted = self.ports.poll_accept(number, cx);
        if let Poll::Ready(Ok(id)) = accepted
            && let Some(one) = self.table.get(id)
        {
            one.phase = Phase::Held;
        }
        accepted
    }
}
