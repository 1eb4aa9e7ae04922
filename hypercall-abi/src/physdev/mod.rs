//! Physical interrupts and devices: `xen/include/public/physdev.h`.
//!
//! Calls that an ordinary guest may make have functions here; those of the
//! initial domain have their numbers and layouts only.

pub(crate) mod calls;

use crate::{DomId, Gfn};

pub use calls::*;

crate::facts::flags! {
    /// [`PhysdevIrqStatusQuery::flags`].
    pub struct IrqStatus: u32 {
        /// It must be acknowledged.
        NEEDS_EOI = 1 << 0, "XENIRQSTAT_needs_eoi";
        /// It is shared.
        SHARED = 1 << 1, "XENIRQSTAT_shared";
    }
}

crate::facts::flags! {
    /// [`PhysdevPciDeviceAdd::flags`].
    pub struct PciDeviceFlags: u32 {
        /// It is an extended function.
        EXTFN = 1 << 0, "XEN_PCI_DEV_EXTFN";
        /// It is a virtual function.
        VIRTFN = 1 << 1, "XEN_PCI_DEV_VIRTFN";
        /// Its node is told.
        PXM = 1 << 2, "XEN_PCI_DEV_PXM";
    }
}

crate::facts::constants! {
    /// Must an interrupt be acknowledged?
    PHYSDEVOP_IRQ_STATUS_QUERY: usize = 5, "PHYSDEVOP_irq_status_query";
    /// Set the I/O privilege level (PV).
    PHYSDEVOP_SET_IOPL: usize = 6, "PHYSDEVOP_set_iopl";
    /// Set the bitmap of I/O ports (PV).
    PHYSDEVOP_SET_IOBITMAP: usize = 7, "PHYSDEVOP_set_iobitmap";
    /// Read an interrupt controller (initial domain).
    PHYSDEVOP_APIC_READ: usize = 8, "PHYSDEVOP_apic_read";
    /// Write it (initial domain).
    PHYSDEVOP_APIC_WRITE: usize = 9, "PHYSDEVOP_apic_write";
    /// Get a vector (initial domain).
    PHYSDEVOP_ALLOC_IRQ_VECTOR: usize = 10, "PHYSDEVOP_alloc_irq_vector";
    /// Give it back (initial domain).
    PHYSDEVOP_FREE_IRQ_VECTOR: usize = 11, "PHYSDEVOP_free_irq_vector";
    /// Acknowledge an interrupt.
    PHYSDEVOP_EOI: usize = 12, "PHYSDEVOP_eoi";
    /// Map a physical interrupt.
    PHYSDEVOP_MAP_PIRQ: usize = 13, "PHYSDEVOP_map_pirq";
    /// Unmap it.
    PHYSDEVOP_UNMAP_PIRQ: usize = 14, "PHYSDEVOP_unmap_pirq";
    /// Tell about a device (initial domain, older).
    PHYSDEVOP_MANAGE_PCI_ADD: usize = 15, "PHYSDEVOP_manage_pci_add";
    /// Tell that it has gone (initial domain, older).
    PHYSDEVOP_MANAGE_PCI_REMOVE: usize = 16, "PHYSDEVOP_manage_pci_remove";
    /// The bitmap of interrupts to acknowledge; they then unmask by themselves.
    PHYSDEVOP_PIRQ_EOI_GMFN_V1: usize = 17, "PHYSDEVOP_pirq_eoi_gmfn_v1";
    /// The bitmap of interrupts to acknowledge.
    PHYSDEVOP_PIRQ_EOI_GMFN_V2: usize = 28, "PHYSDEVOP_pirq_eoi_gmfn_v2";
    /// Set a device's interrupts again (initial domain, older).
    PHYSDEVOP_RESTORE_MSI: usize = 19, "PHYSDEVOP_restore_msi";
    /// Tell about a device (initial domain, older).
    PHYSDEVOP_MANAGE_PCI_ADD_EXT: usize = 20, "PHYSDEVOP_manage_pci_add_ext";
    /// Set an interrupt line (initial domain).
    PHYSDEVOP_SETUP_GSI: usize = 21, "PHYSDEVOP_setup_gsi";
    /// Find a free number.
    PHYSDEVOP_GET_FREE_PIRQ: usize = 23, "PHYSDEVOP_get_free_pirq";
    /// Tell where configuration space is (initial domain).
    PHYSDEVOP_PCI_MMCFG_RESERVED: usize = 24, "PHYSDEVOP_pci_mmcfg_reserved";
    /// Tell about a device (initial domain).
    PHYSDEVOP_PCI_DEVICE_ADD: usize = 25, "PHYSDEVOP_pci_device_add";
    /// Tell that it has gone (initial domain).
    PHYSDEVOP_PCI_DEVICE_REMOVE: usize = 26, "PHYSDEVOP_pci_device_remove";
    /// Set a device's interrupts again (initial domain).
    PHYSDEVOP_RESTORE_MSI_EXT: usize = 27, "PHYSDEVOP_restore_msi_ext";
    /// Tell about the debug port (initial domain).
    PHYSDEVOP_DBGP_OP: usize = 29, "PHYSDEVOP_dbgp_op";
    /// Take a device's interrupts (initial domain).
    PHYSDEVOP_PREPARE_MSIX: usize = 30, "PHYSDEVOP_prepare_msix";
    /// Give them back (initial domain).
    PHYSDEVOP_RELEASE_MSIX: usize = 31, "PHYSDEVOP_release_msix";
    /// Tell that a device was reset (initial domain).
    PHYSDEVOP_PCI_DEVICE_RESET: usize = 32, "PHYSDEVOP_pci_device_reset";
    /// [`PhysdevMapPirq::type`]: a message.
    MAP_PIRQ_TYPE_MSI: i32 = 0;
    /// [`PhysdevMapPirq::type`]: a line.
    MAP_PIRQ_TYPE_GSI: i32 = 1;
    /// [`PhysdevMapPirq::type`]: unknown.
    MAP_PIRQ_TYPE_UNKNOWN: i32 = 2;
    /// [`PhysdevMapPirq::type`]: a message, with the device's segment.
    MAP_PIRQ_TYPE_MSI_SEG: i32 = 3;
    /// [`PhysdevMapPirq::type`]: several messages.
    MAP_PIRQ_TYPE_MULTI_MSI: i32 = 4;
    /// [`PhysdevPciMmcfgReserved::flags`]: firmware keeps the range.
    XEN_PCI_MMCFG_RESERVED: u32 = 1;
    /// [`PciDeviceReset::flags`]: by power.
    PCI_DEVICE_RESET_COLD: u32 = 0;
    /// [`PciDeviceReset::flags`]: by the bus.
    PCI_DEVICE_RESET_WARM: u32 = 1;
    /// [`PciDeviceReset::flags`]: by the link.
    PCI_DEVICE_RESET_HOT: u32 = 2;
    /// [`PciDeviceReset::flags`]: by the function.
    PCI_DEVICE_RESET_FLR: u32 = 3;
    /// [`PciDeviceReset::flags`]: these bits.
    PCI_DEVICE_RESET_MASK: u32 = 3;
    /// [`PhysdevDbgpOp::op`]: it will be reset.
    PHYSDEVOP_DBGP_RESET_PREPARE: u8 = 1;
    /// [`PhysdevDbgpOp::op`]: it was.
    PHYSDEVOP_DBGP_RESET_DONE: u8 = 2;
    /// [`PhysdevDbgpOp::bus`]: unknown.
    PHYSDEVOP_DBGP_BUS_UNKNOWN: u8 = 0;
    /// [`PhysdevDbgpOp::bus`]: PCI, [`PhysdevPciDevice`].
    PHYSDEVOP_DBGP_BUS_PCI: u8 = 1;
}

