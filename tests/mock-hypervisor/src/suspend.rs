//! Domains that are suspended, and go on: here, or elsewhere.

use std::ptr::NonNull;

use hypercall_abi::{
    DomId, Errno, Mfn,
    hvm::HvmParam,
    peer::PeerPtr,
    peer_field,
    sched::ShutdownReason,
    xen::{SharedInfo, StartInfo, VcpuInfo},
};

use crate::{
    Domain, StoreError, Xen,
    calls::{Timers, Watchdogs},
    grants::{Grants, unmap_page},
    memory::XEN_PAGES,
    ports::Binding,
    store::Ring,
    world::World,
};

/// What becomes of a domain that suspends itself because it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspend {
    /// It is not saved, and goes on as it was.
    Cancelled,
    /// It is saved, and goes on in other frames: its ports, grants, timers and
    /// watches are gone, and its start information tells of new ones.
    Moved,
}

/// How long a domain is away.
const AWAY_NS: u64 = 5_000_000;

impl Xen {
    /// Asks a domain, by `control/shutdown` in the store, to suspend itself, and
    /// resumes it when it has. One that suspends itself without being asked has
    /// ended.
    ///
    /// # Errors
    /// [`StoreError::ENOENT`]: there is no such domain.
    pub fn suspend(&self, domid: DomId, resume: Suspend) -> Result<(), StoreError> {
        let mut world = self.0.lock();
        let state = world.domains.get_mut(&domid).ok_or(StoreError::ENOENT)?;
        state.resume = Some(resume);
        drop(world);
        let mut world = self.0.lock();
        world.ask_to_suspend(domid);
        self.0.rouse(&mut world);
        Ok(())
    }

    /// Whether a domain that was asked to suspend itself has not done so yet.
    pub fn is_suspending(&self, domid: DomId) -> bool {
        let world = self.0.lock();
        let state = world.domains.get(&domid);
        state.is_some_and(|state| state.resume.is_some())
    }
}

impl Domain {
    /// `SCHEDOP_shutdown` for [`ShutdownReason::SUSPEND`].
    pub(crate) fn suspend(&self, start_info: usize) -> Result<usize, Errno> {
        let mut state = self.lock();
        let Some(resume) = state.resume.take() else {
            drop(state);
            self.end(ShutdownReason::SUSPEND, String::new());
        };
        state.shutdown_code = None;
        let now_ns = self.xen.0.now_ns(&state.world);
        // Others go on meanwhile, and so does time.
        state.world.pass_to(now_ns + AWAY_NS);
        let answer = match resume {
            Suspend::Cancelled => Ok(1),
            Suspend::Moved if self.is_pvh() => {
                state.world.move_away(self.domid);
                state.world.settle(self.domid, self.shared_info(), None)?;
                Ok(0)
            }
            Suspend::Moved => {
                let gfn = hypercall_abi::Gfn(start_info as u64);
                let Some(page) = state.memory.ram_of(gfn) else {
                    drop(state);
                    self.end(
                        ShutdownReason::CRASH,
                        "it was suspended without the frame of its start information\n".into(),
                    );
                };
                state.world.move_away(self.domid);
                let place = page.cast::<StartInfo>();
                // SAFETY: a page of the guest's, to which it promised that no
                // reference leads.
                let mut start = unsafe { place.read() };
                state
                    .world
                    .settle(self.domid, self.shared_info(), Some(&mut start))?;
                // SAFETY: as above.
                unsafe { place.write(start) };
                Ok(0)
            }
        };
        self.xen.0.rouse(&mut state.world);
        answer
    }
}

fn place<T>(page: PeerPtr<'static, T>) -> NonNull<u8> {
    NonNull::new(page.as_ptr().cast()).unwrap_or(NonNull::dangling())
}

impl World {
    /// Asks it to.
    pub(crate) fn ask_to_suspend(&mut self, domid: DomId) {
        self.store.write(
            &format!("/local/domain/{domid}/control/shutdown"),
            b"suspend",
        );
        self.push_store_events();
    }

