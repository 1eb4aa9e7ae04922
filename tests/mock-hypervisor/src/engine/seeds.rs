//! Tests that try many seeds.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The variable that has [`seeds`] try one seed only.
pub const SEED_VARIABLE: &str = "MOCK_SEED";

/// The environment variable that says how many seeds a test tries.
pub const SEED_COUNT_VARIABLE: &str = "MOCK_SEEDS";

/// How many seeds a test tries that takes `usual` of them: so many, or the number in
/// `MOCK_SEEDS`. The bounds that a test sets for its results are parts of it.
///
/// # Panics
/// `MOCK_SEEDS` is no number.
pub fn seed_count(usual: u64) -> u64 {
    std::env::var(SEED_COUNT_VARIABLE).map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{SEED_COUNT_VARIABLE} is no number"))
    })
}

/// Tries a test with the seeds from 0 on, on all processors, and says which one
/// failed, and how to try that one again: with `MOCK_SEED`.
///
/// # Panics
/// If the test does, with the least of the seeds that were seen to fail.
pub fn seeds(count: u64, test: impl Fn(u64) + Sync) {
    let (first, end) = match std::env::var(SEED_VARIABLE).map(|text| text.parse::<u64>()) {
        Ok(Ok(seed)) => (seed, seed.saturating_add(1)),
        Ok(Err(_)) => panic!("{SEED_VARIABLE} is no number"),
        Err(_) => (0, count),
    };
    let next = AtomicU64::new(first);
    let failed = Mutex::new(None::<(u64, Box<dyn Any + Send>)>);
    let failed_at = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed_at().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
                        let mut failed = failed_at();
                        if failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                            *failed = Some((seed, panic));
                        }
                    }
                }
            });
        }
    });
    let failed = failed_at().take();
    if let Some((seed, panic)) = failed {
        eprintln!("seed {seed} failed; to try it alone: {SEED_VARIABLE}={seed} cargo test ...");
        resume_unwind(panic);
    }
}
