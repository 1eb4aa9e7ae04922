#![doc = include_str!("../README.md")]

mod core;
mod engine;
mod front;
mod hypercalls;
mod services;

#[cfg(test)]
mod tests;

pub use crate::{
    core::{
        chance::Faults,
        config::{Config, DomainType, NoMemory, OnShutdown, Time},
        domain_state::{Shutdown, Suspend},
        profile::Profile,
    },
    engine::{
        domain::{Domain, Guest, Outcome},
        host::Xen,
        plan::{Mishap, Plan},
        play::Played,
        seeds::{SEED_COUNT_VARIABLE, SEED_VARIABLE, seed_count, seeds},
    },
    front::one_thread::OneThread,
    services::{
        backends::{
            Checksum, DiskConfig, DiskId, Frame, Medium, Mischief, NicConfig, NicId, Segments,
        },
        xenstore::{StoreError, StoreQuotas},
    },
};
pub use front::devices::Tap;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use front::hosted;
#[cfg(all(feature = "user", target_os = "linux", target_arch = "x86_64"))]
pub use front::image as user;
