//! How a PV guest changes its page tables: only Xen writes them, after a look
//! at every entry.

use crate::{DomId, Errno, HypercallNr, Mfn, platform::Hypercall};

crate::facts::open_enum! {
    /// What an [`MmuextOp`] does.
    pub struct MmuextCmd(u32) {
        /// Check a level 1 table now, and keep it one.
        PIN_L1_TABLE = 0, "MMUEXT_PIN_L1_TABLE";
        /// Check a level 2 table and all below it, and keep them.
        PIN_L2_TABLE = 1, "MMUEXT_PIN_L2_TABLE";
        /// Check a level 3 table and all below it, and keep them.
        PIN_L3_TABLE = 2, "MMUEXT_PIN_L3_TABLE";
        /// Check a level 4 table and all below it, and keep them.
        PIN_L4_TABLE = 3, "MMUEXT_PIN_L4_TABLE";
        /// Let go of a pinned table.
        UNPIN_TABLE = 4, "MMUEXT_UNPIN_TABLE";
        /// Switch to another top table.
        NEW_BASEPTR = 5, "MMUEXT_NEW_BASEPTR";
        /// Flush this vCPU's translations.
        TLB_FLUSH_LOCAL = 6, "MMUEXT_TLB_FLUSH_LOCAL";
        /// Flush this vCPU's translation of an address.
        INVLPG_LOCAL = 7, "MMUEXT_INVLPG_LOCAL";
        /// Flush some vCPUs' translations.
        TLB_FLUSH_MULTI = 8, "MMUEXT_TLB_FLUSH_MULTI";
        /// Flush some vCPUs' translations of an address.
        INVLPG_MULTI = 9, "MMUEXT_INVLPG_MULTI";
        /// Flush all vCPUs' translations.
        TLB_FLUSH_ALL = 10, "MMUEXT_TLB_FLUSH_ALL";
        /// Flush all vCPUs' translations of an address.
        INVLPG_ALL = 11, "MMUEXT_INVLPG_ALL";
        /// Write back and flush this processor's caches (with a device of one's
        /// own).
        FLUSH_CACHE = 12, "MMUEXT_FLUSH_CACHE";
        /// Set the local descriptor table.
        SET_LDT = 13, "MMUEXT_SET_LDT";
        /// Set the top table for user mode (64-bit guests).
        NEW_USER_BASEPTR = 15, "MMUEXT_NEW_USER_BASEPTR";
        /// Fill a frame with zeroes.
        CLEAR_PAGE = 16, "MMUEXT_CLEAR_PAGE";
        /// Copy a frame.
        COPY_PAGE = 17, "MMUEXT_COPY_PAGE";
        /// Write back and flush all processors' caches (with a device of one's
        /// own).
        FLUSH_CACHE_GLOBAL = 18, "MMUEXT_FLUSH_CACHE_GLOBAL";
        /// Mark a frame as part of a superpage (no longer supported).
        MARK_SUPER = 19, "MMUEXT_MARK_SUPER";
        /// The opposite.
        UNMARK_SUPER = 20, "MMUEXT_UNMARK_SUPER";
    }
}

crate::facts::constants! {
    /// [`MmuUpdate::ptr`] is the machine address of a page table entry to
    /// write.
    MMU_NORMAL_PT_UPDATE: u64 = 0;
    /// [`MmuUpdate::ptr`] is a machine frame's address, whose pseudo-physical
    /// frame becomes `val`.
    MMU_MACHPHYS_UPDATE: u64 = 1;
    /// As normal, keeping the accessed and dirty bits.
    MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;
    /// As normal, without translating the frame.
    MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;
    /// [`update_va_mapping`]: flush nothing.
    UVMF_NONE: usize = 0;
    /// [`update_va_mapping`]: flush all translations.
    UVMF_TLB_FLUSH: usize = 1;
    /// [`update_va_mapping`]: flush the address's translation.
    UVMF_INVLPG: usize = 2;
    /// [`update_va_mapping`]: the bits that say what to flush.
    UVMF_FLUSHTYPE_MASK: usize = 3;
    /// [`update_va_mapping`]: on the vCPUs of the bitmap that the other bits
    /// point to.
    UVMF_MULTI: usize = 0;
    /// [`update_va_mapping`]: on this vCPU.
    UVMF_LOCAL: usize = 0;
    /// [`update_va_mapping`]: on all vCPUs.
    UVMF_ALL: usize = 4;
}

