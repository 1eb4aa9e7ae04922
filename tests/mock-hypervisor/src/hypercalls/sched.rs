//! `sched_op`.

use hypercall_abi::{
    Errno, Port,
    sched::{
        SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG,
        SCHEDOP_YIELD, SchedPoll, SchedWatchdog, ShutdownReason,
    },
};

use super::{Call, Effect, read};
use crate::core::memory::GuestMemory;

/// The most ports of one poll.
const MAX_POLLED: u32 = 128;
const SECOND_NS: u64 = 1_000_000_000;

impl Call<'_> {
    pub(super) fn sched_op(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
        start_info: usize,
    ) -> Result<usize, Errno> {
        match op {
            SCHEDOP_YIELD => self.then(Effect::Yield),
            SCHEDOP_BLOCK => self.then(Effect::Block),
            SCHEDOP_SHUTDOWN => {
                let reason: ShutdownReason = read(memory, arg)?;
                self.shut_down(reason, start_info)
            }
            SCHEDOP_SHUTDOWN_CODE => {
                let reason: ShutdownReason = read(memory, arg)?;
                let told = &mut self.state().shutdown_code;
                told.get_or_insert(ShutdownReason(reason.0 & 0xff));
                Ok(0)
            }
            SCHEDOP_POLL => {
                let poll: SchedPoll = read(memory, arg)?;
                if poll.nr_ports > MAX_POLLED {
                    return Err(Errno::EINVAL);
                }
                let mut ports = Vec::new();
                for i in 0..u64::from(poll.nr_ports) {
                    let port: Port = read(memory, (poll.ports + i * 4) as usize)?;
                    self.state().ports.binding(port)?;
                    ports.push(port);
                }
                let timeout_ns = (poll.timeout != 0).then_some(poll.timeout);
                self.then(Effect::Poll(ports, timeout_ns))
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
        &mut self,
        reason: ShutdownReason,
        start_info: usize,
    ) -> Result<usize, Errno> {
        // Xen takes a byte of it, and the first that it was told.
        let told = self.state().shutdown_code;
        let reason = told.unwrap_or(ShutdownReason(reason.0 & 0xff));
        self.then(Effect::ShutDown { reason, start_info })
    }

    fn watchdog(&mut self, watchdog: SchedWatchdog) -> Result<usize, Errno> {
        let now_ns = self.core.now_ns();
        let period = u64::from(watchdog.timeout) * SECOND_NS;
        let armed = Some((now_ns.saturating_add(period), period));
        let slots = &mut self.state().watchdogs;
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
}
