//! Memory that another domain, or the hypervisor, writes while we look.
//!
//! No Rust reference ever points there: a reference promises that nothing
//! changes underneath. [`PeerPtr`] reads and writes single words atomically,
//! [`PeerSlice`] copies bytes in and out, and what was read is
//! [`Untrusted`] until it was checked. Copy once, check, use.

mod words;

use core::{
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering},
};

/// A word that a processor reads and writes in one piece.
///
/// Sealed: `u8`, `u16`, `u32` and `u64`.
pub trait Word: Copy + sealed::Sealed + 'static {
    #[doc(hidden)]
    type Atomic;
    #[doc(hidden)]
    fn load(atomic: &Self::Atomic, order: Ordering) -> Self;
    #[doc(hidden)]
    fn store(atomic: &Self::Atomic, value: Self, order: Ordering);
    #[doc(hidden)]
    fn fetch_or(atomic: &Self::Atomic, value: Self, order: Ordering) -> Self;
    #[doc(hidden)]
    fn fetch_and(atomic: &Self::Atomic, value: Self, order: Ordering) -> Self;
    #[doc(hidden)]
    fn swap(atomic: &Self::Atomic, value: Self, order: Ordering) -> Self;
    #[doc(hidden)]
    fn compare_exchange(atomic: &Self::Atomic, current: Self, new: Self) -> Result<Self, Self>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! word {
    ($($word:ident $atomic:ident),*) => {$(
        impl sealed::Sealed for $word {}
        impl Word for $word {
            type Atomic = $atomic;
            #[inline]
            fn load(atomic: &$atomic, order: Ordering) -> Self {
                atomic.load(order)
            }
            #[inline]
            fn store(atomic: &$atomic, value: Self, order: Ordering) {
                atomic.store(value, order);
            }
            #[inline]
            fn fetch_or(atomic: &$atomic, value: Self, order: Ordering) -> Self {
                atomic.fetch_or(value, order)
            }
            #[inline]
            fn fetch_and(atomic: &$atomic, value: Self, order: Ordering) -> Self {
                atomic.fetch_and(value, order)
            }
            #[inline]
            fn swap(atomic: &$atomic, value: Self, order: Ordering) -> Self {
                atomic.swap(value, order)
            }
            #[inline]
            fn compare_exchange(atomic: &$atomic, current: Self, new: Self) -> Result<Self, Self> {
                atomic.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
            }
        }
    )*};
}
word!(u8 AtomicU8, u16 AtomicU16, u32 AtomicU32, u64 AtomicU64);

/// A place in shared memory, for as long as `'a`.
///
/// Words are read and written atomically; other types only lead to their
/// fields, by [`peer_field!`](crate::peer_field).
pub struct PeerPtr<'a, T: ?Sized> {
    place: NonNull<T>,
    mapped: PhantomData<&'a ()>,
}

// SAFETY: a PeerPtr gives atomic access only, which any thread may make.
unsafe impl<T: ?Sized> Send for PeerPtr<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized> Sync for PeerPtr<'_, T> {}

impl<T: ?Sized> Clone for PeerPtr<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for PeerPtr<'_, T> {}

impl<T: ?Sized> core::fmt::Debug for PeerPtr<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PeerPtr({:p})", self.place)
    }
}

impl<'a, T: ?Sized> PeerPtr<'a, T> {
    /// A place in shared memory.
    ///
    /// # Safety
    /// For all of `'a`, the memory at `place` is mapped, readable, aligned for
    /// `T`, writable if it is ever written through this pointer, and no part of
    /// this program reads or writes it other than through peer pointers and
    /// atomics.
    pub const unsafe fn new(place: NonNull<T>) -> Self {
        Self {
            place,
            mapped: PhantomData,
        }
    }

    /// The address.
    pub const fn as_ptr(self) -> *mut T {
        self.place.as_ptr()
    }
}

