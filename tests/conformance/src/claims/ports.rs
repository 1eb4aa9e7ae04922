//! Ports as Xen hands them out, without anything on top.

use hypercall_abi::{
    DomId, Errno, Port, VcpuId,
    event_channel::{self, ChannelStatus},
    platform::{Clock, Park},
    sched,
    xen::Virq,
};
use pv_guest::Guest;

use crate::claim::{Group, Verdict, claims, ensure, on_xen, refused, same};

pub(super) const GROUP: Group = Group {
    name: "ports",
    claims: claims! {
        on_xen(ports_open_and_close_once): "event_channel.h: EVTCHNOP_close",
        on_xen(port_for_self_tells_the_domain): "event_channel.h: EVTCHNOP_status",
        on_xen(send_on_a_closed_port_is_einval): "event_channel.h: EVTCHNOP_send",
        on_xen(a_port_that_was_closed_sends_nothing): "event_channel.h: EVTCHNOP_send",
        on_xen(a_virtual_interrupt_is_bound_once): "event_channel.h: EVTCHNOP_bind_virq",
        on_xen(a_closed_port_is_given_out_again): "event_channel.h: EVTCHNOP_close",
        on_xen(status_tells_what_a_port_is): "event_channel.h: EVTCHNOP_status",
        on_xen(an_interrupt_between_vcpus_stays_where_it_is): "event_channel.h: EVTCHNOP_bind_vcpu",
        on_xen(poll_wakes_at_its_deadline): "sched.h: SCHEDOP_poll",
    },
};

/// `EVTCHNOP_alloc_unbound`, `EVTCHNOP_close`, event_channel.h.
fn ports_open_and_close_once(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let Ok(port) = event_channel::alloc_unbound(platform, DomId(0)) else {
        return Err("no port".into());
    };
    let first = event_channel::close(platform, port);
    let second = event_channel::close(platform, port);
    ensure(
        first.is_ok() && second == Err(Errno::EINVAL),
        "a port does not close exactly once",
    )
}

/// `EVTCHNOP_status` of a port offered to `DOMID_SELF`, event_channel.h.
fn port_for_self_tells_the_domain(guest: &Guest) -> Verdict {
    match guest.domid() {
        Ok(domid) => ensure(
            domid.0 != 0 && domid < DomId::FIRST_RESERVED,
            "an impossible domain",
        ),
        Err(_) => Err("no answer".into()),
    }
}

/// `EVTCHNOP_send`, event_channel.h.
fn send_on_a_closed_port_is_einval(guest: &Guest) -> Verdict {
    ensure(
        event_channel::send(guest.platform(), Port(4000)) == Err(Errno::EINVAL),
        "another answer than EINVAL",
    )
}

/// `SCHEDOP_poll` with a timeout, sched.h.
fn poll_wakes_at_its_deadline(guest: &Guest) -> Verdict {
    const WAIT_NS: u64 = 5_000_000;
    let platform = guest.platform();
    let Ok(port) = event_channel::alloc_unbound(platform, DomId(0)) else {
        return Err("no port".into());
    };
    let until = platform.now_ns() + WAIT_NS;
    // A poll may end early when the vCPU is kicked for another reason.
    let mut naps = 0;
    while platform.now_ns() < until && naps < 100 {
        platform.park(&[port], Some(until));
        naps += 1;
    }
    let now = platform.now_ns();
    let polled = sched::poll(platform, &[port], Some(now));
    let closed = event_channel::close(platform, port);
    if now < until {
        return Err("it woke early, a hundred times".into());
    }
    if polled.is_err() {
        return Err("a deadline in the past was refused".into());
    }
    ensure(closed.is_ok(), "the port does not close")
}

fn a_port_that_was_closed_sends_nothing(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let port = event_channel::alloc_unbound(platform, DomId(0))?;
    event_channel::send(platform, port)?;
    event_channel::close(platform, port)?;
    refused(event_channel::send(platform, port), Errno::EINVAL)
}

fn a_virtual_interrupt_is_bound_once(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let port = event_channel::bind_virq(platform, Virq::DEBUG, VcpuId(0))?;
    let again = event_channel::bind_virq(platform, Virq::DEBUG, VcpuId(0));
    event_channel::close(platform, port)?;
    refused(again, Errno::EEXIST)
}

/// The lowest number that is free.
fn a_closed_port_is_given_out_again(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let first = event_channel::alloc_unbound(platform, DomId(0))?;
    let second = event_channel::alloc_unbound(platform, DomId(0))?;
    event_channel::close(platform, first)?;
    let third = event_channel::alloc_unbound(platform, DomId(0))?;
    event_channel::close(platform, second)?;
    event_channel::close(platform, third)?;
    same(third, first)
}

fn status_tells_what_a_port_is(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let ipi = event_channel::bind_ipi(platform, VcpuId(0))?;
    let told = event_channel::status(platform, ipi)?;
    event_channel::close(platform, ipi)?;
    same(told.status, ChannelStatus::IPI)?;
    same(told.vcpu, VcpuId(0))?;
    let told = event_channel::status(platform, ipi)?;
    same(told.status, ChannelStatus::CLOSED)
}

fn an_interrupt_between_vcpus_stays_where_it_is(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let ipi = event_channel::bind_ipi(platform, VcpuId(0))?;
    let moved = event_channel::bind_vcpu(platform, ipi, VcpuId(0));
    event_channel::close(platform, ipi)?;
    refused(moved, Errno::EINVAL)
}
