//! vCPUs: each runs on a thread of its own, from [`VCPUOP_up`] on.
//!
//! [`VCPUOP_up`]: hypercall_abi::vcpu::up

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use hypercall_abi::{
    Errno, VcpuId,
    vcpu::RunState,
    xen::{VcpuContextFlags, VcpuGuestContext},
};

use crate::{
    Domain, OnShutdown, Shutdown,
    calls::{RunTimes, Timers},
    processor::Processor,
    world::Actor,
};

/// What a vCPU starts with.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// A function of the host's, and its argument.
    Code { code: u64, argument: u64 },
    /// All registers, of a guest that runs as an image.
    #[cfg_attr(
        not(feature = "user"),
        expect(dead_code, reason = "read by who runs a guest's image")
    )]
    Context(Box<VcpuGuestContext>),
}

/// One vCPU, as the hypervisor keeps it.
#[derive(Debug)]
pub(crate) struct Vcpu {
    entry: Option<Entry>,
    pub(crate) is_up: bool,
    /// Whether its code runs, or would if it were up.
    pub(crate) has_begun: bool,
    /// Whether it is one of those that run or sleep.
    pub(crate) is_counted: bool,
    pub(crate) timers: Timers,
    pub(crate) run_times: RunTimes,
    /// What a PV guest has set of it.
    pub(crate) processor: Processor,
}

impl Vcpu {
    /// The one that the domain starts with.
    pub(crate) fn first(now_ns: u64) -> Self {
        Self {
            entry: None,
            is_up: true,
            has_begun: false,
            is_counted: false,
            timers: Timers::default(),
            run_times: RunTimes::new(RunState::RUNNING, now_ns),
            processor: Processor::default(),
        }
    }

    /// Another.
    pub(crate) fn other() -> Self {
        Self {
            is_up: false,
            run_times: RunTimes::new(RunState::OFFLINE, 0),
            ..Self::first(0)
        }
    }
}

thread_local! {
    /// The vCPU that this thread is: a thread that the mock did not start is its
    /// domain's first.
    static CURRENT: Cell<VcpuId> = const { Cell::new(VcpuId(0)) };
}

/// The vCPU that asks.
pub(crate) fn current() -> VcpuId {
    CURRENT.get()
}

/// This thread is a vCPU from now on.
#[cfg(feature = "user")]
pub(crate) fn set_current(vcpu: VcpuId) {
    CURRENT.set(vcpu);
}

/// The code of a vCPU that a guest starts.
type Code = extern "C-unwind" fn(u64);

impl Domain {
    /// This vCPU, among all.
    pub(crate) fn actor(&self) -> Actor {
        (self.domid, current())
    }

    /// `VCPUOP_is_up`.
    pub(crate) fn is_up(&self, vcpu: VcpuId) -> bool {
        let state = self.lock();
        let found = state.vcpus.get(vcpu.0 as usize);
        found.is_some_and(|vcpu| vcpu.is_up)
    }

    /// `VCPUOP_initialise`.
    pub(crate) fn initialise(
        &self,
        vcpu: VcpuId,
        start: Result<Entry, Errno>,
        flags: VcpuContextFlags,
    ) -> Result<usize, Errno> {
        let mut state = self.lock();
        let index = vcpu.0 as usize;
        let found = state.vcpus.get_mut(index).ok_or(Errno::ENOENT)?;
        if index == 0 || found.entry.is_some() {
            return Err(Errno::EEXIST);
        }
        found.entry = Some(start?);
        drop(state);
        if flags.contains(VcpuContextFlags::ONLINE) {
            return self.up(vcpu);
        }
        Ok(0)
    }

    /// `VCPUOP_up`.
    pub(crate) fn up(&self, vcpu: VcpuId) -> Result<usize, Errno> {
        let mut state = self.lock();
        let now_ns = self.xen.0.now_ns(&state.world);
        let found = state.vcpus.get_mut(vcpu.0 as usize).ok_or(Errno::ENOENT)?;
        if vcpu != VcpuId(0) && found.entry.is_none() {
            return Err(Errno::EINVAL);
        }
        if !found.is_up {
            found.is_up = true;
            found.run_times.enter(RunState::RUNNING, now_ns);
            self.xen.0.enter(&mut state.world, (self.domid, vcpu));
            self.xen.0.wake_all();
        }
        Ok(0)
    }

