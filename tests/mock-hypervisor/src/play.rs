//! Guests that take turns: one runs at a time, and at each of its hypercalls a
//! seed says who goes on. The same seed gives the same run.

use std::{
    any::Any,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hypercall_abi::{DomId, Errno, HypercallNr, Port, VcpuId};

use crate::{
    Faults, Mishap, Outcome, Plan, Xen,
    domain::Guest,
    world::{Actor, Host, World},
};

/// The order of turns.
#[derive(Debug)]
pub(crate) struct Play {
    random: u64,
    turn: Option<Actor>,
    ready: BTreeSet<Actor>,
    asleep: BTreeSet<Actor>,
    trace: u64,
    steps: u64,
    /// Calls that have begun.
    begun: u64,
    plan: Plan,
    /// Ports that ring again, and how often.
    echoes: Vec<(DomId, Port, u32)>,
    /// Calls that are refused.
    refusals: Vec<(DomId, HypercallNr, Errno)>,
}

/// What came of a run in turns.
#[derive(Debug)]
pub struct Played<T> {
    /// How each guest ended.
    pub outcomes: Vec<Outcome<T>>,
    /// What happened, in one number: every call of every guest, with its answer
    /// and its time.
    pub trace: u64,
    /// How many calls that were.
    pub steps: u64,
}

/// One step of a hash (FNV-1a, by words).
const fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3)
}

impl Play {
    fn new(plan: Plan) -> Self {
        Self {
            random: plan.seed,
            turn: None,
            ready: BTreeSet::new(),
            asleep: BTreeSet::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            steps: 0,
            begun: 0,
            plan,
            echoes: Vec::new(),
            refusals: Vec::new(),
        }
    }

    /// Whether something that goes wrong once in so often does now.
    pub(crate) fn happens(&mut self, one_in: u32) -> bool {
        one_in != 0 && self.next().is_multiple_of(u64::from(one_in))
    }

    /// The next of the numbers that the seed gives (SplitMix64).
    pub(crate) fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// What goes wrong by chance.
    pub(crate) const fn faults(&self) -> Faults {
        self.plan.faults
    }

    /// What the script has for this call.
    pub(crate) fn due(&self) -> Vec<Mishap> {
        let script = self.plan.script.iter();
        let due = script.filter(|(call, _)| *call == self.begun);
        due.map(|(_, mishap)| *mishap).collect()
    }

    /// A port rings again at each of the next calls.
    pub(crate) fn echo(&mut self, domid: DomId, port: Port, count: u32) {
        self.echoes.push((domid, port, count));
    }

    /// The ports that ring again now.
    pub(crate) fn echoes(&mut self) -> Vec<(DomId, Port)> {
        self.begun += 1;
        let now = self.echoes.iter().map(|(domid, port, _)| (*domid, *port));
        let now = now.collect();
        for (_, _, count) in &mut self.echoes {
            *count -= 1;
        }
        self.echoes.retain(|(_, _, count)| *count > 0);
        now
    }

    /// The next such call is refused.
    pub(crate) fn refuse(&mut self, domid: DomId, nr: HypercallNr, errno: Errno) {
        self.refusals.push((domid, nr, errno));
    }

    /// Why a call is refused, if the script says so.
    pub(crate) fn refusal(&mut self, domid: DomId, nr: HypercallNr) -> Option<Errno> {
        let found = self
            .refusals
            .iter()
            .position(|(other, call, _)| (*other, *call) == (domid, nr))?;
        Some(self.refusals.remove(found).2)
    }

    /// Gives the turn to one of those who could go on.
    fn pick(&mut self) {
        let count = self.ready.len() as u64;
        self.turn = match count {
            0 => None,
            _ => {
                let index = self.next() % count;
                self.ready.iter().nth(index as usize).copied()
            }
        };
    }

    /// One more takes turns.
    pub(crate) fn enter(&mut self, actor: Actor) {
        self.ready.insert(actor);
    }

    /// Something happened: whoever sleeps looks whether it was meant.
    pub(crate) fn rouse(&mut self) {
        self.ready.append(&mut self.asleep);
    }
}

