//! Versions, vCPUs, bare ports, clocks, pages.

use hypercall_abi::{
    DomId, Errno, HypercallNr, PAGE_SIZE, Port, VcpuId, event_channel, memory,
    platform::{Clock, Hypercall, Pages, Park},
    probe::{Facility, Offer},
    sched, vcpu, version,
};
use pv_guest::{Guest, GuestType, trap};

use super::{Claim, NO_XEN, check, needs_xen};
use crate::{
    Verdict,
    Verdict::{Failed, Ok, Skipped},
};

pub(crate) const ALL: &[Claim] = &[
    ("version_is_told", version_is_told),
    (
        "version_to_a_bad_address_is_efault",
        version_to_a_bad_address_is_efault,
    ),
    ("unknown_hypercall_is_enosys", unknown_hypercall_is_enosys),
    ("unknown_subops_are_enosys", unknown_subops_are_enosys),
    (
        "reservation_is_what_was_given",
        reservation_is_what_was_given,
    ),
    ("first_vcpu_is_up", first_vcpu_is_up),
    ("absent_vcpu_is_enoent", absent_vcpu_is_enoent),
    ("ports_open_and_close_once", ports_open_and_close_once),
    (
        "port_for_self_tells_the_domain",
        port_for_self_tells_the_domain,
    ),
    (
        "send_on_a_closed_port_is_einval",
        send_on_a_closed_port_is_einval,
    ),
    ("poll_wakes_at_its_deadline", poll_wakes_at_its_deadline),
    ("clock_goes_on_and_never_back", clock_goes_on_and_never_back),
    (
        "wall_clock_is_in_this_century",
        wall_clock_is_in_this_century,
    ),
    ("pages_are_zeroed_and_apart", pages_are_zeroed_and_apart),
    ("breakpoint_returns", breakpoint_returns),
    ("probe_tells_what_there_is", probe_tells_what_there_is),
    ("cpuid_and_calls_agree", cpuid_and_calls_agree),
];

/// `XENVER_version`, version.h.
fn version_is_told(guest: &Guest) -> Verdict {
    needs_xen!(guest);
    match version::version(guest.platform()) {
        Result::Ok(version) => check(version.major >= 4, "a version before 4"),
        Err(_) => Failed("no answer"),
    }
}

/// Xen copies to the guest, or says `EFAULT`: `XENVER_extraversion`, version.h.
fn version_to_a_bad_address_is_efault(guest: &Guest) -> Verdict {
    needs_xen!(guest);
    // SAFETY: the address is not mapped, so nothing is written.
    let answer = unsafe {
        guest.platform().call2(
            HypercallNr::XEN_VERSION,
            version::XENVER_EXTRAVERSION,
            0x1000,
        )
    };
    check(
        Errno::check(answer) == Err(Errno::EFAULT),
        "another answer than EFAULT",
    )
}

/// Numbers without a hypercall, xen.h.
fn unknown_hypercall_is_enosys(guest: &Guest) -> Verdict {
    // SAFETY: no such hypercall.
    let answer = unsafe { guest.platform().call1(HypercallNr(47), 0) };
    check(
        Errno::check(answer) == Err(Errno::ENOSYS),
        "another answer than ENOSYS",
    )
}

/// Every `_op` hypercall: a subop that it does not know.
fn unknown_subops_are_enosys(guest: &Guest) -> Verdict {
    for nr in [
        HypercallNr::XEN_VERSION,
        HypercallNr::SCHED_OP,
        HypercallNr::EVENT_CHANNEL_OP,
    ] {
        // SAFETY: no such subop; where there is one some day, it reads zeroes.
        let answer = unsafe { guest.platform().call2(nr, 0x7f, 0) };
        if Errno::check(answer) != Err(Errno::ENOSYS) {
            return Failed("another answer than ENOSYS");
        }
    }
    Ok
}