impl<T: Word> PeerPtr<'_, T> {
    #[inline]
    fn atomic(&self) -> &T::Atomic {
        // SAFETY: the memory is mapped and aligned (contract of `new`), an
        // atomic has the size of its word, and all access is atomic.
        unsafe { self.place.cast::<T::Atomic>().as_ref() }
    }

    /// Reads the word, in no order with other accesses.
    #[inline]
    pub fn load(self) -> Untrusted<T> {
        Untrusted(T::load(self.atomic(), Ordering::Relaxed))
    }

    /// Reads the word; what the peer wrote before it can be read after.
    #[inline]
    pub fn load_acquire(self) -> Untrusted<T> {
        Untrusted(T::load(self.atomic(), Ordering::Acquire))
    }

    /// Writes the word, in no order with other accesses.
    #[inline]
    pub fn store(self, value: T) {
        T::store(self.atomic(), value, Ordering::Relaxed);
    }

    /// Writes the word; a peer that sees it sees all that was written before.
    #[inline]
    pub fn store_release(self, value: T) {
        T::store(self.atomic(), value, Ordering::Release);
    }

    /// Sets bits, and returns the word before.
    #[inline]
    pub fn fetch_or(self, bits: T) -> Untrusted<T> {
        Untrusted(T::fetch_or(self.atomic(), bits, Ordering::AcqRel))
    }

    /// Keeps only `bits`, and returns the word before.
    #[inline]
    pub fn fetch_and(self, bits: T) -> Untrusted<T> {
        Untrusted(T::fetch_and(self.atomic(), bits, Ordering::AcqRel))
    }

    /// Replaces the word, and returns the one before.
    #[inline]
    pub fn swap(self, value: T) -> Untrusted<T> {
        Untrusted(T::swap(self.atomic(), value, Ordering::AcqRel))
    }

    /// Replaces `current` by `new`.
    ///
    /// # Errors
    /// The word was another; it is returned.
    #[inline]
    pub fn compare_exchange(self, current: T, new: T) -> Result<(), Untrusted<T>> {
        T::compare_exchange(self.atomic(), current, new)
            .map(|_| ())
            .map_err(Untrusted)
    }
}

impl<'a> PeerPtr<'a, i8> {
    /// The same byte without its sign, as a [`Word`].
    pub const fn bits(self) -> PeerPtr<'a, u8> {
        PeerPtr {
            place: self.place.cast(),
            mapped: PhantomData,
        }
    }
}

impl<'a, T, const N: usize> PeerPtr<'a, [T; N]> {
    /// The element at `index`; `None` outside the array.
    #[inline]
    pub fn get(self, index: usize) -> Option<PeerPtr<'a, T>> {
        if index >= N {
            return None;
        }
        // SAFETY: `index` lies in the array.
        let element = unsafe { self.place.cast::<T>().add(index) };
        // SAFETY: an element of mapped memory is mapped for as long.
        Some(unsafe { PeerPtr::new(element) })
    }
}

impl<'a, const N: usize> PeerPtr<'a, [u8; N]> {
    /// The array as bytes to copy.
    pub const fn as_slice(self) -> PeerSlice<'a> {
        PeerSlice {
            start: self.place.cast(),
            len_bytes: N,
            mapped: PhantomData,
        }
    }
}

/// The peer pointer to a field of what a peer pointer leads to.
///
/// ```
/// use hypercall_abi::{peer::PeerPtr, peer_field};
/// #[repr(C)]
/// struct Ring { produced: u32, consumed: u32 }
///
/// let mut ring = Ring { produced: 7, consumed: 3 };
/// // SAFETY: `ring` outlives the pointer, which alone is used.
/// let ring = unsafe { PeerPtr::new(core::ptr::NonNull::from(&mut ring)) };
/// assert_eq!(peer_field!(ring, Ring, consumed).load().trust(), 3);
/// ```
#[macro_export]
macro_rules! peer_field {
    ($ptr:expr, $type:ty, $field:ident) => {{
        let peer: $crate::peer::PeerPtr<'_, $type> = $ptr;
        $crate::peer::PeerPtr::__field(
            peer,
            // SAFETY: `__field` calls this with a pointer to mapped memory of
            // this type; no reference is made on the way to the field.
            |place: *mut $type| unsafe { &raw mut (*place).$field },
        )
    }};
}

