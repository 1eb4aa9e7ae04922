//! The guest's memory: what there is, and who has which frame.

pub mod frames;
pub mod map;

#[cfg(all(feature = "heap", target_os = "none"))]
pub mod heap;

pub use frames::FrameAllocator;
pub use map::{MemoryKind, MemoryMap, MemoryRegion};
