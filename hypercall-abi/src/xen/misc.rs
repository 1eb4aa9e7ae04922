//! Virtual interrupts, and identifiers.

crate::facts::open_enum! {
    /// A virtual interrupt: a cause of events that Xen itself sends.
    pub struct Virq(u32) {
        /// The vCPU's one-shot timer, [`crate::xen::set_timer_op`]; one for
        /// each vCPU.
        TIMER = 0, "VIRQ_TIMER";
        /// Somebody asks for a dump of the guest's state; one for each vCPU.
        DEBUG = 1, "VIRQ_DEBUG";
        /// Bytes from Xen's console (initial domain).
        CONSOLE = 2, "VIRQ_CONSOLE";
        /// A domain ended (initial domain).
        DOM_EXC = 3, "VIRQ_DOM_EXC";
        /// The trace buffer has records (initial domain).
        TBUF = 4, "VIRQ_TBUF";
        /// A domain stopped for a debugger (initial domain).
        DEBUGGER = 6, "VIRQ_DEBUGGER";
        /// The profiler; one for each vCPU.
        XENOPROF = 7, "VIRQ_XENOPROF";
        /// Xen wrote to its console (initial domain).
        CON_RING = 8, "VIRQ_CON_RING";
        /// A processor came or went (initial domain).
        PCPU_STATE = 9, "VIRQ_PCPU_STATE";
        /// Memory was used up (initial domain).
        MEM_EVENT = 10, "VIRQ_MEM_EVENT";
        /// A message came.
        ARGO = 11, "VIRQ_ARGO";
        /// Memory is low (initial domain).
        ENOMEM = 12, "VIRQ_ENOMEM";
        /// The performance counters overflowed; one for each vCPU.
        XENPMU = 13, "VIRQ_XENPMU";
        /// Machine checks, on x86.
        ARCH_0 = 16, "VIRQ_ARCH_0";
        /// An architecture's own.
        ARCH_1 = 17, "VIRQ_ARCH_1";
        /// An architecture's own.
        ARCH_2 = 18, "VIRQ_ARCH_2";
        /// An architecture's own.
        ARCH_3 = 19, "VIRQ_ARCH_3";
        /// An architecture's own.
        ARCH_4 = 20, "VIRQ_ARCH_4";
        /// An architecture's own.
        ARCH_5 = 21, "VIRQ_ARCH_5";
        /// An architecture's own.
        ARCH_6 = 22, "VIRQ_ARCH_6";
        /// An architecture's own.
        ARCH_7 = 23, "VIRQ_ARCH_7";
    }
}

crate::facts::constants! {
    /// One more than the greatest [`Virq`].
    NR_VIRQS: u32 = 24;
}

crate::facts::structs! {
    /// A universally unique identifier.
    "xen_uuid_t" 16
    pub struct XenUuid {
        /// Its bytes, in the order in which they are written.
        a: [u8; 16] = 0,
    }
}
