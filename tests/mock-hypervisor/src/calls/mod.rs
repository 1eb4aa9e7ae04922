//! The hypercalls, as Xen takes them.

mod cpu;
mod events;
mod grants;
mod hvm;
mod legacy;
mod memory;
mod mmu;
mod others;
mod sched;
mod vcpu;
mod version;

use hypercall_abi::{
    DomId, Errno, HypercallNr, VcpuId,
    xen::{
        VmAssist,
        multicall::MulticallEntry,
        vm_assist::{VMASST_CMD_DISABLE, VMASST_CMD_ENABLE},
    },
};
use zerocopy::{FromBytes, IntoBytes};

#[cfg(feature = "user")]
pub(crate) use self::{
    cpu::{is_canonical, is_guests},
    version::VERSION,
};
pub(crate) use self::{
    hvm::{Params, memory_ranges},
    sched::{Timers, Watchdogs},
    vcpu::RunTimes,
};
use crate::{Domain, DomainType, memory::GuestMemory};

fn read<T: FromBytes + IntoBytes>(memory: &impl GuestMemory, address: usize) -> Result<T, Errno> {
    let mut value = T::new_zeroed();
    memory.copy_in(address, value.as_mut_bytes())?;
    Ok(value)
}

impl Domain {
    /// Takes a hypercall of the guest's.
    pub(crate) fn dispatch(
        &self,
        memory: &impl GuestMemory,
        nr: HypercallNr,
        args: [usize; 5],
    ) -> isize {
        let answer = match self.begin(nr, args[0]) {
            Ok(()) => self.serve(memory, nr, args),
            // What ends lets go of nothing any more.
            Err(Errno::ESRCH) => return Errno::ESRCH.to_answer(),
            Err(refused) => Err(refused),
        };
        self.finish(memory, nr, args[0], answer)
    }

