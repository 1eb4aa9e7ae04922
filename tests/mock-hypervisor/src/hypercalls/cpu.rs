//! What a PV guest sets of its processor: checked and kept, for who runs the guest's
//! image. A guest that is a process has its processor from the host.

use hypercall_abi::{
    Errno, Mfn, PAGE_SIZE, VcpuId,
    callback::{
        CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER, CallbackFlags, CallbackRegister, CallbackType,
        CallbackUnregister,
    },
    nmi::{XENNMI_REGISTER_CALLBACK, XENNMI_UNREGISTER_CALLBACK, XennmiCallback},
    xen::traps::{
        FIRST_RESERVED_GDT_ENTRY, HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START, SEGBASE_FS,
        SEGBASE_GS_KERNEL, SEGBASE_GS_USER, SEGBASE_GS_USER_SEL, TrapInfo,
    },
};

use super::{Call, read};
use crate::core::{
    memory::{GuestMemory, frame_types::Kind},
    processor::{BadDebug, Callback, Processor},
};

/// The most entries of a trap table.
const VECTORS: usize = 256;
/// Descriptors in a frame.
const DESCRIPTORS_PER_PAGE: usize = PAGE_SIZE / 8;

/// An address that a processor takes.
pub(crate) fn is_canonical(address: u64) -> bool {
    let top = address.cast_signed() >> 47;
    top == 0 || top == -1
}

/// One that is not Xen's.
pub(crate) fn is_guests(address: u64) -> bool {
    is_canonical(address) && !(HYPERVISOR_VIRT_START..HYPERVISOR_VIRT_END).contains(&address)
}

