//! `devices`: what a toolstack does to a guest's devices, from the guest's side.
//!
//! Domain 0 has the other side (`tests/lab/dom0/devices.sh`): the guest tells it by
//! `data/devices` how far it is.

use alloc::{format, string::String, vec::Vec};
use core::{pin::pin, time::Duration};

use futures_util::future::{Either, join, join_all, select};
use pv_guest::{
    Error, Guest,
    blkfront::{self, Disk, Sector},
    executor::block_on,
    netfront::{self, Nic},
    println,
    xenbus::{Bus, Change, Discovery},
};

use crate::{nics, offloads, options::Options, wire::round_trip};

/// How long anything may take: these machines are emulated.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long as many as there can be may take: domain 0 runs a script for each.
const MANY: Duration = Duration::from_secs(240);
/// How long a backend that refuses is looked at.
const REFUSED: Duration = Duration::from_secs(60);

/// The first disk's number.
const DISK: &str = "51712";
/// The first interface's.
const NIC: &str = "0";

type Result<T> = core::result::Result<T, Error>;

pub(crate) fn run(guest: &Guest, options: &Options<'_>, what: &str) -> Result<()> {
    let bus = guest.bus()?;
    match what {
        "close" => block_on(close(bus)),
        "many" => block_on(many(bus)),
        "refused" => block_on(refused(bus)),
        "stale-nic" => block_on(nics::stale(bus)),
        "groups" => block_on(nics::groups(bus)),
        "ports" => block_on(nics::ports(bus)),
        "offloads" => block_on(offloads::run(bus)),
        "odd" => block_on(crate::odd::run(bus)),
        "cycles" => block_on(cycles(bus, options)),
        _ => Err(Error::Failed("there is no such test of devices")),
    }
}

/// Tells domain 0 how far this is.
pub(crate) async fn tell(bus: Bus<'static>, how_far: &str) -> Result<()> {
    let told = bus.store().tree().write("data/devices", how_far).await;
    told.map_err(|_| Error::Failed("the store does not take a word"))
}

/// Waits until domain 0 tells the guest something.
pub(crate) async fn await_word(bus: Bus<'static>, word: &str) -> Result<()> {
    let told = async {
        while text(bus, "data/devices").await != word {
            bus.sleep(Duration::from_millis(50)).await;
        }
    };
    let told = bus.timeout(PATIENCE, told).await;
    told.map_err(|_| Error::Failed("domain 0 does not do its part"))
}

pub(crate) async fn text(bus: Bus<'static>, path: &str) -> String {
    let value = bus.store().tree().try_read(path).await.ok().flatten();
    value.map_or_else(
        || "none".into(),
        |value| String::from_utf8_lossy(&value).into_owned(),
    )
}

/// Waits until a device comes or goes.
async fn wait_for(
    devices: &mut Discovery<'static, pv_guest::Current>,
    wanted: Change,
) -> Result<()> {
    let bus = devices.bus();
    let come = async {
        loop {
            match devices.next().await {
                Ok(change) if change == wanted => return Ok(()),
                Ok(_) => {}
                Err(_) => return Err(Error::Failed("the store does not tell of devices")),
            }
        }
    };
    match bus.timeout(PATIENCE, come).await {
        Ok(come) => come,
        Err(_) => {
            println!("waited in vain for {wanted:?}");
            Err(Error::Failed("a device did not come or go"))
        }
    }
}