    /// `VCPUOP_down`: the last one that goes ends the domain.
    pub(crate) fn down(&self, vcpu: VcpuId) -> Result<usize, Errno> {
        let mut state = self.lock();
        let now_ns = self.xen.0.now_ns(&state.world);
        let index = vcpu.0 as usize;
        let mut others = state.vcpus.iter().enumerate();
        if !others.any(|(other, vcpu)| other != index && vcpu.is_up) {
            drop(state);
            self.end(
                hypercall_abi::sched::ShutdownReason::POWEROFF,
                String::new(),
            );
        }
        let found = state.vcpus.get_mut(index).ok_or(Errno::ENOENT)?;
        if found.is_up {
            found.is_up = false;
            found.run_times.enter(RunState::OFFLINE, now_ns);
            // One that sleeps is to see it.
            self.xen.0.rouse(&mut state.world);
        }
        Ok(0)
    }

    /// Where a vCPU stays while it is down, and where it ends with its domain.
    pub(crate) fn gate(&self) {
        if std::thread::panicking() {
            // It ends already, and lets go of what it has.
            return;
        }
        let me = self.actor();
        let index = me.1.0 as usize;
        let mut state = self.lock();
        loop {
            // A call on behalf of a domain that does not run ends nobody.
            let runs = state.vcpus.get(index).is_some_and(|vcpu| vcpu.is_counted);
            if let Some(end) = state.ending.clone().filter(|_| runs) {
                drop(state);
                match self.on_shutdown {
                    OnShutdown::Unwind => resume_unwind(Box::new(end)),
                    OnShutdown::ExitProcess => loop {
                        std::thread::park();
                    },
                }
            }
            if state.vcpus.get(index).is_none_or(|vcpu| vcpu.is_up) {
                return;
            }
            self.xen.0.leave(&mut state.world, me);
            state.world = self.xen.0.wait_while(state.world, |world| {
                world.domains.get(&me.0).is_some_and(|state| {
                    state.ending.is_none() && !state.vcpus.get(index).is_some_and(|vcpu| vcpu.is_up)
                })
            });
            state.world = self.xen.0.wait_for_turn(state.world, me);
        }
    }

    /// Has all vCPUs end, as soon as they make a call.
    pub(crate) fn stop_vcpus(&self) {
        let mut state = self.lock();
        if state.vcpus.len() > 1 && state.ending.is_none() {
            let end = Shutdown {
                reason: hypercall_abi::sched::ShutdownReason::POWEROFF,
                report: "the first vCPU's code returned\n".into(),
            };
            let host = &self.xen.0;
            host.end_vcpus(&mut state.world, self.domid, end);
        }
    }

    /// The first vCPU is about to run.
    #[cfg(feature = "user")]
    pub(crate) fn begin_first(&self) {
        let me = (self.domid, VcpuId(0));
        let mut state = self.lock();
        if let Some(vcpu) = state.vcpus.first_mut() {
            vcpu.has_begun = true;
        }
        self.xen.0.enter(&mut state.world, me);
    }

    /// Waits until a vCPU is brought up, and says what it starts with. `None`: it
    /// ends before it has begun.
    pub(crate) fn wait_for_start(&self, vcpu: VcpuId) -> Option<Entry> {
        CURRENT.set(vcpu);
        let me = self.actor();
        let host = &self.xen.0;
        let mut world = host.wait_while(host.lock(), |world| {
            world.domains.get(&me.0).is_some_and(|state| {
                let vcpu = state.vcpus.get(vcpu.0 as usize);
                state.ending.is_none() && !vcpu.is_some_and(|vcpu| vcpu.is_up)
            })
        });
        if !world.vcpu_of(me).is_some_and(|vcpu| vcpu.is_counted) {
            return None;
        }
        let mut world = host.wait_for_turn(world, me);
        let is_ending = world
            .domains
            .get(&me.0)
            .is_none_or(|state| state.ending.is_some());
        let entry = world.vcpu_of(me).and_then(|vcpu| {
            vcpu.has_begun = true;
            vcpu.entry.clone().filter(|_| !is_ending)
        });
        if entry.is_none() {
            host.leave(&mut world, me);
        }
        entry
    }

