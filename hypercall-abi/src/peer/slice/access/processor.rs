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
    for (index, word) in to.iter_mut().enumerate() {
        let value: u64;
        // SAFETY: a read within what is mapped.
        unsafe {
            asm!("mov {}, qword ptr [{} + 8*{}]", out(reg) value, in(reg) from.as_ptr(),
                in(reg) index, options(nostack, preserves_flags, readonly));
        }
        *word = value.to_ne_bytes();
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
    for (index, word) in from.iter().enumerate() {
        let value = u64::from_ne_bytes(*word);
        // SAFETY: a write within what is mapped, and may be written.
        unsafe {
            asm!("mov qword ptr [{} + 8*{}], {}", in(reg) to.as_ptr(), in(reg) index,
                in(reg) value, options(nostack, preserves_flags));
        }
    }
}
