//! Domains with several vCPUs.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Config, Domain, Outcome, Plan, Time, Xen, engine::vcpus::current};
use hypercall_abi::{
    Errno, Port, VcpuId,
    event_channel::{self, bind_ipi},
    peer::PeerPtr,
    peer_field,
    platform::Park,
    sched::{self, ShutdownReason},
    vcpu::{self, VcpuState},
    xen::{SharedInfo, VcpuGuestContext},
};

/// The code of a vCPU that a guest starts.
type Code = extern "C-unwind" fn(u64);

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