impl Host {
    pub(crate) fn wait_for_turn<'a>(
        &'a self,
        world: MutexGuard<'a, World>,
        actor: Actor,
    ) -> MutexGuard<'a, World> {
        self.wait_while(world, |world| {
            let play = world.play.as_ref();
            play.is_some_and(|play| play.turn != Some(actor))
        })
    }

    /// Lets the seed say who goes on.
    pub(crate) fn take_turns(&self, actor: Actor) {
        let mut world = self.lock();
        let Some(play) = &mut world.play else {
            return;
        };
        play.pick();
        if play.turn != Some(actor) {
            self.wake_all();
            drop(self.wait_for_turn(world, actor));
        }
    }

    /// Notes what a call was answered.
    pub(crate) fn note(&self, (domid, vcpu): Actor, call: u32, answer: isize) {
        let mut world = self.lock();
        let now_ns = self.now_ns(&world);
        if let Some(play) = &mut world.play {
            let who = u64::from(domid.0) << 32 | u64::from(vcpu.0);
            for word in [who, u64::from(call), answer as u64, now_ns] {
                play.trace = mix(play.trace, word);
            }
            play.steps += 1;
        }
    }

    /// Sleeps until it is roused and has the turn; `false` if nobody could ever
    /// rouse it.
    pub(crate) fn sleep_in_turn<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        actor: Actor,
    ) -> (MutexGuard<'a, World>, bool) {
        if let Some(play) = &mut world.play {
            play.ready.remove(&actor);
            play.asleep.insert(actor);
        }
        let slept = self.pass_turn(&mut world);
        if !slept && let Some(play) = &mut world.play {
            play.asleep.remove(&actor);
            play.ready.insert(actor);
            play.turn = Some(actor);
        }
        self.wake_all();
        (self.wait_for_turn(world, actor), slept)
    }

    /// Gives the turn to somebody else; to those who wait for a time, if all
    /// sleep. `false` if nobody waits for anything that can come.
    fn pass_turn(&self, world: &mut World) -> bool {
        let next_ns = world.next_ns();
        let Some(play) = &mut world.play else {
            return true;
        };
        if play.ready.is_empty() {
            let Some(next_ns) = next_ns else {
                return false;
            };
            play.rouse();
            world.pass_to(next_ns);
        }
        if let Some(play) = &mut world.play {
            play.pick();
        }
        true
    }

    fn begin_turn(&self, actor: Actor) {
        drop(self.wait_for_turn(self.lock(), actor));
    }

    /// Somebody takes no turns any more.
    pub(crate) fn leave_turns(&self, world: &mut World, actor: Actor) {
        if let Some(play) = &mut world.play {
            play.ready.remove(&actor);
            play.asleep.remove(&actor);
        }
        if !self.pass_turn(world)
            && let Some(play) = &mut world.play
        {
            // Each is to find out for itself that it waits in vain.
            play.rouse();
            play.pick();
        }
        self.wake_all();
    }
}

/// Gives a guest's turns up when it is dropped.
struct Turns<'a>(&'a crate::Domain);

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        // Its other vCPUs end in their turns.
        self.0.stop_vcpus();
        let host = &self.0.xen().0;
        host.leave(&mut host.lock(), (self.0.domid(), VcpuId(0)));
    }
}

impl Xen {
    /// Runs guests in turns: the order of their hypercalls, what goes wrong, and
    /// with it all that happens between them, follow from the plan alone. For hosts
    /// with virtual time, and guests that ask nobody but their platform for
    /// anything.
    ///
    /// # Panics
    /// If one of them does.
    pub fn play<'a, T: Send + 'a>(&self, plan: Plan, guests: Vec<Guest<'a, T>>) -> Played<T> {
        let mut play = Play::new(plan);
        let first = |(domain, _): &Guest<'a, T>| (domain.domid(), VcpuId(0));
        play.ready = guests.iter().map(first).collect();
        play.pick();
        self.0.lock().play = Some(play);
        let in_turn = |(domain, guest): Guest<'a, T>| -> Guest<'a, Outcome<T>> {
            let inner = move |domain: &crate::Domain| {
                let host = &domain.xen().0;
                host.begin_turn((domain.domid(), VcpuId(0)));
                // Also when the guest panics: the others must not wait for it.
                let _turns = Turns(domain);
                domain.outcome_of(guest)
            };
            (domain, Box::new(inner))
        };
        let ended = self.run(guests.into_iter().map(in_turn).collect());
        let play = self.0.lock().play.take();
        let outcomes = ended.into_iter().map(|ended| match ended {
            Outcome::Returned(outcome) => outcome,
            Outcome::Shutdown(shutdown) => Outcome::Shutdown(shutdown),
        });
        Played {
            outcomes: outcomes.collect(),
            trace: play.as_ref().map_or(0, |play| play.trace),
            steps: play.as_ref().map_or(0, |play| play.steps),
        }
    }
}

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
