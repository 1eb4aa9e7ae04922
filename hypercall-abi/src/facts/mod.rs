//! What this crate says about Xen's interface, in a form that can be compared
//! with Xen's own headers: `cargo lab abi` does so.
//!
//! The macros here define items and write them down at once, so that nothing
//! can be defined and not be compared.

mod calls;

pub use calls::{CALLS, Call, Caller};

use crate::{
    DomId, Errno, HypercallNr, arch_x86, argo, callback, elfnote, event_channel, features,
    grant_table, hvm, io, memory, nmi, physdev, pmu, sched, vcpu, version, xen,
};

/// A number: its name in the headers, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Its name in the headers.
    pub c_name: &'static str,
    /// Its value.
    pub value: i128,
}

/// A text: its name in the headers, and its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its name in the headers.
    pub c_name: &'static str,
    /// Its content.
    pub value: &'static str,
}

/// A field of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name here, which is that of the headers; `_pad` fields have none
    /// there.
    pub name: &'static str,
    /// Where it starts.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// A structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struct {
    /// Its name in the headers, without `struct`; a dot leads to an unnamed
    /// structure within another.
    pub c_name: &'static str,
    /// Its name here.
    pub rust_name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its fields.
    pub fields: &'static [Field],
}

/// What one module of this crate says.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Its path.
    pub path: &'static str,
    /// Its structures.
    pub structs: &'static [&'static [Struct]],
    /// Its numbers.
    pub constants: &'static [&'static [Constant]],
    /// Its texts.
    pub texts: &'static [&'static [Text]],
}