crate::facts::structs! {
    /// The argument of `PHYSDEVOP_eoi`.
    "physdev_eoi" 4
    pub struct PhysdevEoi {
        /// Which interrupt.
        irq: u32 = 0,
    }

    /// The argument of `PHYSDEVOP_pirq_eoi_gmfn_*`.
    "physdev_pirq_eoi_gmfn" 8
    pub struct PhysdevPirqEoiGmfn {
        /// The frame of the bitmap.
        gmfn: Gfn = 0,
    }

    /// The argument of `PHYSDEVOP_irq_status_query`.
    "physdev_irq_status_query" 8
    pub struct PhysdevIrqStatusQuery {
        /// Which interrupt.
        irq: u32 = 0,
        /// [`IrqStatus`] (out).
        flags: u32 = 4,
    }

    /// The argument of `PHYSDEVOP_set_iopl`.
    "physdev_set_iopl" 4
    pub struct PhysdevSetIopl {
        /// The level, 0 to 3.
        iopl: u32 = 0,
    }

    /// The argument of `PHYSDEVOP_set_iobitmap`.
    "physdev_set_iobitmap" 16
    pub struct PhysdevSetIobitmap {
        /// The address of the bitmap.
        bitmap: u64 = 0,
        /// Its bits.
        nr_ports: u32 = 8,
        #[doc(hidden)]
        _gap0: [u8; 4] = 12,
    }

    /// The argument of `PHYSDEVOP_apic_*`.
    "physdev_apic" 16
    pub struct PhysdevApic {
        /// Which controller.
        apic_physbase: u64 = 0,
        /// Which register.
        reg: u32 = 8,
        /// Its value.
        value: u32 = 12,
    }

    /// The argument of `PHYSDEVOP_*_irq_vector`.
    "physdev_irq" 8
    pub struct PhysdevIrq {
        /// Which interrupt.
        irq: u32 = 0,
        /// Its vector.
        vector: u32 = 4,
    }

    /// The argument of `PHYSDEVOP_map_pirq`.
    "physdev_map_pirq" 40
    pub struct PhysdevMapPirq {
        /// For whom.
        domid: DomId = 0,
        #[doc(hidden)]
        _gap0: [u8; 2] = 2,
        /// `MAP_PIRQ_TYPE_*`.
        r#type: i32 = 4,
        /// The line.
        index: i32 = 8,
        /// The number wanted, or negative (in); the one it got (out).
        pirq: i32 = 12,
        /// The device's bus, with its segment above 16 bits.
        bus: i32 = 16,
        /// The device and function.
        devfn: i32 = 20,
        /// Which message, or how many.
        entry_nr: i32 = 24,
        #[doc(hidden)]
        _gap1: [u8; 4] = 28,
        /// Where the device's table of messages is.
        table_base: u64 = 32,
    }

    /// The argument of `PHYSDEVOP_unmap_pirq`.
    "physdev_unmap_pirq" 8
    pub struct PhysdevUnmapPirq {
        /// Whose.
        domid: DomId = 0,
        #[doc(hidden)]
        _gap0: [u8; 2] = 2,
        /// Which.
        pirq: i32 = 4,
    }

    /// The argument of `PHYSDEVOP_get_free_pirq`.
    "physdev_get_free_pirq" 8
    pub struct PhysdevGetFreePirq {
        /// `MAP_PIRQ_TYPE_*`.
        r#type: i32 = 0,
        /// A free number (out).
        pirq: u32 = 4,
    }

    /// The argument of `PHYSDEVOP_manage_pci_*`.
    "physdev_manage_pci" 2
    pub struct PhysdevManagePci {
        /// The bus.
        bus: u8 = 0,
        /// Device and function.
        devfn: u8 = 1,
    }

    /// The physical function behind a virtual one.
    "physdev_manage_pci_ext.physfn" 2
    pub struct ManagePciPhysfn {
        /// Its bus.
        bus: u8 = 0,
        /// Its device and function.
        devfn: u8 = 1,
    }

    /// The argument of `PHYSDEVOP_manage_pci_add_ext`.
    "physdev_manage_pci_ext" 16
    pub struct PhysdevManagePciExt {
        /// The bus.
        bus: u8 = 0,
        /// Device and function.
        devfn: u8 = 1,
        #[doc(hidden)]
        _gap0: [u8; 2] = 2,
        /// Not zero: an extended function.
        is_extfn: u32 = 4,
        /// Not zero: a virtual function.
        is_virtfn: u32 = 8,
        /// The physical function.
        physfn: ManagePciPhysfn = 12,
        #[doc(hidden)]
        _gap1: [u8; 2] = 14,
    }

    /// A call of the interface before 3.2, where the subop lay in memory (PV
    /// guests only).
    "physdev_op" 24
    pub struct PhysdevOp {
        /// The subop.
        cmd: u32 = 0,
        #[doc(hidden)]
        _gap0: [u8; 4] = 4,
        /// Its argument.
        u: [u64; 2] = 8,
    }

    /// The argument of `PHYSDEVOP_setup_gsi`.
    "physdev_setup_gsi" 8
    pub struct PhysdevSetupGsi {
        /// The line.
        gsi: u32 = 0,
        /// Zero: by edge.
        triggering: u8 = 4,
        /// Zero: active high.
        polarity: u8 = 5,
        #[doc(hidden)]
        _gap0: [u8; 2] = 6,
    }

    /// The argument of `PHYSDEVOP_pci_mmcfg_reserved`.
    "physdev_pci_mmcfg_reserved" 16
    pub struct PhysdevPciMmcfgReserved {
        /// Where it is.
        address: u64 = 0,
        /// Its segment.
        segment: u16 = 8,
        /// Its first bus.
        start_bus: u8 = 10,
        /// Its last bus.
        end_bus: u8 = 11,
        /// [`XEN_PCI_MMCFG_RESERVED`].
        flags: u32 = 12,
    }

    /// A device.
    "physdev_pci_device" 4
    pub struct PhysdevPciDevice {
        /// Its segment.
        seg: u16 = 0,
        /// Its bus.
        bus: u8 = 2,
        /// Device and function.
        devfn: u8 = 3,
    }

    /// The physical function behind a virtual one.
    "physdev_pci_device_add.physfn" 2
    pub struct PciDevicePhysfn {
        /// Its bus.
        bus: u8 = 0,
        /// Its device and function.
        devfn: u8 = 1,
    }

    /// The argument of `PHYSDEVOP_pci_device_add`; more may follow.
    "physdev_pci_device_add" 12
    pub struct PhysdevPciDeviceAdd {
        /// Its segment.
        seg: u16 = 0,
        /// Its bus.
        bus: u8 = 2,
        /// Device and function.
        devfn: u8 = 3,
        /// [`PciDeviceFlags`].
        flags: u32 = 4,
        /// The physical function.
        physfn: PciDevicePhysfn = 8,
        #[doc(hidden)]
        _gap0: [u8; 2] = 10,
    }

    /// The argument of `PHYSDEVOP_restore_msi`.
    "physdev_restore_msi" 2
    pub struct PhysdevRestoreMsi {
        /// The bus.
        bus: u8 = 0,
        /// Device and function.
        devfn: u8 = 1,
    }

    /// The argument of `PHYSDEVOP_pci_device_reset`.
    "pci_device_reset" 8
    pub struct PciDeviceReset {
        /// Which.
        dev: PhysdevPciDevice = 0,
        /// `PCI_DEVICE_RESET_*`.
        flags: u32 = 4,
    }

    /// The argument of `PHYSDEVOP_dbgp_op`.
    "physdev_dbgp_op" 6
    pub struct PhysdevDbgpOp {
        /// `PHYSDEVOP_DBGP_RESET_*`.
        op: u8 = 0,
        /// `PHYSDEVOP_DBGP_BUS_*`.
        bus: u8 = 1,
        /// [`PhysdevPciDevice`].
        u: [u8; 4] = 2,
    }
}
