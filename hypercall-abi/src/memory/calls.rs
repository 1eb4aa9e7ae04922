//! Calls about memory.

use super::*;
use crate::{DomId, Errno, Gfn, HypercallNr, Mfn, call::subop, platform::Hypercall};

const NR: HypercallNr = HypercallNr::MEMORY_OP;

/// A subop whose argument is the calling domain's number.
#[inline(always)]
fn of_self<H: Hypercall + ?Sized>(h: &H, op: usize) -> Result<usize, Errno> {
    let mut arg = MemoryDomain { domid: DomId::SELF };
    // SAFETY: the hypervisor reads the domain's number.
    unsafe { subop(h, NR, op, &mut arg) }
}

/// A reservation of this domain's, of `extents`.
fn reservation(extents: &mut [u64], extent_order: u32, mem_flags: u32) -> MemoryReservation {
    MemoryReservation {
        extent_start: extents.as_mut_ptr().expose_provenance() as u64,
        nr_extents: extents.len() as u64,
        extent_order,
        mem_flags,
        domid: DomId::SELF,
        ..MemoryReservation::default()
    }
}

/// Gets frames, and tells them in `extents` (PV: machine frames). Returns how
/// many extents there were. Any guest may, up to [`maximum_reservation`].
///
/// # Errors
/// `EPERM`: extents are too big; `EINVAL`: too many. Too little memory is no
/// error: fewer extents are.
#[inline]
pub fn increase_reservation<H: Hypercall + ?Sized>(
    h: &H,
    extents: &mut [u64],
    extent_order: u32,
    mem_flags: u32,
) -> Result<usize, Errno> {
    let mut arg = reservation(extents, extent_order, mem_flags);
    // SAFETY: the hypervisor reads `arg`, and writes the extents.
    unsafe { subop(h, NR, XENMEM_INCREASE_RESERVATION, &mut arg) }
}

/// Gives frames back (PV: machine frames; else guest frames). Returns how many
/// extents were taken. Any guest may.
///
/// # Errors
/// `EINVAL`: too many. A frame that is not this domain's ends the list early.
///
/// # Safety
/// Nothing leads to the frames, which are lost.
#[inline]
pub unsafe fn decrease_reservation<H: Hypercall + ?Sized>(
    h: &H,
    extents: &mut [u64],
    extent_order: u32,
) -> Result<usize, Errno> {
    let mut arg = reservation(extents, extent_order, 0);
    // SAFETY: the hypervisor reads `arg` and the extents; the rest is the
    // caller's promise.
    unsafe { subop(h, NR, XENMEM_DECREASE_RESERVATION, &mut arg) }
}

/// Puts frames where the guest has none: `extents` are pseudo-physical frames
/// (and become machine frames, for a PV guest). Returns how many were put. Any
/// guest may, up to [`maximum_reservation`].
///
/// # Errors
/// `EPERM`: extents are too big; `EINVAL`: too many.
///
/// # Safety
/// Nothing is at those frames yet.
#[inline]
pub unsafe fn populate_physmap<H: Hypercall + ?Sized>(
    h: &H,
    extents: &mut [u64],
    extent_order: u32,
    mem_flags: u32,
) -> Result<usize, Errno> {
    let mut arg = reservation(extents, extent_order, mem_flags);
    // SAFETY: the hypervisor reads `arg`, and reads and writes the extents; the
    // rest is this function's contract.
    unsafe { subop(h, NR, XENMEM_POPULATE_PHYSMAP, &mut arg) }
}

/// Exchanges frames for others, of another order or below another address; the
/// extents it was done for are counted in `exchange`. For PV guests.
///
/// # Errors
/// `EINVAL`: the two sides do not match; `ENOMEM`: no such memory; `ENOSYS`,
/// `EOPNOTSUPP`: not a PV guest.
///
/// # Safety
/// The lists that `exchange` leads to are there, and nothing leads to the
/// frames that are given.
#[inline]
pub unsafe fn exchange<H: Hypercall + ?Sized>(
    h: &H,
    exchange: &mut MemoryExchange,
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads and writes `exchange`; the rest is the
    // caller's promise.
    unsafe { subop(h, NR, XENMEM_EXCHANGE, exchange) }.map(|_| ())
}

