//! Calls of HVM and PVH guests.

use zerocopy::IntoBytes;

use super::{HvmParam, op::*};
use crate::{DomId, Errno, Gfn, HypercallNr, VcpuId, call::subop, platform::Hypercall};

const NR: HypercallNr = HypercallNr::HVM_OP;

/// Reads one of this guest's parameters.
///
/// HVM and PVH guests only, and eleven of the parameters.
///
/// # Errors
/// `EINVAL`: no such parameter, or a PV guest; `EPERM`: not for guests.
#[inline]
pub fn get_param<H: Hypercall + ?Sized>(h: &H, index: HvmParam) -> Result<u64, Errno> {
    let mut param = XenHvmParam {
        domid: DomId::SELF,
        pad: 0,
        index,
        value: 0,
    };
    // SAFETY: the hypervisor reads and writes `param`, which outlives the call.
    unsafe { subop(h, NR, HVMOP_GET_PARAM, &mut param) }.map(|_| param.value)
}

/// Writes one of this guest's parameters.
///
/// HVM and PVH guests only, and eight of the parameters.
///
/// # Errors
/// `EINVAL`: no such parameter or value, or a PV guest; `EPERM`: not for
/// guests; `EEXIST`: it is set for good.
///
/// # Safety
/// What the value names (an interrupt to deliver, a page to use) is ready for
/// it.
#[inline]
pub unsafe fn set_param<H: Hypercall + ?Sized>(
    h: &H,
    index: HvmParam,
    value: u64,
) -> Result<(), Errno> {
    let mut param = XenHvmParam {
        domid: DomId::SELF,
        pad: 0,
        index,
        value,
    };
    // SAFETY: the hypervisor reads `param`; the rest is this function's contract.
    unsafe { subop(h, NR, HVMOP_SET_PARAM, &mut param) }.map(|_| ())
}

/// Chooses a vCPU's vector for upcalls, in place of
/// [`HvmParam::CALLBACK_IRQ`]. HVM and PVH guests with a local interrupt
/// controller only.
///
/// # Errors
/// `EINVAL`: the vector is below 16, or a PV guest; `ENOENT`: no such vCPU.
///
/// # Safety
/// The vCPU has a handler for the vector.
#[inline]
pub unsafe fn set_evtchn_upcall_vector<H: Hypercall + ?Sized>(
    h: &H,
    vcpu: VcpuId,
    vector: u8,
) -> Result<(), Errno> {
    let mut arg = HvmEvtchnUpcallVector {
        vcpu,
        vector,
        ..HvmEvtchnUpcallVector::default()
    };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { subop(h, NR, HVMOP_SET_EVTCHN_UPCALL_VECTOR, &mut arg) }.map(|_| ())
}

/// Flushes all translations of all vCPUs. HVM and PVH guests only.
///
/// # Errors
/// `ENOSYS`, `EINVAL`: not for this guest.
#[inline]
pub fn flush_tlbs<H: Hypercall + ?Sized>(h: &H) -> Result<(), Errno> {
    // SAFETY: no argument: null.
    let answer = unsafe { h.call2(NR, HVMOP_FLUSH_TLBS, 0) };
    Errno::check(answer).map(|_| ())
}

/// Asks for Xen's system time, in nanoseconds. Any guest may.
///
/// # Errors
/// `ENOSYS`: not offered.
#[inline]
pub fn get_time<H: Hypercall + ?Sized>(h: &H) -> Result<u64, Errno> {
    let mut arg = HvmGetTime::default();
    // SAFETY: the hypervisor writes `arg`, which outlives the call.
    unsafe { subop(h, NR, HVMOP_GET_TIME, &mut arg) }.map(|_| arg.now)
}

/// Asks what kind of memory a frame is. HVM and PVH guests only.
///
/// # Errors
/// `EINVAL`: a PV guest, or no such frame; `EPERM`: another domain's.
#[inline]
pub fn get_mem_type<H: Hypercall + ?Sized>(h: &H, gfn: Gfn) -> Result<MemType, Errno> {
    let mut arg = HvmGetMemType {
        domid: DomId::SELF,
        pfn: gfn,
        ..HvmGetMemType::default()
    };
    // SAFETY: the hypervisor reads and writes `arg`, which outlives the call.
    unsafe { subop(h, NR, HVMOP_GET_MEM_TYPE, &mut arg) }.map(|_| arg.mem_type)
}

/// Tells that the page table at `gpa` is about to go. HVM guests with shadow
/// page tables only.
///
/// # Errors
/// `EINVAL`: not such a guest; `ENOSYS`: not offered.
#[inline]
pub fn pagetable_dying<H: Hypercall + ?Sized>(h: &H, gpa: u64) -> Result<(), Errno> {
    let mut arg = HvmPagetableDying {
        domid: DomId::SELF,
        gpa,
        ..HvmPagetableDying::default()
    };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, NR, HVMOP_PAGETABLE_DYING, &mut arg) }.map(|_| ())
}

/// Writes a record of up to seven words to Xen's trace. Any guest may.
///
/// # Errors
/// `EINVAL`: too much, or the number has more than 12 bits.
#[inline]
pub fn xentrace<H: Hypercall + ?Sized>(h: &H, event: u16, extra: &[u32]) -> Result<(), Errno> {
    let mut arg = HvmXentrace {
        event,
        extra_bytes: u16::try_from(size_of_val(extra)).map_err(|_| Errno::EINVAL)?,
        ..HvmXentrace::default()
    };
    arg.extra
        .get_mut(..size_of_val(extra))
        .ok_or(Errno::EINVAL)?
        .copy_from_slice(extra.as_bytes());
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, NR, HVMOP_XENTRACE, &mut arg) }.map(|_| ())
}

/// Tells a monitor, if there is one, that this guest wants it. Any guest may.
///
/// # Errors
/// `ENOSYS`: not offered; `EINVAL`: an argument.
#[inline]
pub fn guest_request_vm_event<H: Hypercall + ?Sized>(h: &H) -> Result<(), Errno> {
    // SAFETY: no argument: null.
    let answer = unsafe { h.call2(NR, HVMOP_GUEST_REQUEST_VM_EVENT, 0) };
    Errno::check(answer).map(|_| ())
}

/// Works on the views of this guest's memory. HVM and PVH guests for which
/// [`HvmParam::ALTP2M`] allows it.
///
/// # Errors
/// `EOPNOTSUPP`, `ENOSYS`: not on this machine, or not allowed; `EINVAL`: no
/// such view, frame or operation; `EPERM`: not for guests.
///
/// # Safety
/// What the views show breaks no reference that Rust code holds, and the lists
/// that `op` leads to are there.
#[inline]
pub unsafe fn altp2m<H: Hypercall + ?Sized>(h: &H, op: &mut HvmAltp2mOp) -> Result<(), Errno> {
    op.version = HVMOP_ALTP2M_INTERFACE_VERSION;
    // SAFETY: the hypervisor reads and writes `op`; the rest is the caller's
    // promise.
    unsafe { subop(h, NR, HVMOP_ALTP2M, op) }.map(|_| ())
}
