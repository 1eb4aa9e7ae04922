//! The heap: talc, fed from the frame allocator as it grows.

use core::alloc::Layout;

use hypercall_abi::PAGE_SIZE;
use talc::{
    TalcLock,
    base::{Talc, binning::Binning},
    source::Source,
};

use crate::{cpu::sync::RawUpcallMutex, hypervisor::frames};

/// The heap grows by at least this much at a time.
const STEP_BYTES: usize = 64 * 1024;

/// Where the heap's memory comes from, and how much of it may.
#[derive(Debug)]
pub struct Growth {
    /// Bytes that may still be taken.
    budget_bytes: usize,
}

// SAFETY: `acquire` touches the allocator only through the reference it is
// given; frames are taken under a lock of their own that never allocates.
unsafe impl Source for Growth {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Room for the allocation at any alignment, and the heap's own edges.
        let need = layout
            .size()
            .checked_add(layout.align())
            .and_then(|bytes| bytes.checked_add(PAGE_SIZE))
            .ok_or(())?;
        let exact = need.checked_next_multiple_of(PAGE_SIZE).ok_or(())?;
        // Take a whole step if there is one, else just what is needed.
        for bytes in [exact.max(STEP_BYTES), exact] {
            if bytes > talc.source.budget_bytes {
                continue;
            }
            let Some(start) = frames::allocate(bytes / PAGE_SIZE) else {
                continue;
            };
            talc.source.budget_bytes -= bytes;
            // SAFETY: the pages are fresh, mapped, writable and nobody else's.
            return unsafe { talc.claim(start.as_ptr(), bytes) }
                .map(|_| ())
                .ok_or(());
        }
        Err(())
    }
}

/// The allocator behind `alloc`.
#[global_allocator]
static HEAP: TalcLock<RawUpcallMutex, Growth> = TalcLock::new(Growth { budget_bytes: 0 });

/// Lets the heap grow to `bytes`.
pub(crate) fn set_limit(bytes: usize) {
    HEAP.lock().source.budget_bytes = bytes;
}

/// Bytes that the heap may still take from the guest's memory.
pub fn remaining_bytes() -> usize {
    let free = usize::try_from(frames::free_bytes()).unwrap_or(usize::MAX);
    HEAP.lock().source.budget_bytes.min(free)
}
