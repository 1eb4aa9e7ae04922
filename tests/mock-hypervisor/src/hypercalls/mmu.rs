//! Page tables: `mmu_update`, `mmuext_op`, `update_va_mapping`. The guest's own
//! addresses are those of its memory's pages: what is mapped there is changed for
//! good, in this process.

use hypercall_abi::{
    DomId, Errno, Gfn, Mfn, PAGE_SIZE,
    xen::mmu::{
        MMU_MACHPHYS_UPDATE, MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_NO_TRANSLATE,
        MMU_PT_UPDATE_PRESERVE_AD, MmuUpdate, MmuextCmd, MmuextOp,
    },
};
use zerocopy::{FromBytes, IntoBytes};

use super::{Call, read};
use crate::core::memory::{
    GuestMemory,
    frame_types::{ACCESSED_DIRTY, Kind, PRESENT},
};

/// The low bits of an update's address say what is to be done.
const COMMAND: u64 = 3;
/// The most entries of a local descriptor table.
const MAX_DESCRIPTORS: u64 = 8192;

impl Call<'_> {
    /// A list of operations, up to the first that is refused; how many were done
    /// is told where the guest wants it.
    fn until_refused<T: FromBytes + IntoBytes>(
        &mut self,
        memory: &impl GuestMemory,
        [list, count, done_at, foreign]: [usize; 4],
        operation: impl Fn(&mut Self, T) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        self.own(DomId(foreign as u16))?;
        let mut answer = Ok(0);
        let mut done = 0_u32;
        for index in 0..count {
            let at = list.wrapping_add(index * size_of::<T>());
            match read(memory, at).and_then(|one| operation(self, one)) {
                Ok(()) => done += 1,
                Err(errno) => {
                    answer = Err(errno);
                    break;
                }
            }
        }
        if done_at != 0 {
            // Xen does not look whether the guest gets it.
            let _unmapped = memory.copy_out(done_at, done.as_bytes());
        }
        answer
    }

    pub(super) fn mmu_update(
        &mut self,
        memory: &impl GuestMemory,
        args: [usize; 4],
    ) -> Result<usize, Errno> {
        self.until_refused(memory, args, Self::update_entry)
    }

    fn update_entry(&mut self, update: MmuUpdate) -> Result<(), Errno> {
        let state = self.state();
        let memory = &mut state.memory;
        let command = update.ptr & COMMAND;
        let address = update.ptr & !COMMAND;
        let index = memory.ram_index(Gfn(address / PAGE_SIZE as u64));
        let index = index.ok_or(Errno::EINVAL)?;
        if command == MMU_MACHPHYS_UPDATE {
            memory.tell_machine(Gfn(address / PAGE_SIZE as u64), update.val);
            return Ok(());
        }
        let slot = (address as usize % PAGE_SIZE) / 8;
        let mut entry = update.val;
        match command {
            MMU_NORMAL_PT_UPDATE | MMU_PT_UPDATE_NO_TRANSLATE => {}
            MMU_PT_UPDATE_PRESERVE_AD => {
                let before = memory
                    .entry(index, slot)
                    .load(std::sync::atomic::Ordering::Acquire);
                if before & PRESENT != 0 {
                    entry |= before & ACCESSED_DIRTY;
                }
            }
            _ => return Err(Errno::ENOSYS),
        }
        if let Some(Kind::Table(level)) = memory.kind(index) {
            return memory.write_entry(index, level, slot, entry);
        }
        // No table: a word like any other.
        memory.acquire(index, Kind::Writable)?;
        let word = memory.entry(index, slot);
        word.store(entry, std::sync::atomic::Ordering::Release);
        memory.release(index);
        Ok(())
    }

    pub(super) fn mmuext_op(
        &mut self,
        memory: &impl GuestMemory,
        args: [usize; 4],
    ) -> Result<usize, Errno> {
        self.until_refused(memory, args, |call, op| call.extended(memory, op))
    }

    fn extended(&mut self, guest: &impl GuestMemory, op: MmuextOp) -> Result<(), Errno> {
        let state = self.state();
        let profile = state.profile;
        let memory = &mut state.memory;
        let frame = |mfn: u64| memory.ram_index(Gfn(mfn)).ok_or(Errno::EINVAL);
        match op.cmd {
            MmuextCmd::PIN_L1_TABLE
            | MmuextCmd::PIN_L2_TABLE
            | MmuextCmd::PIN_L3_TABLE
            | MmuextCmd::PIN_L4_TABLE => {
                let index = frame(op.arg1)?;
                memory.pin(index, op.cmd.0 as u8 + 1)
            }
            MmuextCmd::UNPIN_TABLE => {
                let index = frame(op.arg1)?;
                memory.unpin(index)
            }
            MmuextCmd::NEW_BASEPTR if memory.tables.is_some() => {
                let index = frame(op.arg1)?;
                memory.switch_to(index)
            }
            MmuextCmd::NEW_USER_BASEPTR if memory.tables.is_some() => {
                let index = (op.arg1 != 0).then(|| frame(op.arg1)).transpose()?;
                memory.set_user_root(index)
            }
            MmuextCmd::NEW_BASEPTR | MmuextCmd::NEW_USER_BASEPTR => {
                if op.cmd == MmuextCmd::NEW_USER_BASEPTR && op.arg1 == 0 {
                    return Ok(());
                }
                // A process has its own: the table is checked, no more.
                let index = frame(op.arg1)?;
                memory.acquire(index, Kind::Table(4))?;
                memory.release(index);
                Ok(())
            }
            // What was mapped is so at once: there is nothing to flush.
            MmuextCmd::TLB_FLUSH_LOCAL
            | MmuextCmd::INVLPG_LOCAL
            | MmuextCmd::TLB_FLUSH_ALL
            | MmuextCmd::INVLPG_ALL => Ok(()),
            MmuextCmd::TLB_FLUSH_MULTI | MmuextCmd::INVLPG_MULTI => {
                read::<u64>(guest, op.arg2 as usize).map(|_| ())
            }
            // Only for who has a device.
            MmuextCmd::FLUSH_CACHE => Err(Errno::EACCES),
            MmuextCmd::FLUSH_CACHE_GLOBAL => Err(profile.no_cache_to_flush()),
            MmuextCmd::SET_LDT => {
                let aligned = op.arg1.is_multiple_of(PAGE_SIZE as u64);
                if aligned && op.arg2 <= MAX_DESCRIPTORS {
                    Ok(())
                } else {
                    Err(Errno::EINVAL)
                }
            }
            MmuextCmd::CLEAR_PAGE | MmuextCmd::COPY_PAGE => {
                let source = match op.cmd {
                    MmuextCmd::COPY_PAGE => Some(frame(op.arg2)?),
                    _ => None,
                };
                let index = frame(op.arg1)?;
                memory.acquire(index, Kind::Writable)?;
                memory.fill(index, source);
                memory.release(index);
                Ok(())
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    pub(super) fn update_va_mapping(
        &mut self,
        address: usize,
        entry: usize,
        domid: DomId,
    ) -> Result<usize, Errno> {
        self.own(domid)?;
        let state = self.state();
        if state.memory.tables.is_some() {
            let (table, slot) = state.memory.place_of(address as u64).ok_or(Errno::EINVAL)?;
            return state
                .memory
                .write_entry(table, 1, slot, entry as u64)
                .map(|()| 0);
        }
        let at = state.memory.index_at(address).ok_or(Errno::EINVAL)?;
        state.memory.see(at, entry as u64).map(|()| 0)
    }

    /// A frame of the guest's that it may write.
    pub(super) fn write_word(&mut self, machine_address: u64, word: u64) -> Result<(), Errno> {
        if !machine_address.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let mfn = Mfn(machine_address / PAGE_SIZE as u64);
        let state = self.state();
        let memory = &mut state.memory;
        let index = memory.ram_index(Gfn(mfn.0)).ok_or(Errno::EINVAL)?;
        memory.acquire(index, Kind::Writable)?;
        let slot = (machine_address as usize % PAGE_SIZE) / 8;
        let place = memory.entry(index, slot);
        place.store(word, std::sync::atomic::Ordering::Release);
        memory.release(index);
        Ok(())
    }
}
