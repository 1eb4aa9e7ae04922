//! Block devices: `xen/include/public/io/blkif.h`.
//!
//! Sectors are always counted in units of 512 bytes, whatever the device's are.

use crate::GrantRef;

crate::facts::open_enum! {
    /// What a request does.
    pub struct BlkifOp(u8) {
        /// Read.
        READ = 0, "BLKIF_OP_READ";
        /// Write.
        WRITE = 1, "BLKIF_OP_WRITE";
        /// Write, after all before it and before all after it.
        WRITE_BARRIER = 2, "BLKIF_OP_WRITE_BARRIER";
        /// Make what was written last.
        FLUSH_DISKCACHE = 3, "BLKIF_OP_FLUSH_DISKCACHE";
        /// Reserved.
        RESERVED_1 = 4, "BLKIF_OP_RESERVED_1";
        /// Forget sectors: [`BlkifRequestDiscard`].
        DISCARD = 5, "BLKIF_OP_DISCARD";
        /// Read or write with a list of segments elsewhere:
        /// [`BlkifRequestIndirect`].
        INDIRECT = 6, "BLKIF_OP_INDIRECT";
    }
}

crate::facts::open_enum! {
    /// How a request ended.
    pub struct BlkifStatus(i16) {
        /// It was done.
        OKAY = 0, "BLKIF_RSP_OKAY";
        /// It failed.
        ERROR = -1, "BLKIF_RSP_ERROR";
        /// The backend cannot.
        EOPNOTSUPP = -2, "BLKIF_RSP_EOPNOTSUPP";
    }
}

crate::facts::flags! {
    /// What kind of device it is: the backend's `info` key.
    pub struct VdiskInfo: u32 {
        /// It is a CD-ROM.
        CDROM = 1 << 0, "VDISK_CDROM";
        /// It can be taken out.
        REMOVABLE = 1 << 1, "VDISK_REMOVABLE";
        /// It cannot be written.
        READONLY = 1 << 2, "VDISK_READONLY";
    }
}

crate::facts::constants! {
    /// Segments in a request.
    BLKIF_MAX_SEGMENTS_PER_REQUEST: usize = 11;
    /// Pages of segments of an indirect request.
    BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST: usize = 8;
    /// [`BlkifRequestDiscard::flag`]: so that nobody can read it again.
    BLKIF_DISCARD_SECURE: u8 = 1;
}

crate::facts::structs! {
    /// A part of a granted page.
    "blkif_request_segment" 8
    pub struct BlkifRequestSegment {
        /// The page.
        gref: GrantRef = 0,
        /// Its first sector in the page, of 512 bytes.
        first_sect: u8 = 4,
        /// Its last.
        last_sect: u8 = 5,
        #[doc(hidden)]
        _gap0: [u8; 2] = 6,
    }

    /// A request.
    "blkif_request" 112
    pub struct BlkifRequest {
        /// What to do.
        operation: BlkifOp = 0,
        /// How many segments.
        nr_segments: u8 = 1,
        /// The device's handle.
        handle: u16 = 2,
        #[doc(hidden)]
        _gap0: [u8; 4] = 4,
        /// The frontend's number for it.
        id: u64 = 8,
        /// The first sector.
        sector_number: u64 = 16,
        /// The segments.
        seg: [BlkifRequestSegment; 11] = 24,
    }

    /// A request to forget sectors.
    "blkif_request_discard" 32
    pub struct BlkifRequestDiscard {
        /// [`BlkifOp::DISCARD`].
        operation: BlkifOp = 0,
        /// Zero or [`BLKIF_DISCARD_SECURE`].
        flag: u8 = 1,
        /// The device's handle.
        handle: u16 = 2,
        #[doc(hidden)]
        _gap0: [u8; 4] = 4,
        /// The frontend's number for it.
        id: u64 = 8,
        /// The first sector.
        sector_number: u64 = 16,
        /// How many.
        nr_sectors: u64 = 24,
    }

    /// A request whose segments lie in pages of their own.
    "blkif_request_indirect" 64
    pub struct BlkifRequestIndirect {
        /// [`BlkifOp::INDIRECT`].
        operation: BlkifOp = 0,
        /// What to do.
        indirect_op: BlkifOp = 1,
        /// How many segments.
        nr_segments: u16 = 2,
        #[doc(hidden)]
        _gap0: [u8; 4] = 4,
        /// The frontend's number for it.
        id: u64 = 8,
        /// The first sector.
        sector_number: u64 = 16,
        /// The device's handle.
        handle: u16 = 24,
        #[doc(hidden)]
        _gap1: [u8; 2] = 26,
        /// The pages of [`BlkifRequestSegment`].
        indirect_grefs: [GrantRef; 8] = 28,
        #[doc(hidden)]
        _gap2: [u8; 4] = 60,
    }

    /// An answer.
    "blkif_response" 16
    pub struct BlkifResponse {
        /// The request's number.
        id: u64 = 0,
        /// What it did.
        operation: BlkifOp = 8,
        #[doc(hidden)]
        _gap0: u8 = 9,
        /// How it ended.
        status: BlkifStatus = 10,
        #[doc(hidden)]
        _gap1: [u8; 4] = 12,
    }
}
