//! The connections of a stack, from the SYN of each to its end, and the ports at which
//! they are accepted.

use alloc::vec::Vec;
use core::{
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

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
    syn::Syn,
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
/// Bytes of the smallest segments that smoltcp sends: its `MIN_REMOTE_MSS`.
const LEAST_SEGMENT_BYTES: usize = 48;
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
    pub(super) sockets: SocketSet<'static>,
    table: Table,
    ports: Ports,
    budget: Budget,
    config: Config,
    half_open: usize,
    /// When all that had come had been looked at.
    heard_ns: u64,
    next_port: u16,
    /// Something was done that may have to leave.
    is_touched: bool,
    /// When the time of a connection is over.
    ends_ns: Option<u64>,
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
            sockets: SocketSet::new(Vec::new()),
            table: Table::default(),
            ports: Ports::default(),
            budget: Budget::new(&config),
            config,
            half_open: 0,
            heard_ns: now_ns,
            next_port: FIRST_EPHEMERAL | (seed >> 7) as u16,
            is_touched: true,
            ends_ns: None,
        }
    }

    pub(super) const fn used_bytes(&self) -> usize {
        self.budget.used_bytes()
    }

    pub(super) fn count(&self) -> usize {
        self.table.iter().count()
    }

    /// Something was done that may have to leave. True: that is new.
    pub(super) const fn touch(&mut self) -> bool {
        !core::mem::replace(&mut self.is_touched, true)
    }

    pub(super) const fn is_touched(&self) -> bool {
        self.is_touched
    }

    /// What was done is about to leave.
    pub(super) const fn clear_touch(&mut self) {
        self.is_touched = false;
    }

    /// All that had come has been looked at.
    pub(super) const fn has_heard(&mut self, now_ns: u64) {
        self.heard_ns = now_ns;
    }

    pub(super) const fn ends_ns(&self) -> Option<u64> {
        self.ends_ns
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        (0..self.table.len()).map(Id)
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

    /// Whether the other ends have all that was written.
    pub(super) fn is_settled(&self) -> bool {
        let mut all = self.table.iter();
        all.all(|(_, one)| self.sockets.get::<tcp::Socket<'_>>(one.handle).send_queue() == 0)
    }

    /// The most packets that may be sent for a reason before something is heard: all that
    /// is on its way, to clients who take it in small segments.
    pub(super) fn most_packets(&self) -> u32 {
        let queue = |(_, one): (Id, &Connection)| {
            self.sockets.get::<tcp::Socket<'_>>(one.handle).send_queue()
        };
        let packets = self.table.iter().map(queue).sum::<usize>() / LEAST_SEGMENT_BYTES;
        u32::try_from(packets).unwrap_or(u32::MAX)
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

    /// Makes a socket for a SYN to an address of this stack's, if there is none. False: there
    /// is no room, and it is not to be answered.
    pub(super) fn on_syn(&mut self, syn: Syn, now_ns: u64) -> bool {
        let (local, port) = (IpEndpoint::from(syn.local), syn.local.port());
        if !self.ports.has(port) {
            return true;
        }
        if let Some(id) = self.find(local, syn.remote.into()) {
            if !self.is_in_time_wait(id) {
                return true;
            }
            // He begins anew: what was before is over for him.
            self.remove(id);
        }
        if !self.make_room(RoomFor::Client) {
            return false;
        }
        let Some((_, socket)) = self.open(Phase::SynReceived { since_ns: now_ns }) else {
            return false;
        };
        socket.set_timeout(Some(HANDSHAKE));
        let listen = IpListenEndpoint {
            addr: Some(local.addr),
            port,
        };
        let _is_new = socket.listen(listen);
        self.half_open += 1;
        true
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
        let (id, socket) = self.open(Phase::Held).ok_or(Error::NoRoom)?;
        socket.set_timeout(Some(smol(patience)));
        if socket.connect(context, remote, port).is_err() {
            self.remove(id);
            return Err(Error::NoRoute);
        }
        self.is_touched = true;
        Ok(id)
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

    /// The connection between these.
    fn find(&self, local: IpEndpoint, remote: IpEndpoint) -> Option<Id> {
        let mut all = self.table.iter();
        let found = all.find(|(_, one)| {
            let socket = self.sockets.get::<tcp::Socket<'_>>(one.handle);
            socket.remote_endpoint() == Some(remote) && socket.local_endpoint() == Some(local)
        });
        found.map(|(id, _)| id)
    }

    /// The state of the connection between these, if there is one.
    pub(super) fn state(&self, local: SocketAddr, remote: SocketAddr) -> Option<tcp::State> {
        let id = self.find(local.into(), remote.into())?;
        let mut all = self.table.iter();
        let (_, one) = all.find(|(other, _)| *other == id)?;
        Some(self.sockets.get::<tcp::Socket<'_>>(one.handle).state())
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
        let all = self.table.iter().filter_map(|(id, one)| match one.phase {
            // His answer is not among what waits to be looked at.
            Phase::SynReceived { since_ns } if since_ns + GRACE_NS <= self.heard_ns => {
                Some((since_ns, id))
            }
            _ => None,
        });
        all.min_by_key(|(since_ns, _)| *since_ns).map(|(_, id)| id)
    }

    // ---- How one goes on ----

    /// Looks at all connections: who can go on is woken, and what is over goes. True: the
    /// other ends have all that was written.
    pub(super) fn update(&mut self, now_ns: u64) -> bool {
        let (mut ends_ns, mut is_settled) = (None, true);
        for id in self.ids() {
            let Some((one, socket)) = self.both(id) else {
                continue;
            };
            let state = socket.state();
            is_settled &= socket.send_queue() == 0;
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
        is_settled
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
            self.is_touched = true;
        }
    }

    /// A peer that acknowledges the end of what it has no window for leaves smoltcp 0.14
    /// with a probe of that window which is always due. There is nothing left to tell it.
    pub(super) fn end_storms(&mut self, now_ns: u64) {
        for id in self.ids() {
            let is_told_all = self.socket(id).is_some_and(|socket| {
                socket.state() == tcp::State::FinWait2 && socket.send_queue() == 0
            });
            if is_told_all {
                self.abort(id, now_ns);
            }
        }
    }

    /// Forgets a connection, and frees its memory.
    fn remove(&mut self, id: Id) {
        let Some(one) = self.table.remove(id) else {
            return;
        };
        drop(self.sockets.remove(one.handle));
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

fn earliest(known: Option<u64>, other: u64) -> Option<u64> {
    Some(known.map_or(other, |known| known.min(other)))
}
