//! What a PV guest sets of its processor. A process has its processor from the
//! host: what the guest sets is checked and kept, no more.

use hypercall_abi::{
    Errno, Mfn, PAGE_SIZE, VcpuId,
    callback::{
        CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER, CallbackRegister, CallbackType,
        CallbackUnregister,
    },
    nmi::{XENNMI_REGISTER_CALLBACK, XENNMI_UNREGISTER_CALLBACK, XennmiCallback},
    xen::traps::{
        FIRST_RESERVED_GDT_ENTRY, HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START, SEGBASE_FS,
        SEGBASE_GS_KERNEL, SEGBASE_GS_USER, SEGBASE_GS_USER_SEL, TrapInfo,
    },
};

use super::read;
use crate::{Domain, frames::Kind, memory::GuestMemory};

/// The most entries of a trap table.
const VECTORS: usize = 256;
/// Descriptors in a frame.
const DESCRIPTORS_PER_PAGE: usize = PAGE_SIZE / 8;

/// An address that a processor takes.
pub(super) fn is_canonical(address: u64) -> bool {
    let top = address.cast_signed() >> 47;
    top == 0 || top == -1
}

/// One that is not Xen's.
pub(super) fn is_guests(address: u64) -> bool {
    is_canonical(address) && !(HYPERVISOR_VIRT_START..HYPERVISOR_VIRT_END).contains(&address)
}

fn accept(good: bool, errno: Errno) -> Result<usize, Errno> {
    if good { Ok(0) } else { Err(errno) }
}

impl Domain {
    pub(super) fn set_trap_table(
        &self,
        memory: &impl GuestMemory,
        list: usize,
    ) -> Result<usize, Errno> {
        // Without a table, none is set.
        if list == 0 {
            return Ok(0);
        }
        for index in 0..VECTORS {
            let entry: TrapInfo = read(memory, list.wrapping_add(index * size_of::<TrapInfo>()))?;
            if entry.address == 0 {
                return Ok(0);
            }
            if !is_canonical(entry.address) {
                return Err(Errno::EINVAL);
            }
        }
        Ok(0)
    }

    pub(super) fn set_gdt(
        &self,
        memory: &impl GuestMemory,
        list: usize,
        entries: usize,
    ) -> Result<usize, Errno> {
        if entries > FIRST_RESERVED_GDT_ENTRY {
            return Err(Errno::EINVAL);
        }
        for index in 0..entries.div_ceil(DESCRIPTORS_PER_PAGE) {
            let mfn: Mfn = read(memory, list.wrapping_add(index * size_of::<Mfn>()))?;
            let state = self.lock();
            let page = state.memory.ram_index(hypercall_abi::Gfn(mfn.0));
            let page = page.ok_or(Errno::EINVAL)?;
            // Descriptors are checked once: nobody may write them afterwards.
            if state.memory.kind(page) == Some(Kind::Writable) {
                return Err(Errno::EINVAL);
            }
        }
        Ok(0)
    }

    pub(super) fn update_descriptor(&self, address: u64, descriptor: u64) -> Result<usize, Errno> {
        self.write_word(address, descriptor).map(|()| 0)
    }

    pub(super) fn set_segment_base(&self, which: usize, base: u64) -> Result<usize, Errno> {
        match which {
            SEGBASE_FS | SEGBASE_GS_USER | SEGBASE_GS_KERNEL => {
                accept(is_canonical(base), Errno::EINVAL)
            }
            SEGBASE_GS_USER_SEL => Ok(0),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(super) fn set_debugreg(&self, register: usize, value: u64) -> Result<usize, Errno> {
        match register {
            0..=3 if !is_guests(value) => Err(Errno::EPERM),
            0..=3 | 6 | 7 => {
                self.lock().debug_registers[register] = value;
                Ok(0)
            }
            _ => Err(Errno::ENODEV),
        }
    }

    pub(super) fn get_debugreg(&self, register: usize) -> Result<usize, Errno> {
        match register {
            0..=3 | 6 | 7 => Ok(self.lock().debug_registers[register] as usize),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(super) fn callback_op(
        &self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
    ) -> Result<usize, Errno> {
        match op {
            CALLBACKOP_REGISTER => {
                let register: CallbackRegister = read(memory, arg)?;
                let known = register.r#type.0 <= CallbackType::SYSCALL32.0
                    && register.r#type != CallbackType(6);
                if !is_canonical(register.address) {
                    Err(Errno::EINVAL)
                } else {
                    accept(known, Errno::ENOSYS)
                }
            }
            CALLBACKOP_UNREGISTER => {
                let unregister: CallbackUnregister = read(memory, arg)?;
                match unregister.r#type {
                    CallbackType::EVENT | CallbackType::FAILSAFE | CallbackType::SYSCALL => {
                        Err(Errno::EINVAL)
                    }
                    CallbackType::NMI | CallbackType::SYSENTER | CallbackType::SYSCALL32 => Ok(0),
                    _ => Err(Errno::EINVAL),
                }
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    pub(super) fn nmi_op(
        &self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
    ) -> Result<usize, Errno> {
        match op {
            XENNMI_REGISTER_CALLBACK => {
                let callback: XennmiCallback = read(memory, arg)?;
                accept(is_canonical(callback.handler_address), Errno::EINVAL)
            }
            XENNMI_UNREGISTER_CALLBACK => Ok(0),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// An NMI that is due at once, and is lost: a process takes none.
    pub(super) fn send_nmi(&self, vcpu: VcpuId) -> Result<usize, Errno> {
        self.vcpu(vcpu).map(|()| 0)
    }
}
