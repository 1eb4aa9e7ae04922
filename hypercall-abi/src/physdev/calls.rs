//! Calls about interrupts.

use super::*;
use crate::{DomId, Errno, Gfn, HypercallNr, call::subop, platform::Hypercall};

const NR: HypercallNr = HypercallNr::PHYSDEV_OP;

/// Which bitmap of interrupts [`set_pirq_eoi_gfn`] sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EoiBitmap {
    /// Xen unmasks a port by itself when its interrupt is acknowledged.
    UnmaskingItself,
    /// The guest unmasks it.
    UnmaskedByGuest,
}

/// Acknowledges a physical interrupt. PV guests, and HVM guests with
/// interrupts of their own.
///
/// # Errors
/// `EINVAL`: no such interrupt; `ENOSYS`: not for this guest.
#[inline]
pub fn eoi<H: Hypercall + ?Sized>(h: &H, irq: u32) -> Result<(), Errno> {
    let mut arg = PhysdevEoi { irq };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, NR, PHYSDEVOP_EOI, &mut arg) }.map(|_| ())
}

/// Gives Xen a page in which it tells the interrupts that must be
/// acknowledged. PV guests only.
///
/// # Errors
/// `EBUSY`: there is one; `EINVAL`: not this domain's frame; `ENOSYS`: not a PV
/// guest.
///
/// # Safety
/// Xen writes the page at any time: no Rust reference leads there.
#[inline]
pub unsafe fn set_pirq_eoi_gfn<H: Hypercall + ?Sized>(
    h: &H,
    gfn: Gfn,
    bitmap: EoiBitmap,
) -> Result<(), Errno> {
    let mut arg = PhysdevPirqEoiGmfn { gmfn: gfn };
    let op = match bitmap {
        EoiBitmap::UnmaskingItself => PHYSDEVOP_PIRQ_EOI_GMFN_V1,
        EoiBitmap::UnmaskedByGuest => PHYSDEVOP_PIRQ_EOI_GMFN_V2,
    };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { subop(h, NR, op, &mut arg) }.map(|_| ())
}

/// Asks whether an interrupt must be acknowledged. PV guests, and HVM guests
/// with interrupts of their own.
///
/// # Errors
/// `EINVAL`: no such interrupt; `ENOSYS`: not for this guest.
#[inline]
pub fn irq_status_query<H: Hypercall + ?Sized>(h: &H, irq: u32) -> Result<IrqStatus, Errno> {
    let mut arg = PhysdevIrqStatusQuery { irq, flags: 0 };
    // SAFETY: the hypervisor reads and writes `arg`, which outlives the call.
    unsafe { subop(h, NR, PHYSDEVOP_IRQ_STATUS_QUERY, &mut arg) }
        .map(|_| IrqStatus::from_bits_retain(arg.flags))
}

/// Sets the I/O privilege level, 0 to 3. PV guests only.
///
/// # Errors
/// `EINVAL`: no such level; `ENOSYS`: not a PV guest.
///
/// # Safety
/// Code that runs at this level may use all I/O ports of the domain: user mode too, at
/// level 3. A device that it reaches so breaks no reference that Rust code holds.
#[inline]
pub unsafe fn set_iopl<H: Hypercall + ?Sized>(h: &H, iopl: u32) -> Result<(), Errno> {
    let mut arg = PhysdevSetIopl { iopl };
    // SAFETY: the hypervisor reads `arg`, which outlives the call; the rest is the caller's
    // promise.
    unsafe { subop(h, NR, PHYSDEVOP_SET_IOPL, &mut arg) }.map(|_| ())
}

/// Sets the bitmap of I/O ports that user mode may not use. PV guests only.
///
/// # Errors
/// `EINVAL`: more than 65536 ports; `ENOSYS`: not a PV guest.
///
/// # Safety
/// Xen reads the bitmap at this address from now on: it stays mapped.
#[inline]
pub unsafe fn set_iobitmap<H: Hypercall + ?Sized>(
    h: &H,
    bitmap: u64,
    nr_ports: u32,
) -> Result<(), Errno> {
    let mut arg = PhysdevSetIobitmap {
        bitmap,
        nr_ports,
        ..PhysdevSetIobitmap::default()
    };
    // SAFETY: the hypervisor reads `arg`; the rest is this function's contract.
    unsafe { subop(h, NR, PHYSDEVOP_SET_IOBITMAP, &mut arg) }.map(|_| ())
}

/// Maps a physical interrupt of a device that this domain was given; its number
/// is in `map` then. PV guests, and HVM guests with [`XenFeatures::HVM_PIRQS`].
///
/// # Errors
/// `EPERM`: not given; `EINVAL`: no such interrupt; `ENOSYS`: not for this
/// guest.
///
/// [`XenFeatures::HVM_PIRQS`]: crate::features::XenFeatures::HVM_PIRQS
#[inline]
pub fn map_pirq<H: Hypercall + ?Sized>(h: &H, map: &mut PhysdevMapPirq) -> Result<i32, Errno> {
    // SAFETY: the hypervisor reads and writes `map`, which outlives the call.
    unsafe { subop(h, NR, PHYSDEVOP_MAP_PIRQ, map) }.map(|_| map.pirq)
}

/// Unmaps it. PV guests, and HVM guests with interrupts of their own.
///
/// # Errors
/// `EINVAL`: no such interrupt; `ENOSYS`: not for this guest.
#[inline]
pub fn unmap_pirq<H: Hypercall + ?Sized>(h: &H, pirq: i32) -> Result<(), Errno> {
    let mut arg = PhysdevUnmapPirq {
        domid: DomId::SELF,
        pirq,
        ..PhysdevUnmapPirq::default()
    };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, NR, PHYSDEVOP_UNMAP_PIRQ, &mut arg) }.map(|_| ())
}

/// Finds a free number for an interrupt of this kind (`MAP_PIRQ_TYPE_*`). PV
/// guests, and HVM guests with interrupts of their own.
///
/// # Errors
/// `ENOSPC`: there is none; `ENOSYS`: not for this guest.
#[inline]
pub fn get_free_pirq<H: Hypercall + ?Sized>(h: &H, kind: i32) -> Result<u32, Errno> {
    let mut arg = PhysdevGetFreePirq {
        r#type: kind,
        pirq: 0,
    };
    // SAFETY: the hypervisor reads and writes `arg`, which outlives the call.
    unsafe { subop(h, NR, PHYSDEVOP_GET_FREE_PIRQ, &mut arg) }.map(|_| arg.pirq)
}
