//! Disks in a world where much goes wrong, by seed: what a model says of every
//! sector is what is read.

extern crate alloc;

mod kernel;
#[path = "kernel/plan.rs"]
mod plan;
/// The same tasks as those of the guest that does this on a real Xen.
#[path = "../../../tests/load/src/torture.rs"]
mod torture;

use std::{
    cell::Cell,
    future::pending,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::future::{Either, join_all, select};
use hypercall_abi::io::xenbus::XenbusState;
use kernel::pause;
use mock_hypervisor::{
    Config, DiskConfig, DiskId, Domain, Faults, Outcome, Time, Xen, seed_count, seeds,
};
use pv_frontends::{
    blkfront::{self, Disk, Sector, Status, Volume},
    xenbus::Bus,
};
use torture::{Belief, Random, SECTORS, Tally, Task, recover};

const TASKS: u64 = 4;
const STEPS: u32 = 12;
/// How long a guest may take, in virtual time.
const PATIENCE_NS: u64 = 60_000_000_000;

/// When a disk is closed whose backend means harm: whatever that does, requests end then.
const CLOSED_AFTER: Duration = Duration::from_secs(20);

/// How a guest came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All of its tasks had done what they had to do.
    Itself,
    /// Its disk was closed, and all of its tasks were told.
    Closed,
}

async fn use_disk<'g>(bus: Bus<'g, &'g Domain>, seed: u64, belief: Belief) -> (Tally, End) {
    let mut random = Random(!seed);
    let wanted = blkfront::Config {
        queues: 1 + random.below(3) as u32,
        ring_page_order: random.below(3) as u32,
        segments: 1 + random.below(64) as u32,
        max_pages: 16 + random.below(100) as u32,
        ..blkfront::Config::default()
    };
    let disk = Disk::new(bus, "51712", wanted);
    let volume = match sector_bytes(seed, belief) {
        512 => None,
        _ => Some(partition(&disk, belief).await),
    };
    let tasks = (0..TASKS).map(|number| {
        let left = Cell::new(STEPS);
        let more = move || left.replace(left.get().saturating_sub(1)) > 0;
        let task = Task::new(&disk, number, random.next(), belief);
        match &volume {
            Some(volume) => task.by(volume).run(more),
            None => task.run(more),
        }
    });
    let planned = async {
        if belief == Belief::Data {
            pending::<()>().await;
        }
        bus.sleep(CLOSED_AFTER).await;
        disk.close().await;
        pending::<()>().await;
    };
    let is_calm = is_store_calm(seed) || belief == Belief::Nothing && !plan::moves(seed);
    let mut watched = pin!(ends_are_true(&disk, seed, is_calm));
    let planned = pin!(planned);
    let work = pin!(select(join_all(tasks), planned));
    let Either::Left((Either::Left((tallies, _)), _)) = select(work, watched.as_mut()).await else {
        unreachable!("it is pending for ever");
    };
    let mut sum = Tally::default();
    for tally in tallies {
        sum += tally.unwrap();
    }
    let end = match disk.status() {
        Status::Closed => End::Closed,
        _ => End::Itself,
    };
    let Either::Left(_) = select(pin!(disk.close()), watched).await else {
        unreachable!("it looks for ever");
    };
    assert_eq!(disk.status(), Status::Closed);
    if is_calm {
        assert_eq!(state(bus), Some(XenbusState::CLOSED), "Closed is not told");
    }
    (sum, end)
}

/// The state that the disk has in the store; none: it was taken away.
fn state(bus: Bus<'_, &Domain>) -> Option<XenbusState> {
    let domain = bus.ports().platform();
    let path = format!("/local/domain/{}/device/vbd/51712/state", domain.domid());
    let value = domain.xen().store_read(&path).ok()?;
    let number = std::str::from_utf8(&value).ok()?.parse().ok()?;
    Some(XenbusState(number))
}

/// A status that is told is true: where the store refuses nothing, it says by then that a
/// disk broke or was closed. Looks for ever.
async fn ends_are_true(disk: &Disk<'_, &Domain>, seed: u64, is_calm: bool) {
    let mut status = disk.status();
    loop {
        status = disk.status_change(status).await;
        let least = match status {
            // The directory is another after a move.
            Status::Broken(_) if is_calm && !plan::moves(seed) => XenbusState::CLOSING,
            Status::Closed if is_calm => XenbusState::CLOSED,
            _ => continue,
        };
        let told = state(disk.bus());
        let is_told = told.is_none_or(|told| told >= least);
        assert!(is_told, "{status:?}, but {told:?} in the store");
    }
}