/// `XENMEM_current_reservation`, memory.h.
fn reservation_is_what_was_given(guest: &Guest) -> Verdict {
    needs_xen!(guest);
    let Result::Ok(pages) = memory::current_reservation(guest.platform()) else {
        return Failed("no answer");
    };
    let given = guest.memory_bytes() as usize / PAGE_SIZE;
    // PVH: the map leaves out what the toolstack keeps for itself.
    check(
        pages.abs_diff(given) <= 1024,
        "far from what the memory map says",
    )
}

/// `VCPUOP_is_up`, vcpu.h.
fn first_vcpu_is_up(guest: &Guest) -> Verdict {
    needs_xen!(guest);
    check(
        vcpu::state(guest.platform(), VcpuId(0)) == Result::Ok(vcpu::VcpuState::Up),
        "it is not up",
    )
}

/// `VCPUOP_is_up` of a vCPU that is not there, vcpu.h.
fn absent_vcpu_is_enoent(guest: &Guest) -> Verdict {
    needs_xen!(guest);
    check(
        vcpu::state(guest.platform(), VcpuId(5000)) == Err(Errno::ENOENT),
        "another answer than ENOENT",
    )
}

/// `EVTCHNOP_alloc_unbound`, `EVTCHNOP_close`, event_channel.h.
fn ports_open_and_close_once(guest: &Guest) -> Verdict {
    needs_xen!(guest);
    let platform = guest.platform();
    let Result::Ok(port) = event_channel::alloc_unbound(platform, DomId(0)) else {
        return Failed("no port");
    };
    let first = event_channel::close(platform, port);
    let second = event_channel::close(platform, port);
    check(
        first.is_ok() && second == Err(Errno::EINVAL),
        "a port does not close exactly once",
    )
}

/// `EVTCHNOP_status` of a port offered to `DOMID_SELF`, event_channel.h.
fn port_for_self_tells_the_domain(guest: &Guest) -> Verdict {
    needs_xen!(guest);
    match guest.domid() {
        Result::Ok(domid) => check(
            domid.0 != 0 && domid < DomId::FIRST_RESERVED,
            "an impossible domain",
        ),
        Err(_) => Failed("no answer"),
    }
}

/// `EVTCHNOP_send`, event_channel.h.
fn send_on_a_closed_port_is_einval(guest: &Guest) -> Verdict {
    needs_xen!(guest);
    check(
        event_channel::send(guest.platform(), Port(4000)) == Err(Errno::EINVAL),
        "another answer than EINVAL",
    )
}

/// `SCHEDOP_poll` with a timeout, sched.h.
fn poll_wakes_at_its_deadline(guest: &Guest) -> Verdict {
    needs_xen!(guest);
    const WAIT_NS: u64 = 5_000_000;
    let platform = guest.platform();
    let Result::Ok(port) = event_channel::alloc_unbound(platform, DomId(0)) else {
        return Failed("no port");
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
        return Failed("it woke early, a hundred times");
    }
    if polled.is_err() {
        return Failed("a deadline in the past was refused");
    }
    check(closed.is_ok(), "the port does not close")
}

/// `struct vcpu_time_info`, xen.h.
fn clock_goes_on_and_never_back(guest: &Guest) -> Verdict {
    let mut last = guest.platform().now_ns();
    let first = last;
    for _ in 0..10_000 {
        let now = guest.platform().now_ns();
        if now < last {
            return Failed("it went back");
        }
        last = now;
    }
    check(last > first, "it stands still")
}

/// `wc_sec`, `struct shared_info`, xen.h: in the layout of a 64-bit guest.
fn wall_clock_is_in_this_century(guest: &Guest) -> Verdict {
    const Y2020_NS: u64 = 1_577_836_800_000_000_000;
    match guest.platform().wall_clock_ns() {
        Some(now) => check(now > Y2020_NS, "it is not"),
        None => Skipped("nobody tells the time"),
    }
}

