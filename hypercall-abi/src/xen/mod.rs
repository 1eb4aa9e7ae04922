//! The core of the interface: `xen/include/public/xen.h`.
//!
//! [`StartInfo`] is what a PV guest finds when it starts, [`SharedInfo`] the
//! page through which Xen and any guest talk from then on. A PV guest changes
//! its page tables by [`mmu`] and receives exceptions by [`traps`]; its other
//! vCPUs start from a [`VcpuGuestContext`]. [`set_timer_op`] and the rest of
//! [`cpu`] are the vCPU's own, [`multicall`] makes several hypercalls at once,
//! [`vm_assist`] switches help on, and [`console_io`] is Xen's own console.

pub mod console_io;
pub mod cpu;
pub(crate) mod cpuid_msr;
pub(crate) mod misc;
pub mod mmu;
pub mod multicall;
pub(crate) mod shared_info;
pub(crate) mod start_info;
pub mod traps;
pub(crate) mod vcpu_context;
pub mod vm_assist;

pub use cpu::set_timer_op;
pub use cpuid_msr::{CpuidLeaf, MsrEntry, XEN_CPUID_NO_SUBLEAF, XEN_HVM_DEBUGCONS_IOPORT};
pub use misc::{NR_VIRQS, Virq, XenUuid};
pub use shared_info::{
    ArchSharedInfo, ArchVcpuInfo, PvclockFlags, SharedInfo, VcpuInfo, VcpuTimeInfo,
    XEN_LEGACY_MAX_VCPUS,
};
pub use start_info::{
    ConsoleLocation, Dom0ConsoleLocation, Dom0VgaConsoleInfo, MAX_GUEST_CMDLINE, MultibootModList,
    START_INFO_MAGIC_PREFIX, StartFlags, StartInfo, VgaTextMode3, VgaVesaLfb, XEN_VGATYPE_EFI_LFB,
    XEN_VGATYPE_TEXT_MODE_3, XEN_VGATYPE_VESA_LFB,
};
pub use vcpu_context::{FpuContext, VcpuContextFlags, VcpuGuestContext};
pub use vm_assist::VmAssist;
