//! Domains that are suspended.

use crate::{Config, Domain, Outcome, Suspend, Xen};
use hypercall_abi::{
    DomId, Errno, Gfn, Mfn, PAGE_SIZE, VcpuId,
    event_channel::{self, ChannelStatus},
    grant_table,
    hvm::HvmParam,
    platform::{Clock, Pages},
    sched::{self, ShutdownReason, Suspended},
    xen::{
        StartInfo,
        mmu::{Flush, update_va_mapping},
    },
};

fn domain() -> Domain {
    Domain::new(Config::default()).unwrap()
}

fn suspend(domain: &Domain) -> Result<Suspended, Errno> {
    let frame = domain.gfn_of(domain.start_info().cast()).unwrap();
    // SAFETY: these tests keep nothing of what it changes.
    unsafe { sched::suspend(domain, Some(Mfn(frame.0))) }
}

fn start_info(domain: &Domain) -> StartInfo {
    // SAFETY: nobody writes it just now.
    unsafe { domain.start_info().read() }
}

#[test]
fn who_was_not_asked_has_ended() {
    let domain = domain();
    let Outcome::Shutdown(end) = domain.run(suspend) else {
        panic!("it went on");
    };
    assert_eq!(end.reason, ShutdownReason::SUSPEND);
}

#[test]
fn a_suspend_that_is_cancelled_changes_nothing_but_time() {
    let domain = domain();
    let xen = domain.xen();
    xen.suspend(domain.domid(), Suspend::Cancelled).unwrap();
    let path = format!("/local/domain/{}/control/shutdown", domain.domid());
    assert_eq!(xen.store_read(&path).unwrap(), b"suspend");
    assert!(xen.is_suspending(domain.domid()));
    let port = event_channel::bind_ipi(&domain, VcpuId(0)).unwrap();
    let (before, frame) = (domain.now_ns(), domain.gfn_of(domain.start_info().cast()));
    assert_eq!(suspend(&domain), Ok(Suspended::Cancelled));
    assert!(!xen.is_suspending(domain.domid()));
    assert!(domain.now_ns() > before);
    assert_eq!(domain.gfn_of(domain.start_info().cast()), frame);
    let told = event_channel::status(&domain, port).unwrap();
    assert_eq!(told.status, ChannelStatus::IPI);
}

#[test]
fn a_domain_that_moved_has_other_frames_and_no_ports() {
    let (xen, config) = (Xen::new(crate::Time::Virtual), Config::default);
    let [domain, peer] = [(); 2].map(|()| xen.domain(config()).unwrap());
    let before = start_info(&domain);
    let ipi = event_channel::bind_ipi(&domain, VcpuId(0)).unwrap();
    let offered = event_channel::alloc_unbound(&domain, peer.domid()).unwrap();
    let bound = event_channel::bind_interdomain(&peer, domain.domid(), offered).unwrap();
    // A page that the guest may only read, by an entry with a frame.
    let page = domain.alloc(1).unwrap();
    let old = domain.gfn_of(page).unwrap();
    let entry = |gfn: Gfn| (gfn.0 * PAGE_SIZE as u64) | 1 | 4;
    // SAFETY: nobody writes the page.
    unsafe { update_va_mapping(&domain, page.addr().get(), entry(old), Flush::None) }.unwrap();
    assert!(event_channel::send(&peer, bound).is_ok());

    xen.suspend(domain.domid(), Suspend::Moved).unwrap();
    assert!(matches!(suspend(&domain), Ok(Suspended::Resumed(_))));
    let after = start_info(&domain);
    assert_ne!(domain.gfn_of(page), Some(old));
    assert_ne!(after.shared_info, before.shared_info);
    assert_ne!(after.console.mfn, before.console.mfn);
    assert_eq!(
        domain.page_of(after.store_mfn.into()),
        Some(domain.start_info().cast::<[u8; PAGE_SIZE]>().cast::<u8>()).map(|page| {
            // SAFETY: the next page of the domain's.
            unsafe { page.add(PAGE_SIZE) }
        })
    );
    for gone in [ipi, offered] {
        let told = event_channel::status(&domain, gone).unwrap();
        assert!([ChannelStatus::CLOSED, ChannelStatus::INTERDOMAIN].contains(&told.status));
    }
    assert_eq!(domain.open_ports(), 2);
    // Nobody is at the other end.
    let told = event_channel::status(&peer, bound).unwrap();
    assert_eq!(told.unbound(), Some(domain.domid()));
    // The old frame is nobody's; the new one is as it was.
    // SAFETY: nothing comes of it.
    let refused = unsafe { update_va_mapping(&domain, page.addr().get(), entry(old), Flush::None) };
    assert!(refused.is_err());
    let new = domain.gfn_of(page).unwrap();
    // SAFETY: nobody writes the page.
    unsafe { update_va_mapping(&domain, page.addr().get(), entry(new), Flush::None) }.unwrap();
    assert_eq!(grant_table::get_version(&domain, DomId::SELF), Ok(1));
    // The console is where it was told.
    domain.console_input(b"x");
    assert!(after.console.evtchn != before.console.evtchn);
}

#[test]
fn a_pvh_guest_that_moved_asks_for_its_ports() {
    let config = Config {
        domain_type: crate::DomainType::Pvh,
        ..Config::default()
    };
    let domain = Domain::new(config).unwrap();
    let ask = |param| hypercall_abi::hvm::get_param(&domain, param).unwrap();
    let before = (ask(HvmParam::STORE_EVTCHN), ask(HvmParam::STORE_PFN));
    let page = domain.alloc(1).unwrap();
    let frame = domain.gfn_of(page);
    domain
        .xen()
        .suspend(domain.domid(), Suspend::Moved)
        .unwrap();
    // SAFETY: nothing of it is kept.
    let suspended = unsafe { sched::suspend(&domain, None) };
    assert!(matches!(suspended, Ok(Suspended::Resumed(_))));
    let after = (ask(HvmParam::STORE_EVTCHN), ask(HvmParam::STORE_PFN));
    assert_eq!(before.1, after.1);
    assert_ne!(before.0, after.0);
    assert_eq!(domain.gfn_of(page), frame);
    assert_eq!(domain.open_ports(), 2);
}

#[test]
fn a_pv_guest_says_where_its_start_information_is() {
    let domain = domain();
    domain
        .xen()
        .suspend(domain.domid(), Suspend::Moved)
        .unwrap();
    // SAFETY: it does not come back.
    let outcome = domain.run(|domain| unsafe { sched::suspend(domain, None) });
    assert!(matches!(
        outcome,
        Outcome::Shutdown(end) if end.reason == ShutdownReason::CRASH
    ));
}
