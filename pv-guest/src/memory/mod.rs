//! The guest's memory: what there is, and who has which frame.

pub mod frames;
pub mod map;
#[cfg(any(target_os = "none", test))]
pub(crate) mod tables;

#[cfg(all(feature = "heap", target_os = "none"))]
pub mod heap;

pub use frames::FrameAllocator;
pub use map::{MemoryKind, MemoryMap, MemoryRegion};
