//! Runs in turns, by a plan.

use hypercall_abi::VcpuId;

use super::{
    domain::{Domain, Guest, Outcome},
    host::Xen,
    plan::Plan,
    turns::Turns,
};
use crate::core::chance::Chance;

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

/// Gives a guest's turns up when it is dropped.
struct InTurn<'a>(&'a Domain);

impl Drop for InTurn<'_> {
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
        let first = |(domain, _): &Guest<'a, T>| (domain.domid(), VcpuId(0));
        let mut turns = Turns::new(plan.script, guests.iter().map(first).collect());
        let mut chance = Chance::new(plan.seed, plan.faults);
        turns.pick(&mut chance);
        let mut world = self.0.lock();
        world.chance = Some(chance);
        world.turns = Some(turns);
        drop(world);
        let in_turn = |(domain, guest): Guest<'a, T>| -> Guest<'a, Outcome<T>> {
            let inner = move |domain: &Domain| {
                let host = &domain.xen().0;
                host.begin_turn((domain.domid(), VcpuId(0)));
                // Also when the guest panics: the others must not wait for it.
                let _turns = InTurn(domain);
                domain.outcome_of(guest)
            };
            (domain, Box::new(inner))
        };
        let ended = self.run(guests.into_iter().map(in_turn).collect());
        let mut world = self.0.lock();
        world.chance = None;
        let turns = world.turns.take();
        drop(world);
        let outcomes = ended.into_iter().map(|ended| match ended {
            Outcome::Returned(outcome) => outcome,
            Outcome::Shutdown(shutdown) => Outcome::Shutdown(shutdown),
        });
        Played {
            outcomes: outcomes.collect(),
            trace: turns.as_ref().map_or(0, |turns| turns.trace),
            steps: turns.as_ref().map_or(0, |turns| turns.steps),
        }
    }
}
