//! Calls of the interface before 3.2, which PV guests still have: their subop, or
//! their argument, lies elsewhere.

use core::mem::offset_of;

use hypercall_abi::{
    Errno,
    event_channel::{
        EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_PIRQ,
        EVTCHNOP_BIND_VCPU, EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE, EVTCHNOP_SEND, EVTCHNOP_STATUS,
        EVTCHNOP_UNMASK, EvtchnOp,
    },
    physdev::PhysdevOp,
    sched::{SCHEDOP_BLOCK, SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, ShutdownReason},
};

use super::{Call, read};
use crate::core::memory::GuestMemory;

/// The subops of `event_channel_op_compat`: those that there were then.
const EVENT_OPS: [usize; 10] = [
    EVTCHNOP_BIND_INTERDOMAIN,
    EVTCHNOP_BIND_VIRQ,
    EVTCHNOP_BIND_PIRQ,
    EVTCHNOP_CLOSE,
    EVTCHNOP_SEND,
    EVTCHNOP_STATUS,
    EVTCHNOP_ALLOC_UNBOUND,
    EVTCHNOP_BIND_IPI,
    EVTCHNOP_BIND_VCPU,
    EVTCHNOP_UNMASK,
];

impl Call<'_> {
    /// `sched_op_compat`: the reason of a shutdown is the argument itself.
    pub(super) fn sched_op_compat(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
        start_info: usize,
    ) -> Result<usize, Errno> {
        match op {
            SCHEDOP_YIELD | SCHEDOP_BLOCK => self.sched_op(memory, op, 0, start_info),
            SCHEDOP_SHUTDOWN => self.shut_down(ShutdownReason(arg as u32), start_info),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// `event_channel_op_compat`: the subop lies before the argument.
    pub(super) fn event_channel_op_compat(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
    ) -> Result<usize, Errno> {
        let told: EvtchnOp = read(memory, op)?;
        let subop = told.cmd as usize;
        if !EVENT_OPS.contains(&subop) {
            return Err(Errno::ENOSYS);
        }
        self.event_channel_op(memory, subop, op.wrapping_add(offset_of!(EvtchnOp, u)))
    }

    /// `physdev_op_compat`: the same.
    pub(super) fn physdev_op_compat(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
    ) -> Result<usize, Errno> {
        let told: PhysdevOp = read(memory, op)?;
        let argument = op.wrapping_add(offset_of!(PhysdevOp, u));
        self.physdev_op(memory, told.cmd as usize, argument)
    }
}