    /// What the thread of any vCPU but the first does.
    pub(crate) fn run_vcpu(&self, vcpu: VcpuId) {
        loop {
            let Some(Entry::Code { code, argument }) = self.wait_for_start(vcpu) else {
                return;
            };
            let host = &self.xen.0;
            let me = self.actor();
            let code = core::ptr::with_exposed_provenance::<()>(code as usize);
            // SAFETY: whoever initialised the vCPU promised that its code is
            // there, and is such a function.
            let code = unsafe { core::mem::transmute::<*const (), Code>(code) };
            let ended = catch_unwind(AssertUnwindSafe(|| code(argument)));
            let mut state = self.lock();
            let now_ns = host.now_ns(&state.world);
            if let Some(vcpu) = state.vcpus.get_mut(vcpu.0 as usize) {
                vcpu.is_up = false;
                vcpu.has_begun = false;
                vcpu.run_times.enter(RunState::OFFLINE, now_ns);
            }
            host.leave(&mut state.world, me);
            drop(state);
            match ended.map_err(|payload| payload.downcast::<Shutdown>()) {
                Ok(()) => {}
                Err(Ok(_)) => return,
                Err(Err(panic)) => {
                    self.stop_vcpus();
                    resume_unwind(panic)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::{Config, Outcome, Plan, Time, Xen};
    use hypercall_abi::{
        Port,
        event_channel::{self, bind_ipi},
        peer::PeerPtr,
        peer_field,
        platform::Park,
        sched::{self, ShutdownReason},
        vcpu::{self, VcpuState},
        xen::SharedInfo,
    };

    const OTHER: VcpuId = VcpuId(1);
    const ROUNDS: u32 = 50;

    fn domain(xen: &Xen) -> Domain {
        let config = Config {
            vcpus: 2,
            ..Config::default()
        };
        xen.domain(config).unwrap()
    }

    /// What the two vCPUs have in common.
    struct Both<'a> {
        domain: &'a Domain,
        /// Of the first and of the other.
        bells: [Port; 2],
        rounds: AtomicU32,
    }

    impl Both<'_> {
        fn hear(&self, port: Port) {
            self.domain.park(&[port], None);
            // SAFETY: the page lives as long as the domain.
            let shared = unsafe { PeerPtr::new(self.domain.shared_info()) };
            let words = peer_field!(shared, SharedInfo, evtchn_pending);
            let word = words.get(port.0 as usize / 64).unwrap();
            let _before = word.fetch_and(!(1 << (port.0 % 64)));
        }

        fn ring(&self, port: Port) {
            event_channel::send(self.domain, port).unwrap();
            // Something to do while the other works.
            hypercall_abi::version::version(self.domain).unwrap();
        }
    }

    extern "C-unwind" fn answers(both: u64) {
        let both = core::ptr::with_exposed_provenance::<Both<'_>>(both as usize);
        // SAFETY: it is there until the domain's first vCPU returns, which is
        // after this has answered for the last time.
        let both = unsafe { &*both };
        assert_eq!(current(), OTHER);
        loop {
            both.hear(both.bells[1]);
            both.rounds.fetch_add(1, Ordering::Relaxed);
            both.ring(both.bells[0]);
        }
    }

    fn start(domain: &Domain, code: Code, argument: u64) -> Result<(), Errno> {
        let mut context = VcpuGuestContext::default();
        context.user_regs.rip = (code as *const ()).addr() as u64;
        context.user_regs.rdi = argument;
        // SAFETY: the code is there, and expects this argument.
        unsafe { vcpu::initialise_pv(domain, OTHER, &mut context) }?;
        // SAFETY: as above.
        unsafe { vcpu::up(domain, OTHER) }
    }

    fn rings_back_and_forth(domain: &Domain) -> u32 {
        let bells = [VcpuId(0), OTHER].map(|vcpu| bind_ipi(domain, vcpu).unwrap());
        let both = Both {
            domain,
            bells,
            rounds: AtomicU32::new(0),
        };
        start(
            domain,
            answers,
            (&raw const both).expose_provenance() as u64,
        )
        .unwrap();
        for _ in 0..ROUNDS {
            both.ring(bells[1]);
            both.hear(bells[0]);
        }
        vcpu::down(domain, OTHER).unwrap();
        both.rounds.load(Ordering::Relaxed)
    }

    #[test]
    fn two_vcpus_ring_at_each_others_door() {
        for time in [Time::Virtual, Time::Real] {
            let domain = domain(&Xen::new(time));
            assert_eq!(vcpu::state(&domain, OTHER), Ok(VcpuState::Down));
            let Outcome::Returned(rounds) = domain.run(rings_back_and_forth) else {
                panic!("it did not return");
            };
            assert_eq!(rounds, ROUNDS);
        }
    }

    #[test]
    fn a_seed_fixes_the_order_of_vcpus_too() {
        let play = |seed| {
            let xen = Xen::new(Time::Virtual);
            let domain = domain(&xen);
            let played = xen.play(
                Plan::seed(seed),
                vec![(&domain, Box::new(rings_back_and_forth))],
            );
            assert!(matches!(played.outcomes[..], [Outcome::Returned(ROUNDS)]));
            (played.trace, played.steps)
        };
        let traces: Vec<_> = (0..30).map(play).collect();
        assert_eq!(traces, (0..30).map(play).collect::<Vec<_>>());
        let different: std::collections::BTreeSet<_> = traces.iter().collect();
        assert!(different.len() > 20, "{}", different.len());
    }

    extern "C-unwind" fn goes(domain: u64) {
        let domain = core::ptr::with_exposed_provenance::<Domain>(domain as usize);
        // SAFETY: the domain is there for as long as its vCPUs.
        let domain = unsafe { &*domain };
        vcpu::down(domain, OTHER).unwrap();
        // It was brought up again.
        let _ended = sched::shutdown(domain, ShutdownReason::REBOOT);
    }

    #[test]
    fn a_vcpu_goes_on_where_it_went_down_and_may_end_the_domain() {
        let domain = domain(&Xen::new(Time::Virtual));
        let outcome = domain.run(|domain| {
            let address = core::ptr::from_ref(domain).expose_provenance() as u64;
            start(domain, goes, address).unwrap();
            assert_eq!(start(domain, goes, address), Err(Errno::EEXIST));
            while vcpu::state(domain, OTHER) == Ok(VcpuState::Up) {
                domain.park(
                    &[],
                    Some(hypercall_abi::platform::Clock::now_ns(domain) + 1000),
                );
            }
            // SAFETY: it goes on where it was.
            unsafe { vcpu::up(domain, OTHER) }.unwrap();
            // Not for ever: the other one ends it.
            domain.park(&[], None);
        });
        let Outcome::Shutdown(end) = outcome else {
            panic!("it returned");
        };
        assert_eq!(end.reason, ShutdownReason::REBOOT);
    }

    #[test]
    fn all_asleep_is_a_deadlock_and_the_last_one_down_the_end() {
        let domain = domain(&Xen::new(Time::Virtual));
        let outcome = domain.run(|domain| {
            let bells = [VcpuId(0), OTHER].map(|vcpu| bind_ipi(domain, vcpu).unwrap());
            let both = Both {
                domain,
                bells,
                rounds: AtomicU32::new(0),
            };
            let address = (&raw const both).expose_provenance() as u64;
            start(domain, answers, address).unwrap();
            both.hear(bells[0]);
        });
        let Outcome::Shutdown(end) = outcome else {
            panic!("it returned");
        };
        assert!(end.report.contains("deadlock"), "{end:?}");
        let outcome = domain.run(|domain| vcpu::down(domain, VcpuId(0)));
        assert!(matches!(
            outcome,
            Outcome::Shutdown(end) if end.reason == ShutdownReason::POWEROFF
        ));
    }
}
