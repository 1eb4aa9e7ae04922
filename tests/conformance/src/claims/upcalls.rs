//! Upcalls are held back for as long as somebody relies on that: `pv_guest::sync`
//! and its `critical-section`.

use alloc::{sync::Arc, task::Wake};
use core::{
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Waker},
};

use event_channels::Channel;
use hypercall_abi::{
    VcpuId,
    platform::{Clock, Park},
};
use pv_guest::{Current, Guest, executor, sync::UpcallMutex};

use crate::claim::{Group, Stop, Verdict, claims, ensure, on_xen, same};

pub(super) const GROUP: Group = Group {
    name: "upcalls",
    claims: claims! {
        on_xen(guards_end_in_any_order): "sync.rs: UpcallMutex",
        on_xen(a_lock_of_before_opens_no_critical_section): "sync.rs: UpcallMutex",
        on_xen(a_critical_section_in_a_lock_opens_nothing): "sync.rs: UpcallMutex",
        on_xen(critical_sections_nest): "critical-section: with",
        on_xen(nobody_sleeps_within_a_critical_section): "platform.rs: Park::idle",
        on_xen(a_task_does_not_sleep_within_a_lock): "platform.rs: Park::idle",
    },
};

/// A port that rings when it is told to, and is listened to.
fn bell(guest: &Guest) -> Result<Channel<'static, Current>, Stop> {
    let bell = Channel::ipi(guest.ports()?, VcpuId(0)).map_err(|_| "no port")?;
    bell.unmask().map_err(|_| "a port cannot be unmasked")?;
    Ok(bell)
}

fn ring(bell: &Channel<'_, Current>) -> Verdict {
    bell.notify().map_err(|_| "it cannot be sent on".into())
}

/// Counts, by a lock that the kernel uses, too.
struct Counts;

static COUNT: UpcallMutex<u32> = UpcallMutex::new(0);
static BLOCKED: AtomicU32 = AtomicU32::new(0);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        match COUNT.try_lock() {
            Some(mut count) => *count += 1,
            // Whoever waited here would do so for ever.
            None => {
                BLOCKED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The first taken is the first dropped.
fn guards_end_in_any_order(guest: &Guest) -> Verdict {
    static OTHER: UpcallMutex<()> = UpcallMutex::new(());
    let bell = bell(guest)?;
    let waker = Waker::from(Arc::new(Counts));
    let _new = bell.poll_wait(&mut Context::from_waker(&waker));
    *COUNT.lock() = 0;
    BLOCKED.store(0, Ordering::Relaxed);
    let first = OTHER.lock();
    let second = COUNT.lock();
    ring(&bell)?;
    drop(first);
    let (events, blocked) = (bell.events(), BLOCKED.load(Ordering::Relaxed));
    drop(second);
    same((events, blocked), (0, 0))?;
    same((bell.events(), *COUNT.lock()), (1, 1))?;
    same(BLOCKED.load(Ordering::Relaxed), 0)
}

/// Which was taken outside, and is dropped inside.
fn a_lock_of_before_opens_no_critical_section(guest: &Guest) -> Verdict {
    let bell = bell(guest)?;
    let lock = UpcallMutex::new(());
    let guard = lock.lock();
    let within = critical_section::with(|_| {
        drop(guard);
        ring(&bell)?;
        drop(lock.lock());
        Ok::<_, Stop>(bell.events())
    })?;
    same((within, bell.events()), (0, 1))
}

fn a_critical_section_in_a_lock_opens_nothing(guest: &Guest) -> Verdict {
    let bell = bell(guest)?;
    let lock = UpcallMutex::new(());
    let guard = lock.lock();
    critical_section::with(|_| ring(&bell))?;
    let held = bell.events();
    drop(guard);
    same((held, bell.events()), (0, 1))
}

fn critical_sections_nest(guest: &Guest) -> Verdict {
    let bell = bell(guest)?;
    let within = critical_section::with(|_| {
        critical_section::with(|_| ring(&bell))?;
        Ok::<_, Stop>(bell.events())
    })?;
    same((within, bell.events()), (0, 1))
}

/// An event is there, and the sleep ends by its time, or before.
fn sleeps_without_upcalls(guest: &Guest, bell: &Channel<'_, Current>) -> Verdict {
    const NAP_NS: u64 = 2_000_000;
    ring(bell)?;
    let platform = guest.platform();
    for _ in 0..3 {
        platform.idle(Some(platform.now_ns() + NAP_NS), &|| false);
    }
    platform.idle(None, &|| true);
    ensure(bell.events() == 0, "an upcall came in the sleep")
}

fn nobody_sleeps_within_a_critical_section(guest: &Guest) -> Verdict {
    let bell = bell(guest)?;
    critical_section::with(|_| sleeps_without_upcalls(guest, &bell))?;
    same(bell.events(), 1)
}

fn a_task_does_not_sleep_within_a_lock(guest: &Guest) -> Verdict {
    let bell = bell(guest)?;
    let lock = UpcallMutex::new(());
    let guard = lock.lock();
    sleeps_without_upcalls(guest, &bell)?;
    executor::block_on(async {});
    let held = bell.events();
    drop(guard);
    same((held, bell.events()), (0, 1))
}
