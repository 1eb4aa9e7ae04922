//! Which hypervisor the mock is: what differs from one version of Xen to another.

use hypercall_abi::Errno;

/// The version of Xen that a domain finds. Each answers as that version was seen to, by
/// the claims of `tests/conformance`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// 4.17, Debian 12's.
    Xen4_17,
    /// 4.20, Debian 13's.
    #[default]
    Xen4_20,
}

impl Profile {
    /// The minor part of its version; the major one is 4.
    const fn minor(self) -> usize {
        match self {
            Self::Xen4_17 => 17,
            Self::Xen4_20 => 20,
        }
    }

    /// What `XENVER_version` answers.
    pub(crate) const fn version(self) -> usize {
        4 << 16 | self.minor()
    }

    /// Whether run times and the clock can be told at a physical address (4.18).
    pub(crate) const fn has_physical_areas(self) -> bool {
        self.minor() >= 18
    }

    /// Whether texts of any length can be asked for (4.20: `XENVER_extraversion2` and on).
    pub(crate) const fn has_long_texts(self) -> bool {
        self.minor() >= 20
    }

    /// Whether a PVH guest has the calls that map interrupts (4.18).
    pub(crate) const fn maps_pirqs_of_pvh(self) -> bool {
        self.minor() >= 18
    }

    /// What flushing all caches is refused with, of a guest without a device.
    pub(crate) const fn no_cache_to_flush(self) -> Errno {
        match self.minor() < 18 {
            true => Errno::EINVAL,
            false => Errno::EACCES,
        }
    }

    /// What a second `VCPUOP_register_vcpu_info` is refused with.
    pub(crate) const fn words_are_registered(self) -> Errno {
        match self.minor() < 18 {
            true => Errno::EINVAL,
            false => Errno::EBUSY,
        }
    }
}
