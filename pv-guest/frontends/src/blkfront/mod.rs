//! Disks: the frontend of Xen's block devices.
//!
//! A [`Disk`] is a handle, of which there may be many clones; its methods are
//! `async`, and any number of them may go on at once.
//! A kernel without tasks runs one to its end by a `block_on` of its own.
//!
//! The driver spawns no task. A task that awaits any operation also drives the xenbus
//! connection; spawn [`Disk::serve`] to have an idle disk resized, reconnected and removed.
//!
//! # What is kept
//! - Memory of the caller's is never lent: bytes go through pages that the
//!   backend has for good, or the caller gives pages of that kind
//!   ([`GrantedBuf`](crate::GrantedBuf)). To a backend that is not trusted ([`Trust`]) these are not lent,
//!   either. What is lent holds zeroes and what the backend is to write, nothing else.
//!   Dropping a future ends nobody's use of anything, and keeps no other waiting; one that
//!   is forgotten (`mem::forget`) waits on, and others may wait for it.
//! - A write that was answered is done; one that was not is done again when the
//!   backend comes back, or reported as failed. After [`Disk::flush`], what was
//!   written before lasts.
//! - A backend that breaks its protocol breaks the disk ([`Status::Broken`]):
//!   all requests fail with the reason, and [`Disk::reconnect`] begins anew.
//!
//! Source: `io/blkif.h`.

mod buffers;
mod core;
mod data;
mod error;
mod geometry;
mod parts;
mod queue;
mod ranges;
mod transfer;
mod vdev;
mod volume;
mod waiters;

use ::core::{
    future::poll_fn,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Duration,
};
use alloc::{string::String, sync::Arc};

use self::{
    core::{Core, Link, TryAnother, error_of},
    data::{From, Into, Nothing},
    queue::{Op, SECURE},
    transfer::Transfer,
};
use crate::xenbus::{Bus, DriverTask, Service};
use hypercall_abi::{PAGE_SIZE, platform::Platform};

pub use crate::xenbus::{Status, Trust};
pub use error::Error;
pub use geometry::{
    DiscardLimits, Flush, Geometry, Medium, Mode, Removable, SECTOR_BYTES, Sector, Secure,
};
pub use queue::Counters;
pub use vdev::{NoVdev, Vdev};
pub use volume::Volume;

/// What a driver may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Queues, if the backend has as many: one for each vCPU that does much.
    pub queues: u32,
    /// Pages of each ring, as a power of two: 0 is 32 requests in flight, 4 is
    /// 512.
    pub ring_page_order: u32,
    /// Pages of one request, if the backend can: more are several requests.
    pub segments: u32,
    /// Pages of each queue that are lent to the backend for good.
    pub max_pages: u32,
    /// Whether the backend is trusted with pages of buffers ([`Disk::buffer`]); one that
    /// is not sees only pages of the driver's own, which are copied.
    pub trust: Trust,
}

impl Default for Config {
    /// For a guest of one vCPU: up to 32 requests, of up to 256 KiB.
    fn default() -> Self {
        Self {
            queues: 1,
            ring_page_order: 0,
            segments: 64,
            max_pages: 1024,
            trust: Trust::Toolstack,
        }
    }
}

/// How sectors are to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// They may be read as anything, or as before.
    Plain,
    /// Nobody can read them again.
    Secure,
}

struct Shared<'g, P: Platform> {
    core: Arc<Core<'g, P>>,
    driver_task: DriverTask<'g>,
    /// Who is woken by the connection: the last who asked.
    leader: AtomicU64,
    next_queue: AtomicUsize,
}

/// A disk. Its clones are the same disk.
pub struct Disk<'g, P: Platform>(Arc<Shared<'g, P>>);

