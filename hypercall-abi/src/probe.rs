//! What the running hypervisor offers, so that a guest can do without.
//!
//! A call that is not there answers `ENOSYS`, or `EOPNOTSUPP` (Xen's PV shim, and parts
//! that were not built in or switched on); one that is there but not for
//! this guest mostly says so otherwise. Each question here is a call that has
//! no effect (but that [`Facility::Timer`] stops the one-shot timer): ask
//! before you use what you ask for. Features that have a bit of their own are in
//! [`XenFeatures`](crate::features::XenFeatures), and who the hypervisor is, in
//! [`arch_x86::cpuid`](crate::arch_x86::cpuid).
//!
//! Whoever makes a call without asking first, and can do without, looks at its error by
//! [`Facility::is_absent`]: that is the one place that knows what "not offered" looks like.
//!
//! ```
//! # use hypercall_abi::{HypercallNr, platform::Hypercall};
//! # struct Nobody;
//! # unsafe impl Hypercall for Nobody {
//! #     unsafe fn call5(&self, _: HypercallNr, _: usize, _: usize, _: usize, _: usize, _: usize)
//! #     -> isize { -38 }
//! # }
//! use hypercall_abi::probe::{Facility, Offer};
//!
//! // No hypervisor at all:
//! assert_eq!(Facility::Multicall.ask(&Nobody), Offer::No);
//! ```

use crate::{
    DomId, Errno, Gfn, HypercallNr, VcpuId, event_channel, grant_table, hvm, memory,
    platform::Hypercall,
    sched, vcpu, version,
    xen::{console_io, cpu, mmu, multicall},
};

/// Something that a hypervisor may offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Facility {
    /// [`version`].
    Version,
    /// [`sched`].
    Sched,
    /// [`event_channel`].
    EventChannels,
    /// The FIFO interface of event channels.
    FifoEvents,
    /// [`event_channel::set_priority`], of the FIFO interface.
    EventPriorities,
    /// [`crate::grant_table`].
    GrantTable,
    /// [`set_version`](crate::grant_table::set_version): grant tables of version 2.
    GrantVersions,
    /// [`query_size`](crate::grant_table::query_size).
    GrantTableSize,
    /// [`memory`].
    Memory,
    /// [`memory::machphys_mapping`], of PV guests: without it, the table is where
    /// [`traps::MACH2PHYS_VIRT_START`](crate::xen::traps::MACH2PHYS_VIRT_START) says.
    MachineTable,
    /// [`memory::add_to_physmap`], of HVM and PVH guests.
    Physmap,
    /// [`mod@multicall`].
    Multicall,
    /// [`vcpu`].
    Vcpus,
    /// [`cpu::set_timer_op`].
    Timer,
    /// [`vcpu::set_singleshot_timer`].
    SingleshotTimer,
    /// [`mmu`], of PV guests.
    PvMmu,
    /// [`cpu::get_debugreg`], of PV guests.
    DebugRegisters,
    /// [`hvm`] parameters, of HVM and PVH guests.
    HvmParams,
    /// [`hvm::set_evtchn_upcall_vector`], of HVM and PVH guests.
    UpcallVector,
    /// [`crate::xen::vm_assist`].
    VmAssist,
    /// [`crate::physdev`]: physical interrupts.
    PhysicalInterrupts,
    /// Writing to Xen's own console: [`console_io::write`].
    XenConsole,
    /// [`crate::argo`].
    Argo,
    /// [`crate::pmu`].
    PerformanceCounters,
}

/// What a hypervisor says about a facility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// It is there.
    Yes,
    /// It is there, but not for this guest.
    Refused,
    /// It is not there.
    No,
}

impl Offer {
    /// What an answer means, where `expected` are those of a call that is there.
    fn from_answer<T>(answer: Result<T, Errno>, expected: &[Errno]) -> Self {
        match answer {
            Ok(_) => Self::Yes,
            Err(Errno::ENOSYS | Errno::EOPNOTSUPP) => Self::No,
            Err(error) if expected.contains(&error) => Self::Yes,
            Err(_) => Self::Refused,
        }
    }
}

