//! What a PVH guest finds when it starts.
//!
//! `ebx` holds the physical address of [`HvmStartInfo`]. QEMU and other
//! loaders of the PVH protocol fill it too.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout;

/// [`HvmStartInfo::magic`].
pub const XEN_HVM_START_MAGIC_VALUE: u32 = 0x336e_c578;

/// Where things are when a PVH guest starts. All addresses are physical.
///
/// Source: `struct hvm_start_info`, `xen/include/public/arch-x86/hvm/start_info.h`.
#[doc(alias = "hvm_start_info")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmStartInfo {
    /// [`XEN_HVM_START_MAGIC_VALUE`].
    pub magic: u32,
    /// 0 or 1; the fields from `memmap_paddr` exist from 1 on.
    pub version: u32,
    /// `SIF_*` flags.
    pub flags: u32,
    /// Entries of the list of modules.
    pub nr_modules: u32,
    /// The list of modules.
    pub modlist_paddr: u64,
    /// The command line, ended by a zero.
    pub cmdline_paddr: u64,
    /// ACPI's root pointer; zero: none.
    pub rsdp_paddr: u64,
    /// The memory map; zero: none.
    pub memmap_paddr: u64,
    /// Entries of the memory map.
    pub memmap_entries: u32,
    /// Zero.
    pub reserved: u32,
}

layout!(HvmStartInfo: 56 {
    magic: 0..4, version: 4..8, flags: 8..12, nr_modules: 12..16, modlist_paddr: 16..24,
    cmdline_paddr: 24..32, rsdp_paddr: 32..40, memmap_paddr: 40..48, memmap_entries: 48..52,
    reserved: 52..56,
});

/// A module.
///
/// Source: `struct hvm_modlist_entry`, `arch-x86/hvm/start_info.h`.
#[doc(alias = "hvm_modlist_entry")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmModlistEntry {
    /// Where it is.
    pub paddr: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its command line, ended by a zero; zero: none.
    pub cmdline_paddr: u64,
    /// Zero.
    pub reserved: u64,
}

layout!(HvmModlistEntry: 32 { paddr: 0..8, size: 8..16, cmdline_paddr: 16..24, reserved: 24..32 });

/// A range of the memory map.
///
/// Source: `struct hvm_memmap_table_entry`, `arch-x86/hvm/start_info.h`.
#[doc(alias = "hvm_memmap_table_entry")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmMemmapTableEntry {
    /// Its first byte.
    pub addr: u64,
    /// Its size in bytes.
    pub size: u64,
    /// `XEN_HVM_MEMMAP_TYPE_*`.
    pub r#type: u32,
    /// Zero.
    pub reserved: u32,
}

layout!(HvmMemmapTableEntry: 24 { addr: 0..8, size: 8..16, r#type: 16..20, reserved: 20..24 });

/// Memory to use.
pub const XEN_HVM_MEMMAP_TYPE_RAM: u32 = 1;
/// Not to be used.
pub const XEN_HVM_MEMMAP_TYPE_RESERVED: u32 = 2;
/// ACPI tables.
pub const XEN_HVM_MEMMAP_TYPE_ACPI: u32 = 3;
/// ACPI's own memory.
pub const XEN_HVM_MEMMAP_TYPE_NVS: u32 = 4;
/// Broken memory.
pub const XEN_HVM_MEMMAP_TYPE_UNUSABLE: u32 = 5;
/// Disabled.
pub const XEN_HVM_MEMMAP_TYPE_DISABLED: u32 = 6;
/// Persistent memory.
pub const XEN_HVM_MEMMAP_TYPE_PMEM: u32 = 7;
