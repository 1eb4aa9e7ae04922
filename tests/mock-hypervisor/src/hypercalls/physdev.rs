//! Calls about devices: what an ordinary guest is told.

use hypercall_abi::{Errno, physdev::*};
use zerocopy::IntoBytes;

use super::{Call, read};
use crate::core::memory::GuestMemory;

/// Interrupts that a domain could have.
const PIRQS: u32 = 256;
/// Behind those that a processor of old would have.
const FREE_PIRQ: u32 = 16;
const MAX_PORTS: u32 = 65_536;

impl Call<'_> {
    pub(super) fn physdev_op(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
    ) -> Result<usize, Errno> {
        match op {
            // A PVH guest has none of its own.
            PHYSDEVOP_EOI
            | PHYSDEVOP_IRQ_STATUS_QUERY
            | PHYSDEVOP_SET_IOPL
            | PHYSDEVOP_SET_IOBITMAP
            | PHYSDEVOP_PIRQ_EOI_GMFN_V1
            | PHYSDEVOP_PIRQ_EOI_GMFN_V2
            | PHYSDEVOP_GET_FREE_PIRQ
                if self.state().is_pvh() =>
            {
                Err(Errno::ENOSYS)
            }
            PHYSDEVOP_EOI => {
                let eoi: PhysdevEoi = read(memory, arg)?;
                exists(eoi.irq)
            }
            PHYSDEVOP_IRQ_STATUS_QUERY => {
                let mut query: PhysdevIrqStatusQuery = read(memory, arg)?;
                exists(query.irq)?;
                query.flags = 0;
                memory.copy_out(arg, query.as_bytes()).map(|()| 0)
            }
            PHYSDEVOP_SET_IOPL => {
                let level: PhysdevSetIopl = read(memory, arg)?;
                self.set_iopl(level.iopl)
            }
            PHYSDEVOP_SET_IOBITMAP => {
                let bitmap: PhysdevSetIobitmap = read(memory, arg)?;
                if bitmap.nr_ports > MAX_PORTS {
                    return Err(Errno::EINVAL);
                }
                Ok(0)
            }
            PHYSDEVOP_PIRQ_EOI_GMFN_V1 | PHYSDEVOP_PIRQ_EOI_GMFN_V2 => {
                let page: PhysdevPirqEoiGmfn = read(memory, arg)?;
                let ram = self.state().memory.ram_index(page.gmfn);
                ram.map(|_| 0).ok_or(Errno::EINVAL)
            }
            PHYSDEVOP_MAP_PIRQ | PHYSDEVOP_UNMAP_PIRQ
                if self.state().is_pvh() && !self.state().profile.maps_pirqs_of_pvh() =>
            {
                Err(Errno::ENOSYS)
            }
            // No device was given to it.
            PHYSDEVOP_MAP_PIRQ => read::<PhysdevMapPirq>(memory, arg).and(Err(Errno::EPERM)),
            PHYSDEVOP_UNMAP_PIRQ => {
                let unmap: PhysdevUnmapPirq = read(memory, arg)?;
                self.own(unmap.domid)?;
                Err(Errno::EPERM)
            }
            // One is free: what it would be bound to is another matter.
            PHYSDEVOP_GET_FREE_PIRQ => {
                let mut free: PhysdevGetFreePirq = read(memory, arg)?;
                free.pirq = FREE_PIRQ;
                memory.copy_out(arg, free.as_bytes()).map(|()| 0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }
}

const fn exists(pirq: u32) -> Result<usize, Errno> {
    if pirq < PIRQS {
        Ok(0)
    } else {
        Err(Errno::EINVAL)
    }
}
