//! vCPUs: which there are, how they start and stop, and how they reach each other.

use alloc::boxed::Box;
use core::{cell::UnsafeCell, mem::MaybeUninit, time::Duration};

use event_channels::Channel;
use hypercall_abi::{
    Errno, Port, VcpuId,
    event_channel::{self, ChannelStatus},
    peer::PeerPtr,
    peer_field,
    platform::{Clock, Pages},
    vcpu::{self, RunState, VcpuRunstateInfo, VcpuState},
    xen::{SharedInfo, VcpuGuestContext, VcpuInfo, Virq},
};
use pv_guest::{Guest, GuestType, executor::block_on, time};

use crate::{
    claim::{Group, Verdict, claims, ensure, on_xen, refused, same, skip},
    second::{self, Order, PATIENCE_NS, SECOND},
};

pub(super) const GROUP: Group = Group {
    name: "vcpus",
    claims: claims! {
        on_xen(first_vcpu_is_up): "vcpu.h: VCPUOP_is_up",
        on_xen(absent_vcpu_is_enoent): "vcpu.h: VCPUOP_is_up",
        on_xen(the_first_is_initialised_already): "vcpu.h: VCPUOP_initialise",
        with_two(another_starts_down): "vcpu.h: VCPUOP_is_up",
        with_two(without_a_start_none_comes_up): "vcpu.h: VCPUOP_up",
        with_two(one_starts_where_it_was_told): "vcpu.h: VCPUOP_initialise",
        with_two(one_is_initialised_once): "vcpu.h: VCPUOP_initialise",
        with_two(one_goes_on_where_it_went_down): "vcpu.h: VCPUOP_down",
        with_two(one_that_is_down_is_offline): "vcpu.h: RUNSTATE_offline",
        with_two(an_event_wakes_another): "event_channel.h: EVTCHNOP_bind_ipi",
        with_two(an_event_is_told_to_the_one_that_has_its_port): "xen.h: vcpu_info, evtchn_upcall_pending",
        with_two(an_event_comes_from_another): "event_channel.h: EVTCHNOP_bind_ipi",
        with_two(a_port_moves_to_another): "event_channel.h: EVTCHNOP_bind_vcpu",
        with_two(a_timer_is_set_by_its_own_only): "vcpu.h: VCPUOP_set_singleshot_timer",
        with_two(one_that_is_up_is_not_started_again): "vcpu.h: VCPUOP_up",
        with_two(a_timers_port_stays_at_its_vcpu): "event_channel.h: EVTCHNOP_bind_vcpu",
        on_xen(a_sleep_is_no_running_time): "vcpu.h: RUNSTATE_running",
        on_xen(run_times_are_told_where_they_are_wanted): "vcpu.h: VCPUOP_register_runstate_memory_area",
        with_two(ones_words_move_once): "vcpu.h: VCPUOP_register_vcpu_info",
    },
};

/// Claims of guests with a second vCPU.
fn with_two(guest: &Guest, test: fn(&Guest) -> Verdict) -> Verdict {
    on_xen(guest, |guest| match guest.vcpus().total {
        0 | 1 => skip("the guest has one vCPU"),
        _ => Ok(()),
    })?;
    test(guest)
}

/// `VCPUOP_is_up`, vcpu.h.
fn first_vcpu_is_up(guest: &Guest) -> Verdict {
    ensure(
        vcpu::state(guest.platform(), VcpuId(0)) == Ok(VcpuState::Up),
        "it is not up",
    )
}

/// `VCPUOP_is_up` of a vCPU that is not there, vcpu.h.
fn absent_vcpu_is_enoent(guest: &Guest) -> Verdict {
    ensure(
        vcpu::state(guest.platform(), VcpuId(5000)) == Err(Errno::ENOENT),
        "another answer than ENOENT",
    )
}

fn the_first_is_initialised_already(guest: &Guest) -> Verdict {
    refused(initialise_again(guest, VcpuId(0)), Errno::EEXIST)
}