    /// Does what a call asks for, and nothing before or after that.
    pub(crate) fn serve(
        &self,
        memory: &impl GuestMemory,
        nr: HypercallNr,
        args: [usize; 5],
    ) -> Result<usize, Errno> {
        let [a1, a2, a3, a4, _] = args;
        if let Some(errno) = self.refused.answer(nr, a1) {
            return Err(errno);
        }
        match nr {
            _ if self.domain_type == DomainType::Pvh && is_for_pv(nr) => Err(Errno::ENOSYS),
            HypercallNr::XEN_VERSION => self.xen_version(memory, a1, a2),
            HypercallNr::SCHED_OP => self.sched_op(memory, a1, a2, a3),
            HypercallNr::SCHED_OP_COMPAT => self.sched_op_compat(memory, a1, a2, a3),
            HypercallNr::EVENT_CHANNEL_OP_COMPAT => self.event_channel_op_compat(memory, a1),
            HypercallNr::PHYSDEV_OP_COMPAT => self.physdev_op_compat(memory, a1),
            HypercallNr::EVENT_CHANNEL_OP => self.event_channel_op(memory, a1, a2),
            HypercallNr::MEMORY_OP => self.memory_op(memory, a1, a2),
            HypercallNr::GRANT_TABLE_OP => self.grant_table_op(memory, a1, a2, a3),
            HypercallNr::VCPU_OP => self.vcpu_op(memory, a1, VcpuId(a2 as u32), a3),
            HypercallNr::SET_TIMER_OP => self.set_timer(a1 as u64),
            HypercallNr::MULTICALL => self.multicall(memory, a1, a2),
            HypercallNr::VM_ASSIST => self.vm_assist(a1, a2),
            HypercallNr::MMU_UPDATE => self.mmu_update(memory, [a1, a2, a3, a4]),
            // It has tables of its own.
            HypercallNr::MMUEXT_OP if self.is_pvh() => Err(Errno::EINVAL),
            HypercallNr::MMUEXT_OP => self.mmuext_op(memory, [a1, a2, a3, a4]),
            HypercallNr::UPDATE_VA_MAPPING => self.update_va_mapping(a1, a2, DomId::SELF),
            HypercallNr::UPDATE_VA_MAPPING_OTHERDOMAIN => {
                self.update_va_mapping(a1, a2, DomId(a4 as u16))
            }
            HypercallNr::SET_TRAP_TABLE => self.set_trap_table(memory, a1),
            HypercallNr::SET_GDT => self.set_gdt(memory, a1, a2),
            HypercallNr::UPDATE_DESCRIPTOR => self.update_descriptor(a1 as u64, a2 as u64),
            HypercallNr::SET_SEGMENT_BASE => self.set_segment_base(a1, a2 as u64),
            HypercallNr::SET_DEBUGREG => self.set_debugreg(a1, a2 as u64),
            HypercallNr::GET_DEBUGREG => self.get_debugreg(a1),
            HypercallNr::CALLBACK_OP => self.callback_op(memory, a1, a2),
            HypercallNr::NMI_OP => self.nmi_op(memory, a1, a2),
            HypercallNr::HVM_OP => self.hvm_op(memory, a1, a2),
            HypercallNr::PHYSDEV_OP => self.physdev_op(memory, a1, a2),
            HypercallNr::STACK_SWITCH => self.stack_switch(a2 as u64),
            HypercallNr::SET_CALLBACKS => self.set_callbacks([a1, a2, a3]),
            HypercallNr::FPU_TASKSWITCH => self.fpu_taskswitch(a1),
            // As Xen is started, unless it is asked for them.
            HypercallNr::XENPMU_OP => Err(Errno::EOPNOTSUPP),
            // What the toolstack asks for is read before it is refused.
            HypercallNr::PLATFORM_OP | HypercallNr::SYSCTL | HypercallNr::DOMCTL => {
                read::<u64>(memory, a1).and(Err(Errno::EPERM))
            }
            HypercallNr::KEXEC_OP if self.is_pvh() => Err(Errno::ENOSYS),
            // A release Xen takes nothing from a guest.
            HypercallNr::CONSOLE_IO | HypercallNr::KEXEC_OP | HypercallNr::HYPFS_OP => {
                Err(Errno::EPERM)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// What comes after a call: whoever is told how it was, and where vCPUs stay.
    pub(crate) fn finish(
        &self,
        memory: &impl GuestMemory,
        nr: HypercallNr,
        op: usize,
        answer: Result<usize, Errno>,
    ) -> isize {
        if answer == Err(Errno::ENOSYS) {
            self.lock().note_unknown(nr, op);
        }
        let answer = answer.map_or_else(Errno::to_answer, usize::cast_signed);
        self.tell_time();
        self.tell_areas(memory);
        self.xen.0.note(self.actor(), nr.0, answer);
        self.gate();
        answer
    }

    /// What comes before a call: those whose turn it is, what is due, and mishaps.
    fn begin(&self, nr: HypercallNr, op: usize) -> Result<(), Errno> {
        self.gate();
        if self.lock().is_destroyed {
            return Err(Errno::ESRCH);
        }
        self.xen.0.take_turns(self.actor());
        self.lock().note_call(nr);
        self.tick();
        let refused = {
            let world = &mut self.lock().world;
            self.xen.0.mishaps(world, self.actor(), nr, op)
        };
        // It may have been the end.
        self.gate();
        refused
    }

    /// An unprivileged domain may only name itself.
    fn own(&self, domid: DomId) -> Result<(), Errno> {
        if domid == DomId::SELF || domid == self.domid {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// Help that a guest may switch on; of a guest that is no image it changes
    /// nothing.
    fn vm_assist(&self, command: usize, help: usize) -> Result<usize, Errno> {
        // Xen looks at the help before it looks at the command, and takes from a 64-bit
        // guest what only one of 32 bits has a use for.
        const OF_PV: &[VmAssist] = &[
            VmAssist::SEGMENTS_4GB,
            VmAssist::SEGMENTS_4GB_NOTIFY,
            VmAssist::WRITABLE_PAGETABLES,
            VmAssist::PAE_EXTENDED_CR3,
            VmAssist::ARCHITECTURAL_IOPL,
            VmAssist::RUNSTATE_UPDATE_FLAG,
            VmAssist::M2P_STRICT,
        ];
        const OF_PVH: &[VmAssist] = &[VmAssist::RUNSTATE_UPDATE_FLAG];
        let known = if self.is_pvh() { OF_PVH } else { OF_PV };
        let help = VmAssist(help as u32);
        if !known.contains(&help) {
            return Err(Errno::EINVAL);
        }
        let assists = &mut self.lock().assists;
        match command as u32 as usize {
            VMASST_CMD_ENABLE => *assists |= 1 << help.0,
            VMASST_CMD_DISABLE => *assists &= !(1 << help.0),
            _ => return Err(Errno::ENOSYS),
        }
        Ok(0)
    }

    /// Several calls in one: any but this one. `iret` among them is for who has the
    /// guest's registers.
    fn multicall(
        &self,
        memory: &impl GuestMemory,
        list: usize,
        count: usize,
    ) -> Result<usize, Errno> {
        for i in 0..count {
            let at = list.wrapping_add(i * size_of::<MulticallEntry>());
            let mut entry: MulticallEntry = read(memory, at)?;
            let nr = u32::try_from(entry.op).map_or(HypercallNr(u32::MAX), HypercallNr);
            let [a1, a2, a3, a4, a5, _] = entry.args.map(|arg| arg as usize);
            entry.result = if nr == HypercallNr::MULTICALL {
                Errno::EINVAL.to_answer() as i64
            } else {
                self.dispatch(memory, nr, [a1, a2, a3, a4, a5]) as i64
            };
            memory.copy_out(at, entry.as_bytes())?;
        }
        Ok(0)
    }
}

/// Calls that only PV guests have.
fn is_for_pv(nr: HypercallNr) -> bool {
    [
        HypercallNr::SET_TRAP_TABLE,
        HypercallNr::MMU_UPDATE,
        HypercallNr::SET_GDT,
        HypercallNr::STACK_SWITCH,
        HypercallNr::SET_CALLBACKS,
        HypercallNr::FPU_TASKSWITCH,
        HypercallNr::SET_DEBUGREG,
        HypercallNr::GET_DEBUGREG,
        HypercallNr::UPDATE_DESCRIPTOR,
        HypercallNr::UPDATE_VA_MAPPING,
        HypercallNr::UPDATE_VA_MAPPING_OTHERDOMAIN,
        HypercallNr::SET_SEGMENT_BASE,
        HypercallNr::CALLBACK_OP,
        HypercallNr::NMI_OP,
        HypercallNr::SCHED_OP_COMPAT,
        HypercallNr::EVENT_CHANNEL_OP_COMPAT,
        HypercallNr::PHYSDEV_OP_COMPAT,
    ]
    .contains(&nr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Outcome, Time, Xen};
    use hypercall_abi::{
        Port,
        event_channel::{self, EVTCHNOP_SEND},
        memory::XENMEM_CURRENT_RESERVATION,
        platform::{Clock, Hypercall, Park},
        sched::{self, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, ShutdownReason},
        vcpu,
        version::{self, XENVER_EXTRAVERSION},
        xen::{Virq, multicall, vm_assist},
    };

    fn domain() -> Domain {
        Domain::new(Config::default()).unwrap()
    }

    #[test]
    fn what_xen_does_not_have_is_enosys_and_remembered() {
        let domain = domain();
        for (nr, a1) in [(11, 0), (47, 5), (1000, 0), (17, 99), (29, 99), (32, 99)] {
            // SAFETY: the mock has no such call.
            let answer = unsafe { domain.call2(HypercallNr(nr), a1, 0) };
            assert_eq!(Errno::check(answer), Err(Errno::ENOSYS));
        }
        assert_eq!(domain.unknown_calls().len(), 6);
        // A guest that goes through all numbers and addresses costs no more memory for it.
        for at in 0..10_000 {
            // SAFETY: as above.
            let answer = unsafe { domain.call2(HypercallNr(200 + at), at as usize * 4096, 0) };
            assert_eq!(Errno::check(answer), Err(Errno::ENOSYS));
        }
        let unknown = domain.unknown_calls();
        assert_eq!(unknown.len(), 7);
        assert_eq!(unknown.get(&(128, None)), Some(&9_999));
        assert!(domain.calls().len() < 10);
    }

    #[test]
    #[cfg_attr(miri, ignore = "wild addresses need the kernel's help")]
    fn bad_addresses_are_efault() {
        let domain = domain();
        for address in [0, 8, 0xffff_8000_0000_0000, usize::MAX] {
            for (nr, op) in [
                (HypercallNr::SCHED_OP, SCHEDOP_POLL),
                (HypercallNr::SCHED_OP, SCHEDOP_SHUTDOWN),
                (HypercallNr::EVENT_CHANNEL_OP, EVTCHNOP_SEND),
                (HypercallNr::XEN_VERSION, XENVER_EXTRAVERSION),
                (HypercallNr::MEMORY_OP, XENMEM_CURRENT_RESERVATION),
            ] {
                // SAFETY: the mock refuses the address.
                let answer = unsafe { domain.call2(nr, op, address) };
                assert_eq!(Errno::check(answer), Err(Errno::EFAULT), "{nr:?} {op}");
            }
        }
    }

    #[test]
    fn versions_and_vcpus_are_told() {
        let domain = Domain::new(Config {
            vcpus: 2,
            ..Config::default()
        })
        .unwrap();
        assert_eq!(version::version(&domain).unwrap().to_string(), "4.20");
        assert_eq!(version::extraversion(&domain).unwrap().as_str(), "-mock");
        assert_eq!(vcpu::state(&domain, VcpuId(1)), Ok(vcpu::VcpuState::Down));
        assert_eq!(vcpu::state(&domain, VcpuId(2)), Err(Errno::ENOENT));
    }

    #[test]
    fn ports_run_out_and_come_back() {
        let domain = Domain::new(Config {
            max_event_channels: 100_000,
            ..Config::default()
        })
        .unwrap();
        let mut last = Port(0);
        loop {
            match event_channel::alloc_unbound(&domain, DomId(0)) {
                Ok(port) => last = port,
                Err(errno) => {
                    assert_eq!(errno, Errno::ENOSPC);
                    break;
                }
            }
        }
        assert_eq!(last, Port(4095));
        assert_eq!(event_channel::close(&domain, Port(77)), Ok(()));
        assert_eq!(
            event_channel::alloc_unbound(&domain, DomId::SELF),
            Ok(Port(77))
        );
        assert_eq!(
            event_channel::status(&domain, Port(77)).unwrap().unbound(),
            Some(DomId(1))
        );
        for bad in [0, 4096, u32::MAX] {
            assert_eq!(event_channel::send(&domain, Port(bad)), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn virtual_time_passes_in_sleep_only() {
        let domain = domain();
        assert_eq!(domain.now_ns(), 0);
        domain.park(&[Port(1)], Some(5_000));
        assert_eq!(domain.now_ns(), 5_000);
        domain.park(&[Port(1)], Some(1_000));
        assert_eq!(domain.now_ns(), 5_000);
    }

    #[test]
    fn a_wait_for_nothing_is_a_deadlock_with_a_report() {
        let domain = domain();
        let outcome = domain.run(|guest| guest.park(&[Port(1)], None));
        let Outcome::Shutdown(end) = outcome else {
            panic!("the guest went on");
        };
        assert_eq!(end.reason, ShutdownReason::CRASH);
        assert!(end.report.contains("port 2: Console, quiet"));
    }

    #[test]
    fn a_shutdown_does_not_return() {
        let domain = domain();
        let outcome = domain.run(|guest| sched::shutdown(guest, ShutdownReason::REBOOT));
        assert!(matches!(
            outcome,
            Outcome::Shutdown(end) if end.reason == ShutdownReason::REBOOT
        ));
        // Whatever reason it gives; one that it told before comes first.
        let outcome = domain.run(|guest| sched::shutdown(guest, ShutdownReason(99)));
        assert!(matches!(
            outcome,
            Outcome::Shutdown(end) if end.reason == ShutdownReason(99)
        ));
        sched::shutdown_code(&domain, ShutdownReason::CRASH).unwrap();
        sched::shutdown_code(&domain, ShutdownReason::POWEROFF).unwrap();
        let outcome = domain.run(|guest| sched::shutdown(guest, ShutdownReason::POWEROFF));
        assert!(matches!(
            outcome,
            Outcome::Shutdown(end) if end.reason == ShutdownReason::CRASH
        ));
    }

    #[test]
    fn the_timer_rings_at_its_time() {
        let domain = domain();
        let port = event_channel::bind_virq(&domain, Virq::TIMER, VcpuId(0)).unwrap();
        assert_eq!(
            event_channel::bind_virq(&domain, Virq::TIMER, VcpuId(0)),
            Err(Errno::EEXIST)
        );
        vcpu::set_singleshot_timer(&domain, VcpuId(0), 5_000, vcpu::SingleshotFlags::empty())
            .unwrap();
        domain.park(&[port], Some(1_000_000));
        assert_eq!(domain.now_ns(), 5_000);
        // It is pending until the guest clears it: no more sleep.
        domain.park(&[port], Some(1_000_000));
        assert_eq!(domain.now_ns(), 5_000);
        event_channel::close(&domain, port).unwrap();
        let port = event_channel::bind_virq(&domain, Virq::TIMER, VcpuId(0)).unwrap();
        vcpu::set_periodic_timer(&domain, VcpuId(0), 1_000_000).unwrap();
        assert_eq!(
            vcpu::set_periodic_timer(&domain, VcpuId(0), 10),
            Err(Errno::EINVAL)
        );
        domain.park(&[port], Some(10_000_000));
        assert_eq!(domain.now_ns(), 1_005_000);
    }

    #[test]
    fn a_watchdog_that_is_not_fed_ends_the_domain() {
        let domain = domain();
        let id = sched::watchdog(&domain, 0, 2).unwrap();
        let other = sched::watchdog(&domain, 0, 9).unwrap();
        assert_eq!(sched::watchdog(&domain, 0, 2), Err(Errno::ENOSPC));
        assert_eq!(sched::watchdog(&domain, 7, 2), Err(Errno::EINVAL));
        sched::watchdog(&domain, other, 0).unwrap();
        domain.park(&[], Some(1_900_000_000));
        sched::watchdog(&domain, id, 2).unwrap();
        domain.park(&[], Some(3_800_000_000));
        let outcome = domain.run(|domain| domain.park(&[], Some(9_000_000_000)));
        let Outcome::Shutdown(shutdown) = outcome else {
            panic!("it slept on")
        };
        assert_eq!(shutdown.reason, ShutdownReason::WATCHDOG);
        assert_eq!(domain.now_ns(), 3_900_000_000);
    }

    #[test]
    fn two_ports_of_one_domain_reach_each_other() {
        let domain = domain();
        let offered = event_channel::alloc_unbound(&domain, DomId::SELF).unwrap();
        let bound = event_channel::bind_interdomain(&domain, DomId::SELF, offered).unwrap();
        event_channel::send(&domain, bound).unwrap();
        domain.park(&[offered], None);
        let status = event_channel::status(&domain, offered).unwrap();
        assert_eq!(status.interdomain().unwrap().port, bound);
        event_channel::close(&domain, bound).unwrap();
        let status = event_channel::status(&domain, offered).unwrap();
        assert_eq!(status.unbound(), Some(domain.domid()));
        let ipi = event_channel::bind_ipi(&domain, VcpuId(0)).unwrap();
        event_channel::send(&domain, ipi).unwrap();
        domain.park(&[ipi], None);
    }

    #[test]
    fn who_sleeps_to_a_time_keeps_others_from_a_deadlock() {
        let xen = Xen::new(Time::Virtual);
        let [one, other] = [(); 2].map(|()| xen.domain(Config::default()).unwrap());
        let offered = event_channel::alloc_unbound(&one, other.domid()).unwrap();
        let waits = |one: &Domain| one.park(&[offered], None);
        let naps = |other: &Domain| {
            for nap in 1..=100 {
                other.park(&[], Some(nap * 1_000_000));
            }
            let bound = event_channel::bind_interdomain(other, one.domid(), offered).unwrap();
            event_channel::send(other, bound).unwrap();
        };
        for ended in xen.run(vec![(&one, Box::new(waits)), (&other, Box::new(naps))]) {
            assert!(matches!(ended, Outcome::Returned(())));
        }
        assert_eq!(one.now_ns(), 100_000_000);
    }

    #[test]
    fn calls_in_a_list_have_their_own_answers() {
        let domain = domain();
        let mut calls = [
            MulticallEntry::new(HypercallNr::XEN_VERSION, &[0]),
            MulticallEntry::new(HypercallNr(62), &[]),
            MulticallEntry::new(HypercallNr::MULTICALL, &[]),
        ];
        // SAFETY: none of them names memory.
        unsafe { multicall::multicall(&domain, &mut calls) }.unwrap();
        assert_eq!(calls[0].check(), Ok(4 << 16 | 20));
        assert_eq!(calls[1].check(), Err(Errno::ENOSYS));
        assert_eq!(calls[2].check(), Err(Errno::EINVAL));
        assert_eq!(vm_assist::enable(&domain, VmAssist(63)), Err(Errno::EINVAL));
        vm_assist::enable(&domain, VmAssist::PAE_EXTENDED_CR3).unwrap();
        vm_assist::enable(&domain, VmAssist::RUNSTATE_UPDATE_FLAG).unwrap();
    }
}
