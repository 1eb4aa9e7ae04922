//! vCPUs: which there are, and what they can be told.

use hypercall_abi::{Errno, VcpuId, vcpu};
use pv_guest::Guest;

use crate::claim::{Group, Verdict, claims, ensure, on_xen};

pub(super) const GROUP: Group = Group {
    name: "vcpus",
    claims: claims! {
        on_xen(first_vcpu_is_up): "vcpu.h: VCPUOP_is_up",
        on_xen(absent_vcpu_is_enoent): "vcpu.h: VCPUOP_is_up",
    },
};

/// `VCPUOP_is_up`, vcpu.h.
fn first_vcpu_is_up(guest: &Guest) -> Verdict {
    ensure(
        vcpu::state(guest.platform(), VcpuId(0)) == Ok(vcpu::VcpuState::Up),
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
