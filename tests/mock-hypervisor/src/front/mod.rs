//! What is used from outside: domains for tests, a guest that is this process, and images.

mod builder;
pub(crate) mod devices;
mod domain;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod hosted;
#[cfg(all(feature = "user", target_os = "linux", target_arch = "x86_64"))]
pub mod image;
pub(crate) mod one_thread;
mod platform;
mod store;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod terminal;
#[cfg(feature = "user-net")]
mod user_net;
