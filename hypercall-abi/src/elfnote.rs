//! What a kernel's ELF file tells its loader: `xen/include/public/elfnote.h`.
//!
//! The notes lie in a section of type `SHT_NOTE`, under the name `Xen`.

crate::facts::constants! {
    /// Text for people.
    XEN_ELFNOTE_INFO: u32 = 0;
    /// The virtual address of the entry, for PV guests.
    XEN_ELFNOTE_ENTRY: u32 = 1;
    /// The virtual address of the hypercall page.
    XEN_ELFNOTE_HYPERCALL_PAGE: u32 = 2;
    /// The virtual address at which memory starts.
    XEN_ELFNOTE_VIRT_BASE: u32 = 3;
    /// What to subtract from `p_paddr` to get an offset into memory.
    XEN_ELFNOTE_PADDR_OFFSET: u32 = 4;
    /// The version of Xen that the kernel was made for, `xen-3.0`.
    XEN_ELFNOTE_XEN_VERSION: u32 = 5;
    /// The kernel's name.
    XEN_ELFNOTE_GUEST_OS: u32 = 6;
    /// The kernel's version.
    XEN_ELFNOTE_GUEST_VERSION: u32 = 7;
    /// How it wants to be loaded, `generic`.
    XEN_ELFNOTE_LOADER: u32 = 8;
    /// `yes` if a 32-bit kernel uses PAE.
    XEN_ELFNOTE_PAE_MODE: u32 = 9;
    /// The features that it knows, and (after `!`) needs, by name.
    XEN_ELFNOTE_FEATURES: u32 = 10;
    /// `yes` if the symbols are to be loaded too.
    XEN_ELFNOTE_BSD_SYMTAB: u32 = 11;
    /// The lowest address that the kernel leaves to the hypervisor.
    XEN_ELFNOTE_HV_START_LOW: u32 = 12;
    /// Mask and value by which it tells valid page table entries.
    XEN_ELFNOTE_L1_MFN_VALID: u32 = 13;
    /// Whether it knows that a suspend may be cancelled.
    XEN_ELFNOTE_SUSPEND_CANCEL: u32 = 14;
    /// The virtual address at which it wants the frame list.
    XEN_ELFNOTE_INIT_P2M: u32 = 15;
    /// Whether it takes a module by frame number, not mapped.
    XEN_ELFNOTE_MOD_START_PFN: u32 = 16;
    /// The features that it knows, as bits.
    XEN_ELFNOTE_SUPPORTED_FEATURES: u32 = 17;
    /// The physical address of the 32-bit entry, for PVH guests.
    XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
    /// Where a PVH kernel may be loaded other than where it is linked.
    XEN_ELFNOTE_PHYS32_RELOC: u32 = 19;
    /// In a crash dump: Xen's state.
    XEN_ELFNOTE_CRASH_INFO: u32 = 0x100_0001;
    /// In a crash dump: a processor's registers.
    XEN_ELFNOTE_CRASH_REGS: u32 = 0x100_0002;
    /// In a guest's dump: nothing.
    XEN_ELFNOTE_DUMPCORE_NONE: u32 = 0x200_0000;
    /// In a guest's dump: how many vCPUs and pages.
    XEN_ELFNOTE_DUMPCORE_HEADER: u32 = 0x200_0001;
    /// In a guest's dump: Xen's version.
    XEN_ELFNOTE_DUMPCORE_XEN_VERSION: u32 = 0x200_0002;
    /// In a guest's dump: its format's version.
    XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION: u32 = 0x200_0003;
}

/// The name under which the notes are found, with its zero.
pub const NAME: &[u8; 4] = b"Xen\0";
