//! Non-maskable interrupts of a PV guest: `xen/include/public/nmi.h`.

use crate::{Errno, HypercallNr, call::subop, platform::Hypercall};

crate::facts::flags! {
    /// Why one came: [`crate::xen::ArchSharedInfo::nmi_reason`].
    pub struct NmiReason: u64 {
        /// An error of a device.
        IO_ERROR = 1 << 0, "XEN_NMIREASON_io_error";
        /// An error of the bus.
        PCI_SERR = 1 << 1, "XEN_NMIREASON_pci_serr";
        /// Nobody knows.
        UNKNOWN = 1 << 2, "XEN_NMIREASON_unknown";
    }
}

crate::facts::constants! {
    /// Set the callback.
    XENNMI_REGISTER_CALLBACK: usize = 0, "XENNMI_register_callback";
    /// Remove it.
    XENNMI_UNREGISTER_CALLBACK: usize = 1, "XENNMI_unregister_callback";
}

crate::facts::structs! {
    /// The argument of `XENNMI_register_callback`.
    "xennmi_callback" 16
    pub struct XennmiCallback {
        /// Where to.
        handler_address: u64 = 0,
        /// Zero.
        pad: u64 = 8,
    }
}

/// Sets vCPU 0's handler of non-maskable interrupts. PV guests only.
///
/// # Errors
/// `EINVAL`: the address is not canonical, or another vCPU calls; `ENOSYS`: not
/// a PV guest.
///
/// # Safety
/// Code is there that can handle them, at any time.
#[inline]
pub unsafe fn register_callback<H: Hypercall + ?Sized>(
    h: &H,
    handler_address: u64,
) -> Result<(), Errno> {
    let mut arg = XennmiCallback {
        handler_address,
        pad: 0,
    };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { subop(h, HypercallNr::NMI_OP, XENNMI_REGISTER_CALLBACK, &mut arg) }.map(|_| ())
}

/// Removes it. PV guests only.
///
/// # Errors
/// `ENOSYS`: not a PV guest.
#[inline]
pub fn unregister_callback<H: Hypercall + ?Sized>(h: &H) -> Result<(), Errno> {
    // SAFETY: no argument.
    let answer = unsafe { h.call2(HypercallNr::NMI_OP, XENNMI_UNREGISTER_CALLBACK, 0) };
    Errno::check(answer).map(|_| ())
}
