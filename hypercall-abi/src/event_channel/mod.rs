//! Ports, by which domains wake each other: `xen/include/public/event_channel.h`.
//!
//! A port is one end of a channel. In the 2-level interface Xen sets a bit in
//! [`SharedInfo`](crate::xen::SharedInfo); in the FIFO interface it links the
//! port's word into one of sixteen queues:
//!
//! ```text
//! event word:  31 PENDING | 30 MASKED | 29 LINKED | 28 BUSY | .. | 16..0 next port
//! ```

pub(crate) mod calls;

use crate::{DomId, Gfn, Port, VcpuId, xen::Virq};

pub use calls::*;

crate::facts::open_enum! {
    /// What a port is connected to: [`EvtchnStatus::status`].
    pub struct ChannelStatus(u32) {
        /// Nothing.
        CLOSED = 0, "EVTCHNSTAT_closed";
        /// Nothing yet: another domain may bind to it.
        UNBOUND = 1, "EVTCHNSTAT_unbound";
        /// Another domain's port.
        INTERDOMAIN = 2, "EVTCHNSTAT_interdomain";
        /// A physical interrupt.
        PIRQ = 3, "EVTCHNSTAT_pirq";
        /// A virtual interrupt.
        VIRQ = 4, "EVTCHNSTAT_virq";
        /// Another vCPU of this domain.
        IPI = 5, "EVTCHNSTAT_ipi";
    }
}

crate::facts::flags! {
    /// [`EvtchnBindPirq::flags`].
    pub struct BindPirqFlags: u32 {
        /// The interrupt may be shared.
        WILL_SHARE = 1 << 0, "BIND_PIRQ__WILL_SHARE";
    }
}

crate::facts::constants! {
    /// Connect to another domain's port.
    EVTCHNOP_BIND_INTERDOMAIN: usize = 0, "EVTCHNOP_bind_interdomain";
    /// Open a port for a virtual interrupt.
    EVTCHNOP_BIND_VIRQ: usize = 1, "EVTCHNOP_bind_virq";
    /// Open a port for a physical interrupt.
    EVTCHNOP_BIND_PIRQ: usize = 2, "EVTCHNOP_bind_pirq";
    /// Close a port.
    EVTCHNOP_CLOSE: usize = 3, "EVTCHNOP_close";
    /// Notify the other end.
    EVTCHNOP_SEND: usize = 4, "EVTCHNOP_send";
    /// What a port is connected to.
    EVTCHNOP_STATUS: usize = 5, "EVTCHNOP_status";
    /// Open a port for another domain to bind to.
    EVTCHNOP_ALLOC_UNBOUND: usize = 6, "EVTCHNOP_alloc_unbound";
    /// Open a port for another vCPU.
    EVTCHNOP_BIND_IPI: usize = 7, "EVTCHNOP_bind_ipi";
    /// Choose the vCPU that is told.
    EVTCHNOP_BIND_VCPU: usize = 8, "EVTCHNOP_bind_vcpu";
    /// Unmask, and tell if something is pending.
    EVTCHNOP_UNMASK: usize = 9, "EVTCHNOP_unmask";
    /// Close all ports.
    EVTCHNOP_RESET: usize = 10, "EVTCHNOP_reset";
    /// Switch to the FIFO interface, and set a vCPU's control block.
    EVTCHNOP_INIT_CONTROL: usize = 11, "EVTCHNOP_init_control";
    /// Add a page to the array of event words.
    EVTCHNOP_EXPAND_ARRAY: usize = 12, "EVTCHNOP_expand_array";
    /// Choose a port's queue.
    EVTCHNOP_SET_PRIORITY: usize = 13, "EVTCHNOP_set_priority";
    /// Ports of the 2-level interface.
    EVTCHN_2L_NR_CHANNELS: u32 = 4096;
    /// The queue that is served first.
    EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
    /// The queue of a new port.
    EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
    /// The queue that is served last.
    EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;
    /// The number of queues.
    EVTCHN_FIFO_MAX_QUEUES: u32 = 16;
    /// The bit of an event word that says: an event came.
    EVTCHN_FIFO_PENDING: u32 = 31;
    /// The bit of an event word that says: no upcall.
    EVTCHN_FIFO_MASKED: u32 = 30;
    /// The bit of an event word that says: it is in a queue.
    EVTCHN_FIFO_LINKED: u32 = 29;
    /// The bit of an event word that says: Xen is changing its link.
    EVTCHN_FIFO_BUSY: u32 = 28;
    /// Bits of the link in an event word.
    EVTCHN_FIFO_LINK_BITS: u32 = 17;
    /// Ports of the FIFO interface.
    EVTCHN_FIFO_NR_CHANNELS: u32 = 131_072;
    /// The bits of the link in an event word.
    EVTCHN_FIFO_LINK_MASK: u32 = 0x1_ffff;
}

