//! Lending pages to other domains: `xen/include/public/grant_table.h`.
//!
//! A guest lends a page by writing an [`entry`]; another domain [maps](map) it by
//! its reference, or has Xen [copy] from it. The table itself is found by
//! [`query_size`] and put into memory by [`setup_table`] (PV) or
//! [`crate::memory::add_to_physmap`] (HVM and PVH).
//!
//! | subop | function | PV | HVM, PVH |
//! |---|---|---|---|
//! | `GNTTABOP_map_grant_ref` | [`map`] | yes | yes |
//! | `GNTTABOP_unmap_grant_ref` | [`unmap`] | yes | yes |
//! | `GNTTABOP_setup_table` | [`setup_table`] | yes | yes |
//! | `GNTTABOP_dump_table` | [`dump_table`] | no | no |
//! | `GNTTABOP_transfer` | [`transfer`] | yes | no |
//! | `GNTTABOP_copy` | [`copy`] | yes | yes |
//! | `GNTTABOP_query_size` | [`query_size`] | yes | yes |
//! | `GNTTABOP_unmap_and_replace` | [`unmap_and_replace`] | yes | no |
//! | `GNTTABOP_set_version` | [`set_version`] | yes | yes |
//! | `GNTTABOP_get_status_frames` | [`get_status_frames`] | yes | no |
//! | `GNTTABOP_get_version` | [`get_version`] | yes | yes |
//! | `GNTTABOP_swap_grant_ref` | [`swap`] | yes | yes |
//! | `GNTTABOP_cache_flush` | [`cache_flush`] | yes | no (but Arm) |

pub(crate) mod calls;
pub mod entry;

use crate::{DomId, GrantRef, Mfn};

pub use calls::*;

crate::facts::open_enum! {
    /// How an operation of a list ended.
    pub struct GrantStatus(i16) {
        /// It was done.
        OKAY = 0, "GNTST_okay";
        /// It was not: the entry grants nothing to this domain, say.
        GENERAL_ERROR = -1, "GNTST_general_error";
        /// There is no such domain.
        BAD_DOMAIN = -2, "GNTST_bad_domain";
        /// The reference is out of range.
        BAD_GNTREF = -3, "GNTST_bad_gntref";
        /// There is no such mapping.
        BAD_HANDLE = -4, "GNTST_bad_handle";
        /// The address is not one to map at.
        BAD_VIRT_ADDR = -5, "GNTST_bad_virt_addr";
        /// The bus address is not that of the mapping.
        BAD_DEV_ADDR = -6, "GNTST_bad_dev_addr";
        /// There is no room in the table of the I/O memory unit.
        NO_DEVICE_SPACE = -7, "GNTST_no_device_space";
        /// This domain may not do that.
        PERMISSION_DENIED = -8, "GNTST_permission_denied";
        /// The frame is not one to be granted, or not the caller's.
        BAD_PAGE = -9, "GNTST_bad_page";
        /// A copy leaves its page, or is not what the grant allows.
        BAD_COPY_ARG = -10, "GNTST_bad_copy_arg";
        /// The frame's number is too great for the entry.
        ADDRESS_TOO_BIG = -11, "GNTST_address_too_big";
        /// Its memory is being fetched: try again.
        EAGAIN = -12, "GNTST_eagain";
        /// There is no room for another mapping.
        NO_SPACE = -13, "GNTST_no_space";
    }
}

crate::facts::flags! {
    /// How to map.
    pub struct MapFlags: u32 {
        /// For a device: tell the bus address.
        DEVICE_MAP = 1 << 0, "GNTMAP_device_map";
        /// For the processor.
        HOST_MAP = 1 << 1, "GNTMAP_host_map";
        /// For reading only.
        READONLY = 1 << 2, "GNTMAP_readonly";
        /// For user mode too.
        APPLICATION_MAP = 1 << 3, "GNTMAP_application_map";
        /// [`GnttabMapGrantRef::host_addr`] is the machine address of a page
        /// table entry (PV).
        CONTAINS_PTE = 1 << 4, "GNTMAP_contains_pte";
    }
}

crate::facts::flags! {
    /// What [`GnttabCopy`] names by reference; the other is a frame of the
    /// caller's.
    pub struct CopyFlags: u16 {
        /// The source.
        SOURCE_GREF = 1 << 0, "GNTCOPY_source_gref";
        /// The destination.
        DEST_GREF = 1 << 1, "GNTCOPY_dest_gref";
    }
}

