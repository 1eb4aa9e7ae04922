//! The domain's memory: `xen/include/public/memory.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, Errno, Gfn, HypercallNr, layout, platform::Hypercall};

/// Pages that the domain has now.
#[doc(alias = "XENMEM_current_reservation")]
pub const XENMEM_CURRENT_RESERVATION: usize = 3;
/// Pages that the domain may have.
#[doc(alias = "XENMEM_maximum_reservation")]
pub const XENMEM_MAXIMUM_RESERVATION: usize = 4;
/// Put a frame of Xen's into the guest's memory.
#[doc(alias = "XENMEM_add_to_physmap")]
pub const XENMEM_ADD_TO_PHYSMAP: usize = 7;
/// The memory map.
#[doc(alias = "XENMEM_memory_map")]
pub const XENMEM_MEMORY_MAP: usize = 9;
/// Where the machine-to-physical table is.
#[doc(alias = "XENMEM_machphys_mapping")]
pub const XENMEM_MACHPHYS_MAPPING: usize = 12;

/// The shared page, for [`add_to_physmap`].
#[doc(alias = "XENMAPSPACE_shared_info")]
pub const XENMAPSPACE_SHARED_INFO: u32 = 0;
/// A frame of the grant table, for [`add_to_physmap`].
#[doc(alias = "XENMAPSPACE_grant_table")]
pub const XENMAPSPACE_GRANT_TABLE: u32 = 1;

/// Where a PV guest finds the machine-to-physical table.
///
/// Source: `struct xen_machphys_mapping`, `memory.h`.
#[doc(alias = "xen_machphys_mapping")]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MachphysMapping {
    /// The address of entry zero.
    pub v_start: u64,
    /// The end of the table's address range.
    pub v_end: u64,
    /// The greatest machine frame in it.
    pub max_mfn: u64,
}

layout!(MachphysMapping: 24 { v_start: 0..8, v_end: 8..16, max_mfn: 16..24 });

/// The argument of `XENMEM_add_to_physmap`.
///
/// Source: `struct xen_add_to_physmap`, `memory.h`.
#[doc(alias = "xen_add_to_physmap")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddToPhysmap {
    /// Whose memory.
    pub domid: DomId,
    /// Pages, for some spaces only.
    pub size: u16,
    /// `XENMAPSPACE_*`.
    pub space: u32,
    /// Which frame of the space.
    pub idx: u64,
    /// Where to put it.
    pub gpfn: Gfn,
}

layout!(AddToPhysmap: 24 { domid: 0..2, size: 2..4, space: 4..8, idx: 8..16, gpfn: 16..24 });

fn reservation<H: Hypercall + ?Sized>(h: &H, op: usize) -> Result<usize, Errno> {
    let domid = DomId::SELF;
    // SAFETY: the hypervisor reads the domain's number.
    let answer = unsafe {
        h.call2(
            HypercallNr::MEMORY_OP,
            op,
            (&raw const domid).expose_provenance(),
        )
    };
    Errno::check(answer)
}

/// How many pages this domain has. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
pub fn current_reservation<H: Hypercall + ?Sized>(h: &H) -> Result<usize, Errno> {
    reservation(h, XENMEM_CURRENT_RESERVATION)
}

/// How many pages this domain may have. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
pub fn maximum_reservation<H: Hypercall + ?Sized>(h: &H) -> Result<usize, Errno> {
    reservation(h, XENMEM_MAXIMUM_RESERVATION)
}

/// Asks where the machine-to-physical table is. PV guests only.
///
/// # Errors
/// `ENOSYS`: not a PV guest.
pub fn machphys_mapping<H: Hypercall + ?Sized>(h: &H) -> Result<MachphysMapping, Errno> {
    let mut mapping = MachphysMapping::default();
    // SAFETY: the hypervisor writes `mapping`, which outlives the call.
    let answer = unsafe {
        h.call2(
            HypercallNr::MEMORY_OP,
            XENMEM_MACHPHYS_MAPPING,
            (&raw mut mapping).expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| mapping)
}

/// Puts a frame of Xen's at `gpfn` of this domain's memory; what was there
/// goes back to Xen. HVM and PVH guests only.
///
/// # Errors
/// `EINVAL`: no such frame or place; `ENOSYS`: not offered.
///
/// # Safety
/// No Rust reference leads into the page at `gpfn`, whose content is lost.
pub unsafe fn add_to_physmap<H: Hypercall + ?Sized>(
    h: &H,
    space: u32,
    idx: u64,
    gpfn: Gfn,
) -> Result<(), Errno> {
    let arg = AddToPhysmap {
        domid: DomId::SELF,
        size: 0,
        space,
        idx,
        gpfn,
    };
    // SAFETY: the hypervisor reads `arg`; the rest is the caller's promise.
    let answer = unsafe {
        h.call2(
            HypercallNr::MEMORY_OP,
            XENMEM_ADD_TO_PHYSMAP,
            (&raw const arg).expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| ())
}
