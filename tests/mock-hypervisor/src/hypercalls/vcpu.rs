//! `vcpu_op` and `set_timer_op`.

use hypercall_abi::{
    Errno, Gfn, PAGE_SIZE, VcpuId,
    hvm::VcpuHvmContext,
    peer::PeerPtr,
    vcpu::*,
    xen::{VcpuContextFlags, VcpuGuestContext, VcpuInfo, VcpuTimeInfo},
};
use zerocopy::IntoBytes;

use super::{Call, Effect, cpu::is_guests, read};
use crate::core::{
    machine::{Actor, Core},
    memory::GuestMemory,
    vcpu_state::{Area, Entry},
};

/// The shortest period of a periodic timer.
const MIN_PERIOD_NS: u64 = 1_000_000;

impl Call<'_> {
    pub(super) fn vcpu_op(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
        vcpu: VcpuId,
        arg: usize,
    ) -> Result<usize, Errno> {
        self.has_vcpu(vcpu)?;
        let index = vcpu.0 as usize;
        match op {
            VCPUOP_IS_UP => Ok(usize::from(self.state().vcpus[index].is_up)),
            VCPUOP_UP => self.up(vcpu),
            VCPUOP_DOWN => self.then(Effect::Down(vcpu)),
            VCPUOP_INITIALISE => {
                if self.state().is_pvh() {
                    let context: VcpuHvmContext = read(memory, arg)?;
                    let start = super::hvm::start_of(&context);
                    return self.initialise(vcpu, start, VcpuContextFlags::empty());
                }
                let context: VcpuGuestContext = read(memory, arg)?;
                let flags = VcpuContextFlags::from_bits_retain(context.flags);
                let start = Ok(if self.state().memory.tables.is_some() {
                    Entry::Context(Box::new(context))
                } else {
                    Entry::Code {
                        code: context.user_regs.rip,
                        argument: context.user_regs.rdi,
                    }
                });
                self.initialise(vcpu, start, flags)
            }
            VCPUOP_GET_RUNSTATE_INFO => {
                let now_ns = self.core.read_time_ns((self.domid, self.vcpu));
                let info = self.state().vcpus[index].run_times.info(now_ns);
                memory.copy_out(arg, info.as_bytes()).map(|()| 0)
            }
            VCPUOP_SET_PERIODIC_TIMER => {
                let timer: VcpuSetPeriodicTimer = read(memory, arg)?;
                if timer.period_ns < MIN_PERIOD_NS {
                    return Err(Errno::EINVAL);
                }
                let next_ns = self.core.now_ns().saturating_add(timer.period_ns);
                self.state().vcpus[index].timers.periodic_ns = Some((next_ns, timer.period_ns));
                Ok(0)
            }
            VCPUOP_STOP_PERIODIC_TIMER => {
                self.state().vcpus[index].timers.periodic_ns = None;
                Ok(0)
            }
            // Only the vCPU that asks.
            VCPUOP_SET_SINGLESHOT_TIMER | VCPUOP_STOP_SINGLESHOT_TIMER if vcpu != self.vcpu => {
                Err(Errno::EINVAL)
            }
            VCPUOP_SET_SINGLESHOT_TIMER => {
                let timer: VcpuSetSingleshotTimer = read(memory, arg)?;
                self.state().vcpus[index].timers.singleshot_ns = Some(timer.timeout_abs_ns);
                Ok(0)
            }
            VCPUOP_STOP_SINGLESHOT_TIMER => {
                self.state().vcpus[index].timers.singleshot_ns = None;
                Ok(0)
            }
            VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA | VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA => {
                let area: VcpuRegisterRunstateMemoryArea = read(memory, arg)?;
                if !is_guests(area.addr) {
                    return Err(Errno::EFAULT);
                }
                let area = match area.addr {
                    0 => Area::None,
                    address => Area::Address(address),
                };
                self.tell_at(op == VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, vcpu, area)
            }
            VCPUOP_REGISTER_RUNSTATE_PHYS_AREA | VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA
                if !self.state().profile.has_physical_areas() =>
            {
                Err(Errno::ENOSYS)
            }
            VCPUOP_REGISTER_RUNSTATE_PHYS_AREA | VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA => {
                let area: VcpuRegisterRunstateMemoryArea = read(memory, arg)?;
                let is_runstate = op == VCPUOP_REGISTER_RUNSTATE_PHYS_AREA;
                let bytes = if is_runstate {
                    size_of::<VcpuRunstateInfo>()
                } else {
                    size_of::<VcpuTimeInfo>()
                };
                // All ones: no longer.
                let area = if area.addr == u64::MAX {
                    Area::None
                } else {
                    let offset = area.addr as usize % PAGE_SIZE;
                    if offset + bytes > PAGE_SIZE || !offset.is_multiple_of(8) {
                        return Err(Errno::ENXIO);
                    }
                    let gfn = Gfn(area.addr / PAGE_SIZE as u64);
                    let page = self.state().memory.ram_index(gfn);
                    Area::Page(page.ok_or(Errno::EINVAL)?, offset)
                };
                self.tell_at(is_runstate, vcpu, area)
            }
            VCPUOP_REGISTER_VCPU_INFO => {
                let place: VcpuRegisterVcpuInfo = read(memory, arg)?;
                let offset = place.offset as usize;
                if offset + size_of::<VcpuInfo>() > PAGE_SIZE || !offset.is_multiple_of(8) {
                    return Err(Errno::ENXIO);
                }
                let state = self.state();
                let page = state.memory.ram_of(place.mfn).ok_or(Errno::EINVAL)?;
                // SAFETY: within the page.
                let info = unsafe { page.add(offset) }.cast();
                // SAFETY: memory of the domain's, which lives as long as its
                // state; the guest gave it to the hypervisor.
                let info = unsafe { PeerPtr::new(info) };
                match state.ports.move_vcpu_info(vcpu, info) {
                    true => Ok(0),
                    false => Err(state.profile.words_are_registered()),
                }
            }
            VCPUOP_SEND_NMI => self.send_nmi(vcpu),
            // Only for the initial domain.
            VCPUOP_GET_PHYSID => Err(Errno::EINVAL),
            _ => Err(Errno::ENOSYS),
        }
    }

    fn tell_at(&mut self, is_runstate: bool, vcpu: VcpuId, area: Area) -> Result<usize, Errno> {
        let state = self.state();
        let times = &mut state.vcpus[vcpu.0 as usize].run_times;
        times.news = true;
        if is_runstate {
            times.told_at = area;
        } else {
            times.time_told_at = area;
        }
        Ok(0)
    }

    pub(super) fn set_timer(&mut self, timeout_ns: u64) -> Result<usize, Errno> {
        if let Some(vcpu) = self.core.vcpu_of((self.domid, self.vcpu)) {
            vcpu.timers.singleshot_ns = (timeout_ns != 0).then_some(timeout_ns);
        }
        Ok(0)
    }

    /// `VCPUOP_initialise`.
    fn initialise(
        &mut self,
        vcpu: VcpuId,
        start: Result<Entry, Errno>,
        flags: VcpuContextFlags,
    ) -> Result<usize, Errno> {
        let index = vcpu.0 as usize;
        let found = self.state().vcpus.get_mut(index).ok_or(Errno::ENOENT)?;
        if index == 0 || found.entry.is_some() {
            return Err(Errno::EEXIST);
        }
        found.entry = Some(start?);
        match flags.contains(VcpuContextFlags::ONLINE) {
            true => self.up(vcpu),
            false => Ok(0),
        }
    }

    /// `VCPUOP_up`.
    fn up(&mut self, vcpu: VcpuId) -> Result<usize, Errno> {
        let found = self.state().vcpus.get(vcpu.0 as usize);
        if vcpu != VcpuId(0) && found.ok_or(Errno::ENOENT)?.entry.is_none() {
            return Err(Errno::EINVAL);
        }
        self.then(Effect::Up(vcpu))
    }
}

/// Tells what has changed of a vCPU, where the guest wants it.
pub(crate) fn tell_areas(core: &mut Core, actor: Actor, memory: &impl GuestMemory) {
    let now_ns = core.read_time_ns(actor);
    let Some(state) = core.domains.get_mut(&actor.0) else {
        return;
    };
    let Some(vcpu) = state.vcpus.get_mut(actor.1.0 as usize) else {
        return;
    };
    if !std::mem::take(&mut vcpu.run_times.news) {
        return;
    }
    let times = vcpu.run_times;
    let time = VcpuTimeInfo {
        // Even: nobody is writing.
        version: 2,
        system_time: now_ns,
        ..VcpuTimeInfo::default()
    };
    let info = times.info(now_ns);
    for (area, bytes) in [
        (times.told_at, info.as_bytes()),
        (times.time_told_at, time.as_bytes()),
    ] {
        match area {
            Area::None => {}
            // Where nothing is mapped, nothing is told.
            Area::Address(address) => {
                let _unmapped = memory.copy_out(address as usize, bytes);
            }
            Area::Page(page, offset) => state.memory.write(page, offset, bytes),
        }
    }
}