crate::facts::constants! {
    /// The first of the bits of [`MapFlags`] that go into the page table entry.
    GNTMAP_GUEST_AVAIL0: u32 = 16, "_GNTMAP_guest_avail0";
    /// Map grants.
    GNTTABOP_MAP_GRANT_REF: usize = 0, "GNTTABOP_map_grant_ref";
    /// Unmap them.
    GNTTABOP_UNMAP_GRANT_REF: usize = 1, "GNTTABOP_unmap_grant_ref";
    /// Make the table big enough, and tell its frames.
    GNTTABOP_SETUP_TABLE: usize = 2, "GNTTABOP_setup_table";
    /// Write the table to Xen's log (privileged).
    GNTTABOP_DUMP_TABLE: usize = 3, "GNTTABOP_dump_table";
    /// Give frames away (PV).
    GNTTABOP_TRANSFER: usize = 4, "GNTTABOP_transfer";
    /// Copy between frames.
    GNTTABOP_COPY: usize = 5, "GNTTABOP_copy";
    /// How big is the table, and may it be?
    GNTTABOP_QUERY_SIZE: usize = 6, "GNTTABOP_query_size";
    /// Unmap, and put another mapping there at once (PV).
    GNTTABOP_UNMAP_AND_REPLACE: usize = 7, "GNTTABOP_unmap_and_replace";
    /// Choose the version.
    GNTTABOP_SET_VERSION: usize = 8, "GNTTABOP_set_version";
    /// The frames of the status words (version 2, PV).
    GNTTABOP_GET_STATUS_FRAMES: usize = 9, "GNTTABOP_get_status_frames";
    /// Which version?
    GNTTABOP_GET_VERSION: usize = 10, "GNTTABOP_get_version";
    /// Swap two entries.
    GNTTABOP_SWAP_GRANT_REF: usize = 11, "GNTTABOP_swap_grant_ref";
    /// Clean the caches of granted memory (Arm).
    GNTTABOP_CACHE_FLUSH: usize = 12, "GNTTABOP_cache_flush";
    /// The bits of [`MapFlags`] that go into the page table entry's available
    /// bits.
    GNTMAP_GUEST_AVAIL_MASK: u32 = 0xffff_0000, "GNTMAP_guest_avail_mask";
    /// [`GnttabCacheFlush::op`]: write back.
    GNTTAB_CACHE_CLEAN: u32 = 0x1;
    /// [`GnttabCacheFlush::op`]: invalidate.
    GNTTAB_CACHE_INVAL: u32 = 0x2;
    /// [`GnttabCacheFlush::op`]: the memory is named by reference.
    GNTTAB_CACHE_SOURCE_GREF: u32 = 0x8000_0000;
}