/// Initialises a vCPU that is initialised already, by the structure that Xen reads of such
/// a guest: that of a PV guest is several times as large, and all of it must be there.
fn initialise_again(guest: &Guest, vcpu: VcpuId) -> Result<(), Errno> {
    let platform = guest.platform();
    if guest.guest_type() == GuestType::Pv {
        let mut context = Box::<VcpuGuestContext>::default();
        // SAFETY: nothing comes of it.
        unsafe { vcpu::initialise_pv(platform, vcpu, &mut context) }
    } else {
        // SAFETY: nothing comes of it.
        unsafe { vcpu::initialise_hvm(platform, vcpu, &mut Default::default()) }
    }
}

fn another_starts_down(guest: &Guest) -> Verdict {
    same(vcpu::state(guest.platform(), SECOND)?, VcpuState::Down)
}

fn without_a_start_none_comes_up(guest: &Guest) -> Verdict {
    // SAFETY: it has no code to run.
    refused(unsafe { vcpu::up(guest.platform(), SECOND) }, Errno::EINVAL)
}

/// In its code, with its argument.
fn one_starts_where_it_was_told(guest: &Guest) -> Verdict {
    const ARGUMENT: u64 = 0x0123_4567_89ab_cdef;
    second::initialise(guest, ARGUMENT)?;
    same(vcpu::state(guest.platform(), SECOND)?, VcpuState::Down)?;
    second::order(guest, Order::Rest, Port(0))?;
    same(second::told(), (1, 1, ARGUMENT))
}

fn one_is_initialised_once(guest: &Guest) -> Verdict {
    second::ensure(guest, 0)?;
    match second::initialise(guest, 0) {
        Err(_) => {}
        Ok(()) => return Err("it can be initialised twice".into()),
    }
    // By an empty structure, too.
    refused(initialise_again(guest, SECOND), Errno::EEXIST)
}

/// With all that it had in its registers and on its stack.
fn one_goes_on_where_it_went_down(guest: &Guest) -> Verdict {
    second::ensure(guest, 0)?;
    let (starts, done, _) = second::told();
    for _ in 0..10 {
        second::order(guest, Order::Rest, Port(0))?;
    }
    let (starts_now, done_now, _) = second::told();
    same((starts_now - starts, done_now - done), (10, 10))
}

fn one_that_is_down_is_offline(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let before = vcpu::get_runstate_info(platform, SECOND)?;
    same(before.state, RunState::OFFLINE)?;
    let offline = RunState::OFFLINE.0 as usize;
    let end = platform.now_ns() + PATIENCE_NS;
    // By the clock of the processor that is asked on, which may be behind that of
    // the one before.
    loop {
        let after = vcpu::get_runstate_info(platform, SECOND)?;
        same(after.time[0], before.time[0])?;
        if after.time[offline] > before.time[offline] {
            return Ok(());
        }
        ensure(platform.now_ns() < end, "its time stands")?;
        block_on(time::sleep(Duration::from_millis(1)));
    }
}

/// Waits until it waits.
fn until_blocked(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let end = platform.now_ns() + PATIENCE_NS;
    while vcpu::get_runstate_info(platform, SECOND)?.state != RunState::BLOCKED {
        if platform.now_ns() > end {
            return Err("it does not wait".into());
        }
        hypercall_abi::sched::yield_now(platform);
    }
    Ok(())
}

/// It sleeps until the event, not longer; meanwhile it is told to be blocked.
fn an_event_wakes_another(guest: &Guest) -> Verdict {
    second::ensure(guest, 0)?;
    let bell = Channel::ipi(guest.ports()?, SECOND).map_err(|_| "no port for it")?;
    let (_, done, _) = second::told();
    second::begin(guest, Order::Poll, bell.port())?;
    let waits = until_blocked(guest);
    let slept = second::told().1 == done;
    bell.notify().map_err(|_| "it cannot be sent on")?;
    second::finish(guest)?;
    waits?;
    ensure(slept, "it did not sleep")?;
    same((second::told().1, second::told().2), (done + 1, 0))
}

