//! `sched_op`, timers and what waits for them.

use std::{sync::PoisonError, time::Duration};

use hypercall_abi::{
    Errno, Port,
    sched::{
        SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG,
        SCHEDOP_YIELD, SchedPoll, SchedWatchdog, ShutdownReason,
    },
};

use super::read;
use crate::{Domain, Time, domain::State, memory::GuestMemory, ports::Binding};

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
    /// When the domain is ended, and the time that feeding gives.
    watchdogs_ns: [Option<(u64, u64)>; WATCHDOGS],
}

impl Timers {
    /// When something happens next.
    fn next_ns(&self) -> Option<u64> {
        let watchdogs = self.watchdogs_ns.iter().flatten().map(|(at, _)| *at);
        watchdogs
            .chain(self.singleshot_ns)
            .chain(self.periodic_ns.map(|(at, _)| at))
            .min()
    }
}

impl State {
    /// Sends the timer's interrupt if one is due, and says whether a watchdog
    /// has run out.
    fn fire(&mut self, now_ns: u64) -> bool {
        let mut ring = self.timers.singleshot_ns.is_some_and(|at| at <= now_ns);
        if ring {
            self.timers.singleshot_ns = None;
        }
        if let Some((at, period)) = self.timers.periodic_ns.filter(|(at, _)| *at <= now_ns) {
            let missed = (now_ns - at) / period;
            self.timers.periodic_ns = Some((at + (missed + 1) * period, period));
            ring = true;
        }
        if ring {
            self.ports.ring(Binding::TIMER);
        }
        let mut watchdogs = self.timers.watchdogs_ns.iter().flatten();
        watchdogs.any(|(at, _)| *at <= now_ns)
    }
}

impl Domain {
    /// What time it is.
    pub(crate) fn time_ns(&self, state: &State) -> u64 {
        match self.time {
            Time::Virtual => state.virtual_ns,
            Time::Real => self.started.elapsed().as_nanos() as u64,
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&self) {
        let mut state = self.lock();
        let now_ns = self.time_ns(&state);
        let ended = state.fire(now_ns);
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
    ) -> Result<usize, Errno> {
        match op {
            SCHEDOP_YIELD => {
                std::thread::yield_now();
                Ok(0)
            }
            // Upcalls are not modelled: nothing would end the sleep.
            SCHEDOP_BLOCK => self.deadlock("SCHEDOP_block, and no upcalls"),
            SCHEDOP_SHUTDOWN => {
                let reason: ShutdownReason = read(memory, arg)?;
                if reason.0 > ShutdownReason::SOFT_RESET.0 {
                    return Err(Errno::EINVAL);
                }
                self.end(reason, String::new())
            }
            SCHEDOP_SHUTDOWN_CODE => {
                let reason: ShutdownReason = read(memory, arg)?;
                if reason.0 > ShutdownReason::SOFT_RESET.0 {
                    return Err(Errno::EINVAL);
                }
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

    fn watchdog(&self, watchdog: SchedWatchdog) -> Result<usize, Errno> {
        let mut state = self.lock();
        let now_ns = self.time_ns(&state);
        let period = u64::from(watchdog.timeout) * SECOND_NS;
        let armed = Some((now_ns.saturating_add(period), period));
        let slots = &mut state.timers.watchdogs_ns;
        if watchdog.id == 0 {
            if watchdog.timeout == 0 {
                return Err(Errno::EINVAL);
            }
            let free = slots
                .iter()
                .position(Option::is_none)
                .ok_or(Errno::ENOSPC)?;
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
    pub(crate) fn poll(&self, ports: &[Port], timeout_ns: Option<u64>) {
        loop {
            self.tick();
            let mut state = self.lock();
            if state.console.serve() {
                let port = state.console_port;
                state.ports.set_pending(port);
            }
            if ports.iter().any(|port| state.ports.is_pending(*port)) {
                return;
            }
            let now_ns = self.time_ns(&state);
            if timeout_ns.is_some_and(|until| until <= now_ns) {
                return;
            }
            let next_ns = state.timers.next_ns().into_iter().chain(timeout_ns).min();
            match (self.time, next_ns) {
                (Time::Virtual, Some(next)) => state.virtual_ns = next.max(now_ns),
                (Time::Virtual, None) => {
                    drop(state);
                    self.deadlock("SCHEDOP_poll without a timeout");
                }
                (Time::Real, Some(next)) => {
                    let rest = Duration::from_nanos(next.saturating_sub(now_ns));
                    let wait = self.event.wait_timeout(state, rest);
                    drop(wait.unwrap_or_else(PoisonError::into_inner));
                }
                (Time::Real, None) => {
                    let wait = self.event.wait(state);
                    drop(wait.unwrap_or_else(PoisonError::into_inner));
                }
            }
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
