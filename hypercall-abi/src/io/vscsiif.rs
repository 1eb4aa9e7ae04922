//! SCSI: `xen/include/public/io/vscsiif.h`.

use crate::GrantRef;

crate::facts::open_enum! {
    /// What a request does.
    pub struct VscsiifAct(u8) {
        /// A command.
        SCSI_CDB = 1, "VSCSIIF_ACT_SCSI_CDB";
        /// End another request.
        SCSI_ABORT = 2, "VSCSIIF_ACT_SCSI_ABORT";
        /// Reset the device.
        SCSI_RESET = 3, "VSCSIIF_ACT_SCSI_RESET";
        /// More segments for the next command.
        SCSI_SG_PRESET = 4, "VSCSIIF_ACT_SCSI_SG_PRESET";
    }
}

crate::facts::open_enum! {
    /// What the host says: bits 16 to 23 of [`VscsiifResponse::rslt`].
    pub struct VscsiifHostResult(u8) {
        /// It was done.
        OK = 0, "XEN_VSCSIIF_RSLT_HOST_OK";
        /// No connection.
        NO_CONNECT = 1, "XEN_VSCSIIF_RSLT_HOST_NO_CONNECT";
        /// The bus was busy.
        BUS_BUSY = 2, "XEN_VSCSIIF_RSLT_HOST_BUS_BUSY";
        /// It took too long.
        TIME_OUT = 3, "XEN_VSCSIIF_RSLT_HOST_TIME_OUT";
        /// There is no such target.
        BAD_TARGET = 4, "XEN_VSCSIIF_RSLT_HOST_BAD_TARGET";
        /// It was ended.
        ABORT = 5, "XEN_VSCSIIF_RSLT_HOST_ABORT";
        /// A parity error.
        PARITY = 6, "XEN_VSCSIIF_RSLT_HOST_PARITY";
        /// An error within.
        ERROR = 7, "XEN_VSCSIIF_RSLT_HOST_ERROR";
        /// A reset.
        RESET = 8, "XEN_VSCSIIF_RSLT_HOST_RESET";
        /// An interrupt that nobody expected.
        BAD_INTR = 9, "XEN_VSCSIIF_RSLT_HOST_BAD_INTR";
        /// Passed on.
        PASSTHROUGH = 10, "XEN_VSCSIIF_RSLT_HOST_PASSTHROUGH";
        /// Try again.
        SOFT_ERROR = 11, "XEN_VSCSIIF_RSLT_HOST_SOFT_ERROR";
        /// Try again at once.
        IMM_RETRY = 12, "XEN_VSCSIIF_RSLT_HOST_IMM_RETRY";
        /// Put it back.
        REQUEUE = 13, "XEN_VSCSIIF_RSLT_HOST_REQUEUE";
        /// The transport was interrupted.
        TRANSPORT_DISRUPTED = 14, "XEN_VSCSIIF_RSLT_HOST_TRANSPORT_DISRUPTED";
        /// The transport gave up.
        TRANSPORT_FAILFAST = 15, "XEN_VSCSIIF_RSLT_HOST_TRANSPORT_FAILFAST";
        /// The target failed for good.
        TARGET_FAILURE = 16, "XEN_VSCSIIF_RSLT_HOST_TARGET_FAILURE";
        /// The path failed for good.
        NEXUS_FAILURE = 17, "XEN_VSCSIIF_RSLT_HOST_NEXUS_FAILURE";
        /// There was no room on the device.
        ALLOC_FAILURE = 18, "XEN_VSCSIIF_RSLT_HOST_ALLOC_FAILURE";
        /// The medium is broken.
        MEDIUM_ERROR = 19, "XEN_VSCSIIF_RSLT_HOST_MEDIUM_ERROR";
        /// The transport is unreliable.
        TRANSPORT_MARGINAL = 20, "XEN_VSCSIIF_RSLT_HOST_TRANSPORT_MARGINAL";
    }
}

crate::facts::constants! {
    /// [`VscsiifResponse::rslt`] of a reset: it was done.
    XEN_VSCSIIF_RSLT_RESET_SUCCESS: i32 = 8194;
    /// [`VscsiifResponse::rslt`] of a reset: it failed.
    XEN_VSCSIIF_RSLT_RESET_FAILED: i32 = 8195;
    /// Segments in a request.
    VSCSIIF_SG_TABLESIZE: usize = 26;
    /// Bytes of a page.
    VSCSIIF_PAGE_SIZE: usize = 4096;
    /// Bytes of a command.
    VSCSIIF_MAX_COMMAND_SIZE: usize = 16;
    /// Bytes of the sense data.
    VSCSIIF_SENSE_BUFFERSIZE: usize = 96;
    /// Segments in a [`VscsiifSgList`].
    VSCSIIF_SG_LIST_SIZE: usize = 31;
    /// Segments in a page.
    VSCSIIF_SG_PER_PAGE: usize = 512;
    /// [`VscsiifRequest::nr_segments`]: the segments are pages of segments.
    VSCSIIF_SG_GRANT: u8 = 128;
}

crate::facts::structs! {
    /// A part of a granted page.
    "scsiif_request_segment" 8
    pub struct ScsiifRequestSegment {
        /// The page.
        gref: GrantRef = 0,
        /// Its first byte.
        offset: u16 = 4,
        /// Its bytes.
        length: u16 = 6,
    }

    /// A request.
    "vscsiif_request" 252
    pub struct VscsiifRequest {
        /// The frontend's number for it.
        rqid: u16 = 0,
        /// What to do.
        act: VscsiifAct = 2,
        /// Bytes of the command.
        cmd_len: u8 = 3,
        /// The command.
        cmnd: [u8; 16] = 4,
        /// Seconds that it may take.
        timeout_per_command: u16 = 20,
        /// The device's channel.
        channel: u16 = 22,
        /// The device's target.
        id: u16 = 24,
        /// The device's unit.
        lun: u16 = 26,
        /// The request to end.
        ref_rqid: u16 = 28,
        /// Where the data goes, as Linux numbers it.
        sc_data_direction: u8 = 30,
        /// How many segments.
        nr_segments: u8 = 31,
        /// The segments.
        seg: [ScsiifRequestSegment; 26] = 32,
        /// Zero.
        reserved: [u32; 3] = 240,
    }

    /// More segments for the next command.
    "vscsiif_sg_list" 252
    pub struct VscsiifSgList {
        /// The frontend's number for it.
        rqid: u16 = 0,
        /// [`VscsiifAct::SCSI_SG_PRESET`].
        act: VscsiifAct = 2,
        /// How many segments.
        nr_segments: u8 = 3,
        /// The segments.
        seg: [ScsiifRequestSegment; 31] = 4,
    }

    /// An answer.
    "vscsiif_response" 252
    pub struct VscsiifResponse {
        /// The request's number.
        rqid: u16 = 0,
        /// What it did; not used.
        act: u8 = 2,
        /// Bytes of sense data.
        sense_len: u8 = 3,
        /// The sense data.
        sense_buffer: [u8; 96] = 4,
        /// How it ended: the device's status, and from bit 16 on
        /// [`VscsiifHostResult`].
        rslt: i32 = 100,
        /// Bytes that were not transferred.
        residual_len: u32 = 104,
        /// Zero.
        reserved: [u32; 36] = 108,
    }
}
