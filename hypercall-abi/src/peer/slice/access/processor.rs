//! The processor's own moves.

use core::{arch::asm, ptr::NonNull};

use super::Access;

/// From as many words on, the processor's own copying is faster than a loop.
const MANY: usize = 32;

macro_rules! access {
    ($($word:ident $class:ident $load:literal $store:literal),*) => {$(
        impl Access for $word {
            #[inline]
            unsafe fn read(place: NonNull<Self>) -> Self {
                let value;
                // SAFETY: a read of mapped memory. The compiler takes it for one of all
                // memory, so that nothing is read before it.
                unsafe {
                    asm!($load, out($class) value, in(reg) place.as_ptr(),
                        options(nostack, preserves_flags));
                }
                value
            }
            #[inline]
            unsafe fn write(place: NonNull<Self>, value: Self) {
                // SAFETY: a write to mapped memory. The compiler takes it for one to all
                // memory, so that nothing is written after it.
                unsafe {
                    asm!($store, in(reg) place.as_ptr(), in($class) value,
                        options(nostack, preserves_flags));
                }
            }
        }
    )*};
}
access!(
    u8 reg_byte "mov {}, byte ptr [{}]" "mov byte ptr [{}], {}",
    u16 reg "mov {:x}, word ptr [{}]" "mov word ptr [{}], {:x}",
    u32 reg "mov {:e}, dword ptr [{}]" "mov dword ptr [{}], {:e}",
    u64 reg "mov {}, qword ptr [{}]" "mov qword ptr [{}], {}"
);

/// Copies `count` words as one instruction.
///
/// # Safety
/// Both places are mapped, with so many words, and `to` may be written. One of them is a
/// peer's; the other is nobody else's meanwhile.
#[inline]
unsafe fn copy_many(from: *const u8, to: *mut u8, count: usize) {
    // SAFETY: the places are as the caller promises, and the direction flag is clear, as
    // everywhere.
    unsafe {
        asm!(
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
/// As for [`Access::read`], of as many words as there are in `to`.
#[inline]
pub(super) unsafe fn copy_words_out(from: NonNull<u8>, to: &mut [[u8; 8]]) {
    if to.len() >= MANY {
        // SAFETY: `from` is as the caller promises, and `to` is borrowed.
        unsafe { copy_many(from.as_ptr(), to.as_mut_ptr().cast(), to.len()) };
        return;
    }
    let mut place = from.as_ptr();
    let (fours, rest) = to.as_chunks_mut::<4>();
    for four in fours {
        let (one, two, three, last): (u64, u64, u64, u64);
        // SAFETY: reads within what is mapped.
        unsafe {
            asm!(
                "mov {one}, qword ptr [{place}]",
                "mov {two}, qword ptr [{place} + 8]",
                "mov {three}, qword ptr [{place} + 16]",
                "mov {last}, qword ptr [{place} + 24]",
                place = in(reg) place, one = out(reg) one, two = out(reg) two,
                three = out(reg) three, last = out(reg) last,
                options(nostack, preserves_flags, readonly)
            );
        }
        *four = [one, two, three, last].map(u64::to_ne_bytes);
        // SAFETY: as many words lie there, or it is the end.
        place = unsafe { place.add(size_of_val(four)) };
    }
    for word in rest {
        let value: u64;
        // SAFETY: a read within what is mapped.
        unsafe {
            asm!("mov {}, qword ptr [{}]", out(reg) value, in(reg) place,
                options(nostack, preserves_flags, readonly));
        }
        *word = value.to_ne_bytes();
        // SAFETY: as above.
        place = unsafe { place.add(size_of_val(word)) };
    }
}

/// Copies words in.
///
/// # Safety
/// As for [`copy_words_out`], with `to` for `from`; it may be written.
#[inline]
pub(super) unsafe fn copy_words_in(from: &[[u8; 8]], to: NonNull<u8>) {
    if from.len() >= MANY {
        // SAFETY: `to` is as the caller promises, and `from` is borrowed.
        unsafe { copy_many(from.as_ptr().cast(), to.as_ptr(), from.len()) };
        return;
    }
    let mut place = to.as_ptr();
    let (fours, rest) = from.as_chunks::<4>();
    for four in fours {
        let [one, two, three, last] = four.map(u64::from_ne_bytes);
        // SAFETY: writes within what is mapped, and may be written.
        unsafe {
            asm!(
                "mov qword ptr [{place}], {one}",
                "mov qword ptr [{place} + 8], {two}",
                "mov qword ptr [{place} + 16], {three}",
                "mov qword ptr [{place} + 24], {last}",
                place = in(reg) place, one = in(reg) one, two = in(reg) two,
                three = in(reg) three, last = in(reg) last,
                options(nostack, preserves_flags)
            );
        }
        // SAFETY: as many words lie there, or it is the end.
        place = unsafe { place.add(size_of_val(four)) };
    }
    for word in rest {
        let value = u64::from_ne_bytes(*word);
        // SAFETY: a write within what is mapped, and may be written.
        unsafe {
            asm!("mov qword ptr [{}], {}", in(reg) place, in(reg) value,
                options(nostack, preserves_flags));
        }
        // SAFETY: as above.
        place = unsafe { place.add(size_of_val(word)) };
    }
}
