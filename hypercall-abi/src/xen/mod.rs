//! The core of the interface: `xen/include/public/xen.h`.
//!
//! [`StartInfo`] is what a PV guest finds when it starts, [`SharedInfo`] the
//! page through which Xen and the guest talk from then on, [`mmu`] how a PV
//! guest changes its page tables, [`traps`] how it receives exceptions and
//! [`console_io`] the emergency console.

pub mod console_io;
pub mod mmu;
mod shared_info;
mod start_info;
pub mod traps;

pub use shared_info::{ArchSharedInfo, ArchVcpuInfo, SharedInfo, VcpuInfo, VcpuTimeInfo};
pub use start_info::{START_INFO_MAGIC_PREFIX, StartFlags, StartInfo};
