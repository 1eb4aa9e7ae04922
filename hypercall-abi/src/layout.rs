//! The compile-time check that stands beside every shared structure.

/// Asserts a structure's size and the byte range of each of its fields, as a
/// C compiler lays them out for x86-64.
///
/// ```
/// use hypercall_abi::layout;
///
/// #[repr(C)]
/// struct Ring { produced: u32, consumed: u32, slots: [u8; 56] }
/// layout!(Ring: 64 { produced: 0..4, consumed: 4..8, slots: 8..64 });
/// ```
#[macro_export]
macro_rules! layout {
    ($type:ty: $size:literal { $($field:ident: $start:literal..$end:literal),* $(,)? }) => {
        const _: () = {
            assert!(size_of::<$type>() == $size, "size");
            let probe = core::mem::MaybeUninit::<$type>::uninit();
            $(
                let start = $crate::layout::offset_of!($type, $field);
                // SAFETY: the place of a field is computed, nothing is read.
                let field = unsafe { &raw const (*probe.as_ptr()).$field };
                assert!(start == $start, stringify!($field));
                assert!(
                    start + $crate::layout::size_of_pointee(field) == $end,
                    stringify!($field),
                );
            )*
        };
    };
}

#[doc(hidden)]
pub use memoffset::offset_of;

#[doc(hidden)]
pub const fn size_of_pointee<T>(_: *const T) -> usize {
    size_of::<T>()
}
