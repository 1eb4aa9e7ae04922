//! What Xen can do for this guest: `xen/include/public/features.h`.

bitflags::bitflags! {
    /// The first 32 feature bits. Source: `XENFEAT_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct XenFeatures: u32 {
        /// Page tables may be mapped writable (Xen traps the writes).
        #[doc(alias = "XENFEAT_writable_page_tables")]
        const WRITABLE_PAGE_TABLES = 1 << 0;
        /// Descriptor tables may be mapped writable.
        #[doc(alias = "XENFEAT_writable_descriptor_tables")]
        const WRITABLE_DESCRIPTOR_TABLES = 1 << 1;
        /// Frames are translated: the guest never sees machine frames.
        #[doc(alias = "XENFEAT_auto_translated_physmap")]
        const AUTO_TRANSLATED_PHYSMAP = 1 << 2;
        /// The kernel runs in ring 0.
        #[doc(alias = "XENFEAT_supervisor_mode_kernel")]
        const SUPERVISOR_MODE_KERNEL = 1 << 3;
        /// Page tables above 4 GiB will do.
        #[doc(alias = "XENFEAT_pae_pgdir_above_4gb")]
        const PAE_PGDIR_ABOVE_4GB = 1 << 4;
        /// `MMU_PT_UPDATE_PRESERVE_AD` is known.
        #[doc(alias = "XENFEAT_mmu_pt_update_preserve_ad")]
        const MMU_PT_UPDATE_PRESERVE_AD = 1 << 5;
        /// Highmem assists.
        #[doc(alias = "XENFEAT_highmem_assist")]
        const HIGHMEM_ASSIST = 1 << 6;
        /// Page table entries keep their accessed bits in grant mappings.
        #[doc(alias = "XENFEAT_gnttab_map_avail_bits")]
        const GNTTAB_MAP_AVAIL_BITS = 1 << 7;
        /// HVM callback vectors are known.
        #[doc(alias = "XENFEAT_hvm_callback_vector")]
        const HVM_CALLBACK_VECTOR = 1 << 8;
        /// The HVM pvclock is safe to use.
        #[doc(alias = "XENFEAT_hvm_safe_pvclock")]
        const HVM_SAFE_PVCLOCK = 1 << 9;
        /// HVM guests may bind hardware interrupts to event channels.
        #[doc(alias = "XENFEAT_hvm_pirqs")]
        const HVM_PIRQS = 1 << 10;
        /// The domain may be the initial one.
        #[doc(alias = "XENFEAT_dom0")]
        const DOM0 = 1 << 11;
        /// Grants map one to one (Arm).
        #[doc(alias = "XENFEAT_grant_map_identity")]
        const GRANT_MAP_IDENTITY = 1 << 12;
        /// The virtual memory layout may be asked for.
        #[doc(alias = "XENFEAT_memory_op_vnode_supported")]
        const MEMORY_OP_VNODE_SUPPORTED = 1 << 13;
        /// Arm's firmware calls are hypercalls.
        #[doc(alias = "XENFEAT_ARM_SMCCC_supported")]
        const ARM_SMCCC_SUPPORTED = 1 << 14;
        /// ACPI tables may be placed anywhere.
        #[doc(alias = "XENFEAT_linux_rsdp_unrestricted")]
        const LINUX_RSDP_UNRESTRICTED = 1 << 15;
        /// The domain's memory is mapped one to one.
        #[doc(alias = "XENFEAT_direct_mapped")]
        const DIRECT_MAPPED = 1 << 17;
        /// The domain's memory is not mapped one to one.
        #[doc(alias = "XENFEAT_not_direct_mapped")]
        const NOT_DIRECT_MAPPED = 1 << 16;
        /// The runstate area may be registered by physical address.
        #[doc(alias = "XENFEAT_runstate_phys_area")]
        const RUNSTATE_PHYS_AREA = 1 << 18;
        /// The time area may be registered by physical address.
        #[doc(alias = "XENFEAT_vcpu_time_phys_area")]
        const VCPU_TIME_PHYS_AREA = 1 << 19;
        /// The device model takes all writes to MSI-X tables.
        #[doc(alias = "XENFEAT_dm_msix_all_writes")]
        const DM_MSIX_ALL_WRITES = 1 << 20;
    }
}
