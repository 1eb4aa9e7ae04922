//! A place for what is found out once, at boot.

use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    sync::atomic::{AtomicU8, Ordering},
};

const EMPTY: u8 = 0;
const WRITING: u8 = 1;
const FULL: u8 = 2;

/// A value that is set once. Unlike `spin::Once` it runs no code of others while it is
/// being set, so it cannot be poisoned, and nobody waits: an image has no words for it.
#[derive(Debug)]
pub(crate) struct SetOnce<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: one caller writes, before all others read; what they read they may share and, as
// it is a copy, keep.
unsafe impl<T: Copy + Send + Sync> Sync for SetOnce<T> {}

impl<T: Copy> SetOnce<T> {
    /// Without a value.
    pub(crate) const fn new() -> Self {
        Self {
            state: AtomicU8::new(EMPTY),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Sets the value, if none was set before.
    pub(crate) fn set(&self, value: T) {
        let begun =
            self.state
                .compare_exchange(EMPTY, WRITING, Ordering::Relaxed, Ordering::Relaxed);
        if begun.is_ok() {
            // SAFETY: one caller comes here, ever, and nobody reads before the store below.
            unsafe { self.value.get().write(MaybeUninit::new(value)) };
            self.state.store(FULL, Ordering::Release);
        }
    }

    /// The value, once it is set.
    pub(crate) fn get(&self) -> Option<T> {
        if self.state.load(Ordering::Acquire) != FULL {
            return None;
        }
        // SAFETY: it was written before the state said so, and is never written again.
        let value = unsafe { &*self.value.get() };
        // SAFETY: as above.
        Some(unsafe { value.assume_init() })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::thread;

    #[test]
    fn the_first_value_stays() {
        static PLACE: SetOnce<[u64; 4]> = SetOnce::new();
        assert_eq!(PLACE.get(), None);
        thread::scope(|scope| {
            for number in 1..5 {
                scope.spawn(move || {
                    PLACE.set([number; 4]);
                    // Whole, whosever it is.
                    if let Some(value) = PLACE.get() {
                        assert!(value.iter().all(|word| *word == value[0]));
                    }
                });
            }
        });
        let value = PLACE.get();
        PLACE.set([9; 4]);
        assert!(value.is_some() && PLACE.get() == value);
    }
}
