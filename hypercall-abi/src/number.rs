//! The hypercalls by number.

/// The number of a hypercall.
///
/// Source: `__HYPERVISOR_*`, `xen/include/public/xen.h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct HypercallNr(pub u32);

macro_rules! numbers {
    ($($name:ident $c:literal $number:literal)*) => {
        impl HypercallNr {
            $(
                #[doc = concat!("`__HYPERVISOR_", $c, "`.")]
                #[doc(alias = $c)]
                pub const $name: Self = Self($number);
            )*

            /// The name in Xen's headers, without `__HYPERVISOR_`.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($c),)*
                    _ => None,
                }
            }
        }
    };
}

numbers! {
    SET_TRAP_TABLE "set_trap_table" 0
    MMU_UPDATE "mmu_update" 1
    SET_GDT "set_gdt" 2
    STACK_SWITCH "stack_switch" 3
    SET_CALLBACKS "set_callbacks" 4
    FPU_TASKSWITCH "fpu_taskswitch" 5
    SCHED_OP_COMPAT "sched_op_compat" 6
    PLATFORM_OP "platform_op" 7
    SET_DEBUGREG "set_debugreg" 8
    GET_DEBUGREG "get_debugreg" 9
    UPDATE_DESCRIPTOR "update_descriptor" 10
    MEMORY_OP "memory_op" 12
    MULTICALL "multicall" 13
    UPDATE_VA_MAPPING "update_va_mapping" 14
    SET_TIMER_OP "set_timer_op" 15
    EVENT_CHANNEL_OP_COMPAT "event_channel_op_compat" 16
    XEN_VERSION "xen_version" 17
    CONSOLE_IO "console_io" 18
    PHYSDEV_OP_COMPAT "physdev_op_compat" 19
    GRANT_TABLE_OP "grant_table_op" 20
    VM_ASSIST "vm_assist" 21
    UPDATE_VA_MAPPING_OTHERDOMAIN "update_va_mapping_otherdomain" 22
    IRET "iret" 23
    VCPU_OP "vcpu_op" 24
    SET_SEGMENT_BASE "set_segment_base" 25
    MMUEXT_OP "mmuext_op" 26
    XSM_OP "xsm_op" 27
    NMI_OP "nmi_op" 28
    SCHED_OP "sched_op" 29
    CALLBACK_OP "callback_op" 30
    XENOPROF_OP "xenoprof_op" 31
    EVENT_CHANNEL_OP "event_channel_op" 32
    PHYSDEV_OP "physdev_op" 33
    HVM_OP "hvm_op" 34
    SYSCTL "sysctl" 35
    DOMCTL "domctl" 36
    KEXEC_OP "kexec_op" 37
    TMEM_OP "tmem_op" 38
    ARGO_OP "argo_op" 39
    XENPMU_OP "xenpmu_op" 40
    DM_OP "dm_op" 41
    HYPFS_OP "hypfs_op" 42
    MCA "mca" 48
}

impl core::fmt::Debug for HypercallNr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "hypercall {}", self.0),
        }
    }
}
