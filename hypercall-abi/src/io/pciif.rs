//! PCI devices: `xen/include/public/io/pciif.h`.

crate::facts::open_enum! {
    /// What a request does.
    pub struct XenPciOpCode(u32) {
        /// Read the configuration.
        CONF_READ = 0, "XEN_PCI_OP_conf_read";
        /// Write it.
        CONF_WRITE = 1, "XEN_PCI_OP_conf_write";
        /// Enable messages.
        ENABLE_MSI = 2, "XEN_PCI_OP_enable_msi";
        /// Disable them.
        DISABLE_MSI = 3, "XEN_PCI_OP_disable_msi";
        /// Enable messages from a table.
        ENABLE_MSIX = 4, "XEN_PCI_OP_enable_msix";
        /// Disable them.
        DISABLE_MSIX = 5, "XEN_PCI_OP_disable_msix";
        /// An error was found (to the frontend).
        AER_DETECTED = 6, "XEN_PCI_OP_aer_detected";
        /// Go on (to the frontend).
        AER_RESUME = 7, "XEN_PCI_OP_aer_resume";
        /// Registers work again (to the frontend).
        AER_MMIO = 8, "XEN_PCI_OP_aer_mmio";
        /// The slot was reset (to the frontend).
        AER_SLOTRESET = 9, "XEN_PCI_OP_aer_slotreset";
        /// Enable several messages.
        ENABLE_MULTI_MSI = 10, "XEN_PCI_OP_enable_multi_msi";
    }
}

crate::facts::open_enum! {
    /// How it ended.
    pub struct XenPciError(i32) {
        /// It was done.
        SUCCESS = 0, "XEN_PCI_ERR_success";
        /// There is no such device.
        DEV_NOT_FOUND = -1, "XEN_PCI_ERR_dev_not_found";
        /// There is no such register.
        INVALID_OFFSET = -2, "XEN_PCI_ERR_invalid_offset";
        /// It may not be.
        ACCESS_DENIED = -3, "XEN_PCI_ERR_access_denied";
        /// The backend cannot.
        NOT_IMPLEMENTED = -4, "XEN_PCI_ERR_not_implemented";
        /// It failed.
        OP_FAILED = -5, "XEN_PCI_ERR_op_failed";
    }
}

crate::facts::flags! {
    /// [`XenPciSharedinfo::flags`].
    pub struct XenPciFlags: u32 {
        /// There is a request.
        FRONTEND_ACTIVE = 1 << 0, "XEN_PCIF_active";
        /// There is an error to be handled.
        AERHANDLER = 1 << 1, "XEN_PCIB_AERHANDLER";
        /// There is a request to the frontend.
        BACKEND_ACTIVE = 1 << 2, "XEN_PCIB_active";
    }
}

crate::facts::constants! {
    /// Messages from a table, at most.
    SH_INFO_MAX_VEC: usize = 128;
}

crate::facts::texts! {
    /// The version, in the store.
    XEN_PCI_MAGIC = "7";
}

crate::facts::structs! {
    /// A message from a table.
    "xen_msix_entry" 4
    pub struct XenMsixEntry {
        /// Its interrupt (out).
        vector: u16 = 0,
        /// Which.
        entry: u16 = 2,
    }

    /// A request.
    "xen_pci_op" 548
    pub struct XenPciOp {
        /// What to do.
        cmd: XenPciOpCode = 0,
        /// How it ended (out).
        err: XenPciError = 4,
        /// The device's segment.
        domain: u32 = 8,
        /// Its bus.
        bus: u32 = 12,
        /// Device and function.
        devfn: u32 = 16,
        /// Which register.
        offset: i32 = 20,
        /// Its bytes.
        size: i32 = 24,
        /// What to write, or what was read.
        value: u32 = 28,
        /// How many messages.
        info: u32 = 32,
        /// The messages.
        msix_entries: [XenMsixEntry; 128] = 36,
    }

    /// A request to the frontend.
    "xen_pcie_aer_op" 20
    pub struct XenPcieAerOp {
        /// What has happened.
        cmd: XenPciOpCode = 0,
        /// What the frontend says (out).
        err: XenPciError = 4,
        /// The device's segment.
        domain: u32 = 8,
        /// Its bus.
        bus: u32 = 12,
        /// Device and function.
        devfn: u32 = 16,
    }

    /// The page.
    "xen_pci_sharedinfo" 572
    pub struct XenPciSharedinfo {
        /// [`XenPciFlags`].
        flags: u32 = 0,
        /// A request.
        op: XenPciOp = 4,
        /// A request to the frontend.
        aer_op: XenPcieAerOp = 552,
    }
}