impl<'a, T> PeerPtr<'a, T> {
    #[doc(hidden)]
    #[inline]
    pub fn __field<F>(self, project: impl FnOnce(*mut T) -> *mut F) -> PeerPtr<'a, F> {
        let field = project(self.place.as_ptr());
        let offset = field.addr().wrapping_sub(self.place.as_ptr().addr());
        // Not only the macro can call this: a projection out of bounds gives
        // the start, and is refused below.
        assert!(
            offset <= size_of::<T>() && size_of::<F>() <= size_of::<T>() - offset,
            "a field lies within its structure"
        );
        assert!(field.is_aligned(), "a field is aligned");
        // SAFETY: the offset lies within the structure.
        let place = unsafe { self.place.byte_add(offset) }.cast();
        // SAFETY: part of mapped memory is mapped for as long; aligned as seen
        // above.
        unsafe { PeerPtr::new(place) }
    }
}

/// Bytes in shared memory, for as long as `'a`: copied in and out, never
/// borrowed.
#[derive(Clone, Copy)]
pub struct PeerSlice<'a> {
    start: NonNull<u8>,
    len_bytes: usize,
    mapped: PhantomData<&'a ()>,
}

// SAFETY: a PeerSlice gives atomic access only, which any thread may make.
unsafe impl Send for PeerSlice<'_> {}
// SAFETY: as above.
unsafe impl Sync for PeerSlice<'_> {}

impl core::fmt::Debug for PeerSlice<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PeerSlice({:p}, {} bytes)", self.start, self.len_bytes)
    }
}

impl<'a> PeerSlice<'a> {
    /// Bytes in shared memory.
    ///
    /// # Safety
    /// As for [`PeerPtr::new`], for `len_bytes` bytes from `start`, which do
    /// not wrap around the end of the address space.
    pub const unsafe fn new(start: NonNull<u8>, len_bytes: usize) -> Self {
        Self {
            start,
            len_bytes,
            mapped: PhantomData,
        }
    }

    /// How many bytes there are.
    pub const fn len_bytes(self) -> usize {
        self.len_bytes
    }

    /// The part of `len_bytes` bytes from `offset`; `None` if it lies outside.
    pub const fn get(self, offset: usize, len_bytes: usize) -> Option<Self> {
        if offset > self.len_bytes || len_bytes > self.len_bytes - offset {
            return None;
        }
        Some(Self {
            // SAFETY: `offset` lies within the slice.
            start: unsafe { self.start.add(offset) },
            len_bytes,
            mapped: PhantomData,
        })
    }

    /// What lies at `offset`; `None` if it does not lie inside, or not aligned.
    #[inline]
    pub fn at<T>(self, offset: usize) -> Option<PeerPtr<'a, T>> {
        let part = self.get(offset, size_of::<T>())?;
        let place = part.start.cast::<T>();
        if !place.is_aligned() {
            return None;
        }
        // SAFETY: as for this slice: mapped for `'a`, and only used through peer
        // pointers; aligned as seen above.
        Some(unsafe { PeerPtr::new(place) })
    }

    #[inline]
    fn byte(&self, index: usize) -> &AtomicU8 {
        // SAFETY: mapped memory (contract of `new`), for all callers keep `index` below
        // the length; bytes are always aligned, and all access is atomic.
        unsafe { self.place(index).cast::<AtomicU8>().as_ref() }
    }

    /// The place of the byte at `index`, which lies within.
    #[inline]
    fn place(&self, index: usize) -> NonNull<u8> {
        debug_assert!(index <= self.len_bytes, "a place within");
        // SAFETY: all callers keep `index` within the length.
        unsafe { self.start.add(index) }
    }

    /// Where the first aligned word lies, bounded by `len_bytes`.
    fn lead_bytes(self, len_bytes: usize) -> usize {
        self.start.as_ptr().align_offset(8).min(len_bytes)
    }

    /// Copies the first bytes out, as many as both sides have, and says how
    /// many. What is copied may be a mixture of what a peer wrote at different
    /// times; it does not change afterwards.
    pub fn copy_to(self, target: &mut [u8]) -> usize {
        let len = self.len_bytes.min(target.len());
        let mut at = 0;
        let (Some(target), lead) = (target.get_mut(..len), self.lead_bytes(len)) else {
            return 0;
        };
        let (head, rest) = target.split_at_mut(lead);
        for byte in head {
            *byte = self.byte(at).load(Ordering::Relaxed);
            at += 1;
        }
        let (words, tail) = rest.as_chunks_mut::<8>();
        // SAFETY: the words lie within this slice, the first behind the lead; it is mapped
        // and only used through peer pointers (contract of `new`).
        unsafe { words::copy_out(self.place(at), words) };
        at += words.as_flattened().len();
        for byte in tail {
            *byte = self.byte(at).load(Ordering::Relaxed);
            at += 1;
        }
        len
    }

    /// Copies bytes in, as many as both sides have, and says how many.
    pub fn copy_from(self, source: &[u8]) -> usize {
        let len = self.len_bytes.min(source.len());
        let mut at = 0;
        let (Some(source), lead) = (source.get(..len), self.lead_bytes(len)) else {
            return 0;
        };
        let (head, rest) = source.split_at(lead);
        for byte in head {
            self.byte(at).store(*byte, Ordering::Relaxed);
            at += 1;
        }
        let (words, tail) = rest.as_chunks::<8>();
        // SAFETY: as in `copy_to`; it may be written.
        unsafe { words::copy_in(words, self.place(at)) };
        at += words.as_flattened().len();
        for byte in tail {
            self.byte(at).store(*byte, Ordering::Relaxed);
            at += 1;
        }
        len
    }
}

