//! Domains that are suspended, and go on: here, or elsewhere.

use std::ptr::NonNull;

use hypercall_abi::{
    DomId, Errno, Mfn,
    hvm::HvmParam,
    peer::PeerPtr,
    sched::ShutdownReason,
    xen::{SharedInfo, StartInfo},
};

use super::{domain::Domain, host::Xen};
use crate::{
    core::{
        domain_state::{Suspend, Watchdogs},
        event_channels::Binding,
        grant_table::Grants,
        memory::XEN_PAGES,
        vcpu_state::Timers,
    },
    services::{Services, xenstore::StoreError},
};

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
    /// `SCHEDOP_shutdown`: the domain ends, or is suspended.
    pub(super) fn shut_down(
        &self,
        reason: ShutdownReason,
        start_info: usize,
    ) -> Result<usize, Errno> {
        match reason {
            ShutdownReason::SUSPEND => self.suspend(start_info),
            _ => self.end(reason, String::new()),
        }
    }

    /// `SCHEDOP_shutdown` for [`ShutdownReason::SUSPEND`].
    fn suspend(&self, start_info: usize) -> Result<usize, Errno> {
        let mut state = self.lock();
        let Some(resume) = state.resume.take() else {
            drop(state);
            self.end(ShutdownReason::SUSPEND, String::new());
        };
        state.shutdown_code = None;
        let now_ns = state.world.now_ns();
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

impl Services {
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
        self.unmap_from_all(domid);
        self.unbind_peers(domid);
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
        if start.is_some() {
            state.memory.change_frames();
        }
        state.ports.start_anew();
        // In another order than at the start: the numbers change.
        let console = state.ports.open(Binding::Console)?;
        let store = state.ports.open(Binding::Store)?;
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
        let ring = self.move_ring(domid, store).ok_or(Errno::ESRCH)?;
        let output = self.move_console(domid, console).ok_or(Errno::ESRCH)?;
        let state = self.domains.get_mut(&domid).ok_or(Errno::ESRCH)?;
        let frame = |page: NonNull<u8>| {
            let index = state.memory.any_index_of(page);
            Mfn(index.map_or(0, |index| state.memory.gfn_of_index(index).0))
        };
        let shared = frame(shared_info.cast());
        let (store_page, console_page) = (frame(place(ring)), frame(place(output)));
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
