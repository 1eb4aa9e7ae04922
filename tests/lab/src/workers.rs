//! Work for both processors: what is done on one platform is done in its order, and on two at
//! a time.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    thread,
};

/// At a time: a machine of two processors runs two emulated ones.
const WORKERS: usize = 2;

/// What the names of workers' threads begin with.
const NAME: &str = "worker-";

/// The worker that this thread is: what it writes, no other writes meanwhile.
pub(crate) fn current() -> String {
    let thread = thread::current();
    let name = thread.name().filter(|name| name.starts_with(NAME));
    name.unwrap_or_default().to_owned()
}

/// What is left to do, and where something is done just now.
struct State<P> {
    /// By their places in the list.
    rest: Vec<usize>,
    busy: Vec<P>,
}

/// A place is busy as long as this is there: also if what is done there panics, for nobody is
/// to wait for it then.
struct Busy<'a, P: Copy + PartialEq> {
    state: &'a Mutex<State<P>>,
    ended: &'a Condvar,
    place: P,
}

impl<P: Copy + PartialEq> Drop for Busy<'_, P> {
    fn drop(&mut self) {
        let mut now = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        now.busy.retain(|busy| *busy != self.place);
        self.ended.notify_all();
    }
}

/// Does all `jobs`, each of which belongs to a place. The results are in the jobs' order.
pub(crate) fn do_all<J: Sync, P: Copy + PartialEq + Send, R: Send>(
    jobs: &[J],
    place: impl Fn(&J) -> P + Sync,
    act: impl Fn(&J) -> R + Sync,
) -> Vec<R> {
    let state = Mutex::new(State {
        rest: (0..jobs.len()).collect(),
        busy: Vec::new(),
    });
    let ended = Condvar::new();
    let results = Mutex::new(Vec::new());
    let work = || {
        let mut now = state.lock().unwrap_or_else(PoisonError::into_inner);
        while !now.rest.is_empty() {
            let is_free = |at: &usize| {
                jobs.get(*at)
                    .is_some_and(|job| !now.busy.contains(&place(job)))
            };
            let Some(next) = now.rest.iter().position(is_free) else {
                now = ended.wait(now).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let at = now.rest.remove(next);
            let Some(job) = jobs.get(at) else {
                continue;
            };
            now.busy.push(place(job));
            drop(now);
            let busy = Busy {
                state: &state,
                ended: &ended,
                place: place(job),
            };
            let result = act(job);
            let mut all = results.lock().unwrap_or_else(PoisonError::into_inner);
            all.push((at, result));
            drop(all);
            drop(busy);
            now = state.lock().unwrap_or_else(PoisonError::into_inner);
        }
    };
    thread::scope(|scope| {
        for number in 0..WORKERS {
            let worker = thread::Builder::new().name(format!("{NAME}{number}"));
            // One that cannot be started leaves its work to the other.
            if worker.spawn_scoped(scope, work).is_err() && number == 0 {
                work();
            }
        }
    });
    let mut all = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    #[test]
    fn two_places_are_busy_at_a_time_and_each_in_its_order() {
        let jobs: Vec<_> = (0..30).map(|at| (at % 3, at)).collect();
        let busy = [const { AtomicU32::new(0) }; 3];
        let most = AtomicU32::new(0);
        let order = Mutex::new(Vec::new());
        let results = do_all(
            &jobs,
            |job| job.0,
            |(place, at)| {
                assert_eq!(busy[*place].fetch_add(1, Ordering::SeqCst), 0);
                let sum: u32 = busy.iter().map(|one| one.load(Ordering::SeqCst)).sum();
                most.fetch_max(sum, Ordering::SeqCst);
                order.lock().unwrap().push((*place, *at));
                thread::sleep(Duration::from_millis(2));
                busy[*place].fetch_sub(1, Ordering::SeqCst);
                at * 2
            },
        );
        assert!(results.into_iter().eq((0..30).map(|at| at * 2)));
        assert_eq!(most.into_inner(), 2);
        let order = order.into_inner().unwrap();
        for place in 0..3 {
            let own = order.iter().filter(|one| one.0 == place);
            assert!(own.is_sorted());
        }
    }

    #[test]
    fn nobody_waits_for_one_who_panics() {
        let told = std::panic::catch_unwind(|| {
            do_all(
                &[0, 1, 2],
                |_| (),
                |job| assert!(*job > 0, "it is to panic"),
            )
        });
        assert!(told.is_err());
    }
}
