//! Calls of `event_channel_op`.

use event_channels::Interface;
use hypercall_abi::{
    DomId, Errno, Gfn, HypercallNr, Port,
    event_channel::{self, BindPirqFlags, ChannelStatus, EVTCHNOP_STATUS, EvtchnStatus},
    xen::Virq,
};

use pv_guest::Guest;

use super::{
    Answer, CLOSED, Chosen, Done, Fails, NO_DOMAIN, NO_VCPU, NOWHERE, P, Row, VCPU, both, check,
    done, raw, split,
};

pub(super) const ROWS: &[Row] = &[
    both(
        "EVTCHNOP_alloc_unbound",
        "",
        |p| with_port(p, |_| Ok(())),
        Done,
    ),
    both(
        "EVTCHNOP_alloc_unbound",
        "null",
        |p| raw(p, HypercallNr::EVENT_CHANNEL_OP, 6, 0),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "EVTCHNOP_bind_interdomain",
        "to oneself",
        |p| {
            with_port(p, |port| {
                let bound = event_channel::bind_interdomain(p, DomId::SELF, port)?;
                let status = event_channel::status(p, bound)?.interdomain();
                event_channel::close(p, bound)?;
                check(status.is_some_and(|other| other.port == port))
            })
        },
        Done,
    ),
    both(
        "EVTCHNOP_bind_interdomain",
        "a closed port",
        |p| done(event_channel::bind_interdomain(p, DomId(0), CLOSED)),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "EVTCHNOP_bind_interdomain",
        "no domain",
        |p| done(event_channel::bind_interdomain(p, NO_DOMAIN, Port(1))),
        Fails(&[Errno::ESRCH]),
    ),
    both(
        "EVTCHNOP_bind_virq",
        "debug",
        |p| {
            let port = event_channel::bind_virq(p, Virq::DEBUG, VCPU)?;
            let status = event_channel::status(p, port)?;
            event_channel::close(p, port)?;
            check(status.status == ChannelStatus::VIRQ && status.interrupt() == Some(Virq::DEBUG.0))
        },
        Done,
    ),
    both(
        "EVTCHNOP_bind_virq",
        "no such interrupt",
        |p| done(event_channel::bind_virq(p, Virq(99), VCPU)),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "EVTCHNOP_bind_virq",
        "no such vCPU",
        |p| done(event_channel::bind_virq(p, Virq::TIMER, NO_VCPU)),
        Fails(&[Errno::ENOENT]),
    ),
    split(
        "EVTCHNOP_bind_pirq",
        "not given",
        |p| {
            let port = event_channel::bind_pirq(p, 9, BindPirqFlags::empty())?;
            let told = event_channel::status(p, port)?;
            event_channel::close(p, port)?;
            check(told.status == ChannelStatus::PIRQ && told.interrupt() == Some(9))
        },
        Fails(&[Errno::EPERM]),
        // It has the interrupt, of a device that is not there.
        Done,
    ),
    both(
        "EVTCHNOP_bind_ipi",
        "",
        |p| {
            let port = event_channel::bind_ipi(p, VCPU)?;
            event_channel::close(p, port)
        },
        Done,
    ),
    both(
        "EVTCHNOP_bind_ipi",
        "no such vCPU",
        |p| done(event_channel::bind_ipi(p, NO_VCPU)),
        Fails(&[Errno::ENOENT]),
    ),
    both(
        "EVTCHNOP_close",
        "a closed port",
        |p| event_channel::close(p, CLOSED),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "EVTCHNOP_close",
        "a port out of range",
        |p| event_channel::close(p, NOWHERE),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "EVTCHNOP_send",
        "",
        |p| with_port(p, |port| event_channel::send(p, port)),
        Done,
    ),
    both(
        "EVTCHNOP_send",
        "a closed port",
        |p| event_channel::send(p, CLOSED),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "EVTCHNOP_send",
        "null",
        |p| raw(p, HypercallNr::EVENT_CHANNEL_OP, 4, 0),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "EVTCHNOP_status",
        "",
        |p| {
            with_port(p, |port| {
                check(event_channel::status(p, port)?.unbound().is_some())
            })
        },
        Done,
    ),
    both(
        "EVTCHNOP_status",
        "a closed port",
        |p| {
            let port = event_channel::alloc_unbound(p, DomId::SELF)?;
            event_channel::close(p, port)?;
            check(event_channel::status(p, port)?.status == ChannelStatus::CLOSED)
        },
        Done,
    ),
    both(
        "EVTCHNOP_status",
        "a port out of range",
        |p| done(event_channel::status(p, NOWHERE)),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "EVTCHNOP_status",
        "another's",
        |p| {
            let mut told = EvtchnStatus {
                dom: DomId(0),
                port: Port(1),
                ..EvtchnStatus::default()
            };
            let address = (&raw mut told).expose_provenance();
            raw(p, HypercallNr::EVENT_CHANNEL_OP, EVTCHNOP_STATUS, address)
        },
        Fails(&[Errno::EPERM]),
    ),
    both(
        "EVTCHNOP_bind_vcpu",
        "",
        |p| with_port(p, |port| event_channel::bind_vcpu(p, port, VCPU)),
        Done,
    ),
    both(
        "EVTCHNOP_bind_vcpu",
        "no such vCPU",
        |p| with_port(p, |port| event_channel::bind_vcpu(p, port, NO_VCPU)),
        Fails(&[Errno::ENOENT]),
    ),
    both(
        "EVTCHNOP_bind_vcpu",
        "a closed port",
        |p| event_channel::bind_vcpu(p, CLOSED, VCPU),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "EVTCHNOP_unmask",
        "",
        |p| with_port(p, |port| event_channel::unmask(p, port)),
        Done,
    ),
    both(
        "EVTCHNOP_unmask",
        "a port out of range",
        |p| event_channel::unmask(p, NOWHERE),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "EVTCHNOP_init_control",
        "an odd place",
        |p| {
            // SAFETY: no such place: nothing comes of it.
            done(unsafe { event_channel::init_control(p, Gfn(0), 1, VCPU) })
        },
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "EVTCHNOP_init_control",
        "no such vCPU",
        |p| {
            // SAFETY: as above.
            done(unsafe { event_channel::init_control(p, Gfn(0), 0, NO_VCPU) })
        },
        Fails(&[Errno::ENOENT]),
    ),
    both(
        "EVTCHNOP_expand_array",
        "no such frame",
        |p| {
            // SAFETY: there is no such frame: nothing comes of it.
            unsafe { event_channel::expand_array(p, Gfn(1 << 40)) }
        },
        Chosen(|guest| match has_queues(guest) {
            true => Fails(&[Errno::EINVAL]),
            false => Fails(&[Errno::EOPNOTSUPP]),
        }),
    ),
    both(
        "EVTCHNOP_set_priority",
        "the highest",
        |p| with_port(p, |port| event_channel::set_priority(p, port, 0)),
        // Ports of the 2-level interface have none.
        Chosen(|guest| match has_queues(guest) {
            true => Done,
            false => Fails(&[Errno::ENOSYS]),
        }),
    ),
    both(
        "EVTCHNOP_*",
        "unknown",
        |p| raw(p, HypercallNr::EVENT_CHANNEL_OP, 99, 0),
        Fails(&[Errno::ENOSYS]),
    ),
];

/// Whether the guest chose the FIFO interface.
fn has_queues(guest: &Guest) -> bool {
    guest
        .ports()
        .is_ok_and(|ports| ports.interface() == Interface::Fifo)
}

/// Does something with a fresh port for this domain, and closes it.
fn with_port(p: &P, run: impl FnOnce(Port) -> Answer) -> Answer {
    let port = event_channel::alloc_unbound(p, DomId::SELF)?;
    let answer = run(port);
    event_channel::close(p, port)?;
    answer
}
