//! Parts of sectors, for volumes: file systems know of blocks of 512 bytes, and a disk's
//! own sectors may be larger.

use alloc::{sync::Arc, vec::Vec};
use core::{future::poll_fn, ops::Range, task::Poll};

use hypercall_abi::platform::Platform;

use super::{
    Disk, Error, Geometry, SECTOR_BYTES, Sector,
    data::From,
    queue::Op,
    ranges::{Held, Kind},
    transfer::{MAX_LOOKS, Transfer},
    writable,
};

impl<P: Platform> Disk<'_, P> {
    /// Before sectors are written whole: waits for those who write parts of them. Of a
    /// disk whose own sectors are the least unit, nobody does.
    pub(super) async fn hold(
        &self,
        geometry: Geometry,
        first: Sector,
        len_bytes: usize,
    ) -> Option<Arc<Held>> {
        if geometry.sector_bytes as usize == SECTOR_BYTES {
            return None;
        }
        let end = first.0 + (len_bytes / SECTOR_BYTES) as u64;
        Some(self.hold_as(Kind::Write, first.0..end).await)
    }

    /// Waits until nothing else is written to these sectors that would be lost, or would
    /// be undone; nothing is, until this is dropped.
    async fn hold_as(&self, kind: Kind, sectors: Range<u64>) -> Arc<Held> {
        let waiting = self.wait();
        let token = waiting.token();
        let held = self.core().ranges.enter(token, sectors, kind);
        let is_free = poll_fn(|cx| Poll::Ready(held.poll(cx).is_ready())).await;
        if is_free {
            return Arc::new(held);
        }
        poll_fn(|cx| {
            for _ in 0..MAX_LOOKS {
                self.drive();
                // What is waited for may be done, and nobody else looks.
                let mut news = Poll::Pending;
                for queue in &self.core().queues {
                    let mut queue = queue.lock();
                    if let Err(fault) = queue.receive(token).and_then(|()| queue.pump()) {
                        self.core().requests.fault(fault);
                    }
                    if queue.has_drained() {
                        self.0.driver_task.schedule();
                    }
                    if queue.listen(cx, token).is_ready() {
                        news = Poll::Ready(());
                    }
                }
                if held.poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                if news.is_pending() {
                    self.listen(cx, token);
                    return Poll::Pending;
                }
            }
            // Others get their turn, too.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        Arc::new(held)
    }

    // ---- Parts of sectors, for volumes ----

    /// As [`read_vectored`](Self::read_vectored), from any byte on, as much as wanted.
    pub(super) async fn read_any(
        &self,
        offset_bytes: u64,
        targets: &mut [&mut [u8]],
    ) -> Result<(), Error> {
        let geometry = self.check(Sector(0), 0).await?;
        if targets.iter().all(|target| target.is_empty()) {
            return Ok(());
        }
        let len: usize = targets.iter().map(|target| target.len()).sum();
        let units = Units::around(geometry, offset_bytes, len)?;
        let mut head = alloc::vec![0; units.head_bytes];
        let mut tail = alloc::vec![0; units.tail_bytes];
        let targets = targets.iter_mut().map(|target| &mut **target);
        let mut all: Vec<&mut [u8]> = [&mut *head].into_iter().chain(targets).collect();
        all.push(&mut tail);
        self.read_vectored(units.first, &mut all).await
    }

    /// As [`write_vectored`](Self::write_vectored), of any sectors of [`SECTOR_BYTES`]: of
    /// the disk's own sectors that are written in part, the rest is read first, and
    /// nothing else is written there meanwhile by this disk's handles.
    pub(super) async fn write_any(&self, first: Sector, sources: &[&[u8]]) -> Result<(), Error> {
        let geometry = writable(self.check(Sector(0), 0).await?)?;
        let len: usize = sources.iter().map(|source| source.len()).sum();
        let offset_bytes = first.0.checked_mul(SECTOR_BYTES as u64);
        let units = Units::around(geometry, offset_bytes.ok_or(Error::OutOfRange)?, len)?;
        let is_whole = units.head_bytes == 0 && units.tail_bytes == 0;
        if is_whole || len == 0 || !len.is_multiple_of(SECTOR_BYTES) {
            return self.write_vectored(first, sources).await;
        }
        self.check(units.first, units.len_bytes).await?;
        let start = units.first.0;
        let end = start + (units.len_bytes / SECTOR_BYTES) as u64;
        let held = self.hold_as(Kind::Rewrite, start..end).await;
        let unit = geometry.sector_bytes as usize;
        let mut head = alloc::vec![0; unit];
        let mut tail = alloc::vec![0; unit];
        if units.head_bytes > 0 {
            self.read(units.first, &mut head).await?;
        }
        if units.tail_bytes > 0 {
            let last = Sector(end - (unit / SECTOR_BYTES) as u64);
            self.read(last, &mut tail).await?;
        }
        let head = head.get(..units.head_bytes).unwrap_or(&[]);
        let tail = tail.get(unit - units.tail_bytes..).unwrap_or(&[]);
        let sources = sources.iter().copied();
        let mut all: Vec<&[u8]> = [head].into_iter().chain(sources).collect();
        all.push(tail);
        let (first, len) = (units.first, units.len_bytes);
        let transfer = Transfer::new(self, Op::Write, first, len, From(&all), self.any_queue());
        transfer.holding(Some(held)).await
    }
}

/// The disk's own sectors around some bytes.
struct Units {
    first: Sector,
    len_bytes: usize,
    /// Bytes before those that are wanted, and behind them.
    head_bytes: usize,
    tail_bytes: usize,
}

impl Units {
    fn around(geometry: Geometry, offset_bytes: u64, len_bytes: usize) -> Result<Self, Error> {
        let unit = u64::from(geometry.sector_bytes);
        let head = offset_bytes % unit;
        let end = offset_bytes.checked_add(len_bytes as u64);
        let end = end.ok_or(Error::OutOfRange)?;
        let stop = end
            .checked_next_multiple_of(unit)
            .ok_or(Error::OutOfRange)?;
        let start = offset_bytes - head;
        Ok(Self {
            first: Sector(start / SECTOR_BYTES as u64),
            len_bytes: usize::try_from(stop - start).map_err(|_| Error::OutOfRange)?,
            head_bytes: head as usize,
            tail_bytes: (stop - end) as usize,
        })
    }
}
