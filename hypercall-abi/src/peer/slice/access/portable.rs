//! By Rust's atomics: for Miri, which knows no assembly, bytes in the literal sense; for
//! processors other than x86, whose words must be whole, words.

use core::{ptr::NonNull, sync::atomic::Ordering};

use super::{Access, byte};

/// Miri's words are bytes, read and written while nobody else does.
#[cfg(miri)]
mod whole {
    use core::sync::atomic::{AtomicBool, Ordering};

    static LOCKED: AtomicBool = AtomicBool::new(false);

    pub(super) fn run<T>(access: impl FnOnce() -> T) -> T {
        while LOCKED.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        let value = access();
        LOCKED.store(false, Ordering::Release);
        value
    }
}

macro_rules! access {
    ($($word:ident),*) => {$(
        #[cfg(miri)]
        impl Access for $word {
            unsafe fn read(place: NonNull<Self>) -> Self {
                // SAFETY: bytes of a word that is mapped.
                let read = |index| unsafe { byte(place.cast(), index) }.load(Ordering::Acquire);
                whole::run(|| Self::from_ne_bytes(core::array::from_fn(read)))
            }
            unsafe fn write(place: NonNull<Self>, value: Self) {
                whole::run(|| {
                    for (index, value) in value.to_ne_bytes().into_iter().enumerate() {
                        // SAFETY: as above.
                        unsafe { byte(place.cast(), index) }.store(value, Ordering::Release);
                    }
                });
            }
        }

        #[cfg(not(miri))]
        impl Access for $word {
            #[inline]
            unsafe fn read(place: NonNull<Self>) -> Self {
                use crate::peer::Word;
                // SAFETY: mapped and aligned; an atomic has the size of its word.
                let atomic = unsafe { place.cast::<<Self as Word>::Atomic>().as_ref() };
                Word::load(atomic, Ordering::Acquire)
            }
            #[inline]
            unsafe fn write(place: NonNull<Self>, value: Self) {
                use crate::peer::Word;
                // SAFETY: as above.
                let atomic = unsafe { place.cast::<<Self as Word>::Atomic>().as_ref() };
                Word::store(atomic, value, Ordering::Release);
            }
        }
    )*};
}
access!(u8, u16, u32, u64);

/// Copies words out.
///
/// # Safety
/// As for [`Access::read`], of as many words as there are in `to`.
#[inline]
pub(super) unsafe fn copy_words_out(from: NonNull<u8>, to: &mut [[u8; 8]]) {
    for (index, target) in to.as_flattened_mut().iter_mut().enumerate() {
        // SAFETY: a byte of these words.
        *target = unsafe { byte(from, index) }.load(Ordering::Relaxed);
    }
}

/// Copies words in.
///
/// # Safety
/// As for [`copy_words_out`], with `to` for `from`; it may be written.
#[inline]
pub(super) unsafe fn copy_words_in(from: &[[u8; 8]], to: NonNull<u8>) {
    for (index, source) in from.as_flattened().iter().enumerate() {
        // SAFETY: a byte of these words.
        unsafe { byte(to, index) }.store(*source, Ordering::Relaxed);
    }
}
