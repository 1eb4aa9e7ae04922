//! What an HVM or PVH guest asks of Xen: `xen/include/public/hvm/hvm_op.h`.

use super::HvmParam;
use crate::{DomId, Gfn, VcpuId};

crate::facts::open_enum! {
    /// What kind of memory a frame is.
    pub struct MemType(u16) {
        /// Memory.
        RAM_RW = 0, "HVMMEM_ram_rw";
        /// Memory that cannot be written.
        RAM_RO = 1, "HVMMEM_ram_ro";
        /// The device model's.
        MMIO_DM = 2, "HVMMEM_mmio_dm";
        /// Nothing.
        UNUSED = 3, "HVMMEM_unused";
        /// A device model's that takes writes.
        IOREQ_SERVER = 4, "HVMMEM_ioreq_server";
    }
}

crate::facts::constants! {
    /// Write a parameter.
    HVMOP_SET_PARAM: usize = 0, "HVMOP_set_param";
    /// Read a parameter.
    HVMOP_GET_PARAM: usize = 1, "HVMOP_get_param";
    /// Flush translations.
    HVMOP_FLUSH_TLBS: usize = 5, "HVMOP_flush_tlbs";
    /// A page table is about to go (shadow paging).
    HVMOP_PAGETABLE_DYING: usize = 9, "HVMOP_pagetable_dying";
    /// Xen's system time.
    HVMOP_GET_TIME: usize = 10, "HVMOP_get_time";
    /// Write a record to Xen's trace.
    HVMOP_XENTRACE: usize = 11, "HVMOP_xentrace";
    /// What kind of memory is a frame?
    HVMOP_GET_MEM_TYPE: usize = 15, "HVMOP_get_mem_type";
    /// Choose a vCPU's vector for upcalls.
    HVMOP_SET_EVTCHN_UPCALL_VECTOR: usize = 23, "HVMOP_set_evtchn_upcall_vector";
    /// Tell a monitor.
    HVMOP_GUEST_REQUEST_VM_EVENT: usize = 24, "HVMOP_guest_request_vm_event";
    /// Several views of memory.
    HVMOP_ALTP2M: usize = 25, "HVMOP_altp2m";
    /// [`HvmAltp2mOp::version`].
    HVMOP_ALTP2M_INTERFACE_VERSION: u32 = 1;
    /// [`HvmAltp2mOp::cmd`]: is it on?
    HVMOP_ALTP2M_GET_DOMAIN_STATE: u32 = 1, "HVMOP_altp2m_get_domain_state";
    /// [`HvmAltp2mOp::cmd`]: switch it on or off.
    HVMOP_ALTP2M_SET_DOMAIN_STATE: u32 = 2, "HVMOP_altp2m_set_domain_state";
    /// [`HvmAltp2mOp::cmd`]: tell this vCPU about violations.
    HVMOP_ALTP2M_VCPU_ENABLE_NOTIFY: u32 = 3, "HVMOP_altp2m_vcpu_enable_notify";
    /// [`HvmAltp2mOp::cmd`]: make a view.
    HVMOP_ALTP2M_CREATE_P2M: u32 = 4, "HVMOP_altp2m_create_p2m";
    /// [`HvmAltp2mOp::cmd`]: drop a view.
    HVMOP_ALTP2M_DESTROY_P2M: u32 = 5, "HVMOP_altp2m_destroy_p2m";
    /// [`HvmAltp2mOp::cmd`]: use a view.
    HVMOP_ALTP2M_SWITCH_P2M: u32 = 6, "HVMOP_altp2m_switch_p2m";
    /// [`HvmAltp2mOp::cmd`]: what may be done with a frame.
    HVMOP_ALTP2M_SET_MEM_ACCESS: u32 = 7, "HVMOP_altp2m_set_mem_access";
    /// [`HvmAltp2mOp::cmd`]: what a frame shows.
    HVMOP_ALTP2M_CHANGE_GFN: u32 = 8, "HVMOP_altp2m_change_gfn";
    /// [`HvmAltp2mOp::cmd`]: what may be done with frames.
    HVMOP_ALTP2M_SET_MEM_ACCESS_MULTI: u32 = 9, "HVMOP_altp2m_set_mem_access_multi";
    /// [`HvmAltp2mOp::cmd`]: whether a frame's violations are the guest's.
    HVMOP_ALTP2M_SET_SUPPRESS_VE: u32 = 10, "HVMOP_altp2m_set_suppress_ve";
    /// [`HvmAltp2mOp::cmd`]: are they?
    HVMOP_ALTP2M_GET_SUPPRESS_VE: u32 = 11, "HVMOP_altp2m_get_suppress_ve";
    /// [`HvmAltp2mOp::cmd`]: what may be done?
    HVMOP_ALTP2M_GET_MEM_ACCESS: u32 = 12, "HVMOP_altp2m_get_mem_access";
    /// [`HvmAltp2mOp::cmd`]: tell this vCPU no more.
    HVMOP_ALTP2M_VCPU_DISABLE_NOTIFY: u32 = 13, "HVMOP_altp2m_vcpu_disable_notify";
    /// [`HvmAltp2mOp::cmd`]: which view does a vCPU use?
    HVMOP_ALTP2M_GET_P2M_IDX: u32 = 14, "HVMOP_altp2m_get_p2m_idx";
    /// [`HvmAltp2mOp::cmd`]: the same for many frames.
    HVMOP_ALTP2M_SET_SUPPRESS_VE_MULTI: u32 = 15, "HVMOP_altp2m_set_suppress_ve_multi";
    /// [`HvmAltp2mOp::cmd`]: whether a vCPU may switch to a view by itself.
    HVMOP_ALTP2M_SET_VISIBILITY: u32 = 16, "HVMOP_altp2m_set_visibility";
}

