//! Whole words, from and to memory that another domain may write meanwhile.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

/// From as many words on, the processor's own copying is faster than a loop.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const MANY: usize = 32;

/// Copies `count` words as one instruction.
///
/// # Safety
/// Both places are mapped, with so many words, and `to` may be written. One of them is a
/// peer's; the other is nobody else's meanwhile.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn copy_many(from: *const u8, to: *mut u8, count: usize) {
    // SAFETY: the places are as the caller promises, and the direction flag is clear, as
    // everywhere. A peer that writes meanwhile changes what is copied, and no more: these
    // are accesses of the processor, of which the compiler takes nothing for granted.
    unsafe {
        core::arch::asm!(
            "rep movsq",
            inout("rcx") count => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Copies words out.
///
/// # Safety
/// `from` is aligned to a word; as many as there are in `to` are mapped there, and this
/// program only uses them by peer pointers and atomics.
#[inline]
pub(super) unsafe fn copy_out(from: NonNull<u8>, to: &mut [[u8; 8]]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if to.len() >= MANY {
        // SAFETY: `from` is as the caller promises, and `to` is borrowed.
        unsafe { copy_many(from.as_ptr(), to.as_mut_ptr().cast(), to.len()) };
        return;
    }
    for (index, word) in to.iter_mut().enumerate() {
        // SAFETY: within what is mapped.
        let place = unsafe { from.cast::<AtomicU64>().add(index) };
        // SAFETY: mapped and aligned, and all access is atomic.
        *word = unsafe { place.as_ref() }
            .load(Ordering::Relaxed)
            .to_ne_bytes();
    }
}

/// Copies words in.
///
/// # Safety
/// As for [`copy_out`], with `to` for `from`; it may be written.
#[inline]
pub(super) unsafe fn copy_in(from: &[[u8; 8]], to: NonNull<u8>) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if from.len() >= MANY {
        // SAFETY: `to` is as the caller promises, and `from` is borrowed.
        unsafe { copy_many(from.as_ptr().cast(), to.as_ptr(), from.len()) };
        return;
    }
    for (index, word) in from.iter().enumerate() {
        // SAFETY: within what is mapped.
        let place = unsafe { to.cast::<AtomicU64>().add(index) };
        // SAFETY: mapped and aligned, and all access is atomic.
        unsafe { place.as_ref() }.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
    }
}