crate::facts::structs! {
    /// The argument of `EVTCHNOP_alloc_unbound`.
    "evtchn_alloc_unbound" 8
    pub struct EvtchnAllocUnbound {
        /// Whose port it becomes.
        dom: DomId = 0,
        /// Who may bind to it.
        remote_dom: DomId = 2,
        /// The port (out).
        port: Port = 4,
    }

    /// The argument of `EVTCHNOP_bind_interdomain`.
    "evtchn_bind_interdomain" 12
    pub struct EvtchnBindInterdomain {
        /// Whose port.
        remote_dom: DomId = 0,
        #[doc(hidden)]
        _gap0: [u8; 2] = 2,
        /// Which.
        remote_port: Port = 4,
        /// This domain's end (out).
        local_port: Port = 8,
    }

    /// The argument of `EVTCHNOP_bind_virq`.
    "evtchn_bind_virq" 12
    pub struct EvtchnBindVirq {
        /// Which interrupt.
        virq: Virq = 0,
        /// Whose, and who is told.
        vcpu: VcpuId = 4,
        /// The port (out).
        port: Port = 8,
    }

    /// The argument of `EVTCHNOP_bind_pirq`.
    "evtchn_bind_pirq" 12
    pub struct EvtchnBindPirq {
        /// Which interrupt.
        pirq: u32 = 0,
        /// [`BindPirqFlags`].
        flags: u32 = 4,
        /// The port (out).
        port: Port = 8,
    }

    /// The argument of `EVTCHNOP_bind_ipi`.
    "evtchn_bind_ipi" 8
    pub struct EvtchnBindIpi {
        /// Who is told.
        vcpu: VcpuId = 0,
        /// The port (out).
        port: Port = 4,
    }

    /// The argument of `EVTCHNOP_close`.
    "evtchn_close" 4
    pub struct EvtchnClose {
        /// Which.
        port: Port = 0,
    }

    /// The argument of `EVTCHNOP_send`.
    "evtchn_send" 4
    pub struct EvtchnSend {
        /// Which.
        port: Port = 0,
    }

    /// The argument of `EVTCHNOP_status`.
    "evtchn_status" 24
    pub struct EvtchnStatus {
        /// Whose port.
        dom: DomId = 0,
        #[doc(hidden)]
        _gap0: [u8; 2] = 2,
        /// Which.
        port: Port = 4,
        /// What it is connected to (out).
        status: ChannelStatus = 8,
        /// Who is told (out).
        vcpu: VcpuId = 12,
        /// [`EvtchnStatusUnbound`], [`EvtchnStatusInterdomain`], or the number
        /// of the interrupt (out).
        u: u64 = 16,
    }

    /// Who may bind to the port.
    "evtchn_status.u.unbound" 2
    pub struct EvtchnStatusUnbound {
        /// The domain.
        dom: DomId = 0,
    }

    /// What the port is bound to.
    "evtchn_status.u.interdomain" 8
    pub struct EvtchnStatusInterdomain {
        /// The domain.
        dom: DomId = 0,
        #[doc(hidden)]
        _gap0: [u8; 2] = 2,
        /// Its port.
        port: Port = 4,
    }

    /// The argument of `EVTCHNOP_bind_vcpu`.
    "evtchn_bind_vcpu" 8
    pub struct EvtchnBindVcpu {
        /// Which.
        port: Port = 0,
        /// Who is to be told.
        vcpu: VcpuId = 4,
    }

    /// The argument of `EVTCHNOP_unmask`.
    "evtchn_unmask" 4
    pub struct EvtchnUnmask {
        /// Which.
        port: Port = 0,
    }

    /// The argument of `EVTCHNOP_reset`.
    "evtchn_reset" 2
    pub struct EvtchnReset {
        /// Whose ports.
        dom: DomId = 0,
    }

    /// The argument of `EVTCHNOP_init_control`.
    "evtchn_init_control" 24
    pub struct EvtchnInitControl {
        /// The frame of the control block.
        control_gfn: Gfn = 0,
        /// Its place in it.
        offset: u32 = 8,
        /// Whose it becomes.
        vcpu: VcpuId = 12,
        /// Bits of a link (out).
        link_bits: u8 = 16,
        /// Zero.
        _pad: [u8; 7] = 17,
    }

    /// The argument of `EVTCHNOP_expand_array`.
    "evtchn_expand_array" 8
    pub struct EvtchnExpandArray {
        /// The frame of the next page of event words.
        array_gfn: Gfn = 0,
    }

    /// The argument of `EVTCHNOP_set_priority`.
    "evtchn_set_priority" 8
    pub struct EvtchnSetPriority {
        /// Which.
        port: Port = 0,
        /// Its queue.
        priority: u32 = 4,
    }

    /// A call of the interface before 3.2, where the subop lay in memory (PV
    /// guests only).
    "evtchn_op" 28
    pub struct EvtchnOp {
        /// The subop.
        cmd: u32 = 0,
        /// Its argument.
        u: [u32; 6] = 4,
    }

    /// A vCPU's queues.
    "evtchn_fifo_control_block" 72
    pub struct EvtchnFifoControlBlock {
        /// A bit for each queue that has events.
        ready: u32 = 0,
        /// Zero.
        _rsvd: u32 = 4,
        /// The first port of each queue.
        head: [u32; 16] = 8,
    }
}
