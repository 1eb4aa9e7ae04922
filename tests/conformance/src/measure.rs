//! Figures about time: `measure` on the command line. With somebody at
//! `data/echo` (`cargo lab run --with store`), also against domain 0's clock.

extern crate alloc;

use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::{cell::RefCell, time::Duration};

use pv_guest::{
    Error, Guest, Store,
    executor::{Executor, block_on},
    println, time,
};
use xenstore_client::machine::Repeats;

/// How long the clocks are compared.
const SPAN: Duration = Duration::from_secs(60);
/// Questions each time: the one that was answered quickest counts.
const QUESTIONS: u32 = 30;
const SLEEPS: u32 = 1000;
const TIMERS: u64 = 10_000;

/// The other clock's lead over ours, and how far off that may be.
struct Lead {
    ns: i128,
    error_ns: u64,
}

pub(crate) fn run(guest: &Guest) -> Result<(), Error> {
    let store = guest.store().ok();
    let before = store.and_then(lead);
    let (samples, steps_back) = watch_clock();
    let after = store.and_then(lead);
    println!(
        "clock: {samples} readings in {} s, {steps_back} backward steps",
        SPAN.as_secs()
    );
    match (before, after) {
        (Some(before), Some(after)) => {
            let drift_ns = after.ns - before.ns;
            println!(
                "clock: {} us against domain 0's in {} s, to within {} us",
                drift_ns / 1000,
                SPAN.as_secs(),
                (before.error_ns + after.error_ns) / 1000
            );
        }
        _ => println!("clock: nobody to compare it with"),
    }
    sleeps();
    timers();
    if steps_back > 0 {
        return Err(Error::Failed("the clock went back"));
    }
    Ok(())
}

/// Reads the clock all the time.
fn watch_clock() -> (u64, u64) {
    let end = time::deadline_ns(SPAN);
    let (mut samples, mut steps_back, mut last) = (0, 0, time::now_ns());
    while last < end {
        let now = time::now_ns();
        samples += 1;
        steps_back += u64::from(now < last);
        last = now;
    }
    (samples, steps_back)
}

fn lead(store: &Store) -> Option<Lead> {
    block_on(async {
        let tree = store.tree();
        if !tree.exists("data/echo").await.ok()? {
            return None;
        }
        let watch = store.watch_with("data/echo/answer", None, Repeats::Merge);
        let watch = watch.await.ok()?;
        let mut best: Option<Lead> = None;
        for question in 0..QUESTIONS {
            let asked = time::wall_clock_ns()?;
            let text = format!("time {asked} {question}");
            tree.write("data/echo/ask", &text).await.ok()?;
            let theirs = loop {
                watch.next().await.ok()?;
                let answer: String = tree.read_text("data/echo/answer").await.unwrap_or_default();
                let theirs = answer.strip_prefix(&text).map(str::trim);
                if let Some(ns) = theirs.and_then(|ns| ns.parse::<i128>().ok()) {
                    break ns;
                }
            };
            let answered = time::wall_clock_ns()?;
            let error_ns = answered.saturating_sub(asked) / 2;
            if best.as_ref().is_none_or(|best| error_ns < best.error_ns) {
                let ns = theirs - i128::from(asked) - i128::from(error_ns);
                best = Some(Lead { ns, error_ns });
            }
        }
        best
    })
}

fn distribution(what: &str, mut late_ns: Vec<u64>) {
    late_ns.sort_unstable();
    let at = |per_cent: usize| {
        let index = (late_ns.len().saturating_sub(1)) * per_cent / 100;
        late_ns.get(index).copied().unwrap_or(0) / 1000
    };
    println!(
        "{what}: late by {} us at least, {} us (half), {} us (90 %), {} us (99 %), {} us at most",
        at(0),
        at(50),
        at(90),
        at(99),
        at(100)
    );
}

fn sleeps() {
    let mut late_ns = Vec::new();
    block_on(async {
        for index in 0..SLEEPS {
            let at_ns = time::now_ns() + 100_000 + u64::from(index % 10) * 300_000;
            time::sleep_until(at_ns).await;
            late_ns.push(time::now_ns().saturating_sub(at_ns));
        }
    });
    distribution(&format!("{SLEEPS} sleeps of 0.1 to 2.8 ms"), late_ns);
}

fn timers() {
    let executor = Executor::new();
    let late_ns = Rc::new(RefCell::new(Vec::new()));
    // All are there before the first is due.
    let start = time::deadline_ns(Duration::from_secs(2));
    for index in 0..TIMERS {
        let at_ns = start + (index * 7919 % TIMERS) * 100_000;
        let late_ns = Rc::clone(&late_ns);
        executor.spawn(async move {
            time::sleep_until(at_ns).await;
            late_ns
                .borrow_mut()
                .push(time::now_ns().saturating_sub(at_ns));
        });
    }
    executor.run();
    let late_ns = late_ns.take();
    println!("{} of {TIMERS} timers ended", late_ns.len());
    distribution(
        &format!("{TIMERS} timers at once, one each 0.1 ms"),
        late_ns,
    );
}
