//! How a PV guest receives exceptions.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Errno, HypercallNr, layout, platform::Hypercall};

/// The code segment of a 64-bit PV guest's kernel (and of all its code).
///
/// Source: `FLAT_KERNEL_CS64`, `xen/include/public/arch-x86/xen-x86_64.h`.
pub const FLAT_KERNEL_CS: u16 = 0xe033;
/// The stack segment of a 64-bit PV guest's kernel.
pub const FLAT_KERNEL_SS: u16 = 0xe02b;

/// An entry of a PV guest's table of exception handlers; one with a zero
/// address ends it.
///
/// Source: `struct trap_info`, `xen/include/public/arch-x86/xen.h`.
#[doc(alias = "trap_info")]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TrapInfo {
    /// The exception.
    pub vector: u8,
    /// Bits 0 and 1: who may raise it by instruction; bit 2: mask events.
    pub flags: u8,
    /// The handler's code segment.
    pub cs: u16,
    #[doc(hidden)]
    pub _pad: u32,
    /// The handler.
    pub address: u64,
}

layout!(TrapInfo: 16 { vector: 0..1, flags: 1..2, cs: 2..4, address: 8..16 });

/// The flag of [`TrapInfo`] that masks events in the handler.
pub const TI_SET_IF: u8 = 1 << 2;

/// Sets the guest's exception handlers. `table` ends with a zero entry.
///
/// PV guests only. Source: `HYPERVISOR_set_trap_table`, `xen.h`.
///
/// # Errors
/// `EPERM`: a code segment is not allowed; `EFAULT`: the table cannot be read;
/// `ENOSYS`: not a PV guest.
///
/// # Safety
/// The handlers are code that can handle exceptions, and the last entry's
/// address is zero.
#[inline]
pub unsafe fn set_trap_table<H: Hypercall + ?Sized>(
    h: &H,
    table: &[TrapInfo],
) -> Result<(), Errno> {
    // SAFETY: the table is read up to its zero entry; the caller's promise.
    let answer = unsafe {
        h.call1(
            HypercallNr::SET_TRAP_TABLE,
            table.as_ptr().expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| ())
}
