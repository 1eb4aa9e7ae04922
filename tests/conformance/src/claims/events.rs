//! Event channels: `event_channel.h`.

use core::{future::poll_fn, task::Poll, time::Duration};

use event_channels::{Channel, Ports, Wait};
use hypercall_abi::{
    DomId, Port, VcpuId, event_channel, peer_field,
    platform::Clock,
    sched,
    vcpu::{self, SingleshotFlags},
    xen::{SharedInfo, VcpuInfo, Virq},
};
use pv_guest::{Current, Guest, executor::block_on, sync::UpcallMutex, time};

use crate::claim::{Group, NO_XEN, Stop, Verdict, WAIT_NS, claims, ensure, on_xen, skip};

mod order;

use order::{
    a_new_port_has_the_usual_priority, a_poll_looks_at_all_its_ports,
    a_port_beyond_the_array_rings_when_it_grows, an_unmask_of_an_unmasked_port_makes_no_upcall,
    an_unmasked_event_comes_once, events_come_by_priority,
    events_come_in_the_order_in_which_they_were_sent, what_was_taken_is_told_no_more,
};

pub(super) const GROUP: Group = Group {
    name: "events",
    claims: claims! {
        on_ports(channels_carry_events): "event_channel.h: EVTCHNOP_send",
        on_ports(closed_channels_carry_none): "event_channel.h: EVTCHNOP_close",
        on_ports(masked_events_stay_pending): "event_channel.h: EVTCHNOP_unmask",
        on_xen(a_masked_event_makes_no_upcall): "xen.h: vcpu_info, evtchn_upcall_pending",
        on_xen(an_upcall_is_held_back_until_it_may_come): "xen.h: vcpu_info, evtchn_upcall_mask",
        on_ports(upcalls_wake_who_waits): "xen.h: vcpu_info, evtchn_upcall_pending",
        on_ports(upcalls_come_once_an_event): "xen.h: shared_info, evtchn_pending",
        on_ports(events_come_by_priority): "event_channel.h: EVTCHNOP_set_priority",
        on_ports(events_come_in_the_order_in_which_they_were_sent): "event_channel.h: EVTCHN_FIFO_LINKED",
        on_ports(a_new_port_has_the_usual_priority): "event_channel.h: EVTCHN_FIFO_PRIORITY_DEFAULT",
        on_ports(an_unmasked_event_comes_once): "event_channel.h: EVTCHNOP_unmask",
        on_xen(an_unmask_of_an_unmasked_port_makes_no_upcall): "event_channel.h: EVTCHNOP_unmask",
        on_xen(what_was_taken_is_told_no_more): "xen.h: vcpu_info, evtchn_upcall_pending",
        on_ports(a_port_beyond_the_array_rings_when_it_grows): "event_channel.h: EVTCHNOP_expand_array",
        on_ports(hundreds_of_ports_all_ring): "event_channel.h: EVTCHNOP_expand_array",
        on_ports(a_new_port_is_quiet): "event_channel.h: EVTCHNOP_close",
        on_ports(a_new_channel_rings_once): "event_channel.h: EVTCHNOP_bind_interdomain",
        on_ports(a_poll_ends_for_a_masked_port): "sched.h: SCHEDOP_poll",
        on_ports(a_poll_looks_at_all_its_ports): "sched.h: SCHEDOP_poll",
        on_ports(a_stray_port_does_no_harm): "event_channel.h: EVTCHNOP_send",
        on_ports(timer_rings_at_its_time): "vcpu.h: VCPUOP_set_singleshot_timer",
    },
};

type Table = &'static Ports<Current>;

fn on_ports(guest: &Guest, claim: fn(Table) -> Verdict) -> Verdict {
    match guest.ports() {
        Ok(ports) => claim(ports),
        Err(_) => skip(NO_XEN),
    }
}

fn soon(ports: Table) -> Option<u64> {
    Some(ports.platform().now_ns() + WAIT_NS)
}

/// A port that rings when it is told to.
fn bell(ports: Table) -> Result<Channel<'static, Current>, &'static str> {
    Channel::ipi(ports, VcpuId(0)).map_err(|_| "no port for this vCPU")
}

/// Both ends of a channel.
fn channels_carry_events(ports: Table) -> Verdict {
    let offered = Channel::unbound(ports, DomId::SELF).map_err(|_| "no port")?;
    let bound = Channel::interdomain(ports, DomId::SELF, offered.port())
        .map_err(|_| "an offered port cannot be bound")?;
    ensure(
        bound.wait_blocking(soon(ports)) == Wait::Event,
        "a new channel is not pending",
    )?;
    ensure(
        !offered.is_pending(),
        "the offered end is pending before an event",
    )?;
    for (from, to) in [(&bound, &offered), (&offered, &bound)] {
        from.notify().map_err(|_| "it cannot be sent on")?;
        ensure(
            to.wait_blocking(soon(ports)) == Wait::Event,
            "an event is lost",
        )?;
        ensure(
            !to.is_pending() && !from.is_pending(),
            "an event comes twice, or to its sender",
        )?;
    }
    Ok(())
}

