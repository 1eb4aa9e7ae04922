//! What Xen can do for this guest: `xen/include/public/features.h`.

macro_rules! features {
    ($($(#[$($meta:tt)*])* $name:ident = $bit:literal, $c:literal;)*) => {
        bitflags::bitflags! {
            /// The features that have names: the first 32 of
            /// [`crate::version::feature_word`].
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct XenFeatures: u32 {
                $($(#[$($meta)*])* #[doc(alias = $c)] const $name = 1 << $bit;)*
            }
        }

        impl XenFeatures {
            /// Each feature, with its name in Xen'sheaders.
            pub const NAMES: &[(Self, &'static str)] = &[$((Self::$name, $c),)*];

            /// The numbers of the bits above, for [`crate::facts`].
            pub(crate) const CONSTANTS: &[crate::facts::Constant] = &[$(
                crate::facts::Constant { c_name: $c, value: $bit },
            )*];
        }
    };
}

features! {
    /// Page tables may be mapped writable (Xen traps the writes).
    WRITABLE_PAGE_TABLES = 0, "XENFEAT_writable_page_tables";
    /// Descriptor tables may be mapped writable.
    WRITABLE_DESCRIPTOR_TABLES = 1, "XENFEAT_writable_descriptor_tables";
    /// Frames are translated: the guest never sees machine frames.
    AUTO_TRANSLATED_PHYSMAP = 2, "XENFEAT_auto_translated_physmap";
    /// The kernel runs in ring 0.
    SUPERVISOR_MODE_KERNEL = 3, "XENFEAT_supervisor_mode_kernel";
    /// Page tables above 4 GiB will do.
    PAE_PGDIR_ABOVE_4GB = 4, "XENFEAT_pae_pgdir_above_4gb";
    /// `MMU_PT_UPDATE_PRESERVE_AD` is known.
    MMU_PT_UPDATE_PRESERVE_AD = 5, "XENFEAT_mmu_pt_update_preserve_ad";
    /// Highmem assists.
    HIGHMEM_ASSIST = 6, "XENFEAT_highmem_assist";
    /// Page table entries keep their accessed bits in grant mappings.
    GNTTAB_MAP_AVAIL_BITS = 7, "XENFEAT_gnttab_map_avail_bits";
    /// HVM callback vectors are known.
    HVM_CALLBACK_VECTOR = 8, "XENFEAT_hvm_callback_vector";
    /// The HVM pvclock is safe to use.
    HVM_SAFE_PVCLOCK = 9, "XENFEAT_hvm_safe_pvclock";
    /// HVM guests may bind hardware interrupts to event channels.
    HVM_PIRQS = 10, "XENFEAT_hvm_pirqs";
    /// The domain may be the initial one.
    DOM0 = 11, "XENFEAT_dom0";
    /// The virtual memory layout may be asked for.
    MEMORY_OP_VNODE_SUPPORTED = 13, "XENFEAT_memory_op_vnode_supported";
    /// Arm's firmware calls are hypercalls.
    ARM_SMCCC_SUPPORTED = 14, "XENFEAT_ARM_SMCCC_supported";
    /// ACPI tables may be placed anywhere.
    LINUX_RSDP_UNRESTRICTED = 15, "XENFEAT_linux_rsdp_unrestricted";
    /// The domain's memory is not mapped one to one.
    NOT_DIRECT_MAPPED = 16, "XENFEAT_not_direct_mapped";
    /// The domain's memory is mapped one to one.
    DIRECT_MAPPED = 17, "XENFEAT_direct_mapped";
    /// The runstate area may be registered by physical address.
    RUNSTATE_PHYS_AREA = 18, "XENFEAT_runstate_phys_area";
    /// The time area may be registered by physical address.
    VCPU_TIME_PHYS_AREA = 19, "XENFEAT_vcpu_time_phys_area";
    /// The device model takes all writes to MSI-X tables.
    DM_MSIX_ALL_WRITES = 20, "XENFEAT_dm_msix_all_writes";
}

crate::facts::constants! {
    /// Words of features that have names.
    XENFEAT_NR_SUBMAPS: u32 = 1;
}