impl Facility {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Version,
        Self::Sched,
        Self::EventChannels,
        Self::FifoEvents,
        Self::EventPriorities,
        Self::GrantTable,
        Self::GrantVersions,
        Self::GrantTableSize,
        Self::Memory,
        Self::MachineTable,
        Self::Physmap,
        Self::Multicall,
        Self::Vcpus,
        Self::Timer,
        Self::SingleshotTimer,
        Self::PvMmu,
        Self::DebugRegisters,
        Self::HvmParams,
        Self::UpcallVector,
        Self::VmAssist,
        Self::PhysicalInterrupts,
        Self::XenConsole,
        Self::Argo,
        Self::PerformanceCounters,
    ];

    /// Whether a call of this facility that was made as it should be, and answers `errno`,
    /// says that the hypervisor does not offer it: the caller does without.
    ///
    /// `EINVAL` and `EPERM` mean so where nothing else about such a call can be wrong: there
    /// are hypervisors that know a call's number and not what it is for, or let a policy
    /// answer.
    pub const fn is_absent(self, errno: Errno) -> bool {
        match errno {
            Errno::ENOSYS | Errno::EOPNOTSUPP => true,
            Errno::EPERM => self.is_for_every_guest(),
            // Of a port that the hypervisor has closed, a priority is as invalid.
            Errno::EINVAL => self.is_for_every_guest() && !matches!(self, Self::EventPriorities),
            _ => false,
        }
    }

    /// Whether a hypervisor that offers it does so to any guest that asks, of the kind that
    /// it is for.
    const fn is_for_every_guest(self) -> bool {
        matches!(
            self,
            Self::FifoEvents
                | Self::EventPriorities
                | Self::GrantVersions
                | Self::GrantTableSize
                | Self::MachineTable
                | Self::Multicall
                | Self::SingleshotTimer
                | Self::UpcallVector
                | Self::VmAssist
        )
    }

    /// Asks.
    pub fn ask<H: Hypercall + ?Sized>(self, h: &H) -> Offer {
        let raw = |nr: HypercallNr, op: usize, arg: usize| {
            // SAFETY: the callers below name no memory, or memory of their own
            // that outlives the call.
            Errno::check(unsafe { h.call5(nr, op, arg, 0, 0, 0) })
        };
        match self {
            Self::Version => Offer::from_answer(version::version(h), &[]),
            Self::Sched => {
                Offer::from_answer(raw(HypercallNr::SCHED_OP, sched::SCHEDOP_YIELD, 0), &[])
            }
            // Port zero is never open.
            Self::EventChannels => {
                Offer::from_answer(event_channel::status(h, crate::Port(0)), &[])
            }
            Self::FifoEvents => {
                // SAFETY: no guest has this vCPU, so nothing comes of it.
                let answer = unsafe { event_channel::init_control(h, Gfn(0), 0, VcpuId(u32::MAX)) };
                Offer::from_answer(answer, &[Errno::ENOENT, Errno::EINVAL])
            }
            // Port zero is never open.
            Self::EventPriorities => Offer::from_answer(
                event_channel::set_priority(h, crate::Port(0), 0),
                &[Errno::EINVAL],
            ),
            // Of no frame.
            Self::GrantTable => {
                Offer::from_answer(grant_table::setup_table(h, &mut []), &[Errno::EINVAL])
            }
            Self::GrantVersions => {
                Offer::from_answer(grant_table::get_version(h, DomId::SELF), &[])
            }
            Self::GrantTableSize => {
                Offer::from_answer(grant_table::query_size(h), &[Errno::EINVAL])
            }
            Self::Memory => Offer::from_answer(memory::current_reservation(h), &[]),
            Self::MachineTable => Offer::from_answer(memory::machphys_mapping(h), &[]),
            Self::Physmap => {
                // SAFETY: there is no such frame, so nothing comes of it.
                let answer = unsafe { memory::remove_from_physmap(h, Gfn(u64::MAX >> 12)) };
                Offer::from_answer(answer, &[Errno::EINVAL, Errno::ENOENT])
            }
            // SAFETY: of no hypercall.
            Self::Multicall => Offer::from_answer(unsafe { multicall::multicall(h, &mut []) }, &[]),
            Self::Vcpus => Offer::from_answer(vcpu::state(h, VcpuId(0)), &[]),
            Self::Timer => Offer::from_answer(cpu::set_timer_op(h, 0), &[]),
            // No guest has this vCPU.
            Self::SingleshotTimer => Offer::from_answer(
                vcpu::stop_singleshot_timer(h, VcpuId(u32::MAX)),
                &[Errno::ENOENT, Errno::EINVAL],
            ),
            // SAFETY: of no update.
            Self::PvMmu => Offer::from_answer(unsafe { mmu::mmu_update(h, &[], &mut 0) }, &[]),
            Self::DebugRegisters => Offer::from_answer(cpu::get_debugreg(h, 7), &[]),
            Self::HvmParams => {
                Offer::from_answer(hvm::get_param(h, hvm::HvmParam::STORE_EVTCHN), &[])
            }
            Self::UpcallVector => {
                // SAFETY: no guest has this vCPU, so nothing comes of it.
                let answer = unsafe { hvm::set_evtchn_upcall_vector(h, VcpuId(u32::MAX), 32) };
                Offer::from_answer(answer, &[Errno::ENOENT])
            }
            // There is no such help.
            Self::VmAssist => {
                Offer::from_answer(raw(HypercallNr::VM_ASSIST, 0, 63), &[Errno::EINVAL])
            }
            Self::PhysicalInterrupts => Offer::from_answer(
                crate::physdev::irq_status_query(h, u32::MAX),
                &[Errno::EINVAL],
            ),
            Self::XenConsole => Offer::from_answer(console_io::write(h, &[]), &[]),
            // There is no such ring.
            Self::Argo => {
                let mut ring = crate::argo::ArgoUnregisterRing {
                    aport: u32::MAX,
                    partner_id: DomId::IDLE,
                    ..Default::default()
                };
                Offer::from_answer(
                    crate::argo::unregister_ring(h, &mut ring),
                    &[Errno::ENOENT, Errno::ESRCH, Errno::EINVAL],
                )
            }
            Self::PerformanceCounters => {
                let mut params = crate::pmu::PmuParams::default();
                let params = (&raw mut params).expose_provenance();
                Offer::from_answer(raw(HypercallNr::XENPMU_OP, 999, params), &[Errno::EINVAL])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hypervisor that always answers the same.
    struct Always(isize);

    // SAFETY: it touches no memory.
    unsafe impl Hypercall for Always {
        unsafe fn call5(
            &self,
            _: HypercallNr,
            _: usize,
            _: usize,
            _: usize,
            _: usize,
            _: usize,
        ) -> isize {
            self.0
        }
    }

    #[test]
    fn what_is_not_there_says_so_in_two_ways() {
        for facility in Facility::ALL {
            for errno in [Errno::ENOSYS, Errno::EOPNOTSUPP] {
                let nobody = Always(errno.to_answer());
                assert_eq!(facility.ask(&nobody), Offer::No, "{facility:?}");
                assert!(facility.is_absent(errno), "{facility:?}");
            }
            let policy = Always(Errno::EPERM.to_answer());
            assert_eq!(facility.ask(&policy), Offer::Refused, "{facility:?}");
            assert_eq!(facility.ask(&Always(0)), Offer::Yes, "{facility:?}");
            // What passes, or is the caller's fault, is no reason to do without.
            for errno in [Errno::ENOMEM, Errno::EBUSY, Errno::EAGAIN, Errno::EFAULT] {
                assert!(!facility.is_absent(errno), "{facility:?}");
            }
        }
        assert_eq!(Facility::FifoEvents.ask(&Always(-2)), Offer::Yes);
    }

    /// Which facilities a caller does without, whatever the hypervisor says of them.
    #[test]
    fn what_a_guest_can_do_without() {
        let without = [
            Facility::FifoEvents,
            Facility::EventPriorities,
            Facility::GrantVersions,
            Facility::GrantTableSize,
            Facility::MachineTable,
            Facility::Multicall,
            Facility::SingleshotTimer,
            Facility::UpcallVector,
            Facility::VmAssist,
        ];
        for facility in Facility::ALL {
            let can = without.contains(facility);
            assert_eq!(facility.is_absent(Errno::EPERM), can, "{facility:?}");
            let can = can && *facility != Facility::EventPriorities;
            assert_eq!(facility.is_absent(Errno::EINVAL), can, "{facility:?}");
        }
    }
}
