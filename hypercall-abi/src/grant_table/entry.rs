//! What the table itself holds: an entry for each grant, in memory that Xen
//! reads and writes while the guest does.
//!
//! ```text
//! version 1 (8 bytes)            version 2 (16 bytes)
//! +-------+-------+-----------+  +-------+-------+-------+-------+---------------+
//! | flags | domid | frame (32)|  | flags | domid | offset| length|   frame (64)  |
//! +-------+-------+-----------+  +-------+-------+-------+-------+---------------+
//! GTF_reading and GTF_writing    its use bits stand in words of their own:
//! say that the peer maps it      the status frames
//! ```

use crate::{DomId, Gfn, GrantRef};

crate::facts::flags! {
    /// [`GrantEntryV1::flags`] and [`GrantEntryHeader::flags`]; two bits are
    /// the type.
    pub struct GrantFlags: u16 {
        /// The type: the domain may use the frame.
        PERMIT_ACCESS = 1 << 0, "GTF_permit_access";
        /// The type: the domain may give a frame (PV).
        ACCEPT_TRANSFER = 1 << 1, "GTF_accept_transfer";
        /// The type: another domain's grant (version 2).
        TRANSITIVE = 0x3, "GTF_transitive";
        /// The domain may only read.
        READONLY = 1 << 2, "GTF_readonly";
        /// The domain reads or maps it now.
        READING = 1 << 3, "GTF_reading";
        /// The domain may write it now.
        WRITING = 1 << 4, "GTF_writing";
        /// Map with this caching bit.
        PWT = 1 << 5, "GTF_PWT";
        /// Map with this caching bit.
        PCD = 1 << 6, "GTF_PCD";
        /// Map with this caching bit.
        PAT = 1 << 7, "GTF_PAT";
        /// Only a part of the frame (version 2; for copies).
        SUB_PAGE = 1 << 8, "GTF_sub_page";
        /// A transfer has begun (in the place of `READONLY`).
        TRANSFER_COMMITTED = 1 << 2, "GTF_transfer_committed";
        /// A transfer has ended (in the place of `READING`).
        TRANSFER_COMPLETED = 1 << 3, "GTF_transfer_completed";
    }
}

crate::facts::constants! {
    /// The type: none.
    GTF_INVALID: u16 = 0, "GTF_invalid";
    /// The bits that are the type.
    GTF_TYPE_MASK: u16 = 3, "GTF_type_mask";
    /// The first entry that is free for the guest: the toolstack uses those
    /// below.
    GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
    /// The toolstack's grant of the console's page.
    GNTTAB_RESERVED_CONSOLE: GrantRef = GrantRef(0);
    /// The toolstack's grant of the store's page.
    GNTTAB_RESERVED_XENSTORE: GrantRef = GrantRef(1);
}

crate::facts::structs! {
    /// An entry of version 1.
    "grant_entry_v1" 8
    pub struct GrantEntryV1 {
        /// [`GrantFlags`]. Write it last, and revoke by compare-and-swap.
        flags: u16 = 0,
        /// Who may use it.
        domid: DomId = 2,
        /// The frame.
        frame: u32 = 4,
    }

    /// How every entry of version 2 starts.
    "grant_entry_header" 4
    pub struct GrantEntryHeader {
        /// [`GrantFlags`]. Write it last.
        flags: u16 = 0,
        /// Who may use it.
        domid: DomId = 2,
    }

    /// An entry of version 2 for a frame.
    "grant_entry_v2.full_page" 16
    pub struct GrantEntryV2FullPage {
        /// Flags and domain.
        hdr: GrantEntryHeader = 0,
        /// Zero.
        pad0: u32 = 4,
        /// The frame.
        frame: Gfn = 8,
    }

    /// An entry of version 2 for a part of a frame.
    "grant_entry_v2.sub_page" 16
    pub struct GrantEntryV2SubPage {
        /// Flags and domain.
        hdr: GrantEntryHeader = 0,
        /// Where the part starts.
        page_off: u16 = 4,
        /// Its bytes.
        length: u16 = 6,
        /// The frame.
        frame: Gfn = 8,
    }

    /// An entry of version 2 for another domain's grant.
    "grant_entry_v2.transitive" 12
    pub struct GrantEntryV2Transitive {
        /// Flags and domain.
        hdr: GrantEntryHeader = 0,
        /// Whose grant.
        trans_domid: DomId = 4,
        /// Zero.
        pad0: u16 = 6,
        /// Which.
        gref: GrantRef = 8,
    }
}
