//! Calls about ports.

use super::*;
use crate::{
    DomId, Errno, Gfn, HypercallNr, Port, VcpuId, call::subop, platform::Hypercall, xen::Virq,
};

const NR: HypercallNr = HypercallNr::EVENT_CHANNEL_OP;

/// Offers a new port of this domain to `remote`. Any guest may.
///
/// # Errors
/// `ENOSPC`: all ports are taken; `ESRCH`: there is no such domain.
#[inline]
pub fn alloc_unbound<H: Hypercall + ?Sized>(h: &H, remote: DomId) -> Result<Port, Errno> {
    let mut arg = EvtchnAllocUnbound {
        dom: DomId::SELF,
        remote_dom: remote,
        port: Port(0),
    };
    // SAFETY: the hypervisor reads and writes `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_ALLOC_UNBOUND, &mut arg) }.map(|_| arg.port)
}

/// Opens a port that is connected to `remote`'s port. Any guest may.
///
/// # Errors
/// `EINVAL`: that port is not offered to this domain; `ESRCH`: there is no such
/// domain; `ENOSPC`: all ports are taken.
#[inline]
pub fn bind_interdomain<H: Hypercall + ?Sized>(
    h: &H,
    remote: DomId,
    remote_port: Port,
) -> Result<Port, Errno> {
    let mut arg = EvtchnBindInterdomain {
        remote_dom: remote,
        _gap0: [0; 2],
        remote_port,
        local_port: Port(0),
    };
    // SAFETY: the hypervisor reads and writes `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_BIND_INTERDOMAIN, &mut arg) }.map(|_| arg.local_port)
}

/// Opens a port for a virtual interrupt. Any guest may; interrupts that are not
/// for each vCPU go to vCPU 0, and some are the initial domain's.
///
/// # Errors
/// `EINVAL`: no such interrupt, or not for this vCPU; `ENOENT`: no such vCPU;
/// `EEXIST`: it has a port; `EPERM`: not for this domain; `ENOSPC`: all ports
/// are taken.
#[inline]
pub fn bind_virq<H: Hypercall + ?Sized>(h: &H, virq: Virq, vcpu: VcpuId) -> Result<Port, Errno> {
    let mut arg = EvtchnBindVirq {
        virq,
        vcpu,
        port: Port(0),
    };
    // SAFETY: the hypervisor reads and writes `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_BIND_VIRQ, &mut arg) }.map(|_| arg.port)
}

/// Opens a port for a physical interrupt that this domain was given: PV guests,
/// and HVM guests with [`XenFeatures::HVM_PIRQS`].
///
/// # Errors
/// `EINVAL`: no such interrupt; `EEXIST`: it has a port; `EPERM`: not given.
///
/// [`XenFeatures::HVM_PIRQS`]: crate::features::XenFeatures::HVM_PIRQS
#[inline]
pub fn bind_pirq<H: Hypercall + ?Sized>(
    h: &H,
    pirq: u32,
    flags: BindPirqFlags,
) -> Result<Port, Errno> {
    let mut arg = EvtchnBindPirq {
        pirq,
        flags: flags.bits(),
        port: Port(0),
    };
    // SAFETY: the hypervisor reads and writes `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_BIND_PIRQ, &mut arg) }.map(|_| arg.port)
}

/// Opens a port by which this domain's vCPUs wake `vcpu`. Any guest may.
///
/// # Errors
/// `ENOENT`: no such vCPU; `ENOSPC`: all ports are taken.
#[inline]
pub fn bind_ipi<H: Hypercall + ?Sized>(h: &H, vcpu: VcpuId) -> Result<Port, Errno> {
    let mut arg = EvtchnBindIpi {
        vcpu,
        port: Port(0),
    };
    // SAFETY: the hypervisor reads and writes `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_BIND_IPI, &mut arg) }.map(|_| arg.port)
}

/// Closes `port`. Any guest may.
///
/// # Errors
/// `EINVAL`: the port is not open.
#[inline]
pub fn close<H: Hypercall + ?Sized>(h: &H, port: Port) -> Result<(), Errno> {
    let mut arg = EvtchnClose { port };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_CLOSE, &mut arg) }.map(|_| ())
}

/// Sends an event to the other end of `port`. Any guest may.
///
/// # Errors
/// `EINVAL`: the port is not open, or not one to send on.
#[inline]
pub fn send<H: Hypercall + ?Sized>(h: &H, port: Port) -> Result<(), Errno> {
    let mut arg = EvtchnSend { port };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_SEND, &mut arg) }.map(|_| ())
}

/// Asks what a port of this domain is. Any guest may.
///
/// # Errors
/// `EINVAL`: the port is out of range, or far behind all that were ever open.
#[inline]
pub fn status<H: Hypercall + ?Sized>(h: &H, port: Port) -> Result<EvtchnStatus, Errno> {
    let mut arg = EvtchnStatus {
        dom: DomId::SELF,
        port,
        ..EvtchnStatus::default()
    };
    // SAFETY: the hypervisor reads and writes `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_STATUS, &mut arg) }.map(|_| arg)
}