/// Devices that are closed or dropped can be taken away.
async fn close(bus: Bus<'static>) -> Result<()> {
    let failed = |_| Error::Failed("the store does not tell of devices");
    let mut disks = bus.discover("vbd").await.map_err(failed)?;
    let mut nics = bus.discover("vif").await.map_err(failed)?;
    let disk = Disk::new(bus, "51712", blkfront::Config::default());
    let dropped = Disk::new(bus, "51728", blkfront::Config::default());
    let nic = Nic::new(bus, "0", netfront::Config::default());
    for ready in [
        disk.ready_within(PATIENCE).await,
        dropped.ready_within(PATIENCE).await,
    ] {
        ready.map_err(|_| Error::Failed("a disk does not come"))?;
    }
    let ready = nic.ready_within(PATIENCE).await;
    ready.map_err(|_| Error::Failed("the interface does not come"))?;
    disk.close().await;
    let state = text(bus, "device/vbd/51712/state").await;
    println!("devices: when close() of the disk returned, its state was {state}");
    nic.close().await;
    let state = text(bus, "device/vif/0/state").await;
    println!("devices: when close() of the interface returned, its state was {state}");
    drop(dropped);
    // The handles of those that were closed are still there.
    tell(bus, "closed").await?;
    for id in ["51712", "51728"] {
        wait_for(&mut disks, Change::Went(id.into())).await?;
    }
    wait_for(&mut nics, Change::Went("0".into())).await?;
    disk.close().await;
    let left = text(bus, "device/vbd/51712/state").await;
    println!("devices: all were taken away; what is left of the disk: {left}");
    println!(
        "devices: {} grants are in quarantine",
        bus.grants().release_quarantine()
    );
    Ok(())
}

/// All that there are, at once.
async fn many(bus: Bus<'static>) -> Result<()> {
    let failed = |_| Error::Failed("the store does not tell of devices");
    let disk_ids = bus.devices("vbd").await.map_err(failed)?;
    let nic_ids = bus.devices("vif").await.map_err(failed)?;
    let disks: Vec<_> = disk_ids
        .iter()
        .map(|id| Disk::new(bus, id.as_str(), blkfront::Config::default()))
        .collect();
    let small = netfront::Config {
        rx_pages: 18,
        ..netfront::Config::default()
    };
    let nics: Vec<_> = nic_ids
        .iter()
        .map(|id| Nic::new(bus, id.as_str(), small))
        .collect();
    let (disks_ready, nics_ready) = join(
        join_all(disks.iter().map(|disk| disk.ready_within(MANY))),
        join_all(nics.iter().map(|nic| nic.ready_within(MANY))),
    )
    .await;
    let mut errors: Vec<String> = Vec::new();
    errors.extend(
        disks_ready
            .iter()
            .filter_map(|it| it.err())
            .map(|it| format!("{it}")),
    );
    errors.extend(
        nics_ready
            .iter()
            .filter_map(|it| it.err())
            .map(|it| format!("{it}")),
    );
    let disks_up = disks_ready.iter().filter(|ready| ready.is_ok()).count();
    let nics_up = nics_ready.iter().filter(|ready| ready.is_ok()).count();
    println!(
        "devices: {disks_up} of {} disks and {nics_up} of {} interfaces are connected",
        disks.len(),
        nics.len()
    );
    let by_quota = |error: &&String| error.contains("quota of nodes");
    let named = errors.iter().filter(by_quota).count();
    println!(
        "devices: {} were refused, and {named} errors name the quota of nodes",
        errors.len()
    );
    for other in errors.iter().filter(|error| !by_quota(error)).take(5) {
        println!("devices: FAILED: {other}");
    }
    let mut sector = [0; 512];
    for (disk, _) in disks
        .iter()
        .zip(&disks_ready)
        .filter(|(_, ready)| ready.is_ok())
    {
        let read = disk.read(Sector(0), &mut sector).await;
        read.map_err(|_| Error::Failed("a disk cannot be read"))?;
    }
    println!("devices: a sector of each disk was read");
    join(
        join_all(disks.iter().map(Disk::close)),
        join_all(nics.iter().map(Nic::close)),
    )
    .await;
    println!("devices: all are closed");
    match errors.len() == named {
        true => Ok(()),
        false => Err(Error::Failed(
            "devices did not come, for another reason than a quota",
        )),
    }
}