/// All that this crate says.
pub const MODULES: &[Module] = &[
    Module {
        path: "xen",
        structs: &[xen::start_info::STRUCTS],
        constants: &[
            xen::start_info::CONSTANTS,
            xen::start_info::StartFlags::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "xen",
        structs: &[xen::shared_info::STRUCTS],
        constants: &[
            xen::shared_info::CONSTANTS,
            xen::shared_info::PvclockFlags::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "xen::mmu",
        structs: &[xen::mmu::STRUCTS],
        constants: &[xen::mmu::CONSTANTS, xen::mmu::MmuextCmd::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "xen::traps",
        structs: &[xen::traps::STRUCTS],
        constants: &[xen::traps::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "xen",
        structs: &[xen::vcpu_context::STRUCTS],
        constants: &[xen::vcpu_context::VcpuContextFlags::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "xen::console_io",
        structs: &[],
        constants: &[xen::console_io::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "xen::multicall",
        structs: &[xen::multicall::STRUCTS],
        constants: &[],
        texts: &[],
    },
    Module {
        path: "xen::vm_assist",
        structs: &[],
        constants: &[
            xen::vm_assist::CONSTANTS,
            xen::vm_assist::VmAssist::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "xen",
        structs: &[xen::cpuid_msr::STRUCTS],
        constants: &[xen::cpuid_msr::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "xen",
        structs: &[xen::misc::STRUCTS],
        constants: &[xen::misc::CONSTANTS, xen::misc::Virq::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "version",
        structs: &[version::STRUCTS],
        constants: &[version::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "sched",
        structs: &[sched::STRUCTS],
        constants: &[sched::CONSTANTS, sched::ShutdownReason::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "memory",
        structs: &[memory::STRUCTS],
        constants: &[memory::CONSTANTS, memory::MapSpace::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "vcpu",
        structs: &[vcpu::STRUCTS],
        constants: &[
            vcpu::CONSTANTS,
            vcpu::RunState::CONSTANTS,
            vcpu::SingleshotFlags::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "callback",
        structs: &[callback::STRUCTS],
        constants: &[
            callback::CONSTANTS,
            callback::CallbackType::CONSTANTS,
            callback::CallbackFlags::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "nmi",
        structs: &[nmi::STRUCTS],
        constants: &[nmi::CONSTANTS, nmi::NmiReason::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "event_channel",
        structs: &[event_channel::STRUCTS],
        constants: &[
            event_channel::CONSTANTS,
            event_channel::ChannelStatus::CONSTANTS,
            event_channel::BindPirqFlags::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "grant_table::entry",
        structs: &[grant_table::entry::STRUCTS],
        constants: &[
            grant_table::entry::CONSTANTS,
            grant_table::entry::GrantFlags::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "grant_table",
        structs: &[grant_table::STRUCTS],
        constants: &[
            grant_table::CONSTANTS,
            grant_table::GrantStatus::CONSTANTS,
            grant_table::MapFlags::CONSTANTS,
            grant_table::CopyFlags::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "elfnote",
        structs: &[],
        constants: &[elfnote::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "hvm",
        structs: &[hvm::start_info::STRUCTS],
        constants: &[hvm::start_info::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "hvm",
        structs: &[hvm::vcpu::STRUCTS],
        constants: &[hvm::vcpu::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "hvm",
        structs: &[],
        constants: &[hvm::params::CONSTANTS, hvm::params::HvmParam::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "hvm",
        structs: &[hvm::op::STRUCTS],
        constants: &[hvm::op::CONSTANTS, hvm::op::MemType::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "hvm",
        structs: &[hvm::info::STRUCTS],
        constants: &[hvm::info::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "hvm::xs_strings",
        structs: &[],
        constants: &[],
        texts: &[hvm::xs_strings::TEXTS],
    },
    Module {
        path: "physdev",
        structs: &[physdev::STRUCTS],
        constants: &[
            physdev::CONSTANTS,
            physdev::IrqStatus::CONSTANTS,
            physdev::PciDeviceFlags::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "pmu",
        structs: &[pmu::STRUCTS],
        constants: &[
            pmu::CONSTANTS,
            pmu::PmuMode::CONSTANTS,
            pmu::PmuFeatures::CONSTANTS,
            pmu::PmuFlags::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "argo",
        structs: &[argo::STRUCTS],
        constants: &[
            argo::CONSTANTS,
            argo::ArgoRegisterFlags::CONSTANTS,
            argo::ArgoRingFlags::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "arch_x86::leaves",
        structs: &[],
        constants: &[
            arch_x86::leaves::CONSTANTS,
            arch_x86::leaves::XenFeat1::CONSTANTS,
            arch_x86::leaves::TscFlags::CONSTANTS,
            arch_x86::leaves::HvmFeatures::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "io::ring",
        structs: &[io::ring::STRUCTS],
        constants: &[io::ring::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "io::xenbus",
        structs: &[],
        constants: &[io::xenbus::XenbusState::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "io::xs_wire",
        structs: &[io::xs_wire::STRUCTS],
        constants: &[
            io::xs_wire::CONSTANTS,
            io::xs_wire::XsMessageType::CONSTANTS,
            io::xs_wire::XsWatchField::CONSTANTS,
            io::xs_wire::XenstoreFeatures::CONSTANTS,
        ],
        texts: &[io::xs_wire::TEXTS],
    },
    Module {
        path: "io::console",
        structs: &[io::console::STRUCTS],
        constants: &[io::console::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "io::protocols",
        structs: &[],
        constants: &[],
        texts: &[io::protocols::TEXTS],
    },
    Module {
        path: "io::blkif",
        structs: &[io::blkif::STRUCTS],
        constants: &[
            io::blkif::CONSTANTS,
            io::blkif::BlkifOp::CONSTANTS,
            io::blkif::BlkifStatus::CONSTANTS,
            io::blkif::VdiskInfo::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "io::netif",
        structs: &[io::netif::STRUCTS],
        constants: &[
            io::netif::CONSTANTS,
            io::netif::NetifStatus::CONSTANTS,
            io::netif::NetTxFlags::CONSTANTS,
            io::netif::NetRxFlags::CONSTANTS,
            io::netif::NetifExtraType::CONSTANTS,
            io::netif::NetifExtraFlags::CONSTANTS,
            io::netif::NetifGsoType::CONSTANTS,
            io::netif::NetifHashTypes::CONSTANTS,
            io::netif::NetifCtrlType::CONSTANTS,
            io::netif::NetifCtrlStatus::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "io::p9fs",
        structs: &[io::p9fs::STRUCTS],
        constants: &[],
        texts: &[],
    },
    Module {
        path: "io::pvcalls",
        structs: &[io::pvcalls::STRUCTS],
        constants: &[io::pvcalls::PvcallsCmd::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "io::fbif",
        structs: &[io::fbif::STRUCTS],
        constants: &[io::fbif::CONSTANTS, io::fbif::XenfbType::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "io::kbdif",
        structs: &[io::kbdif::STRUCTS],
        constants: &[
            io::kbdif::CONSTANTS,
            io::kbdif::XenkbdType::CONSTANTS,
            io::kbdif::XenkbdMtouchEvent::CONSTANTS,
        ],
        texts: &[io::kbdif::TEXTS],
    },
    Module {
        path: "io::pciif",
        structs: &[io::pciif::STRUCTS],
        constants: &[
            io::pciif::CONSTANTS,
            io::pciif::XenPciOpCode::CONSTANTS,
            io::pciif::XenPciError::CONSTANTS,
            io::pciif::XenPciFlags::CONSTANTS,
        ],
        texts: &[io::pciif::TEXTS],
    },
    Module {
        path: "io::tpmif",
        structs: &[io::tpmif::STRUCTS],
        constants: &[io::tpmif::CONSTANTS, io::tpmif::TpmifState::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "io::usbif",
        structs: &[io::usbif::STRUCTS],
        constants: &[
            io::usbif::CONSTANTS,
            io::usbif::UsbifStatus::CONSTANTS,
            io::usbif::UsbifSpeed::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "io::vscsiif",
        structs: &[io::vscsiif::STRUCTS],
        constants: &[
            io::vscsiif::CONSTANTS,
            io::vscsiif::VscsiifAct::CONSTANTS,
            io::vscsiif::VscsiifHostResult::CONSTANTS,
        ],
        texts: &[],
    },
    Module {
        path: "io::libxenvchan",
        structs: &[io::libxenvchan::STRUCTS],
        constants: &[io::libxenvchan::VchanNotify::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "io::displif",
        structs: &[io::displif::STRUCTS],
        constants: &[io::displif::CONSTANTS, io::displif::XendisplOp::CONSTANTS],
        texts: &[io::displif::TEXTS],
    },
    Module {
        path: "io::sndif",
        structs: &[io::sndif::STRUCTS],
        constants: &[
            io::sndif::CONSTANTS,
            io::sndif::XensndOp::CONSTANTS,
            io::sndif::XensndTrigger::CONSTANTS,
            io::sndif::XensndPcmFormat::CONSTANTS,
        ],
        texts: &[io::sndif::TEXTS],
    },
    Module {
        path: "io::cameraif",
        structs: &[io::cameraif::STRUCTS],
        constants: &[
            io::cameraif::CONSTANTS,
            io::cameraif::XencameraOp::CONSTANTS,
            io::cameraif::XencameraCtrl::CONSTANTS,
            io::cameraif::XencameraCtrlFlags::CONSTANTS,
            io::cameraif::XencameraColorspace::CONSTANTS,
            io::cameraif::XencameraXferFunc::CONSTANTS,
            io::cameraif::XencameraYcbcrEnc::CONSTANTS,
            io::cameraif::XencameraQuantization::CONSTANTS,
        ],
        texts: &[io::cameraif::TEXTS],
    },
    Module {
        path: "ids",
        structs: &[],
        constants: &[DomId::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "number",
        structs: &[],
        constants: &[HypercallNr::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "errno",
        structs: &[],
        constants: &[Errno::CONSTANTS],
        texts: &[],
    },
    Module {
        path: "features",
        structs: &[],
        constants: &[features::XenFeatures::CONSTANTS, features::CONSTANTS],
        texts: &[],
    },
];

/// Numbers. Each has a type, a value, and its name in the headers where that is
/// not the same.
macro_rules! constants {
    ($($(#[$meta:meta])* $name:ident: $type:ident = $value:expr $(, $c:literal)?;)*) => {
        $(
            $(#[$meta])*
            $(#[doc(alias = $c)])?
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
                    $crate::layout::offset_of!($type, $field) == $offset,
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
