//! The domain's memory: `xen/include/public/memory.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, Errno, Gfn, HypercallNr, Mfn, call::subop, platform::Hypercall};

crate::facts::open_enum! {
    /// What kind of frame [`add_to_physmap`] takes.
    pub struct MapSpace(u32) {
        /// The shared page.
        SHARED_INFO = 0, "XENMAPSPACE_shared_info";
        /// A frame of the grant table, or of its status words.
        GRANT_TABLE = 1, "XENMAPSPACE_grant_table";
        /// A frame of the guest's own.
        GMFN = 2, "XENMAPSPACE_gmfn";
        /// A range of the guest's own.
        GMFN_RANGE = 3, "XENMAPSPACE_gmfn_range";
        /// A frame of another domain's (privileged).
        GMFN_FOREIGN = 4, "XENMAPSPACE_gmfn_foreign";
        /// A device's registers (Arm).
        DEV_MMIO = 5, "XENMAPSPACE_dev_mmio";
    }
}

crate::facts::constants! {
    /// Get more frames.
    XENMEM_INCREASE_RESERVATION: usize = 0, "XENMEM_increase_reservation";
    /// Give frames back.
    XENMEM_DECREASE_RESERVATION: usize = 1, "XENMEM_decrease_reservation";
    /// The greatest frame of the machine.
    XENMEM_MAXIMUM_RAM_PAGE: usize = 2, "XENMEM_maximum_ram_page";
    /// Pages that the domain has now.
    XENMEM_CURRENT_RESERVATION: usize = 3, "XENMEM_current_reservation";
    /// Pages that the domain may have.
    XENMEM_MAXIMUM_RESERVATION: usize = 4, "XENMEM_maximum_reservation";
    /// The frames of the machine-to-physical table.
    XENMEM_MACHPHYS_MFN_LIST: usize = 5, "XENMEM_machphys_mfn_list";
    /// Put frames where the guest has none.
    XENMEM_POPULATE_PHYSMAP: usize = 6, "XENMEM_populate_physmap";
    /// Put a frame of Xen's into the guest's memory.
    XENMEM_ADD_TO_PHYSMAP: usize = 7, "XENMEM_add_to_physmap";
    /// The memory map.
    XENMEM_MEMORY_MAP: usize = 9, "XENMEM_memory_map";
    /// The machine's memory map (initial domain).
    XENMEM_MACHINE_MEMORY_MAP: usize = 10, "XENMEM_machine_memory_map";
    /// Exchange frames for others.
    XENMEM_EXCHANGE: usize = 11, "XENMEM_exchange";
    /// Where the machine-to-physical table is.
    XENMEM_MACHPHYS_MAPPING: usize = 12, "XENMEM_machphys_mapping";
    /// Set a domain's memory map (toolstack).
    XENMEM_SET_MEMORY_MAP: usize = 13, "XENMEM_set_memory_map";
    /// The greatest frame of the guest.
    XENMEM_MAXIMUM_GPFN: usize = 14, "XENMEM_maximum_gpfn";
    /// Take a frame out of the guest's memory.
    XENMEM_REMOVE_FROM_PHYSMAP: usize = 15, "XENMEM_remove_from_physmap";
    /// Populate on demand (toolstack).
    XENMEM_SET_POD_TARGET: usize = 16, "XENMEM_set_pod_target";
    /// Populate on demand (toolstack).
    XENMEM_GET_POD_TARGET: usize = 17, "XENMEM_get_pod_target";
    /// Put many frames into the guest's memory.
    XENMEM_ADD_TO_PHYSMAP_BATCH: usize = 23, "XENMEM_add_to_physmap_batch";
    /// The frames of the 32-bit machine-to-physical table.
    XENMEM_MACHPHYS_COMPAT_MFN_LIST: usize = 25, "XENMEM_machphys_compat_mfn_list";
    /// The virtual memory nodes.
    XENMEM_GET_VNUMAINFO: usize = 26, "XENMEM_get_vnumainfo";
    /// Map a resource of another domain (device models).
    XENMEM_ACQUIRE_RESOURCE: usize = 28, "XENMEM_acquire_resource";
    /// [`MemoryReservation::mem_flags`]: give frames when they are touched.
    XENMEMF_POPULATE_ON_DEMAND: u32 = 65_536, "XENMEMF_populate_on_demand";
    /// [`MemoryReservation::mem_flags`]: on this node or not at all.
    XENMEMF_EXACT_NODE_REQUEST: u32 = 131_072, "XENMEMF_exact_node_request";
    /// [`MemoryReservation::mem_flags`]: the node is a virtual one.
    XENMEMF_VNODE: u32 = 262_144, "XENMEMF_vnode";
    /// [`AddToPhysmap::idx`]: a frame of the grant table's status words.
    XENMAPIDX_GRANT_TABLE_STATUS: u32 = 2_147_483_648, "XENMAPIDX_grant_table_status";
    /// [`MemAcquireResource::type`]: a device model's pages.
    XENMEM_RESOURCE_IOREQ_SERVER: u16 = 0, "XENMEM_resource_ioreq_server";
    /// [`MemAcquireResource::type`]: a grant table's pages.
    XENMEM_RESOURCE_GRANT_TABLE: u16 = 1, "XENMEM_resource_grant_table";
    /// [`MemAcquireResource::type`]: a vCPU's trace.
    XENMEM_RESOURCE_VMTRACE_BUF: u16 = 2, "XENMEM_resource_vmtrace_buf";
    /// [`MemAcquireResource::id`]: the entries.
    XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED: u32 = 0, "XENMEM_resource_grant_table_id_shared";
    /// [`MemAcquireResource::id`]: the status words.
    XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS: u32 = 1, "XENMEM_resource_grant_table_id_status";
    /// [`MemAcquireResource::frame`]: the buffered requests.
    XENMEM_RESOURCE_IOREQ_SERVER_FRAME_BUFIOREQ: u64 = 0, "XENMEM_resource_ioreq_server_frame_bufioreq";
}