impl Call<'_> {
    pub(super) fn set_trap_table(
        &mut self,
        memory: &impl GuestMemory,
        list: usize,
    ) -> Result<usize, Errno> {
        if list == 0 {
            self.with_processor(|cpu| cpu.gates.clear());
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
            self.with_processor(|cpu| cpu.set_gate(&entry));
        }
        Ok(0)
    }

    /// The processor of the vCPU that asks.
    fn with_processor<T: Default>(&mut self, change: impl FnOnce(&mut Processor) -> T) -> T {
        let vcpu = self.core.vcpu_of((self.domid, self.vcpu));
        vcpu.map_or_else(T::default, |vcpu| change(&mut vcpu.processor))
    }

    /// `HYPERVISOR_stack_switch`: where the kernel's stack is.
    pub(super) fn stack_switch(&mut self, sp: u64) -> Result<usize, Errno> {
        self.with_processor(|cpu| cpu.kernel_sp = sp);
        Ok(0)
    }

    /// `HYPERVISOR_set_callbacks`: three at once. What no code can be at is passed
    /// over, as Xen does: it asks for no answer.
    pub(super) fn set_callbacks(&mut self, addresses: [usize; 3]) -> Result<usize, Errno> {
        let kinds = [
            CallbackType::EVENT,
            CallbackType::FAILSAFE,
            CallbackType::SYSCALL,
        ];
        let all = kinds.into_iter().zip(addresses);
        for (kind, address) in all.filter(|(_, at)| is_canonical(*at as u64)) {
            let callback = Callback {
                address: address as u64,
                masks: kind == CallbackType::EVENT,
            };
            self.with_processor(|cpu| cpu.set_callback(kind.0, Some(callback)));
        }
        Ok(0)
    }

    /// `HYPERVISOR_fpu_taskswitch`.
    pub(super) fn fpu_taskswitch(&mut self, set: usize) -> Result<usize, Errno> {
        self.with_processor(|cpu| cpu.is_unit_away = set != 0);
        Ok(0)
    }

    /// `PHYSDEVOP_set_iopl`.
    pub(super) fn set_iopl(&mut self, level: u32) -> Result<usize, Errno> {
        if level > 3 {
            return Err(Errno::EINVAL);
        }
        self.with_processor(|cpu| cpu.io_level = level as u8);
        Ok(0)
    }

    pub(super) fn set_gdt(
        &mut self,
        memory: &impl GuestMemory,
        list: usize,
        entries: usize,
    ) -> Result<usize, Errno> {
        if entries > FIRST_RESERVED_GDT_ENTRY {
            return Err(Errno::EINVAL);
        }
        for index in 0..entries.div_ceil(DESCRIPTORS_PER_PAGE) {
            let mfn: Mfn = read(memory, list.wrapping_add(index * size_of::<Mfn>()))?;
            let state = self.state();
            let page = state.memory.ram_index(hypercall_abi::Gfn(mfn.0));
            let page = page.ok_or(Errno::EINVAL)?;
            // Descriptors are checked once: nobody may write them afterwards.
            if state.memory.kind(page) == Some(Kind::Writable) {
                return Err(Errno::EINVAL);
            }
        }
        Ok(0)
    }

    pub(super) fn update_descriptor(
        &mut self,
        address: u64,
        descriptor: u64,
    ) -> Result<usize, Errno> {
        self.write_word(address, descriptor).map(|()| 0)
    }

    pub(super) fn set_segment_base(&mut self, which: usize, base: u64) -> Result<usize, Errno> {
        match which {
            SEGBASE_FS | SEGBASE_GS_USER | SEGBASE_GS_KERNEL => {
                if !is_canonical(base) {
                    return Err(Errno::EINVAL);
                }
                self.with_processor(|cpu| match which {
                    SEGBASE_FS => cpu.fs_base = Some(base),
                    SEGBASE_GS_USER => cpu.gs_base_user = Some(base),
                    _ => cpu.gs_base_kernel = Some(base),
                });
                Ok(0)
            }
            SEGBASE_GS_USER_SEL => Ok(0),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(super) fn set_debugreg(&mut self, register: usize, value: u64) -> Result<usize, Errno> {
        let written =
            self.with_processor(|cpu| Some(cpu.debug_registers.write(register, value, is_guests)));
        match written {
            Some(Ok(())) => Ok(0),
            Some(Err(BadDebug::Bits)) => Err(Errno::EINVAL),
            Some(Err(BadDebug::Forbidden)) => Err(Errno::EPERM),
            Some(Err(BadDebug::Register)) | None => Err(Errno::ENODEV),
        }
    }

    pub(super) fn get_debugreg(&mut self, register: usize) -> Result<usize, Errno> {
        let value = self.with_processor(|cpu| cpu.debug_registers.read(register));
        value.map(|value| value as usize).ok_or(Errno::ENODEV)
    }

    pub(super) fn callback_op(
        &mut self,
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
                    return Err(Errno::EINVAL);
                }
                if !known {
                    return Err(Errno::ENOSYS);
                }
                let flags = CallbackFlags::from_bits_retain(register.flags);
                let callback = Callback {
                    address: register.address,
                    masks: flags.contains(CallbackFlags::MASK_EVENTS)
                        || register.r#type == CallbackType::EVENT,
                };
                self.with_processor(|cpu| match register.r#type {
                    CallbackType::NMI => cpu.nmi = Some(callback.address),
                    kind => cpu.set_callback(kind.0, Some(callback)),
                });
                Ok(0)
            }
            CALLBACKOP_UNREGISTER => {
                let unregister: CallbackUnregister = read(memory, arg)?;
                match unregister.r#type {
                    CallbackType::EVENT | CallbackType::FAILSAFE | CallbackType::SYSCALL => {
                        Err(Errno::EINVAL)
                    }
                    CallbackType::NMI => {
                        self.with_processor(|cpu| cpu.nmi = None);
                        Ok(0)
                    }
                    kind @ (CallbackType::SYSENTER | CallbackType::SYSCALL32) => {
                        self.with_processor(|cpu| cpu.set_callback(kind.0, None));
                        Ok(0)
                    }
                    _ => Err(Errno::EINVAL),
                }
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    pub(super) fn nmi_op(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
    ) -> Result<usize, Errno> {
        match op {
            XENNMI_REGISTER_CALLBACK => {
                let callback: XennmiCallback = read(memory, arg)?;
                let address = callback.handler_address;
                if !is_canonical(address) {
                    return Err(Errno::EINVAL);
                }
                self.with_processor(|cpu| cpu.nmi = Some(address));
                Ok(0)
            }
            XENNMI_UNREGISTER_CALLBACK => {
                self.with_processor(|cpu| cpu.nmi = None);
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// An NMI that is due at once: of a process, which takes none, it is lost.
    pub(super) fn send_nmi(&mut self, vcpu: VcpuId) -> Result<usize, Errno> {
        self.has_vcpu(vcpu)?;
        let state = self.state();
        if let Some(vcpu) = state.vcpus.get_mut(vcpu.0 as usize) {
            vcpu.processor.has_nmi = true;
        }
        state.ports.kick(vcpu);
        Ok(0)
    }
}
