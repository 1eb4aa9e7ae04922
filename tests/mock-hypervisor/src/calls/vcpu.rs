//! `vcpu_op` and `set_timer_op`. Only the first vCPU ever runs.

use hypercall_abi::{Errno, VcpuId, platform::Clock, vcpu::*};
use zerocopy::IntoBytes;

use super::read;
use crate::{Domain, memory::GuestMemory};

/// The shortest period of a periodic timer.
const LEAST_PERIOD_NS: u64 = 1_000_000;

impl Domain {
    pub(super) fn vcpu_op(
        &self,
        memory: &impl GuestMemory,
        op: usize,
        vcpu: VcpuId,
        arg: usize,
    ) -> Result<usize, Errno> {
        self.vcpu(vcpu)?;
        let is_first = vcpu == VcpuId(0);
        match op {
            VCPUOP_IS_UP => Ok(usize::from(is_first)),
            // The first runs already; the others were never initialised.
            VCPUOP_UP if is_first => Ok(0),
            VCPUOP_UP => Err(Errno::EINVAL),
            // It is the last one that runs.
            VCPUOP_DOWN if is_first => Err(Errno::EBUSY),
            VCPUOP_DOWN => Ok(0),
            VCPUOP_INITIALISE if is_first => Err(Errno::EEXIST),
            VCPUOP_GET_RUNSTATE_INFO => {
                let now_ns = self.now_ns();
                let state = if is_first {
                    RunState::RUNNING
                } else {
                    RunState::OFFLINE
                };
                let mut info = VcpuRunstateInfo {
                    state,
                    ..VcpuRunstateInfo::default()
                };
                // All its time in one state; a nanosecond has passed always.
                info.time[state.0 as usize] = now_ns + 1;
                memory.copy_out(arg, info.as_bytes()).map(|()| 0)
            }
            VCPUOP_SET_PERIODIC_TIMER => {
                let timer: VcpuSetPeriodicTimer = read(memory, arg)?;
                if timer.period_ns < LEAST_PERIOD_NS {
                    return Err(Errno::EINVAL);
                }
                let mut state = self.lock();
                let next_ns = self
                    .xen
                    .0
                    .now_ns(&state.world)
                    .saturating_add(timer.period_ns);
                state.timers.periodic_ns = Some((next_ns, timer.period_ns));
                Ok(0)
            }
            VCPUOP_STOP_PERIODIC_TIMER => {
                self.lock().timers.periodic_ns = None;
                Ok(0)
            }
            // Only the vCPU that asks.
            VCPUOP_SET_SINGLESHOT_TIMER | VCPUOP_STOP_SINGLESHOT_TIMER if !is_first => {
                Err(Errno::EINVAL)
            }
            VCPUOP_SET_SINGLESHOT_TIMER => {
                let timer: VcpuSetSingleshotTimer = read(memory, arg)?;
                self.lock().timers.singleshot_ns = Some(timer.timeout_abs_ns);
                Ok(0)
            }
            VCPUOP_STOP_SINGLESHOT_TIMER => {
                self.lock().timers.singleshot_ns = None;
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    pub(super) fn set_timer(&self, timeout_ns: u64) -> Result<usize, Errno> {
        self.lock().timers.singleshot_ns = (timeout_ns != 0).then_some(timeout_ns);
        Ok(0)
    }
}
