//! `memory_op`: what the domain has, and how it gives some back.

use hypercall_abi::{Errno, Gfn, memory::*, xen::traps::MACH2PHYS_VIRT_START};
use zerocopy::IntoBytes;

use super::{Call, read};
use crate::core::memory::GuestMemory;

/// Frames of the machine: more than any domain has.
const MAX_MFN: u64 = 1 << 32;
/// The machine frame that the machine's own table would begin with.
const M2P_MFN: u64 = 0x8_0000;

/// Shown to toolstacks only by the headers; Xen answers any guest.
const XENMEM_RESERVED_DEVICE_MEMORY_MAP: usize = 27;

impl Call<'_> {
    pub(super) fn memory_op(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
    ) -> Result<usize, Errno> {
        match op {
            XENMEM_CURRENT_RESERVATION => {
                self.own(read(memory, arg)?)?;
                Ok(self.state().memory.reservation())
            }
            XENMEM_MAXIMUM_RESERVATION => {
                self.own(read(memory, arg)?)?;
                Ok(self.state().memory.nr_pages())
            }
            XENMEM_MAXIMUM_GPFN => {
                self.own(read(memory, arg)?)?;
                Ok(self.state().memory.nr_pages().saturating_sub(1))
            }
            XENMEM_MAXIMUM_RAM_PAGE => {
                let told = self.state().memory.machine_to_physical();
                Ok(told.map_or(MAX_MFN, |(_, len)| len - 1) as usize)
            }
            XENMEM_POPULATE_PHYSMAP if self.state().is_pvh() => {
                let list = self.reservation(memory, arg)?;
                self.populate(memory, &list)
            }
            XENMEM_INCREASE_RESERVATION | XENMEM_POPULATE_PHYSMAP => self.increase(memory, arg),
            XENMEM_DECREASE_RESERVATION => self.decrease(memory, arg),
            XENMEM_EXCHANGE => self.exchange(memory, arg),
            XENMEM_MACHPHYS_MAPPING if self.state().is_pvh() => Err(Errno::ENOSYS),
            // Of no guest whose words have 64 bits.
            XENMEM_MACHPHYS_COMPAT_MFN_LIST => Err(Errno::EOPNOTSUPP),
            XENMEM_MACHPHYS_MFN_LIST => {
                let mut list: MachphysMfnList = read(memory, arg)?;
                list.nr_extents = list.max_extents.min(1);
                if list.nr_extents == 1 {
                    memory.copy_out(list.extent_start as usize, M2P_MFN.as_bytes())?;
                }
                memory.copy_out(arg, list.as_bytes()).map(|()| 0)
            }
            XENMEM_MACHPHYS_MAPPING => {
                let told = self.state().memory.machine_to_physical();
                let (v_start, len) = told.unwrap_or((MACH2PHYS_VIRT_START, MAX_MFN + 1));
                let mapping = MachphysMapping {
                    v_start,
                    v_end: v_start + len * 8,
                    max_mfn: len - 1,
                };
                memory.copy_out(arg, mapping.as_bytes()).map(|()| 0)
            }
            // A PV guest has no map that could be changed so.
            XENMEM_ADD_TO_PHYSMAP => {
                let to: AddToPhysmap = read(memory, arg)?;
                self.own(to.domid)?;
                if self.state().is_pvh() {
                    if to.space == MapSpace::GRANT_TABLE {
                        self.state().grow_grants(to.idx as usize);
                    }
                    return self.add_to_physmap(to.space, to.idx, to.gpfn);
                }
                Err(Errno::EACCES)
            }
            XENMEM_ADD_TO_PHYSMAP_BATCH => {
                let to: AddToPhysmapBatch = read(memory, arg)?;
                self.own(to.domid)?;
                if self.state().is_pvh() {
                    return self.add_batch(memory, &to);
                }
                Err(Errno::EACCES)
            }
            XENMEM_REMOVE_FROM_PHYSMAP => {
                let from: RemoveFromPhysmap = read(memory, arg)?;
                self.own(from.domid)?;
                if self.state().is_pvh() {
                    return self.remove_from_physmap(from.gpfn);
                }
                Err(Errno::EACCES)
            }
            XENMEM_GET_VNUMAINFO => {
                let info: VnumaTopologyInfo = read(memory, arg)?;
                self.own(info.domid)?;
                Err(Errno::EOPNOTSUPP)
            }
            XENMEM_MEMORY_MAP => self.memory_map(memory, arg),
            // Of no device.
            XENMEM_RESERVED_DEVICE_MEMORY_MAP => {
                let [flags, _room]: [u32; 2] = read(memory, arg)?;
                if flags > 1 {
                    return Err(Errno::EINVAL);
                }
                memory.copy_out(arg, [flags, 0].as_bytes()).map(|()| 0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn reservation(
        &mut self,
        memory: &impl GuestMemory,
        arg: usize,
    ) -> Result<MemoryReservation, Errno> {
        let reservation: MemoryReservation = read(memory, arg)?;
        self.own(reservation.domid)?;
        Ok(reservation)
    }

    /// Gives out frames that were given back: as many as there are.
    fn increase(&mut self, memory: &impl GuestMemory, arg: usize) -> Result<usize, Errno> {
        let list = self.reservation(memory, arg)?;
        for index in 0..list.nr_extents as usize {
            // Frames in a row are not to be had from what was given back.
            let single = list.extent_order == 0;
            let Some(gfn) = single.then(|| self.state().memory.get_back()).flatten() else {
                return Ok(index);
            };
            if list.extent_start != 0 {
                let at = (list.extent_start as usize).wrapping_add(index * 8);
                memory.copy_out(at, gfn.as_bytes())?;
            }
        }
        Ok(list.nr_extents as usize)
    }

    fn decrease(&mut self, memory: &impl GuestMemory, arg: usize) -> Result<usize, Errno> {
        let list = self.reservation(memory, arg)?;
        for index in 0..list.nr_extents as usize {
            let at = (list.extent_start as usize).wrapping_add(index * 8);
            let Ok(first) = read::<u64>(memory, at) else {
                return Ok(index);
            };
            for page in 0..1_u64 << list.extent_order.min(9) {
                let gfn = Gfn(first.wrapping_add(page));
                let state = self.state();
                if !state.memory.give_back(gfn) {
                    return Ok(index);
                }
                // Where a PVH guest had it, there is nothing now.
                if state.is_pvh()
                    && let Some(at) = state.memory.ram_index(gfn)
                {
                    let _shown = state.memory.show(at, None);
                }
            }
        }
        Ok(list.nr_extents as usize)
    }

    /// Other frames for some: of the same number and size.
    fn exchange(&mut self, memory: &impl GuestMemory, arg: usize) -> Result<usize, Errno> {
        let mut exchange: MemoryExchange = read(memory, arg)?;
        let (given, wanted) = (exchange.r#in, exchange.out);
        let pages = |list: &MemoryReservation| {
            list.nr_extents
                .checked_shl(list.extent_order)
                .filter(|pages| pages >> list.extent_order == list.nr_extents)
        };
        if given.domid != wanted.domid
            || exchange.nr_exchanged > given.nr_extents
            || pages(&given).is_none()
            || pages(&given) != pages(&wanted)
        {
            return Err(Errno::EINVAL);
        }
        if given.nr_extents == 0 {
            return Ok(0);
        }
        self.own(given.domid)?;
        if given.extent_order != wanted.extent_order {
            return Err(Errno::ENOMEM);
        }
        for index in exchange.nr_exchanged..given.nr_extents {
            let at = |list: &MemoryReservation| {
                (list.extent_start as usize).wrapping_add(index as usize * 8)
            };
            let old: u64 = read(memory, at(&given))?;
            let state = self.state();
            let whole = given.extent_order == 0 && state.memory.give_back(Gfn(old));
            let new = whole.then(|| state.memory.get_back()).flatten();
            // Whoever still maps it keeps it.
            let new = new.ok_or(Errno::EINVAL)?;
            memory.copy_out(at(&wanted), new.as_bytes())?;
            exchange.nr_exchanged = index + 1;
        }
        memory.copy_out(arg, exchange.as_bytes()).map(|()| 0)
    }
}
