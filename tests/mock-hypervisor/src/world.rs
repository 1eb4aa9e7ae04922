//! The host: its domains, its time, and who sleeps.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hypercall_abi::{DomId, Errno, Port, VcpuId};

use crate::{
    Shutdown, Time,
    backends::Backends,
    counter::{self, Moment, Scale},
    domain::State,
    faults::Fate,
    play::Play,
    ports::{Binding, DOM0},
    store::Store,
    vcpus::Vcpu,
};

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
    pub(crate) time: Time,
    started: Instant,
    /// The processor's counter then.
    started_ticks: u64,
    pub(crate) started_wall_ns: u64,
}

/// A vCPU of a domain: who takes turns, runs and sleeps.
pub(crate) type Actor = (DomId, VcpuId);

/// All that changes.
#[derive(Debug, Default)]
pub(crate) struct World {
    virtual_ns: u64,
    pub(crate) domains: BTreeMap<DomId, State>,
    pub(crate) store: Store,
    pub(crate) backends: Backends,
    /// When the host started, if its time is real.
    real: Option<Instant>,
    /// vCPUs that are up in a [`crate::Domain::run`], and those of them that
    /// sleep and have not been roused since.
    pub(crate) runners: usize,
    sleepers: usize,
    /// How often sleepers were roused.
    roused: u64,
    /// Until when those who sleep would sleep at the most, and how many.
    deadlines: BTreeMap<u64, usize>,
    last: u16,
    /// The order in which guests take turns, if it is fixed.
    pub(crate) play: Option<Play>,
}

impl Xen {
    /// A host without domains.
    pub fn new(time: Time) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let (started_ticks, started) = counter::together(Instant::now);
        let world = World {
            real: (time == Time::Real).then_some(started),
            ..World::default()
        };
        Self(Arc::new(Host {
            world: Mutex::new(world),
            event: Condvar::new(),
            time,
            started,
            started_ticks,
            started_wall_ns: wall.map_or(0, |since| since.as_nanos() as u64),
        }))
    }
}

impl Host {
    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        // A guest that panics in a call leaves the world as consistent as a
        // crashed vCPU would.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What time it is, in nanoseconds since the host started.
    pub(crate) fn now_ns(&self, world: &World) -> u64 {
        match self.time {
            Time::Virtual => world.virtual_ns,
            Time::Real => self.started.elapsed().as_nanos() as u64,
        }
    }

    /// What time it is, as a vCPU is told it: of virtual time, the counter counts nothing.
    pub(crate) fn moment(&self, world: &World) -> Moment {
        let (ticks, ns) = counter::together(|| self.now_ns(world));
        let scale = match self.time {
            Time::Virtual => Scale {
                factor: 0,
                shift: 0,
            },
            Time::Real => Scale::of(ticks.saturating_sub(self.started_ticks), ns),
        };
        Moment { ticks, ns, scale }
    }

    /// Does what is due.
    pub(crate) fn tick(&self, world: &mut World) {
        let now_ns = self.now_ns(world);
        for state in world.domains.values_mut() {
            state.fire(now_ns);
        }
        let store = world.tick_store(now_ns);
        if world.tick_backends(now_ns) || store {
            world.push_store_events();
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
            *world.deadlines.entry(until_ns).or_default() += 1;
        }
        let (mut world, slept) = if world.play.is_some() {
            self.sleep_in_turn(world, actor)
        } else {
            self.sleep_freely(world)
        };
        if let Some(until_ns) = until_ns
            && let Some(count) = world.deadlines.get_mut(&until_ns)
        {
            *count -= 1;
            if *count == 0 {
                world.deadlines.remove(&until_ns);
            }
        }
        slept.then_some(world)
    }

