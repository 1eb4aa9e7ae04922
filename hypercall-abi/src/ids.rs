//! The numbers by which a guest names things, each a type of its own.
//!
//! They are `repr(transparent)`, so they stand in shared structures where the
//! C headers have a bare integer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! id {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// A domain. Source: `domid_t`, `xen/include/public/xen.h`.
    #[doc(alias = "domid_t")]
    DomId(u16)
}

macro_rules! domains {
    ($($(#[$meta:meta])* $name:ident = $value:literal, $c:literal;)*) => {
        impl DomId {
            $($(#[$meta])* #[doc(alias = $c)] pub const $name: Self = Self($value);)*

            /// The numbers above, for [`crate::facts`].
            pub(crate) const CONSTANTS: &[crate::facts::Constant] = &[$(
                crate::facts::Constant { c_name: $c, value: $value },
            )*];
        }
    };
}

domains! {
    /// The calling domain itself, where an argument names a domain.
    SELF = 0x7ff0, "DOMID_SELF";
    /// The first number that names no ordinary domain.
    FIRST_RESERVED = 0x7ff0, "DOMID_FIRST_RESERVED";
    /// The owner of memory-mapped I/O frames.
    IO = 0x7ff1, "DOMID_IO";
    /// The owner of Xen's own memory.
    XEN = 0x7ff2, "DOMID_XEN";
    /// The owner of copy-on-write frames.
    COW = 0x7ff3, "DOMID_COW";
    /// No domain.
    INVALID = 0x7ff4, "DOMID_INVALID";
    /// Any domain, where permissions name one (Xen 4.22).
    ANY = 0x7ff5, "DOMID_ANY";
    /// An idle vCPU.
    IDLE = 0x7fff, "DOMID_IDLE";
    /// Every bit that a domain number may have.
    MASK = 0x7fff, "DOMID_MASK";
}

id! {
    /// An event channel port. Source: `evtchn_port_t`, `event_channel.h`.
    #[doc(alias = "evtchn_port_t")]
    Port(u32)
}

id! {
    /// A grant reference. Source: `grant_ref_t`, `grant_table.h`.
    #[doc(alias = "grant_ref_t")]
    GrantRef(u32)
}

id! {
    /// A vCPU of the calling domain.
    VcpuId(u32)
}

id! {
    /// A frame of the guest's own, contiguous, pseudo-physical memory.
    #[doc(alias = "xen_pfn_t")]
    Pfn(u64)
}

id! {
    /// A frame of the machine's memory.
    Mfn(u64)
}

id! {
    /// A frame as hypercalls and peers name it: the [`Mfn`] of a PV guest, the
    /// [`Pfn`] of every other.
    Gfn(u64)
}

/// Bytes in a page, and in a frame.
pub const PAGE_SIZE: usize = 4096;
/// Bits by which a frame number is shifted to make an address.
pub const PAGE_SHIFT: u32 = 12;

macro_rules! frame {
    ($($name:ident)*) => {$(
        impl $name {
            /// The frame that holds the byte at `address`.
            pub const fn containing(address: u64) -> Self {
                Self(address >> PAGE_SHIFT)
            }

            /// The address of the frame's first byte; `None` if it has none
            /// below 2^64.
            pub const fn address(self) -> Option<u64> {
                if self.0 > u64::MAX >> PAGE_SHIFT {
                    None
                } else {
                    Some(self.0 << PAGE_SHIFT)
                }
            }
        }
    )*};
}
frame!(Pfn Mfn Gfn);

impl From<Mfn> for Gfn {
    fn from(mfn: Mfn) -> Self {
        Self(mfn.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use static_assertions::{assert_impl_all, assert_not_impl_any};

    assert_impl_all!(Pfn: Copy, Send, Sync, FromBytes, IntoBytes);
    assert_not_impl_any!(Pfn: From<Mfn>, From<Gfn>, From<u64>);

    #[test]
    fn a_frame_number_and_its_address_agree() {
        assert_eq!(Pfn::containing(0x1fff), Pfn(1));
        assert_eq!(Pfn(1).address(), Some(0x1000));
        assert_eq!(Mfn(u64::MAX >> 12).address(), Some(u64::MAX << 12));
        assert_eq!(Mfn((u64::MAX >> 12) + 1).address(), None);
    }
}
