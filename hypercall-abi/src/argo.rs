//! Messages that Xen copies between domains: `xen/include/public/argo.h`.
//!
//! No memory is shared with the peer: Xen writes each message, behind a header,
//! into a ring that the receiver registered.

use zerocopy::IntoBytes;

use crate::{DomId, Errno, Gfn, HypercallNr, platform::Hypercall};

crate::facts::flags! {
    /// How to register.
    pub struct ArgoRegisterFlags: u32 {
        /// Refuse if there is such a ring already.
        FAIL_EXIST = 1 << 0, "XEN_ARGO_REGISTER_FLAG_FAIL_EXIST";
    }
}

crate::facts::flags! {
    /// [`ArgoRingDataEnt::flags`].
    pub struct ArgoRingFlags: u16 {
        /// There is such a ring.
        EXISTS = 1 << 0, "XEN_ARGO_RING_EXISTS";
        /// Others may send to it too.
        SHARED = 1 << 1, "XEN_ARGO_RING_SHARED";
        /// It is empty.
        EMPTY = 1 << 2, "XEN_ARGO_RING_EMPTY";
        /// It has the room that was asked for.
        SUFFICIENT = 1 << 3, "XEN_ARGO_RING_SUFFICIENT";
        /// It never will have.
        EMSGSIZE = 1 << 4, "XEN_ARGO_RING_EMSGSIZE";
        /// Too many wait for it.
        EBUSY = 1 << 5, "XEN_ARGO_RING_EBUSY";
    }
}

crate::facts::constants! {
    /// Register a ring.
    XEN_ARGO_OP_REGISTER_RING: usize = 1, "XEN_ARGO_OP_register_ring";
    /// Remove it.
    XEN_ARGO_OP_UNREGISTER_RING: usize = 2, "XEN_ARGO_OP_unregister_ring";
    /// Send a message.
    XEN_ARGO_OP_SENDV: usize = 3, "XEN_ARGO_OP_sendv";
    /// Ask which rings have room.
    XEN_ARGO_OP_NOTIFY: usize = 4, "XEN_ARGO_OP_notify";
    /// Any domain.
    XEN_ARGO_DOMID_ANY: DomId = DomId(32_756);
    /// Pieces of a message, at most.
    XEN_ARGO_MAXIOV: usize = 8;
    /// What a message's place in the ring is a multiple of.
    XEN_ARGO_MSG_SLOT_SIZE: usize = 16;
    /// Bytes of a ring, at most.
    XEN_ARGO_MAX_RING_SIZE: u32 = 0x100_0000;
}

crate::facts::structs! {
    /// One end: a domain, and a port of Argo's.
    "xen_argo_addr" 8
    pub struct ArgoAddr {
        /// The port.
        aport: u32 = 0,
        /// The domain.
        domain_id: DomId = 4,
        /// Zero.
        pad: u16 = 6,
    }

    /// From where to where.
    "xen_argo_send_addr" 16
    pub struct ArgoSendAddr {
        /// From.
        src: ArgoAddr = 0,
        /// To.
        dst: ArgoAddr = 8,
    }

    /// A piece of a message.
    "xen_argo_iov" 16
    pub struct ArgoIov {
        /// Its address.
        iov_hnd: u64 = 0,
        /// Its bytes.
        iov_len: u32 = 8,
        /// Zero.
        pad: u32 = 12,
    }

    /// The head of a ring; its bytes follow.
    "xen_argo_ring" 64
    pub struct ArgoRing {
        /// Read up to here, by the receiver.
        rx_ptr: u32 = 0,
        /// Written up to here, by Xen.
        tx_ptr: u32 = 4,
        /// Zero.
        reserved: [u8; 56] = 8,
    }

    /// The argument of `XEN_ARGO_OP_register_ring`.
    "xen_argo_register_ring" 12
    pub struct ArgoRegisterRing {
        /// The port.
        aport: u32 = 0,
        /// Who may send.
        partner_id: DomId = 4,
        /// Zero.
        pad: u16 = 6,
        /// Bytes of the ring.
        len: u32 = 8,
    }

    /// The argument of `XEN_ARGO_OP_unregister_ring`.
    "xen_argo_unregister_ring" 8
    pub struct ArgoUnregisterRing {
        /// The port.
        aport: u32 = 0,
        /// Who might send.
        partner_id: DomId = 4,
        /// Zero.
        pad: u16 = 6,
    }

    /// What is asked about a ring.
    "xen_argo_ring_data_ent" 20
    pub struct ArgoRingDataEnt {
        /// Which.
        ring: ArgoAddr = 0,
        /// [`ArgoRingFlags`] (out).
        flags: u16 = 8,
        /// Zero.
        pad: u16 = 10,
        /// Bytes wanted (in).
        space_required: u32 = 12,
        /// The greatest message (out).
        max_message_size: u32 = 16,
    }

    /// The head of the argument of `XEN_ARGO_OP_notify`; entries follow.
    "xen_argo_ring_data" 8
    pub struct ArgoRingData {
        /// How many follow.
        nent: u32 = 0,
        /// Zero.
        pad: u32 = 4,
    }

    /// The head of a message in a ring.
    "xen_argo_ring_message_header" 16
    pub struct ArgoRingMessageHeader {
        /// Its bytes, with this head.
        len: u32 = 0,
        /// Who sent it.
        source: ArgoAddr = 4,
        /// Its type.
        message_type: u32 = 12,
    }
}

