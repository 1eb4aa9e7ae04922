//! `devices=odd`: disks whose backends in domain 0 say or do what others' do not.
//!
//! - 51712: hints that make no sense, numbers with white space and NUL around them, and a
//!   promise of discards that is not kept.
//! - 51728: flushes that fail, for a while.
//! - 51744: discards that work.

use pv_guest::{
    Error,
    blkfront::{self, Discard, Disk, Flush, Sector},
    println,
    xenbus::Bus,
};

use crate::devices::{PATIENCE, await_word, tell};

type Result<T> = core::result::Result<T, Error>;

const PAGE_SECTORS: u64 = 8;
const PAGE_BYTES: usize = 4096;

async fn ready(bus: Bus<'static>, id: &str) -> Result<Disk<'static>> {
    let disk = Disk::new(bus, id, blkfront::Config::default());
    match disk.ready_within(PATIENCE).await {
        Ok(_) => Ok(disk),
        Err(error) => {
            println!("odd: FAILED: {id}: {error}");
            Err(Error::Failed("a disk does not come"))
        }
    }
}

pub(crate) async fn run(bus: Bus<'static>) -> Result<()> {
    hints(bus).await?;
    flushes(bus).await?;
    discards(bus).await
}

async fn hints(bus: Bus<'static>) -> Result<()> {
    let disk = ready(bus, "51712").await?;
    let what = disk.geometry().ok_or(Error::Failed("no geometry"))?;
    println!(
        "odd: sectors {}, of {} bytes, beneath of {} bytes",
        what.sectors, what.sector_bytes, what.physical_sector_bytes
    );
    match what.discard {
        Some(limits) => println!(
            "odd: discards of {} bytes, from {} bytes",
            limits.granularity_bytes, limits.alignment_bytes
        ),
        None => println!("odd: no discards"),
    }
    wrote_and_read(&disk, 7).await?;
    // Older Linux says that nothing beneath can do that, newer Linux does nothing.
    let answer = discard(&disk).await;
    let is_offered = disk.geometry().is_some_and(|what| what.discard.is_some());
    match (answer, is_offered) {
        (Ok(()), true) | (Err(blkfront::Error::NotSupported(_)), false) => {
            println!("odd: a discard that cannot be done harms nobody: {answer:?}");
        }
        _ => println!("odd: FAILED: a discard: {answer:?}, offered afterwards: {is_offered}"),
    }
    wrote_and_read(&disk, 8).await?;
    println!("odd: a flush: {:?}", disk.flush().await);
    disk.close().await;
    Ok(())
}

async fn flushes(bus: Bus<'static>) -> Result<()> {
    let disk = ready(bus, "51728").await?;
    let way = disk.geometry().map(|what| what.flush);
    println!("odd: flushes by {way:?}");
    if way != Some(Flush::Cache) {
        return Err(Error::Failed("the backend has no flush"));
    }
    wrote_and_read(&disk, 1).await?;
    println!("odd: a flush that works: {:?}", disk.flush().await);
    tell(bus, "flushed").await?;
    await_word(bus, "failing").await?;
    let page = [2; PAGE_BYTES];
    println!("odd: a write: {:?}", disk.write(Sector(0), &page).await);
    println!("odd: a flush that fails: {:?}", disk.flush().await);
    tell(bus, "failed").await?;
    await_word(bus, "working").await?;
    wrote_and_read(&disk, 3).await?;
    println!("odd: a flush that works again: {:?}", disk.flush().await);
    disk.close().await;
    Ok(())
}

async fn discards(bus: Bus<'static>) -> Result<()> {
    let disk = ready(bus, "51744").await?;
    wrote_and_read(&disk, 9).await?;
    println!("odd: a discard that works: {:?}", discard(&disk).await);
    let mut page = [1; PAGE_BYTES];
    let read = disk.read(Sector(0), &mut page).await;
    read.map_err(|_| Error::Failed("a disk cannot be read"))?;
    println!("odd: all that is left is zero: {}", page == [0; PAGE_BYTES]);
    disk.close().await;
    Ok(())
}

async fn discard(disk: &Disk<'static>) -> core::result::Result<(), blkfront::Error> {
    disk.discard(Sector(0), PAGE_SECTORS, Discard::Plain).await
}

/// A page of such bytes comes back.
async fn wrote_and_read(disk: &Disk<'static>, byte: u8) -> Result<()> {
    let (written, mut read) = ([byte; PAGE_BYTES], [0; PAGE_BYTES]);
    let failed = |_| Error::Failed("a disk cannot be written and read");
    disk.write(Sector(0), &written).await.map_err(failed)?;
    disk.read(Sector(0), &mut read).await.map_err(failed)?;
    match read == written {
        true => Ok(()),
        false => Err(Error::Failed("a disk gives back something else")),
    }
}
