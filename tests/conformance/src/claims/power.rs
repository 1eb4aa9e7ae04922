//! The end, and what looks like it: watchdogs, reasons, suspends.

use alloc::{format, string::ToString as _, vec::Vec};
use core::time::Duration;

use event_channels::{Channel, Wait};
use grant_tables::{CopyFrom, Page, PeerWrites};
use hypercall_abi::{
    Errno, Mfn, VcpuId,
    event_channel::{self, ChannelStatus},
    grant_table::GrantStatus,
    platform::{Clock, Pages},
    sched::{self, Suspended},
};
use pv_guest::{Guest, executor::block_on, time};

use crate::claim::{Group, Stop, Verdict, WAIT_NS, claims, ensure, on_xen, refused, same};

pub(super) const GROUP: Group = Group {
    name: "power",
    claims: claims! {
        on_xen(there_are_two_watchdogs): "sched.h: SCHEDOP_watchdog",
        on_xen(a_watchdog_that_is_fed_does_not_bite): "sched.h: SCHEDOP_watchdog",
        on_xen(a_watchdog_is_stopped_once): "sched.h: SCHEDOP_watchdog",
        on_xen(a_suspend_can_be_cancelled): "sched.h: SCHEDOP_shutdown, SHUTDOWN_suspend",
        on_xen(ports_outlive_a_cancelled_suspend): "sched.h: SHUTDOWN_suspend",
        on_xen(a_pending_event_outlives_a_cancelled_suspend): "sched.h: SHUTDOWN_suspend",
        on_xen(grants_and_the_store_outlive_a_cancelled_suspend): "sched.h: SHUTDOWN_suspend",
        on_xen(time_passes_in_a_cancelled_suspend): "xen.h: vcpu_time_info",
    },
};

/// Its slots; each is given out until it is stopped.
fn there_are_two_watchdogs(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let first = sched::watchdog(platform, 0, 600)?;
    let second = sched::watchdog(platform, 0, 600)?;
    let third = sched::watchdog(platform, 0, 600);
    sched::watchdog(platform, first, 0)?;
    sched::watchdog(platform, second, 0)?;
    ensure(first != second && first != 0 && second != 0, "they are one")?;
    refused(third, Errno::ENOSPC)
}

fn a_watchdog_that_is_fed_does_not_bite(guest: &Guest) -> Verdict {
    // On a busy machine, a sleep may be long.
    const SECONDS: u32 = 2;
    let platform = guest.platform();
    let start = platform.now_ns();
    let id = sched::watchdog(platform, 0, SECONDS)?;
    while platform.now_ns() < start + 2_500_000_000 {
        block_on(time::sleep(Duration::from_millis(300)));
        sched::watchdog(platform, id, SECONDS)?;
    }
    sched::watchdog(platform, id, 0)?;
    Ok(())
}

fn a_watchdog_is_stopped_once(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let id = sched::watchdog(platform, 0, 600)?;
    sched::watchdog(platform, id, 0)?;
    refused(sched::watchdog(platform, id, 0), Errno::EINVAL)?;
    refused(sched::watchdog(platform, 3, 600), Errno::EINVAL)
}

/// The longest that the toolstack may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn read(guest: &Guest, path: &str) -> Result<Vec<u8>, Stop> {
    let store = guest.store()?;
    told(store.wait(Some(PATIENCE), store.tree().read(path)))
}

fn write(guest: &Guest, path: &str, value: &str) -> Verdict {
    let store = guest.store()?;
    told(store.wait(Some(PATIENCE), store.tree().write(path, value)))
}

/// Waits until a node has a value.
fn until(guest: &Guest, path: &str, wanted: &str) -> Verdict {
    let platform = guest.platform();
    let end = platform.now_ns() + PATIENCE.as_nanos() as u64;
    while platform.now_ns() < end {
        if read(guest, path)? == wanted.as_bytes() {
            return Ok(());
        }
        block_on(time::sleep(Duration::from_millis(5)));
    }
    Err(format!("{path} does not become {wanted}").into())
}

