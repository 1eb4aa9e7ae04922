//! What a PVH guest finds when it starts: 32-bit, without paging.
//!
//! `ebx` holds the physical address of [`HvmStartInfo`]. QEMU and other
//! loaders of the PVH protocol fill it too.
//!
//! ```text
//! ebx -> hvm_start_info --- modlist_paddr --> hvm_modlist_entry[nr_modules]
//!                       |-- cmdline_paddr --> text, ended by a zero
//!                       |-- rsdp_paddr ----> ACPI's root pointer
//!                       `-- memmap_paddr --> hvm_memmap_table_entry[memmap_entries]
//! ```

crate::facts::constants! {
    /// [`HvmStartInfo::magic`].
    XEN_HVM_START_MAGIC_VALUE: u32 = 0x336e_c578;
    /// Memory to use.
    XEN_HVM_MEMMAP_TYPE_RAM: u32 = 1;
    /// Not to be used.
    XEN_HVM_MEMMAP_TYPE_RESERVED: u32 = 2;
    /// ACPI tables.
    XEN_HVM_MEMMAP_TYPE_ACPI: u32 = 3;
    /// ACPI's own memory.
    XEN_HVM_MEMMAP_TYPE_NVS: u32 = 4;
    /// Broken memory.
    XEN_HVM_MEMMAP_TYPE_UNUSABLE: u32 = 5;
    /// Disabled.
    XEN_HVM_MEMMAP_TYPE_DISABLED: u32 = 6;
    /// Persistent memory.
    XEN_HVM_MEMMAP_TYPE_PMEM: u32 = 7;
}

crate::facts::structs! {
    /// Where things are when a PVH guest starts. All addresses are physical.
    "hvm_start_info" 56
    pub struct HvmStartInfo {
        /// [`XEN_HVM_START_MAGIC_VALUE`].
        magic: u32 = 0,
        /// 0 or 1; the fields from `memmap_paddr` exist from 1 on.
        version: u32 = 4,
        /// [`StartFlags`](crate::xen::StartFlags).
        flags: u32 = 8,
        /// Entries of the list of modules.
        nr_modules: u32 = 12,
        /// The list of modules.
        modlist_paddr: u64 = 16,
        /// The command line, ended by a zero.
        cmdline_paddr: u64 = 24,
        /// ACPI's root pointer; zero: none.
        rsdp_paddr: u64 = 32,
        /// The memory map; zero: none.
        memmap_paddr: u64 = 40,
        /// Entries of the memory map.
        memmap_entries: u32 = 48,
        /// Zero.
        reserved: u32 = 52,
    }

    /// A module.
    "hvm_modlist_entry" 32
    pub struct HvmModlistEntry {
        /// Where it is.
        paddr: u64 = 0,
        /// Its size in bytes.
        size: u64 = 8,
        /// Its command line, ended by a zero; zero: none.
        cmdline_paddr: u64 = 16,
        /// Zero.
        reserved: u64 = 24,
    }

    /// A range of the memory map.
    "hvm_memmap_table_entry" 24
    pub struct HvmMemmapTableEntry {
        /// Its first byte.
        addr: u64 = 0,
        /// Its size in bytes.
        size: u64 = 8,
        /// `XEN_HVM_MEMMAP_TYPE_*`.
        r#type: u32 = 16,
        /// Zero.
        reserved: u32 = 20,
    }
}
