//! The page that Xen and the guest share.
//!
//! Xen writes it while the guest runs: use it through
//! [`PeerPtr`](crate::peer::PeerPtr) only.

crate::facts::flags! {
    /// [`VcpuTimeInfo::flags`].
    pub struct PvclockFlags: u8 {
        /// The counters of all processors agree.
        TSC_STABLE_BIT = 1 << 0, "XEN_PVCLOCK_TSC_STABLE_BIT";
        /// The host stopped the guest for a while.
        GUEST_STOPPED = 1 << 1, "XEN_PVCLOCK_GUEST_STOPPED";
    }
}

crate::facts::constants! {
    /// vCPUs that have their information in [`SharedInfo`]; others register a
    /// place of their own.
    XEN_LEGACY_MAX_VCPUS: usize = 32;
}

crate::facts::structs! {
    /// A vCPU's clock, to be read under its version.
    "vcpu_time_info" 32
    pub struct VcpuTimeInfo {
        /// Odd while Xen writes.
        version: u32 = 0,
        /// Zero.
        pad0: u32 = 4,
        /// The time stamp counter when the rest was written.
        tsc_timestamp: u64 = 8,
        /// Nanoseconds since the host booted, then.
        system_time: u64 = 16,
        /// Nanoseconds a tick: shift by `tsc_shift`, multiply, divide by 2^32.
        tsc_to_system_mul: u32 = 24,
        /// Shift to the left, or (negative) to the right.
        tsc_shift: i8 = 28,
        /// [`PvclockFlags`].
        flags: u8 = 29,
        /// Zero.
        pad1: u16 = 30,
    }

    /// The part of [`VcpuInfo`] that is x86's own.
    "arch_vcpu_info" 16
    pub struct ArchVcpuInfo {
        /// The address of a PV guest's page fault.
        cr2: u64 = 0,
        /// Zero.
        pad: u64 = 8,
    }

    /// What Xen and one vCPU share.
    "vcpu_info" 64
    pub struct VcpuInfo {
        /// Not zero: an upcall is due.
        evtchn_upcall_pending: u8 = 0,
        /// Not zero: no upcalls, please (the guest's interrupt flag, inverted).
        evtchn_upcall_mask: u8 = 1,
        #[doc(hidden)]
        _gap0: [u8; 6] = 2,
        /// One bit for each word of [`SharedInfo::evtchn_pending`] to look at.
        evtchn_pending_sel: u64 = 8,
        /// x86's own.
        arch: ArchVcpuInfo = 16,
        /// The clock.
        time: VcpuTimeInfo = 32,
    }

    /// The part of [`SharedInfo`] that is x86's own.
    "arch_shared_info" 48
    pub struct ArchSharedInfo {
        /// The number of frames in the frame lists below.
        max_pfn: u64 = 0,
        /// The frame of the list of lists of machine frames, for save and
        /// restore.
        pfn_to_mfn_frame_list_list: u64 = 8,
        /// Why a non-maskable interrupt came: [`crate::nmi::NmiReason`].
        nmi_reason: u64 = 16,
        /// The page table under which `p2m_vaddr` is mapped; zero: use the
        /// list.
        p2m_cr3: u64 = 24,
        /// The address of the list of machine frames.
        p2m_vaddr: u64 = 32,
        /// Odd while the list is changed.
        p2m_generation: u64 = 40,
    }

    /// What Xen and a domain share.
    "shared_info" 3136
    pub struct SharedInfo {
        /// The first 32 vCPUs'.
        vcpu_info: [VcpuInfo; 32] = 0,
        /// A bit for each port of the 2-level interface: an event came.
        evtchn_pending: [u64; 64] = 2048,
        /// A bit for each port of the 2-level interface: no upcall for it.
        evtchn_mask: [u64; 64] = 2560,
        /// Odd while Xen writes the wall clock.
        wc_version: u32 = 3072,
        /// The wall clock when the host booted: seconds since 1970, low word.
        wc_sec: u32 = 3076,
        /// The wall clock when the host booted: nanoseconds.
        wc_nsec: u32 = 3080,
        /// The wall clock when the host booted: seconds, high word.
        wc_sec_hi: u32 = 3084,
        /// x86's own.
        arch: ArchSharedInfo = 3088,
    }
}
