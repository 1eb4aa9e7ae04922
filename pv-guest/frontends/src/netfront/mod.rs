//! Network interfaces: the frontend of Xen's.
//!
//! A [`Nic`] is a handle, of which there may be many clones. Packets are
//! Ethernet frames. [`Nic::send`] and [`Nic::receive`] are for those who write
//! their own protocols; network stacks have adapters (features `embassy-net` and
//! `smoltcp`), which are made of a [`Poller`].
//!
//! The driver spawns no task. A task that waits for packets also drives the xenbus
//! connection.
//!
//! # What is kept
//! - Bytes go through pages that the backend has for good, or the caller gives
//!   pages of that kind ([`GrantedBuf`]). A packet that was received is a copy,
//!   which the backend cannot change.
//! - Packets may be lost, as on any wire: those that a backend had when it went
//!   away are not sent again.
//! - A backend that breaks its protocol breaks the interface
//!   ([`Status::Broken`]), and [`Nic::reconnect`] begins anew.
//!
//! Source: `io/netif.h`.

pub(crate) mod checksum;
mod control;
mod core;
mod error;
mod groups;
mod interface;
mod job;
mod packet;
mod poller;
mod queue;
mod receiving;
mod rx;
mod segment;
mod sending;
mod turn;
mod tx;
mod waiters;

use ::core::{future::poll_fn, task::Poll, time::Duration};
use alloc::{string::String, sync::Arc, vec::Vec};

use hypercall_abi::{PAGE_SIZE, platform::Platform};

use self::{checksum::Fix, core::Core, groups::Groups, packet::Packet};
use crate::{
    buffers::GrantedBuf,
    xenbus::{Bus, DriverTask, Trusted},
};

pub use crate::xenbus::{Status, Trust};
pub use control::{Steered, Steering};
pub use error::Error;
pub use groups::Membership;
pub use interface::{Carrier, ETHERNET_BYTES, Features, Interface, Mac, NoMac};
pub use packet::{Checksum, Hash, Offload, Protocol, Received, Segmentation};
pub use poller::Poller;
#[cfg(feature = "smoltcp")]
pub(crate) use turn::TURN;

/// Which multicast packets are to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multicast {
    /// All.
    All,
    /// Those of groups that were [joined](Nic::join), if the backend can tell
    /// them apart.
    Joined,
}

/// What is left to the backend of what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// Packets may be larger than the MTU, and without checksums.
    All,
    /// They are as on a wire.
    None,
}

/// What a driver may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Queues, if the backend has as many: one for each vCPU that does much.
    pub queues: u32,
    /// Pages of each queue that packets are received into, 18 to 256.
    pub rx_pages: u32,
    /// Which multicast packets are to come.
    pub multicast: Multicast,
    /// What is left to the backend of what comes.
    pub offloads: Offloads,
    /// How the backend is to choose among several queues, if it can be told.
    pub steering: Option<Steering>,
    /// Who says whether the backend is trusted with pages of the user's: see
    /// [`Nic::buffer`].
    pub trust: Trust,
}

impl Default for Config {
    /// For a guest of one vCPU: 1 MiB for what comes.
    fn default() -> Self {
        Self {
            queues: 1,
            rx_pages: 256,
            multicast: Multicast::All,
            offloads: Offloads::All,
            steering: None,
            trust: Trust::default(),
        }
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that were given to the backend.
    pub tx_packets: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Those that it said it had not sent, and those that it was not given: they were too
    /// long, or there was no room.
    pub tx_dropped: u64,
    /// Pieces of those that it had when it went away.
    pub tx_lost: u64,
    /// Times that it was told of packets.
    pub tx_notified: u64,
    /// Packets that came.
    pub rx_packets: u64,
    /// Bytes of them.
    pub rx_bytes: u64,
    /// Those of which something was missing.
    pub rx_dropped: u64,
    /// Times that the backend was told of pages.
    pub rx_notified: u64,
    /// Pages that are lent to it for good.
    pub pages: u32,
    /// Connections that there were: one more after each restart of a backend.
    pub connections: u64,
}

impl Counters {
    const fn add(&mut self, other: &Self) {
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        self.tx_dropped += other.tx_dropped;
        self.tx_lost += other.tx_lost;
        self.tx_notified += other.tx_notified;
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.rx_dropped += other.rx_dropped;
        self.rx_notified += other.rx_notified;
        self.pages += other.pages;
    }
}

/// Bytes at the start of a lent packet that are looked at: those of most headers.
const HEAD_BYTES: usize = 256;

/// What becomes of a packet in lent pages.
enum Lending {
    /// It was sent: the job's number.
    Lent(usize),
    /// It is to be sent as a copy.
    Copy,
}

struct Shared<'g, P: Platform> {
    core: Arc<Core<'g, P>>,
    driver_task: DriverTask<'g>,
}

/// A network interface. Its clones are the same interface.
pub struct Nic<'g, P: Platform>(Arc<Shared<'g, P>>);