crate::facts::structs! {
    /// The argument of `HVMOP_get_param` and `HVMOP_set_param`.
    "xen_hvm_param" 16
    pub struct XenHvmParam {
        /// Whose parameter.
        domid: DomId = 0,
        /// Zero.
        pad: u16 = 2,
        /// Which.
        index: HvmParam = 4,
        /// Its value, in or out.
        value: u64 = 8,
    }

    /// The argument of `HVMOP_pagetable_dying`.
    "xen_hvm_pagetable_dying" 16
    pub struct HvmPagetableDying {
        /// Whose.
        domid: DomId = 0,
        /// Zero.
        pad: [u8; 6] = 2,
        /// The page table.
        gpa: u64 = 8,
    }

    /// The argument of `HVMOP_get_time`.
    "xen_hvm_get_time" 8
    pub struct HvmGetTime {
        /// Nanoseconds (out).
        now: u64 = 0,
    }

    /// The argument of `HVMOP_xentrace`.
    "xen_hvm_xentrace" 32
    pub struct HvmXentrace {
        /// The record's number, in the guest's range.
        event: u16 = 0,
        /// Bytes of `extra`.
        extra_bytes: u16 = 2,
        /// What else to record.
        extra: [u8; 28] = 4,
    }

    /// The argument of `HVMOP_get_mem_type`.
    "xen_hvm_get_mem_type" 16
    pub struct HvmGetMemType {
        /// Whose frame.
        domid: DomId = 0,
        /// Its kind (out).
        mem_type: MemType = 2,
        /// Zero.
        pad: u32 = 4,
        /// Which.
        pfn: Gfn = 8,
    }

    /// The argument of `HVMOP_set_evtchn_upcall_vector`.
    "xen_hvm_evtchn_upcall_vector" 8
    pub struct HvmEvtchnUpcallVector {
        /// Which vCPU.
        vcpu: VcpuId = 0,
        /// Its vector, from 16 on.
        vector: u8 = 4,
        #[doc(hidden)]
        _gap0: [u8; 3] = 5,
    }

    /// The argument of `HVMOP_altp2m`.
    "xen_hvm_altp2m_op" 80
    pub struct HvmAltp2mOp {
        /// [`HVMOP_ALTP2M_INTERFACE_VERSION`].
        version: u32 = 0,
        /// `HVMOP_ALTP2M_*`.
        cmd: u32 = 4,
        /// Whose memory.
        domain: DomId = 8,
        /// Zero.
        pad1: u16 = 10,
        /// Zero.
        pad2: u32 = 12,
        /// One of the structures below.
        u: [u64; 8] = 16,
    }

    /// Whether it is on.
    "xen_hvm_altp2m_domain_state" 1
    pub struct HvmAltp2mDomainState {
        /// Zero: no.
        state: u8 = 0,
    }

    /// Where a vCPU is told about violations.
    "xen_hvm_altp2m_vcpu_enable_notify" 16
    pub struct HvmAltp2mVcpuEnableNotify {
        /// Which vCPU.
        vcpu_id: VcpuId = 0,
        /// Zero.
        pad: u32 = 4,
        /// The frame of its information page.
        gfn: Gfn = 8,
    }

    /// Which vCPU is told no more.
    "xen_hvm_altp2m_vcpu_disable_notify" 4
    pub struct HvmAltp2mVcpuDisableNotify {
        /// Which vCPU.
        vcpu_id: VcpuId = 0,
    }

    /// A view.
    "xen_hvm_altp2m_view" 4
    pub struct HvmAltp2mView {
        /// Its number.
        view: u16 = 0,
        /// What may be done with frames at first.
        hvmmem_default_access: u16 = 2,
    }

    /// What may be done with a frame.
    "xen_hvm_altp2m_mem_access" 16
    pub struct HvmAltp2mMemAccess {
        /// In which view.
        view: u16 = 0,
        /// What.
        access: u16 = 2,
        /// Zero.
        pad: u32 = 4,
        /// Which frame.
        gfn: Gfn = 8,
    }

    /// What may be done with many frames.
    "xen_hvm_altp2m_set_mem_access_multi" 32
    pub struct HvmAltp2mSetMemAccessMulti {
        /// In which view.
        view: u16 = 0,
        /// Zero.
        pad: u16 = 2,
        /// How many.
        nr: u32 = 4,
        /// Where to go on; zero at first.
        opaque: u64 = 8,
        /// The address of the list of frames.
        pfn_list: u64 = 16,
        /// The address of the list of what may be done.
        access_list: u64 = 24,
    }

    /// Whether a frame's violations go to the guest.
    "xen_hvm_altp2m_suppress_ve" 16
    pub struct HvmAltp2mSuppressVe {
        /// In which view.
        view: u16 = 0,
        /// Not zero: to Xen.
        suppress_ve: u8 = 2,
        /// Zero.
        pad1: u8 = 3,
        /// Zero.
        pad2: u32 = 4,
        /// Which frame.
        gfn: Gfn = 8,
    }

    /// Whether many frames' violations go to the guest.
    "xen_hvm_altp2m_suppress_ve_multi" 32
    pub struct HvmAltp2mSuppressVeMulti {
        /// In which view.
        view: u16 = 0,
        /// Not zero: to Xen.
        suppress_ve: u8 = 2,
        /// Zero.
        pad1: u8 = 3,
        /// The first error (out).
        first_error: i32 = 4,
        /// The first frame.
        first_gfn: Gfn = 8,
        /// The last frame.
        last_gfn: Gfn = 16,
        /// The frame of the first error (out).
        first_error_gfn: Gfn = 24,
    }

    /// What a frame shows.
    "xen_hvm_altp2m_change_gfn" 24
    pub struct HvmAltp2mChangeGfn {
        /// In which view.
        view: u16 = 0,
        /// Zero.
        pad1: u16 = 2,
        /// Zero.
        pad2: u32 = 4,
        /// The frame.
        old_gfn: Gfn = 8,
        /// What it shows.
        new_gfn: Gfn = 16,
    }

    /// Which view a vCPU uses.
    "xen_hvm_altp2m_get_vcpu_p2m_idx" 8
    pub struct HvmAltp2mGetVcpuP2mIdx {
        /// Which vCPU.
        vcpu_id: VcpuId = 0,
        /// Its view (out).
        altp2m_idx: u16 = 4,
        #[doc(hidden)]
        _gap0: [u8; 2] = 6,
    }

    /// Whether a vCPU may switch to a view by itself.
    "xen_hvm_altp2m_set_visibility" 4
    pub struct HvmAltp2mSetVisibility {
        /// Which view.
        altp2m_idx: u16 = 0,
        /// Not zero: it may.
        visible: u8 = 2,
        /// Zero.
        pad: u8 = 3,
    }
}
