//! Guests that take turns: one runs at a time, and at each of its hypercalls a
//! seed says who goes on. The same seed gives the same run.

use std::{collections::BTreeSet, sync::MutexGuard};

use hypercall_abi::{DomId, Errno, HypercallNr};

use super::{host::Host, plan::Mishap, world::World};
use crate::core::{chance::Chance, machine::Actor};

/// The order of turns, and what the script has for them.
#[derive(Debug)]
pub(crate) struct Turns {
    turn: Option<Actor>,
    ready: BTreeSet<Actor>,
    asleep: BTreeSet<Actor>,
    pub(super) trace: u64,
    pub(super) steps: u64,
    /// Calls that have begun.
    begun: u64,
    script: Vec<(u64, Mishap)>,
    /// Calls that are refused.
    refusals: Vec<(DomId, HypercallNr, Errno)>,
}

/// One step of a hash (FNV-1a, by words).
const fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3)
}

impl Turns {
    pub(super) fn new(script: Vec<(u64, Mishap)>, ready: BTreeSet<Actor>) -> Self {
        Self {
            turn: None,
            ready,
            asleep: BTreeSet::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            steps: 0,
            begun: 0,
            script,
            refusals: Vec::new(),
        }
    }

    /// One more call begins: what the script has for it.
    pub(super) fn begin_call(&mut self) -> Vec<Mishap> {
        let script = self.script.iter();
        let due = script.filter(|(call, _)| *call == self.begun);
        let due = due.map(|(_, mishap)| *mishap).collect();
        self.begun += 1;
        due
    }

    /// The next such call is refused.
    pub(super) fn refuse(&mut self, domid: DomId, nr: HypercallNr, errno: Errno) {
        self.refusals.push((domid, nr, errno));
    }

    /// Why a call is refused, if the script says so.
    pub(super) fn refusal(&mut self, domid: DomId, nr: HypercallNr) -> Option<Errno> {
        let found = self
            .refusals
            .iter()
            .position(|(other, call, _)| (*other, *call) == (domid, nr))?;
        Some(self.refusals.remove(found).2)
    }

    /// Gives the turn to one of those who could go on.
    pub(super) fn pick(&mut self, chance: &mut Chance) {
        let count = self.ready.len() as u64;
        self.turn = match count {
            0 => None,
            _ => {
                let index = chance.next() % count;
                self.ready.iter().nth(index as usize).copied()
            }
        };
    }

    /// One more takes turns.
    pub(super) fn enter(&mut self, actor: Actor) {
        self.ready.insert(actor);
    }

    /// Something happened: whoever sleeps looks whether it was meant.
    pub(super) fn rouse(&mut self) {
        self.ready.append(&mut self.asleep);
    }
}

impl World {
    /// Gives the turn to one of those who could go on, if they take turns.
    fn pick(&mut self) {
        if let (Some(turns), Some(chance)) = (&mut self.turns, &mut self.services.core.chance) {
            turns.pick(chance);
        }
    }
}

impl Host {
    pub(super) fn wait_for_turn<'a>(
        &'a self,
        world: MutexGuard<'a, World>,
        actor: Actor,
    ) -> MutexGuard<'a, World> {
        self.wait_while(world, |world| {
            let turns = world.turns.as_ref();
            turns.is_some_and(|turns| turns.turn != Some(actor))
        })
    }

    /// Lets the seed say who goes on.
    pub(super) fn take_turns(&self, actor: Actor) {
        let mut world = self.lock();
        world.pick();
        let Some(turns) = &world.turns else {
            return;
        };
        if turns.turn != Some(actor) {
            self.wake_all();
            drop(self.wait_for_turn(world, actor));
        }
    }

    /// Notes what a call was answered.
    pub(super) fn note(&self, (domid, vcpu): Actor, call: u32, answer: isize) {
        let mut world = self.lock();
        let now_ns = world.now_ns();
        if let Some(turns) = &mut world.turns {
            let who = u64::from(domid.0) << 32 | u64::from(vcpu.0);
            for word in [who, u64::from(call), answer as u64, now_ns] {
                turns.trace = mix(turns.trace, word);
            }
            turns.steps += 1;
        }
    }

    /// Sleeps until it is roused and has the turn; `false` if nobody could ever
    /// rouse it.
    pub(super) fn sleep_in_turn<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        actor: Actor,
    ) -> (MutexGuard<'a, World>, bool) {
        if let Some(turns) = &mut world.turns {
            turns.ready.remove(&actor);
            turns.asleep.insert(actor);
        }
        let slept = self.pass_turn(&mut world);
        if !slept && let Some(turns) = &mut world.turns {
            turns.asleep.remove(&actor);
            turns.ready.insert(actor);
            turns.turn = Some(actor);
        }
        self.wake_all();
        (self.wait_for_turn(world, actor), slept)
    }

    /// Gives the turn to somebody else; to those who wait for a time, if all
    /// sleep. `false` if nobody waits for anything that can come.
    fn pass_turn(&self, world: &mut World) -> bool {
        let next_ns = world.next_ns();
        let Some(turns) = &mut world.turns else {
            return true;
        };
        if turns.ready.is_empty() {
            let Some(next_ns) = next_ns else {
                return false;
            };
            turns.rouse();
            world.pass_to(next_ns);
        }
        world.pick();
        true
    }

    pub(super) fn begin_turn(&self, actor: Actor) {
        drop(self.wait_for_turn(self.lock(), actor));
    }

    /// Somebody takes no turns any more.
    pub(super) fn leave_turns(&self, world: &mut World, actor: Actor) {
        if let Some(turns) = &mut world.turns {
            turns.ready.remove(&actor);
            turns.asleep.remove(&actor);
        }
        if !self.pass_turn(world)
            && let Some(turns) = &mut world.turns
        {
            // Each is to find out for itself that it waits in vain.
            turns.rouse();
            world.pick();
        }
        self.wake_all();
    }
}
