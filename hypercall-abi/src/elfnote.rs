//! What a kernel's ELF file tells its loader: `xen/include/public/elfnote.h`.
//!
//! The notes lie in a section of type `SHT_NOTE`, under the name `Xen`.

/// The name under which the notes are found, with its zero.
pub const NAME: &[u8; 4] = b"Xen\0";

macro_rules! notes {
    ($($(#[$meta:meta])* $name:ident = $number:literal;)*) => {$(
        $(#[$meta])*
        pub const $name: u32 = $number;
    )*};
}

notes! {
    /// Text for people.
    XEN_ELFNOTE_INFO = 0;
    /// The virtual address of the entry, for PV guests.
    XEN_ELFNOTE_ENTRY = 1;
    /// The virtual address of the hypercall page.
    XEN_ELFNOTE_HYPERCALL_PAGE = 2;
    /// The virtual address at which memory starts.
    XEN_ELFNOTE_VIRT_BASE = 3;
    /// What to subtract from `p_paddr` to get an offset into memory.
    XEN_ELFNOTE_PADDR_OFFSET = 4;
    /// The version of Xen that the kernel was made for, `xen-3.0`.
    XEN_ELFNOTE_XEN_VERSION = 5;
    /// The kernel's name.
    XEN_ELFNOTE_GUEST_OS = 6;
    /// The kernel's version.
    XEN_ELFNOTE_GUEST_VERSION = 7;
    /// How it wants to be loaded, `generic`.
    XEN_ELFNOTE_LOADER = 8;
    /// `yes` if a 32-bit kernel uses PAE.
    XEN_ELFNOTE_PAE_MODE = 9;
    /// The features that it knows, and (after `!`) needs, by name.
    XEN_ELFNOTE_FEATURES = 10;
    /// `yes` if the symbols are to be loaded too.
    XEN_ELFNOTE_BSD_SYMTAB = 11;
    /// The lowest address that the kernel leaves to the hypervisor.
    XEN_ELFNOTE_HV_START_LOW = 12;
    /// Mask and value by which it tells valid page table entries.
    XEN_ELFNOTE_L1_MFN_VALID = 13;
    /// Whether it knows that a suspend may be cancelled.
    XEN_ELFNOTE_SUSPEND_CANCEL = 14;
    /// The virtual address at which it wants the frame list.
    XEN_ELFNOTE_INIT_P2M = 15;
    /// Whether it takes a module by frame number, not mapped.
    XEN_ELFNOTE_MOD_START_PFN = 16;
    /// The features that it knows, as bits.
    XEN_ELFNOTE_SUPPORTED_FEATURES = 17;
    /// The physical address of the 32-bit entry, for PVH guests.
    XEN_ELFNOTE_PHYS32_ENTRY = 18;
    /// Where a PVH kernel may be loaded other than where it is linked.
    XEN_ELFNOTE_PHYS32_RELOC = 19;
}
