//! Event channels: `xen/include/public/event_channel.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, Errno, HypercallNr, Port, VcpuId, layout, platform::Hypercall};

/// Close a port.
#[doc(alias = "EVTCHNOP_close")]
pub const EVTCHNOP_CLOSE: usize = 3;
/// Send an event.
#[doc(alias = "EVTCHNOP_send")]
pub const EVTCHNOP_SEND: usize = 4;
/// What a port is.
#[doc(alias = "EVTCHNOP_status")]
pub const EVTCHNOP_STATUS: usize = 5;
/// Offer a port.
#[doc(alias = "EVTCHNOP_alloc_unbound")]
pub const EVTCHNOP_ALLOC_UNBOUND: usize = 6;

/// [`EvtchnStatus::status`]: the port is offered and not bound.
#[doc(alias = "EVTCHNSTAT_unbound")]
pub const EVTCHNSTAT_UNBOUND: u32 = 1;

/// The argument of `EVTCHNOP_alloc_unbound`.
///
/// Source: `struct evtchn_alloc_unbound`, `event_channel.h`.
#[doc(alias = "evtchn_alloc_unbound")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnAllocUnbound {
    /// Whose port.
    pub dom: DomId,
    /// Who may bind to it.
    pub remote_dom: DomId,
    /// The new port (out).
    pub port: Port,
}

layout!(EvtchnAllocUnbound: 8 { dom: 0..2, remote_dom: 2..4, port: 4..8 });

/// The argument of `EVTCHNOP_status`.
///
/// Source: `struct evtchn_status`, `event_channel.h`.
#[doc(alias = "evtchn_status")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EvtchnStatus {
    /// Whose port.
    pub dom: DomId,
    #[doc(hidden)]
    pub _pad: u16,
    /// Which port.
    pub port: Port,
    /// `EVTCHNSTAT_*` (out).
    pub status: u32,
    /// The vCPU that it notifies (out).
    pub vcpu: VcpuId,
    /// What more there is to say, by `status` (out): for an unbound port, who
    /// may bind to it.
    pub u: [u32; 2],
}

layout!(EvtchnStatus: 24 { dom: 0..2, port: 4..8, status: 8..12, vcpu: 12..16, u: 16..24 });

/// Sends an event to the other end of `port`. Any guest may.
///
/// # Errors
/// `EINVAL`: the port is not open, or not one to send on.
#[inline]
pub fn send<H: Hypercall + ?Sized>(h: &H, port: Port) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads struct evtchn_send: the port.
    let answer = unsafe {
        h.call2(
            HypercallNr::EVENT_CHANNEL_OP,
            EVTCHNOP_SEND,
            (&raw const port).expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| ())
}

/// Closes `port`. Any guest may.
///
/// # Errors
/// `EINVAL`: the port is not open.
#[inline]
pub fn close<H: Hypercall + ?Sized>(h: &H, port: Port) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads struct evtchn_close: the port.
    let answer = unsafe {
        h.call2(
            HypercallNr::EVENT_CHANNEL_OP,
            EVTCHNOP_CLOSE,
            (&raw const port).expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| ())
}

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
    let answer = unsafe {
        h.call2(
            HypercallNr::EVENT_CHANNEL_OP,
            EVTCHNOP_ALLOC_UNBOUND,
            (&raw mut arg).expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| arg.port)
}

/// Asks what a port of this domain is. Any guest may.
///
/// # Errors
/// `EINVAL`: the port is out of range.
#[inline]
pub fn status<H: Hypercall + ?Sized>(h: &H, port: Port) -> Result<EvtchnStatus, Errno> {
    let mut arg = EvtchnStatus {
        dom: DomId::SELF,
        _pad: 0,
        port,
        status: 0,
        vcpu: VcpuId(0),
        u: [0; 2],
    };
    // SAFETY: the hypervisor reads and writes `arg`, which outlives the call.
    let answer = unsafe {
        h.call2(
            HypercallNr::EVENT_CHANNEL_OP,
            EVTCHNOP_STATUS,
            (&raw mut arg).expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| arg)
}
