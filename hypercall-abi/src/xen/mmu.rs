//! How a PV guest changes its page tables: only Xen writes them, after a look
//! at every entry.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, Errno, HypercallNr, layout, platform::Hypercall};

/// [`MmuUpdate::ptr`] is the machine address of a page table entry to write.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// [`MmuUpdate::ptr`] is a machine frame's address, whose pseudo-physical frame
/// becomes `val`.
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// As normal, keeping the accessed and dirty bits.
pub const MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;
/// As normal, without translating the frame.
pub const MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;

/// One entry of a list for [`mmu_update`].
///
/// Source: `struct mmu_update`, `xen/include/public/xen.h`.
#[doc(alias = "mmu_update")]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MmuUpdate {
    /// A machine address; its two low bits say what is to be done.
    pub ptr: u64,
    /// The new content.
    pub val: u64,
}

layout!(MmuUpdate: 16 { ptr: 0..8, val: 8..16 });

/// What to flush after [`update_va_mapping`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Nothing: the entry was not present.
    #[doc(alias = "UVMF_NONE")]
    None,
    /// This vCPU's entry for the address.
    #[doc(alias = "UVMF_INVLPG")]
    Page,
    /// All vCPUs' entries for the address.
    #[doc(alias = "UVMF_ALL")]
    PageEverywhere,
}

impl Flush {
    /// The argument's bits. Source: `UVMF_*`, `xen.h`.
    pub const fn bits(self) -> usize {
        match self {
            Self::None => 0,
            Self::Page => 2,
            Self::PageEverywhere => 2 | (1 << 2),
        }
    }
}

/// Writes page table entries, in order, up to the first that Xen refuses.
///
/// PV guests only. Source: `HYPERVISOR_mmu_update`, `xen.h`.
///
/// # Errors
/// `EINVAL`: an entry breaks a rule (say, maps a page table as writable);
/// `EPERM`, `ESRCH`: a frame is not this guest's. How many entries were done is
/// not told by this call.
///
/// # Safety
/// The new mappings break no reference that Rust code holds, and keep mapped
/// what the running code needs.
#[inline]
pub unsafe fn mmu_update<H: Hypercall + ?Sized>(h: &H, updates: &[MmuUpdate]) -> Result<(), Errno> {
    // SAFETY: the list is read only; what it does is the caller's promise.
    let answer = unsafe {
        h.call4(
            HypercallNr::MMU_UPDATE,
            updates.as_ptr().expose_provenance(),
            updates.len(),
            0,
            DomId::SELF.0 as usize,
        )
    };
    Errno::check(answer).map(|_| ())
}

/// Writes the lowest-level page table entry for the address `va`, whose tables
/// exist already.
///
/// PV guests only. Source: `HYPERVISOR_update_va_mapping`, `xen.h`.
///
/// # Errors
/// `EINVAL`: there is no table for the address, or the entry breaks a rule.
///
/// # Safety
/// As for [`mmu_update`].
#[inline]
pub unsafe fn update_va_mapping<H: Hypercall + ?Sized>(
    h: &H,
    va: usize,
    entry: u64,
    flush: Flush,
) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    let answer = unsafe {
        h.call3(
            HypercallNr::UPDATE_VA_MAPPING,
            va,
            entry as usize,
            flush.bits(),
        )
    };
    Errno::check(answer).map(|_| ())
}
