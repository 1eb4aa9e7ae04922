//! Performance counters of PV guests: `xen/include/public/pmu.h`.

use crate::{DomId, Errno, Gfn, HypercallNr, VcpuId, call::subop, platform::Hypercall};

crate::facts::flags! {
    /// What is counted.
    pub struct PmuMode: u64 {
        /// Guests count themselves.
        SELF = 1 << 0, "XENPMU_MODE_SELF";
        /// The initial domain counts Xen too.
        HV = 1 << 1, "XENPMU_MODE_HV";
        /// The initial domain counts everything.
        ALL = 1 << 2, "XENPMU_MODE_ALL";
    }
}

crate::facts::flags! {
    /// What may be counted.
    pub struct PmuFeatures: u64 {
        /// Branch traces.
        INTEL_BTS = 1 << 0, "XENPMU_FEATURE_INTEL_BTS";
        /// Instructions and cycles only.
        IPC_ONLY = 1 << 1, "XENPMU_FEATURE_IPC_ONLY";
        /// Architectural events only.
        ARCH_ONLY = 1 << 2, "XENPMU_FEATURE_ARCH_ONLY";
    }
}

crate::facts::flags! {
    /// [`PmuArch::pmu_flags`].
    pub struct PmuFlags: u64 {
        /// The counters lie in memory.
        CACHED = 1 << 0, "PMU_CACHED";
        /// The sample is user mode's.
        SAMPLE_USER = 1 << 1, "PMU_SAMPLE_USER";
        /// The sample is real mode's.
        SAMPLE_REAL = 1 << 2, "PMU_SAMPLE_REAL";
        /// The sample is a PV guest's.
        SAMPLE_PV = 1 << 3, "PMU_SAMPLE_PV";
    }
}

crate::facts::constants! {
    /// Read the mode (initial domain).
    XENPMU_MODE_GET: usize = 0, "XENPMU_mode_get";
    /// Set the mode (initial domain).
    XENPMU_MODE_SET: usize = 1, "XENPMU_mode_set";
    /// Read the features (initial domain).
    XENPMU_FEATURE_GET: usize = 2, "XENPMU_feature_get";
    /// Set the features (initial domain).
    XENPMU_FEATURE_SET: usize = 3, "XENPMU_feature_set";
    /// Give a vCPU its page of counters.
    XENPMU_INIT: usize = 4, "XENPMU_init";
    /// Take it away.
    XENPMU_FINISH: usize = 5, "XENPMU_finish";
    /// Take over the interrupt's setting from the page.
    XENPMU_LVTPC_SET: usize = 6, "XENPMU_lvtpc_set";
    /// Take over the counters from the page.
    XENPMU_FLUSH: usize = 7, "XENPMU_flush";
    /// [`PmuParams::version`], first number.
    XENPMU_VER_MAJ: u32 = 0;
    /// [`PmuParams::version`], second number.
    XENPMU_VER_MIN: u32 = 1;
    /// [`PmuMode`]: nothing.
    XENPMU_MODE_OFF: u64 = 0;
    /// Bytes for the registers in [`PmuArch`].
    XENPMU_REGS_PAD_SZ: usize = 64;
    /// Bytes for the counters in [`PmuArch`].
    XENPMU_CTXT_PAD_SZ: usize = 128;
}

