//! `hvm_op`, and what a PVH guest does with its physical memory.

use hypercall_abi::{Errno, Gfn, PAGE_SIZE, hvm::*, memory::*};
use zerocopy::{FromBytes, IntoBytes};

use super::{Call, read};
use crate::core::{
    config::DomainType,
    domain_state::memory_ranges,
    memory::{Access, GuestMemory},
    vcpu_state::Entry,
};

/// Bytes that come with a record.
const MAX_TRACED: u16 = 28;
/// The first vector that is no exception's.
const FIRST_VECTOR: u32 = 16;

/// What a guest may read.
const READABLE: [HvmParam; 8] = [
    HvmParam::CALLBACK_IRQ,
    HvmParam::STORE_PFN,
    HvmParam::STORE_EVTCHN,
    HvmParam::CONSOLE_PFN,
    HvmParam::CONSOLE_EVTCHN,
    HvmParam::VM86_TSS,
    HvmParam::VM86_TSS_SIZED,
    HvmParam::ALTP2M,
];
/// And set.
const WRITABLE: [HvmParam; 5] = [
    HvmParam::CALLBACK_IRQ,
    HvmParam::STORE_EVTCHN,
    HvmParam::CONSOLE_EVTCHN,
    HvmParam::VM86_TSS,
    HvmParam::VM86_TSS_SIZED,
];

