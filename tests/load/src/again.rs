//! `again`: one frontend after the other on one disk.

use core::time::Duration;

use pv_guest::{
    Error, Guest,
    blkfront::{Config, Disk, SECTOR_BYTES, Sector},
    executor, println, time,
};

/// Queues, and pages of a ring as a power of two, of one frontend after the other.
const KINDS: [(u32, u32); 4] = [(4, 2), (1, 0), (1, 4), (2, 0)];
/// How long one may take to connect: a backend that refuses is asked again meanwhile.
const MAX_TIME: Duration = Duration::from_secs(10);

/// So many frontends.
pub(crate) fn run(guest: &Guest, rounds: u64) -> Result<(), Error> {
    executor::block_on(rounds_of(guest, rounds))
}

async fn rounds_of(guest: &Guest, rounds: u64) -> Result<(), Error> {
    let bus = guest.bus()?;
    let ids = bus.devices("vbd").await;
    let ids = ids.map_err(|_| Error::Failed("the store does not tell of disks"))?;
    let id = ids.first().ok_or(Error::Failed("there is no disk"))?;
    for (round, (queues, ring_page_order)) in (0..rounds).zip(KINDS.into_iter().cycle()) {
        let config = Config {
            queues,
            ring_page_order,
            ..Config::default()
        };
        let disk = Disk::new(bus, id.as_str(), config);
        let failed = |what| {
            println!("again: frontend {round} with {queues} queues: {what}");
            Error::Failed("a frontend cannot use the disk")
        };
        let ready = time::timeout(MAX_TIME, disk.ready()).await;
        match ready {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(failed("it is refused")),
            Err(_) => return Err(failed("it waits for its backend")),
        }
        let mut block = [0; 8 * SECTOR_BYTES];
        block.fill(round as u8);
        let written = disk.write(Sector(8), &block).await;
        let read = disk.read(Sector(8), &mut block).await;
        let flushed = disk.flush().await;
        if written.and(read).and(flushed).is_err() || block.iter().any(|byte| *byte != round as u8)
        {
            return Err(failed("what it wrote is not there"));
        }
        disk.close().await;
    }
    println!("again: {rounds} frontends had the disk, one after the other");
    Ok(())
}