    /// The same, while guests run as they like.
    fn sleep_freely<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
    ) -> (MutexGuard<'a, World>, bool) {
        let now_ns = self.now_ns(&world);
        let next_ns = world.next_ns();
        world.sleepers += 1;
        let roused = world.roused;
        let rest = next_ns.map(|next| next.saturating_sub(now_ns));
        let (mut world, slept) = match (self.time, rest) {
            // Somebody else still runs: time stands.
            (Time::Virtual, _) if world.sleepers < world.runners => (self.wait(world, None), true),
            (Time::Virtual, Some(rest_ns)) => {
                world.virtual_ns = world.virtual_ns.saturating_add(rest_ns);
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
        if let Some(play) = &mut world.play {
            play.rouse();
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
            if let Some(play) = &mut world.play {
                play.enter(actor);
            }
        }
    }

    /// One less.
    pub(crate) fn leave(&self, world: &mut World, actor: Actor) {
        let vcpu = world.vcpu_of(actor);
        if vcpu.is_some_and(|vcpu| std::mem::take(&mut vcpu.is_counted)) {
            world.runners -= 1;
            if world.play.is_some() {
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
}

impl World {
    /// When something happens next, or somebody who sleeps wakes.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let timers = self.domains.values().filter_map(State::next_ns);
        let deadlines = self.deadlines.keys().next().copied();
        let backends = self.next_backend_ns();
        let store = self.next_store_ns();
        timers.chain(deadlines).chain(backends).chain(store).min()
    }

    /// Virtual time passes by so much, and what is due is to be looked at.
    #[cfg(feature = "user")]
    pub(crate) fn let_pass(&mut self, ns: u64) -> u64 {
        self.virtual_ns = self.virtual_ns.saturating_add(ns);
        self.virtual_ns
    }

    /// What time it is for a backend.
    pub(crate) fn backend_ns(&self) -> u64 {
        let real = self.real.map(|started| started.elapsed().as_nanos() as u64);
        real.unwrap_or(self.virtual_ns)
    }

    /// A backend tells its frontend something.
    pub(crate) fn tell_front(&mut self, front: DomId, port: Port) {
        if self.fate(front, port) == Fate::Comes {
            self.set_pending(front, port);
        }
    }

    /// A vCPU of a domain.
    pub(crate) fn vcpu_of(&mut self, actor: Actor) -> Option<&mut Vcpu> {
        let state = self.domains.get_mut(&actor.0)?;
        state.vcpus.get_mut(actor.1.0 as usize)
    }

    /// Lets virtual time pass up to a time.
    pub(crate) fn pass_to(&mut self, time_ns: u64) {
        self.virtual_ns = self.virtual_ns.max(time_ns);
    }

    /// The number of the next domain.
    pub(crate) fn next_domid(&mut self) -> DomId {
        self.last += 1;
        DomId(self.last)
    }

    /// What a port of `domid`'s is bound to.
    pub(crate) fn binding(&self, domid: DomId, port: Port) -> Result<Binding, Errno> {
        let state = self.domains.get(&domid);
        let state = state.filter(|state| !state.is_destroyed);
        state.ok_or(Errno::ESRCH)?.ports.binding(port)
    }

    /// Makes a port of `domid`'s pending, if both are there.
    pub(crate) fn set_pending(&mut self, domid: DomId, port: Port) {
        if let Some(state) = self.domains.get_mut(&domid) {
            state.ports.set_pending(port);
        }
    }

    /// `EVTCHNOP_send`.
    pub(crate) fn send(&mut self, domid: DomId, port: Port) -> Result<(), Errno> {
        match self.binding(domid, port)? {
            Binding::Closed | Binding::Virq(..) | Binding::Pirq(_) => return Err(Errno::EINVAL),
            // Nobody is bound yet: the event is lost, and that is no error.
            Binding::Unbound(_) => {}
            Binding::Console => {
                if let Some(state) = self.domains.get_mut(&domid) {
                    state.serve_console();
                }
            }
            Binding::Store => self.ring_store(domid),
            Binding::Interdomain(remote, other) => {
                if self.fate(remote, other) == Fate::Lost {
                    return Ok(());
                }
                if !self.ring_backend(remote, other) {
                    self.set_pending(remote, other);
                }
            }
            Binding::Ipi(_) => self.set_pending(domid, port),
        }
        Ok(())
    }

    /// `EVTCHNOP_bind_interdomain`.
    pub(crate) fn bind_interdomain(
        &mut self,
        domid: DomId,
        remote: DomId,
        remote_port: Port,
    ) -> Result<Port, Errno> {
        if remote == DOM0 {
            // It offers nothing.
            return Err(Errno::EINVAL);
        }
        if self.binding(remote, remote_port)? != Binding::Unbound(domid) {
            return Err(Errno::EINVAL);
        }
        let state = self.domains.get_mut(&domid).ok_or(Errno::ESRCH)?;
        let local = state
            .ports
            .open(Binding::Interdomain(remote, remote_port))?;
        // The new end may have missed an event: it is told at once.
        state.ports.set_pending(local);
        if let Some(other) = self.domains.get_mut(&remote) {
            other
                .ports
                .rebind(remote_port, Binding::Interdomain(domid, local));
        }
        Ok(local)
    }

    /// `EVTCHNOP_close`.
    pub(crate) fn close(&mut self, domid: DomId, port: Port) -> Result<(), Errno> {
        let binding = self.binding(domid, port)?;
        if let Some(state) = self.domains.get_mut(&domid) {
            state.ports.close(port)?;
        }
        // The other end is left unbound.
        if let Binding::Interdomain(remote, other) = binding
            && let Some(state) = self.domains.get_mut(&remote)
        {
            state.ports.rebind(other, Binding::Unbound(domid));
        }
        Ok(())
    }

    /// Has others forget a domain: its channels end, its store connection too.
    pub(crate) fn forget(&mut self, domid: DomId) {
        self.forget_backends_of(domid);
        self.unmap_all(domid);
        let Some(state) = self.domains.get_mut(&domid) else {
            return;
        };
        if std::mem::replace(&mut state.is_destroyed, true) {
            return;
        }
        for (remote, other) in state.ports.peers() {
            if let Some(state) = self.domains.get_mut(&remote) {
                state.ports.rebind(other, Binding::Unbound(domid));
            }
        }
        self.store.release(domid);
        self.push_store_events();
    }

    /// Removes a domain, with its memory.
    pub(crate) fn remove(&mut self, domid: DomId) {
        self.forget(domid);
        self.domains.remove(&domid);
    }
}

/// The world, locked by one of its domains: leads to that domain's own state.
pub(crate) struct Guard<'a> {
    pub(crate) world: MutexGuard<'a, World>,
    pub(crate) domid: DomId,
}

impl Deref for Guard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.world.domains[&self.domid]
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        let state = self.world.domains.get_mut(&self.domid);
        state.expect("a domain's state is there for as long as the domain")
    }
}