impl Call<'_> {
    /// That it is a PVH guest.
    fn pvh(&mut self) -> Result<(), Errno> {
        match self.state().domain_type {
            DomainType::Pvh => Ok(()),
            DomainType::Pv => Err(Errno::EINVAL),
        }
    }

    pub(super) fn hvm_op(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
    ) -> Result<usize, Errno> {
        match op {
            HVMOP_SET_PARAM | HVMOP_GET_PARAM => {
                let mut param: XenHvmParam = read(memory, arg)?;
                if param.index.0 >= HVM_NR_PARAMS {
                    return Err(Errno::EINVAL);
                }
                self.own(param.domid)?;
                self.pvh()?;
                if op == HVMOP_SET_PARAM {
                    if !WRITABLE.contains(&param.index) {
                        return Err(Errno::EPERM);
                    }
                    self.state().params.insert(param.index.0, param.value);
                    return Ok(0);
                }
                if !READABLE.contains(&param.index) {
                    return Err(Errno::EPERM);
                }
                let value = self.state().params.get(&param.index.0).copied();
                param.value = value.unwrap_or(0);
                memory.copy_out(arg, param.as_bytes()).map(|()| 0)
            }
            HVMOP_GET_TIME => {
                let now = self.core.read_time_ns((self.domid, self.vcpu));
                let time = HvmGetTime { now };
                memory.copy_out(arg, time.as_bytes()).map(|()| 0)
            }
            HVMOP_XENTRACE => {
                let record: HvmXentrace = read(memory, arg)?;
                if record.extra_bytes > MAX_TRACED {
                    return Err(Errno::EINVAL);
                }
                Ok(0)
            }
            // Nobody listens.
            HVMOP_GUEST_REQUEST_VM_EVENT => Ok(0),
            HVMOP_ALTP2M => Err(Errno::EOPNOTSUPP),
            HVMOP_SET_EVTCHN_UPCALL_VECTOR
            | HVMOP_FLUSH_TLBS
            | HVMOP_GET_MEM_TYPE
            | HVMOP_PAGETABLE_DYING
                if !self.state().is_pvh() =>
            {
                Err(Errno::EINVAL)
            }
            HVMOP_SET_EVTCHN_UPCALL_VECTOR => {
                let set: HvmEvtchnUpcallVector = read(memory, arg)?;
                self.has_vcpu(set.vcpu)?;
                if u32::from(set.vector) < FIRST_VECTOR {
                    return Err(Errno::EINVAL);
                }
                Ok(0)
            }
            HVMOP_FLUSH_TLBS if arg == 0 => Ok(0),
            HVMOP_GET_MEM_TYPE => {
                let mut get: HvmGetMemType = read(memory, arg)?;
                self.own(get.domid)?;
                let is_ram = self.state().memory.ram_index(get.pfn).is_some();
                let kind = if is_ram {
                    MemType::RAM_RW
                } else {
                    MemType::MMIO_DM
                };
                get.mem_type = kind;
                memory.copy_out(arg, get.as_bytes()).map(|()| 0)
            }
            HVMOP_PAGETABLE_DYING => Err(Errno::EINVAL),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// `XENMEM_add_to_physmap`: the hypervisor's pages appear where the guest has
    /// one.
    pub(super) fn add_to_physmap(
        &mut self,
        space: MapSpace,
        idx: u64,
        gfn: Gfn,
    ) -> Result<usize, Errno> {
        let state = self.state();
        let page = state.page_of_space(space, idx)?;
        let at = state.memory.ram_index(gfn).ok_or(Errno::EINVAL)?;
        let before = state.memory.added.insert(page, at);
        if before != Some(at) {
            // What was there is given up.
            let _was_there = state.memory.give_back(gfn);
        }
        if let Some(before) = before.filter(|before| *before != at) {
            // It is at one place, and leaves a hole where it was.
            let _hidden = state.memory.show(before, None);
        }
        let shown = state.memory.show(at, Some((page, Access::Write)));
        shown.map(|()| 0).ok_or(Errno::ENOMEM)
    }

    pub(super) fn add_batch(
        &mut self,
        memory: &impl GuestMemory,
        batch: &AddToPhysmapBatch,
    ) -> Result<usize, Errno> {
        for index in 0..usize::from(batch.size) {
            let idx: u64 = read(memory, (batch.idxs as usize).wrapping_add(index * 8))?;
            let gfn: u64 = read(memory, (batch.gpfns as usize).wrapping_add(index * 8))?;
            let added = self.add_to_physmap(MapSpace(u32::from(batch.space)), idx, Gfn(gfn));
            let told = added.map_or_else(|errno| errno.to_answer() as i32, |_| 0);
            let at = (batch.errs as usize).wrapping_add(index * 4);
            memory.copy_out(at, told.as_bytes())?;
        }
        Ok(0)
    }

    pub(super) fn remove_from_physmap(&mut self, gfn: Gfn) -> Result<usize, Errno> {
        let state = self.state();
        let at = state.memory.ram_index(gfn).ok_or(Errno::ENOENT)?;
        let _was_there = state.memory.give_back(gfn);
        state.memory.added.retain(|_, place| *place != at);
        let shown = state.memory.show(at, None);
        shown.map(|()| 0).ok_or(Errno::ENOENT)
    }

    /// `XENMEM_populate_physmap`, of a guest whose memory is where it says.
    pub(super) fn populate(
        &mut self,
        memory: &impl GuestMemory,
        list: &MemoryReservation,
    ) -> Result<usize, Errno> {
        for index in 0..list.nr_extents as usize {
            let at = (list.extent_start as usize).wrapping_add(index * 8);
            let gfn: u64 = read(memory, at)?;
            let state = self.state();
            let page = state.memory.ram_index(Gfn(gfn));
            let Some(page) = page.filter(|_| list.extent_order == 0) else {
                return Ok(index);
            };
            let got = state.memory.get_back_at(page);
            if !got
                || state
                    .memory
                    .show(page, Some((page, Access::Write)))
                    .is_none()
            {
                return Ok(index);
            }
        }
        Ok(list.nr_extents as usize)
    }

    /// `XENMEM_memory_map`.
    pub(super) fn memory_map(
        &mut self,
        memory: &impl GuestMemory,
        arg: usize,
    ) -> Result<usize, Errno> {
        let mut map: XenMemoryMap = read(memory, arg)?;
        let nr_pages = self.state().memory.nr_pages();
        // A PV guest's memory begins at zero, in one piece.
        let whole = HvmMemmapTableEntry {
            size: (nr_pages * PAGE_SIZE) as u64,
            r#type: XEN_HVM_MEMMAP_TYPE_RAM,
            ..HvmMemmapTableEntry::default()
        };
        let ranges = match self.state().domain_type {
            DomainType::Pvh => memory_ranges(nr_pages).to_vec(),
            DomainType::Pv => vec![whole],
        };
        let count = ranges.len().min(map.nr_entries as usize);
        for (index, range) in ranges.iter().take(count).enumerate() {
            let entry = MemoryMapEntry {
                addr: range.addr,
                size: range.size,
                r#type: range.r#type,
            };
            let at = (map.buffer as usize).wrapping_add(index * size_of::<MemoryMapEntry>());
            memory.copy_out(at, entry.as_bytes())?;
        }
        map.nr_entries = count as u32;
        memory.copy_out(arg, map.as_bytes()).map(|()| 0)
    }
}

/// The registers of a PVH guest's vCPU that is to start: where, and with what.
pub(super) fn start_of(context: &VcpuHvmContext) -> Result<Entry, Errno> {
    if context.mode != VCPU_HVM_MODE_64B {
        return Err(Errno::EINVAL);
    }
    let bytes = context.cpu_regs.as_bytes();
    let registers = VcpuHvmX8664::read_from_prefix(bytes).map_err(|_| Errno::EINVAL)?;
    Ok(Entry::Code {
        code: registers.0.rip,
        argument: registers.0.rdi,
    })
}