/// A backend that cannot use what it is told (the toolstack named another domain).
async fn refused(bus: Bus<'static>) -> Result<()> {
    let failed = |_| Error::Failed("the store refuses a watch");
    let watch = bus
        .store()
        .watch("device/vbd/51712")
        .await
        .map_err(failed)?;
    watch.next().await.map_err(failed)?;
    let disk = Disk::new(bus, "51712", blkfront::Config::default());
    let mut writes = 0;
    let ready = {
        let mut ready = pin!(disk.ready_within(REFUSED));
        loop {
            match select(ready, pin!(watch.next())).await {
                Either::Left((ready, _)) => break ready,
                Either::Right((_, rest)) => {
                    writes += 1;
                    ready = rest;
                }
            }
        }
    };
    match ready {
        Ok(_) => return Err(Error::Failed("it is connected to the wrong domain")),
        Err(error) => println!("devices: {error}"),
    }
    println!("devices: {writes} writes in {} s", REFUSED.as_secs());
    if writes >= REFUSED.as_secs() {
        return Err(Error::Failed("a backend that refuses is asked too often"));
    }
    println!("devices: less than one write a second");
    Ok(())
}

/// The disk and the interface that there are are opened, closed, taken away and given
/// back, again and again.
async fn cycles(bus: Bus<'static>, options: &Options<'_>) -> Result<()> {
    let failed = |_| Error::Failed("the store does not tell of devices");
    let cycles = options.number("cycles").unwrap_or(100);
    let mut disks = bus.discover("vbd").await.map_err(failed)?;
    let mut nics = bus.discover("vif").await.map_err(failed)?;
    let has = |kind| options.number(kind).unwrap_or(0) > 0;
    let ports = nics::free_ports(bus).await.len();
    for cycle in 1..=cycles {
        let disk = async {
            match has("disks") {
                true => disk_cycle(bus, &mut disks).await,
                false => Ok(()),
            }
        };
        let nic = async {
            match has("nics") {
                true => nic_cycle(bus, &mut nics).await,
                false => Ok(()),
            }
        };
        // Both at a time.
        let (disk, nic) = join(disk, nic).await;
        if disk.and(nic).is_err() {
            println!("devices: FAILED in cycle {cycle}");
            return disk.and(nic);
        }
        tell(bus, &format!("{cycle}")).await?;
        if has("disks") {
            wait_for(&mut disks, Change::Went(DISK.into())).await?;
        }
        if has("nics") {
            wait_for(&mut nics, Change::Went(NIC.into())).await?;
        }
    }
    println!("devices: {cycles} times opened, closed, taken away and given back");
    let quarantined = bus.grants().release_quarantine();
    let used = bus.grants().references() - bus.grants().free_references();
    println!("devices: {used} grants are in use, {quarantined} in quarantine");
    let lost = ports.saturating_sub(nics::free_ports(bus).await.len());
    println!("devices: of {ports} ports, {lost} are lost");
    tell(bus, "done").await?;
    // What domain 0 counts is of a guest that is still there.
    await_word(bus, "counted").await
}

/// A disk comes, is used and closed.
async fn disk_cycle(
    bus: Bus<'static>,
    disks: &mut Discovery<'static, pv_guest::Current>,
) -> Result<()> {
    wait_for(disks, Change::Came(DISK.into())).await?;
    let disk = Disk::new(bus, DISK, blkfront::Config::default());
    let ready = disk.ready_within(PATIENCE).await;
    if let Err(error) = ready {
        println!("devices: FAILED: {error}");
        return Err(Error::Failed("a disk does not come"));
    }
    let read = disk.read(Sector(0), &mut [0; 512]).await;
    read.map_err(|_| Error::Failed("a disk cannot be read"))?;
    disk.close().await;
    Ok(())
}

/// An interface comes, is used and closed.
async fn nic_cycle(
    bus: Bus<'static>,
    nics: &mut Discovery<'static, pv_guest::Current>,
) -> Result<()> {
    wait_for(nics, Change::Came(NIC.into())).await?;
    let config = netfront::Config {
        queues: 2,
        multicast: netfront::Multicast::Joined,
        steering: Some(nics::STEERING),
        ..netfront::Config::default()
    };
    let nic = Nic::new(bus, NIC, config);
    let interface = nics::ready(&nic).await?;
    round_trip(&nic, interface.mac).await?;
    nic.close().await;
    Ok(())
}
