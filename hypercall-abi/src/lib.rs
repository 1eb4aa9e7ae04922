#![doc = include_str!("../README.md")]
#![no_std]

mod errno;
mod ids;
pub mod layout;
mod number;
pub mod peer;
pub mod platform;
#[cfg(target_arch = "x86_64")]
pub mod trap;

pub use errno::Errno;
pub use ids::{DomId, Gfn, GrantRef, Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn, Port, VcpuId};
pub use number::HypercallNr;