/// To that one alone.
fn an_event_is_told_to_the_one_that_has_its_port(guest: &Guest) -> Verdict {
    second::ensure(guest, 0)?;
    let ports = guest.ports()?;
    let bell = Channel::ipi(ports, SECOND).map_err(|_| "no port for it")?;
    bell.unmask().map_err(|_| "a port cannot be unmasked")?;
    // SAFETY: it is only read.
    let shared = unsafe { guest.shared_info() }.ok_or("no shared page")?;
    let words = peer_field!(shared, SharedInfo, vcpu_info).get(1);
    let words = words.ok_or("no words for it")?;
    let pending = peer_field!(words, VcpuInfo, evtchn_upcall_pending);
    let before = pending.load_acquire().trust();
    bell.notify().map_err(|_| "it cannot be sent on")?;
    let (after, events) = (pending.load_acquire().trust(), bell.events());
    // It is down: this vCPU looks in its place.
    let found = ports.dispatch(SECOND);
    same((before, after, events), (0, 1, 0))?;
    same((found.events, bell.events()), (1, 1))
}

fn an_event_comes_from_another(guest: &Guest) -> Verdict {
    second::ensure(guest, 0)?;
    let ports = guest.ports()?;
    let bell = Channel::ipi(ports, VcpuId(0)).map_err(|_| "no port for this vCPU")?;
    bell.unmask().map_err(|_| "a port cannot be unmasked")?;
    second::order(guest, Order::Send, bell.port())?;
    same(second::told().2, 0)?;
    let deadline = guest.platform().now_ns() + PATIENCE_NS;
    ensure(
        bell.wait_blocking(Some(deadline)) == event_channels::Wait::Event,
        "it did not come",
    )
}

fn a_port_moves_to_another(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let port = event_channel::alloc_unbound(platform, hypercall_abi::DomId(0))?;
    let before = event_channel::status(platform, port)?;
    event_channel::bind_vcpu(platform, port, SECOND)?;
    let after = event_channel::status(platform, port)?;
    let none = event_channel::bind_vcpu(platform, port, VcpuId(4000));
    event_channel::close(platform, port)?;
    same(
        (before.vcpu, before.status),
        (VcpuId(0), ChannelStatus::UNBOUND),
    )?;
    same((after.vcpu, after.status), (SECOND, ChannelStatus::UNBOUND))?;
    refused(none, Errno::ENOENT)
}

fn a_timer_is_set_by_its_own_only(guest: &Guest) -> Verdict {
    second::ensure(guest, 0)?;
    second::order(guest, Order::SetTimerOfFirst, Port(0))?;
    same(second::told().2 as isize, Errno::EINVAL.to_answer())?;
    refused(
        vcpu::stop_singleshot_timer(guest.platform(), SECOND),
        Errno::EINVAL,
    )
}

/// It goes on where it is.
fn one_that_is_up_is_not_started_again(guest: &Guest) -> Verdict {
    second::ensure(guest, 0)?;
    let bell = Channel::ipi(guest.ports()?, SECOND).map_err(|_| "no port for it")?;
    second::begin(guest, Order::Poll, bell.port())?;
    let waits = until_blocked(guest);
    let (starts, done, _) = second::told();
    // SAFETY: it runs: nothing comes of it.
    let up = unsafe { vcpu::up(guest.platform(), SECOND) };
    let state = vcpu::state(guest.platform(), SECOND);
    bell.notify().map_err(|_| "it cannot be sent on")?;
    second::finish(guest)?;
    waits?;
    up?;
    same(state, Ok(VcpuState::Up))?;
    let (starts_now, done_now, _) = second::told();
    same((starts_now, done_now), (starts, done + 1))
}

/// Also any other interrupt that each vCPU has for itself.
fn a_timers_port_stays_at_its_vcpu(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let port = event_channel::bind_virq(platform, Virq::DEBUG, VcpuId(0))?;
    let moved = event_channel::bind_vcpu(platform, port, SECOND);
    let told = event_channel::status(platform, port)?;
    event_channel::close(platform, port)?;
    refused(moved, Errno::EINVAL)?;
    same((told.vcpu, told.status), (VcpuId(0), ChannelStatus::VIRQ))
}

