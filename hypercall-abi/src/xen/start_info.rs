//! What a PV guest finds when it starts.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Mfn, Port, layout};

/// How [`StartInfo::magic`] begins for a 64-bit x86 guest; the version of Xen's
/// interface and more may follow. Source: `struct start_info`, `xen.h`.
pub const START_INFO_MAGIC_PREFIX: &[u8] = b"xen-3.";

bitflags::bitflags! {
    /// What kind of domain this is, and how things are told.
    ///
    /// Source: `SIF_*`, `xen/include/public/xen.h`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct StartFlags: u32 {
        /// The domain is privileged.
        #[doc(alias = "SIF_PRIVILEGED")]
        const PRIVILEGED = 1 << 0;
        /// The domain is the initial domain.
        #[doc(alias = "SIF_INITDOMAIN")]
        const INITDOMAIN = 1 << 1;
        /// The module is a multiboot list of modules.
        #[doc(alias = "SIF_MULTIBOOT_MOD")]
        const MULTIBOOT_MOD = 1 << 2;
        /// `mod_start` is a frame number.
        #[doc(alias = "SIF_MOD_START_PFN")]
        const MOD_START_PFN = 1 << 3;
        /// The frame list is mapped by the guest itself.
        #[doc(alias = "SIF_VIRT_P2M_4TOOLS")]
        const VIRT_P2M_4TOOLS = 1 << 4;
        /// Reserved for power management.
        #[doc(alias = "SIF_PM_MASK")]
        const PM_MASK = 0xff << 8;
    }
}

/// The page to which a PV guest's `rsi` leads when it starts.
///
/// Source: `struct start_info`, `xen/include/public/xen.h`.
#[doc(alias = "start_info")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    /// Begins with [`START_INFO_MAGIC_PREFIX`].
    pub magic: [u8; 32],
    /// Pages given to the domain.
    pub nr_pages: u64,
    /// The machine address of the [`super::SharedInfo`] page.
    pub shared_info: u64,
    /// [`StartFlags`].
    pub flags: u32,
    #[doc(hidden)]
    pub _pad0: u32,
    /// The frame of the store's ring.
    pub store_mfn: Mfn,
    /// The port of the store's ring.
    pub store_evtchn: Port,
    #[doc(hidden)]
    pub _pad1: u32,
    /// The frame of the console's ring (`console.domU.mfn`).
    pub console_mfn: Mfn,
    /// The port of the console's ring (`console.domU.evtchn`).
    pub console_evtchn: Port,
    #[doc(hidden)]
    pub _pad2: u32,
    /// The address of the top page table.
    pub pt_base: u64,
    /// Pages of page tables, in a row from `pt_base`.
    pub nr_pt_frames: u64,
    /// The address of the list of machine frames, one for each page.
    pub mfn_list: u64,
    /// The address (or frame) of the module.
    pub mod_start: u64,
    /// Bytes in the module.
    pub mod_len: u64,
    /// The command line, ended by a zero.
    pub cmd_line: [u8; 1024],
    /// The first frame of the frame list, if it has its own mapping.
    pub first_p2m_pfn: u64,
    /// The number of frames of the frame list.
    pub nr_p2m_frames: u64,
}

layout!(StartInfo: 1168 {
    magic: 0..32, nr_pages: 32..40, shared_info: 40..48, flags: 48..52,
    store_mfn: 56..64, store_evtchn: 64..68, console_mfn: 72..80, console_evtchn: 80..84,
    pt_base: 88..96, nr_pt_frames: 96..104, mfn_list: 104..112, mod_start: 112..120,
    mod_len: 120..128, cmd_line: 128..1152, first_p2m_pfn: 1152..1160,
    nr_p2m_frames: 1160..1168,
});