/// Of one guest in eight, the store refuses nothing, and nobody takes the disk away: when
/// it is closed, the store says so.
const fn is_store_calm(seed: u64) -> bool {
    seed % 8 == 5
}

/// A part of a disk with large sectors, where a partition for small ones may be: tasks that
/// have neighbouring parts of it write to the same sector.
async fn partition<'g>(disk: &Disk<'g, &'g Domain>, belief: Belief) -> Volume<'g, &'g Domain> {
    loop {
        if let Ok(whole) = Volume::whole(disk).await {
            return whole.part(Sector(3), TASKS * SECTORS).unwrap();
        }
        recover(disk, belief).await.unwrap();
    }
}

/// Of one disk in four, the own sectors are larger than those of file systems; not where
/// the backend means harm, which need never say what it is.
fn sector_bytes(seed: u64, belief: Belief) -> u32 {
    match Random(seed ^ 0x5ec7).below(4) {
        0 if belief == Belief::Data => 4096,
        _ => 512,
    }
}

fn disk(seed: u64, belief: Belief) -> DiskConfig {
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
        sector_bytes: sector_bytes(seed, belief),
        ..DiskConfig::default()
    }
}

/// Plays one seed; how many operations were confirmed, if the guest came to its
/// end.
fn play(seed: u64, faults: Faults, belief: Belief) -> Result<Option<(Tally, End)>, String> {
    let xen = Xen::new(Time::Virtual);
    let config = Config {
        memory_mib: 8,
        ..Config::default()
    };
    let domain = xen.domain(config).unwrap();
    let id: DiskId = xen.attach_disk(domain.domid(), disk(seed, belief));
    // A process of another domain answers after a while, if not at once.
    xen.set_store_latency(Random(seed ^ 0x570e).below(3) * 100_000);
    let plan = plan::plan(seed, faults, domain.domid());
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
    let (ended, confirmed, compared) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    seeds(tries(), |seed| {
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
            late_services: 3,
            store_refuses: 100,
            store_restarts: 1000,
            no_room: 500,
            no_pages: 500,
            ..Faults::default()
        };
        let faults = match is_store_calm(seed) {
            true => Faults {
                store_refuses: 0,
                detached: 0,
                ..faults
            },
            false => faults,
        };
        match play(seed, faults, Belief::Data) {
            Ok(Some((done, _))) => {
                ended.fetch_add(1, Ordering::Relaxed);
                confirmed.fetch_add(done.confirmed, Ordering::Relaxed);
                compared.fetch_add(done.compared, Ordering::Relaxed);
            }
            Ok(None) => panic!("it waits for ever"),
            // It found no room to begin.
            Err(_) => {}
        }
    });
    let (ended, confirmed) = (ended.into_inner(), confirmed.into_inner());
    println!(
        "{ended} of {} guests came to their end, {confirmed} operations confirmed, \
         {compared:?} sectors compared",
        tries()
    );
    let moves = kernel::MOVES.load(Ordering::Relaxed);
    println!("guests went on elsewhere {moves} times");
    assert!(ended > tries() * 9 / 10 && moves > tries() / 8);
}

#[test]
fn a_backend_that_means_harm_does_none() {
    let [itself, closed, confirmed] = [const { AtomicU64::new(0) }; 3];
    seeds(tries() / 4, |seed| {
        let faults = Faults {
            late_services: 3,
            mischief: 5,
            io_slow: 5,
            backend_restarts: 500,
            ..Faults::default()
        };
        // Its data is what the backend says it is; all else must hold.
        let (done, end) = match play(seed, faults, Belief::Nothing) {
            Ok(Some(ended)) => ended,
            Ok(None) => panic!("it waits for ever"),
            Err(error) => panic!("it could not begin: {error}"),
        };
        let count = match end {
            End::Itself => &itself,
            End::Closed => &closed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        confirmed.fetch_add(done.confirmed, Ordering::Relaxed);
    });
    let [itself, closed, confirmed] = [itself, closed, confirmed].map(AtomicU64::into_inner);
    println!(
        "{itself} guests came to their end by themselves, {closed} when their disk was closed; \
         {confirmed} operations confirmed"
    );
    // Neither is rare: both are tried.
    assert!(itself > tries() / 40 && closed > tries() / 400);
}

/// Seeds of each change; a night tries ten thousand.
fn tries() -> u64 {
    seed_count(800)
}
