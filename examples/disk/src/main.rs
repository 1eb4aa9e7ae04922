//! A disk: its partitions, what is on them, and whether it is right.
//!
//! On every disk, ext4 partitions are listed and compared with their
//! `SHA256SUMS`; on FAT partitions a file is written and read back. With `wait=7` on the
//! command line each disk stays connected for so many seconds more.
#![no_main]
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod ext4;
mod fat;
mod partitions;

use alloc::{format, string::String};
use core::time::Duration;

use pv_guest::{
    Error, Guest,
    blkfront::{Config, Disk, Mode, SECTOR_BYTES, Vdev, Volume},
    entry, executor, println, time,
};

use partitions::Kind;

entry!(main);

fn main(guest: Guest) -> Result<(), Error> {
    let bus = guest.bus()?;
    let ids = executor::block_on(bus.devices("vbd"));
    let Ok(ids) = ids else {
        return Err(Error::Failed("the store does not tell of disks"));
    };
    if ids.is_empty() {
        println!("there is no disk: give this guest one with --disk FILE");
    }
    for id in ids {
        let disk = Disk::new(bus, id.as_str(), Config::default());
        if let Err(error) = executor::block_on(show(&disk)) {
            println!("{error}");
            return Err(Error::Failed("a disk is not as it should be"));
        }
        executor::block_on(stay(&guest, &disk));
        executor::block_on(disk.close());
    }
    Ok(())
}

/// Keeps the disk, and sleeps.
async fn stay(guest: &Guest, disk: &Disk<'static>) {
    let mut words = guest.command_line().split_whitespace();
    let wait = words.find_map(|word| word.strip_prefix("wait=")?.parse().ok());
    if let Some(wait) = wait {
        println!("disk: waits for {wait} s");
        let _it_was_closed = time::timeout(Duration::from_secs(wait), disk.serve()).await;
    }
}

async fn show(disk: &Disk<'static>) -> Result<(), String> {
    let text = |error: &dyn core::fmt::Display| format!("{error}");
    let geometry = disk.ready().await.map_err(|error| text(&error))?;
    let name = disk.id().parse().map(Vdev).unwrap_or(Vdev(0));
    println!(
        "disk {name}: {} KiB in sectors of {} bytes, {}",
        geometry.len_bytes() / 1024,
        geometry.sector_bytes,
        match geometry.mode {
            Mode::ReadWrite => "to read and write",
            Mode::ReadOnly => "to read only",
        }
    );
    let whole = Volume::whole(disk).await.map_err(|error| text(&error))?;
    let partitions = partitions::read(&whole).await;
    for partition in partitions.map_err(|error| text(&error))? {
        let kib = partition.volume.sectors() * SECTOR_BYTES as u64 / 1024;
        println!(
            "partition {}: {kib} KiB, {:?}",
            partition.index + 1,
            partition.kind
        );
        match partition.kind {
            Kind::Linux => ext4::show(partition.volume)?,
            Kind::Fat => fat::show(&whole, partition.index, geometry.mode)?,
            Kind::Other(_) => {}
        }
    }
    disk.flush().await.map_err(|error| text(&error))?;
    let counters = disk.counters();
    println!(
        "disk {name}: {} requests, the backend was told {} times, {} pages are lent",
        counters.sent, counters.notified, counters.pages
    );
    Ok(())
}
