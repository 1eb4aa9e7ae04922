//! `torture`: many tasks on one disk, and one that looks after the disk.

use alloc::vec::Vec;
use core::{cell::Cell, time::Duration};

use futures_util::future::{Either, join_all, select};
use pv_guest::{
    Error, Guest,
    blkfront::{Config, Disk, Sector, Volume},
    executor, println, time,
};

use crate::{
    options::Options,
    torture::{Belief, Random, SECTORS, Tally, Task},
};

/// What was seen to happen to the disk.
#[derive(Default)]
struct Seen {
    /// Another status.
    statuses: Cell<u32>,
    /// Another size.
    sizes: Cell<u32>,
}

/// How many times as long it works for what is to happen to the disk.
const MAX_TIMES: u64 = 12;

/// Works for so many seconds.
pub(crate) fn run(guest: &Guest, options: &Options<'_>, seconds: u64) -> Result<(), Error> {
    let bus = guest.bus()?;
    let ids = executor::block_on(bus.devices("vbd"));
    let ids = ids.map_err(|_| Error::Failed("the store does not tell of disks"))?;
    let id = ids.first().ok_or(Error::Failed("there is no disk"))?;
    let config = Config {
        queues: options.number("queues").unwrap_or(4) as u32,
        ring_page_order: 2,
        ..Config::default()
    };
    let disk = Disk::new(bus, id.as_str(), config);
    let geometry = executor::block_on(disk.ready());
    let geometry = geometry.map_err(|_| Error::Failed("the disk does not come"))?;
    let depth = options.number("depth").unwrap_or(32);
    println!(
        "torture: {depth} tasks for {seconds} s on a disk of {} KiB with {} queues",
        geometry.len_bytes() / 1024,
        disk.queues()
    );
    let belief = match options.text("compare") {
        Some("no") => Belief::Nothing,
        _ => Belief::Data,
    };
    let mut seeds = Random(options.number("seed").unwrap_or(1));
    let deadline_ns = time::deadline_ns(Duration::from_secs(seconds));
    // Until something has happened to the disk so often, however slow whoever has it happen is.
    let statuses = options.number("statuses").unwrap_or(0);
    let last_ns = time::deadline_ns(Duration::from_secs(seconds.saturating_mul(MAX_TIMES)));
    let seen = Seen::default();
    let volume = match options.number("part") {
        None => None,
        Some(first) => {
            let whole = executor::block_on(Volume::whole(&disk));
            let part = whole.and_then(|whole| whole.part(Sector(first), depth * SECTORS));
            Some(part.map_err(|_| Error::Failed("the disk has no such part"))?)
        }
    };
    let tasks = (0..depth).map(|number| {
        let more = || {
            let now_ns = time::now_ns();
            now_ns < deadline_ns || (u64::from(seen.statuses.get()) < statuses && now_ns < last_ns)
        };
        let task = Task::new(&disk, number, seeds.next(), belief);
        match &volume {
            Some(volume) => task.by(volume).run(more),
            None => task.run(more),
        }
    });
    let tasks: Vec<_> = tasks.collect();
    let work = core::pin::pin!(join_all(tasks));
    let watch = core::pin::pin!(watch(&disk, &seen));
    let tallies = match executor::block_on(select(work, watch)) {
        Either::Left((tallies, _)) => tallies,
        Either::Right(((), _)) => return Err(Error::Failed("the disk was closed")),
    };
    let mut sum = Tally::default();
    for tally in tallies {
        match tally {
            Ok(tally) => sum += tally,
            Err(wrong) => {
                println!("FAILED: {wrong}");
                return Err(Error::Failed("the disk is not as it should be"));
            }
        }
    }
    let counters = disk.counters();
    executor::block_on(disk.close());
    println!(
        "torture: {} operations were done, and {} sectors were as they should be",
        sum.confirmed, sum.compared
    );
    for (count, what) in [
        (sum.failed, "failed"),
        (sum.cut_off, "were cut off when the disk went"),
    ] {
        if count > 0 {
            println!("torture: {count} operations {what}");
        }
    }
    println!(
        "torture: {} requests, {} notifications; the disk changed its status {} times, its size {}",
        counters.sent,
        counters.notified,
        seen.statuses.get(),
        seen.sizes.get()
    );
    Ok(())
}

/// Looks after the disk, and counts what happens to it.
async fn watch(disk: &Disk<'_>, seen: &Seen) {
    let mut status = disk.status();
    let mut size = disk.geometry().map(|geometry| geometry.len_bytes());
    let mut serve = core::pin::pin!(disk.serve());
    loop {
        let tick = core::pin::pin!(time::sleep(Duration::from_millis(10)));
        if let Either::Left(_) = select(serve.as_mut(), tick).await {
            return;
        }
        if disk.status() != status {
            status = disk.status();
            seen.statuses.set(seen.statuses.get() + 1);
            println!("torture: the disk is {status:?}");
        }
        let now = disk.geometry().map(|geometry| geometry.len_bytes());
        if now != size {
            size = now;
            println!("torture: the disk has {} KiB", now.unwrap_or(0) / 1024);
            seen.sizes.set(seen.sizes.get() + 1);
        }
    }
}
