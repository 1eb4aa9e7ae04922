//! Tasks that work on a disk to which anything may happen, and a model that knows
//! what each sector may hold.
//!
//! Each task has a part of the disk for itself. A write that was confirmed is
//! there; of one that was not, each sector may be as before or as written.

use alloc::{collections::BTreeSet, format, string::String, vec, vec::Vec};
use core::{
    future::{Future, poll_fn},
    ops::Range,
    pin::pin,
    task::Poll,
};

use hypercall_abi::{Errno, platform::Platform};
use pv_guest::{
    blkfront::{Discard, Disk, Error, SECTOR_BYTES, Sector, Status, Volume},
    xenbus::Fault,
    xenstore_client::{ErrorKind, Persistence, Quota},
};

use super::pause;

/// Sectors of each task's own part.
pub(crate) const SECTORS: u64 = 256;

/// A small generator of numbers (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Whether what the backend gives is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belief {
    /// It is what was written.
    Data,
    /// It may be anything.
    Nothing,
}

/// What came of a task's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Operations that were done.
    pub(crate) confirmed: u64,
    /// Operations that the disk could not do.
    pub(crate) failed: u64,
    /// Operations that were cut off when the disk went.
    pub(crate) cut_off: u64,
    /// Sectors that were read and compared with the model.
    pub(crate) compared: u64,
}

impl core::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.confirmed += other.confirmed;
        self.failed += other.failed;
        self.cut_off += other.cut_off;
        self.compared += other.compared;
    }
}

/// A sector as a task writes it: each word tells whose and which it is.
fn sector_of(stamp: u64, at: u64) -> [u8; SECTOR_BYTES] {
    let mut bytes = [0; SECTOR_BYTES];
    if stamp != 0 {
        for (index, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = (stamp << 24 | at << 8 | index as u64).to_le_bytes();
        }
    }
    bytes
}

/// Which write a sector is of; nothing: of none, or of several.
fn stamp_of(sector: &[u8], at: u64) -> Option<u64> {
    let stamp = u64::from_le_bytes(*sector.first_chunk()?) >> 24;
    (sector == sector_of(stamp, at)).then_some(stamp)
}

/// One task, and what it knows.
pub(crate) struct Task<'d, 'g, P: Platform> {
    disk: &'d Disk<'g, P>,
    /// What is read and written, if that is not the disk itself: sectors of
    /// [`SECTOR_BYTES`], whatever the disk's own are.
    volume: Option<&'d Volume<'g, P>>,
    /// The first sector of its part.
    first: u64,
    /// The writes of which each sector may be: one, or, after a write that was
    /// not confirmed, several.
    known: Vec<BTreeSet<u64>>,
    random: Random,
    belief: Belief,
    tally: Tally,
}

impl<'d, 'g, P: Platform> Task<'d, 'g, P> {
    /// The task of that number, on a disk that is all zeros.
    pub(crate) fn new(disk: &'d Disk<'g, P>, number: u64, seed: u64, belief: Belief) -> Self {
        Self {
            disk,
            volume: None,
            first: number * SECTORS,
            known: vec![BTreeSet::from([0]); SECTORS as usize],
            random: Random(seed),
            belief,
            tally: Tally::default(),
        }
    }

    /// The same, but by a part of the disk: sectors count from its start.
    pub(crate) fn by(self, volume: &'d Volume<'g, P>) -> Self {
        Self {
            volume: Some(volume),
            ..self
        }
    }

    /// Works for so long as `more` says, reads all once more, and says what it
    /// did.
    ///
    /// # Errors
    /// What is not as it should be.
    pub(crate) async fn run(mut self, mut more: impl FnMut() -> bool) -> Result<Tally, String> {
        let mut stamp = 0;
        while more() {
            stamp += 1;
            self.step(stamp).await?;
        }
        // The disk may be away, or fail for a while.
        for _ in 0..LAST_TRIES {
            let confirmed = self.tally.confirmed;
            self.read(0..SECTORS as usize).await?;
            if self.tally.confirmed > confirmed {
                break;
            }
        }
        Ok(self.tally)
    }