impl<P: Platform> Clone for Nic<'_, P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P: Platform> ::core::fmt::Debug for Nic<'_, P> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("Nic")
            .field("id", &self.0.core.id)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl<'g, P: Platform> Nic<'g, P> {
    /// The interface `id`, one of [`Bus::devices`]`("vif")`. Nothing happens
    /// until somebody waits for it. An interface has one driver: while another that was
    /// made so (and is no clone) has it, this one is [`Broken`](Status::Broken) with
    /// [`Fault::Taken`](crate::xenbus::Fault::Taken), and [`reconnect`](Self::reconnect)
    /// tries again. Whoever closes it, or drops the last clone, gives it back.
    pub fn new(bus: Bus<'g, P>, id: impl Into<String>, config: Config) -> Self {
        let core = Arc::new(Core::new(bus, id.into(), config));
        let served = Arc::clone(&core);
        let serving = async move {
            let outcome = served.bus.serve(&served.id, &*served).await;
            served.end_service(outcome);
        };
        Self(Arc::new(Shared {
            core,
            driver_task: DriverTask::new(serving),
        }))
    }

    fn core(&self) -> &Core<'g, P> {
        &self.0.core
    }

    // ---- What it is ----

    /// Its number on the bus.
    pub fn id(&self) -> &str {
        &self.core().id
    }

    /// What it was made on.
    pub fn bus(&self) -> Bus<'g, P> {
        self.core().bus
    }

    /// The connection's status as of the last poll.
    pub fn status(&self) -> Status {
        self.core().link.lock().status
    }

    /// What it is; `None` before the first connection. It may change while it
    /// is used.
    pub fn interface(&self) -> Option<Interface> {
        self.core().link.lock().interface
    }

    /// What was counted, of all queues.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for queue in &self.core().queues {
            let queue = queue.lock();
            sum.add(&queue.tx.counters);
            sum.add(&queue.rx.counters);
        }
        sum.connections = self.core().link.lock().connections;
        sum
    }

    /// Whether the backend chooses queues as [`Config::steering`] says.
    pub fn steered(&self) -> Steered {
        let control = self.core().control.lock();
        control.as_ref().map_or(Steered::No, |it| it.steered)
    }

    // ---- Its connection ----

    /// Waits until it is connected, and says what it is.
    ///
    /// # Errors
    /// [`Error::Broken`], [`Error::Gone`], [`Error::Closed`].
    pub async fn ready(&self) -> Result<Interface, Error> {
        let mut poller = self.poller();
        poll_fn(|cx| poller.poll_ready(cx)).await
    }

    /// [`ready`](Self::ready), for so long at the most: a backend may never come, or refuse
    /// each time.
    ///
    /// # Errors
    /// [`Error::NotReady`], with what is known of the reason; those of `ready`.
    pub async fn ready_within(&self, time: Duration) -> Result<Interface, Error> {
        let ready = self.core().bus.timeout(time, self.ready()).await;
        ready.unwrap_or_else(|_| Err(Error::NotReady(self.status())))
    }

    /// Waits until the status is another than `known`, and says which.
    pub async fn status_change(&self, known: Status) -> Status {
        let mut poller = self.poller();
        poll_fn(|cx| poller.poll_status_change(cx, known)).await
    }

    /// Looks after the connection while nobody uses the interface: for a task of
    /// its own. Ends when it is closed, or when the connection to the store has ended.
    pub async fn serve(&self) {
        let mut poller = self.poller();
        poll_fn(|cx| poller.poll_end(cx)).await;
    }

    /// Makes the connection anew, after a backend broke it or for another reason,
    /// and waits for it. An interface that was closed stays closed: another [`Nic::new`]
    /// begins anew.
    ///
    /// # Errors
    /// As for [`ready`](Self::ready): a backend may break it again.
    pub async fn reconnect(&self) -> Result<Interface, Error> {
        self.core().begin_again();
        self.ready().await
    }

    /// Ends the connection, and tells the backend so: the store says `Closed` when this
    /// returns, unless the store refuses that for good. A refusal that may pass is tried
    /// again for as long as it lasts ([`Bus::timeout`] bounds that). Whoever waits for packets
    /// is told.
    ///
    /// An interface whose last handle is dropped instead is closed by and by: what is to be
    /// written is sent, but nobody waits for the store's answer.
    pub async fn close(&self) {
        self.core().requests.close();
        self.serve().await;
    }

    // ---- Packets ----

    /// For a network stack: polls instead of futures.
    pub fn poller(&self) -> Poller<'g, P> {
        Poller::new(self.clone())
    }

    /// Sends a packet that is given in parts, one after the other. It is on its
    /// way when this ends; nobody says whether it arrived.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::NotSupported`] (see [`Interface::features`]),
    /// and those of [`ready`](Self::ready).
    pub async fn send(&self, parts: &[&[u8]], offload: Offload) -> Result<(), Error> {
        let mut poller = self.poller();
        let packet = Packet::of(parts, offload);
        let sent = poll_fn(|cx| {
            poller.poll_tx(cx, &packet, |tx, offload, fix| match fix {
                Fix::Nothing => tx.send(parts, offload),
                Fix::Fill | Fix::Blank => {
                    let mut whole = parts.concat();
                    fix.apply(&mut whole);
                    tx.send(&[&whole], offload)
                }
            })
        });
        sent.await?;
        Ok(())
    }

    /// Memory of so many pages that the backend has, unless the toolstack says that the
    /// backend is not to be trusted: see [`send_granted`](Self::send_granted).
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Quarantine`]; those of [`ready`](Self::ready).
    pub async fn buffer(&self, pages: usize) -> Result<GrantedBuf<'g, P>, Error> {
        self.ready().await?;
        let (peer, trusted) = {
            let link = self.core().link.lock();
            (link.peer, link.trusted)
        };
        let (grants, kept) = (self.core().bus.grants(), &self.core().kept);
        match trusted {
            Trusted::Yes => {
                GrantedBuf::from_kept(kept, self.core().lender, peer, pages).map_err(Error::from)
            }
            Trusted::No => GrantedBuf::private(grants, peer, pages).map_err(|_| Error::NoMemory),
        }
    }

    /// Sends the first `len_bytes` bytes of `buffer` without a copy, and waits
    /// until the backend has sent them. The buffer comes back; it is lost if the
    /// future is dropped. A buffer of a backend in another domain is copied, and so is
    /// each if the toolstack says that the backend is not to be trusted.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), [`Error::Dropped`], [`Error::Lost`];
    /// [`Error::TooLong`] also for more than the buffer has.
    pub async fn send_granted(
        &self,
        mut buffer: GrantedBuf<'g, P>,
        len_bytes: usize,
        offload: Offload,
    ) -> (GrantedBuf<'g, P>, Result<(), Error>) {
        if len_bytes > buffer.len_bytes() || len_bytes > tx::MAX_BYTES {
            return (buffer, Err(Error::TooLong));
        }
        let mut head = [0; HEAD_BYTES];
        let head_bytes = buffer.copy_to(0, &mut head).min(len_bytes);
        let head = head.get(..head_bytes).unwrap_or_default();
        let packet = Packet::of_head(head, len_bytes, offload);
        let mut pages = ::core::mem::take(&mut buffer.pages);
        let mut poller = self.poller();
        let sent = poll_fn(|cx| {
            if !buffer.is_lent() || packet.needs_look() {
                return Poll::Ready(Ok((0, Lending::Copy)));
            }
            poller.poll_tx(cx, &packet, |tx, offload, fix| {
                // Asked here: another connection may have begun in this very poll.
                if fix != Fix::Nothing || !tx.takes_lent(buffer.peer()) {
                    return Ok(Some(Lending::Copy));
                }
                match tx.send_lent(::core::mem::take(&mut pages), len_bytes, offload) {
                    Ok(job) => Ok(Some(Lending::Lent(job))),
                    Err(back) => {
                        pages = back;
                        Ok(None)
                    }
                }
            })
        });
        let result = match sent.await {
            Ok((queue, Lending::Lent(job))) => {
                let mut job = job::Job::new(&poller, (queue, job));
                let result;
                (result, pages) = poll_fn(|cx| job.poll(cx)).await;
                result
            }
            Ok((_, Lending::Copy)) => {
                buffer.pages = pages;
                // Also one that was lent before the toolstack said so.
                let core = self.core();
                let trusted = core.link.lock().trusted;
                if trusted == Trusted::No && buffer.take_back().is_err() {
                    return (buffer, Err(Error::NoMemory));
                }
                let mut bytes = alloc::vec![0; len_bytes];
                buffer.copy_to(0, &mut bytes);
                let sent = self.send(&[&bytes], offload).await;
                return (buffer, sent);
            }
            Err(error) => Err(error),
        };
        buffer.pages = pages;
        (buffer, result)
    }

    /// Waits for a packet, which replaces what is in `target`.
    ///
    /// # Errors
    /// Those of [`ready`](Self::ready).
    pub async fn receive(&self, target: &mut Vec<u8>) -> Result<Received, Error> {
        let mut poller = self.poller();
        poll_fn(|cx| poller.poll_receive(cx, target)).await
    }

    // ---- Multicast ----

    /// Has packets to a multicast group come, also after a reconnection, and waits until
    /// the backend has said whether it passes them. Dropping the future leaves the wish.
    ///
    /// # Errors
    /// [`Error::GroupRefused`]: the backend passes no more groups. Those of
    /// [`ready`](Self::ready).
    pub async fn join(&self, group: Mac) -> Result<(), Error> {
        self.wish(|groups| groups.join(group));
        let mut poller = self.poller();
        poll_fn(|cx| poller.poll_joined(cx, group)).await
    }

    /// Packets to that group need not come any more.
    pub fn leave(&self, group: Mac) {
        self.wish(|groups| groups.leave(group));
    }

    /// Whether packets to that group come: a backend that came later may refuse what the
    /// one before it did not.
    pub fn membership(&self, group: Mac) -> Membership {
        self.core().link.lock().groups.membership(group)
    }

    fn wish(&self, change: impl FnOnce(&mut Groups)) {
        change(&mut self.core().link.lock().groups);
        if let Err(fault) = self.core().tell_groups() {
            self.core().requests.fault(fault);
        }
    }
}

const _: () = assert!(tx::MAX_BYTES <= 16 * PAGE_SIZE);
