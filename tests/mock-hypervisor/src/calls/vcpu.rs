//! `vcpu_op` and `set_timer_op`.

use hypercall_abi::{
    Errno, Gfn, PAGE_SIZE, VcpuId,
    hvm::VcpuHvmContext,
    peer::PeerPtr,
    platform::Clock,
    vcpu::*,
    xen::{VcpuContextFlags, VcpuGuestContext, VcpuInfo, VcpuTimeInfo},
};
use zerocopy::IntoBytes;

use super::{cpu::is_guests, read};
use crate::{
    Domain, counter,
    memory::GuestMemory,
    vcpus::{self, Entry},
};

/// How long a vCPU did what, and where it is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunTimes {
    state: RunState,
    since_ns: u64,
    ns: [u64; 4],
    told_at: Area,
    time_told_at: Area,
    /// Something has changed that was not told yet.
    news: bool,
}

/// A place in the guest where Xen keeps telling something.
#[derive(Clone, Copy, Debug)]
enum Area {
    None,
    /// One of the guest's addresses.
    Address(u64),
    /// A place in a page of its memory, by the page's number.
    Page(usize, usize),
}

impl RunTimes {
    /// Whether there is something to tell.
    #[cfg(feature = "user")]
    pub(crate) const fn has_news(&self) -> bool {
        self.news
    }

    pub(crate) fn new(state: RunState, now_ns: u64) -> Self {
        Self {
            state,
            since_ns: now_ns,
            ns: [0; 4],
            told_at: Area::None,
            time_told_at: Area::None,
            news: false,
        }
    }

    /// From now on it does something else.
    pub(crate) fn enter(&mut self, state: RunState, now_ns: u64) {
        self.ns[self.state.0 as usize] += now_ns.saturating_sub(self.since_ns);
        self.state = state;
        self.since_ns = now_ns;
        self.news = true;
    }

    fn info(&self, now_ns: u64) -> VcpuRunstateInfo {
        let mut info = VcpuRunstateInfo {
            state: self.state,
            state_entry_time: self.since_ns,
            time: self.ns,
            ..VcpuRunstateInfo::default()
        };
        info.time[self.state.0 as usize] += now_ns.saturating_sub(self.since_ns);
        info
    }
}

/// The shortest period of a periodic timer.
const LEAST_PERIOD_NS: u64 = 1_000_000;

impl Domain {
    pub(super) fn vcpu_op(
        &self,
        memory: &impl GuestMemory,
        op: usize,
        vcpu: VcpuId,
        arg: usize,
    ) -> Result<usize, Errno> {
        self.vcpu(vcpu)?;
        let index = vcpu.0 as usize;
        match op {
            VCPUOP_IS_UP => Ok(usize::from(self.is_up(vcpu))),
            VCPUOP_UP => self.up(vcpu),
            VCPUOP_DOWN => self.down(vcpu),
            VCPUOP_INITIALISE => {
                if self.is_pvh() {
                    let context: VcpuHvmContext = read(memory, arg)?;
                    let start = super::hvm::start_of(&context);
                    return self.initialise(vcpu, start, VcpuContextFlags::empty());
                }
                let context: VcpuGuestContext = read(memory, arg)?;
                let flags = VcpuContextFlags::from_bits_retain(context.flags);
                let start = Ok(if self.lock().memory.tables.is_some() {
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
                let now_ns = self.now_ns();
                let info = self.lock().vcpus[index].run_times.info(now_ns);
                memory.copy_out(arg, info.as_bytes()).map(|()| 0)
            }
            VCPUOP_SET_PERIODIC_TIMER => {
                let timer: VcpuSetPeriodicTimer = read(memory, arg)?;
                if timer.period_ns < LEAST_PERIOD_NS {
                    return Err(Errno::EINVAL);
                }
                let mut state = self.lock();
                let next_ns = self
                    .xen
                    .0
                    .now_ns(&state.world)
                    .saturating_add(timer.period_ns);
                state.vcpus[index].timers.periodic_ns = Some((next_ns, timer.period_ns));
                Ok(0)
            }
            VCPUOP_STOP_PERIODIC_TIMER => {
                self.lock().vcpus[index].timers.periodic_ns = None;
                Ok(0)
            }
            // Only the vCPU that asks.
            VCPUOP_SET_SINGLESHOT_TIMER | VCPUOP_STOP_SINGLESHOT_TIMER
                if vcpu != vcpus::current() =>
            {
                Err(Errno::EINVAL)
            }
            VCPUOP_SET_SINGLESHOT_TIMER => {
                let timer: VcpuSetSingleshotTimer = read(memory, arg)?;
                self.lock().vcpus[index].timers.singleshot_ns = Some(timer.timeout_abs_ns);
                Ok(0)
            }
            VCPUOP_STOP_SINGLESHOT_TIMER => {
                self.lock().vcpus[index].timers.singleshot_ns = None;
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
                    let page = self.lock().memory.ram_index(gfn);
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
                let mut state = self.lock();
                let page = state.memory.ram_of(place.mfn).ok_or(Errno::EINVAL)?;
                // SAFETY: within the page.
                let info = unsafe { page.add(offset) }.cast();
                // SAFETY: memory of the domain's, which lives as long as its
                // state; the guest gave it to the hypervisor.
                let info = unsafe { PeerPtr::new(info) };
                state.ports.move_vcpu_info(vcpu, info).map(|()| 0)
            }
            VCPUOP_SEND_NMI => self.send_nmi(vcpu),
            // Only for the initial domain.
            VCPUOP_GET_PHYSID => Err(Errno::EINVAL),
            _ => Err(Errno::ENOSYS),
        }
    }

    fn tell_at(&self, is_runstate: bool, vcpu: VcpuId, area: Area) -> Result<usize, Errno> {
        let mut state = self.lock();
        let times = &mut state.vcpus[vcpu.0 as usize].run_times;
        times.news = true;
        if is_runstate {
            times.told_at = area;
        } else {
            times.time_told_at = area;
        }
        Ok(0)
    }

    /// Tells the vCPU that asks what time it is. An image's is told by who runs it.
    pub(crate) fn tell_time(&self) {
        let state = self.lock();
        if state.memory.tables.is_some() {
            return;
        }
        if let Some(info) = state.ports.vcpu_info(vcpus::current()) {
            counter::write(info, self.xen.0.moment(&state.world));
        }
    }

    /// Tells what has changed of the vCPU that asks, where the guest wants it.
    pub(crate) fn tell_areas(&self, memory: &impl GuestMemory) {
        let now_ns = self.now_ns();
        let mut state = self.lock();
        let index = vcpus::current().0 as usize;
        let Some(vcpu) = state.vcpus.get_mut(index) else {
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

    pub(super) fn set_timer(&self, timeout_ns: u64) -> Result<usize, Errno> {
        let mut state = self.lock();
        if let Some(vcpu) = state.vcpus.get_mut(vcpus::current().0 as usize) {
            vcpu.timers.singleshot_ns = (timeout_ns != 0).then_some(timeout_ns);
        }
        Ok(0)
    }
}
