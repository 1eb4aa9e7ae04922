//! What goes wrong at a hypercall, by chance and by script.

use hypercall_abi::{
    DomId, Errno, HypercallNr,
    event_channel::{
        EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_VIRQ,
        EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL,
    },
    memory::{XENMEM_INCREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP},
};

use super::{host::Host, plan::Mishap, world::World};
use crate::{core::machine::Actor, services::backends::BackendMishaps};

/// The longest pause.
const MAX_PAUSE_NS: u64 = 1_000_000_000;

/// A call that can be refused for want of something.
const fn wants(nr: HypercallNr, op: usize) -> Option<Errno> {
    match (nr, op) {
        (
            HypercallNr::EVENT_CHANNEL_OP,
            EVTCHNOP_ALLOC_UNBOUND
            | EVTCHNOP_BIND_INTERDOMAIN
            | EVTCHNOP_BIND_IPI
            | EVTCHNOP_BIND_VIRQ,
        ) => Some(Errno::ENOSPC),
        (HypercallNr::EVENT_CHANNEL_OP, EVTCHNOP_INIT_CONTROL | EVTCHNOP_EXPAND_ARRAY)
        | (HypercallNr::MEMORY_OP, XENMEM_INCREASE_RESERVATION | XENMEM_POPULATE_PHYSMAP) => {
            Some(Errno::ENOMEM)
        }
        _ => None,
    }
}

impl Host {
    /// What goes wrong at a call; an error that answers it instead of Xen.
    pub(super) fn mishaps(
        &self,
        world: &mut World,
        (domid, _): Actor,
        nr: HypercallNr,
        op: usize,
    ) -> Result<(), Errno> {
        let Some(turns) = &mut world.turns else {
            return Ok(());
        };
        let due = turns.begin_call();
        let Some(chance) = &mut world.services.core.chance else {
            return Ok(());
        };
        let echoes = chance.echoes();
        let refused = wants(nr, op).filter(|_| chance.happens(|faults| faults.no_room));
        let is_grant_op = nr == HypercallNr::GRANT_TABLE_OP;
        let no_handle = is_grant_op && chance.happens(|faults| faults.no_room);
        let paged_out = is_grant_op && chance.happens(|faults| faults.paged_out);
        let ring = chance.number(|faults| faults.spurious);
        let pause = chance.number(|faults| faults.paused);
        let corrupt = chance.happens(|faults| faults.corrupted);
        let restart = chance.happens(|faults| faults.store_restarts);
        let destroy = chance.happens(|faults| faults.destroyed);
        let of_backends = BackendMishaps {
            restart: chance.number(|faults| faults.backend_restarts),
            detach: chance.number(|faults| faults.detached),
            resize: chance.number(|faults| faults.resized),
        };
        for (domid, port) in echoes {
            world.set_pending(domid, port);
            self.rouse(world);
        }
        if world.mishaps_of_backends(of_backends) {
            self.changed(world);
        }
        for state in world.domains.values_mut() {
            state.grants.paged_out += u32::from(paged_out);
        }
        if let Some(state) = world.domains.get_mut(&domid) {
            state.grants.no_handles += u32::from(no_handle);
            if let Some(any) = ring {
                state.ports.ring_any(any);
            }
        }
        let by_chance = [
            pause.map(|any| Mishap::Pause(any % MAX_PAUSE_NS)),
            corrupt.then_some(Mishap::Corrupt(domid)),
            restart.then_some(Mishap::RestartStore(domid)),
            destroy.then_some(Mishap::Destroy(domid)),
        ];
        for mishap in due.into_iter().chain(by_chance.into_iter().flatten()) {
            self.happen(world, mishap);
        }
        match world
            .turns
            .as_mut()
            .and_then(|turns| turns.refusal(domid, nr))
        {
            Some(errno) => Err(errno),
            None => refused.map_or(Ok(()), Err),
        }
    }

    fn happen(&self, world: &mut World, mishap: Mishap) {
        match mishap {
            Mishap::Destroy(domid) => self.destroy(world, domid),
            Mishap::RestartStore(domid) => self.restart_store(world, domid),
            Mishap::Ring(domid, port) => {
                world.set_pending(domid, port);
                self.rouse(world);
            }
            Mishap::Corrupt(domid) => world.corrupt(domid),
            Mishap::Pause(ns) => {
                let now_ns = world.now_ns();
                world.pass_to(now_ns.saturating_add(ns));
            }
            Mishap::Suspend(domid, suspend) => {
                if let Some(state) = world.domains.get_mut(&domid) {
                    state.resume = Some(suspend);
                    world.ask_to_suspend(domid);
                    self.rouse(world);
                }
            }
            Mishap::Refuse(domid, nr, errno) => {
                if let Some(turns) = &mut world.turns {
                    turns.refuse(domid, nr, errno);
                }
            }
        }
    }

    /// The store's process is replaced, and has no memory of a domain.
    pub(crate) fn restart_store(&self, world: &mut World, domid: DomId) {
        world.restart_store(domid);
        self.rouse(world);
    }
}
