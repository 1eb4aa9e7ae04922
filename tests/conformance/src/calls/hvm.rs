//! Calls of `hvm_op`.

use hypercall_abi::{
    DomId, Errno, Gfn, HypercallNr,
    hvm::{self, HvmAltp2mOp, HvmParam, MemType},
    platform::Clock,
};

use super::{Done, Fails, NO_VCPU, NOT_PV, Row, VCPU, both, check, done, raw, split};

pub(super) const ROWS: &[Row] = &[
    split(
        "HVMOP_get_param",
        "the store's port",
        |p| check(hvm::get_param(p, HvmParam::STORE_EVTCHN)? > 0),
        NOT_PV,
        Done,
    ),
    split(
        "HVMOP_get_param",
        "not for guests",
        |p| done(hvm::get_param(p, HvmParam::IOREQ_PFN)),
        NOT_PV,
        Fails(&[Errno::EPERM]),
    ),
    both(
        "HVMOP_get_param",
        "no such parameter",
        |p| done(hvm::get_param(p, HvmParam(999))),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "HVMOP_get_param",
        "null",
        |p| raw(p, HypercallNr::HVM_OP, 1, 0),
        Fails(&[Errno::EFAULT]),
    ),
    split(
        "HVMOP_set_param",
        "not for guests",
        |p| {
            // SAFETY: refused.
            unsafe { hvm::set_param(p, HvmParam::STORE_PFN, 0) }
        },
        NOT_PV,
        Fails(&[Errno::EPERM]),
    ),
    split(
        "HVMOP_set_param",
        "one that is read back",
        |p| {
            let before = hvm::get_param(p, HvmParam::CONSOLE_EVTCHN)?;
            // SAFETY: nobody but this guest reads it, and it is put back.
            unsafe { hvm::set_param(p, HvmParam::CONSOLE_EVTCHN, before + 1) }?;
            let after = hvm::get_param(p, HvmParam::CONSOLE_EVTCHN);
            // SAFETY: as it was.
            unsafe { hvm::set_param(p, HvmParam::CONSOLE_EVTCHN, before) }?;
            check(after? == before + 1 && hvm::get_param(p, HvmParam::CONSOLE_EVTCHN)? == before)
        },
        NOT_PV,
        Done,
    ),
    split(
        "HVMOP_set_evtchn_upcall_vector",
        "3",
        |p| {
            // SAFETY: refused.
            unsafe { hvm::set_evtchn_upcall_vector(p, VCPU, 3) }
        },
        NOT_PV,
        Fails(&[Errno::EINVAL]),
    ),
    split(
        "HVMOP_set_evtchn_upcall_vector",
        "no such vCPU",
        |p| {
            // SAFETY: refused.
            unsafe { hvm::set_evtchn_upcall_vector(p, NO_VCPU, 0x30) }
        },
        NOT_PV,
        Fails(&[Errno::ENOENT]),
    ),
    split("HVMOP_flush_tlbs", "", hvm::flush_tlbs, NOT_PV, Done),
    both(
        "HVMOP_get_time",
        "",
        |p| {
            let now = hvm::get_time(p)?;
            check(now.abs_diff(p.now_ns()) < 1_000_000_000)
        },
        Done,
    ),
    split(
        "HVMOP_get_mem_type",
        "the shared page's neighbour",
        |p| check(hvm::get_mem_type(p, Gfn(0x100))? == MemType::RAM_RW),
        NOT_PV,
        Done,
    ),
    split(
        "HVMOP_get_mem_type",
        "no memory",
        |p| check(hvm::get_mem_type(p, Gfn(1 << 30))? == MemType::MMIO_DM),
        NOT_PV,
        Done,
    ),
    split(
        "HVMOP_pagetable_dying",
        "no shadow",
        |p| hvm::pagetable_dying(p, 0),
        NOT_PV,
        Fails(&[Errno::EINVAL]),
    ),
    both("HVMOP_xentrace", "", |p| hvm::xentrace(p, 1, &[1, 2]), Done),
    both(
        "HVMOP_xentrace",
        "too much",
        |p| hvm::xentrace(p, 1, &[0; 8]),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "HVMOP_guest_request_vm_event",
        "",
        hvm::guest_request_vm_event,
        Done,
    ),
    both(
        "HVMOP_altp2m",
        "not allowed",
        |p| {
            // SAFETY: refused.
            unsafe {
                hvm::altp2m(
                    p,
                    &mut HvmAltp2mOp {
                        cmd: hvm::HVMOP_ALTP2M_GET_DOMAIN_STATE,
                        domain: DomId::SELF,
                        ..Default::default()
                    },
                )
            }
        },
        Fails(&[Errno::EOPNOTSUPP]),
    ),
    both(
        "HVMOP_*",
        "unknown",
        |p| raw(p, HypercallNr::HVM_OP, 99, 0),
        Fails(&[Errno::ENOSYS]),
    ),
];
