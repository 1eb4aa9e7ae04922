//! What there is, and what Xen calls itself.

use hypercall_abi::{
    Errno, HypercallNr,
    platform::Hypercall,
    probe::{Facility, Offer},
    version,
};
use pv_guest::{Guest, GuestType};

use crate::claim::{Group, Verdict, claims, ensure, everywhere, on_xen, refused};

pub(super) const GROUP: Group = Group {
    name: "discovery",
    claims: claims! {
        on_xen(version_is_told): "version.h: XENVER_version",
        on_xen(version_to_a_bad_address_is_efault): "version.h: XENVER_extraversion",
        on_xen(a_text_without_room_is_enobufs): "version.h: XENVER_capabilities2",
        everywhere(unknown_hypercall_is_enosys): "xen.h: hypercall numbers",
        everywhere(unknown_subops_are_enosys): "xen.h: hypercalls with subops",
        everywhere(probe_tells_what_there_is): "xen.h: hypercall numbers",
        on_xen(cpuid_and_calls_agree): "arch-x86/cpuid.h: leaves 1, 4 and 5",
    },
};

/// `XENVER_version`, version.h.
fn version_is_told(guest: &Guest) -> Verdict {
    match version::version(guest.platform()) {
        Ok(version) => ensure(version.major >= 4, "a version before 4"),
        Err(_) => Err("no answer".into()),
    }
}

/// Xen copies to the guest, or says `EFAULT`: `XENVER_extraversion`, version.h.
fn version_to_a_bad_address_is_efault(guest: &Guest) -> Verdict {
    // SAFETY: the address is not mapped, so nothing is written.
    let answer = unsafe {
        guest.platform().call2(
            HypercallNr::XEN_VERSION,
            version::XENVER_EXTRAVERSION,
            0x1000,
        )
    };
    ensure(
        Errno::check(answer) == Err(Errno::EFAULT),
        "another answer than EFAULT",
    )
}

/// It says how long the text is, and is told when the room does not do.
fn a_text_without_room_is_enobufs(guest: &Guest) -> Verdict {
    // A length of one byte, and room for a few more.
    let mut room = [1_u32, 0];
    let address = room.as_mut_ptr().expose_provenance();
    let op = version::XENVER_CAPABILITIES2;
    // SAFETY: the room is longer than it says.
    let answer = unsafe {
        guest
            .platform()
            .call2(HypercallNr::XEN_VERSION, op, address)
    };
    if Errno::check(answer) == Err(Errno::ENOSYS) {
        return crate::claim::skip("since Xen 4.20");
    }
    refused(Errno::check(answer), Errno::ENOBUFS)
}

/// Numbers without a hypercall, xen.h.
fn unknown_hypercall_is_enosys(guest: &Guest) -> Verdict {
    // SAFETY: no such hypercall.
    let answer = unsafe { guest.platform().call1(HypercallNr(47), 0) };
    ensure(
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
            return Err("another answer than ENOSYS".into());
        }
    }
    Ok(())
}

/// `hypercall_abi::probe`: each kind of guest is offered what is its own.
fn probe_tells_what_there_is(guest: &Guest) -> Verdict {
    let offer = |facility: Facility| facility.ask(guest.platform());
    let (for_all, for_pv, for_hvm) = match guest.guest_type() {
        GuestType::Bare => (Offer::No, Offer::No, Offer::No),
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
            return Err("what every guest has is told wrongly".into());
        }
    }
    if offer(Facility::PvMmu) != for_pv {
        return Err("page tables are told wrongly".into());
    }
    ensure(
        offer(Facility::HvmParams) == for_hvm,
        "parameters are told wrongly",
    )
}

/// Leaves 1, 4 and 5, arch-x86/cpuid.h.
fn cpuid_and_calls_agree(guest: &Guest) -> Verdict {
    #[cfg(target_os = "none")]
    {
        use hypercall_abi::arch_x86::cpuid::Cpuid;
        let cpuid = match guest.guest_type() {
            // SAFETY: a PV guest.
            GuestType::Pv => unsafe { Cpuid::forced() },
            _ => Cpuid::PLAIN,
        };
        let Some(leaves) = cpuid.xen() else {
            return Err("CPUID does not show Xen".into());
        };
        if version::version(guest.platform()) != Ok(leaves.version) {
            return Err("the versions differ".into());
        }
        if leaves
            .vcpu
            .is_some_and(|vcpu| vcpu != hypercall_abi::VcpuId(0))
        {
            return Err("this is another vCPU".into());
        }
        match (leaves.domid, guest.domid()) {
            (Some(told), Ok(asked)) => ensure(told == asked, "the domains differ"),
            (None, Ok(_)) => ensure(
                guest.guest_type() == GuestType::Pv,
                "a PVH guest is told its domain",
            ),
            (_, Err(_)) => Err("nobody tells the domain".into()),
        }
    }
    #[cfg(not(target_os = "none"))]
    {
        let _no_leaves = guest;
        crate::claim::skip("a process has no leaves of its own")
    }
}
