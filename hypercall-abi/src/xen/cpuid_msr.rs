//! Lists of processor features and registers, as the toolstack and Xen exchange
//! them.

crate::facts::constants! {
    /// [`CpuidLeaf::subleaf`] where there is none.
    XEN_CPUID_NO_SUBLEAF: u32 = 4_294_967_295;
    /// The port whose bytes Xen writes to its log for HVM and PVH guests.
    XEN_HVM_DEBUGCONS_IOPORT: u16 = 233;
}

crate::facts::structs! {
    /// A leaf of CPUID.
    "xen_cpuid_leaf" 24
    pub struct CpuidLeaf {
        /// Its number.
        leaf: u32 = 0,
        /// The number of its part, or [`XEN_CPUID_NO_SUBLEAF`].
        subleaf: u32 = 4,
        /// `eax`.
        a: u32 = 8,
        /// `ebx`.
        b: u32 = 12,
        /// `ecx`.
        c: u32 = 16,
        /// `edx`.
        d: u32 = 20,
    }

    /// A model specific register.
    "xen_msr_entry" 16
    pub struct MsrEntry {
        /// Its number.
        idx: u32 = 0,
        /// Zero.
        flags: u32 = 4,
        /// Its value.
        val: u64 = 8,
    }
}