crate::facts::structs! {
    /// Which frames, for [`populate_physmap`], [`increase_reservation`] and
    /// [`decrease_reservation`].
    "xen_memory_reservation" 32
    pub struct MemoryReservation {
        /// The address of the list of first frames.
        extent_start: u64 = 0,
        /// How many extents there are.
        nr_extents: u64 = 8,
        /// Frames of an extent, as a power of two.
        extent_order: u32 = 16,
        /// `XENMEMF_*`, and in the low 8 bits how many bits an address may
        /// have.
        mem_flags: u32 = 20,
        /// Whose.
        domid: DomId = 24,
        #[doc(hidden)]
        _gap0: [u8; 6] = 26,
    }

    /// The argument of `XENMEM_exchange`.
    "xen_memory_exchange" 72
    pub struct MemoryExchange {
        /// What to give.
        r#in: MemoryReservation = 0,
        /// What to get.
        out: MemoryReservation = 32,
        /// Extents that were exchanged; zero at first.
        nr_exchanged: u64 = 64,
    }

    /// The argument of `XENMEM_machphys_mfn_list`.
    "xen_machphys_mfn_list" 24
    pub struct MachphysMfnList {
        /// Room in the list.
        max_extents: u32 = 0,
        #[doc(hidden)]
        _gap0: [u8; 4] = 4,
        /// The address of the list.
        extent_start: u64 = 8,
        /// Entries that were written: 2 MiB of the table each.
        nr_extents: u32 = 16,
        #[doc(hidden)]
        _gap1: [u8; 4] = 20,
    }

    /// Where a PV guest finds the machine-to-physical table.
    "xen_machphys_mapping" 24
    pub struct MachphysMapping {
        /// The address of entry zero.
        v_start: u64 = 0,
        /// The end of the table's address range.
        v_end: u64 = 8,
        /// The greatest machine frame in it.
        max_mfn: u64 = 16,
    }

    /// The argument of `XENMEM_add_to_physmap`.
    "xen_add_to_physmap" 24
    pub struct AddToPhysmap {
        /// Whose memory.
        domid: DomId = 0,
        /// Pages, for some spaces only.
        size: u16 = 2,
        /// What kind of frame.
        space: MapSpace = 4,
        /// Which frame of the space.
        idx: u64 = 8,
        /// Where to put it.
        gpfn: Gfn = 16,
    }

    /// The argument of `XENMEM_add_to_physmap_batch`.
    "xen_add_to_physmap_batch" 32
    pub struct AddToPhysmapBatch {
        /// Whose memory.
        domid: DomId = 0,
        /// What kind of frames, [`MapSpace`].
        space: u16 = 2,
        /// How many there are.
        size: u16 = 4,
        /// The domain that they belong to, for [`MapSpace::GMFN_FOREIGN`]; else
        /// zero.
        u: u16 = 6,
        /// The address of the list of frames of the space.
        idxs: u64 = 8,
        /// The address of the list of where to put them.
        gpfns: u64 = 16,
        /// The address of the list of error numbers, which is written.
        errs: u64 = 24,
    }

    /// The argument of `XENMEM_remove_from_physmap`.
    "xen_remove_from_physmap" 16
    pub struct RemoveFromPhysmap {
        /// Whose memory.
        domid: DomId = 0,
        #[doc(hidden)]
        _gap0: [u8; 6] = 2,
        /// Which frame.
        gpfn: Gfn = 8,
    }

    /// The argument of `XENMEM_memory_map`.
    "xen_memory_map" 16
    pub struct XenMemoryMap {
        /// Room in the list (in), entries that were written (out).
        nr_entries: u32 = 0,
        #[doc(hidden)]
        _gap0: [u8; 4] = 4,
        /// The address of the list of [`MemoryMapEntry`].
        buffer: u64 = 8,
    }

    /// The argument of `XENMEM_set_memory_map` (toolstack).
    "xen_foreign_memory_map" 24
    pub struct ForeignMemoryMap {
        /// Whose map.
        domid: DomId = 0,
        #[doc(hidden)]
        _gap0: [u8; 6] = 2,
        /// The map.
        map: XenMemoryMap = 8,
    }

    /// The argument of `XENMEM_set_pod_target` (toolstack).
    "xen_pod_target" 40
    pub struct PodTarget {
        /// Pages wanted.
        target_pages: u64 = 0,
        /// Pages there are.
        tot_pages: u64 = 8,
        /// Pages kept.
        pod_cache_pages: u64 = 16,
        /// Pages not there yet.
        pod_entries: u64 = 24,
        /// Whose.
        domid: DomId = 32,
        #[doc(hidden)]
        _gap0: [u8; 6] = 34,
    }

    /// The argument of calls that only name a domain.
    "xen_memory_domain" 2
    pub struct MemoryDomain {
        /// Which.
        domid: DomId = 0,
    }

    /// The argument of `XENMEM_acquire_resource` (device models).
    "xen_mem_acquire_resource" 32
    pub struct MemAcquireResource {
        /// Whose resource.
        domid: DomId = 0,
        /// `XENMEM_resource_*`.
        r#type: u16 = 2,
        /// Which of its kind.
        id: u32 = 4,
        /// Frames (in); with zero, how many there are (out).
        nr_frames: u32 = 8,
        /// Zero.
        pad: u32 = 12,
        /// The first frame of the resource.
        frame: u64 = 16,
        /// The address of the list of frames.
        frame_list: u64 = 24,
    }

    /// A range of memory on one virtual node.
    "xen_vmemrange" 24
    pub struct Vmemrange {
        /// Its first address.
        start: u64 = 0,
        /// Behind its last.
        end: u64 = 8,
        /// Zero.
        flags: u32 = 16,
        /// The node.
        nid: u32 = 20,
    }

    /// The argument of `XENMEM_get_vnumainfo`.
    "xen_vnuma_topology_info" 40
    pub struct VnumaTopologyInfo {
        /// Whose.
        domid: DomId = 0,
        /// Zero.
        pad: u16 = 2,
        /// Nodes: room (in), there are (out).
        nr_vnodes: u32 = 4,
        /// vCPUs: room (in), there are (out).
        nr_vcpus: u32 = 8,
        /// Ranges: room (in), there are (out).
        nr_vmemranges: u32 = 12,
        /// The address of the table of distances, a word for each pair of
        /// nodes.
        vdistance: u64 = 16,
        /// The address of the list of each vCPU's node.
        vcpu_to_vnode: u64 = 24,
        /// The address of the list of [`Vmemrange`].
        vmemrange: u64 = 32,
    }
}

const NR: HypercallNr = HypercallNr::MEMORY_OP;

/// A range of the memory map, as the BIOS call E820 lays it out.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, packed(4))]
pub struct MemoryMapEntry {
    /// Its first byte.
    pub addr: u64,
    /// Its size in bytes.
    pub size: u64,
    /// What it is, as in [`crate::hvm::XEN_HVM_MEMMAP_TYPE_RAM`] and so on.
    pub r#type: u32,
}

const _: () = assert!(size_of::<MemoryMapEntry>() == 20);

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
    // rest is the caller's promise.
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
    // SAFETY: the hypervisor reads `arg`; the rest is the caller's promise.
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
    // third; the rest is the caller's promise.
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
    // SAFETY: the hypervisor reads `arg`; the rest is the caller's promise.
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
