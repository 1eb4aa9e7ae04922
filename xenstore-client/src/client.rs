//! The client: one machine over one transport.

use alloc::{sync::Arc, vec::Vec};
use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use hypercall_abi::{DomId, io::xs_wire::XsMessageType};
#[cfg(feature = "ring")]
use hypercall_abi::{
    Port,
    platform::{Clock, Hypercall, Pages, Park},
};
use spin::Mutex;

#[cfg(feature = "ring")]
use crate::Ring;
use crate::{
    Error, ErrorKind, Link, Renewal, Transport, Tree,
    claims::Claims,
    hub::Hub,
    machine::{Machine, RequestId, Strays},
    turns::Turns,
    value,
};

/// Bytes that are received at once.
const CHUNK: usize = 512;

/// How often a poll looks for bytes, of which it receives [`CHUNK`] each time. Then other
/// tasks have their turn: a server that always has more cannot keep one task at it.
const ROUNDS: u32 = 256;

/// After a poll that had no more rounds, so many others receive nothing: one turn of a task
/// may poll several futures of a client's, and is to end all the same. Each of them is woken
/// at once.
const RESTS: u32 = 16;

/// What is left of a poll's rounds.
#[derive(Debug)]
pub(crate) struct Budget(u32);

impl Budget {
    pub(crate) const fn new() -> Self {
        Self(ROUNDS)
    }

    const fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

/// A connection to the store, for many users at once.
///
/// Its methods are `async`; [`wait`](Self::wait) runs any of them to its end
/// for those who have no executor. Paths are absolute, or relative to this
/// domain's directory.
#[derive(Debug)]
pub struct Client<T: Transport> {
    pub(crate) transport: T,
    pub(crate) machine: Mutex<Machine>,
    hub: Arc<Hub>,
    pub(crate) turns: Turns,
    pub(crate) claims: Claims,
    /// How many polls are still to receive nothing.
    rests: AtomicU32,
}

#[cfg(feature = "ring")]
impl<P: Hypercall + Pages + Park + Clock> Client<Ring<'_, P>> {
    /// What a guest does after it went on elsewhere
    /// ([`Ports::resume`](event_channels::Ports::resume)), where its ring is empty and
    /// its port is `port`: requests on their way fail, and every watch is set again, and
    /// fires.
    ///
    /// # Errors
    /// Those of [`Channel::adopt_again`](event_channels::Channel::adopt_again).
    pub fn resume_at(&self, port: Port) -> Result<(), event_channels::Error> {
        let mut machine = self.machine.lock();
        self.transport.resume(port)?;
        machine.reset();
        self.pump(&mut machine);
        Ok(())
    }
}

impl<T: Transport> Client<T> {
    /// A client over `transport`, which nobody else uses.
    pub fn new(transport: T) -> Self {
        Self {
            transport,
            machine: Mutex::new(Machine::new()),
            hub: Arc::default(),
            turns: Turns::default(),
            claims: Claims::default(),
            rests: AtomicU32::new(0),
        }
    }

    /// The way to the server.
    pub const fn transport(&self) -> &T {
        &self.transport
    }

    /// What came in that made no sense.
    pub fn strays(&self) -> Strays {
        self.machine.lock().strays()
    }

    /// How many requests wait for their answers.
    pub fn in_flight(&self) -> usize {
        self.machine.lock().in_flight()
    }