    async fn step(&mut self, stamp: u64) -> Result<(), String> {
        let at = self.random.below(SECTORS);
        let len = match self.random.below(4) {
            0 => 1,
            1 => 8,
            2 => 1 + self.random.below(40),
            _ => 1 + self.random.below(SECTORS),
        };
        let range = at as usize..(at + len).min(SECTORS) as usize;
        match self.random.below(10) {
            0..4 => self.write(range, stamp).await,
            4 => self.discard(range).await,
            5 => {
                let flushed = self.disk.flush().await;
                self.note(flushed).await
            }
            6 => {
                // Begun, and not waited for.
                let mut bytes = vec![0; range.len() * SECTOR_BYTES];
                let mut read = pin!(self.read_sectors(self.sector(&range), &mut bytes));
                let begun = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx)));
                let _any = begun.await;
                Ok(())
            }
            _ => self.read(range).await,
        }
    }

    async fn read_sectors(&self, first: Sector, target: &mut [u8]) -> Result<(), Error> {
        match self.volume {
            Some(volume) => volume.read(first, &mut [target]).await,
            None => self.disk.read(first, target).await,
        }
    }

    async fn write_sectors(&self, first: Sector, source: &[u8]) -> Result<(), Error> {
        match self.volume {
            Some(volume) => volume.write(first, &[source]).await,
            None => self.disk.write(first, source).await,
        }
    }

    fn sector(&self, range: &Range<usize>) -> Sector {
        Sector(self.first + range.start as u64)
    }

    async fn write(&mut self, range: Range<usize>, stamp: u64) -> Result<(), String> {
        let mut bytes = Vec::with_capacity(range.len() * SECTOR_BYTES);
        for at in range.clone() {
            bytes.extend(sector_of(stamp, self.first + at as u64));
        }
        let written = self.write_sectors(self.sector(&range), &bytes).await;
        for known in &mut self.known[range] {
            if written.is_ok() {
                known.clear();
            }
            known.insert(stamp);
        }
        self.note(written).await
    }

    async fn discard(&mut self, range: Range<usize>) -> Result<(), String> {
        if self.volume.is_some() {
            // There is none of parts of sectors.
            return Ok(());
        }
        let len = range.len() as u64;
        let first = self.sector(&range);
        let done = self.disk.discard(first, len, Discard::Plain).await;
        // A disk may also leave what it was told to forget.
        for known in &mut self.known[range] {
            known.insert(0);
        }
        self.note(done).await
    }

    async fn read(&mut self, range: Range<usize>) -> Result<(), String> {
        let mut bytes = vec![0; range.len() * SECTOR_BYTES];
        let read = self.read_sectors(self.sector(&range), &mut bytes).await;
        if read.is_ok() && self.belief == Belief::Data {
            for (at, sector) in range.zip(bytes.chunks_exact(SECTOR_BYTES)) {
                let place = self.first + at as u64;
                let known = &mut self.known[at];
                match stamp_of(sector, place) {
                    Some(stamp) if known.contains(&stamp) => *known = BTreeSet::from([stamp]),
                    Some(stamp) => {
                        return Err(format!("sector {place} is of write {stamp}, not {known:?}"));
                    }
                    None => return Err(format!("sector {place} is torn")),
                }
                self.tally.compared += 1;
            }
        }
        self.note(read).await
    }

    /// Counts what was done; after an error, waits until the disk is there again.
    async fn note(&mut self, result: Result<(), Error>) -> Result<(), String> {
        let Err(error) = result else {
            self.tally.confirmed += 1;
            return Ok(());
        };
        if matches!(error, Error::Io | Error::NoMemory | Error::NotSupported(_)) {
            self.tally.failed += 1;
            pause().await;
            return Ok(());
        }
        self.tally.cut_off += 1;
        recover(self.disk, self.belief).await
    }
}

fn is_transient(kind: ErrorKind) -> bool {
    kind.persistence() == Persistence::Transient
}

/// A refusal that is over as soon as another client of the store has ended what it does,
/// whatever the library says of it.
const fn passes(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Server(Errno::EAGAIN | Errno::EBUSY)
            | ErrorKind::Quota {
                quota: Quota::Transactions,
                ..
            }
    )
}

/// Waits until a disk that failed is there again, or closed.
///
/// # Errors
/// It broke for a reason that would have passed.
pub(crate) async fn recover<P: Platform>(disk: &Disk<'_, P>, belief: Belief) -> Result<(), String> {
    loop {
        match disk.status() {
            // What is closed is not waited for.
            Status::Connected | Status::Closed => return Ok(()),
            Status::Connecting => drop(disk.ready().await),
            Status::Broken(Fault::Store(kind))
                if belief == Belief::Data && (passes(kind) || is_transient(kind)) =>
            {
                return Err(format!("a refusal that may pass is final: {kind}"));
            }
            Status::Broken(_) => drop(disk.reconnect().await),
            other => drop(disk.status_change(other).await),
        }
        pause().await;
    }
}

/// How often a task tries to read all of its part at the end.
const LAST_TRIES: u32 = 1000;
