//! `sched_op`, timers and what waits for them.

use hypercall_abi::{
    Errno, Port, VcpuId, peer_field,
    sched::{
        SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG,
        SCHEDOP_YIELD, SchedPoll, SchedWatchdog, ShutdownReason,
    },
    vcpu::RunState,
    xen::VcpuInfo,
};

use super::read;
use crate::{Domain, domain::State, memory::GuestMemory, ports::Binding, vcpus};

/// The most ports of one poll.
const MOST_POLLED: u32 = 128;
/// The watchdogs of a domain.
pub(crate) const WATCHDOGS: usize = 2;
const SECOND_NS: u64 = 1_000_000_000;

/// What happens at a time: all in nanoseconds since the domain started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timers {
    pub(crate) singleshot_ns: Option<u64>,
    /// When next, and from then on how often.
    pub(crate) periodic_ns: Option<(u64, u64)>,
}

/// For each watchdog, when the domain is ended, and the time that feeding gives.
pub(crate) type Watchdogs = [Option<(u64, u64)>; WATCHDOGS];

impl Timers {
    /// When something happens next.
    fn next_ns(&self) -> Option<u64> {
        let periodic = self.periodic_ns.map(|(at, _)| at);
        self.singleshot_ns.into_iter().chain(periodic).min()
    }

    /// Whether it is to ring.
    fn fire(&mut self, now_ns: u64) -> bool {
        let mut ring = self.singleshot_ns.is_some_and(|at| at <= now_ns);
        if ring {
            self.singleshot_ns = None;
        }
        if let Some((at, period)) = self.periodic_ns.filter(|(at, _)| *at <= now_ns) {
            let missed = (now_ns - at) / period;
            self.periodic_ns = Some((at + (missed + 1) * period, period));
            ring = true;
        }
        ring
    }
}

impl State {
    /// When something happens next.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let watchdogs = self.watchdogs.iter().flatten().map(|(at, _)| *at);
        let timers = self.vcpus.iter().filter_map(|vcpu| vcpu.timers.next_ns());
        watchdogs.chain(timers).min()
    }

    /// Sends the timers' interrupts that are due.
    pub(crate) fn fire(&mut self, now_ns: u64) {
        for (index, vcpu) in self.vcpus.iter_mut().enumerate() {
            if vcpu.timers.fire(now_ns) {
                self.ports.ring(Binding::timer(VcpuId(index as u32)));
            }
        }
    }

    /// From now on the vCPU that asks does something else.
    fn enter(&mut self, run_state: RunState, now_ns: u64) {
        if let Some(vcpu) = self.vcpus.get_mut(vcpus::current().0 as usize) {
            vcpu.run_times.enter(run_state, now_ns);
        }
    }

    /// Whether a watchdog has run out.
    fn starved(&self, now_ns: u64) -> bool {
        let mut watchdogs = self.watchdogs.iter().flatten();
        watchdogs.any(|(at, _)| *at <= now_ns)
    }
}

impl Domain {
    /// Does what is due.
    pub(crate) fn tick(&self) {
        let host = &self.xen.0;
        let mut state = self.lock();
        host.tick(&mut state.world);
        let now_ns = host.now_ns(&state.world);
        let ended = state.starved(now_ns);
        drop(state);
        if ended {
            self.end(
                ShutdownReason::WATCHDOG,
                "the watchdog was not fed\n".into(),
            );
        }
    }

    pub(super) fn sched_op(
        &self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
        start_info: usize,
    ) -> Result<usize, Errno> {
        match op {
            SCHEDOP_YIELD => {
                std::thread::yield_now();
                Ok(0)
            }
            SCHEDOP_BLOCK => {
                self.block(None);
                Ok(0)
            }
            SCHEDOP_SHUTDOWN => {
                let reason: ShutdownReason = read(memory, arg)?;
                self.shut_down(reason, start_info)
            }
            SCHEDOP_SHUTDOWN_CODE => {
                let reason: ShutdownReason = read(memory, arg)?;
                let mut state = self.lock();
                let told = &mut state.shutdown_code;
                told.get_or_insert(ShutdownReason(reason.0 & 0xff));
                Ok(0)
            }
            SCHEDOP_POLL => {
                let poll: SchedPoll = read(memory, arg)?;
                if poll.nr_ports > MOST_POLLED {
                    return Err(Errno::EINVAL);
                }
                let mut ports = Vec::new();
                for i in 0..u64::from(poll.nr_ports) {
                    let port: Port = read(memory, (poll.ports + i * 4) as usize)?;
                    self.lock().ports.binding(port)?;
                    ports.push(port);
                }
                self.poll(&ports, (poll.timeout != 0).then_some(poll.timeout));
                Ok(0)
            }
            SCHEDOP_WATCHDOG => {
                let watchdog: SchedWatchdog = read(memory, arg)?;
                self.watchdog(watchdog)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Ends the domain, or suspends it.
    pub(super) fn shut_down(
        &self,
        reason: ShutdownReason,
        start_info: usize,
    ) -> Result<usize, Errno> {
        // Xen takes a byte of it, and the first that it was told.
        let told = self.lock().shutdown_code;
        let reason = told.unwrap_or(ShutdownReason(reason.0 & 0xff));
        if reason == ShutdownReason::SUSPEND {
            return self.suspend(start_info);
        }
        self.end(reason, String::new())
    }

    fn watchdog(&self, watchdog: SchedWatchdog) -> Result<usize, Errno> {
        let mut state = self.lock();
        let now_ns = self.xen.0.now_ns(&state.world);
        let period = u64::from(watchdog.timeout) * SECOND_NS;
        let armed = Some((now_ns.saturating_add(period), period));
        let slots = &mut state.watchdogs;
        if watchdog.id == 0 {
            let Some(free) = slots.iter().position(Option::is_none) else {
                // Xen's own slip: the error as a number without a sign.
                let told = Errno::ENOSPC.to_answer() as u32;
                return Ok(told as usize);
            };
            slots[free] = armed;
            return Ok(free + 1);
        }
        let slot = slots
            .get_mut(watchdog.id as usize - 1)
            .ok_or(Errno::EINVAL)?;
        if slot.is_none() {
            return Err(Errno::EINVAL);
        }
        *slot = if watchdog.timeout == 0 { None } else { armed };
        Ok(0)
    }

    /// Sleeps until a port is pending or a time has come.
    fn poll(&self, ports: &[Port], timeout_ns: Option<u64>) {
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
        let mut has_slept = false;
        loop {
            self.gate();
            self.tick();
            let mut state = self.lock();
            state.serve_console();
            let is_over = until_ns.is_some_and(|until| until <= host.now_ns(&state.world));
            if awake(&state) || is_over {
                state.sleeps += u64::from(has_slept);
                return;
            }
            has_slept = true;
            let now_ns = host.now_ns(&state.world);
            state.enter(RunState::BLOCKED, now_ns);
            let Some(world) = host.sleep(state.world, self.actor(), until_ns) else {
                self.deadlock(what);
            };
            drop(world);
            let mut state = self.lock();
            let now_ns = host.now_ns(&state.world);
            state.enter(RunState::RUNNING, now_ns);
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