/// `EVTCHNOP_close`.
fn closed_channels_carry_none(ports: Table) -> Verdict {
    let offered = Channel::unbound(ports, DomId::SELF).map_err(|_| "no port")?;
    let bound = Channel::interdomain(ports, DomId::SELF, offered.port());
    drop(bound);
    order::is_offered_again(ports, offered.port())?;
    // Xen lets the other end stay, unbound again; events go nowhere.
    offered
        .notify()
        .map_err(|_| "an unbound port cannot be sent on")?;
    let deadline = ports.platform().now_ns() + 1_000_000;
    ensure(
        offered.wait_blocking(Some(deadline)) == Wait::Deadline,
        "an event of a closed channel came",
    )
}

/// `EVTCHNOP_unmask`.
fn masked_events_stay_pending(ports: Table) -> Verdict {
    let bell = bell(ports)?;
    bell.mask();
    bell.notify().map_err(|_| "it cannot be sent on")?;
    ensure(bell.events() == 0, "a masked port made an upcall")?;
    ensure(bell.is_pending(), "a masked port is not pending")?;
    bell.unmask().map_err(|_| "a port cannot be unmasked")?;
    ensure(bell.events() == 1, "unmasking made no upcall")?;
    ensure(bell.take(), "the event is lost")
}

/// Whether Xen wants to tell the guest something.
fn upcall_pending(guest: &Guest) -> Result<bool, Stop> {
    // SAFETY: it is only read.
    let shared = unsafe { guest.shared_info() }.ok_or("no shared page")?;
    let vcpus = peer_field!(shared, SharedInfo, vcpu_info);
    let vcpu = vcpus.get(0).ok_or("no vCPU")?;
    let word = peer_field!(vcpu, VcpuInfo, evtchn_upcall_pending);
    Ok(word.load_acquire().trust() != 0)
}

/// Not even one that finds nothing.
fn a_masked_event_makes_no_upcall(guest: &Guest) -> Verdict {
    let bell = bell(guest.ports()?)?;
    bell.mask();
    let lock = UpcallMutex::new(());
    // Others may ring meanwhile: not each time.
    for _ in 0..20 {
        bell.take();
        let held = lock.lock();
        let before = upcall_pending(guest)?;
        bell.notify().map_err(|_| "it cannot be sent on")?;
        let after = upcall_pending(guest)?;
        drop(held);
        if !before && !after {
            return Ok(());
        }
    }
    Err("each of twenty made one".into())
}

fn an_upcall_is_held_back_until_it_may_come(guest: &Guest) -> Verdict {
    let bell = bell(guest.ports()?)?;
    bell.unmask().map_err(|_| "a port cannot be unmasked")?;
    let lock = UpcallMutex::new(());
    let held = lock.lock();
    bell.notify().map_err(|_| "it cannot be sent on")?;
    let (told, events) = (upcall_pending(guest)?, bell.events());
    drop(held);
    ensure(told, "it is not told that there is one")?;
    ensure(events == 0, "it came although it was held back")?;
    ensure(bell.events() == 1, "it did not come")
}