/// Has the toolstack suspend this guest, and go on with it as it was.
pub(crate) fn suspend(guest: &Guest) -> Result<Suspended, Stop> {
    let store = guest.store()?;
    let listens = store.wait(Some(PATIENCE), store.tree().exists("data/please"));
    if !told(listens)? {
        return Err(Stop::Skipped(
            "no toolstack listens: --with toolstack".into(),
        ));
    }
    write(guest, "data/please", "suspend")?;
    let platform = guest.platform();
    let end = platform.now_ns() + PATIENCE.as_nanos() as u64;
    while read(guest, "control/shutdown")? != b"suspend" {
        if read(guest, "data/please")? == b"cannot" {
            return Err(Stop::Skipped("this Xen's xl cannot".into()));
        }
        ensure(platform.now_ns() < end, "nobody asks it to")?;
        block_on(time::sleep(Duration::from_millis(5)));
    }
    // It was heard.
    write(guest, "control/shutdown", "")?;
    let start = guest.boot_info().start_info.and_then(|place| {
        let page = core::ptr::NonNull::new(core::ptr::with_exposed_provenance_mut(place.0))?;
        platform.gfn_of(page)
    });
    // SAFETY: that of the start information, of which there are only copies; this
    // guest's toolstack does not move it.
    let suspended = unsafe { sched::suspend(platform, start.map(|gfn| Mfn(gfn.0))) }?;
    until(guest, "data/please", "done")?;
    Ok(suspended)
}

fn told<T>(answer: Result<T, xenstore_client::Error>) -> Result<T, Stop> {
    answer.map_err(|error| Stop::Failed(error.to_string().into()))
}

fn a_suspend_can_be_cancelled(guest: &Guest) -> Verdict {
    same(suspend(guest)?, Suspended::Cancelled)
}

fn ports_outlive_a_cancelled_suspend(guest: &Guest) -> Verdict {
    let ports = guest.ports()?;
    let bell = Channel::ipi(ports, VcpuId(0)).map_err(|_| "no port for this vCPU")?;
    suspend(guest)?;
    let deadline = guest.platform().now_ns() + WAIT_NS;
    bell.notify().map_err(|_| "it cannot be sent on")?;
    ensure(
        bell.wait_blocking(Some(deadline)) == Wait::Event,
        "an event is lost",
    )?;
    let told = event_channel::status(guest.platform(), bell.port())?;
    same(told.status, ChannelStatus::IPI)
}

/// One that is masked, and nobody took.
fn a_pending_event_outlives_a_cancelled_suspend(guest: &Guest) -> Verdict {
    let ports = guest.ports()?;
    let bell = Channel::ipi(ports, VcpuId(0)).map_err(|_| "no port for this vCPU")?;
    bell.mask();
    bell.notify().map_err(|_| "it cannot be sent on")?;
    suspend(guest)?;
    ensure(bell.is_pending(), "it is lost")?;
    ensure(bell.events() == 0, "it was not masked any more")?;
    bell.unmask().map_err(|_| "a port cannot be unmasked")?;
    same(bell.events(), 1)
}

/// Watches too.
fn grants_and_the_store_outlive_a_cancelled_suspend(guest: &Guest) -> Verdict {
    let store = guest.store()?;
    let table = guest.grants()?;
    let page = Page::new(table).map_err(|_| "no memory")?;
    let domid = guest.domid()?;
    let lent = table
        .share::<PeerWrites>(domid, page)
        .map_err(|_| "no grant")?;
    let path = "data/conformance-suspend";
    let watch = told(store.wait(Some(PATIENCE), async {
        store.tree().write(path, "before").await?;
        let watch = store.watch(path).await?;
        watch.next().await?;
        Ok(watch)
    }))?;
    suspend(guest)?;
    told(store.wait(Some(PATIENCE), async {
        store.tree().write(path, "after").await?;
        watch.next().await?;
        store.tree().remove(path).await
    }))?;
    let word = 0x1234_5678_u32.to_le_bytes();
    same(lent.peer().copy_from(&word), word.len())?;
    let mut target = [0; 4];
    let mut list = [CopyFrom {
        peer: domid,
        gref: lent.gref(),
        offset: 0,
        target: &mut target,
        status: GrantStatus::GENERAL_ERROR,
    }];
    match table.copy_from(&mut list) {
        Ok(()) => same(target, word),
        Err(grant_tables::Error::NotMemory) => Ok(()),
        Err(_) => Err("no copy".into()),
    }
}

/// And goes on; it does not go back.
fn time_passes_in_a_cancelled_suspend(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let before = platform.now_ns();
    suspend(guest)?;
    let after = platform.now_ns();
    ensure(after > before, "it went back, or stood")?;
    block_on(time::sleep(Duration::from_millis(2)));
    ensure(
        platform.now_ns() >= after + 2_000_000,
        "a sleep was too short",
    )
}
