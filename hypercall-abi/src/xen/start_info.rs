//! What a PV guest finds when it starts.
//!
//! ```text
//! VIRT_BASE  +-----------------------+
//!            | the image             |
//!            | the module (ramdisk)  |  mod_start, mod_len
//!            | the list of frames    |  mfn_list: one word a page
//!            | start_info            |  rsi
//!            | the store's page      |  store_mfn
//!            | the console's page    |  console.mfn
//!            | the page tables       |  pt_base, nr_pt_frames: mapped read-only
//!            | a stack               |  rsp
//!            +-----------------------+  mapped at least 512 KiB further, to 4 MiB
//! ```
//!
//! Source: `xen/include/public/xen.h`, "start-of-day memory layout".

use crate::{Mfn, Port};

crate::facts::flags! {
    /// What kind of domain this is, and how things are told:
    /// [`StartInfo::flags`].
    pub struct StartFlags: u32 {
        /// The domain is privileged.
        PRIVILEGED = 1 << 0, "SIF_PRIVILEGED";
        /// The domain is the initial domain.
        INITDOMAIN = 1 << 1, "SIF_INITDOMAIN";
        /// The module is a list of modules, [`MultibootModList`].
        MULTIBOOT_MOD = 1 << 2, "SIF_MULTIBOOT_MOD";
        /// `mod_start` is a frame number, and the module is not mapped.
        MOD_START_PFN = 1 << 3, "SIF_MOD_START_PFN";
        /// The toolstack understands a frame list that is mapped by the guest
        /// itself.
        VIRT_P2M_4TOOLS = 1 << 4, "SIF_VIRT_P2M_4TOOLS";
        /// Power management flags of the initial domain.
        PM_MASK = 0xff00, "SIF_PM_MASK";
    }
}

crate::facts::constants! {
    /// The longest command line of a PV guest, with its zero.
    MAX_GUEST_CMDLINE: usize = 1024;
    /// [`Dom0VgaConsoleInfo::video_type`]: text.
    XEN_VGATYPE_TEXT_MODE_3: u8 = 3;
    /// [`Dom0VgaConsoleInfo::video_type`]: a linear frame buffer of VESA's.
    XEN_VGATYPE_VESA_LFB: u8 = 35;
    /// [`Dom0VgaConsoleInfo::video_type`]: a linear frame buffer of EFI's.
    XEN_VGATYPE_EFI_LFB: u8 = 112;
}

crate::facts::structs! {
    /// Where the console of an ordinary domain is.
    "start_info.console.domU" 16
    pub struct ConsoleLocation {
        /// The frame of its ring.
        mfn: Mfn = 0,
        /// Its port.
        evtchn: Port = 8,
        #[doc(hidden)]
        _gap0: [u8; 4] = 12,
    }

    /// Where the initial domain finds [`Dom0VgaConsoleInfo`]; in the place of
    /// [`ConsoleLocation`].
    "start_info.console.dom0" 8
    pub struct Dom0ConsoleLocation {
        /// Its offset from the start of `start_info`.
        info_off: u32 = 0,
        /// Its size in bytes.
        info_size: u32 = 4,
    }

    /// The page to which a PV guest's `rsi` leads when it starts.
    "start_info" 1168
    pub struct StartInfo {
        /// Begins with [`START_INFO_MAGIC_PREFIX`].
        magic: [u8; 32] = 0,
        /// Pages given to the domain.
        nr_pages: u64 = 32,
        /// The machine address of the [`SharedInfo`](super::SharedInfo) page.
        shared_info: u64 = 40,
        /// [`StartFlags`].
        flags: u32 = 48,
        #[doc(hidden)]
        _gap0: [u8; 4] = 52,
        /// The frame of the store's ring.
        store_mfn: Mfn = 56,
        /// The port of the store's ring.
        store_evtchn: Port = 64,
        #[doc(hidden)]
        _gap1: [u8; 4] = 68,
        /// The console.
        console: ConsoleLocation = 72,
        /// The address of the top page table.
        pt_base: u64 = 88,
        /// Pages of page tables, in a row from `pt_base`.
        nr_pt_frames: u64 = 96,
        /// The address of the list of machine frames, one for each page.
        mfn_list: u64 = 104,
        /// The address (or frame) of the module; zero: none.
        mod_start: u64 = 112,
        /// Bytes in the module.
        mod_len: u64 = 120,
        /// The command line, ended by a zero.
        cmd_line: [u8; 1024] = 128,
        /// The first frame of the frame list, if it has its own mapping.
        first_p2m_pfn: u64 = 1152,
        /// The number of frames of the frame list.
        nr_p2m_frames: u64 = 1160,
    }

    /// A module of the initial domain.
    "xen_multiboot_mod_list" 16
    pub struct MultibootModList {
        /// Its first byte, from the start of the module area.
        mod_start: u32 = 0,
        /// Behind its last byte.
        mod_end: u32 = 4,
        /// Its command line.
        cmdline: u32 = 8,
        /// Zero.
        pad: u32 = 12,
    }

    /// The initial domain's screen.
    "dom0_vga_console_info" 40
    pub struct Dom0VgaConsoleInfo {
        /// `XEN_VGATYPE_*`: what `u` is.
        video_type: u8 = 0,
        #[doc(hidden)]
        _gap0: [u8; 3] = 1,
        /// [`VgaTextMode3`] or [`VgaVesaLfb`].
        u: [u8; 36] = 4,
    }

    /// A text screen.
    "dom0_vga_console_info.u.text_mode_3" 10
    pub struct VgaTextMode3 {
        /// Lines of a character.
        font_height: u16 = 0,
        /// Column of the cursor.
        cursor_x: u16 = 2,
        /// Row of the cursor.
        cursor_y: u16 = 4,
        /// Rows.
        rows: u16 = 6,
        /// Columns.
        columns: u16 = 8,
    }

    /// A linear frame buffer.
    "dom0_vga_console_info.u.vesa_lfb" 36
    pub struct VgaVesaLfb {
        /// Pixels in a line.
        width: u16 = 0,
        /// Lines.
        height: u16 = 2,
        /// Bytes from a line to the next.
        bytes_per_line: u16 = 4,
        /// Bits of a pixel.
        bits_per_pixel: u16 = 6,
        /// Its physical address, low word.
        lfb_base: u32 = 8,
        /// Its size, in units of 64 KiB.
        lfb_size: u32 = 12,
        /// Lowest bit of red.
        red_pos: u8 = 16,
        /// Bits of red.
        red_size: u8 = 17,
        /// Lowest bit of green.
        green_pos: u8 = 18,
        /// Bits of green.
        green_size: u8 = 19,
        /// Lowest bit of blue.
        blue_pos: u8 = 20,
        /// Bits of blue.
        blue_size: u8 = 21,
        /// Lowest bit of what is reserved.
        rsvd_pos: u8 = 22,
        /// Bits of what is reserved.
        rsvd_size: u8 = 23,
        /// Capabilities of the video BIOS.
        gbl_caps: u32 = 24,
        /// Attributes of the mode.
        mode_attrs: u16 = 28,
        /// Zero.
        pad: u16 = 30,
        /// Its physical address, high word.
        ext_lfb_base: u32 = 32,
    }
}

/// How [`StartInfo::magic`] begins for a PV guest; the version of Xen's
/// interface and more may follow. Source: `struct start_info`, `xen.h`.
pub const START_INFO_MAGIC_PREFIX: &[u8] = b"xen-3.";