    /// The nodes, outside of any transaction.
    pub const fn tree(&self) -> Tree<'_, T> {
        Tree::new(self, 0)
    }

    /// Runs a future (of this client's methods) to its end, and sleeps while it
    /// waits, for so long at the most.
    ///
    /// Over a ring, on one vCPU at a time: another that takes the server's event gets
    /// this one's answer, too, and does not end its sleep. Tasks have no such limit.
    ///
    /// # Errors
    /// Those of the future; [`ErrorKind::TimedOut`].
    pub fn wait<R>(
        &self,
        most: Option<Duration>,
        future: impl Future<Output = Result<R, Error>>,
    ) -> Result<R, Error> {
        self.transport
            .block_on(most, future)
            .unwrap_or_else(|| Err(ErrorKind::TimedOut.into()))
    }

    /// Makes sure that the server knows of all watches: every watch is set again, and
    /// fires. Where the server can make the connection anew, that is
    /// done, and requests on their way fail; where it cannot, they go on.
    pub fn reconnect(&self) {
        let mut machine = self.machine.lock();
        match self.transport.reconnect() {
            Renewal::Begun => machine.reset(),
            Renewal::NotOffered => machine.renew_watches(),
        }
        self.pump(&mut machine);
    }

    /// Moves bytes as far as they go, for one who does not wait for what comes of it.
    pub(crate) fn pump(&self, machine: &mut Machine) {
        self.pump_some(machine, &mut Budget::new());
    }

    /// Moves bytes as far as they go, or until the budget is spent: then all who wait are
    /// woken, since nothing else tells of what is left.
    fn pump_some(&self, machine: &mut Machine, budget: &mut Budget) {
        // Once more after nothing moved: that may be since the link broke.
        let mut still = 0;
        while still < 2 {
            if budget.is_spent() {
                self.hub.ring();
                return;
            }
            budget.0 -= 1;
            match self.transport.link() {
                Link::Up => {}
                Link::Lost => {
                    machine.reset();
                    return;
                }
                Link::Waiting => return,
                Link::Dead => {
                    machine.end();
                    return;
                }
            }
            let sent = machine.output(|bytes| self.transport.send(bytes));
            let mut buffer = [0; CHUNK];
            let received = self.transport.receive(&mut buffer);
            machine.input(buffer.get(..received).unwrap_or(&[]));
            if sent == 0 && received == 0 {
                still += 1;
            } else {
                still = 0;
            }
        }
    }

    /// Whether this poll is to receive nothing: see [`RESTS`].
    fn rests(&self) -> bool {
        let (order, less) = (Ordering::Relaxed, |rests: u32| rests.checked_sub(1));
        // Nearly always it is not.
        self.rests.load(order) > 0 && self.rests.fetch_update(order, order, less).is_ok()
    }

    /// Looks for something at the machine, for as long as bytes move and the poll's
    /// budget lasts; then listens for more.
    pub(crate) fn poll_machine<R>(
        &self,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&mut Machine, &mut Context<'_>) -> Option<R>,
    ) -> Poll<R> {
        if self.rests() {
            let found = look(&mut self.machine.lock(), cx);
            if found.is_none() {
                cx.waker().wake_by_ref();
            }
            return found.map_or(Poll::Pending, Poll::Ready);
        }
        let mut budget = Budget::new();
        loop {
            let found = {
                let mut machine = self.machine.lock();
                self.pump_some(&mut machine, &mut budget);
                look(&mut machine, cx)
            };
            if let Some(found) = found {
                return Poll::Ready(found);
            }
            if budget.is_spent() {
                self.rests.store(RESTS, Ordering::Relaxed);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.hub.add(cx.waker());
            let all = Waker::from(Arc::clone(&self.hub));
            let mut all = Context::from_waker(&all);
            if self.transport.poll_ready(&mut all).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Asks, and gives the answer's payload.
    pub(crate) async fn ask(
        &self,
        kind: XsMessageType,
        tx_id: u32,
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, Error> {
        self.turns.step(tx_id)?;
        let id = self.machine.lock().request(kind, tx_id, parts)?;
        let answer = Answer { client: self, id }.await;
        if kind != XsMessageType::TRANSACTION_END {
            // Of a transaction that was ended meanwhile, the server knows nothing.
            self.turns.step(tx_id)?;
        }
        answer.map_err(Error::from)
    }

    /// The directory of a domain.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn domain_path(&self, domid: DomId) -> Result<alloc::string::String, Error> {
        let whose = alloc::format!("{domid}\0");
        let answer = self
            .ask(XsMessageType::GET_DOMAIN_PATH, 0, &[whose.as_bytes()])
            .await?;
        let text = answer.strip_suffix(b"\0").unwrap_or(&answer);
        let text = core::str::from_utf8(text).map_err(|_| ErrorKind::Value("text"))?;
        Ok(text.into())
    }

    /// Whether the server knows a domain. Only a privileged domain is told.
    ///
    /// # Errors
    /// [`Error`]; `EACCES`: this guest has no privileges.
    pub async fn is_domain_introduced(&self, domid: DomId) -> Result<bool, Error> {
        let whose = alloc::format!("{domid}\0");
        let kind = XsMessageType::IS_DOMAIN_INTRODUCED;
        match self.ask(kind, 0, &[whose.as_bytes()]).await?.as_slice() {
            b"T\0" => Ok(true),
            b"F\0" => Ok(false),
            _ => Err(ErrorKind::Protocol("neither T nor F").into()),
        }
    }

    /// Tells the server that a domain runs again after a suspend that it
    /// survived. Domain 0 only.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn resume(&self, domid: DomId) -> Result<(), Error> {
        let whose = alloc::format!("{domid}\0");
        self.ask(XsMessageType::RESUME, 0, &[whose.as_bytes()])
            .await
            .map(|_| ())
    }

    /// Ends all of this domain's watches at the server, those of whoever used
    /// the connection before included: call it before the first watch.
    ///
    /// # Errors
    /// [`Error`]; `ENOSYS` or `EINVAL`: an old server.
    pub async fn reset_watches(&self) -> Result<(), Error> {
        self.ask(XsMessageType::RESET_WATCHES, 0, &[b"\0"])
            .await
            .map(|_| ())
    }

    /// The features of the server, as bits.
    ///
    /// # Errors
    /// [`Error`]; `ENOSYS` or `EINVAL`: an old server.
    pub async fn server_features(&self) -> Result<u32, Error> {
        let answer = self.ask(XsMessageType::GET_FEATURE, 0, &[]).await?;
        value::parse(&answer).ok_or_else(|| ErrorKind::Protocol("features are no number").into())
    }

    /// The names of the quotas that the server has, or (with a name) the value
    /// of one.
    ///
    /// # Errors
    /// [`Error`]; `ENOSYS` or `EINVAL`: an old server.
    pub async fn quota(&self, name: Option<&str>) -> Result<Vec<u8>, Error> {
        let kind = XsMessageType::GET_QUOTA;
        match name {
            Some(name) => self.ask(kind, 0, &[name.as_bytes(), b"\0"]).await,
            None => self.ask(kind, 0, &[]).await,
        }
    }
}

/// The future of an answer. Dropping it leaves nothing behind.
pub(crate) struct Answer<'c, T: Transport> {
    pub(crate) client: &'c Client<T>,
    pub(crate) id: RequestId,
}

impl<T: Transport> Future for Answer<'_, T> {
    type Output = Result<Vec<u8>, ErrorKind>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        self.client
            .poll_machine(cx, |machine, cx| machine.take_answer(id, cx.waker()))
    }
}

impl<T: Transport> Drop for Answer<'_, T> {
    fn drop(&mut self) {
        // Nothing, if the answer was taken.
        self.client.machine.lock().forget(self.id);
    }
}
