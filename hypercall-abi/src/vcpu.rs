//! Virtual processors: `xen/include/public/vcpu.h`.

use crate::{Errno, HypercallNr, VcpuId, platform::Hypercall};

/// Does the vCPU run?
#[doc(alias = "VCPUOP_is_up")]
pub const VCPUOP_IS_UP: usize = 3;

/// Whether a vCPU runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuState {
    /// It runs, or could.
    Up,
    /// It was not started, or went down.
    Down,
}

/// Asks whether a vCPU of this domain runs. Any guest may.
///
/// # Errors
/// `ENOENT`: there is no such vCPU; `ENOSYS`: there is no Xen.
#[inline]
pub fn state<H: Hypercall + ?Sized>(h: &H, vcpu: VcpuId) -> Result<VcpuState, Errno> {
    // SAFETY: this subop has no further argument.
    let answer = unsafe { h.call3(HypercallNr::VCPU_OP, VCPUOP_IS_UP, vcpu.0 as usize, 0) };
    Errno::check(answer).map(|up| {
        if up == 0 {
            VcpuState::Down
        } else {
            VcpuState::Up
        }
    })
}
