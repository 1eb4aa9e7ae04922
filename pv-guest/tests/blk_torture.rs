//! Disks in a world where much goes wrong, by seed: what a model says of every
//! sector is what is read.

mod kernel;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

use mock_hypervisor::{
    Config, DiskConfig, DiskId, Domain, Faults, Outcome, Plan, Time, Xen, seeds,
};
use pv_guest::{
    blkfront::{self, Discard, Disk, Error, Sector, Status},
    xenbus::Bus,
};

const TASKS: u64 = 4;
/// Sectors of each task's own part of the disk.
const SECTORS: u64 = 256;
const STEPS: u32 = 12;
/// How long a guest may take, in virtual time.
const PATIENCE_NS: u64 = 60_000_000_000;

/// A small generator of its own (SplitMix64): the plan's is the hypervisor's.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What each sector may hold: one thing, or, after a write that was not
/// confirmed, any of several.
struct Model(Vec<BTreeSet<u64>>);

fn sector_of(stamp: u64, at: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    if stamp != 0 {
        for (index, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = (stamp << 20 | at << 8 | index as u64).to_le_bytes();
        }
    }
    bytes
}

fn stamp_of(sector: &[u8], at: u64) -> Option<u64> {
    let stamp = u64::from_le_bytes(*sector.first_chunk()?) >> 20;
    (sector == sector_of(stamp, at)).then_some(stamp)
}

/// Whether what the backend gives is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Belief {
    /// It is what was written.
    Data,
    /// It may be anything.
    Nothing,
}

/// One task: reads, writes and discards in its own part.
async fn task<'g>(disk: &Disk<'g, &'g Domain>, own: u64, seed: u64, belief: Belief) -> u32 {
    let mut random = Random(seed);
    let mut model = Model(vec![BTreeSet::from([0]); SECTORS as usize]);
    let first = own * SECTORS;
    let mut confirmed = 0;
    for step in 1..=u64::from(STEPS) {
        let at = random.below(SECTORS);
        let len = match random.below(4) {
            0 => 1,
            1 => 8,
            2 => 1 + random.below(40),
            _ => 1 + random.below(SECTORS),
        };
        let len = len.min(SECTORS - at);
        let range = at as usize..(at + len) as usize;
        let mut bytes = vec![0; len as usize * 512];
        match random.below(10) {
            0..4 => {
                for (index, sector) in bytes.chunks_exact_mut(512).enumerate() {
                    sector.copy_from_slice(&sector_of(step, first + at + index as u64));
                }
                let written = disk.write(Sector(first + at), &bytes).await;
                for known in &mut model.0[range] {
                    if written.is_ok() {
                        known.clear();
                    }
                    known.insert(step);
                }
                confirmed += u32::from(written.is_ok());
                recover(disk, written).await;
            }
            4 => {
                let how = Discard::Plain;
                let done = disk.discard(Sector(first + at), len, how).await;
                for known in &mut model.0[range] {
                    if done.is_ok() {
                        known.clear();
                    }
                    known.insert(0);
                }
                recover(disk, done).await;
            }
            5 => {
                let flushed = disk.flush().await;
                recover(disk, flushed).await;
            }
            6 => {
                // Begun, and not waited for.
                let read = std::pin::pin!(disk.read(Sector(first + at), &mut bytes));
                let _any = futures_util::poll!(read);
            }
            _ => {
                let read = disk.read(Sector(first + at), &mut bytes).await;
                if read.is_ok() && belief == Belief::Data {
                    let sectors = bytes.chunks_exact(512).enumerate();
                    for ((index, sector), known) in sectors.zip(&mut model.0[range]) {
                        let place = first + at + index as u64;
                        let stamp = stamp_of(sector, place);
                        let stamp = stamp.unwrap_or_else(|| panic!("sector {place} is torn"));
                        assert!(
                            known.contains(&stamp),
                            "sector {place}: {stamp}, not {known:?}"
                        );
                        *known = BTreeSet::from([stamp]);
                    }
                }
                confirmed += u32::from(read.is_ok());
                recover(disk, read).await;
            }
        }
    }
    confirmed
}

