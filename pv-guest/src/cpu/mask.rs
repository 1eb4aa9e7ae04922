//! Whether events are delivered to this vCPU.

use hypercall_abi::{VcpuId, peer::PeerPtr, peer_field, trap::Native, version, xen::VcpuInfo};
use x86::{
    bits64::rflags::{self, RFlags},
    irq,
};

use super::{guest_type::guest_type, shared_info, sync::Upcalls};
use crate::boot_info::GuestType;

fn vcpu_info() -> Option<PeerPtr<'static, VcpuInfo>> {
    shared_info::vcpu_info(VcpuId(0))
}

/// Holds upcalls back on this vCPU, and returns whether they came until now.
/// `sync` counts these; nothing else calls this.
pub(crate) fn mask() -> Upcalls {
    if guest_type() == Some(GuestType::Pv) {
        let Some(info) = vcpu_info() else {
            return Upcalls::Held;
        };
        let before = peer_field!(info, VcpuInfo, evtchn_upcall_mask).swap(1);
        return if before.trust() == 0 {
            Upcalls::Open
        } else {
            Upcalls::Held
        };
    }
    let before = rflags::read();
    // SAFETY: interrupts may be off at any time in ring 0.
    unsafe { irq::disable() };
    if before.contains(RFlags::FLAGS_IF) {
        Upcalls::Open
    } else {
        Upcalls::Held
    }
}

/// Lets upcalls through on this vCPU; called by `sync` only.
pub(crate) fn unmask() {
    if guest_type() == Some(GuestType::Pv) {
        let Some(info) = vcpu_info() else {
            return;
        };
        peer_field!(info, VcpuInfo, evtchn_upcall_mask).store_release(0);
        let pending = peer_field!(info, VcpuInfo, evtchn_upcall_pending);
        if pending.load_acquire().trust() != 0 {
            // Xen looks on the way back from any hypercall.
            let _any = version::version(&Native);
        }
        return;
    }
    // SAFETY: called with a table of handlers loaded, which is so since boot.
    unsafe { irq::enable() };
}