impl<P: Platform> Clone for Disk<'_, P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P: Platform> ::core::fmt::Debug for Disk<'_, P> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("Disk")
            .field("id", &self.0.core.id)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl<'g, P: Platform> Disk<'g, P> {
    /// The disk `id`, one of [`Bus::devices`]`("vbd")`. Nothing happens until
    /// somebody waits for it. A disk has one driver: while another that was made so (and
    /// is no clone) has it, this one is [`Broken`](Status::Broken) with
    /// [`Fault::Taken`](crate::xenbus::Fault::Taken), and [`reconnect`](Self::reconnect)
    /// tries again. Whoever closes it, or drops the last clone, gives it back.
    pub fn new(bus: Bus<'g, P>, id: impl ::core::convert::Into<String>, config: Config) -> Self {
        let core = Arc::new(Core::new(bus, id.into(), config));
        let served = Arc::clone(&core);
        let serving = async move {
            let outcome = served.bus.serve(&served.id, &*served).await;
            served.end_service(outcome);
        };
        Self(Arc::new(Shared {
            core,
            driver_task: DriverTask::new(serving),
            leader: AtomicU64::new(0),
            next_queue: AtomicUsize::new(0),
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
    /// is used: a disk can be resized.
    pub fn geometry(&self) -> Option<Geometry> {
        self.core().link.lock().geometry
    }

    /// What was counted, of all queues.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for queue in &self.core().queues {
            let one = queue.lock().counters;
            sum.sent += one.sent;
            sum.answered += one.answered;
            sum.notified += one.notified;
            sum.pages += one.pages;
        }
        sum
    }

    /// How many queues the backend serves.
    pub fn queues(&self) -> usize {
        self.core().live_queues()
    }

    // ---- Its connection ----

    /// Waits until it is connected, and says what it is.
    ///
    /// # Errors
    /// [`Error::Broken`], [`Error::Gone`], [`Error::Closed`].
    pub async fn ready(&self) -> Result<Geometry, Error> {
        self.wait_until(|link| match (link.status, link.geometry) {
            (Status::Connected, Some(geometry)) => Some(Ok(geometry)),
            (status, _) => error_of(status).map(Err),
        })
        .await
    }

    /// [`ready`](Self::ready), for so long at the most: a backend may never come, or refuse
    /// each time.
    ///
    /// # Errors
    /// [`Error::NotReady`], with what is known of the reason; those of `ready`.
    pub async fn ready_within(&self, time: Duration) -> Result<Geometry, Error> {
        let ready = self.core().bus.timeout(time, self.ready()).await;
        ready.unwrap_or_else(|_| Err(Error::NotReady(self.status())))
    }

    /// Waits until the status is another than `known`, and says which: for those
    /// who want to know when a disk that was taken away is there again.
    pub async fn status_change(&self, known: Status) -> Status {
        self.wait_until(|link| (link.status != known).then_some(link.status))
            .await
    }

    /// Looks after the connection while nobody uses the disk: for a task of its
    /// own. Ends when the disk is closed, or when the connection to the store has ended.
    pub async fn serve(&self) {
        self.wait_until(|link| (link.service == Service::Ended).then_some(()))
            .await;
    }

    /// Waits until `look` finds something, and looks after the connection meanwhile.
    async fn wait_until<R>(&self, look: impl Fn(&Link) -> Option<R>) -> R {
        let waiting = self.wait();
        poll_fn(|cx| {
            self.drive();
            let mut link = self.core().link.lock();
            if let Some(found) = look(&link) {
                return Poll::Ready(found);
            }
            link.waiters.wait(waiting.token(), cx.waker());
            drop(link);
            self.listen(cx, waiting.token());
            Poll::Pending
        })
        .await
    }

    /// Makes the connection anew, after a backend broke it or for another reason,
    /// and waits for it. What goes on is done again with the new one. A disk that was
    /// closed stays closed: another [`Disk::new`] begins anew.
    ///
    /// # Errors
    /// As for [`ready`](Self::ready): a backend may break it again.
    pub async fn reconnect(&self) -> Result<Geometry, Error> {
        self.core().begin_again();
        self.ready().await
    }

    /// Ends the connection, and tells the backend so: the store says `Closed` when this
    /// returns, unless the store refuses that for good. A refusal that may pass is tried
    /// again for as long as it lasts ([`Bus::timeout`] bounds that). Requests that go on
    /// fail, whatever their backend does: wait for them first.
    ///
    /// A disk whose last handle is dropped instead is closed by and by: what is to be
    /// written is sent, but nobody waits for the store's answer.
    pub async fn close(&self) {
        self.core().requests.close();
        self.serve().await;
    }

    /// Does the connection's own work, if there is some.
    fn drive(&self) {
        self.0.driver_task.drive();
    }

    /// Before sleeping: has this task woken when the connection needs work; at once, if
    /// it does already.
    fn listen(&self, cx: &Context<'_>, token: u64) {
        self.0.leader.store(token, Ordering::Release);
        self.0.driver_task.listen(cx);
    }

    /// Somebody begins to wait.
    fn wait(&self) -> Waiting<'_, 'g, P> {
        Waiting {
            disk: self,
            token: self.core().number(),
        }
    }

    /// Somebody waits no longer: if it was for others, too, another is to.
    fn leave(&self, token: u64) {
        let core = self.core();
        let queues = &core.queues;
        for queue in queues {
            if !queue.lock().hand_over(token, &core.ranges) {
                self.0.driver_task.schedule();
            }
        }
        let leader = self.0.leader.load(Ordering::Acquire);
        if leader != token && leader != 0 {
            return;
        }
        self.0.leader.store(0, Ordering::Release);
        let _somebody = queues.iter().any(|queue| queue.lock().wake_one())
            || core.wake_one()
            || core.ranges.wake_another(token);
    }

    // ---- Input and output ----

    /// Reads into `target`, from `first` on.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn read(&self, first: Sector, target: &mut [u8]) -> Result<(), Error> {
        self.read_vectored(first, &mut [target]).await
    }

    /// Reads into several pieces of memory, one after the other.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn read_vectored(
        &self,
        first: Sector,
        targets: &mut [&mut [u8]],
    ) -> Result<(), Error> {
        let len = targets.iter().map(|target| target.len()).sum();
        self.check(first, len).await?;
        if len == 0 {
            return Ok(());
        }
        Transfer::new(self, Op::Read, first, len, Into(targets), self.any_queue()).await
    }

    /// Writes `source`, from `first` on.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write(&self, first: Sector, source: &[u8]) -> Result<(), Error> {
        self.write_vectored(first, &[source]).await
    }

    /// Writes several pieces of memory, one after the other.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write_vectored(&self, first: Sector, sources: &[&[u8]]) -> Result<(), Error> {
        let len = sources.iter().map(|source| source.len()).sum();
        let geometry = writable(self.check(first, len).await?)?;
        if len == 0 {
            return Ok(());
        }
        let held = self.hold(geometry, first, len).await;
        let transfer = Transfer::new(self, Op::Write, first, len, From(sources), self.any_queue());
        transfer.holding(held).await
    }

    /// Makes what was written before this last: by the way that
    /// [`Geometry::flush`] says. If the backend refuses that, it is not used again, and
    /// the next is; with none left, the backend has no cache that could be flushed. A way
    /// that fails before it has ever worked in this connection may be one that the
    /// backend does not have (backends were made that say so by an error): then the other
    /// is tried as well.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Io`]: what was written may be lost.
    pub async fn flush(&self) -> Result<(), Error> {
        let mut failed = None;
        loop {
            let geometry = self.check(Sector(0), 0).await?;
            if geometry.mode == Mode::ReadOnly {
                return Ok(());
            }
            let (way, connection) = self.core().flush_way(failed)?;
            if way == Flush::NotNeeded {
                return Ok(());
            }
            let op = Op::Flush(way);
            let result = Transfer::new(self, op, Sector(0), 0, Nothing, self.any_queue()).await;
            let is_refused = matches!(result, Err(Error::NotSupported(_)));
            let is_over = !is_refused && result != Err(Error::Io);
            match self.core().flushed((way, connection), result) {
                TryAnother::Yes if is_refused => {}
                TryAnother::Yes if !is_over && failed.is_none() => failed = Some(way),
                _ => return result,
            }
        }
    }

    /// Forgets `sectors` sectors (of [`SECTOR_BYTES`]) from `first` on.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NotSupported`]: see [`Geometry::discard`].
    pub async fn discard(&self, first: Sector, sectors: u64, how: Discard) -> Result<(), Error> {
        let bytes = usize::try_from(sectors)
            .ok()
            .and_then(|sectors| sectors.checked_mul(SECTOR_BYTES))
            .ok_or(Error::OutOfRange)?;
        let geometry = self.check(first, bytes).await?;
        writable(geometry)?;
        let limits = geometry.discard.ok_or(Error::NotSupported("discard"))?;
        let flag = match (how, limits.secure) {
            (Discard::Plain, _) => 0,
            (Discard::Secure, Secure::Offered) => SECURE,
            (Discard::Secure, Secure::NotOffered) => {
                return Err(Error::NotSupported("secure discard"));
            }
        };
        if sectors == 0 {
            return Ok(());
        }
        let held = self.hold(geometry, first, bytes).await;
        let op = Op::Discard(sectors, flag);
        let transfer = Transfer::new(self, op, first, 0, Nothing, self.any_queue());
        let result = transfer.holding(held).await;
        if let Err(Error::NotSupported(_)) = result {
            // It said that it had one.
            self.core().discard_refused(match how {
                Discard::Plain => Secure::NotOffered,
                Discard::Secure => Secure::Offered,
            });
        }
        result
    }

    /// Whether there is such a place; waits for the first connection.
    async fn check(&self, first: Sector, len_bytes: usize) -> Result<Geometry, Error> {
        self.drive();
        let known = {
            let link = self.core().link.lock();
            link.geometry.filter(|_| error_of(link.status).is_none())
        };
        let geometry = match known {
            Some(geometry) => geometry,
            None => self.ready().await?,
        };
        let unit = geometry.sector_bytes as usize;
        let per_unit = (unit / SECTOR_BYTES) as u64;
        if !len_bytes.is_multiple_of(unit) || !first.0.is_multiple_of(per_unit) {
            return Err(Error::Unaligned);
        }
        let end = first.0.checked_add((len_bytes / SECTOR_BYTES) as u64);
        match end {
            Some(end) if end <= geometry.sectors => Ok(geometry),
            _ => Err(Error::OutOfRange),
        }
    }

    /// The queues take turns.
    fn any_queue(&self) -> usize {
        match self.core().live_queues() {
            1 => 0,
            queues => self.0.next_queue.fetch_add(1, Ordering::Relaxed) % queues,
        }
    }
}

/// Somebody who waits for a disk, and leaves it when this is dropped.
struct Waiting<'d, 'g, P: Platform> {
    disk: &'d Disk<'g, P>,
    token: u64,
}

impl<P: Platform> Waiting<'_, '_, P> {
    const fn token(&self) -> u64 {
        self.token
    }
}

impl<P: Platform> Drop for Waiting<'_, '_, P> {
    fn drop(&mut self) {
        let core = self.disk.core();
        core.link.lock().waiters.leave(self.token);
        self.disk.leave(self.token);
    }
}

fn writable(geometry: Geometry) -> Result<Geometry, Error> {
    match geometry.mode {
        Mode::ReadWrite => Ok(geometry),
        Mode::ReadOnly => Err(Error::ReadOnly),
    }
}

const _: () = assert!(PAGE_SIZE.is_multiple_of(SECTOR_BYTES));
