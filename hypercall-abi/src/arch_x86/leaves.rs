//! What Xen's own CPUID leaves say: `xen/include/public/arch-x86/cpuid.h`.

crate::facts::flags! {
    /// Leaf 2, `ecx`.
    pub struct XenFeat1: u32 {
        /// `MMU_PT_UPDATE_PRESERVE_AD` is known.
        MMU_PT_UPDATE_PRESERVE_AD = 1 << 0, "XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD";
    }
}

crate::facts::flags! {
    /// Leaf 3, `eax`.
    pub struct TscFlags: u32 {
        /// The counter is emulated.
        TSC_EMULATED = 1 << 0, "XEN_CPUID_TSC_EMULATED";
        /// The host's counters agree.
        HOST_TSC_RELIABLE = 1 << 1, "XEN_CPUID_HOST_TSC_RELIABLE";
        /// `rdtscp` may be used.
        RDTSCP_INSTR_AVAIL = 1 << 2, "XEN_CPUID_RDTSCP_INSTR_AVAIL";
    }
}

crate::facts::flags! {
    /// Leaf 4, `eax`.
    pub struct HvmFeatures: u32 {
        /// The interrupt controller is virtualized by hardware.
        APIC_ACCESS_VIRT = 1 << 0, "XEN_HVM_CPUID_APIC_ACCESS_VIRT";
        /// The same, in its newer mode.
        X2APIC_VIRT = 1 << 1, "XEN_HVM_CPUID_X2APIC_VIRT";
        /// Granted pages may be used by devices.
        IOMMU_MAPPINGS = 1 << 2, "XEN_HVM_CPUID_IOMMU_MAPPINGS";
        /// `ebx` is the vCPU's number.
        VCPU_ID_PRESENT = 1 << 3, "XEN_HVM_CPUID_VCPU_ID_PRESENT";
        /// `ecx` is the domain's number.
        DOMID_PRESENT = 1 << 4, "XEN_HVM_CPUID_DOMID_PRESENT";
        /// Interrupts may be sent to more than 255 processors.
        EXT_DEST_ID = 1 << 5, "XEN_HVM_CPUID_EXT_DEST_ID";
        /// Each vCPU may have a vector for upcalls of its own.
        UPCALL_VECTOR = 1 << 6, "XEN_HVM_CPUID_UPCALL_VECTOR";
    }
}

crate::facts::constants! {
    /// The first leaf of the first block.
    XEN_CPUID_FIRST_LEAF: u32 = 0x4000_0000;
    /// The first leaf's `ebx`.
    XEN_CPUID_SIGNATURE_EBX: u32 = 0x566e_6558;
    /// The first leaf's `ecx`.
    XEN_CPUID_SIGNATURE_ECX: u32 = 0x6558_4d4d;
    /// The first leaf's `edx`.
    XEN_CPUID_SIGNATURE_EDX: u32 = 0x4d4d_566e;
    /// The last of Xen's leaves.
    XEN_CPUID_MAX_NUM_LEAVES: u32 = 5;
    /// How the counter is shown: natively where that is safe.
    XEN_CPUID_TSC_MODE_DEFAULT: u32 = 0;
    /// How the counter is shown: emulated.
    XEN_CPUID_TSC_MODE_ALWAYS_EMULATE: u32 = 1;
    /// How the counter is shown: natively.
    XEN_CPUID_TSC_MODE_NEVER_EMULATE: u32 = 2;
    /// How the counter is shown: with an incarnation.
    XEN_CPUID_TSC_MODE_PVRDTSCP: u32 = 3;
    /// Leaf 5, `ebx`: the bits of a machine address.
    XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK: u32 = 0xff;
}