/// Times add up, and what it slept is not among what it ran.
fn a_sleep_is_no_running_time(guest: &Guest) -> Verdict {
    const SLEEP_NS: u64 = 100_000_000;
    let platform = guest.platform();
    let before = vcpu::get_runstate_info(platform, VcpuId(0))?;
    let until = platform.now_ns() + SLEEP_NS;
    while platform.now_ns() < until {
        hypercall_abi::sched::poll(platform, &[], Some(until))?;
    }
    let after = vcpu::get_runstate_info(platform, VcpuId(0))?;
    same(after.state, RunState::RUNNING)?;
    let passed = |state: RunState| {
        let index = state.0 as usize;
        let times = after.time.get(index).zip(before.time.get(index));
        times.map_or(0, |(after, before)| after - before)
    };
    ensure(
        passed(RunState::RUNNING) < SLEEP_NS / 2,
        "it ran while it slept",
    )?;
    ensure(
        passed(RunState::BLOCKED) + passed(RunState::RUNNABLE) > SLEEP_NS / 2,
        "its sleep is not told",
    )
}

/// Where Xen writes: once it is told, for good.
struct Told(UnsafeCell<MaybeUninit<VcpuRunstateInfo>>);

// SAFETY: read by whole words, and written by Xen.
unsafe impl Sync for Told {}

static PUBLISHED_STATE: Told = Told(UnsafeCell::new(MaybeUninit::zeroed()));

/// Anew each time that it goes on.
fn run_times_are_told_where_they_are_wanted(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let place = PUBLISHED_STATE.0.get().cast::<VcpuRunstateInfo>();
    let address = place.expose_provenance() as u64;
    // SAFETY: a static, all of whose bits are numbers.
    let read = || unsafe { place.read_volatile() };
    // SAFETY: the place is there for good, and reached by pointers only.
    unsafe { vcpu::register_runstate_memory_area(platform, VcpuId(0), address) }?;
    let nap = || {
        let until = platform.now_ns() + 5_000_000;
        hypercall_abi::sched::poll(platform, &[], Some(until))
    };
    nap()?;
    let first = read().state_entry_time;
    nap()?;
    let VcpuRunstateInfo {
        state,
        state_entry_time: second,
        ..
    } = read();
    let asked = vcpu::get_runstate_info(platform, VcpuId(0))?;
    // SAFETY: nobody is told any more.
    unsafe { vcpu::register_runstate_memory_area(platform, VcpuId(0), 0) }?;
    ensure(first != 0, "nothing is told")?;
    ensure(second > first, "nothing new is told")?;
    same(state, RunState::RUNNING)?;
    ensure(
        second <= asked.state_entry_time && asked.state_entry_time != 0,
        "what is told and what is answered differ",
    )
}

/// It may not be taken back either: the page is given for good.
fn ones_words_move_once(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let page = platform.alloc(1).ok_or("no memory")?;
    let gfn = platform.gfn_of(page).ok_or("no frame")?;
    // SAFETY: the words of a vCPU that is down, which hold nothing back.
    let shared = unsafe { guest.shared_info() }.ok_or("no shared page")?;
    let old = peer_field!(shared, SharedInfo, vcpu_info).get(1);
    let old_mask = peer_field!(old.ok_or("no words for it")?, VcpuInfo, evtchn_upcall_mask);
    let before = old_mask.swap(1);
    // SAFETY: a page of ours, for good.
    unsafe { vcpu::register_vcpu_info(platform, SECOND, gfn, 64) }?;
    // SAFETY: within the page.
    let place = unsafe { page.add(64) }.cast::<VcpuInfo>();
    // SAFETY: memory that Xen writes, for good.
    let words: PeerPtr<'static, VcpuInfo> = unsafe { PeerPtr::new(place) };
    let mask = peer_field!(words, VcpuInfo, evtchn_upcall_mask);
    let told = peer_field!(words, VcpuInfo, evtchn_upcall_pending).load_acquire();
    let moved = mask.load_acquire();
    mask.store_release(before.trust());
    same(moved.trust(), 1)?;
    // It may have missed an event, and is to look at all ports.
    ensure(told.trust() != 0, "it is not told to look")?;
    // SAFETY: as above.
    let again = unsafe { vcpu::register_vcpu_info(platform, SECOND, gfn, 128) };
    match again {
        // Before Xen 4.18, the other.
        Err(Errno::EBUSY | Errno::EINVAL) => Ok(()),
        _ => Err("they moved twice".into()),
    }
}
