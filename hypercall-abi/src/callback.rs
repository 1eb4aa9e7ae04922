//! Where Xen calls a PV guest: `xen/include/public/callback.h`.

use crate::{Errno, HypercallNr, call::subop, platform::Hypercall};

crate::facts::open_enum! {
    /// What a callback is for.
    pub struct CallbackType(u16) {
        /// Upcalls.
        EVENT = 0, "CALLBACKTYPE_event";
        /// A segment that could not be loaded, or a bad `iret`.
        FAILSAFE = 1, "CALLBACKTYPE_failsafe";
        /// System calls from 64-bit user mode.
        SYSCALL = 2, "CALLBACKTYPE_syscall";
        /// The number that `sysenter` had once.
        SYSENTER_DEPRECATED = 3, "CALLBACKTYPE_sysenter_deprecated";
        /// Non-maskable interrupts.
        NMI = 4, "CALLBACKTYPE_nmi";
        /// System calls by `sysenter`.
        SYSENTER = 5, "CALLBACKTYPE_sysenter";
        /// System calls from 32-bit user mode.
        SYSCALL32 = 7, "CALLBACKTYPE_syscall32";
    }
}

crate::facts::flags! {
    /// How to call.
    pub struct CallbackFlags: u16 {
        /// With events masked.
        MASK_EVENTS = 1 << 0, "CALLBACKF_mask_events";
    }
}

crate::facts::constants! {
    /// Set a callback.
    CALLBACKOP_REGISTER: usize = 0, "CALLBACKOP_register";
    /// Remove one.
    CALLBACKOP_UNREGISTER: usize = 1, "CALLBACKOP_unregister";
}

crate::facts::structs! {
    /// The argument of `CALLBACKOP_register`.
    "callback_register" 16
    pub struct CallbackRegister {
        /// What for.
        r#type: CallbackType = 0,
        /// [`CallbackFlags`].
        flags: u16 = 2,
        #[doc(hidden)]
        _gap0: [u8; 4] = 4,
        /// Where to.
        address: u64 = 8,
    }

    /// The argument of `CALLBACKOP_unregister`.
    "callback_unregister" 4
    pub struct CallbackUnregister {
        /// What for.
        r#type: CallbackType = 0,
        /// Zero.
        _unused: u16 = 2,
    }
}

const NR: HypercallNr = HypercallNr::CALLBACK_OP;

/// Sets where Xen calls. PV guests only.
///
/// # Errors
/// `EINVAL`: the address is not canonical; `ENOSYS`: no such callback, or not a
/// PV guest.
///
/// # Safety
/// Code is there that can handle it.
#[inline]
pub unsafe fn register<H: Hypercall + ?Sized>(
    h: &H,
    r#type: CallbackType,
    flags: CallbackFlags,
    address: u64,
) -> Result<(), Errno> {
    let mut arg = CallbackRegister {
        r#type,
        flags: flags.bits(),
        address,
        ..CallbackRegister::default()
    };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { subop(h, NR, CALLBACKOP_REGISTER, &mut arg) }.map(|_| ())
}

/// Removes a callback: only that of non-maskable interrupts can be. PV guests
/// only.
///
/// # Errors
/// `EINVAL`: not that one; `ENOSYS`: no such callback, or not a PV guest.
#[inline]
pub fn unregister<H: Hypercall + ?Sized>(h: &H, r#type: CallbackType) -> Result<(), Errno> {
    let mut arg = CallbackUnregister {
        r#type,
        ..CallbackUnregister::default()
    };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, NR, CALLBACKOP_UNREGISTER, &mut arg) }.map(|_| ())
}
