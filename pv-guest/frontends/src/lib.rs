#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod adapters;
pub mod blkfront;
mod buffers;
#[cfg(feature = "net")]
pub mod net;
pub mod netfront;
pub mod xenbus;

pub use buffers::GrantedBuf;