/// After an error: until the disk is there again.
async fn recover<'g>(disk: &Disk<'g, &'g Domain>, result: Result<(), Error>) {
    let Err(error) = result else {
        return;
    };
    if matches!(error, Error::Io | Error::NoMemory | Error::NotSupported(_)) {
        kernel::pause().await;
        return;
    }
    loop {
        match disk.status() {
            Status::Connected => return,
            Status::Connecting => drop(disk.ready().await),
            Status::Broken(_) => drop(disk.reconnect().await),
            other => drop(disk.status_change(other).await),
        }
        kernel::pause().await;
    }
}

async fn use_disk<'g>(bus: Bus<'g, &'g Domain>, seed: u64, belief: Belief) -> u32 {
    let mut random = Random(!seed);
    let wanted = blkfront::Config {
        queues: 1 + random.below(3) as u32,
        ring_page_order: random.below(3) as u32,
        segments: 1 + random.below(64) as u32,
        most_pages: 16 + random.below(100) as u32,
    };
    let disk = Disk::new(bus, "51712", wanted);
    let tasks = (0..TASKS).map(|own| task(&disk, own, random.next(), belief));
    let confirmed = futures_util::future::join_all(tasks).await.iter().sum();
    disk.close().await;
    confirmed
}

fn disk(seed: u64) -> DiskConfig {
    let mut random = Random(seed);
    DiskConfig {
        sectors: 2048,
        queues: 1 + random.below(4) as u32,
        ring_page_order: random.below(4) as u32,
        indirect_segments: random.below(3) as u32 * 40,
        persistent: random.below(2) == 0,
        flush: random.below(4) != 0,
        barrier: random.below(2) == 0,
        discard: random.below(4) != 0,
        latency_ns: random.below(3) * 50_000,
        trusted: random.below(4) != 0,
        ..DiskConfig::default()
    }
}

/// Plays one seed; how many operations were confirmed, if the guest came to its
/// end.
fn play(seed: u64, faults: Faults, belief: Belief) -> Result<Option<u32>, String> {
    let xen = Xen::new(Time::Virtual);
    let config = Config {
        memory_mib: 8,
        ..Config::default()
    };
    let domain = xen.domain(config).unwrap();
    let id: DiskId = xen.attach_disk(domain.domid(), disk(seed));
    let plan = Plan::seed(seed).with_faults(faults);
    let guest = Box::new(move |domain: &Domain| {
        kernel::run_until(domain, Some(PATIENCE_NS), async |bus: Bus<'_, _>| {
            use_disk(bus, seed, belief).await
        })
        .map_err(|error| error.to_string())
    });
    let played = xen.play(plan, vec![(&domain, guest as Box<_>)]);
    // What the guest had is its own again, but what the peer never lets go of.
    let kept = xen.remove_disk(id);
    assert_eq!(domain.grants_in_use(), kept, "grants are left over");
    match played.outcomes.into_iter().next() {
        Some(Outcome::Returned(ended)) => ended,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_sector_is_what_it_should_be() {
    let (ended, confirmed) = (AtomicU64::new(0), AtomicU64::new(0));
    seeds(SEEDS, |seed| {
        let faults = Faults {
            spurious: 50,
            doubled: 20,
            stormed: 500,
            paused: 200,
            io_fails: 50,
            io_slow: 3,
            backend_restarts: 300,
            detached: 400,
            resized: 500,
            store_refuses: 100,
            store_restarts: 1000,
            no_room: 500,
            no_pages: 500,
            ..Faults::default()
        };
        match play(seed, faults, Belief::Data) {
            Ok(Some(done)) => {
                ended.fetch_add(1, Ordering::Relaxed);
                confirmed.fetch_add(u64::from(done), Ordering::Relaxed);
            }
            Ok(None) => panic!("it waits for ever"),
            // It found no room to begin.
            Err(_) => {}
        }
    });
    let (ended, confirmed) = (ended.into_inner(), confirmed.into_inner());
    println!("{ended} of {SEEDS} guests came to their end, {confirmed} operations confirmed");
    assert!(ended > SEEDS * 9 / 10);
}

#[test]
fn a_backend_that_means_harm_does_none() {
    seeds(SEEDS / 4, |seed| {
        let faults = Faults {
            mischief: 5,
            io_slow: 5,
            backend_restarts: 500,
            ..Faults::default()
        };
        // Its data is what the backend says it is; all else must hold.
        let _any = play(seed, faults, Belief::Nothing);
    });
}

const SEEDS: u64 = 10_000;
