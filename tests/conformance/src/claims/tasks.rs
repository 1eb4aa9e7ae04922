//! Time: `xen.h` (`vcpu_time_info`), `vcpu.h` (timers), and what is made of them.

use core::{
    cell::{Cell, RefCell},
    time::Duration,
};

use pv_guest::{
    Guest,
    executor::{Executor, block_on},
    time,
};

extern crate alloc;
use alloc::{boxed::Box, rc::Rc, vec::Vec};

use crate::claim::{Group, Verdict, claims, ensure, everywhere};

pub(super) const GROUP: Group = Group {
    name: "tasks",
    claims: claims! {
        everywhere(sleeps_end_in_their_order): "docs/DESIGN.md: time and tasks",
        everywhere(a_timeout_comes_in_time): "docs/DESIGN.md: time and tasks",
        everywhere(a_sleep_that_was_dropped_is_gone): "docs/DESIGN.md: time and tasks",
        everywhere(thousands_sleep_at_once): "docs/DESIGN.md: time and tasks",
        everywhere(embassy_runs_on_the_same_parking): "docs/DESIGN.md: time and tasks",
    },
};

/// Embassy's executor and its time, on the same parking.
mod embassy {
    use core::sync::atomic::{AtomicU32, Ordering};

    use embassy_executor::task;
    use embassy_time::{Duration, Timer};
    use pv_guest::adapt::embassy::Executor;

    pub(super) static TICKS: AtomicU32 = AtomicU32::new(0);

    #[task]
    pub(super) async fn ticks() {
        loop {
            Timer::after(Duration::from_millis(1)).await;
            TICKS.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends when there were enough ticks, or after ten seconds: a machine that does something
    /// else for long has few of them in any time.
    #[task]
    pub(super) async fn end(executor: &'static Executor) {
        for _ in 0..100 {
            Timer::after(Duration::from_millis(100)).await;
            if TICKS.load(Ordering::Relaxed) >= 10 {
                break;
            }
        }
        executor.stop();
    }
}

fn embassy_runs_on_the_same_parking(_: &Guest) -> Verdict {
    use core::sync::atomic::Ordering;
    use pv_guest::adapt::embassy::Executor;
    let executor: &'static Executor = Box::leak(Box::default());
    let start = time::now_ns();
    executor.run(|spawner| {
        if let (Ok(ticks), Ok(end)) = (embassy::ticks(), embassy::end(executor)) {
            spawner.spawn(ticks);
            spawner.spawn(end);
        }
    });
    let took_ns = time::now_ns() - start;
    ensure(took_ns >= 100_000_000, "it ended too early")?;
    let ticks = u64::from(embassy::TICKS.load(Ordering::Relaxed));
    // One a millisecond; on a busy machine, each may be late.
    ensure(ticks >= 10, "few ticks")?;
    ensure(ticks <= took_ns / 1_000_000, "too many ticks")
}

const MS: Duration = Duration::from_millis(1);

fn sleeps_end_in_their_order(_: &Guest) -> Verdict {
    // All sleep before the first is due.
    let start = time::now_ns() + 100_000_000;
    let order = Rc::new(RefCell::new(Vec::new()));
    let executor = Executor::new();
    for ms in [9_u64, 3, 6, 0] {
        let order = Rc::clone(&order);
        executor.spawn(async move {
            time::sleep_until(start + ms * 1_000_000).await;
            order.borrow_mut().push(ms);
        });
    }
    executor.run();
    ensure(*order.borrow() == [0, 3, 6, 9], "another order")?;
    let end = time::now_ns();
    ensure(end >= start + 9_000_000, "too short")?;
    ensure(end < start + 1_000_000_000, "a second instead of 9 ms")
}

fn a_timeout_comes_in_time(_: &Guest) -> Verdict {
    block_on(async {
        let start = time::now_ns();
        let never = core::future::pending::<()>();
        let ended = time::timeout(MS * 5, never).await;
        ensure(ended == Err(time::TimedOut), "it was not told")?;
        ensure(time::now_ns() - start >= 5_000_000, "too early")?;
        let ended = time::timeout(MS * 5, async { 7 }).await;
        ensure(ended == Ok(7), "what is ready was not taken")
    })
}

fn a_sleep_that_was_dropped_is_gone(_: &Guest) -> Verdict {
    block_on(async {
        let before = time::waiting();
        let short = time::timeout(MS, time::sleep(Duration::from_secs(3600))).await;
        ensure(short.is_err(), "an hour passed")?;
        ensure(time::waiting() == before, "it is still in the queue")
    })
}

/// Each wakes once, none early.
fn thousands_sleep_at_once(_: &Guest) -> Verdict {
    const TASKS: u64 = 1000;
    let executor = Executor::new();
    let ended = Rc::new(Cell::new(0));
    let early = Rc::new(Cell::new(0));
    let start = time::now_ns() + 1_000_000;
    for index in 0..TASKS {
        // Times that are neither sorted nor all different.
        let at_ns = start + (index * 7919 % 500) * 10_000;
        let (ended, early) = (Rc::clone(&ended), Rc::clone(&early));
        executor.spawn(async move {
            time::sleep_until(at_ns).await;
            ended.set(ended.get() + 1);
            early.set(early.get() + u64::from(time::now_ns() < at_ns));
        });
    }
    executor.run();
    ensure(ended.get() == TASKS, "some did not wake")?;
    ensure(early.get() == 0, "some woke early")
}