/// Asks for the greatest frame of the machine's memory. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn maximum_ram_page<H: Hypercall + ?Sized>(h: &H) -> Result<usize, Errno> {
    // SAFETY: no argument.
    let answer = unsafe { h.call2(NR, XENMEM_MAXIMUM_RAM_PAGE, 0) };
    Errno::check(answer)
}

/// Asks how many pages this domain has. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn current_reservation<H: Hypercall + ?Sized>(h: &H) -> Result<usize, Errno> {
    of_self(h, XENMEM_CURRENT_RESERVATION)
}

/// Asks how many pages this domain may have. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn maximum_reservation<H: Hypercall + ?Sized>(h: &H) -> Result<usize, Errno> {
    of_self(h, XENMEM_MAXIMUM_RESERVATION)
}

/// Asks for the greatest frame of this domain: for a PV guest that is what it
/// wrote into [`ArchSharedInfo::max_pfn`](crate::xen::ArchSharedInfo), less one.
/// Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn maximum_gpfn<H: Hypercall + ?Sized>(h: &H) -> Result<usize, Errno> {
    of_self(h, XENMEM_MAXIMUM_GPFN)
}

fn mfn_list<H: Hypercall + ?Sized>(h: &H, op: usize, frames: &mut [Mfn]) -> Result<usize, Errno> {
    let mut arg = MachphysMfnList {
        max_extents: u32::try_from(frames.len()).map_err(|_| Errno::EINVAL)?,
        extent_start: frames.as_mut_ptr().expose_provenance() as u64,
        ..MachphysMfnList::default()
    };
    // SAFETY: the hypervisor reads and writes `arg`, and writes as many frames
    // as there is room for.
    unsafe { subop(h, NR, op, &mut arg) }.map(|_| arg.nr_extents as usize)
}

/// Asks for the frames of the machine-to-physical table, one for 2 MiB of it;
/// returns how many were told. PV guests, for the toolstack's sake.
///
/// # Errors
/// `ENOSYS`, `EOPNOTSUPP`: not offered.
#[inline]
pub fn machphys_mfn_list<H: Hypercall + ?Sized>(h: &H, frames: &mut [Mfn]) -> Result<usize, Errno> {
    mfn_list(h, XENMEM_MACHPHYS_MFN_LIST, frames)
}

/// The same for the table of 32-bit guests.
///
/// # Errors
/// `ENOSYS`, `EOPNOTSUPP`: not offered.
#[inline]
pub fn machphys_compat_mfn_list<H: Hypercall + ?Sized>(
    h: &H,
    frames: &mut [Mfn],
) -> Result<usize, Errno> {
    mfn_list(h, XENMEM_MACHPHYS_COMPAT_MFN_LIST, frames)
}

/// Asks where the machine-to-physical table is. PV guests only.
///
/// # Errors
/// `ENOSYS`, `EINVAL`: not a PV guest.
#[inline]
pub fn machphys_mapping<H: Hypercall + ?Sized>(h: &H) -> Result<MachphysMapping, Errno> {
    let mut mapping = MachphysMapping::default();
    // SAFETY: the hypervisor writes `mapping`, which outlives the call.
    unsafe { subop(h, NR, XENMEM_MACHPHYS_MAPPING, &mut mapping) }.map(|_| mapping)
}

/// Puts a frame of Xen's at `gpfn` of this domain's memory; what was there
/// goes back to Xen. HVM and PVH guests only.
///
/// # Errors
/// `EINVAL`: no such frame or place; `EACCES`: a PV guest; `ENOSYS`: not
/// offered.
///
/// # Safety
/// No Rust reference leads into the page at `gpfn`, whose content is lost.
#[inline]
pub unsafe fn add_to_physmap<H: Hypercall + ?Sized>(
    h: &H,
    space: MapSpace,
    idx: u64,
    gpfn: Gfn,
) -> Result<(), Errno> {
    let mut arg = AddToPhysmap {
        domid: DomId::SELF,
        size: 0,
        space,
        idx,
        gpfn,
    };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { subop(h, NR, XENMEM_ADD_TO_PHYSMAP, &mut arg) }.map(|_| ())
}

