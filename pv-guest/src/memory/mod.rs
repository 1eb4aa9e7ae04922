//! The guest's memory: what there is, and who has which frame.

pub mod frames;
pub mod map;
#[cfg(any(target_os = "none", test))]
pub(crate) mod tables;

#[cfg(all(feature = "heap", target_os = "none"))]
pub mod heap;

pub use frames::FrameAllocator;
pub use map::{MemoryKind, MemoryMap, MemoryRegion};

/// The memory map of the guest that this image is.
static BOOT_MAP: spin::Mutex<MemoryMap> = spin::Mutex::new(MemoryMap::empty());

/// Where boot keeps the memory map: its stack has no room for copies.
///
/// # Errors
/// The guest was started before.
pub(crate) fn boot_map() -> Result<&'static mut MemoryMap, crate::Error> {
    let map = BOOT_MAP.try_lock().map(spin::MutexGuard::leak);
    map.ok_or(crate::Error::Failed("a guest starts once"))
}