const NR: HypercallNr = HypercallNr::ARGO_OP;

/// Registers a ring, whose pages are `frames`. Any guest may, where Argo is
/// switched on.
///
/// # Errors
/// `EINVAL`: the length is not a multiple of the slot's or does not fit the
/// pages; `EEXIST`: there is such a ring; `ENOSYS`, `EOPNOTSUPP`: not offered.
///
/// # Safety
/// The frames are this domain's, and Xen writes them at any time: no Rust
/// reference leads there.
#[inline]
pub unsafe fn register_ring<H: Hypercall + ?Sized>(
    h: &H,
    ring: &mut ArgoRegisterRing,
    frames: &[Gfn],
    flags: ArgoRegisterFlags,
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads `ring` and the list; the rest is the
    // caller's promise.
    let answer = unsafe {
        h.call5(
            NR,
            XEN_ARGO_OP_REGISTER_RING,
            (&raw mut *ring).expose_provenance(),
            frames.as_ptr().expose_provenance(),
            frames.len(),
            flags.bits() as usize,
        )
    };
    Errno::check(answer).map(|_| ())
}

/// Removes a ring. Any guest may.
///
/// # Errors
/// `ENOENT`: there is no such ring; `ENOSYS`, `EOPNOTSUPP`: not offered.
#[inline]
pub fn unregister_ring<H: Hypercall + ?Sized>(
    h: &H,
    ring: &mut ArgoUnregisterRing,
) -> Result<(), Errno> {
    // SAFETY: the hypervisor reads `ring`, which outlives the call.
    let answer = unsafe {
        h.call5(
            NR,
            XEN_ARGO_OP_UNREGISTER_RING,
            (&raw mut *ring).expose_provenance(),
            0,
            0,
            0,
        )
    };
    Errno::check(answer).map(|_| ())
}

/// Sends a message of up to eight pieces; returns how many bytes were sent. Any
/// guest may.
///
/// # Errors
/// `EAGAIN`: there is no room now ([`Virq::ARGO`](crate::xen::Virq::ARGO) comes
/// when there is); `EMSGSIZE`: there never will be; `ECONNREFUSED`: nobody
/// receives; `EINVAL`: too many pieces; `ENOSYS`, `EOPNOTSUPP`: not offered.
///
/// # Safety
/// The pieces are readable memory of this guest's.
#[inline]
pub unsafe fn sendv<H: Hypercall + ?Sized>(
    h: &H,
    address: &mut ArgoSendAddr,
    pieces: &[ArgoIov],
    message_type: u32,
) -> Result<usize, Errno> {
    // SAFETY: the hypervisor reads `address`, the list and the pieces: the
    // caller's promise.
    let answer = unsafe {
        h.call5(
            NR,
            XEN_ARGO_OP_SENDV,
            (&raw mut *address).expose_provenance(),
            pieces.as_ptr().expose_provenance(),
            pieces.len(),
            message_type as usize,
        )
    };
    Errno::check(answer)
}

/// Asks whether a ring has room; if not, [`Virq::ARGO`](crate::xen::Virq::ARGO)
/// comes when it has. Any guest may.
///
/// # Errors
/// `ENOSYS`, `EOPNOTSUPP`: not offered.
#[inline]
pub fn notify<H: Hypercall + ?Sized>(h: &H, question: &mut ArgoRingDataEnt) -> Result<(), Errno> {
    // struct xen_argo_ring_data with one entry: 28 bytes.
    let mut arg = [0_u8; size_of::<ArgoRingData>() + size_of::<ArgoRingDataEnt>()];
    let head = ArgoRingData { nent: 1, pad: 0 };
    let (start, entry) = arg.split_at_mut(size_of::<ArgoRingData>());
    start.copy_from_slice(head.as_bytes());
    entry.copy_from_slice(question.as_bytes());
    // SAFETY: the hypervisor reads and writes `arg`, which outlives the call.
    let answer = unsafe {
        h.call5(
            NR,
            XEN_ARGO_OP_NOTIFY,
            (&raw mut arg).expose_provenance(),
            0,
            0,
            0,
        )
    };
    let done = Errno::check(answer).map(|_| ());
    question
        .as_mut_bytes()
        .copy_from_slice(arg.split_at(size_of::<ArgoRingData>()).1);
    done
}
