//! A domain: what it holds, how it runs and ends.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::NonNull,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use hypercall_abi::{
    DomId, Errno, HypercallNr, VcpuId,
    peer::PeerPtr,
    peer_field,
    platform::Singletons,
    sched::ShutdownReason,
    xen::{SharedInfo, StartInfo, VcpuInfo},
};

use super::{host::Xen, vcpus, world::Guard};
use crate::core::{
    config::{DomainType, OnShutdown},
    domain_state::Shutdown,
};

/// How the guest's code ended.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It returned.
    Returned(T),
    /// The domain was shut down.
    Shutdown(Shutdown),
}

/// What a guest does when an event came: see [`Domain::on_upcall`].
pub(crate) type Upcall = Box<dyn Fn(VcpuId) + Send + Sync>;

/// A domain of the mock's. It is the platform of the guest in it.
pub struct Domain {
    pub(crate) xen: Xen,
    pub(crate) domid: DomId,
    pub(crate) vcpus: u32,
    pub(crate) domain_type: DomainType,
    pub(crate) on_shutdown: OnShutdown,
    pub(crate) upcall: OnceLock<Upcall>,
    pub(crate) start_info: NonNull<StartInfo>,
    pub(crate) shared_info: NonNull<SharedInfo>,
    /// Calls that are not offered to it.
    pub(crate) refused: Refused,
    /// What its guest has taken.
    pub(crate) singletons: Singletons,
    /// What is to be done before its process ends, in order.
    at_end: Mutex<VecDeque<AtEnd>>,
}

/// Calls that a hypervisor does not offer, and how it says so.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// Looked at first: mostly there are none.
    are_some: AtomicBool,
    answers: Mutex<BTreeMap<(u32, Option<usize>), Errno>>,
}

impl Refused {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u32, Option<usize>), Errno>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, nr: HypercallNr, op: Option<usize>, errno: Errno) {
        self.lock().insert((nr.0, op), errno);
        self.are_some.store(true, Ordering::Release);
    }

    /// What a call is answered with that is not offered.
    pub(crate) fn answer(&self, nr: HypercallNr, op: usize) -> Option<Errno> {
        if !self.are_some.load(Ordering::Acquire) {
            return None;
        }
        let answers = self.lock();
        let mut found = [Some(op), None].into_iter();
        found.find_map(|op| answers.get(&(nr.0, op)).copied())
    }
}

/// A function for the end: from a status of the process to the one that it is to have.
pub(crate) type AtEnd = Box<dyn Fn(i32) -> i32 + Send + Sync>;

impl std::fmt::Debug for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Domain")
            .field("domid", &self.domid)
            .field("vcpus", &self.vcpus)
            .finish_non_exhaustive()
    }
}

// SAFETY: the two pointers lead into the domain's memory, which lives as long
// as the domain and is only read, or used as peer memory.
unsafe impl Send for Domain {}
// SAFETY: as above; all else is behind a lock.
unsafe impl Sync for Domain {}
/// A domain, and the code of the guest in it.
pub type Guest<'a, T> = (&'a Domain, Box<dyn FnOnce(&Domain) -> T + Send + 'a>);

impl Xen {
    /// Runs the code of several guests at the same time, each on a thread of its
    /// own, and says how each ended. Virtual time stands still until all of them
    /// have begun.
    ///
    /// # Panics
    /// If one of them does.
    pub fn run<'a, T: Send + 'a>(&self, guests: Vec<Guest<'a, T>>) -> Vec<Outcome<T>> {
        let mut world = self.0.lock();
        for (domain, _) in &guests {
            self.0.enter(&mut world, (domain.domid, VcpuId(0)));
        }
        drop(world);
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (domain, guest) in guests {
                let thread = std::thread::Builder::new().name(format!("domain {}", domain.domid));
                threads.push(thread.spawn_scoped(scope, move || domain.run_counted(guest)));
            }
            let ended = threads.into_iter().map(|thread| match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(error) => panic!("no thread for a guest: {error}"),
            });
            ended.collect()
        })
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        let mut world = self.xen.0.lock();
        world.remove(self.domid);
        self.xen.0.changed(&mut world);
    }
}

impl Domain {
    /// The handle of a domain that its host has, and these pages of its.
    pub(crate) fn of(
        xen: &Xen,
        domid: DomId,
        (start_info, shared_info): (NonNull<StartInfo>, NonNull<SharedInfo>),
        on_shutdown: OnShutdown,
    ) -> Self {
        let world = xen.0.lock();
        let state = world.domains.get(&domid);
        let (vcpus, domain_type) = state.map_or((1, DomainType::Pv), |state| {
            (state.vcpus.len() as u32, state.domain_type)
        });
        drop(world);
        Self {
            xen: xen.clone(),
            domid,
            vcpus,
            domain_type,
            on_shutdown,
            upcall: OnceLock::new(),
            start_info,
            shared_info,
            refused: Refused::default(),
            singletons: Singletons::new(),
            at_end: Mutex::default(),
        }
    }

