#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod adapt;
#[cfg(any(test, target_os = "none"))]
mod arch;
mod boot;
pub mod boot_info;
pub mod clock;
mod cpu;
mod error;
#[cfg(feature = "alloc")]
mod frontends;
mod guest;
mod hypervisor;
mod kernel;
pub mod memory;
mod number;
pub mod trap;

#[cfg(not(target_os = "none"))]
pub use boot::hosted;
pub use boot_info::{BootInfo, CommandLine, GuestType};
pub use cpu::sync;
pub use error::{Error, Shown};
pub use event_channels;
#[cfg(feature = "net")]
pub use frontends::net;
#[cfg(feature = "alloc")]
pub use frontends::{GrantedBuf, blkfront, netfront, xenbus};
pub use grant_tables;
pub use guest::{Guest, HypervisorInfo};
pub use hypercall_abi as abi;
pub use hypervisor::{Current, Delivery};
#[cfg(target_os = "none")]
pub use hypervisor::{Native, frames::free_bytes as free_memory_bytes};
#[cfg(target_os = "none")]
#[doc(hidden)]
pub use kernel::crash::panic as __panic;
#[cfg(all(feature = "heap", target_os = "none"))]
pub use kernel::heap;
pub use kernel::{console, power};
#[cfg(feature = "alloc")]
pub use kernel::{executor, store::Store, time};
#[cfg(feature = "alloc")]
pub use xenstore_client;
