#![doc = include_str!("../README.md")]

mod backends;
mod builder;
mod calls;
mod config;
mod console;
mod counter;
mod domain;
mod faults;
mod frames;
mod grants;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod hosted;
mod memory;
mod one_thread;
mod platform;
mod play;
mod ports;
mod processor;
mod store;
mod suspend;
#[cfg_attr(not(feature = "user"), path = "no_tables.rs")]
mod tables;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod terminal;
#[cfg(all(feature = "user", target_os = "linux", target_arch = "x86_64"))]
pub mod user;
#[cfg(feature = "user-net")]
mod user_net;
mod vcpus;
mod world;

pub use backends::{
    Checksum, DiskConfig, DiskId, Frame, Medium, Mischief, NicConfig, NicId, Segments, Tap,
};
pub use config::{Config, DomainType, NoMemory, OnShutdown, Time};
pub use domain::{Domain, Guest, Outcome, Shutdown};
pub use faults::{Faults, Mishap, Plan};
pub use one_thread::OneThread;
pub use play::{Played, SEED_COUNT_VARIABLE, SEED_VARIABLE, seed_count, seeds};
pub use store::{StoreError, StoreQuotas};
pub use suspend::Suspend;
pub use world::Xen;
