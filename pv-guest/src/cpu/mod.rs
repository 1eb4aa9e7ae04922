//! The state of the processor that this kernel runs on: how it is virtualized, where Xen
//! keeps its words, whether events are delivered.

#[cfg(target_os = "none")]
pub(crate) mod guest_type;
#[cfg(not(target_os = "none"))]
pub(crate) mod hosted;
#[cfg(target_os = "none")]
pub(crate) mod mask;
#[cfg(any(test, target_os = "none"))]
pub(crate) mod set_once;
#[cfg(target_os = "none")]
pub(crate) mod shared_info;
pub mod sync;
