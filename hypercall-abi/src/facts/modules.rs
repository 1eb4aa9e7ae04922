//! All modules that say something.

use super::Module;
use crate::{
    DomId, Errno, HypercallNr, arch_x86, argo, callback, elfnote, event_channel, features,
    grant_table, hvm, io, memory, nmi, physdev, pmu, sched, vcpu, version, xen,
};

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
    #[cfg(feature = "all-devices")]
    Module {
        path: "io::p9fs",
        structs: &[io::p9fs::STRUCTS],
        constants: &[],
        texts: &[],
    },
    #[cfg(feature = "all-devices")]
    Module {
        path: "io::pvcalls",
        structs: &[io::pvcalls::STRUCTS],
        constants: &[io::pvcalls::PvcallsCmd::CONSTANTS],
        texts: &[],
    },
    #[cfg(feature = "all-devices")]
    Module {
        path: "io::fbif",
        structs: &[io::fbif::STRUCTS],
        constants: &[io::fbif::CONSTANTS, io::fbif::XenfbType::CONSTANTS],
        texts: &[],
    },
    #[cfg(feature = "all-devices")]
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
    #[cfg(feature = "all-devices")]
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
    #[cfg(feature = "all-devices")]
    Module {
        path: "io::tpmif",
        structs: &[io::tpmif::STRUCTS],
        constants: &[io::tpmif::CONSTANTS, io::tpmif::TpmifState::CONSTANTS],
        texts: &[],
    },
    #[cfg(feature = "all-devices")]
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
    #[cfg(feature = "all-devices")]
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
    #[cfg(feature = "all-devices")]
    Module {
        path: "io::libxenvchan",
        structs: &[io::libxenvchan::STRUCTS],
        constants: &[io::libxenvchan::VchanNotify::CONSTANTS],
        texts: &[],
    },
    #[cfg(feature = "all-devices")]
    Module {
        path: "io::displif",
        structs: &[io::displif::STRUCTS],
        constants: &[io::displif::CONSTANTS, io::displif::XendisplOp::CONSTANTS],
        texts: &[io::displif::TEXTS],
    },
    #[cfg(feature = "all-devices")]
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
    #[cfg(feature = "all-devices")]
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
