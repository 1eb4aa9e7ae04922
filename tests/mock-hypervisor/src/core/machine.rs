//! The host: its domains and its time.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use hypercall_abi::{DomId, VcpuId};

use super::{
    chance::Chance,
    channels::Signal,
    config::Time,
    counter::{self, Moment, Scale},
    domain_state::State,
    vcpu_state::Vcpu,
};

/// A vCPU of a domain.
pub(crate) type Actor = (DomId, VcpuId);

/// What Xen keeps.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) domains: BTreeMap<DomId, State>,
    clock: HostClock,
    last: u16,
    /// What goes wrong, in a run by seed.
    pub(crate) chance: Option<Chance>,
    /// What services are to be told of, in order.
    pub(crate) signals: Vec<Signal>,
    /// Something happened that a vCPU which sleeps may wait for.
    pub(crate) has_news: bool,
}

/// What time it is.
#[derive(Clone, Copy, Debug)]
struct HostClock {
    time: Time,
    virtual_ns: u64,
    started: Instant,
    /// The processor's counter then.
    started_ticks: u64,
    started_wall_ns: u64,
}

impl Core {
    pub(crate) fn new(time: Time) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let (started_ticks, started) = counter::together(Instant::now);
        Self {
            domains: BTreeMap::new(),
            clock: HostClock {
                time,
                virtual_ns: 0,
                started,
                started_ticks,
                started_wall_ns: wall.map_or(0, |since| since.as_nanos() as u64),
            },
            last: 0,
            chance: None,
            signals: Vec::new(),
            has_news: false,
        }
    }

    /// Whether time passes only while all sleep.
    pub(crate) fn time(&self) -> Time {
        self.clock.time
    }

    /// What time it is, in nanoseconds since the host started.
    pub(crate) fn now_ns(&self) -> u64 {
        match self.clock.time {
            Time::Virtual => self.clock.virtual_ns,
            Time::Real => self.clock.started.elapsed().as_nanos() as u64,
        }
    }

    /// When the host started, by the wall clock.
    pub(crate) fn started_wall_ns(&self) -> u64 {
        self.clock.started_wall_ns
    }

    /// What time it is, as a vCPU is told it: of virtual time, the counter counts nothing.
    pub(crate) fn moment(&self) -> Moment {
        let (ticks, ns) = counter::together(|| self.now_ns());
        let scale = match self.clock.time {
            Time::Virtual => Scale {
                factor: 0,
                shift: 0,
            },
            Time::Real => Scale::of(ticks.saturating_sub(self.clock.started_ticks), ns),
        };
        Moment { ticks, ns, scale }
    }

    /// Virtual time passes by so much, and what is due is to be looked at.
    pub(crate) fn let_pass(&mut self, ns: u64) -> u64 {
        self.clock.virtual_ns = self.clock.virtual_ns.saturating_add(ns);
        self.clock.virtual_ns
    }

    /// Lets virtual time pass up to a time.
    pub(crate) fn pass_to(&mut self, time_ns: u64) {
        self.clock.virtual_ns = self.clock.virtual_ns.max(time_ns);
    }

    /// The number of the next domain.
    pub(crate) fn next_domid(&mut self) -> DomId {
        self.last += 1;
        DomId(self.last)
    }

    /// A vCPU of a domain.
    pub(crate) fn vcpu_of(&mut self, actor: Actor) -> Option<&mut Vcpu> {
        let state = self.domains.get_mut(&actor.0)?;
        state.vcpus.get_mut(actor.1.0 as usize)
    }

    /// When a domain's timer or watchdog runs out next.
    pub(crate) fn next_timer_ns(&self) -> Option<u64> {
        self.domains.values().filter_map(State::next_ns).min()
    }

    /// Sends the timers' interrupts that are due.
    pub(crate) fn fire_timers(&mut self, now_ns: u64) {
        for state in self.domains.values_mut() {
            state.fire(now_ns);
        }
    }

    /// What time a guest reads out of what it is told: it never goes back, however the
    /// processor's counter and the clock differ.
    pub(crate) fn read_time_ns(&mut self, actor: Actor) -> u64 {
        self.tell_time(actor);
        let now_ns = self.now_ns();
        let Some(state) = self.domains.get_mut(&actor.0) else {
            return now_ns;
        };
        let told_ns = match state.ports.vcpu_info(actor.1) {
            Some(info) if state.memory.tables.is_none() => counter::read(info, counter::ticks()),
            _ => now_ns,
        };
        state.read_ns = state.read_ns.max(told_ns);
        state.read_ns
    }

    /// Tells a vCPU what time it is. An image's is told by who runs it.
    pub(crate) fn tell_time(&self, actor: Actor) {
        let state = self.domains.get(&actor.0);
        let Some(state) = state.filter(|state| state.memory.tables.is_none()) else {
            return;
        };
        if let Some(info) = state.ports.vcpu_info(actor.1) {
            counter::write(info, self.moment());
        }
    }
}
