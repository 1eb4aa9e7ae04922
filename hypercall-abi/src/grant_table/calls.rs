//! Calls about grants.

use super::*;
use crate::{DomId, Errno, Gfn, HypercallNr, call::list, platform::Hypercall};

const NR: HypercallNr = HypercallNr::GRANT_TABLE_OP;

impl GrantStatus {
    /// Whether the operation was done.
    ///
    /// # Errors
    /// The status itself, where it is not [`GrantStatus::OKAY`].
    pub const fn check(self) -> Result<(), Self> {
        if self.0 == Self::OKAY.0 {
            Ok(())
        } else {
            Err(self)
        }
    }
}

impl core::fmt::Display for GrantStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the grant operation ended with {self:?}")
    }
}

impl core::error::Error for GrantStatus {}

/// Maps grants; each entry says how it went. Every guest may.
///
/// # Errors
/// `EFAULT`: the list cannot be read. Entries fail on their own:
/// [`GrantStatus::BAD_DOMAIN`] and [`GrantStatus::BAD_GNTREF`] mean that there
/// is no such entry, [`GrantStatus::GENERAL_ERROR`] that it grants nothing to
/// this domain, [`GrantStatus::BAD_VIRT_ADDR`] is about the place,
/// [`GrantStatus::NO_SPACE`] about the mappings that this domain may have;
/// [`GrantStatus::EAGAIN`] passes.
///
/// # Safety
/// The places are this domain's to map at, and no Rust reference leads to what
/// was mapped there before. What is mapped is peer memory.
#[inline]
pub unsafe fn map<H: Hypercall + ?Sized>(
    h: &H,
    ops: &mut [GnttabMapGrantRef],
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads and writes the list; the rest is the
    // caller's promise.
    unsafe { list(h, NR, GNTTABOP_MAP_GRANT_REF, ops) }.map(|_| ())
}

/// Unmaps grants; each entry says how it went. Every guest may.
///
/// # Errors
/// `EFAULT`: the list cannot be read.
///
/// # Safety
/// Nothing leads to what is unmapped.
#[inline]
pub unsafe fn unmap<H: Hypercall + ?Sized>(
    h: &H,
    ops: &mut [GnttabUnmapGrantRef],
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads and writes the list; the rest is the
    // caller's promise.
    unsafe { list(h, NR, GNTTABOP_UNMAP_GRANT_REF, ops) }.map(|_| ())
}

/// Makes this domain's table as big as `frames` is long, and tells its frames
/// there (which mean something to PV guests only). Every guest may.
///
/// # Errors
/// `EINVAL`: it may not become so big (or, for a PV guest, the answer's status
/// says another reason); `ENOMEM`: no memory for it.
#[inline]
pub fn setup_table<H: Hypercall + ?Sized>(h: &H, frames: &mut [Gfn]) -> Result<(), Errno> {
    let mut op = [GnttabSetupTable {
        dom: DomId::SELF,
        nr_frames: u32::try_from(frames.len()).map_err(|_| Errno::EINVAL)?,
        frame_list: frames.as_mut_ptr().expose_provenance() as u64,
        ..GnttabSetupTable::default()
    }];
    // SAFETY: the hypervisor reads and writes the entry, and writes as many
    // frames as there is room for; both outlive the call.
    unsafe { list(h, NR, GNTTABOP_SETUP_TABLE, &mut op) }?;
    op[0].status.check().map_err(|_| Errno::EINVAL)
}

/// Writes a domain's table to Xen's log. Privileged domains only.
///
/// # Errors
/// `EPERM`, `ENOSYS`: not for this domain; `EINVAL`: no such domain.
#[inline]
pub fn dump_table<H: Hypercall + ?Sized>(h: &H, dom: DomId) -> Result<(), Errno> {
    let mut op = [GnttabDumpTable {
        dom,
        status: GrantStatus::OKAY,
    }];
    // SAFETY: the hypervisor reads and writes the entry, which outlives the
    // call.
    unsafe { list(h, NR, GNTTABOP_DUMP_TABLE, &mut op) }?;
    op[0].status.check().map_err(|_| Errno::EINVAL)
}

/// Gives frames away; each entry says how it went. PV guests only.
///
/// # Errors
/// `ENOSYS`: not a PV guest; `EFAULT`: the list cannot be read.
///
/// # Safety
/// Nothing leads to the frames, which are lost.
#[inline]
pub unsafe fn transfer<H: Hypercall + ?Sized>(
    h: &H,
    ops: &mut [GnttabTransfer],
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads and writes the list; the rest is the
    // caller's promise.
    unsafe { list(h, NR, GNTTABOP_TRANSFER, ops) }.map(|_| ())
}

/// Copies within pages; each entry says how it went. Every guest may.
///
/// # Errors
/// `EFAULT`: the list cannot be read. Entries fail on their own:
/// [`GrantStatus::BAD_COPY_ARG`] where one leaves its page,
/// [`GrantStatus::EAGAIN`] passes.
///
/// # Safety
/// No Rust reference leads to what is written in this domain's own frames.
#[inline]
pub unsafe fn copy<H: Hypercall + ?Sized>(h: &H, ops: &mut [GnttabCopy]) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads and writes the list; the rest is the
    // caller's promise.
    unsafe { list(h, NR, GNTTABOP_COPY, ops) }.map(|_| ())
}

