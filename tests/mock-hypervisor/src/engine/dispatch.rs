//! What a hypercall is to a domain: turns and mishaps before it, its effect, and what services
//! are told of it.

use hypercall_abi::{Errno, HypercallNr, xen::multicall::MulticallEntry};
use zerocopy::{FromZeros, IntoBytes};

use super::domain::Domain;
use crate::{
    core::memory::GuestMemory,
    hypercalls::{self, Effect},
};

impl Domain {
    /// Takes a hypercall of the guest's.
    pub(crate) fn dispatch(
        &self,
        memory: &impl GuestMemory,
        nr: HypercallNr,
        args: [usize; 5],
    ) -> isize {
        let answer = match self.begin(nr, args[0]) {
            Ok(()) => self.serve(memory, nr, args),
            // What ends lets go of nothing any more.
            Err(Errno::ESRCH) => return Errno::ESRCH.to_answer(),
            Err(refused) => Err(refused),
        };
        self.finish(memory, nr, args[0], answer)
    }

    /// What comes before a call: those whose turn it is, what is due, and mishaps.
    fn begin(&self, nr: HypercallNr, op: usize) -> Result<(), Errno> {
        self.gate();
        if self.lock().is_destroyed {
            return Err(Errno::ESRCH);
        }
        self.xen.0.take_turns(self.actor());
        self.lock().note_call(nr);
        self.tick();
        let refused = {
            let world = &mut self.lock().world;
            self.xen.0.mishaps(world, self.actor(), nr, op)
        };
        // It may have been the end.
        self.gate();
        refused
    }

    /// Does what a call asks for, and nothing before or after that: with the host locked
    /// once, and services told of it.
    pub(crate) fn serve(
        &self,
        memory: &impl GuestMemory,
        nr: HypercallNr,
        args: [usize; 5],
    ) -> Result<usize, Errno> {
        if let Some(errno) = self.refused.answer(nr, args[0]) {
            return Err(errno);
        }
        if nr == HypercallNr::MULTICALL {
            return self.multicall(memory, args[0], args[1]);
        }
        let mut guard = self.lock();
        let core = &mut guard.world.services.core;
        let (answer, effect) = hypercalls::take(core, self.actor(), memory, nr, args);
        if guard.world.deliver_signals() {
            self.xen.0.rouse(&mut guard.world);
        }
        drop(guard);
        match effect.filter(|_| answer.is_ok()) {
            Some(effect) => self.follow(effect),
            None => answer,
        }
    }

    /// What follows a call.
    fn follow(&self, effect: Effect) -> Result<usize, Errno> {
        match effect {
            Effect::Yield => std::thread::yield_now(),
            Effect::Block => self.block(None),
            Effect::Poll(ports, timeout_ns) => self.poll(&ports, timeout_ns),
            Effect::ShutDown { reason, start_info } => return self.shut_down(reason, start_info),
            Effect::Up(vcpu) => self.up(vcpu),
            Effect::Down(vcpu) => self.down(vcpu),
        }
        Ok(0)
    }

    /// What comes after a call: whoever is told how it was, and where vCPUs stay.
    pub(crate) fn finish(
        &self,
        memory: &impl GuestMemory,
        nr: HypercallNr,
        op: usize,
        answer: Result<usize, Errno>,
    ) -> isize {
        let mut guard = self.lock();
        if answer == Err(Errno::ENOSYS) {
            guard.note_unknown(nr, op);
        }
        hypercalls::tell_areas(&mut guard.world.services.core, self.actor(), memory);
        drop(guard);
        let answer = answer.map_or_else(Errno::to_answer, usize::cast_signed);
        self.xen.0.note(self.actor(), nr.0, answer);
        self.gate();
        answer
    }

    /// Several calls in one: any but this one. `iret` among them is for who has the
    /// guest's registers.
    fn multicall(
        &self,
        memory: &impl GuestMemory,
        list: usize,
        count: usize,
    ) -> Result<usize, Errno> {
        for i in 0..count {
            let at = list.wrapping_add(i * size_of::<MulticallEntry>());
            let mut entry = MulticallEntry::new_zeroed();
            memory.copy_in(at, entry.as_mut_bytes())?;
            let nr = u32::try_from(entry.op).map_or(HypercallNr(u32::MAX), HypercallNr);
            let [a1, a2, a3, a4, a5, _] = entry.args.map(|arg| arg as usize);
            entry.result = if nr == HypercallNr::MULTICALL {
                Errno::EINVAL.to_answer() as i64
            } else {
                self.dispatch(memory, nr, [a1, a2, a3, a4, a5]) as i64
            };
            memory.copy_out(at, entry.as_bytes())?;
        }
        Ok(0)
    }
}
