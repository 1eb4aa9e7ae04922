//! What hvmloader and old guests find in memory: `hvm_info_table.h`, `e820.h`.

crate::facts::constants! {
    /// The frame of [`HvmInfoTable`].
    HVM_INFO_PFN: u64 = 159;
    /// Its place in it.
    HVM_INFO_OFFSET: u64 = 2048;
    /// Its address.
    HVM_INFO_PADDR: u64 = 0x9_f800;
    /// The page of the old memory map.
    HVM_E820_PAGE: u64 = 0x9_0000;
    /// Its place in it.
    HVM_E820_OFFSET: u64 = 0x2d0;
    /// The place of its number of entries.
    HVM_E820_NR_OFFSET: u64 = 0x1e8;
    /// The end of memory below 4 GiB, at most.
    HVM_BELOW_4G_RAM_END: u64 = 0xf000_0000;
    /// The first address of devices.
    HVM_BELOW_4G_MMIO_START: u64 = 0xf000_0000;
    /// Bytes of devices.
    HVM_BELOW_4G_MMIO_LENGTH: u64 = 0x1000_0000;
    /// vCPUs that an HVM guest may have.
    HVM_MAX_VCPUS: u32 = 128;
}

crate::facts::structs! {
    /// What an HVM guest's firmware is told.
    "hvm_info_table" 48
    pub struct HvmInfoTable {
        /// `HVM INFO`.
        signature: [u8; 8] = 0,
        /// Its bytes.
        length: u32 = 8,
        /// What makes the sum of all bytes zero.
        checksum: u8 = 12,
        /// Not zero: there is a local interrupt controller.
        apic_mode: u8 = 13,
        #[doc(hidden)]
        _gap0: [u8; 2] = 14,
        /// vCPUs.
        nr_vcpus: u32 = 16,
        /// The end of memory below 4 GiB, in pages.
        low_mem_pgend: u32 = 20,
        /// The first page of what is Xen's.
        reserved_mem_pgstart: u32 = 24,
        /// The end of memory above 4 GiB, in pages.
        high_mem_pgend: u32 = 28,
        /// A bit for each vCPU that is up.
        vcpu_online: [u8; 16] = 32,
    }
}
