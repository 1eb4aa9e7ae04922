//! The host with its services, and who of its vCPUs runs or sleeps.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::MutexGuard,
};

use hypercall_abi::DomId;

use super::turns::Turns;
use crate::{
    core::{config::Time, domain_state::State},
    services::Services,
};

/// All that changes.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) services: Services,
    /// vCPUs that are up in a [`crate::Domain::run`], and those of them that
    /// sleep and have not been roused since.
    pub(super) runners: usize,
    pub(super) sleepers: usize,
    /// How often sleepers were roused.
    pub(super) roused: u64,
    /// Until when those who sleep would sleep at the most, and how many.
    pub(super) deadlines: BTreeMap<u64, usize>,
    /// The order in which guests take turns, if it is fixed.
    pub(super) turns: Option<Turns>,
}

impl Deref for World {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.services
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Services {
        &mut self.services
    }
}

impl World {
    pub(super) fn new(time: Time) -> Self {
        Self {
            services: Services::new(time),
            runners: 0,
            sleepers: 0,
            roused: 0,
            deadlines: BTreeMap::new(),
            turns: None,
        }
    }

    /// When something happens next, or somebody who sleeps wakes.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let deadline = self.deadlines.keys().next().copied();
        let due = [self.next_timer_ns(), deadline, self.next_service_ns()];
        due.into_iter().flatten().min()
    }

    /// Somebody sleeps until a time at the most.
    pub(super) fn add_deadline(&mut self, until_ns: u64) {
        *self.deadlines.entry(until_ns).or_default() += 1;
    }

    /// And does so no longer.
    pub(super) fn remove_deadline(&mut self, until_ns: u64) {
        if let Some(count) = self.deadlines.get_mut(&until_ns) {
            *count -= 1;
            if *count == 0 {
                self.deadlines.remove(&until_ns);
            }
        }
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
