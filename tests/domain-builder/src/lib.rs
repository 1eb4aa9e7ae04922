#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod elf;
mod features;
mod image;
mod layout;
mod notes;
mod refused;
#[cfg(feature = "samples")]
pub mod samples;
mod tables;
mod unpack;
mod write;

pub use image::Segment;
pub use layout::{Plan, Table};
pub use refused::Refused;
pub use write::Facts;

/// What is to be built.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The kernel's file.
    pub kernel: &'a [u8],
    /// A file for it, loaded behind it.
    pub ramdisk: Option<&'a [u8]>,
    /// The command line.
    pub command_line: &'a str,
    /// Pages of memory.
    pub nr_pages: u64,
}

/// The first address that belongs to who runs the guest in a process.
pub const FIRST_FORBIDDEN_ADDRESS: u64 = 0x5000_0000_0000;

const PAGE: u64 = hypercall_abi::PAGE_SIZE as u64;
