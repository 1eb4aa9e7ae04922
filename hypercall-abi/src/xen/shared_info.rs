//! The page that Xen and the guest share.
//!
//! Xen writes it while the guest runs: use it through
//! [`PeerPtr`](crate::peer::PeerPtr) only.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout;

/// A vCPU's clock, to be read under its version.
///
/// Source: `struct vcpu_time_info`, `xen/include/public/xen.h`.
#[doc(alias = "vcpu_time_info")]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while Xen writes.
    pub version: u32,
    #[doc(hidden)]
    pub pad0: u32,
    /// The time stamp counter when the rest was written.
    pub tsc_timestamp: u64,
    /// Nanoseconds since the host booted, then.
    pub system_time: u64,
    /// Nanoseconds a tick: shift by `tsc_shift`, multiply, divide by 2^32.
    pub tsc_to_system_mul: u32,
    /// Shift to the left, or (negative) to the right.
    pub tsc_shift: i8,
    /// Bit 0: the counters of all processors agree.
    pub flags: u8,
    #[doc(hidden)]
    pub pad1: [u8; 2],
}

layout!(VcpuTimeInfo: 32 {
    version: 0..4, tsc_timestamp: 8..16, system_time: 16..24, tsc_to_system_mul: 24..28,
    tsc_shift: 28..29, flags: 29..30,
});

/// The part of [`VcpuInfo`] that is x86's own.
///
/// Source: `struct arch_vcpu_info`, `xen/include/public/arch-x86/xen-x86_64.h`.
#[doc(alias = "arch_vcpu_info")]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArchVcpuInfo {
    /// The address of a PV guest's page fault.
    pub cr2: u64,
    #[doc(hidden)]
    pub pad: u64,
}

layout!(ArchVcpuInfo: 16 { cr2: 0..8 });

/// What Xen and one vCPU share.
///
/// Source: `struct vcpu_info`, `xen/include/public/xen.h`.
#[doc(alias = "vcpu_info")]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuInfo {
    /// Not zero: an upcall is due.
    pub evtchn_upcall_pending: u8,
    /// Not zero: no upcalls, please (the guest's interrupt flag, inverted).
    pub evtchn_upcall_mask: u8,
    #[doc(hidden)]
    pub _pad0: [u8; 6],
    /// One bit for each word of [`SharedInfo::evtchn_pending`] to look at.
    pub evtchn_pending_sel: u64,
    /// x86's own.
    pub arch: ArchVcpuInfo,
    /// The clock.
    pub time: VcpuTimeInfo,
}

layout!(VcpuInfo: 64 {
    evtchn_upcall_pending: 0..1, evtchn_upcall_mask: 1..2, evtchn_pending_sel: 8..16,
    arch: 16..32, time: 32..64,
});

/// The part of [`SharedInfo`] that is x86's own.
///
/// Source: `struct arch_shared_info`, `xen/include/public/arch-x86/xen.h`.
#[doc(alias = "arch_shared_info")]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArchSharedInfo {
    /// The number of frames in the frame lists below.
    pub max_pfn: u64,
    /// The frame of the list of lists of machine frames, for save and restore.
    pub pfn_to_mfn_frame_list_list: u64,
    /// Why a non-maskable interrupt came.
    pub nmi_reason: u64,
    /// The page table under which `p2m_vaddr` is mapped; zero: use the list.
    pub p2m_cr3: u64,
    /// The address of the list of machine frames.
    pub p2m_vaddr: u64,
    /// Odd while the list is changed.
    pub p2m_generation: u64,
}

layout!(ArchSharedInfo: 48 {
    max_pfn: 0..8, pfn_to_mfn_frame_list_list: 8..16, nmi_reason: 16..24, p2m_cr3: 24..32,
    p2m_vaddr: 32..40, p2m_generation: 40..48,
});

/// What Xen and a domain share.
///
/// Source: `struct shared_info`, `xen/include/public/xen.h`.
#[doc(alias = "shared_info")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SharedInfo {
    /// The first 32 vCPUs' (others register a place of their own).
    #[doc(alias = "XEN_LEGACY_MAX_VCPUS")]
    pub vcpu_info: [VcpuInfo; 32],
    /// A bit for each port of the 2-level interface: an event came.
    pub evtchn_pending: [u64; 64],
    /// A bit for each port of the 2-level interface: no upcall for it.
    pub evtchn_mask: [u64; 64],
    /// Odd while Xen writes the wall clock.
    pub wc_version: u32,
    /// The wall clock when the host booted: seconds since 1970, low word.
    pub wc_sec: u32,
    /// The wall clock when the host booted: nanoseconds.
    pub wc_nsec: u32,
    /// The wall clock when the host booted: seconds, high word.
    pub wc_sec_hi: u32,
    /// x86's own.
    pub arch: ArchSharedInfo,
}

layout!(SharedInfo: 3136 {
    vcpu_info: 0..2048, evtchn_pending: 2048..2560, evtchn_mask: 2560..3072,
    wc_version: 3072..3076, wc_sec: 3076..3080, wc_nsec: 3080..3084, wc_sec_hi: 3084..3088,
    arch: 3088..3136,
});
