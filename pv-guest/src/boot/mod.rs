//! From a loader to `main`, and how a guest ends.

mod entry;
#[cfg(not(target_os = "none"))]
pub mod hosted;
#[cfg(target_os = "none")]
mod native;
#[cfg(target_os = "none")]
mod pv;
#[cfg(target_os = "none")]
mod pvh;
