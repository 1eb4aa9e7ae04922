//! Guests that take turns: one runs at a time, and at each of its hypercalls a
//! seed says who goes on. The same seed gives the same run.

use std::{collections::BTreeSet, sync::MutexGuard};

use hypercall_abi::{
    DomId, Errno, HypercallNr, VcpuId,
    event_channel::{
        EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_VIRQ,
        EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL,
    },
};

use crate::{
    Outcome, Xen,
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
    faults: Faults,
}

/// What goes wrong in a run in turns: each as one in so many, 0 is never. All of
/// it is what a Xen may do to its guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Calls that want a port, or a page for ports, find none (`ENOSPC`, `ENOMEM`).
    pub no_ports: u32,
    /// The guest's allocator has no pages.
    pub no_pages: u32,
    /// A page that is granted is paged out (`GNTST_eagain`).
    pub paged_out: u32,
    /// At a call, one of the guest's ports rings for no reason.
    pub spurious: u32,
}

/// A call that can be refused for want of something.
const fn wants(op: usize) -> Option<Errno> {
    match op {
        EVTCHNOP_ALLOC_UNBOUND
        | EVTCHNOP_BIND_INTERDOMAIN
        | EVTCHNOP_BIND_IPI
        | EVTCHNOP_BIND_VIRQ => Some(Errno::ENOSPC),
        EVTCHNOP_INIT_CONTROL | EVTCHNOP_EXPAND_ARRAY => Some(Errno::ENOMEM),
        _ => None,
    }
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
    fn new(seed: u64, faults: Faults) -> Self {
        Self {
            random: seed,
            turn: None,
            ready: BTreeSet::new(),
            asleep: BTreeSet::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            steps: 0,
            faults,
        }
    }

    /// Whether something that goes wrong once in so often does now.
    fn happens(&mut self, one_in: u32) -> bool {
        one_in != 0 && self.next().is_multiple_of(u64::from(one_in))
    }

    /// The next of the numbers that the seed gives (SplitMix64).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
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

impl World {
    /// What goes wrong at a call of `domid`'s.
    pub(crate) fn fault(&mut self, domid: DomId, nr: HypercallNr, op: usize) -> Result<(), Errno> {
        let Some(play) = &mut self.play else {
            return Ok(());
        };
        let Faults {
            no_ports,
            paged_out,
            spurious,
            ..
        } = play.faults;
        if nr == HypercallNr::EVENT_CHANNEL_OP
            && let Some(errno) = wants(op)
            && play.happens(no_ports)
        {
            return Err(errno);
        }
        let is_out = nr == HypercallNr::GRANT_TABLE_OP && play.happens(paged_out);
        let ring = play.happens(spurious).then(|| play.next());
        for state in self.domains.values_mut().filter(|_| is_out) {
            state.grants.paged_out = 1;
        }
        if let (Some(any), Some(state)) = (ring, self.domains.get_mut(&domid)) {
            state.ports.ring_any(any);
        }
        Ok(())
    }

    /// Whether the guest's allocator has a page.
    pub(crate) fn has_pages(&mut self) -> bool {
        let play = self.play.as_mut();
        !play.is_some_and(|play| play.happens(play.faults.no_pages))
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
    /// with it all that happens between them, follow from the seed alone. For hosts with virtual
    /// time, and guests that ask nobody but their platform for anything.
    ///
    /// # Panics
    /// If one of them does.
    pub fn play<'a, T: Send + 'a>(
        &self,
        seed: u64,
        faults: Faults,
        guests: Vec<Guest<'a, T>>,
    ) -> Played<T> {
        let mut play = Play::new(seed, faults);
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
