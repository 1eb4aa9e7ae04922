//! The domain's memory: `xen/include/public/memory.h`.

pub(crate) mod calls;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, Gfn};

pub use calls::*;

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
