//! The connections that there are, and who has each.

use alloc::vec::Vec;
use core::task::Waker;

use smoltcp::{
    iface::{SocketHandle, SocketSet},
    socket::tcp,
};

use super::{buffers::Sizes, segment::Ends};

/// The number of a connection: that of nobody else while somebody has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) usize);

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody's: its SYN came then, and its client has not answered yet.
    SynReceived { since_ns: u64 },
    /// Nobody's yet: it is complete, and waits to be accepted.
    Established,
    /// A stream's.
    Held,
    /// The stack's, until it is over, or that time has come.
    Ending { until_ns: u64 },
    /// The stack's, until the other end has been told that it was aborted. Whoever cannot
    /// be told by then is not.
    Aborted { until_ns: u64 },
}

/// What somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Waiting(Option<Waker>);

impl Waiting {
    pub(super) fn set(&mut self, waker: &Waker) {
        match &mut self.0 {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    pub(super) fn is_for(&self, waker: &Waker) -> bool {
        self.0.as_ref().is_some_and(|known| known.will_wake(waker))
    }

    pub(super) const fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: Option<Ends>,
    pub(super) sizes: Sizes,
    pub(super) phase: Phase,
    pub(super) reader: Waiting,
    pub(super) writer: Waiting,
    /// Bytes of room that the writer waits for.
    pub(super) wanted_bytes: usize,
    /// Who waits until it is open, or over.
    pub(super) change: Waiting,
    pub(super) known: tcp::State,
    /// It waits to send.
    pub(super) is_queued: bool,
    /// When TCP has something to do.
    pub(super) due_ns: Option<u64>,
    /// Packets that were sent in a row, each with another one due behind it, since something
    /// came or was done.
    pub(super) in_a_row: u32,
}

impl Connection {
    pub(super) const fn new(sizes: Sizes, phase: Phase) -> Self {
        Self {
            ends: None,
            sizes,
            phase,
            reader: Waiting(None),
            writer: Waiting(None),
            wanted_bytes: 0,
            change: Waiting(None),
            known: tcp::State::Closed,
            is_queued: false,
            due_ns: None,
            in_a_row: 0,
        }
    }

    /// When something is to be done about it, if nothing comes.
    pub(super) const fn next_ns(&self) -> Option<u64> {
        let until_ns = match self.phase {
            Phase::Ending { until_ns } | Phase::Aborted { until_ns } => until_ns,
            Phase::SynReceived { .. } | Phase::Established | Phase::Held => return self.due_ns,
        };
        match self.due_ns {
            Some(due_ns) if due_ns < until_ns => Some(due_ns),
            _ => Some(until_ns),
        }
    }

    /// Wakes those who can go on.
    pub(super) fn wake(&mut self, socket: &tcp::Socket<'_>) {
        if self.reader.is_some() && (socket.can_recv() || !socket.may_recv()) {
            self.reader.wake();
        }
        if self.writer.is_some() && (has_room(socket, self.wanted_bytes) || !socket.may_send()) {
            self.writer.wake();
        }
        if self.known != socket.state() {
            self.known = socket.state();
            self.change.wake();
        }
    }

    pub(super) fn wake_all(&mut self) {
        self.reader.wake();
        self.writer.wake();
        self.change.wake();
    }
}

/// Whether so many bytes can be written at once.
pub(super) fn has_room(socket: &tcp::Socket<'_>, bytes: usize) -> bool {
    socket.send_capacity() - socket.send_queue() >= bytes
}

/// A connection, and its socket: alone in a set of `smoltcp`'s, which looks at all sockets of
/// a set whatever is to be done.
struct Entry {
    one: Connection,
    set: SocketSet<'static>,
    handle: SocketHandle,
}

/// All connections, by their numbers.
#[derive(Default)]
pub(super) struct Table(Vec<Option<Entry>>);

impl Table {
    pub(super) fn insert(&mut self, one: Connection, socket: tcp::Socket<'static>) -> Id {
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        let entry = Entry { one, set, handle };
        let free = self.0.iter().position(Option::is_none);
        let at = free.unwrap_or(self.0.len());
        match self.0.get_mut(at) {
            Some(place) => *place = Some(entry),
            None => self.0.push(Some(entry)),
        }
        Id(at)
    }

    pub(super) fn get(&mut self, id: Id) -> Option<&mut Connection> {
        self.0.get_mut(id.0)?.as_mut().map(|entry| &mut entry.one)
    }

    /// A connection, and its socket.
    pub(super) fn both(&mut self, id: Id) -> Option<(&mut Connection, &mut tcp::Socket<'static>)> {
        let entry = self.0.get_mut(id.0)?.as_mut()?;
        Some((&mut entry.one, entry.set.get_mut(entry.handle)))
    }

    pub(super) fn state(&self, id: Id) -> Option<tcp::State> {
        let entry = self.0.get(id.0)?.as_ref()?;
        Some(entry.set.get::<tcp::Socket<'_>>(entry.handle).state())
    }

    /// A connection, and the set that has its socket.
    pub(super) fn set(&mut self, id: Id) -> Option<(&mut Connection, &mut SocketSet<'static>)> {
        let entry = self.0.get_mut(id.0)?.as_mut()?;
        Some((&mut entry.one, &mut entry.set))
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Connection> {
        self.0.get_mut(id.0)?.take().map(|entry| entry.one)
    }

    /// One more than the largest number.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &Connection, &tcp::Socket<'static>)> {
        let all = self.0.iter().enumerate();
        all.filter_map(|(at, entry)| {
            let entry = entry.as_ref()?;
            Some((Id(at), &entry.one, entry.set.get(entry.handle)))
        })
    }
}
