//! What there is, and what Xen calls itself.

use hypercall_abi::{
    Errno, HypercallNr,
    features::XenFeatures,
    platform::Hypercall,
    probe::{Facility, Offer},
    version::{self, LongText},
    xen::VmAssist,
};
use pv_guest::{Guest, GuestType};

use crate::claim::{Group, Verdict, claims, ensure, everywhere, on_xen, refused, same};

pub(super) const GROUP: Group = Group {
    name: "discovery",
    claims: claims! {
        on_xen(version_is_told): "version.h: XENVER_version",
        on_xen(version_to_a_bad_address_is_efault): "version.h: XENVER_extraversion",
        on_xen(a_text_without_room_is_enobufs): "version.h: XENVER_capabilities2",
        everywhere(unknown_hypercall_is_enosys): "xen.h: hypercall numbers",
        everywhere(unknown_subops_are_enosys): "xen.h: hypercalls with subops",
        everywhere(probe_tells_what_there_is): "xen.h: hypercall numbers",
        on_xen(features_fit_the_kind_of_guest): "features.h: XENFEAT_auto_translated_physmap",
        on_xen(texts_of_any_length_agree_with_short_ones): "version.h: XENVER_extraversion2",
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

/// Every hypercall that has them: one that it does not know, with nothing behind it.
fn unknown_subops_are_enosys(guest: &Guest) -> Verdict {
    /// 63 is the last of `memory_op`, whose other bits say where it goes on.
    const UNKNOWN: usize = 63;
    let for_all = [
        HypercallNr::XEN_VERSION,
        HypercallNr::SCHED_OP,
        HypercallNr::EVENT_CHANNEL_OP,
        HypercallNr::MEMORY_OP,
        HypercallNr::GRANT_TABLE_OP,
        HypercallNr::VCPU_OP,
        HypercallNr::HVM_OP,
        HypercallNr::PHYSDEV_OP,
        HypercallNr::VM_ASSIST,
    ];
    let for_pv = [HypercallNr::CALLBACK_OP, HypercallNr::NMI_OP];
    let more = match guest.guest_type() {
        GuestType::Pv => &for_pv[..],
        _ => &[],
    };
    // Help that every guest may switch on: it is looked at first.
    let behind = |nr| match nr {
        HypercallNr::VM_ASSIST => VmAssist::RUNSTATE_UPDATE_FLAG.0 as usize,
        _ => 0,
    };
    for nr in for_all.iter().chain(more) {
        // SAFETY: no such subop; where there is one some day, it reads zeroes.
        let answer = unsafe { guest.platform().call3(*nr, UNKNOWN, behind(*nr), 0) };
        if Errno::check(answer) != Err(Errno::ENOSYS) {
            let told = Errno::check(answer);
            return Err(alloc::format!("{nr:?} answers {told:?}, not ENOSYS").into());
        }
    }
    Ok(())
}

/// Who sees its memory by tables of its own is told so, and who does not.
fn features_fit_the_kind_of_guest(guest: &Guest) -> Verdict {
    let told = version::features(guest.platform())?;
    let of_pvh = XenFeatures::AUTO_TRANSLATED_PHYSMAP | XenFeatures::HVM_CALLBACK_VECTOR;
    match guest.guest_type() {
        GuestType::Pvh => ensure(told.contains(of_pvh), "one of a PVH guest's is missing"),
        _ => ensure(!told.intersects(of_pvh), "a PV guest has a PVH guest's"),
    }
}

fn texts_of_any_length_agree_with_short_ones(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let mut room = [0; 1024];
    let mut long = |which| version::long_text(platform, which, &mut room).map(<[u8]>::to_vec);
    let told = long(LongText::Extraversion);
    if told == Err(Errno::ENOSYS) {
        return crate::claim::skip("since Xen 4.20");
    }
    let [extra, capabilities, changeset] = [
        told,
        long(LongText::Capabilities),
        long(LongText::Changeset),
    ];
    same(extra?, version::extraversion(platform)?.as_str().into())?;
    same(
        capabilities?,
        version::capabilities(platform)?.as_str().into(),
    )?;
    same(changeset?, version::changeset(platform)?.as_str().into())
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
