//! Memory that another domain, or the hypervisor, writes while we look.
//!
//! No Rust reference ever points there: a reference promises that nothing
//! changes underneath. [`PeerPtr`] reads and writes single words atomically,
//! [`PeerSlice`] copies bytes in and out, and what was read is
//! [`Untrusted`] until it was checked. Copy once, check, use.
//!
//! # Sizes
//!
//! Rust's memory model knows no atomic accesses of different sizes to one place at the
//! same time. A [`PeerPtr`] therefore leads to words of one size each: the fields of a
//! structure. A [`PeerSlice`] has no such structure: what is copied there may overlap
//! what another copies, at any alignment, and a [`PeerWord`] in it may be a part of
//! either. Its accesses are those of bytes, in the model; how many of them the processor
//! makes at once is outside of the model.

mod slice;

use core::{
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering},
};

pub use slice::{PeerSlice, PeerWord};

/// A word that a processor reads and writes in one piece.
///
/// Sealed: `u8`, `u16`, `u32` and `u64`.
pub trait Word: Copy + sealed::Sealed + slice::Access + 'static {
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
    /// atomics, each word in its own size (the fields of `T`, none of which lie one over
    /// the other as those of a union do).
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
        // SAFETY: mapped memory of so many bytes (contract of `new`), which are accessed as
        // bytes only.
        unsafe { PeerSlice::new(self.place.cast(), N) }
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
        // SAFETY: the closure leads to a field, by the field's own type; it is called with
        // a pointer to mapped memory of this type, and makes no reference on the way.
        unsafe {
            $crate::peer::PeerPtr::__field(peer, |place: *mut $type| &raw mut (*place).$field)
        }
    }};
}

impl<'a, T> PeerPtr<'a, T> {
    /// The field that `project` leads to. It is public for the macro only: one who could
    /// call it without a promise could make a word of two others.
    ///
    /// ```compile_fail,E0133
    /// # use hypercall_abi::peer::PeerPtr;
    /// fn both(words: PeerPtr<'_, [u32; 2]>) -> PeerPtr<'_, u64> {
    ///     words.__field(|place| place.cast::<u64>())
    /// }
    /// ```
    ///
    /// A field of a packed structure may lie at any address, and does not compile:
    ///
    /// ```compile_fail,E0080
    /// # use hypercall_abi::{peer::PeerPtr, peer_field};
    /// #[repr(C, packed)]
    /// struct Packed { byte: u8, word: u32 }
    /// fn word(packed: PeerPtr<'_, Packed>) -> u32 {
    ///     peer_field!(packed, Packed, word).load().trust()
    /// }
    /// # let mut packed = Packed { byte: 0, word: 0 };
    /// # // SAFETY: `packed` outlives the pointer, which alone is used.
    /// # word(unsafe { PeerPtr::new(core::ptr::NonNull::from(&mut packed)) });
    /// ```
    ///
    /// # Safety
    /// `project` makes of a pointer to `T` the pointer to a field of it, which is an `F`.
    #[doc(hidden)]
    #[inline]
    pub unsafe fn __field<F>(self, project: impl FnOnce(*mut T) -> *mut F) -> PeerPtr<'a, F> {
        // A structure is aligned as the most aligned of its fields, so that each field is,
        // unless it is packed tighter.
        const { assert!(align_of::<T>() >= align_of::<F>(), "a field is aligned") };
        let field = project(self.place.as_ptr());
        let offset = field.addr().wrapping_sub(self.place.as_ptr().addr());
        // SAFETY: a field lies within its structure.
        let place = unsafe { self.place.byte_add(offset) }.cast();
        // SAFETY: part of mapped memory is mapped for as long; aligned as said
        // above.
        unsafe { PeerPtr::new(place) }
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
    use static_assertions::assert_not_impl_any;

    // What was read is the reader's, and goes where its type does.
    assert_not_impl_any!(Untrusted<*mut u8>: Send, Sync);
    assert_not_impl_any!(crate::platform::Singletons: Clone, Copy);

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