crate::facts::structs! {
    /// One entry of a list for [`mmu_update`].
    "mmu_update" 16
    pub struct MmuUpdate {
        /// A machine address; its two low bits say what is to be done
        /// (`MMU_*`).
        ptr: u64 = 0,
        /// The new content.
        val: u64 = 8,
    }

    /// One entry of a list for [`mmuext_op`].
    "mmuext_op" 24
    pub struct MmuextOp {
        /// What to do.
        cmd: MmuextCmd = 0,
        #[doc(hidden)]
        _gap0: [u8; 4] = 4,
        /// A machine frame, or a linear address.
        arg1: u64 = 8,
        /// A number of entries, the address of a bitmap of vCPUs, or a machine
        /// frame.
        arg2: u64 = 16,
    }
}

/// What to flush after [`update_va_mapping`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Nothing: the entry was not present.
    None,
    /// This vCPU's entry for the address.
    Page,
    /// All vCPUs' entries for the address.
    PageEverywhere,
    /// All of this vCPU's entries.
    All,
    /// All of all vCPUs' entries.
    AllEverywhere,
}

impl Flush {
    /// The argument's bits.
    pub const fn bits(self) -> usize {
        match self {
            Self::None => UVMF_NONE,
            Self::Page => UVMF_INVLPG | UVMF_LOCAL,
            Self::PageEverywhere => UVMF_INVLPG | UVMF_ALL,
            Self::All => UVMF_TLB_FLUSH | UVMF_LOCAL,
            Self::AllEverywhere => UVMF_TLB_FLUSH | UVMF_ALL,
        }
    }
}

/// The level of a page table: 1 holds entries of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The lowest.
    L1,
    /// The second.
    L2,
    /// The third.
    L3,
    /// The top.
    L4,
}

impl MmuextOp {
    const fn new(cmd: MmuextCmd, arg1: u64, arg2: u64) -> Self {
        Self {
            cmd,
            _gap0: [0; 4],
            arg1,
            arg2,
        }
    }

    /// Checks a table and all below it now, and keeps them tables.
    pub const fn pin(level: Level, table: Mfn) -> Self {
        let cmd = match level {
            Level::L1 => MmuextCmd::PIN_L1_TABLE,
            Level::L2 => MmuextCmd::PIN_L2_TABLE,
            Level::L3 => MmuextCmd::PIN_L3_TABLE,
            Level::L4 => MmuextCmd::PIN_L4_TABLE,
        };
        Self::new(cmd, table.0, 0)
    }

    /// Lets go of a pinned table.
    pub const fn unpin(table: Mfn) -> Self {
        Self::new(MmuextCmd::UNPIN_TABLE, table.0, 0)
    }

    /// Switches to another top table.
    pub const fn new_baseptr(table: Mfn) -> Self {
        Self::new(MmuextCmd::NEW_BASEPTR, table.0, 0)
    }

    /// Sets the top table for user mode; zero: none.
    pub const fn new_user_baseptr(table: Mfn) -> Self {
        Self::new(MmuextCmd::NEW_USER_BASEPTR, table.0, 0)
    }

    /// Flushes this vCPU's translations.
    pub const fn tlb_flush_local() -> Self {
        Self::new(MmuextCmd::TLB_FLUSH_LOCAL, 0, 0)
    }

    /// Flushes all vCPUs' translations.
    pub const fn tlb_flush_all() -> Self {
        Self::new(MmuextCmd::TLB_FLUSH_ALL, 0, 0)
    }

    /// Flushes the translations of the vCPUs in the bitmap at an address.
    pub const fn tlb_flush_multi(vcpumask: u64) -> Self {
        Self::new(MmuextCmd::TLB_FLUSH_MULTI, 0, vcpumask)
    }

    /// Flushes this vCPU's translation of an address.
    pub const fn invlpg_local(address: u64) -> Self {
        Self::new(MmuextCmd::INVLPG_LOCAL, address, 0)
    }

    /// Flushes all vCPUs' translations of an address.
    pub const fn invlpg_all(address: u64) -> Self {
        Self::new(MmuextCmd::INVLPG_ALL, address, 0)
    }

    /// Flushes the translations of an address of the vCPUs in the bitmap at
    /// another.
    pub const fn invlpg_multi(address: u64, vcpumask: u64) -> Self {
        Self::new(MmuextCmd::INVLPG_MULTI, address, vcpumask)
    }