/// `evtchn_upcall_pending`, xen.h.
fn upcalls_wake_who_waits(ports: Table) -> Verdict {
    let bell = bell(ports)?;
    let deadline = Duration::from_nanos(WAIT_NS);
    block_on(async {
        for _ in 0..100 {
            // It rings while it is waited for.
            let mut rung = false;
            let ring = poll_fn(|cx| {
                if bell.poll_wait(cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                if !core::mem::replace(&mut rung, true) && bell.notify().is_err() {
                    return Poll::Ready(Err("it cannot be sent on"));
                }
                Poll::Pending
            });
            time::timeout(deadline, ring)
                .await
                .map_err(|_| "no upcall came")??;
        }
        ensure(bell.events() >= 100, "the upcalls were not counted")
    })
}

/// A port that is pending makes no second upcall.
fn upcalls_come_once_an_event(ports: Table) -> Verdict {
    let bell = bell(ports)?;
    bell.unmask().map_err(|_| "a port cannot be unmasked")?;
    for _ in 0..10 {
        bell.notify().map_err(|_| "it cannot be sent on")?;
    }
    ensure(bell.events() == 1, "not one upcall for ten events")?;
    ensure(bell.take(), "the event is lost")?;
    ensure(!bell.take(), "the event came twice")
}

/// More than a word of bits, or a link of a queue.
fn hundreds_of_ports_all_ring(ports: Table) -> Verdict {
    const PORTS: usize = 300;
    let mut bells = [const { None }; PORTS];
    for slot in &mut bells {
        *slot = Some(bell(ports)?);
    }
    for round in 1..=2 {
        for bell in bells.iter().flatten() {
            bell.unmask().map_err(|_| "a port cannot be unmasked")?;
        }
        for bell in bells.iter().rev().flatten() {
            bell.notify().map_err(|_| "it cannot be sent on")?;
        }
        for bell in bells.iter().flatten() {
            ensure(bell.events() == round, "a port did not ring once")?;
            ensure(bell.take(), "an event is lost")?;
        }
    }
    // Each alone: nothing that another was told leads to it.
    for bell in bells.iter().flatten() {
        bell.unmask().map_err(|_| "a port cannot be unmasked")?;
        bell.notify().map_err(|_| "it cannot be sent on")?;
        ensure(bell.events() == 3, "a port that rings alone does not ring")?;
        bell.take();
    }
    Ok(())
}

/// Whether a port is pending, by Xen's word alone: a poll of it ends at once.
fn polls_as_pending(ports: Table, port: Port) -> Result<bool, Stop> {
    const NAP_NS: u64 = 50_000_000;
    let platform = ports.platform();
    // It may end early for another reason: once, not each time.
    for _ in 0..4 {
        let start = platform.now_ns();
        sched::poll(platform, &[port], Some(start + NAP_NS))?;
        // The clocks of two processors differ by less than half.
        if platform.now_ns() - start > NAP_NS / 2 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whatever the port that had its number before left behind.
fn a_new_port_is_quiet(ports: Table) -> Verdict {
    let first = bell(ports)?;
    first.mask();
    first.notify().map_err(|_| "it cannot be sent on")?;
    let port = first.port();
    ensure(
        polls_as_pending(ports, port)?,
        "a masked port is not pending",
    )?;
    drop(first);
    let next = event_channel::bind_ipi(ports.platform(), VcpuId(0))?;
    let pending = polls_as_pending(ports, next)?;
    event_channel::close(ports.platform(), next)?;
    ensure(next == port, "another number was given out")?;
    ensure(!pending, "it is pending from the start")
}

/// The end that binds may have missed an event: it is told so.
fn a_new_channel_rings_once(ports: Table) -> Verdict {
    let offered = Channel::unbound(ports, DomId::SELF).map_err(|_| "no port")?;
    let before = ports.spurious();
    let platform = ports.platform();
    let bound = event_channel::bind_interdomain(platform, DomId::SELF, offered.port())?;
    // An upcall has taken it already, unless whoever had the number before left
    // it masked.
    let rang = ports.spurious() > before || polls_as_pending(ports, bound)?;
    event_channel::close(platform, bound)?;
    ensure(rang, "it did not ring")
}

fn a_poll_ends_for_a_masked_port(ports: Table) -> Verdict {
    let bell = bell(ports)?;
    bell.mask();
    bell.notify().map_err(|_| "it cannot be sent on")?;
    let platform = ports.platform();
    let start = platform.now_ns();
    sched::poll(platform, &[bell.port()], Some(start + WAIT_NS))?;
    ensure(
        platform.now_ns() < start + WAIT_NS / 2,
        "it slept although a port is pending",
    )
}

/// A port that nobody has.
fn a_stray_port_does_no_harm(ports: Table) -> Verdict {
    let platform = ports.platform();
    let port = event_channel::bind_ipi(platform, VcpuId(0)).map_err(|_| "no port")?;
    let before = ports.spurious();
    for _ in 0..10 {
        event_channel::send(platform, port).map_err(|_| "it cannot be sent on")?;
    }
    event_channel::close(platform, port).map_err(|_| "it cannot be closed")?;
    // It may have been masked by one that had its number before.
    ensure(ports.spurious() - before <= 1, "it rang more than once")
}

/// A timer that rings later is late.
const LATE_NS: u64 = 100_000_000;
/// The most that the clocks of two processors may differ.
const SKEW_NS: u64 = 1_000_000;

/// `VIRQ_TIMER`, xen.h, and `VCPUOP_set_singleshot_timer`, vcpu.h.
fn timer_rings_at_its_time(ports: Table) -> Verdict {
    let platform = ports.platform();
    let Ok(timer) = Channel::virq(ports, Virq::TIMER, VcpuId(0)) else {
        // The guest's own sleeps have it: they must be as exact.
        let at_ns = platform.now_ns() + 2_000_000;
        block_on(time::sleep_until(at_ns));
        return ensure(platform.now_ns() >= at_ns, "it rang early");
    };
    let mut least_late_ns = u64::MAX;
    for after_ns in [2_000_000, 0, 3_000_000, 4_000_000, 5_000_000] {
        let at_ns = platform.now_ns() + after_ns;
        vcpu::set_singleshot_timer(platform, VcpuId(0), at_ns, SingleshotFlags::empty())
            .map_err(|_| "the timer cannot be set")?;
        ensure(
            timer.wait_blocking(Some(at_ns + WAIT_NS)) == Wait::Event,
            "it did not ring",
        )?;
        // By the clock of the processor that had the timer, which may be ahead
        // of that of the processor that the guest wakes on.
        let now_ns = platform.now_ns();
        ensure(now_ns + SKEW_NS >= at_ns, "it rang early")?;
        least_late_ns = least_late_ns.min(now_ns.saturating_sub(at_ns));
    }
    // On a busy machine, one or the other is late; not all of them.
    ensure(least_late_ns < LATE_NS, "it rings late each time")
}
