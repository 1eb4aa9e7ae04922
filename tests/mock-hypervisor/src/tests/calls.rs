//! Hypercalls of a domain of the mock's.

use crate::{Config, Domain, Outcome, Profile, Time, Xen};
use hypercall_abi::{
    DomId, Errno, HypercallNr, Port, VcpuId,
    event_channel::{self, EVTCHNOP_SEND},
    memory::XENMEM_CURRENT_RESERVATION,
    platform::{Clock, Hypercall, Park},
    sched::{self, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, ShutdownReason},
    vcpu,
    version::{self, XENVER_EXTRAVERSION},
    xen::{Virq, VmAssist, multicall, multicall::MulticallEntry, vm_assist},
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
fn an_older_xen_has_fewer_calls() {
    let domain = |profile| {
        let config = Config {
            profile,
            ..Config::default()
        };
        Domain::new(config).unwrap()
    };
    let (old, new) = (domain(Profile::Xen4_17), domain(Profile::Xen4_20));
    assert_eq!(version::version(&old).unwrap().to_string(), "4.17");
    assert_eq!(version::version(&new).unwrap().to_string(), "4.20");
    let text = |domain: &Domain| {
        version::long_text(domain, version::LongText::Capabilities, &mut [0; 100]).map(|_| ())
    };
    assert_eq!((text(&old), text(&new)), (Err(Errno::ENOSYS), Ok(())));
    let area = |domain: &Domain| {
        // SAFETY: there is no such memory.
        unsafe { vcpu::register_runstate_phys_area(domain, VcpuId(0), 1 << 50) }
    };
    assert_eq!(
        (area(&old), area(&new)),
        (Err(Errno::ENOSYS), Err(Errno::EINVAL))
    );
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
    vcpu::set_singleshot_timer(&domain, VcpuId(0), 5_000, vcpu::SingleshotFlags::empty()).unwrap();
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
