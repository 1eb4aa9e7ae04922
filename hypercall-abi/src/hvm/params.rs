//! The parameters of an HVM or PVH guest: `xen/include/public/hvm/params.h`.
//!
//! Of the 36 that are in use, a guest may get 11 and set 8; the others answer
//! `EPERM`.

crate::facts::open_enum! {
    /// The number of a parameter.
    pub struct HvmParam(u32) {
        /// How upcalls are delivered: [`CallbackVia`]. Get and set.
        CALLBACK_IRQ = 0, "HVM_PARAM_CALLBACK_IRQ";
        /// The frame of the store's ring. Get.
        STORE_PFN = 1, "HVM_PARAM_STORE_PFN";
        /// The port of the store's ring. Get and set.
        STORE_EVTCHN = 2, "HVM_PARAM_STORE_EVTCHN";
        /// The frame of the device model's requests. Toolstack.
        IOREQ_PFN = 5, "HVM_PARAM_IOREQ_PFN";
        /// The frame of its buffered requests. Toolstack.
        BUFIOREQ_PFN = 6, "HVM_PARAM_BUFIOREQ_PFN";
        /// What of Hyper-V's interface is offered, `HVMPV_*`. Toolstack.
        VIRIDIAN = 9, "HVM_PARAM_VIRIDIAN";
        /// How missed timer ticks are given, `HVMPTM_*`. Toolstack.
        TIMER_MODE = 10, "HVM_PARAM_TIMER_MODE";
        /// Whether there is a high precision timer. Toolstack.
        HPET_ENABLED = 11, "HVM_PARAM_HPET_ENABLED";
        /// Where page tables for unpaged mode are. Toolstack.
        IDENT_PT = 12, "HVM_PARAM_IDENT_PT";
        /// The ACPI sleep state. Toolstack.
        ACPI_S_STATE = 14, "HVM_PARAM_ACPI_S_STATE";
        /// Where a task state for real mode is (once). Get and set.
        VM86_TSS = 15, "HVM_PARAM_VM86_TSS";
        /// Whether timers are aligned to each other. Toolstack.
        VPT_ALIGN = 16, "HVM_PARAM_VPT_ALIGN";
        /// The frame of the console's ring. Get.
        CONSOLE_PFN = 17, "HVM_PARAM_CONSOLE_PFN";
        /// The port of the console's ring. Get and set.
        CONSOLE_EVTCHN = 18, "HVM_PARAM_CONSOLE_EVTCHN";
        /// Which ports ACPI uses. Get and set.
        ACPI_IOPORTS_LOCATION = 19, "HVM_PARAM_ACPI_IOPORTS_LOCATION";
        /// The frame of a ring of memory events. Toolstack.
        PAGING_RING_PFN = 27, "HVM_PARAM_PAGING_RING_PFN";
        /// The frame of a ring of monitor events. Toolstack.
        MONITOR_RING_PFN = 28, "HVM_PARAM_MONITOR_RING_PFN";
        /// The frame of a ring of sharing events. Toolstack.
        SHARING_RING_PFN = 29, "HVM_PARAM_SHARING_RING_PFN";
        /// With what reason a triple fault ends the domain. Toolstack.
        TRIPLE_FAULT_REASON = 31, "HVM_PARAM_TRIPLE_FAULT_REASON";
        /// The first frame for device models. Toolstack.
        IOREQ_SERVER_PFN = 32, "HVM_PARAM_IOREQ_SERVER_PFN";
        /// How many there are. Toolstack.
        NR_IOREQ_SERVER_PAGES = 33, "HVM_PARAM_NR_IOREQ_SERVER_PAGES";
        /// Where the machine's generation is told. Get and set.
        VM_GENERATION_ID_ADDR = 34, "HVM_PARAM_VM_GENERATION_ID_ADDR";
        /// Whether there are several views of memory, `XEN_ALTP2M_*`. Get.
        ALTP2M = 35, "HVM_PARAM_ALTP2M";
        /// How wide the instruction pointer of the x87 is saved. Get and set.
        X87_FIP_WIDTH = 36, "HVM_PARAM_X87_FIP_WIDTH";
        /// Where a task state for real mode is, with its size. Get and set.
        VM86_TSS_SIZED = 37, "HVM_PARAM_VM86_TSS_SIZED";
        /// Machine check capabilities. Toolstack.
        MCA_CAP = 38, "HVM_PARAM_MCA_CAP";
    }
}

