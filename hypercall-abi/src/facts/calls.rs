//! Which function makes which call, and who may make it.

use crate::platform::Hypercall;

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Every guest.
    Any,
    /// PV guests.
    Pv,
    /// HVM and PVH guests.
    Hvm,
    /// PV guests with devices, and HVM guests with `XENFEAT_hvm_pirqs`.
    WithInterrupts,
    /// Privileged domains.
    Privileged,
    /// Guests on Arm.
    Arm,
}

/// A call that a guest can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name in the headers.
    pub c_name: &'static str,
    /// The path of its function here.
    pub function: &'static str,
    /// Who may make it.
    pub caller: Caller,
}

macro_rules! calls {
    ($($caller:ident $module:path { $($c:literal $function:ident,)* })*) => {
        /// All calls.
        pub const CALLS: &[Call] = &[$($(
            Call {
                c_name: $c,
                function: concat!(stringify!($module), "::", stringify!($function)),
                caller: Caller::$caller,
            },
        )*)*];

        /// Names each function, so that it must be there.
        #[expect(dead_code, reason = "for the compiler to read")]
        fn each_is_there<H: Hypercall>() {
            $($({
                use $module as module;
                let _it_is = module::$function::<H>;
            })*)*
        }
    };
}

calls! {
    Any crate::sched {
        "SCHEDOP_yield" yield_now,
        "SCHEDOP_block" block,
        "SCHEDOP_shutdown" shutdown,
        "SCHEDOP_poll" poll,
        "SCHEDOP_shutdown_code" shutdown_code,
        "SCHEDOP_watchdog" watchdog,
    }
    Any crate::event_channel {
        "EVTCHNOP_bind_interdomain" bind_interdomain,
        "EVTCHNOP_bind_virq" bind_virq,
        "EVTCHNOP_close" close,
        "EVTCHNOP_send" send,
        "EVTCHNOP_status" status,
        "EVTCHNOP_alloc_unbound" alloc_unbound,
        "EVTCHNOP_bind_ipi" bind_ipi,
        "EVTCHNOP_bind_vcpu" bind_vcpu,
        "EVTCHNOP_unmask" unmask,
        "EVTCHNOP_reset" reset,
        "EVTCHNOP_init_control" init_control,
        "EVTCHNOP_expand_array" expand_array,
        "EVTCHNOP_set_priority" set_priority,
    }
    WithInterrupts crate::event_channel {
        "EVTCHNOP_bind_pirq" bind_pirq,
    }
    Any crate::grant_table {
        "GNTTABOP_map_grant_ref" map,
        "GNTTABOP_unmap_grant_ref" unmap,
        "GNTTABOP_setup_table" setup_table,
        "GNTTABOP_copy" copy,
        "GNTTABOP_query_size" query_size,
        "GNTTABOP_set_version" set_version,
        "GNTTABOP_get_version" get_version,
        "GNTTABOP_swap_grant_ref" swap,
    }
    Pv crate::grant_table {
        "GNTTABOP_transfer" transfer,
        "GNTTABOP_unmap_and_replace" unmap_and_replace,
        "GNTTABOP_get_status_frames" get_status_frames,
    }
    Privileged crate::grant_table {
        "GNTTABOP_dump_table" dump_table,
    }
    Arm crate::grant_table {
        "GNTTABOP_cache_flush" cache_flush,
    }
    Any crate::memory {
        "XENMEM_increase_reservation" increase_reservation,
        "XENMEM_decrease_reservation" decrease_reservation,
        "XENMEM_populate_physmap" populate_physmap,
        "XENMEM_maximum_ram_page" maximum_ram_page,
        "XENMEM_current_reservation" current_reservation,
        "XENMEM_maximum_reservation" maximum_reservation,
        "XENMEM_maximum_gpfn" maximum_gpfn,
        "XENMEM_memory_map" memory_map,
        "XENMEM_get_vnumainfo" get_vnumainfo,
    }
    Pv crate::memory {
        "XENMEM_exchange" exchange,
        "XENMEM_machphys_mfn_list" machphys_mfn_list,
        "XENMEM_machphys_compat_mfn_list" machphys_compat_mfn_list,
        "XENMEM_machphys_mapping" machphys_mapping,
    }
    Hvm crate::memory {
        "XENMEM_add_to_physmap" add_to_physmap,
        "XENMEM_add_to_physmap_batch" add_to_physmap_batch,
        "XENMEM_remove_from_physmap" remove_from_physmap,
    }
    Pv crate::vcpu {
        "VCPUOP_initialise" initialise_pv,
    }
    Hvm crate::vcpu {
        "VCPUOP_initialise" initialise_hvm,
    }
    Any crate::vcpu {
        "VCPUOP_up" up,
        "VCPUOP_down" down,
        "VCPUOP_is_up" state,
        "VCPUOP_get_runstate_info" get_runstate_info,
        "VCPUOP_register_runstate_memory_area" register_runstate_memory_area,
        "VCPUOP_set_periodic_timer" set_periodic_timer,
        "VCPUOP_stop_periodic_timer" stop_periodic_timer,
        "VCPUOP_set_singleshot_timer" set_singleshot_timer,
        "VCPUOP_stop_singleshot_timer" stop_singleshot_timer,
        "VCPUOP_register_vcpu_info" register_vcpu_info,
        "VCPUOP_send_nmi" send_nmi,
        "VCPUOP_register_vcpu_time_memory_area" register_vcpu_time_memory_area,
        "VCPUOP_register_runstate_phys_area" register_runstate_phys_area,
        "VCPUOP_register_vcpu_time_phys_area" register_vcpu_time_phys_area,
    }
    Any crate::version {
        "XENVER_version" version,
        "XENVER_extraversion" extraversion,
        "XENVER_compile_info" compile_info,
        "XENVER_capabilities" capabilities,
        "XENVER_changeset" changeset,
        "XENVER_platform_parameters" platform_parameters,
        "XENVER_get_features" feature_word,
        "XENVER_pagesize" page_size,
        "XENVER_guest_handle" guest_handle,
        "XENVER_commandline" command_line,
        "XENVER_build_id" long_text,
        "XENVER_extraversion2" long_text,
        "XENVER_capabilities2" long_text,
        "XENVER_changeset2" long_text,
        "XENVER_commandline2" long_text,
    }
    Pv crate::callback {
        "CALLBACKOP_register" register,
        "CALLBACKOP_unregister" unregister,
    }
    Pv crate::nmi {
        "XENNMI_register_callback" register_callback,
        "XENNMI_unregister_callback" unregister_callback,
    }
    WithInterrupts crate::physdev {
        "PHYSDEVOP_eoi" eoi,
        "PHYSDEVOP_irq_status_query" irq_status_query,
        "PHYSDEVOP_map_pirq" map_pirq,
        "PHYSDEVOP_unmap_pirq" unmap_pirq,
        "PHYSDEVOP_get_free_pirq" get_free_pirq,
    }
    Pv crate::physdev {
        "PHYSDEVOP_pirq_eoi_gmfn_v1" set_pirq_eoi_gfn,
        "PHYSDEVOP_pirq_eoi_gmfn_v2" set_pirq_eoi_gfn,
        "PHYSDEVOP_set_iopl" set_iopl,
        "PHYSDEVOP_set_iobitmap" set_iobitmap,
    }
    Pv crate::pmu {
        "XENPMU_init" pmu,
        "XENPMU_finish" pmu,
        "XENPMU_lvtpc_set" pmu,
        "XENPMU_flush" pmu,
    }
    Any crate::argo {
        "XEN_ARGO_OP_register_ring" register_ring,
        "XEN_ARGO_OP_unregister_ring" unregister_ring,
        "XEN_ARGO_OP_sendv" sendv,
        "XEN_ARGO_OP_notify" notify,
    }
    Hvm crate::hvm {
        "HVMOP_get_param" get_param,
        "HVMOP_set_param" set_param,
        "HVMOP_flush_tlbs" flush_tlbs,
        "HVMOP_set_evtchn_upcall_vector" set_evtchn_upcall_vector,
        "HVMOP_get_mem_type" get_mem_type,
        "HVMOP_pagetable_dying" pagetable_dying,
        "HVMOP_altp2m" altp2m,
    }
    Any crate::hvm {
        "HVMOP_get_time" get_time,
        "HVMOP_xentrace" xentrace,
        "HVMOP_guest_request_vm_event" guest_request_vm_event,
    }
    Any crate::xen::console_io {
        "CONSOLEIO_write" write,
    }
    Privileged crate::xen::console_io {
        "CONSOLEIO_read" read,
    }
    Any crate::xen::multicall {
        "__HYPERVISOR_multicall" multicall,
    }
    Any crate::xen::vm_assist {
        "VMASST_CMD_enable" enable,
        "VMASST_CMD_disable" disable,
    }
    Any crate::xen::cpu {
        "__HYPERVISOR_set_timer_op" set_timer_op,
    }
    Pv crate::xen::cpu {
        "__HYPERVISOR_fpu_taskswitch" fpu_taskswitch,
        "__HYPERVISOR_set_debugreg" set_debugreg,
        "__HYPERVISOR_get_debugreg" get_debugreg,
    }
    Pv crate::xen::traps {
        "__HYPERVISOR_set_trap_table" set_trap_table,
        "__HYPERVISOR_set_gdt" set_gdt,
        "__HYPERVISOR_stack_switch" stack_switch,
        "__HYPERVISOR_set_callbacks" set_callbacks,
        "__HYPERVISOR_update_descriptor" update_descriptor,
        "SEGBASE_FS" set_segment_base,
        "SEGBASE_GS_USER" set_segment_base,
        "SEGBASE_GS_KERNEL" set_segment_base,
        "SEGBASE_GS_USER_SEL" set_segment_base,
    }
    Pv crate::xen::mmu {
        "MMU_NORMAL_PT_UPDATE" mmu_update,
        "MMU_MACHPHYS_UPDATE" mmu_update,
        "MMU_PT_UPDATE_PRESERVE_AD" mmu_update,
        "MMU_PT_UPDATE_NO_TRANSLATE" mmu_update,
        "__HYPERVISOR_update_va_mapping" update_va_mapping,
        "__HYPERVISOR_update_va_mapping_otherdomain" update_va_mapping_otherdomain,
        "MMUEXT_PIN_L1_TABLE" mmuext_op,
        "MMUEXT_PIN_L2_TABLE" mmuext_op,
        "MMUEXT_PIN_L3_TABLE" mmuext_op,
        "MMUEXT_PIN_L4_TABLE" mmuext_op,
        "MMUEXT_UNPIN_TABLE" mmuext_op,
        "MMUEXT_NEW_BASEPTR" mmuext_op,
        "MMUEXT_NEW_USER_BASEPTR" mmuext_op,
        "MMUEXT_TLB_FLUSH_LOCAL" mmuext_op,
        "MMUEXT_TLB_FLUSH_MULTI" mmuext_op,
        "MMUEXT_TLB_FLUSH_ALL" mmuext_op,
        "MMUEXT_INVLPG_LOCAL" mmuext_op,
        "MMUEXT_INVLPG_MULTI" mmuext_op,
        "MMUEXT_INVLPG_ALL" mmuext_op,
        "MMUEXT_FLUSH_CACHE" mmuext_op,
        "MMUEXT_FLUSH_CACHE_GLOBAL" mmuext_op,
        "MMUEXT_SET_LDT" mmuext_op,
        "MMUEXT_CLEAR_PAGE" mmuext_op,
        "MMUEXT_COPY_PAGE" mmuext_op,
    }
}