/// Chooses the vCPU that is told about `port`. Any guest may.
///
/// # Errors
/// `ENOENT`: no such vCPU; `EINVAL`: the port is not open, or tied to a vCPU.
#[inline]
pub fn bind_vcpu<H: Hypercall + ?Sized>(h: &H, port: Port, vcpu: VcpuId) -> Result<(), Errno> {
    let mut arg = EvtchnBindVcpu { port, vcpu };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_BIND_VCPU, &mut arg) }.map(|_| ())
}

/// Unmasks `port`, and tells its vCPU if it is pending. Any guest may.
///
/// # Errors
/// `EINVAL`: the port is out of range.
#[inline]
pub fn unmask<H: Hypercall + ?Sized>(h: &H, port: Port) -> Result<(), Errno> {
    let mut arg = EvtchnUnmask { port };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_UNMASK, &mut arg) }.map(|_| ())
}

/// Closes all ports of this domain, and goes back to the 2-level interface. The
/// console's and the store's are gone, too. Any guest may.
///
/// # Errors
/// `ESRCH`, `EPERM`: not offered.
#[inline]
pub fn reset<H: Hypercall + ?Sized>(h: &H) -> Result<(), Errno> {
    let mut arg = EvtchnReset { dom: DomId::SELF };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_RESET, &mut arg) }.map(|_| ())
}

/// Gives Xen a vCPU's control block of the FIFO interface; the first call
/// switches to that interface. Returns the bits of a link. Any guest may.
///
/// # Errors
/// `EINVAL`: the place is not 8-byte aligned or leaves the page; `ENOENT`: no
/// such vCPU; `ENOSYS`: only the 2-level interface is offered.
///
/// # Safety
/// The frame is this domain's, and from now on Xen writes the 72 bytes at
/// `offset` at any time: no Rust reference leads there.
#[inline]
pub unsafe fn init_control<H: Hypercall + ?Sized>(
    h: &H,
    control_gfn: Gfn,
    offset: u32,
    vcpu: VcpuId,
) -> Result<u8, Errno> {
    let mut arg = EvtchnInitControl {
        control_gfn,
        offset,
        vcpu,
        ..EvtchnInitControl::default()
    };
    // SAFETY: the hypervisor reads and writes `arg`; the rest is the caller's
    // promise.
    unsafe { subop(h, NR, EVTCHNOP_INIT_CONTROL, &mut arg) }.map(|_| arg.link_bits)
}

/// Gives Xen another page of event words: 1024 more ports. Any guest may.
///
/// # Errors
/// `EOPNOTSUPP`: the FIFO interface is not in use; `ENOSPC`: there are 2^17
/// ports.
///
/// # Safety
/// The frame is this domain's, and from now on Xen writes it at any time: no
/// Rust reference leads there.
#[inline]
pub unsafe fn expand_array<H: Hypercall + ?Sized>(h: &H, array_gfn: Gfn) -> Result<(), Errno> {
    let mut arg = EvtchnExpandArray { array_gfn };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { subop(h, NR, EVTCHNOP_EXPAND_ARRAY, &mut arg) }.map(|_| ())
}

/// Chooses the queue of `port`: 0 is served first, 15 last. Any guest may.
///
/// # Errors
/// `ENOSYS`: the FIFO interface is not in use; `EINVAL`: no such port or queue.
#[inline]
pub fn set_priority<H: Hypercall + ?Sized>(h: &H, port: Port, priority: u32) -> Result<(), Errno> {
    let mut arg = EvtchnSetPriority { port, priority };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, NR, EVTCHNOP_SET_PRIORITY, &mut arg) }.map(|_| ())
}

impl EvtchnStatus {
    /// Who may bind to the port, if it is [`ChannelStatus::UNBOUND`].
    pub fn unbound(&self) -> Option<DomId> {
        (self.status == ChannelStatus::UNBOUND).then_some(DomId(self.u as u16))
    }

    /// What the port is bound to, if it is [`ChannelStatus::INTERDOMAIN`].
    pub fn interdomain(&self) -> Option<EvtchnStatusInterdomain> {
        (self.status == ChannelStatus::INTERDOMAIN).then(|| zerocopy::transmute!(self.u))
    }

    /// The number of the physical or virtual interrupt, if the port is bound to
    /// one.
    pub fn interrupt(&self) -> Option<u32> {
        matches!(self.status, ChannelStatus::PIRQ | ChannelStatus::VIRQ).then_some(self.u as u32)
    }
}

/// This domain's number. No call tells a guest its number, but the status of a port that it
/// offers to itself says to which domain it was offered. Any guest may.
///
/// # Errors
/// `ENOSPC`: all ports are taken; `EINVAL`: a fresh port is not unbound, which is against
/// the interface.
pub fn own_domid<H: Hypercall + ?Sized>(h: &H) -> Result<DomId, Errno> {
    let port = alloc_unbound(h, DomId::SELF)?;
    let status = status(h, port);
    close(h, port)?;
    status?.unbound().ok_or(Errno::EINVAL)
}
