//! The hypercalls, as Xen takes them.

use std::time::Duration;

use hypercall_abi::{
    DomId, Errno, HypercallNr, Port, VcpuId,
    event_channel::{
        ChannelStatus, EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_CLOSE, EVTCHNOP_SEND, EVTCHNOP_STATUS,
        EvtchnAllocUnbound, EvtchnStatus,
    },
    features::XenFeatures,
    memory::{XENMEM_CURRENT_RESERVATION, XENMEM_MAXIMUM_RESERVATION},
    sched::{
        SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_WATCHDOG, SCHEDOP_YIELD, SchedPoll,
        ShutdownReason,
    },
    vcpu::VCPUOP_IS_UP,
    version::{XENVER_CAPABILITIES, XENVER_EXTRAVERSION, XENVER_GET_FEATURES, XENVER_VERSION},
};
use zerocopy::{FromBytes, IntoBytes};

use crate::{Domain, Time, memory::GuestMemory, ports::Binding};

/// The version that the mock is modelled on: 4.20.
const VERSION: usize = 4 << 16 | 20;
/// What it says behind that: no Xen does.
const EXTRAVERSION: &[u8; 16] = b"-mock\0\0\0\0\0\0\0\0\0\0\0";
const CAPABILITIES: &[u8] = b"xen-3.0-x86_64 ";
/// The most ports of one poll.
const MOST_POLLED: u32 = 128;

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
        *self.lock().calls.entry(nr.0).or_default() += 1;
        let [a1, a2, a3, ..] = args;
        let answer = match nr {
            HypercallNr::XEN_VERSION => self.xen_version(memory, a1, a2),
            HypercallNr::SCHED_OP => self.sched_op(memory, a1, a2),
            HypercallNr::EVENT_CHANNEL_OP => self.event_channel_op(memory, a1, a2),
            HypercallNr::MEMORY_OP => self.memory_op(memory, a1, a2),
            HypercallNr::VCPU_OP => self.vcpu_op(a1, VcpuId(a2 as u32)),
            // A release Xen takes a guest's words and forgets them.
            HypercallNr::CONSOLE_IO if a1 == 0 => {
                let mut byte = [0];
                if a2 > 0 {
                    memory.copy_in(a3, &mut byte).map(|()| 0)
                } else {
                    Ok(0)
                }
            }
            _ => Err(Errno::ENOSYS),
        };
        match answer {
            Ok(value) => value.cast_signed(),
            Err(errno) => {
                if errno == Errno::ENOSYS {
                    *self.lock().unknown.entry((nr.0, a1)).or_default() += 1;
                }
                errno.to_answer()
            }
        }
    }

    fn xen_version(
        &self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
    ) -> Result<usize, Errno> {
        match op {
            XENVER_VERSION => Ok(VERSION),
            XENVER_EXTRAVERSION => memory.copy_out(arg, EXTRAVERSION).map(|()| 0),
            XENVER_CAPABILITIES => {
                let mut text = [0; 1024];
                text[..CAPABILITIES.len()].copy_from_slice(CAPABILITIES);
                memory.copy_out(arg, &text).map(|()| 0)
            }
            XENVER_GET_FEATURES => {
                let [submap, _]: [u32; 2] = read(memory, arg)?;
                if submap != 0 {
                    return Err(Errno::EINVAL);
                }
                let features =
                    XenFeatures::MMU_PT_UPDATE_PRESERVE_AD | XenFeatures::PAE_PGDIR_ABOVE_4GB;
                memory
                    .copy_out(arg, [submap, features.bits()].as_bytes())
                    .map(|()| 0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn sched_op(&self, memory: &impl GuestMemory, op: usize, arg: usize) -> Result<usize, Errno> {
        match op {
            SCHEDOP_YIELD => {
                std::thread::yield_now();
                Ok(0)
            }
            // Upcalls are not modelled: nothing would end the sleep.
            SCHEDOP_BLOCK => self.deadlock("SCHEDOP_block, and no upcalls"),
            SCHEDOP_SHUTDOWN => {
                let reason: ShutdownReason = read(memory, arg)?;
                if reason.0 > ShutdownReason::SOFT_RESET.0 {
                    return Err(Errno::EINVAL);
                }
                self.end(reason, String::new())
            }
            SCHEDOP_POLL => {
                let poll: SchedPoll = read(memory, arg)?;
                if poll.nr_ports > MOST_POLLED {
                    return Err(Errno::EINVAL);
                }
                let mut ports = Vec::new();
                for i in 0..u64::from(poll.nr_ports) {
                    let port: Port = read(memory, (poll.ports + i * 4) as usize)?;
                    self.lock().ports.binding(port)?;
                    ports.push(port);
                }
                self.poll(&ports, (poll.timeout != 0).then_some(poll.timeout));
                Ok(0)
            }
            SCHEDOP_WATCHDOG => Err(Errno::ENOSYS),
            _ => Err(Errno::ENOSYS),
        }
    }

    fn poll(&self, ports: &[Port], timeout_ns: Option<u64>) {
        let mut state = self.lock();
        loop {
            if state.console.serve() {
                let port = state.console_port;
                state.ports.set_pending(port);
            }
            if ports.iter().any(|port| state.ports.is_pending(*port)) {
                return;
            }
            match (self.time, timeout_ns) {
                (Time::Virtual, Some(until)) => {
                    state.virtual_ns = state.virtual_ns.max(until);
                    return;
                }
                (Time::Virtual, None) => {
                    drop(state);
                    self.deadlock("SCHEDOP_poll without a timeout");
                }
                (Time::Real, Some(until)) => {
                    let now = self.started.elapsed().as_nanos() as u64;
                    let Some(rest) = until.checked_sub(now).filter(|rest| *rest > 0) else {
                        return;
                    };
                    let wait = self.event.wait_timeout(state, Duration::from_nanos(rest));
                    state = wait.unwrap_or_else(std::sync::PoisonError::into_inner).0;
                }
                (Time::Real, None) => {
                    let wait = self.event.wait(state);
                    state = wait.unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
        }
    }

    fn deadlock(&self, what: &str) -> ! {
        let ports = self.lock().ports.describe();
        self.end(
            ShutdownReason::CRASH,
            format!("deadlock: the guest waits ({what}) for what cannot come\n{ports}"),
        )
    }

    fn event_channel_op(
        &self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
    ) -> Result<usize, Errno> {
        match op {
            EVTCHNOP_SEND => {
                let port: Port = read(memory, arg)?;
                self.send(port)
            }
            EVTCHNOP_CLOSE => {
                let port: Port = read(memory, arg)?;
                self.lock().ports.close(port).map(|()| 0)
            }
            EVTCHNOP_ALLOC_UNBOUND => {
                let mut alloc: EvtchnAllocUnbound = read(memory, arg)?;
                self.own(alloc.dom)?;
                let remote = match alloc.remote_dom {
                    DomId::SELF => GUEST,
                    other => other,
                };
                alloc.port = self.lock().ports.open(Binding::Unbound(remote))?;
                memory.copy_out(arg, alloc.as_bytes()).map(|()| 0)
            }
            EVTCHNOP_STATUS => {
                let mut status: EvtchnStatus = read(memory, arg)?;
                self.own(status.dom)?;
                status.vcpu = VcpuId(0);
                (status.status, status.u) = match self.lock().ports.binding(status.port)? {
                    Binding::Closed => (ChannelStatus::CLOSED, status.u),
                    Binding::Unbound(remote) => (ChannelStatus::UNBOUND, u64::from(remote.0)),
                    Binding::Console => (ChannelStatus::INTERDOMAIN, 0),
                };
                memory.copy_out(arg, status.as_bytes()).map(|()| 0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// An unprivileged domain may only name itself.
    fn own(&self, domid: DomId) -> Result<(), Errno> {
        if domid == DomId::SELF || domid == GUEST {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    fn send(&self, port: Port) -> Result<usize, Errno> {
        let mut state = self.lock();
        match state.ports.binding(port)? {
            Binding::Closed => Err(Errno::EINVAL),
            // Nobody is bound yet: the event is lost, and that is no error.
            Binding::Unbound(_) => Ok(0),
            Binding::Console => {
                if state.console.serve() {
                    state.ports.set_pending(port);
                }
                Ok(0)
            }
        }
    }

    fn memory_op(&self, memory: &impl GuestMemory, op: usize, arg: usize) -> Result<usize, Errno> {
        match op {
            XENMEM_CURRENT_RESERVATION | XENMEM_MAXIMUM_RESERVATION => {
                let domid: DomId = read(memory, arg)?;
                self.own(domid)?;
                Ok(self.lock().memory.nr_pages())
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn vcpu_op(&self, op: usize, vcpu: VcpuId) -> Result<usize, Errno> {
        if vcpu.0 >= self.vcpus {
            return Err(Errno::ENOENT);
        }
        match op {
            VCPUOP_IS_UP => Ok(usize::from(vcpu.0 == 0)),
            _ => Err(Errno::ENOSYS),
        }
    }
}

/// The number of the mock's only guest.
const GUEST: DomId = DomId(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Outcome};
    use hypercall_abi::{
        event_channel,
        platform::{Clock, Hypercall, Park},
        sched, vcpu, version,
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
        let domain = domain();
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
        assert!(end.report.contains("port 1: Console, quiet"));
    }

    #[test]
    fn a_shutdown_does_not_return() {
        let domain = domain();
        let outcome = domain.run(|guest| sched::shutdown(guest, ShutdownReason::REBOOT));
        assert!(matches!(
            outcome,
            Outcome::Shutdown(end) if end.reason == ShutdownReason::REBOOT
        ));
        let outcome = domain.run(|guest| sched::shutdown(guest, ShutdownReason(99)));
        assert!(matches!(outcome, Outcome::Returned(Err(Errno::EINVAL))));
    }
}