crate::facts::structs! {
    /// The registers when a counter overflowed.
    "xen_pmu_regs" 32
    pub struct PmuRegs {
        /// The instruction pointer.
        ip: u64 = 0,
        /// The stack pointer.
        sp: u64 = 8,
        /// The flags.
        flags: u64 = 16,
        /// The code segment.
        cs: u16 = 24,
        /// The stack segment.
        ss: u16 = 26,
        /// The privilege level.
        cpl: u8 = 28,
        /// Zero.
        pad: [u8; 3] = 29,
    }

    /// A counter of Intel's.
    "xen_pmu_cntr_pair" 16
    pub struct PmuCounterPair {
        /// Its value.
        counter: u64 = 0,
        /// Its control.
        control: u64 = 8,
    }

    /// AMD's counters; their values follow.
    "xen_pmu_amd_ctxt" 8
    pub struct PmuAmdContext {
        /// Where the counters are, from the start of this.
        counters: u32 = 0,
        /// Where the controls are.
        ctrls: u32 = 4,
    }

    /// Intel's counters; their values follow.
    "xen_pmu_intel_ctxt" 64
    pub struct PmuIntelContext {
        /// Where the fixed counters are, from the start of this.
        fixed_counters: u32 = 0,
        /// Where the others are.
        arch_counters: u32 = 4,
        /// The register of this name.
        global_ctrl: u64 = 8,
        /// The register of this name.
        global_ovf_ctrl: u64 = 16,
        /// The register of this name.
        global_status: u64 = 24,
        /// The register of this name.
        fixed_ctrl: u64 = 32,
        /// The register of this name.
        ds_area: u64 = 40,
        /// The register of this name.
        pebs_enable: u64 = 48,
        /// The register of this name.
        debugctl: u64 = 56,
    }

    /// The part of [`PmuData`] that is x86's own.
    "xen_pmu_arch" 208
    pub struct PmuArch {
        /// [`PmuRegs`].
        r: [u64; 8] = 0,
        /// [`PmuFlags`].
        pmu_flags: u64 = 64,
        /// The interrupt's setting, in the low 32 bits.
        l: u64 = 72,
        /// [`PmuAmdContext`] or [`PmuIntelContext`].
        c: [u64; 16] = 80,
    }

    /// A vCPU's page of counters.
    "xen_pmu_data" 224
    pub struct PmuData {
        /// Which vCPU was interrupted.
        vcpu_id: VcpuId = 0,
        /// On which processor.
        pcpu_id: u32 = 4,
        /// Whose vCPU it was.
        domain_id: DomId = 8,
        /// Zero.
        pad: [u8; 6] = 10,
        /// x86's own.
        pmu: PmuArch = 16,
    }

    /// The version of this interface.
    "xen_pmu_params.version" 8
    pub struct PmuVersion {
        /// [`XENPMU_VER_MAJ`].
        maj: u32 = 0,
        /// [`XENPMU_VER_MIN`].
        min: u32 = 4,
    }

    /// The argument of `XENPMU_*`.
    "xen_pmu_params" 24
    pub struct PmuParams {
        /// The version (in and out).
        version: PmuVersion = 0,
        /// A mode, features, or the frame of the page.
        val: u64 = 8,
        /// Which vCPU.
        vcpu: VcpuId = 16,
        /// Zero.
        pad: u32 = 20,
    }
}

/// What to do with a vCPU's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PmuOp {
    /// Give the vCPU the page of counters whose frame `val` is.
    Init,
    /// Take it away.
    Finish,
    /// Take over the interrupt's setting from the page.
    LvtpcSet,
    /// Take over the counters from the page.
    Flush,
}

/// Does it. PV guests only.
///
/// # Errors
/// `EOPNOTSUPP`: counting is off, or this is no PV guest; `EINVAL`: another
/// version, no such vCPU or page; `ENOSYS`: not offered.
///
/// # Safety
/// For [`PmuOp::Init`]: the frame is this domain's, and Xen writes it at any
/// time: no Rust reference leads there.
#[inline]
pub unsafe fn pmu<H: Hypercall + ?Sized>(
    h: &H,
    op: PmuOp,
    vcpu: VcpuId,
    page: Gfn,
) -> Result<(), Errno> {
    let op = match op {
        PmuOp::Init => XENPMU_INIT,
        PmuOp::Finish => XENPMU_FINISH,
        PmuOp::LvtpcSet => XENPMU_LVTPC_SET,
        PmuOp::Flush => XENPMU_FLUSH,
    };
    let mut arg = PmuParams {
        version: PmuVersion {
            maj: XENPMU_VER_MAJ,
            min: XENPMU_VER_MIN,
        },
        val: page.0,
        vcpu,
        pad: 0,
    };
    // SAFETY: the hypervisor reads and writes `arg`; the rest is the caller's
    // promise.
    unsafe { subop(h, HypercallNr::XENPMU_OP, op, &mut arg) }.map(|_| ())
}
