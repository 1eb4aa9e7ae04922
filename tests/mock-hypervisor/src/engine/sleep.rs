//! How a vCPU sleeps, and what is due meanwhile.

use hypercall_abi::{Port, peer_field, sched::ShutdownReason, vcpu::RunState, xen::VcpuInfo};

use super::{domain::Domain, vcpus};
use crate::core::domain_state::State;

impl Domain {
    /// Does what is due.
    pub(crate) fn tick(&self) {
        let mut state = self.lock();
        self.xen.0.tick(&mut state.world);
        let now_ns = state.world.now_ns();
        let ended = state.starved(now_ns);
        drop(state);
        if ended {
            self.end(
                ShutdownReason::WATCHDOG,
                "the watchdog was not fed\n".into(),
            );
        }
    }

    /// Sleeps until a port is pending or a time has come.
    pub(super) fn poll(&self, ports: &[Port], timeout_ns: Option<u64>) {
        self.sleep_until("SCHEDOP_poll without a timeout", timeout_ns, |state| {
            ports.iter().any(|port| state.ports.is_pending(*port))
        });
    }

    /// Lets upcalls through, and sleeps until there is one, or until a time.
    pub(crate) fn block(&self, until_ns: Option<u64>) {
        if let Some(vcpu) = self.vcpu_info() {
            peer_field!(vcpu, VcpuInfo, evtchn_upcall_mask).store_release(0);
        }
        self.sleep_until("SCHEDOP_block", until_ns, |state| {
            state.ports.upcall_pending(vcpus::current())
        });
    }

    fn sleep_until(&self, what: &str, until_ns: Option<u64>, awake: impl Fn(&State) -> bool) {
        let host = &self.xen.0;
        let (_, vcpu) = self.actor();
        let mut has_slept = false;
        loop {
            self.gate();
            self.tick();
            let mut state = self.lock();
            let now_ns = state.world.now_ns();
            let is_over = until_ns.is_some_and(|until| until <= now_ns);
            if awake(&state) || is_over {
                state.sleeps += u64::from(has_slept);
                return;
            }
            has_slept = true;
            state.enter(vcpu, RunState::BLOCKED, now_ns);
            let Some(world) = host.sleep(state.world, self.actor(), until_ns) else {
                self.deadlock(what);
            };
            drop(world);
            let mut state = self.lock();
            let now_ns = state.world.now_ns();
            state.enter(vcpu, RunState::RUNNING, now_ns);
        }
    }

    fn deadlock(&self, what: &str) -> ! {
        let ports = self.lock().ports.describe();
        self.end(
            ShutdownReason::CRASH,
            format!("deadlock: the guest waits ({what}) for what cannot come\n{ports}"),
        )
    }
}
