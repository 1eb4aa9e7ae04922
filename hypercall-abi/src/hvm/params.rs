//! The parameters of an HVM or PVH guest.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, Errno, HypercallNr, layout, platform::Hypercall};

/// The number of a parameter.
///
/// Source: `HVM_PARAM_*`, `xen/include/public/hvm/params.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct HvmParam(pub u32);

impl HvmParam {
    /// How upcalls are delivered.
    #[doc(alias = "HVM_PARAM_CALLBACK_IRQ")]
    pub const CALLBACK_IRQ: Self = Self(0);
    /// The frame of the store's ring.
    #[doc(alias = "HVM_PARAM_STORE_PFN")]
    pub const STORE_PFN: Self = Self(1);
    /// The port of the store's ring.
    #[doc(alias = "HVM_PARAM_STORE_EVTCHN")]
    pub const STORE_EVTCHN: Self = Self(2);
    /// The frame of the console's ring.
    #[doc(alias = "HVM_PARAM_CONSOLE_PFN")]
    pub const CONSOLE_PFN: Self = Self(17);
    /// The port of the console's ring.
    #[doc(alias = "HVM_PARAM_CONSOLE_EVTCHN")]
    pub const CONSOLE_EVTCHN: Self = Self(18);
}

/// The argument of `HVMOP_get_param` and `HVMOP_set_param`.
///
/// Source: `struct xen_hvm_param`, `xen/include/public/hvm/hvm_op.h`.
#[doc(alias = "xen_hvm_param")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct XenHvmParam {
    /// Whose parameter.
    pub domid: DomId,
    #[doc(hidden)]
    pub pad: u16,
    /// Which.
    pub index: HvmParam,
    /// Its value, in or out.
    pub value: u64,
}

layout!(XenHvmParam: 16 { domid: 0..2, index: 4..8, value: 8..16 });

/// Read a parameter.
#[doc(alias = "HVMOP_get_param")]
pub const HVMOP_GET_PARAM: usize = 1;

/// Reads one of this guest's parameters.
///
/// HVM and PVH guests only. Source: `HVMOP_get_param`, `hvm/hvm_op.h`.
///
/// # Errors
/// `EINVAL`: no such parameter, or a PV guest; `EPERM`: not for guests.
#[inline]
pub fn get_param<H: Hypercall + ?Sized>(h: &H, index: HvmParam) -> Result<u64, Errno> {
    let mut param = XenHvmParam {
        domid: DomId::SELF,
        pad: 0,
        index,
        value: 0,
    };
    // SAFETY: the hypervisor reads and writes `param`, which outlives the call.
    let answer = unsafe {
        h.call2(
            HypercallNr::HVM_OP,
            HVMOP_GET_PARAM,
            (&raw mut param).expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| param.value)
}

/// Write a parameter.
#[doc(alias = "HVMOP_set_param")]
pub const HVMOP_SET_PARAM: usize = 0;

/// Writes one of this guest's parameters.
///
/// HVM and PVH guests only. Source: `HVMOP_set_param`, `hvm/hvm_op.h`.
///
/// # Errors
/// `EINVAL`: no such parameter or value, or a PV guest; `EPERM`: not for
/// guests.
///
/// # Safety
/// What the value names (an interrupt to deliver, a page to use) is ready for
/// it.
#[inline]
pub unsafe fn set_param<H: Hypercall + ?Sized>(
    h: &H,
    index: HvmParam,
    value: u64,
) -> Result<(), Errno> {
    let param = XenHvmParam {
        domid: DomId::SELF,
        pad: 0,
        index,
        value,
    };
    // SAFETY: the hypervisor reads `param`; the rest is the caller's promise.
    let answer = unsafe {
        h.call2(
            HypercallNr::HVM_OP,
            HVMOP_SET_PARAM,
            (&raw const param).expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| ())
}