/// Asks how big this domain's table is, and may be, in frames. Every guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen; `EINVAL`: it has no table.
#[inline]
pub fn query_size<H: Hypercall + ?Sized>(h: &H) -> Result<GnttabQuerySize, Errno> {
    let mut op = [GnttabQuerySize {
        dom: DomId::SELF,
        ..GnttabQuerySize::default()
    }];
    // SAFETY: the hypervisor reads and writes the entry, which outlives the
    // call.
    unsafe { list(h, NR, GNTTABOP_QUERY_SIZE, &mut op) }?;
    op[0].status.check().map_err(|_| Errno::EINVAL)?;
    Ok(op[0])
}

/// Unmaps grants, and moves other mappings to their places at once. PV guests
/// only.
///
/// # Errors
/// `ENOSYS`: not a PV guest; `EFAULT`: the list cannot be read.
///
/// # Safety
/// Nothing leads to what is unmapped, or to where the other mappings were.
#[inline]
pub unsafe fn unmap_and_replace<H: Hypercall + ?Sized>(
    h: &H,
    ops: &mut [GnttabUnmapAndReplace],
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads and writes the list; the rest is the
    // caller's promise.
    unsafe { list(h, NR, GNTTABOP_UNMAP_AND_REPLACE, ops) }.map(|_| ())
}

/// Chooses the version of this domain's table, and returns the one that is in
/// use now. Every guest may, if its configuration allows version 2.
///
/// # Errors
/// `EINVAL`: no such version; `EBUSY`: an entry is in use; `ENOSYS`: version 2
/// is not allowed.
///
/// # Safety
/// Xen reads the table in the new layout from now on: no entry stands there
/// that means something else in it.
#[inline]
pub unsafe fn set_version<H: Hypercall + ?Sized>(h: &H, version: u32) -> Result<u32, Errno> {
    let mut op = [GnttabSetVersion { version }];
    // SAFETY: the hypervisor reads and writes the entry; the rest is the
    // caller's promise.
    unsafe { list(h, NR, GNTTABOP_SET_VERSION, &mut op) }.map(|_| op[0].version)
}

/// Tells the frames of this domain's status words (version 2). PV guests only;
/// others put them into memory by [`crate::memory::add_to_physmap`].
///
/// # Errors
/// `ENOSYS`: not a PV guest; `EINVAL`: there are not so many.
#[inline]
pub fn get_status_frames<H: Hypercall + ?Sized>(h: &H, frames: &mut [u64]) -> Result<(), Errno> {
    let mut op = [GnttabGetStatusFrames {
        nr_frames: u32::try_from(frames.len()).map_err(|_| Errno::EINVAL)?,
        dom: DomId::SELF,
        frame_list: frames.as_mut_ptr().expose_provenance() as u64,
        ..GnttabGetStatusFrames::default()
    }];
    // SAFETY: the hypervisor reads and writes the entry, and writes as many
    // frames as there is room for; both outlive the call.
    unsafe { list(h, NR, GNTTABOP_GET_STATUS_FRAMES, &mut op) }?;
    op[0].status.check().map_err(|_| Errno::EINVAL)
}

/// Asks for the version of a domain's table. Every guest may ask about itself.
///
/// # Errors
/// `ESRCH`, `EPERM`: not that domain's.
#[inline]
pub fn get_version<H: Hypercall + ?Sized>(h: &H, dom: DomId) -> Result<u32, Errno> {
    let mut op = [GnttabGetVersion {
        dom,
        ..GnttabGetVersion::default()
    }];
    // SAFETY: the hypervisor reads and writes the entry, which outlives the
    // call.
    unsafe { list(h, NR, GNTTABOP_GET_VERSION, &mut op) }.map(|_| op[0].version)
}

/// Swaps entries of this domain's table; each pair says how it went. Every
/// guest may.
///
/// # Errors
/// `EFAULT`: the list cannot be read.
///
/// # Safety
/// Whoever made the two grants learns that each is now made by the other's reference:
/// who ends one by its old reference would take back a page that a peer has.
#[inline]
pub unsafe fn swap<H: Hypercall + ?Sized>(
    h: &H,
    ops: &mut [GnttabSwapGrantRef],
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads and writes the list; the rest is this function's contract.
    unsafe { list(h, NR, GNTTABOP_SWAP_GRANT_REF, ops) }.map(|_| ())
}

/// Cleans caches of granted memory. Guests that were given devices, on Arm.
///
/// # Errors
/// `ENOSYS`: not here; `EINVAL`, `EPERM`: not that memory.
///
/// # Safety
/// Memory that is invalidated holds nothing that was not written back.
#[inline]
pub unsafe fn cache_flush<H: Hypercall + ?Sized>(
    h: &H,
    ops: &mut [GnttabCacheFlush],
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads the list; the rest is this function's contract.
    unsafe { list(h, NR, GNTTABOP_CACHE_FLUSH, ops) }.map(|_| ())
}