crate::facts::structs! {
    /// Map a grant.
    "gnttab_map_grant_ref" 32
    pub struct GnttabMapGrantRef {
        /// Where: an address, or a page table entry's
        /// ([`MapFlags::CONTAINS_PTE`]); HVM: a guest physical address.
        host_addr: u64 = 0,
        /// [`MapFlags`].
        flags: u32 = 8,
        /// Which grant.
        r#ref: GrantRef = 12,
        /// Whose.
        dom: DomId = 16,
        /// How it went (out).
        status: GrantStatus = 18,
        /// The mapping's number (out).
        handle: u32 = 20,
        /// Its bus address (out).
        dev_bus_addr: u64 = 24,
    }

    /// Unmap a grant.
    "gnttab_unmap_grant_ref" 24
    pub struct GnttabUnmapGrantRef {
        /// Where it is mapped; zero: nowhere.
        host_addr: u64 = 0,
        /// Its bus address, or zero.
        dev_bus_addr: u64 = 8,
        /// The mapping's number.
        handle: u32 = 16,
        /// How it went (out).
        status: GrantStatus = 20,
        #[doc(hidden)]
        _gap0: [u8; 2] = 22,
    }

    /// Make the table at least so big.
    "gnttab_setup_table" 24
    pub struct GnttabSetupTable {
        /// Whose.
        dom: DomId = 0,
        #[doc(hidden)]
        _gap0: [u8; 2] = 2,
        /// Frames wanted.
        nr_frames: u32 = 4,
        /// How it went (out).
        status: GrantStatus = 8,
        #[doc(hidden)]
        _gap1: [u8; 6] = 10,
        /// The address of the list that gets the frames.
        frame_list: u64 = 16,
    }

    /// Write a domain's table to Xen's log.
    "gnttab_dump_table" 4
    pub struct GnttabDumpTable {
        /// Whose.
        dom: DomId = 0,
        /// How it went (out).
        status: GrantStatus = 2,
    }

    /// Give a frame to a domain that accepts one.
    "gnttab_transfer" 24
    pub struct GnttabTransfer {
        /// The frame.
        mfn: Mfn = 0,
        /// To whom.
        domid: DomId = 8,
        #[doc(hidden)]
        _gap0: [u8; 2] = 10,
        /// Its entry that accepts.
        r#ref: GrantRef = 12,
        /// How it went (out).
        status: GrantStatus = 16,
        #[doc(hidden)]
        _gap1: [u8; 6] = 18,
    }

    /// One side of a copy.
    "gnttab_copy_ptr" 16
    pub struct GnttabCopyPtr {
        /// A reference (low 32 bits), or a frame of the caller's.
        u: u64 = 0,
        /// Whose.
        domid: DomId = 8,
        /// The first byte in the page.
        offset: u16 = 10,
        #[doc(hidden)]
        _gap0: [u8; 4] = 12,
    }

    /// Copy within two pages.
    "gnttab_copy" 40
    pub struct GnttabCopy {
        /// From.
        source: GnttabCopyPtr = 0,
        /// To.
        dest: GnttabCopyPtr = 16,
        /// Bytes.
        len: u16 = 32,
        /// [`CopyFlags`].
        flags: u16 = 34,
        /// How it went (out).
        status: GrantStatus = 36,
        #[doc(hidden)]
        _gap0: [u8; 2] = 38,
    }

    /// How big a table is.
    "gnttab_query_size" 16
    pub struct GnttabQuerySize {
        /// Whose.
        dom: DomId = 0,
        #[doc(hidden)]
        _gap0: [u8; 2] = 2,
        /// Its frames now (out).
        nr_frames: u32 = 4,
        /// The frames that it may have (out).
        max_nr_frames: u32 = 8,
        /// How it went (out).
        status: GrantStatus = 12,
        #[doc(hidden)]
        _gap1: [u8; 2] = 14,
    }

    /// Unmap a grant, and move another mapping to its address.
    "gnttab_unmap_and_replace" 24
    pub struct GnttabUnmapAndReplace {
        /// Where the grant is mapped.
        host_addr: u64 = 0,
        /// The address whose mapping takes its place.
        new_addr: u64 = 8,
        /// The mapping's number.
        handle: u32 = 16,
        /// How it went (out).
        status: GrantStatus = 20,
        #[doc(hidden)]
        _gap0: [u8; 2] = 22,
    }

    /// Choose the version of the table.
    "gnttab_set_version" 4
    pub struct GnttabSetVersion {
        /// 1 or 2 (in), the one that is (out).
        version: u32 = 0,
    }

    /// The frames of the status words.
    "gnttab_get_status_frames" 16
    pub struct GnttabGetStatusFrames {
        /// How many.
        nr_frames: u32 = 0,
        /// Whose.
        dom: DomId = 4,
        /// How it went (out).
        status: GrantStatus = 6,
        /// The address of the list that gets the frames.
        frame_list: u64 = 8,
    }

    /// The version of a table.
    "gnttab_get_version" 8
    pub struct GnttabGetVersion {
        /// Whose.
        dom: DomId = 0,
        /// Zero.
        pad: u16 = 2,
        /// 1 or 2 (out).
        version: u32 = 4,
    }

    /// Swap two entries.
    "gnttab_swap_grant_ref" 12
    pub struct GnttabSwapGrantRef {
        /// One.
        ref_a: GrantRef = 0,
        /// The other.
        ref_b: GrantRef = 4,
        /// How it went (out).
        status: GrantStatus = 8,
        #[doc(hidden)]
        _gap0: [u8; 2] = 10,
    }

    /// Clean caches of granted memory.
    "gnttab_cache_flush" 16
    pub struct GnttabCacheFlush {
        /// A bus address, or a reference (low 32 bits).
        a: u64 = 0,
        /// The first byte in the page.
        offset: u16 = 8,
        /// Bytes.
        length: u16 = 10,
        /// `GNTTAB_CACHE_*`.
        op: u32 = 12,
    }
}
