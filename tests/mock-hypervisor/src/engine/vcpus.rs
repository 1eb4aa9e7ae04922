//! vCPUs: each runs on a thread of its own, from [`VCPUOP_up`] on.
//!
//! [`VCPUOP_up`]: hypercall_abi::vcpu::up

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use hypercall_abi::{VcpuId, vcpu::RunState};

use super::domain::Domain;
use crate::core::{config::OnShutdown, domain_state::Shutdown, machine::Actor, vcpu_state::Entry};

thread_local! {
    /// The vCPU that this thread is: a thread that the mock did not start is its
    /// domain's first.
    static CURRENT: Cell<VcpuId> = const { Cell::new(VcpuId(0)) };
}

/// The vCPU that asks.
pub(crate) fn current() -> VcpuId {
    CURRENT.get()
}

/// This thread is a vCPU from now on.
#[cfg(feature = "user")]
pub(crate) fn set_current(vcpu: VcpuId) {
    CURRENT.set(vcpu);
}

/// The code of a vCPU that a guest starts.
type Code = extern "C-unwind" fn(u64);

impl Domain {
    /// This vCPU, among all.
    pub(crate) fn actor(&self) -> Actor {
        (self.domid, current())
    }

    /// `VCPUOP_up`, of a vCPU that can start.
    pub(super) fn up(&self, vcpu: VcpuId) {
        let mut state = self.lock();
        let now_ns = state.world.now_ns();
        let Some(found) = state.vcpus.get_mut(vcpu.0 as usize) else {
            return;
        };
        if !found.is_up {
            found.is_up = true;
            found.run_times.enter(RunState::RUNNING, now_ns);
            self.xen.0.enter(&mut state.world, (self.domid, vcpu));
            self.xen.0.wake_all();
        }
    }

    /// `VCPUOP_down`: the last one that goes ends the domain.
    pub(super) fn down(&self, vcpu: VcpuId) {
        let mut state = self.lock();
        let now_ns = state.world.now_ns();
        let index = vcpu.0 as usize;
        let mut others = state.vcpus.iter().enumerate();
        if !others.any(|(other, vcpu)| other != index && vcpu.is_up) {
            drop(state);
            self.end(
                hypercall_abi::sched::ShutdownReason::POWEROFF,
                String::new(),
            );
        }
        let Some(found) = state.vcpus.get_mut(index) else {
            return;
        };
        if found.is_up {
            found.is_up = false;
            found.run_times.enter(RunState::OFFLINE, now_ns);
            // One that sleeps is to see it.
            self.xen.0.rouse(&mut state.world);
        }
    }

    /// Where a vCPU stays while it is down, and where it ends with its domain.
    pub(crate) fn gate(&self) {
        if std::thread::panicking() {
            // It ends already, and lets go of what it has.
            return;
        }
        let me = self.actor();
        let index = me.1.0 as usize;
        let mut state = self.lock();
        loop {
            // A call on behalf of a domain that does not run ends nobody.
            let runs = state.vcpus.get(index).is_some_and(|vcpu| vcpu.is_counted);
            if let Some(end) = state.ending.clone().filter(|_| runs) {
                drop(state);
                match self.on_shutdown {
                    OnShutdown::Unwind => resume_unwind(Box::new(end)),
                    OnShutdown::ExitProcess => loop {
                        std::thread::park();
                    },
                }
            }
            if state.vcpus.get(index).is_none_or(|vcpu| vcpu.is_up) {
                return;
            }
            self.xen.0.leave(&mut state.world, me);
            state.world = self.xen.0.wait_while(state.world, |world| {
                world.domains.get(&me.0).is_some_and(|state| {
                    state.ending.is_none() && !state.vcpus.get(index).is_some_and(|vcpu| vcpu.is_up)
                })
            });
            state.world = self.xen.0.wait_for_turn(state.world, me);
        }
    }

    /// Has all vCPUs end, as soon as they make a call.
    pub(crate) fn stop_vcpus(&self) {
        let mut state = self.lock();
        if state.vcpus.len() > 1 && state.ending.is_none() {
            let end = Shutdown {
                reason: hypercall_abi::sched::ShutdownReason::POWEROFF,
                report: "the first vCPU's code returned\n".into(),
            };
            let host = &self.xen.0;
            host.end_vcpus(&mut state.world, self.domid, end);
        }
    }

    /// The first vCPU is about to run.
    #[cfg(feature = "user")]
    pub(crate) fn begin_first(&self) {
        let me = (self.domid, VcpuId(0));
        let mut state = self.lock();
        if let Some(vcpu) = state.vcpus.first_mut() {
            vcpu.has_begun = true;
        }
        self.xen.0.enter(&mut state.world, me);
    }

    /// Waits until a vCPU is brought up, and says what it starts with. `None`: it
    /// ends before it has begun.
    pub(crate) fn wait_for_start(&self, vcpu: VcpuId) -> Option<Entry> {
        CURRENT.set(vcpu);
        let me = self.actor();
        let host = &self.xen.0;
        let mut world = host.wait_while(host.lock(), |world| {
            world.domains.get(&me.0).is_some_and(|state| {
                let vcpu = state.vcpus.get(vcpu.0 as usize);
                state.ending.is_none() && !vcpu.is_some_and(|vcpu| vcpu.is_up)
            })
        });
        if !world.vcpu_of(me).is_some_and(|vcpu| vcpu.is_counted) {
            return None;
        }
        let mut world = host.wait_for_turn(world, me);
        let is_ending = world
            .domains
            .get(&me.0)
            .is_none_or(|state| state.ending.is_some());
        let entry = world.vcpu_of(me).and_then(|vcpu| {
            vcpu.has_begun = true;
            vcpu.entry.clone().filter(|_| !is_ending)
        });
        if entry.is_none() {
            host.leave(&mut world, me);
        }
        entry
    }

    /// What the thread of any vCPU but the first does.
    pub(crate) fn run_vcpu(&self, vcpu: VcpuId) {
        loop {
            let Some(Entry::Code { code, argument }) = self.wait_for_start(vcpu) else {
                return;
            };
            let host = &self.xen.0;
            let me = self.actor();
            let code = core::ptr::with_exposed_provenance::<()>(code as usize);
            // SAFETY: whoever initialised the vCPU promised that its code is
            // there, and is such a function.
            let code = unsafe { core::mem::transmute::<*const (), Code>(code) };
            let ended = catch_unwind(AssertUnwindSafe(|| code(argument)));
            let mut state = self.lock();
            let now_ns = state.world.now_ns();
            if let Some(vcpu) = state.vcpus.get_mut(vcpu.0 as usize) {
                vcpu.is_up = false;
                vcpu.has_begun = false;
                vcpu.run_times.enter(RunState::OFFLINE, now_ns);
            }
            host.leave(&mut state.world, me);
            drop(state);
            match ended.map_err(|payload| payload.downcast::<Shutdown>()) {
                Ok(()) => {}
                Err(Ok(_)) => return,
                Err(Err(panic)) => {
                    self.stop_vcpus();
                    resume_unwind(panic)
                }
            }
        }
    }
}
