//! Calls of the interface before 3.2, which PV guests still have.

use hypercall_abi::{
    DomId, Errno, HypercallNr, Port,
    event_channel::{self, EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_RESET, EvtchnOp},
    physdev::{PHYSDEVOP_SET_IOPL, PhysdevOp},
    sched::{SCHEDOP_POLL, SCHEDOP_YIELD},
};
use zerocopy::FromZeros;

use super::{Answer, Done, Fails, NOT_HVM, P, Row, check, raw, split};

/// A call whose subop and argument lie at an address.
fn at<T>(p: &P, nr: HypercallNr, op: &mut T) -> Answer {
    raw(p, nr, core::ptr::from_mut(op).expose_provenance(), 0)
}

pub(super) const ROWS: &[Row] = &[
    split(
        "sched_op_compat",
        "yield",
        |p| raw(p, HypercallNr::SCHED_OP_COMPAT, SCHEDOP_YIELD, 0),
        Done,
        NOT_HVM,
    ),
    split(
        "sched_op_compat",
        "poll",
        |p| raw(p, HypercallNr::SCHED_OP_COMPAT, SCHEDOP_POLL, 0),
        Fails(&[Errno::ENOSYS]),
        NOT_HVM,
    ),
    split(
        "event_channel_op_compat",
        "a new port",
        |p| {
            let mut op = EvtchnOp::new_zeroed();
            op.cmd = EVTCHNOP_ALLOC_UNBOUND as u32;
            // Of this domain, for domain 0; the port comes behind.
            op.u[0] = u32::from(DomId::SELF.0);
            op.u[1] = u32::MAX;
            at(p, HypercallNr::EVENT_CHANNEL_OP_COMPAT, &mut op)?;
            let port = Port(op.u[1]);
            let remote = event_channel::status(p, port)?.unbound();
            event_channel::close(p, port)?;
            check(remote == Some(DomId(0)))
        },
        Done,
        NOT_HVM,
    ),
    split(
        "event_channel_op_compat",
        "what came later",
        |p| {
            let mut op = EvtchnOp::new_zeroed();
            op.cmd = EVTCHNOP_RESET as u32;
            at(p, HypercallNr::EVENT_CHANNEL_OP_COMPAT, &mut op)
        },
        Fails(&[Errno::ENOSYS]),
        NOT_HVM,
    ),
    split(
        "event_channel_op_compat",
        "null",
        |p| raw(p, HypercallNr::EVENT_CHANNEL_OP_COMPAT, 0, 0),
        Fails(&[Errno::EFAULT]),
        NOT_HVM,
    ),
    split(
        "physdev_op_compat",
        "a level of ports",
        |p| {
            let mut op = PhysdevOp::new_zeroed();
            op.cmd = PHYSDEVOP_SET_IOPL as u32;
            // The level that a PV kernel starts with.
            op.u[0] = 0;
            at(p, HypercallNr::PHYSDEV_OP_COMPAT, &mut op)?;
            op.u[0] = 4;
            let refused = at(p, HypercallNr::PHYSDEV_OP_COMPAT, &mut op);
            check(refused == Err(Errno::EINVAL))
        },
        Done,
        NOT_HVM,
    ),
    split(
        "physdev_op_compat",
        "null",
        |p| raw(p, HypercallNr::PHYSDEV_OP_COMPAT, 0, 0),
        Fails(&[Errno::EFAULT]),
        NOT_HVM,
    ),
];
