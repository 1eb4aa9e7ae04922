#![doc = include_str!("../README.md")]

mod calls;
mod console;
mod domain;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod hosted;
mod memory;
mod platform;
mod ports;

pub use domain::{Config, Domain, NoMemory, OnShutdown, Outcome, Shutdown, Time};
