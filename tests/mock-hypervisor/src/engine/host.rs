//! The host: its lock, and how its vCPUs sleep and wake.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hypercall_abi::{DomId, VcpuId, sched::ShutdownReason};

use super::world::World;
use crate::core::{config::Time, domain_state::Shutdown, machine::Actor};

/// A host of domains that know of each other.
///
/// ```
/// use hypercall_abi::{DomId, event_channel};
/// use mock_hypervisor::{Config, Time, Xen};
///
/// let xen = Xen::new(Time::Virtual);
/// let front = xen.domain(Config::default()).unwrap();
/// let back = xen.domain(Config::default()).unwrap();
/// let offered = event_channel::alloc_unbound(&back, front.domid()).unwrap();
/// let port = event_channel::bind_interdomain(&front, back.domid(), offered).unwrap();
/// event_channel::send(&front, port).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Xen(pub(crate) Arc<Host>);

#[derive(Debug)]
pub(crate) struct Host {
    world: Mutex<World>,
    /// Rung when something happened that a sleeper may wait for.
    event: Condvar,
}

impl Xen {
    /// A host without domains.
    pub fn new(time: Time) -> Self {
        Self(Arc::new(Host {
            world: Mutex::new(World::new(time)),
            event: Condvar::new(),
        }))
    }
}

impl Host {
    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        // A guest that panics in a call leaves the world as consistent as a
        // crashed vCPU would.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due.
    pub(crate) fn tick(&self, world: &mut World) {
        let now_ns = world.now_ns();
        world.fire_timers(now_ns);
        if world.tick_services(now_ns) {
            self.rouse(world);
        }
    }

    /// Lets the caller sleep until something happens, or `until_ns`. `None`:
    /// nothing can happen any more.
    pub(crate) fn sleep<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        actor: Actor,
        until_ns: Option<u64>,
    ) -> Option<MutexGuard<'a, World>> {
        if let Some(until_ns) = until_ns {
            world.add_deadline(until_ns);
        }
        let (mut world, slept) = if world.turns.is_some() {
            self.sleep_in_turn(world, actor)
        } else {
            self.sleep_freely(world)
        };
        if let Some(until_ns) = until_ns {
            world.remove_deadline(until_ns);
        }
        slept.then_some(world)
    }

    /// The same, while guests run as they like.
    fn sleep_freely<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
    ) -> (MutexGuard<'a, World>, bool) {
        let now_ns = world.now_ns();
        let next_ns = world.next_ns();
        world.sleepers += 1;
        let roused = world.roused;
        let rest = next_ns.map(|next| next.saturating_sub(now_ns));
        let (mut world, slept) = match (world.time(), rest) {
            // Somebody else still runs: time stands.
            (Time::Virtual, _) if world.sleepers < world.runners => (self.wait(world, None), true),
            (Time::Virtual, Some(rest_ns)) => {
                world.let_pass(rest_ns);
                self.rouse(&mut world);
                (world, true)
            }
            (Time::Virtual, None) => (world, false),
            (Time::Real, rest) => (self.wait(world, rest.map(Duration::from_nanos)), true),
        };
        if world.roused == roused {
            world.sleepers -= 1;
        }
        (world, slept)
    }

    /// Wakes all who sleep: each looks for itself whether it was meant. Until
    /// it has looked, it counts as awake.
    pub(crate) fn rouse(&self, world: &mut World) {
        if let Some(turns) = &mut world.turns {
            turns.rouse();
        }
        world.roused += 1;
        world.sleepers = 0;
        self.event.notify_all();
    }

    /// Waits for the host, as no vCPU does, while something is so.
    pub(crate) fn wait_most<'a>(
        &'a self,
        world: MutexGuard<'a, World>,
        most: Duration,
        condition: impl FnMut(&mut World) -> bool,
    ) -> MutexGuard<'a, World> {
        let waited = self.event.wait_timeout_while(world, most, condition);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Has all vCPUs of a domain end for this reason. Also those that are down let
    /// go of what they have.
    pub(crate) fn end_vcpus(&self, world: &mut World, domid: DomId, end: Shutdown) {
        let Some(state) = world.domains.get_mut(&domid) else {
            return;
        };
        state.ending = Some(end);
        let begun: Vec<usize> = state
            .vcpus
            .iter()
            .enumerate()
            .filter(|(_, vcpu)| vcpu.has_begun)
            .map(|(index, _)| index)
            .collect();
        for index in begun {
            self.enter(world, (domid, VcpuId(index as u32)));
        }
        self.rouse(world);
        self.wake_all();
    }

    /// One more vCPU is up.
    pub(crate) fn enter(&self, world: &mut World, actor: Actor) {
        let vcpu = world.vcpu_of(actor);
        if vcpu.is_some_and(|vcpu| !std::mem::replace(&mut vcpu.is_counted, true)) {
            world.runners += 1;
            if let Some(turns) = &mut world.turns {
                turns.enter(actor);
            }
        }
    }

    /// One less.
    pub(crate) fn leave(&self, world: &mut World, actor: Actor) {
        let vcpu = world.vcpu_of(actor);
        if vcpu.is_some_and(|vcpu| std::mem::take(&mut vcpu.is_counted)) {
            world.runners -= 1;
            if world.turns.is_some() {
                self.leave_turns(world, actor);
            } else {
                self.rouse(world);
            }
        }
    }

    /// Waits for as long as something is so.
    pub(crate) fn wait_while<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        is_so: impl Fn(&World) -> bool,
    ) -> MutexGuard<'a, World> {
        while is_so(&world) {
            world = self.wait(world, None);
        }
        world
    }

    /// Lets all who wait look.
    pub(crate) fn wake_all(&self) {
        self.event.notify_all();
    }

    pub(crate) fn wait<'a>(
        &'a self,
        world: MutexGuard<'a, World>,
        rest: Option<Duration>,
    ) -> MutexGuard<'a, World> {
        match rest {
            Some(rest) => {
                let waited = self.event.wait_timeout(world, rest);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self
                .event
                .wait(world)
                .unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Tells all whom it concerns that the store or a port changed.
    pub(crate) fn changed(&self, world: &mut World) {
        world.push_store_events();
        self.rouse(world);
    }

    /// Destroys a domain: what it has of others, it has no more; its code ends.
    pub(crate) fn destroy(&self, world: &mut World, domid: DomId) {
        world.forget(domid);
        let Some(state) = world.domains.get_mut(&domid) else {
            return;
        };
        let end = Shutdown {
            reason: ShutdownReason::CRASH,
            report: "it was destroyed\n".into(),
        };
        state.shutdown = Some(end.clone());
        self.end_vcpus(world, domid, end);
    }
}