crate::facts::constants! {
    /// One more than the greatest parameter.
    HVM_NR_PARAMS: u32 = 39;
    /// [`HvmParam::CALLBACK_IRQ`], top byte: an interrupt line.
    HVM_PARAM_CALLBACK_TYPE_GSI: u64 = 0;
    /// [`HvmParam::CALLBACK_IRQ`], top byte: the line of a PCI device.
    HVM_PARAM_CALLBACK_TYPE_PCI_INTX: u64 = 1;
    /// [`HvmParam::CALLBACK_IRQ`], top byte: a vector.
    HVM_PARAM_CALLBACK_TYPE_VECTOR: u64 = 2;
    /// [`HvmParam::CALLBACK_IRQ`]: the bits of the kind.
    HVM_PARAM_CALLBACK_IRQ_TYPE_MASK: u64 = 0xff00_0000_0000_0000;
    /// [`HvmParam::VIRIDIAN`]: the base interface, with frequencies.
    HVMPV_BASE_FREQ: u64 = 0x1, "HVMPV_base_freq";
    /// [`HvmParam::VIRIDIAN`]: without frequencies.
    HVMPV_NO_FREQ: u64 = 0x2, "HVMPV_no_freq";
    /// [`HvmParam::VIRIDIAN`]: the reference counter.
    HVMPV_TIME_REF_COUNT: u64 = 0x4, "HVMPV_time_ref_count";
    /// [`HvmParam::VIRIDIAN`]: the reference page.
    HVMPV_REFERENCE_TSC: u64 = 0x8, "HVMPV_reference_tsc";
    /// [`HvmParam::VIRIDIAN`]: flushes by hypercall.
    HVMPV_HCALL_REMOTE_TLB_FLUSH: u64 = 0x10, "HVMPV_hcall_remote_tlb_flush";
    /// [`HvmParam::VIRIDIAN`]: the assist page.
    HVMPV_APIC_ASSIST: u64 = 0x20, "HVMPV_apic_assist";
    /// [`HvmParam::VIRIDIAN`]: the crash registers.
    HVMPV_CRASH_CTL: u64 = 0x40, "HVMPV_crash_ctl";
    /// [`HvmParam::VIRIDIAN`]: the synthetic interrupt controller.
    HVMPV_SYNIC: u64 = 0x80, "HVMPV_synic";
    /// [`HvmParam::VIRIDIAN`]: synthetic timers.
    HVMPV_STIMER: u64 = 0x100, "HVMPV_stimer";
    /// [`HvmParam::VIRIDIAN`]: interrupts between vCPUs by hypercall.
    HVMPV_HCALL_IPI: u64 = 0x200, "HVMPV_hcall_ipi";
    /// [`HvmParam::VIRIDIAN`]: sparse sets of vCPUs.
    HVMPV_EX_PROCESSOR_MASKS: u64 = 0x400, "HVMPV_ex_processor_masks";
    /// [`HvmParam::VIRIDIAN`]: more than 64 vCPUs.
    HVMPV_NO_VP_LIMIT: u64 = 0x800, "HVMPV_no_vp_limit";
    /// [`HvmParam::VIRIDIAN`]: vCPUs may come and go.
    HVMPV_CPU_HOTPLUG: u64 = 0x1000, "HVMPV_cpu_hotplug";
    /// [`HvmParam::VIRIDIAN`]: all of them.
    HVMPV_FEATURE_MASK: u64 = 0x1fff, "HVMPV_feature_mask";
    /// [`HvmParam::TIMER_MODE`]: ticks come late, all of them.
    HVMPTM_DELAY_FOR_MISSED_TICKS: u64 = 0, "HVMPTM_delay_for_missed_ticks";
    /// [`HvmParam::TIMER_MODE`]: time goes on, ticks come soon.
    HVMPTM_NO_DELAY_FOR_MISSED_TICKS: u64 = 1, "HVMPTM_no_delay_for_missed_ticks";
    /// [`HvmParam::TIMER_MODE`]: missed ticks are lost.
    HVMPTM_NO_MISSED_TICKS_PENDING: u64 = 2, "HVMPTM_no_missed_ticks_pending";
    /// [`HvmParam::TIMER_MODE`]: one missed tick is kept.
    HVMPTM_ONE_MISSED_TICK_PENDING: u64 = 3, "HVMPTM_one_missed_tick_pending";
    /// [`HvmParam::ALTP2M`]: there is one view.
    XEN_ALTP2M_DISABLED: u64 = 0, "XEN_ALTP2M_disabled";
    /// [`HvmParam::ALTP2M`]: the guest and others may switch.
    XEN_ALTP2M_MIXED: u64 = 1, "XEN_ALTP2M_mixed";
    /// [`HvmParam::ALTP2M`]: others may switch.
    XEN_ALTP2M_EXTERNAL: u64 = 2, "XEN_ALTP2M_external";
    /// [`HvmParam::ALTP2M`]: the guest may do some of it.
    XEN_ALTP2M_LIMITED: u64 = 3, "XEN_ALTP2M_limited";
    /// [`HvmParam::MCA_CAP`]: machine checks to one vCPU.
    XEN_HVM_MCA_CAP_LMCE: u64 = 1;
    /// [`HvmParam::MCA_CAP`]: all of them.
    XEN_HVM_MCA_CAP_MASK: u64 = 1;
}

/// How upcalls are delivered: the value of [`HvmParam::CALLBACK_IRQ`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackVia {
    /// Not at all: the guest polls.
    None,
    /// By an interrupt line.
    Gsi(u32),
    /// By a PCI device's interrupt.
    PciIntx {
        /// Its segment.
        domain: u16,
        /// Its bus.
        bus: u8,
        /// Device and function.
        devfn: u8,
        /// Which of its four.
        intx: u8,
    },
    /// By this vector, on every vCPU.
    Vector(u8),
}

impl CallbackVia {
    /// The parameter's value.
    pub const fn value(self) -> u64 {
        match self {
            Self::None => HVM_PARAM_CALLBACK_TYPE_GSI << 56,
            Self::Gsi(line) => (HVM_PARAM_CALLBACK_TYPE_GSI << 56) | line as u64,
            Self::PciIntx {
                domain,
                bus,
                devfn,
                intx,
            } => {
                (HVM_PARAM_CALLBACK_TYPE_PCI_INTX << 56)
                    | ((domain as u64) << 32)
                    | ((bus as u64) << 16)
                    | ((devfn as u64) << 8)
                    | (intx as u64 & 3)
            }
            Self::Vector(vector) => (HVM_PARAM_CALLBACK_TYPE_VECTOR << 56) | vector as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_of_delivery_becomes_a_value() {
        assert_eq!(CallbackVia::None.value(), 0);
        assert_eq!(CallbackVia::Vector(0xf3).value(), 0x0200_0000_0000_00f3);
        let via = CallbackVia::PciIntx {
            domain: 1,
            bus: 2,
            devfn: 3,
            intx: 1,
        };
        assert_eq!(via.value(), 0x0100_0001_0002_0301);
    }
}
