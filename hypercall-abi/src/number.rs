//! The hypercalls by number.

/// The number of a hypercall.
///
/// Source: `__HYPERVISOR_*`, `xen/include/public/xen.h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct HypercallNr(pub u32);

macro_rules! numbers {
    ($($name:ident $short:literal $c:literal $number:literal)*) => {
        impl HypercallNr {
            $(
                #[doc = concat!("`", $c, "`.")]
                #[doc(alias = $c)]
                pub const $name: Self = Self($number);
            )*

            /// The name in Xen's headers, without `__HYPERVISOR_`.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($short),)*
                    _ => None,
                }
            }

            /// The numbers above, for [`crate::facts`].
            pub(crate) const CONSTANTS: &[crate::facts::Constant] = &[$(
                crate::facts::Constant {
                    c_name: $c,
                    value: $number,
                },
            )*];
        }
    };
}

numbers! {
    SET_TRAP_TABLE "set_trap_table" "__HYPERVISOR_set_trap_table" 0
    MMU_UPDATE "mmu_update" "__HYPERVISOR_mmu_update" 1
    SET_GDT "set_gdt" "__HYPERVISOR_set_gdt" 2
    STACK_SWITCH "stack_switch" "__HYPERVISOR_stack_switch" 3
    SET_CALLBACKS "set_callbacks" "__HYPERVISOR_set_callbacks" 4
    FPU_TASKSWITCH "fpu_taskswitch" "__HYPERVISOR_fpu_taskswitch" 5
    SCHED_OP_COMPAT "sched_op_compat" "__HYPERVISOR_sched_op_compat" 6
    PLATFORM_OP "platform_op" "__HYPERVISOR_platform_op" 7
    SET_DEBUGREG "set_debugreg" "__HYPERVISOR_set_debugreg" 8
    GET_DEBUGREG "get_debugreg" "__HYPERVISOR_get_debugreg" 9
    UPDATE_DESCRIPTOR "update_descriptor" "__HYPERVISOR_update_descriptor" 10
    MEMORY_OP "memory_op" "__HYPERVISOR_memory_op" 12
    MULTICALL "multicall" "__HYPERVISOR_multicall" 13
    UPDATE_VA_MAPPING "update_va_mapping" "__HYPERVISOR_update_va_mapping" 14
    SET_TIMER_OP "set_timer_op" "__HYPERVISOR_set_timer_op" 15
    EVENT_CHANNEL_OP_COMPAT "event_channel_op_compat" "__HYPERVISOR_event_channel_op_compat" 16
    XEN_VERSION "xen_version" "__HYPERVISOR_xen_version" 17
    CONSOLE_IO "console_io" "__HYPERVISOR_console_io" 18
    PHYSDEV_OP_COMPAT "physdev_op_compat" "__HYPERVISOR_physdev_op_compat" 19
    GRANT_TABLE_OP "grant_table_op" "__HYPERVISOR_grant_table_op" 20
    VM_ASSIST "vm_assist" "__HYPERVISOR_vm_assist" 21
    UPDATE_VA_MAPPING_OTHERDOMAIN "update_va_mapping_otherdomain" "__HYPERVISOR_update_va_mapping_otherdomain" 22
    IRET "iret" "__HYPERVISOR_iret" 23
    VCPU_OP "vcpu_op" "__HYPERVISOR_vcpu_op" 24
    SET_SEGMENT_BASE "set_segment_base" "__HYPERVISOR_set_segment_base" 25
    MMUEXT_OP "mmuext_op" "__HYPERVISOR_mmuext_op" 26
    XSM_OP "xsm_op" "__HYPERVISOR_xsm_op" 27
    NMI_OP "nmi_op" "__HYPERVISOR_nmi_op" 28
    SCHED_OP "sched_op" "__HYPERVISOR_sched_op" 29
    CALLBACK_OP "callback_op" "__HYPERVISOR_callback_op" 30
    XENOPROF_OP "xenoprof_op" "__HYPERVISOR_xenoprof_op" 31
    EVENT_CHANNEL_OP "event_channel_op" "__HYPERVISOR_event_channel_op" 32
    PHYSDEV_OP "physdev_op" "__HYPERVISOR_physdev_op" 33
    HVM_OP "hvm_op" "__HYPERVISOR_hvm_op" 34
    SYSCTL "sysctl" "__HYPERVISOR_sysctl" 35
    DOMCTL "domctl" "__HYPERVISOR_domctl" 36
    KEXEC_OP "kexec_op" "__HYPERVISOR_kexec_op" 37
    TMEM_OP "tmem_op" "__HYPERVISOR_tmem_op" 38
    ARGO_OP "argo_op" "__HYPERVISOR_argo_op" 39
    XENPMU_OP "xenpmu_op" "__HYPERVISOR_xenpmu_op" 40
    DM_OP "dm_op" "__HYPERVISOR_dm_op" 41
    HYPFS_OP "hypfs_op" "__HYPERVISOR_hypfs_op" 42
    MCA "arch_0" "__HYPERVISOR_arch_0" 48
    ARCH_1 "arch_1" "__HYPERVISOR_arch_1" 49
    ARCH_2 "arch_2" "__HYPERVISOR_arch_2" 50
    ARCH_3 "arch_3" "__HYPERVISOR_arch_3" 51
    ARCH_4 "arch_4" "__HYPERVISOR_arch_4" 52
    ARCH_5 "arch_5" "__HYPERVISOR_arch_5" 53
    ARCH_6 "arch_6" "__HYPERVISOR_arch_6" 54
    ARCH_7 "arch_7" "__HYPERVISOR_arch_7" 55
}

impl core::fmt::Debug for HypercallNr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "hypercall {}", self.0),
        }
    }
}
