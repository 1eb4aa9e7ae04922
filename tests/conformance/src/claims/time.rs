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
use alloc::{rc::Rc, vec::Vec};

use super::{Claim, ensure, steps};
use crate::Verdict;

pub(super) const ALL: &[Claim] = &[
    ("sleeps_end_in_their_order", sleeps_end_in_their_order),
    ("a_timeout_comes_in_time", a_timeout_comes_in_time),
    (
        "a_sleep_that_was_dropped_is_gone",
        a_sleep_that_was_dropped_is_gone,
    ),
    ("thousands_sleep_at_once", thousands_sleep_at_once),
];

const MS: Duration = Duration::from_millis(1);

fn sleeps_end_in_their_order(_: &Guest) -> Verdict {
    steps(|| {
        let start = time::now_ns();
        let order = Rc::new(RefCell::new(Vec::new()));
        let executor = Executor::new();
        for ms in [9_u32, 3, 6, 0] {
            let order = Rc::clone(&order);
            executor.spawn(async move {
                time::sleep(MS * ms).await;
                order.borrow_mut().push(ms);
            });
        }
        executor.run();
        ensure(*order.borrow() == [0, 3, 6, 9], "another order")?;
        let took = time::now_ns() - start;
        ensure(took >= 9_000_000, "too short")?;
        ensure(took < 500_000_000, "half a second instead of 9 ms")
    })
}

fn a_timeout_comes_in_time(_: &Guest) -> Verdict {
    steps(|| {
        block_on(async {
            let start = time::now_ns();
            let never = core::future::pending::<()>();
            let ended = time::timeout(MS * 5, never).await;
            ensure(ended == Err(time::TimedOut), "it was not told")?;
            ensure(time::now_ns() - start >= 5_000_000, "too early")?;
            let ended = time::timeout(MS * 5, async { 7 }).await;
            ensure(ended == Ok(7), "what is ready was not taken")
        })
    })
}

fn a_sleep_that_was_dropped_is_gone(_: &Guest) -> Verdict {
    steps(|| {
        block_on(async {
            let before = time::waiting();
            let short = time::timeout(MS, time::sleep(Duration::from_secs(3600))).await;
            ensure(short.is_err(), "an hour passed")?;
            ensure(time::waiting() == before, "it is still in the queue")
        })
    })
}

/// Each wakes once, none early.
fn thousands_sleep_at_once(_: &Guest) -> Verdict {
    const TASKS: u64 = 1000;
    steps(|| {
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
    })
}