/// [`add_to_physmap`] of many frames: `idxs[i]` goes to `gpfns[i]`, and
/// `errors[i]` says how that went (zero, or a negative error number).
///
/// # Errors
/// `EINVAL`: the lists are not of one length; `ENOSYS`: not offered.
///
/// # Safety
/// As for [`add_to_physmap`].
#[inline]
pub unsafe fn add_to_physmap_batch<H: Hypercall + ?Sized>(
    h: &H,
    space: MapSpace,
    idxs: &[u64],
    gpfns: &[Gfn],
    errors: &mut [i32],
) -> Result<(), Errno> {
    if idxs.len() != gpfns.len() || idxs.len() != errors.len() {
        return Err(Errno::EINVAL);
    }
    let mut arg = AddToPhysmapBatch {
        domid: DomId::SELF,
        space: space.0 as u16,
        size: u16::try_from(idxs.len()).map_err(|_| Errno::EINVAL)?,
        u: 0,
        idxs: idxs.as_ptr().expose_provenance() as u64,
        gpfns: gpfns.as_ptr().expose_provenance() as u64,
        errs: errors.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: the hypervisor reads `arg` and the two lists, and writes the
    // third; the rest is this function's contract.
    unsafe { subop(h, NR, XENMEM_ADD_TO_PHYSMAP_BATCH, &mut arg) }.map(|_| ())
}

/// Takes a frame out of this domain's memory. HVM and PVH guests only.
///
/// # Errors
/// `ENOENT`, `EINVAL`: nothing is there; `EACCES`: a PV guest; `ENOSYS`: not
/// offered.
///
/// # Safety
/// Nothing leads to the frame, which is lost.
#[inline]
pub unsafe fn remove_from_physmap<H: Hypercall + ?Sized>(h: &H, gpfn: Gfn) -> Result<(), Errno> {
    let mut arg = RemoveFromPhysmap {
        domid: DomId::SELF,
        gpfn,
        ..RemoveFromPhysmap::default()
    };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { subop(h, NR, XENMEM_REMOVE_FROM_PHYSMAP, &mut arg) }.map(|_| ())
}

/// Asks for the memory map; returns how many entries were written. Any guest
/// may, but one without a map of its own is refused.
///
/// # Errors
/// `ENOSYS`: the domain has no map; `EINVAL`: there is no room.
#[inline]
pub fn memory_map<H: Hypercall + ?Sized>(
    h: &H,
    entries: &mut [MemoryMapEntry],
) -> Result<usize, Errno> {
    let mut arg = XenMemoryMap {
        nr_entries: u32::try_from(entries.len()).map_err(|_| Errno::EINVAL)?,
        buffer: entries.as_mut_ptr().expose_provenance() as u64,
        ..XenMemoryMap::default()
    };
    // SAFETY: the hypervisor reads and writes `arg`, and writes as many entries
    // as there is room for.
    unsafe { subop(h, NR, XENMEM_MEMORY_MAP, &mut arg) }.map(|_| arg.nr_entries as usize)
}

/// Asks for the virtual memory nodes: the numbers in `info` say how much room
/// its lists have. Any guest may, but one without nodes is refused.
///
/// # Errors
/// `EOPNOTSUPP`: the domain has no nodes; `ENOBUFS`: there is no room, and
/// `info` says how much is needed.
///
/// # Safety
/// The lists that `info` leads to are there, and are not used otherwise.
#[inline]
pub unsafe fn get_vnumainfo<H: Hypercall + ?Sized>(
    h: &H,
    info: &mut VnumaTopologyInfo,
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads and writes `info`; the rest is the caller's
    // promise.
    unsafe { subop(h, NR, XENMEM_GET_VNUMAINFO, info) }.map(|_| ())
}