/// A value that a peer chose. It may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Untrusted<T>(T);

impl<T> Untrusted<T> {
    /// A value that came from a peer by another way.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, if `valid` says so.
    pub fn check(self, valid: impl FnOnce(&T) -> bool) -> Option<T> {
        valid(&self.0).then_some(self.0)
    }

    /// What `convert` makes of the value.
    ///
    /// # Errors
    /// Those of `convert`.
    pub fn check_with<U, E>(self, convert: impl FnOnce(T) -> Result<U, E>) -> Result<U, E> {
        convert(self.0)
    }

    /// The value as it is: for places that only the hypervisor writes, which
    /// is trusted, and where every value is a good one.
    pub fn trust(self) -> T {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(memory: &mut [u8]) -> PeerSlice<'_> {
        // SAFETY: the slice borrows the memory, which is used through it alone.
        unsafe { PeerSlice::new(NonNull::from(&mut *memory).cast(), memory.len()) }
    }

    #[test]
    fn copies_agree_at_every_alignment_and_length() {
        let mut memory = [0_u8; 640];
        let source: [u8; 600] = core::array::from_fn(|i| (i % 251) as u8 + 1);
        for offset in 0..9 {
            for len in (0..24).chain([255, 256, 263, 264, 600]) {
                let part = slice(&mut memory).get(offset, len).unwrap();
                assert_eq!(part.copy_from(&source), len);
                let mut target = [0; 632];
                assert_eq!(part.copy_to(&mut target), len);
                assert_eq!(target[..len], source[..len]);
                assert!(target[len..].iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn parts_outside_the_slice_are_refused() {
        let mut memory = [0_u8; 8];
        let all = slice(&mut memory);
        assert!(all.get(0, 8).is_some() && all.get(8, 0).is_some());
        assert!(all.get(0, 9).is_none() && all.get(9, 0).is_none());
        assert!(all.get(usize::MAX, 2).is_none());
        let mut words = [1_u64, 2];
        // SAFETY: the slice borrows the words, which are used through it alone.
        let all = unsafe { PeerSlice::new(NonNull::from(&mut words).cast(), 16) };
        assert_eq!(all.at::<u64>(8).map(|word| word.load().trust()), Some(2));
        assert!(all.at::<u64>(4).is_none() && all.at::<u64>(16).is_none());
        assert!(all.at::<u32>(12).is_some() && all.at::<u32>(14).is_none());
    }

    #[test]
    fn a_word_is_read_once_and_checked() {
        let mut word = 5_u32;
        // SAFETY: `word` outlives the pointer, which alone is used.
        let peer = unsafe { PeerPtr::new(NonNull::from(&mut word)) };
        assert_eq!(peer.load().check(|v| *v < 5), None);
        assert_eq!(peer.fetch_or(2).trust(), 5);
        assert_eq!(peer.load_acquire().check(|v| *v == 7), Some(7));
        assert!(peer.compare_exchange(6, 0).is_err());
        assert!(peer.compare_exchange(7, 0).is_ok());
    }

    #[test]
    fn arrays_are_bounded() {
        let mut words = [1_u64, 2];
        // SAFETY: `words` outlives the pointer, which alone is used.
        let peer = unsafe { PeerPtr::new(NonNull::from(&mut words)) };
        assert_eq!(peer.get(1).unwrap().load().trust(), 2);
        assert!(peer.get(2).is_none());
    }
}
