//! A kernel's services: console, time, tasks, xenstore, grants, power.

pub mod console;
#[cfg(target_os = "none")]
pub(crate) mod crash;
pub(crate) mod events;
#[cfg(feature = "alloc")]
pub mod executor;
pub(crate) mod grants;
#[cfg(all(feature = "heap", target_os = "none"))]
pub mod heap;
pub mod power;
#[cfg(feature = "alloc")]
pub(crate) mod store;
#[cfg(feature = "alloc")]
pub mod time;
