#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(target_arch = "x86_64")]
pub mod arch_x86;
pub mod elfnote;
mod errno;
pub mod event_channel;
pub mod features;
pub mod hvm;
mod ids;
pub mod io;
pub mod layout;
pub mod memory;
mod number;
pub mod peer;
pub mod platform;
pub mod sched;
#[cfg(target_arch = "x86_64")]
pub mod trap;
pub mod vcpu;
pub mod version;
pub mod xen;

pub use errno::Errno;
pub use ids::{DomId, Gfn, GrantRef, Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn, Port, VcpuId};
pub use number::HypercallNr;
