//! Help that a guest may switch on.

use crate::{Errno, HypercallNr, platform::Hypercall};

crate::facts::open_enum! {
    /// What Xen may help with.
    pub struct VmAssist(u32) {
        /// 32-bit PV: emulate segments of 4 GiB.
        SEGMENTS_4GB = 0, "VMASST_TYPE_4gb_segments";
        /// 32-bit PV: tell the guest when that was done.
        SEGMENTS_4GB_NOTIFY = 1, "VMASST_TYPE_4gb_segments_notify";
        /// PV: let writes to page tables look as if they went through.
        WRITABLE_PAGETABLES = 2, "VMASST_TYPE_writable_pagetables";
        /// 32-bit PV: page tables above 4 GiB.
        PAE_EXTENDED_CR3 = 3, "VMASST_TYPE_pae_extended_cr3";
        /// PV: the I/O privilege level of the flags is honoured.
        ARCHITECTURAL_IOPL = 4, "VMASST_TYPE_architectural_iopl";
        /// Set [`crate::vcpu::XEN_RUNSTATE_UPDATE`] while a runstate area is
        /// written.
        RUNSTATE_UPDATE_FLAG = 5, "VMASST_TYPE_runstate_update_flag";
        /// PV: user mode does not see the machine-to-physical table.
        M2P_STRICT = 32, "VMASST_TYPE_m2p_strict";
    }
}

crate::facts::constants! {
    /// Switch on.
    VMASST_CMD_ENABLE: usize = 0, "VMASST_CMD_enable";
    /// Switch off.
    VMASST_CMD_DISABLE: usize = 1, "VMASST_CMD_disable";
}

/// Switches help on. PV guests, and for
/// [`VmAssist::RUNSTATE_UPDATE_FLAG`] any guest.
///
/// # Errors
/// `EINVAL`: no such help for this guest; `ENOSYS`: there is no Xen.
#[inline]
pub fn enable<H: Hypercall + ?Sized>(h: &H, help: VmAssist) -> Result<(), Errno> {
    // SAFETY: no memory is named.
    let answer = unsafe { h.call2(HypercallNr::VM_ASSIST, VMASST_CMD_ENABLE, help.0 as usize) };
    Errno::check(answer).map(|_| ())
}

/// Switches help off.
///
/// # Errors
/// As for [`enable`].
///
/// # Safety
/// The guest does without: it writes no page table by itself, say.
#[inline]
pub unsafe fn disable<H: Hypercall + ?Sized>(h: &H, help: VmAssist) -> Result<(), Errno> {
    // SAFETY: no memory is named; the rest is this function's contract.
    let answer = unsafe { h.call2(HypercallNr::VM_ASSIST, VMASST_CMD_DISABLE, help.0 as usize) };
    Errno::check(answer).map(|_| ())
}