    /// Writes back and flushes this processor's caches.
    pub const fn flush_cache() -> Self {
        Self::new(MmuextCmd::FLUSH_CACHE, 0, 0)
    }

    /// Writes back and flushes all processors' caches.
    pub const fn flush_cache_global() -> Self {
        Self::new(MmuextCmd::FLUSH_CACHE_GLOBAL, 0, 0)
    }

    /// Sets the local descriptor table: `entries` at a page's address.
    pub const fn set_ldt(address: u64, entries: u32) -> Self {
        Self::new(MmuextCmd::SET_LDT, address, entries as u64)
    }

    /// Fills a frame with zeroes.
    pub const fn clear_page(target: Mfn) -> Self {
        Self::new(MmuextCmd::CLEAR_PAGE, target.0, 0)
    }

    /// Copies a frame.
    pub const fn copy_page(source: Mfn, target: Mfn) -> Self {
        Self::new(MmuextCmd::COPY_PAGE, target.0, source.0)
    }
}

/// Writes page table entries, in order, up to the first that Xen refuses; `done`
/// tells how many were written.
///
/// PV guests only. Source: `HYPERVISOR_mmu_update`, `xen.h`.
///
/// # Errors
/// `EINVAL`: an entry breaks a rule (say, maps a page table as writable);
/// `EPERM`, `ESRCH`: a frame is not this guest's; `ENOSYS`: no PV guest.
///
/// # Safety
/// The new mappings break no reference that Rust code holds, and keep mapped
/// what the running code needs.
#[inline]
pub unsafe fn mmu_update<H: Hypercall + ?Sized>(
    h: &H,
    updates: &[MmuUpdate],
    done: &mut u32,
) -> Result<(), Errno> {
    // SAFETY: the list is read, and `done` written; what the list does is the
    // caller's promise.
    let answer = unsafe {
        h.call4(
            HypercallNr::MMU_UPDATE,
            updates.as_ptr().expose_provenance(),
            updates.len(),
            (&raw mut *done).expose_provenance(),
            DomId::SELF.0 as usize,
        )
    };
    Errno::check(answer).map(|_| ())
}

/// Does the operations of a list, in order, up to the first that Xen refuses;
/// `done` tells how many were done.
///
/// PV guests only. Source: `HYPERVISOR_mmuext_op`, `xen.h`.
///
/// # Errors
/// `EINVAL`: a frame is not what the operation wants; `EPERM`: it is not this
/// guest's, or there is no device to flush caches for; `ENOSYS`: no PV guest,
/// or no such operation.
///
/// # Safety
/// As for [`mmu_update`]; frames that are cleared or written hold nothing that
/// a Rust reference leads to.
#[inline]
pub unsafe fn mmuext_op<H: Hypercall + ?Sized>(
    h: &H,
    ops: &[MmuextOp],
    done: &mut u32,
) -> Result<(), Errno> {
    // SAFETY: the list is read, and `done` written; what the list does is the
    // caller's promise.
    let answer = unsafe {
        h.call4(
            HypercallNr::MMUEXT_OP,
            ops.as_ptr().expose_provenance(),
            ops.len(),
            (&raw mut *done).expose_provenance(),
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
    // SAFETY: this function's contract.
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

/// [`update_va_mapping`] with a frame of another domain's, which this one may
/// map (a privileged one, or [`DomId::IO`]).
///
/// PV guests only. Source: `HYPERVISOR_update_va_mapping_otherdomain`, `xen.h`.
///
/// # Errors
/// `EPERM`: not that domain's frames; else as for [`update_va_mapping`].
///
/// # Safety
/// As for [`mmu_update`]; what is mapped is peer memory.
#[inline]
pub unsafe fn update_va_mapping_otherdomain<H: Hypercall + ?Sized>(
    h: &H,
    va: usize,
    entry: u64,
    flush: Flush,
    owner: DomId,
) -> Result<(), Errno> {
    // SAFETY: this function's contract.
    let answer = unsafe {
        h.call4(
            HypercallNr::UPDATE_VA_MAPPING_OTHERDOMAIN,
            va,
            entry as usize,
            flush.bits(),
            owner.0 as usize,
        )
    };
    Errno::check(answer).map(|_| ())
}