/// What `Pages` promises.
fn pages_are_zeroed_and_apart(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let (Some(a), Some(b)) = (platform.alloc(1), platform.alloc(2)) else {
        return Failed("no pages");
    };
    let clean = |page: core::ptr::NonNull<u8>, count: usize| {
        // SAFETY: fresh pages of ours.
        let bytes = unsafe { core::slice::from_raw_parts(page.as_ptr(), count * PAGE_SIZE) };
        bytes.iter().all(|byte| *byte == 0)
    };
    let zeroed = clean(a, 1) && clean(b, 2);
    let frames = platform.gfn_of(a) != platform.gfn_of(b);
    let back = platform.gfn_of(a).and_then(|gfn| platform.page_of(gfn)) == Some(a);
    // SAFETY: written by nobody, and freed as they were allocated.
    unsafe { platform.free(a, 1) };
    // SAFETY: as above.
    unsafe { platform.free(b, 2) };
    check(
        zeroed && frames && back,
        "not zeroed, or frames are confused",
    )
}

/// A breakpoint is a trap: it returns behind the instruction.
fn breakpoint_returns(_: &Guest) -> Verdict {
    let before = trap::breakpoints_caught();
    trap::breakpoint();
    check(trap::breakpoints_caught() == before + 1, "it was not seen")
}

/// `hypercall_abi::probe`: each kind of guest is offered what is its own.
fn probe_tells_what_there_is(guest: &Guest) -> Verdict {
    let offer = |facility: Facility| facility.ask(guest.platform());
    let (for_all, for_pv, for_hvm) = match guest.guest_type() {
        GuestType::Bare => (Offer::No, Offer::No, Offer::No),
        // The mock is a PV guest's host, but for its page tables.
        _ if !cfg!(target_os = "none") => (Offer::Yes, offer(Facility::PvMmu), Offer::No),
        GuestType::Pv => (Offer::Yes, Offer::Yes, Offer::Refused),
        GuestType::Pvh => (Offer::Yes, Offer::No, Offer::Yes),
    };
    for facility in [
        Facility::Version,
        Facility::Sched,
        Facility::EventChannels,
        Facility::Memory,
        Facility::Vcpus,
    ] {
        if offer(facility) != for_all {
            return Failed("what every guest has is told wrongly");
        }
    }
    if offer(Facility::PvMmu) != for_pv {
        return Failed("page tables are told wrongly");
    }
    check(
        offer(Facility::HvmParams) == for_hvm,
        "parameters are told wrongly",
    )
}

/// Leaves 1, 4 and 5, arch-x86/cpuid.h.
fn cpuid_and_calls_agree(guest: &Guest) -> Verdict {
    #[cfg(target_os = "none")]
    {
        use hypercall_abi::arch_x86::cpuid::Cpuid;
        needs_xen!(guest);
        let cpuid = match guest.guest_type() {
            // SAFETY: a PV guest.
            GuestType::Pv => unsafe { Cpuid::forced() },
            _ => Cpuid::PLAIN,
        };
        let Some(leaves) = cpuid.xen() else {
            return Failed("CPUID does not show Xen");
        };
        if version::version(guest.platform()) != Result::Ok(leaves.version) {
            return Failed("the versions differ");
        }
        if leaves.vcpu.is_some_and(|vcpu| vcpu != VcpuId(0)) {
            return Failed("this is another vCPU");
        }
        match (leaves.domid, guest.domid()) {
            (Some(told), Result::Ok(asked)) => check(told == asked, "the domains differ"),
            (None, Result::Ok(_)) => check(
                guest.guest_type() == GuestType::Pv,
                "a PVH guest is told its domain",
            ),
            (_, Err(_)) => Failed("nobody tells the domain"),
        }
    }
    #[cfg(not(target_os = "none"))]
    {
        let _no_leaves = guest;
        Skipped("a process has no leaves of its own")
    }
}
