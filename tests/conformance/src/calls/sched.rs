//! Calls of `sched_op`.

use hypercall_abi::{
    Errno, HypercallNr, Port,
    sched::{self, ShutdownReason},
};

use super::{Done, Fails, NOWHERE, Row, both, done, raw};

pub(super) const ROWS: &[Row] = &[
    both(
        "SCHEDOP_yield",
        "",
        |p| {
            sched::yield_now(p);
            Ok(())
        },
        Done,
    ),
    both(
        "SCHEDOP_poll",
        "a time that is over",
        |p| sched::poll(p, &[], Some(1)),
        Done,
    ),
    both(
        "SCHEDOP_poll",
        "128 ports",
        |p| sched::poll(p, &[Port(1); 128], Some(1)),
        Done,
    ),
    both(
        "SCHEDOP_poll",
        "129 ports",
        |p| sched::poll(p, &[Port(1); 129], Some(1)),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "SCHEDOP_poll",
        "a port out of range",
        |p| sched::poll(p, &[NOWHERE], Some(1)),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "SCHEDOP_poll",
        "null",
        |p| raw(p, HypercallNr::SCHED_OP, 3, 0),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "SCHEDOP_shutdown",
        "null",
        |p| raw(p, HypercallNr::SCHED_OP, 2, 0),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "SCHEDOP_shutdown_code",
        "",
        |p| sched::shutdown_code(p, ShutdownReason::POWEROFF),
        Done,
    ),
    both(
        "SCHEDOP_watchdog",
        "start and stop",
        |p| {
            let id = sched::watchdog(p, 0, 60)?;
            done(sched::watchdog(p, id, 0))
        },
        Done,
    ),
    both(
        "SCHEDOP_watchdog",
        "one that is not",
        |p| done(sched::watchdog(p, 77, 1)),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "SCHEDOP_*",
        "unknown",
        |p| raw(p, HypercallNr::SCHED_OP, 99, 0),
        Fails(&[Errno::ENOSYS]),
    ),
];
