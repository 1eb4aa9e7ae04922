//! A disk's frontend, with a backend that does what it must not do, between the
//! steps of an honest one, a toolstack that takes disks away, and callers who do not
//! wait for what they asked.

use std::{future::Future, pin::Pin};

use arbitrary::Arbitrary;
use mock_hypervisor::{Config, DiskConfig, Domain, Mischief, Time, Xen};
use pv_guest::blkfront::{self, Discard, Disk, Sector};

use crate::guest::{MAX_WAITING, Waiting, go, text, with_bus};

/// What happens.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// The guest reads so many sectors.
    Read(u16, u16),
    /// The guest writes so many.
    Write(u16, u16),
    /// The guest flushes.
    Flush,
    /// The guest forgets sectors.
    Discard(u16, u16),
    /// The guest wants a new connection.
    Reconnect,
    /// Upcalls come, and all that goes on goes on.
    Go,
    /// One of those who wait does so no longer.
    Drop(u8),
    /// The backend answers this request.
    Answer(u64),
    /// The backend answers a request of this number and generation.
    AnswerOne(u8, u8),
    /// The backend answers its last request again.
    Again,
    /// The backend writes an index.
    Index(u32),
    /// The backend writes a state.
    State(u8),
    /// The backend offers one of these.
    Offers(u8),
    /// The disk's size is one of these.
    Sectors(u8),
    /// The backend keeps a page.
    Hoard,
    /// The backend's directory is gone.
    Vanish,
    /// The backend is replaced.
    Restart,
    /// The disk is to be taken away.
    Detach,
    /// The disk has another size.
    Resize(u16),
    /// Requests fail.
    Fail(u8),
    /// The store forgets the guest.
    StoreRestart,
}

/// The most sectors of a request.
const MAX_SECTORS: u16 = 700;
/// Does these steps.
///
/// # Panics
/// Grants of the guest's are used when all is over.
pub fn run(steps: &[Step]) {
    let xen = Xen::new(Time::Virtual);
    let config = Config {
        memory_mib: 8,
        ..Config::default()
    };
    let Ok(domain) = xen.domain(config) else {
        return;
    };
    let domain: &Domain = &domain;
    let mut id = xen.attach_disk(domain.domid(), DiskConfig::default());
    let wanted = blkfront::Config {
        queues: 2,
        ring_page_order: 1,
        segments: 64,
        max_pages: 128,
        ..blkfront::Config::default()
    };
    let mut kept = 0;
    with_bus(domain, |bus, ports| {
        let disk = Disk::new(bus, "51712", wanted);
        let mut waiting: Waiting<'_> = Vec::new();
        for step in steps {
            let asked: Option<Pin<Box<dyn Future<Output = ()> + '_>>> = match *step {
                Step::Read(first, sectors) => Some(Box::pin(read(&disk, first, sectors))),
                Step::Write(first, sectors) => Some(Box::pin(write(&disk, first, sectors))),
                Step::Flush => Some(Box::pin(async {
                    let _any = disk.flush().await;
                })),
                Step::Discard(first, sectors) => Some(Box::pin(discard(&disk, first, sectors))),
                Step::Reconnect => Some(Box::pin(async {
                    let _any = disk.reconnect().await;
                })),
                _ => None,
            };
            if waiting.len() < MAX_WAITING {
                waiting.extend(asked);
            }
            match *step {
                Step::Go => go(ports, &mut waiting),
                Step::Drop(which) if !waiting.is_empty() => {
                    drop(waiting.swap_remove(usize::from(which) % waiting.len()));
                }
                Step::Detach => {
                    kept += xen.remove_disk(id);
                    id = xen.attach_disk(domain.domid(), DiskConfig::default());
                }
                Step::Restart => xen.restart_disk(id),
                Step::Resize(sectors) => xen.resize_disk(id, sectors.into()),
                Step::Fail(requests) => xen.fail_disk(id, requests.into()),
                Step::StoreRestart => xen.store_restart(domain.domid()),
                _ => {}
            }
            if let Some(mischief) = mischief(step) {
                xen.disk_mischief(id, mischief);
            }
        }
        go(ports, &mut waiting);
    });
    kept += xen.remove_disk(id);
    // Those that are kept may be kept twice.
    assert!(domain.grants_in_use() <= kept, "grants are left over");
}

async fn read(disk: &Disk<'_, &Domain>, first: u16, sectors: u16) {
    let mut bytes = vec![0; usize::from(sectors % MAX_SECTORS) * 512];
    let _any = disk.read(Sector(first.into()), &mut bytes).await;
}

async fn write(disk: &Disk<'_, &Domain>, first: u16, sectors: u16) {
    let bytes = vec![7; usize::from(sectors % MAX_SECTORS) * 512];
    let _any = disk.write(Sector(first.into()), &bytes).await;
}

async fn discard(disk: &Disk<'_, &Domain>, first: u16, sectors: u16) {
    let (first, sectors) = (Sector(first.into()), sectors.into());
    let _any = disk.discard(first, sectors, Discard::Plain).await;
}

fn mischief(step: &Step) -> Option<Mischief> {
    Some(match *step {
        Step::Answer(id) => Mischief::Answer(id),
        Step::AnswerOne(index, generation) => {
            Mischief::Answer(u64::from(generation) << 32 | u64::from(index))
        }
        Step::Again => Mischief::AnswerAgain,
        Step::Index(index) => Mischief::Index(index),
        Step::State(state) => Mischief::State(state.into()),
        Step::Offers(which) => Mischief::Offers(text(which)),
        Step::Sectors(which) => Mischief::Sectors(text(which)),
        Step::Hoard => Mischief::Hoard,
        Step::Vanish => Mischief::Vanish,
        _ => return None,
    })
}