    pub(crate) fn lock(&self) -> Guard<'_> {
        Guard {
            world: self.xen.0.lock(),
            domid: self.domid,
        }
    }

    /// The host that it lives on.
    pub fn xen(&self) -> &Xen {
        &self.xen
    }

    /// Its number.
    pub fn domid(&self) -> DomId {
        self.domid
    }

    /// What is to be done before its process ends.
    pub(crate) fn at_end(&self) -> MutexGuard<'_, VecDeque<AtEnd>> {
        self.at_end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it, and says what the process's status is then.
    pub(crate) fn last_acts(&self, status: i32) -> i32 {
        let acts = std::mem::take(&mut *self.at_end());
        acts.iter().fold(status, |status, act| act(status))
    }

    /// Calls the guest for as long as it is to be called.
    pub(crate) fn deliver(&self) {
        let Some(upcall) = self.upcall.get() else {
            return;
        };
        let Some(vcpu) = self.vcpu_info() else {
            return;
        };
        let mask = peer_field!(vcpu, VcpuInfo, evtchn_upcall_mask);
        let pending = peer_field!(vcpu, VcpuInfo, evtchn_upcall_pending);
        while pending.load_acquire().trust() != 0 && mask.swap(1).trust() == 0 {
            upcall(vcpus::current());
            mask.store_release(0);
        }
    }

    /// The words of the vCPU that asks.
    pub(crate) fn vcpu_info(&self) -> Option<PeerPtr<'_, VcpuInfo>> {
        self.lock().ports.vcpu_info(vcpus::current())
    }

    /// Whether it is a PVH guest.
    pub(crate) fn is_pvh(&self) -> bool {
        self.domain_type == DomainType::Pvh
    }

    /// Runs a guest's code, and says how it ended. See [`Xen::run`] for guests
    /// that need each other.
    pub fn run<T>(&self, guest: impl FnOnce(&Self) -> T) -> Outcome<T> {
        let host = &self.xen.0;
        host.enter(&mut host.lock(), (self.domid, VcpuId(0)));
        self.run_counted(guest)
    }

    /// The same, of one who is counted among the runners.
    fn run_counted<T>(&self, guest: impl FnOnce(&Self) -> T) -> Outcome<T> {
        let outcome = std::thread::scope(|scope| {
            for vcpu in 1..self.vcpus {
                let name = format!("domain {} vCPU {vcpu}", self.domid);
                let thread = std::thread::Builder::new().name(name);
                let started = thread.spawn_scoped(scope, move || self.run_vcpu(VcpuId(vcpu)));
                if let Err(error) = started {
                    self.stop_vcpus();
                    panic!("no thread for a vCPU: {error}");
                }
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| self.outcome_of(guest)));
            self.stop_vcpus();
            let host = &self.xen.0;
            host.leave(&mut host.lock(), (self.domid, VcpuId(0)));
            outcome
        });
        self.lock().ending = None;
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// How a guest's code ends.
    pub(crate) fn outcome_of<T>(&self, guest: impl FnOnce(&Self) -> T) -> Outcome<T> {
        match catch_unwind(AssertUnwindSafe(|| guest(self))) {
            Ok(value) => Outcome::Returned(value),
            Err(payload) => match payload.downcast::<Shutdown>() {
                Ok(shutdown) => Outcome::Shutdown(*shutdown),
                Err(panic) => resume_unwind(panic),
            },
        }
    }

    /// Ends the domain: does not return to the guest.
    pub(crate) fn end(&self, reason: ShutdownReason, report: String) -> ! {
        let shutdown = Shutdown { reason, report };
        let mut state = self.lock();
        state.world.hear_out(self.domid);
        state.shutdown = Some(shutdown.clone());
        let host = &self.xen.0;
        host.end_vcpus(&mut state.world, self.domid, shutdown.clone());
        drop(state);
        let mut told = match shutdown.report.as_str() {
            "" => String::new(),
            report => format!("mock: {report}"),
        };
        let status = exit_status(reason);
        if status == UNNAMED_STATUS {
            told += &format!("mock: the guest ended for reason {}\n", reason.0);
        }
        match self.on_shutdown {
            OnShutdown::Unwind => {
                eprint!("{told}");
                resume_unwind(Box::new(shutdown))
            }
            OnShutdown::ExitProcess => {
                // Whoever listened there may be gone.
                let _nobody = std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes());
                std::process::exit(self.last_acts(status))
            }
        }
    }
}

/// The last reason that has a name.
const LAST_NAMED: u32 = ShutdownReason::SOFT_RESET.0;
/// The exit status for a reason without one: no number of the guest's is ever taken for
/// what a shell, `timeout` or a signal says.
const UNNAMED_STATUS: i32 = 70;

/// The exit status of a process whose guest ended for this reason.
pub(crate) const fn exit_status(reason: ShutdownReason) -> i32 {
    match reason {
        ShutdownReason::POWEROFF => 0,
        ShutdownReason(code @ 1..=LAST_NAMED) => 64 + code as i32,
        _ => UNNAMED_STATUS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_is_taken_for_another() {
        assert_eq!(exit_status(ShutdownReason::POWEROFF), 0);
        assert_eq!(exit_status(ShutdownReason::CRASH), 67);
        assert_eq!(exit_status(ShutdownReason::SOFT_RESET), 69);
        for reason in 6..=255 {
            assert_eq!(exit_status(ShutdownReason(reason)), UNNAMED_STATUS);
        }
    }
}
