//! Load on a disk.

use alloc::vec::Vec;

use futures_util::future::{join_all, try_join_all};
use load_plan::{DISK_BYTES, Direction, Order, Phase, Random, Samples};
use pv_guest::{
    Error,
    blkfront::{Config, Disk, SECTOR_BYTES, Sector},
    println,
    time::now_ns,
    xenbus::Bus,
};

/// Pages of the largest request.
const SEGMENTS: u32 = 256;

/// Has `work` done on the first disk that there is.
pub(crate) async fn with_disk(
    bus: Bus<'static>,
    work: impl AsyncFnOnce(&Disk<'static>) -> Result<(), Error>,
) -> Result<(), Error> {
    let ids = bus.devices("vbd").await;
    let ids = ids.map_err(|_| Error::Failed("the store does not tell of disks"))?;
    let id = ids.first().ok_or(Error::Failed("there is no disk"))?;
    let config = Config {
        ring_page_order: 2,
        segments: SEGMENTS,
        ..Config::default()
    };
    let disk = Disk::new(bus, id.as_str(), config);
    disk.ready().await.map_err(failed)?;
    let done = work(&disk).await;
    disk.close().await;
    done
}

fn failed(error: pv_guest::blkfront::Error) -> Error {
    println!("load: {error}");
    Error::Failed("the disk does not do what it should")
}

/// One phase, until `end_ns`.
pub(crate) async fn run(
    disk: &Disk<'static>,
    phase: &Phase,
    end_ns: u64,
) -> Result<Samples, Error> {
    let Phase::Disk(load) = *phase else {
        return Err(Error::Failed("this is no phase for disks"));
    };
    let len = (load.kib as usize) << 10;
    let buffers = (0..load.depth).map(|_| disk.buffer(len >> 12));
    let buffers = try_join_all(buffers).await.map_err(failed)?;
    // One behind the other, whichever task is next.
    let next = core::cell::Cell::new(0);
    let tasks = buffers
        .into_iter()
        .enumerate()
        .map(async |(task, mut buffer)| {
            let slots = DISK_BYTES / len as u64;
            let mut random = Random(task as u64 + 1);
            let mut samples = Samples::new();
            loop {
                let begun = now_ns();
                if begun >= end_ns {
                    return Ok::<Samples, Error>(samples);
                }
                let slot = match load.order {
                    Order::Random => random.below(slots),
                    Order::Sequential => next.replace(next.get() + 1) % slots,
                };
                let sector = Sector(slot * (len / SECTOR_BYTES) as u64);
                let (back, result) = match load.direction {
                    Direction::Read => disk.read_granted(sector, buffer).await,
                    Direction::Write => disk.write_granted(sector, buffer).await,
                };
                result.map_err(failed)?;
                buffer = back;
                samples.add(now_ns() - begun, len);
            }
        });
    let tasks: Vec<_> = tasks.collect();
    let mut sum = Samples::new();
    for samples in join_all(tasks).await {
        sum.join(samples?);
    }
    Ok(sum)
}
