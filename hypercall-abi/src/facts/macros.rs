//! The macros that define items and write them down.

/// Numbers. Each has a type, a value, and its name in the headers where that is
/// not the same.
macro_rules! constants {
    ($($(#[$meta:meta])* $name:ident: $type:ident = $value:expr $(, $c:literal)?;)*) => {
        $(
            $(#[$meta])*
            $(#[doc = concat!("\n\nIn C: `", $c, "`.")] #[doc(alias = $c)])?
            pub const $name: $type = $value;
        )*

        /// The numbers above, for [`crate::facts`].
        pub(crate) const CONSTANTS: &[$crate::facts::Constant] = &[$(
            $crate::facts::Constant {
                c_name: $crate::facts::c_name!($name $(, $c)?),
                value: $crate::facts::number!($type $name),
            },
        )*];
    };
}

/// Texts, as numbers in [`constants`].
macro_rules! texts {
    ($($(#[$meta:meta])* $name:ident = $value:literal $(, $c:literal)?;)*) => {
        $(
            $(#[$meta])*
            $(#[doc(alias = $c)])?
            pub const $name: &str = $value;
        )*

        /// The texts above, for [`crate::facts`].
        pub(crate) const TEXTS: &[$crate::facts::Text] = &[$(
            $crate::facts::Text {
                c_name: $crate::facts::c_name!($name $(, $c)?),
                value: $name,
            },
        )*];
    };
}

/// A number that may be anything, with names for some values.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        pub struct $type:ident($inner:ty) {
            $($(#[$value_meta:meta])* $name:ident = $value:expr, $c:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $type(pub $inner);

        impl $type {
            $(
                $(#[$value_meta])*
                #[doc = concat!("\n\nIn C: `", $c, "`.")]
                #[doc(alias = $c)]
                pub const $name: Self = Self($value);
            )*

            /// The name in Xen's headers, if the value has one.
            pub const fn c_name(self) -> Option<&'static str> {
                $(if self.0 == $value { return Some($c); })*
                None
            }

            /// The names above, for [`crate::facts`].
            pub(crate) const CONSTANTS: &[$crate::facts::Constant] = &[$(
                $crate::facts::Constant { c_name: $c, value: $value as i128 },
            )*];
        }

        impl core::fmt::Debug for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.c_name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($type), "({})"), self.0),
                }
            }
        }
    };
}

/// Bits that may be combined.
macro_rules! flags {
    (
        $(#[$($meta:tt)*])*
        pub struct $type:ident: $inner:ty {
            $($(#[$($value_meta:tt)*])* $name:ident = $value:expr, $c:literal;)*
        }
    ) => {
        bitflags::bitflags! {
            $(#[$($meta)*])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct $type: $inner {
                $(
                    $(#[$($value_meta)*])*
                    #[doc = concat!("\n\nIn C: `", $c, "`.")]
                    #[doc(alias = $c)]
                    const $name = $value;
                )*
            }
        }

        impl $type {
            /// The bits above, for [`crate::facts`].
            pub(crate) const CONSTANTS: &[$crate::facts::Constant] = &[$(
                $crate::facts::Constant { c_name: $c, value: Self::$name.bits() as i128 },
            )*];
        }
    };
}

/// Structures as a C compiler lays them out for x86-64. Each has its size, and
/// each field its offset; both are checked here and now.
macro_rules! structs {
    ($(
        $(#[$meta:meta])*
        $c:literal $size:literal
        pub struct $type:ident {
            $($(#[$field_meta:meta])* $field:ident: $field_type:ty = $offset:literal,)*
        }
    )*) => {
        $(
            $(#[$meta])*
            #[doc = concat!("\n\nIn C: `", $c, "`, ", stringify!($size), " bytes.")]
            #[doc(alias = $c)]
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq,
                zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable,
                zerocopy::KnownLayout,
            )]
            #[repr(C)]
            pub struct $type {
                $($(#[$field_meta])* pub $field: $field_type,)*
            }

            impl Default for $type {
                /// All zero.
                fn default() -> Self {
                    zerocopy::FromZeros::new_zeroed()
                }
            }

            const _: () = {
                assert!(size_of::<$type>() == $size, concat!("size of ", $c));
                $(assert!(
                    memoffset::offset_of!($type, $field) == $offset,
                    concat!($c, ".", stringify!($field)),
                );)*
            };
        )*

        /// The structures above, for [`crate::facts`].
        pub(crate) const STRUCTS: &[$crate::facts::Struct] = &[$(
            $crate::facts::Struct {
                c_name: $c,
                rust_name: stringify!($type),
                size: $size,
                fields: &[$($crate::facts::Field {
                    name: stringify!($field),
                    offset: $offset,
                    size: size_of::<$field_type>(),
                },)*],
            },
        )*];
    };
}

/// A constant's value, out of the types that it may have.
macro_rules! number {
    (DomId $name:ident) => {
        $name.0 as i128
    };
    (GrantRef $name:ident) => {
        $name.0 as i128
    };
    ($type:ident $name:ident) => {
        $name as i128
    };
}

/// The name in the headers: the one given, or else the item's own.
macro_rules! c_name {
    ($name:ident) => {
        stringify!($name)
    };
    ($name:ident, $c:literal) => {
        $c
    };
}

pub(crate) use {c_name, constants, flags, number, open_enum, structs, texts};
