//! The accesses themselves. In Rust's memory model each is one of single bytes, atomic and
//! relaxed, which may overlap any other. The processor makes several of them at once, in
//! assembly, of which the compiler knows no sizes: that is one of the ways in which single
//! bytes may be accessed.
//!
//! Words are read and written in one piece, and in order: a read before, a write after all
//! that the program has there (on x86 every read and every write is).

#[cfg(any(not(target_arch = "x86_64"), miri))]
mod portable;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod processor;

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU8, Ordering},
};

#[cfg(any(not(target_arch = "x86_64"), miri))]
use portable as by;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use processor as by;

/// A word that can be accessed so.
pub trait Access: Sized {
    /// Reads it.
    ///
    /// # Safety
    /// It is mapped and aligned, and this program only uses its bytes by this module, or as
    /// atomic bytes.
    unsafe fn read(place: NonNull<Self>) -> Self;

    /// Writes it.
    ///
    /// # Safety
    /// As for [`Self::read`]; it may be written.
    unsafe fn write(place: NonNull<Self>, value: Self);
}

/// The byte at `index`.
///
/// # Safety
/// It is mapped for as long as `'a`, and only used as for [`Access::read`].
#[inline]
unsafe fn byte<'a>(start: NonNull<u8>, index: usize) -> &'a AtomicU8 {
    // SAFETY: it is mapped, so it lies behind the start.
    let place = unsafe { start.add(index) };
    // SAFETY: mapped, bytes are always aligned, and all access is atomic.
    unsafe { place.cast::<AtomicU8>().as_ref() }
}

/// How many bytes lie before the first aligned word, of `len_bytes`.
#[inline]
fn lead_bytes(start: NonNull<u8>, len_bytes: usize) -> usize {
    start.as_ptr().align_offset(8).min(len_bytes)
}

/// Copies bytes out.
///
/// # Safety
/// As for [`Access::read`], of as many bytes as there are in `to`.
#[inline]
pub(super) unsafe fn copy_out(from: NonNull<u8>, to: &mut [u8]) {
    let mut at = 0;
    // SAFETY: every `index` below is less than `to`'s length.
    let get = |index| unsafe { byte(from, index) }.load(Ordering::Relaxed);
    let lead = lead_bytes(from, to.len());
    let Some((head, rest)) = to.split_at_mut_checked(lead) else {
        return;
    };
    for target in head {
        *target = get(at);
        at += 1;
    }
    let (words, tail) = rest.as_chunks_mut::<8>();
    // SAFETY: behind the lead, which is not longer than what is mapped.
    let first = unsafe { from.add(at) };
    // SAFETY: as many words are mapped there, and the first is aligned.
    unsafe { by::copy_words_out(first, words) };
    at += words.as_flattened().len();
    for target in tail {
        *target = get(at);
        at += 1;
    }
}

/// Copies bytes in.
///
/// # Safety
/// As for [`copy_out`], with `to` for `from`; it may be written.
#[inline]
pub(super) unsafe fn copy_in(from: &[u8], to: NonNull<u8>) {
    let mut at = 0;
    // SAFETY: every `index` below is less than `from`'s length.
    let set = |index, value| unsafe { byte(to, index) }.store(value, Ordering::Relaxed);
    let lead = lead_bytes(to, from.len());
    let Some((head, rest)) = from.split_at_checked(lead) else {
        return;
    };
    for source in head {
        set(at, *source);
        at += 1;
    }
    let (words, tail) = rest.as_chunks::<8>();
    // SAFETY: behind the lead, which is not longer than what is mapped.
    let first = unsafe { to.add(at) };
    // SAFETY: as many words are mapped there, and the first is aligned.
    unsafe { by::copy_words_in(words, first) };
    at += words.as_flattened().len();
    for source in tail {
        set(at, *source);
        at += 1;
    }
}
