//! Bytes in shared memory, of which nobody says what they are.

mod access;

use core::{marker::PhantomData, ptr::NonNull};

pub(super) use access::Access;

use super::{Untrusted, Word};

/// Bytes in shared memory, for as long as `'a`: copied in and out, never
/// borrowed.
#[derive(Clone, Copy)]
pub struct PeerSlice<'a> {
    start: NonNull<u8>,
    len_bytes: usize,
    mapped: PhantomData<&'a ()>,
}

// SAFETY: all access is that of `access`, which any thread may make at any time.
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
    /// For all of `'a`, the `len_bytes` bytes from `start` (which do not wrap around the end
    /// of the address space) are mapped, readable, writable if they are ever written through
    /// this slice, and no part of this program reads or writes them other than through peer
    /// slices, or as single bytes through peer pointers and atomics.
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

    /// The word at `offset`; `None` if it does not lie inside, or not aligned.
    ///
    /// The fields of a structure are found by [`core::mem::offset_of`].
    #[inline]
    pub fn at<T: Word>(self, offset: usize) -> Option<PeerWord<'a, T>> {
        let [word] = self.words(offset)?;
        Some(word)
    }

    /// The words in a row from `offset` on; `None` if they do not all lie inside, or not
    /// aligned.
    #[inline]
    pub fn words<T: Word, const N: usize>(self, offset: usize) -> Option<[PeerWord<'a, T>; N]> {
        let part = self.get(offset, size_of::<[T; N]>())?;
        let first = part.start.cast::<T>();
        if !first.is_aligned() {
            return None;
        }
        Some(core::array::from_fn(|index| PeerWord {
            // SAFETY: one of the `N` that lie in the part.
            place: unsafe { first.add(index) },
            mapped: PhantomData,
        }))
    }

    /// Copies the first bytes out, as many as both sides have, and says how
    /// many. What is copied may be a mixture of what a peer wrote at different
    /// times; it does not change afterwards.
    #[inline]
    pub fn copy_to(self, target: &mut [u8]) -> usize {
        let len = self.len_bytes.min(target.len());
        if let Some(target) = target.get_mut(..len) {
            // SAFETY: so many bytes are mapped here (contract of `new`), and used as bytes.
            unsafe { access::copy_out(self.start, target) };
        }
        len
    }

    /// Copies bytes in, as many as both sides have, and says how many.
    #[inline]
    pub fn copy_from(self, source: &[u8]) -> usize {
        let len = self.len_bytes.min(source.len());
        if let Some(source) = source.get(..len) {
            // SAFETY: as in `copy_to`; they may be written.
            unsafe { access::copy_in(source, self.start) };
        }
        len
    }
}

/// A word in a [`PeerSlice`], for as long as `'a`: the processor reads and writes it in one
/// piece. Other accesses may overlap it.
pub struct PeerWord<'a, T: Word> {
    place: NonNull<T>,
    mapped: PhantomData<&'a ()>,
}

// SAFETY: as for PeerSlice.
unsafe impl<T: Word> Send for PeerWord<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Word> Sync for PeerWord<'_, T> {}

impl<T: Word> Clone for PeerWord<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Word> Copy for PeerWord<'_, T> {}

impl<T: Word> core::fmt::Debug for PeerWord<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PeerWord({:p})", self.place)
    }
}

impl<T: Word> PeerWord<'_, T> {
    /// Reads the word; what the peer wrote before it can be read after.
    #[inline]
    pub fn load_acquire(self) -> Untrusted<T> {
        // SAFETY: mapped and aligned (as found in the slice).
        Untrusted::new(unsafe { T::read(self.place) })
    }

    /// Writes the word; a peer that sees it sees all that was written before.
    #[inline]
    pub fn store_release(self, value: T) {
        // SAFETY: as above; it may be written.
        unsafe { T::write(self.place, value) };
    }
}

#[cfg(test)]
mod tests {
    use static_assertions::assert_impl_all;

    use super::*;
    use crate::peer::PeerPtr;

    // All threads may look at a place, and each for itself.
    assert_impl_all!(PeerSlice<'static>: Send, Sync, Copy);
    assert_impl_all!(PeerWord<'static, u32>: Send, Sync, Copy);
    assert_impl_all!(PeerPtr<'static, u64>: Send, Sync, Copy);

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
                assert_eq!(target[len..], [0; 632][len..]);
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
        assert_eq!(
            all.at::<u64>(8).map(|word| word.load_acquire().trust()),
            Some(2)
        );
        assert!(all.at::<u64>(4).is_none() && all.at::<u64>(16).is_none());
        assert!(all.at::<u32>(12).is_some() && all.at::<u32>(14).is_none());
    }

    /// Accesses of all sizes to the same bytes, from several threads: Miri looks.
    #[test]
    fn sizes_may_be_mixed() {
        extern crate std;
        let mut memory = [0_u64; 8];
        // SAFETY: the slice borrows the words, which are used through it alone.
        let all = unsafe { PeerSlice::new(NonNull::from(&mut memory).cast(), 64) };
        let rounds = if cfg!(miri) { 20 } else { 10_000 };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for round in 0..rounds {
                    all.at::<u64>(8)
                        .unwrap()
                        .store_release(round * 0x1_0000_0001);
                }
            });
            scope.spawn(move || {
                for round in 0..rounds {
                    all.at::<u32>(12).unwrap().store_release(round as u32);
                    let read = all.at::<u64>(8).unwrap().load_acquire().trust();
                    assert!(u64::from(read as u32) <= rounds && read >> 32 <= rounds);
                }
            });
            scope.spawn(move || {
                let mut bytes = [0; 31];
                for _ in 0..rounds {
                    let part = all.get(5, 31).unwrap();
                    assert_eq!(part.copy_to(&mut bytes), 31);
                    assert_eq!(all.get(33, 31).unwrap().copy_from(&bytes), 31);
                }
            });
        });
    }

    #[test]
    fn a_word_is_what_was_written_there() {
        let mut memory = [0_u64; 2];
        // SAFETY: the slice borrows the words, which are used through it alone.
        let all = unsafe { PeerSlice::new(NonNull::from(&mut memory).cast(), 16) };
        all.at::<u64>(8)
            .unwrap()
            .store_release(0x8877_6655_4433_2211);
        assert_eq!(all.at::<u8>(9).unwrap().load_acquire().trust(), 0x22);
        assert_eq!(all.at::<u16>(10).unwrap().load_acquire().trust(), 0x4433);
        assert_eq!(
            all.at::<u32>(12).unwrap().load_acquire().trust(),
            0x8877_6655
        );
        all.at::<u8>(8).unwrap().store_release(0x99);
        all.at::<u16>(14).unwrap().store_release(0xbbaa);
        let word = all.at::<u64>(8).unwrap().load_acquire().trust();
        assert_eq!(word, 0xbbaa_6655_4433_2299);
        all.at::<u32>(8).unwrap().store_release(1);
        let [low, high] = all
            .words::<u32, 2>(8)
            .unwrap()
            .map(|word| word.load_acquire().trust());
        assert_eq!((low, high), (1, 0xbbaa_6655));
        assert!(all.words::<u32, 3>(8).is_none() && all.words::<u32, 2>(2).is_none());
    }
}
