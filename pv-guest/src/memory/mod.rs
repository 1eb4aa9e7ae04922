//! The guest's memory: what there is, and who has which frame.

pub mod frames;
pub mod map;

pub use frames::FrameAllocator;
pub use map::{MemoryKind, MemoryMap, MemoryRegion};

/// Whether `len_bytes` bytes from `start`, as a loader tells them, lie in `room`.
#[cfg(any(target_os = "none", test))]
pub(crate) fn lies_in(room: &core::ops::Range<u64>, start: u64, len_bytes: u64) -> bool {
    let end = start.checked_add(len_bytes);
    start >= room.start && end.is_some_and(|end| end <= room.end)
}

#[cfg(test)]
mod tests {
    use super::lies_in;

    #[test]
    fn what_lies_in_a_room_does_so_with_both_ends() {
        let lies = |start, len_bytes| lies_in(&(100..200), start, len_bytes);
        assert!(lies(100, 100) && lies(150, 1) && lies(200, 0));
        assert!(!lies(99, 1) && !lies(100, 101) && !lies(199, 2));
        assert!(!lies(150, u64::MAX) && !lies(u64::MAX, 1) && !lies(0, u64::MAX));
    }
}
