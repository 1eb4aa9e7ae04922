//! The last part of every boot on hardware.

#[cfg(feature = "heap")]
use crate::kernel::heap;
use crate::{
    arch::traps,
    boot_info::{BootInfo, GuestType},
    cpu::guest_type,
    error::Error,
    guest::{Guest, SharedPage},
    hypervisor::Native,
    kernel::crash,
};

// Handlers of events and faults save no vector registers, so that code between them may
// use these by assembly.
#[cfg(target_feature = "sse")]
compile_error!(
    "pv-guest is for targets without vector registers in compiled code, like x86_64-unknown-none: \
     its handlers do not save them"
);

core::arch::global_asm!(
    include_str!("entry.S"),
    start_pv = sym super::pv::start,
    start_pvh = sym super::pvh::start,
    options(att_syntax)
);

unsafe extern "Rust" {
    // What `entry!` defines.
    fn pv_guest_main(guest: Guest) -> Result<(), Error>;
    #[cfg(feature = "heap")]
    static PV_GUEST_HEAP_BYTES: usize;
}

/// Tells all that asks how this guest is virtualized.
pub(super) fn set_guest_type(guest_type: GuestType) {
    guest_type::set_guest_type(guest_type);
    traps::set_exit(guest_type);
    traps::set_fatal(crash::report);
}

/// The last part of every boot: memory, traps and console work. No shared page: there is
/// no Xen.
///
/// # Safety
/// As for [`Guest::use_rings`], if there is a shared page.
pub(super) unsafe fn run(info: BootInfo, shared: Option<SharedPage>) -> Result<(), Error> {
    let mut guest = Guest::adopt(Native, info);
    if let Some(shared) = shared {
        // SAFETY: this function's contract.
        unsafe { guest.use_rings(shared) }?;
    }
    #[cfg(feature = "heap")]
    // SAFETY: a constant of the kernel's.
    heap::set_limit(unsafe { PV_GUEST_HEAP_BYTES });
    // SAFETY: `entry!` defines it with this type.
    unsafe { pv_guest_main(guest) }
}