    /// What a domain leaves behind.
    fn move_away(&mut self, domid: DomId) {
        self.restart_backends_of(domid);
        self.unmap_all(domid);
        for state in self.domains.values_mut() {
            let mut gone = Vec::new();
            for map in &mut state.grants.maps {
                if map.is_some_and(|map| map.owner == domid) {
                    gone.extend(map.take());
                }
            }
            for map in gone {
                if let Some(place) = map.place {
                    let _unmapped = unmap_page(&mut state.memory, &map, place, None);
                }
            }
        }
        let peers = match self.domains.get(&domid) {
            Some(state) => state.ports.peers(),
            None => return,
        };
        for (remote, port) in peers {
            if let Some(state) = self.domains.get_mut(&remote) {
                state.ports.rebind(port, Binding::Unbound(domid));
            }
        }
        self.store.forget(domid);
    }

    /// What it finds.
    fn settle(
        &mut self,
        domid: DomId,
        shared_info: NonNull<SharedInfo>,
        start: Option<&mut StartInfo>,
    ) -> Result<(), Errno> {
        let state = self.domains.get_mut(&domid).ok_or(Errno::ESRCH)?;
        let pages = [
            shared_info.cast(),
            place(state.store.page()),
            place(state.console.page()),
        ];
        if start.is_some() {
            state.memory.change_frames();
        }
        state.ports.start_anew();
        // In another order than at the start: the numbers change.
        let console = state.ports.open(Binding::Console)?;
        let store = state.ports.open(Binding::Store)?;
        state.console_port = console;
        state.store_port = store;
        state.grants = Grants::default();
        for index in 0..XEN_PAGES {
            if let Some(page) = state.memory.xen_page(index) {
                // SAFETY: a page of the hypervisor's for this domain.
                unsafe { page.write_bytes(0, hypercall_abi::PAGE_SIZE) };
            }
        }
        for vcpu in &mut state.vcpus {
            vcpu.timers = Timers::default();
        }
        state.watchdogs = Watchdogs::default();
        let [shared, store_page, console_page] = pages.map(|page| {
            let index = state.memory.any_index_of(page);
            Mfn(index.map_or(0, |index| state.memory.gfn_of_index(index).0))
        });
        state.store = Ring::new(state.store.page());
        match start {
            Some(start) => {
                start.store_mfn = store_page;
                start.store_evtchn = store;
                start.console.mfn = console_page;
                start.console.evtchn = console;
                start.shared_info = shared.address().unwrap_or(0);
            }
            // It finds its frames where they were, and asks for the ports.
            None => state.params.extend([
                (HvmParam::CALLBACK_IRQ.0, 0),
                (HvmParam::STORE_EVTCHN.0, u64::from(store.0)),
                (HvmParam::CONSOLE_EVTCHN.0, u64::from(console.0)),
            ]),
        }
        self.store.tell_console(domid, console_page, console);
        Ok(())
    }
}

impl crate::ports::Ports {
    /// As in a domain that is new: the shared page, too.
    fn start_anew(&mut self) {
        self.reset();
        self.forget_places();
        let shared = self.shared();
        for words in [
            peer_field!(shared, SharedInfo, evtchn_pending),
            peer_field!(shared, SharedInfo, evtchn_mask),
        ] {
            for word in (0..).map_while(|index| words.get(index)) {
                word.store(0);
            }
        }
        let vcpus = peer_field!(shared, SharedInfo, vcpu_info);
        for vcpu in (0..).map_while(|index| vcpus.get(index)) {
            peer_field!(vcpu, VcpuInfo, evtchn_pending_sel).store(0);
            peer_field!(vcpu, VcpuInfo, evtchn_upcall_pending).store(0);
            peer_field!(vcpu, VcpuInfo, evtchn_upcall_mask).store(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Outcome};
    use hypercall_abi::{
        Gfn, PAGE_SIZE, VcpuId,
        event_channel::{self, ChannelStatus},
        grant_table,
        platform::{Clock, Pages},
        sched::{self, Suspended},
        xen::mmu::{Flush, update_va_mapping},
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
        let refused =
            unsafe { update_va_mapping(&domain, page.addr().get(), entry(old), Flush::None) };
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
}
