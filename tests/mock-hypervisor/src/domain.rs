//! A domain: what it holds, how it runs and ends.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::NonNull,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use hypercall_abi::{
    DomId, Errno, HypercallNr, Port, VcpuId,
    peer::PeerPtr,
    peer_field,
    platform::Singletons,
    sched::ShutdownReason,
    xen::{SharedInfo, StartInfo, VcpuInfo},
};

use crate::{
    Config, DomainType, NoMemory, OnShutdown, Suspend, Xen,
    calls::{Params, Watchdogs},
    console::Console,
    grants::Grants,
    memory::Memory,
    ports::Ports,
    store::Ring,
    vcpus::{self, Vcpu},
    world::Guard,
};

/// How a domain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// The reason that the guest (or the hypervisor) gave.
    pub reason: ShutdownReason,
    /// What the hypervisor has to say about it; empty if nothing.
    pub report: String,
}

/// How the guest's code ended.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It returned.
    Returned(T),
    /// The domain was shut down.
    Shutdown(Shutdown),
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) memory: Memory,
    pub(crate) ports: Ports,
    pub(crate) grants: Grants,
    pub(crate) console: Console,
    pub(crate) console_port: Port,
    pub(crate) store: Ring,
    pub(crate) store_port: Port,
    /// The page that is shared, by number.
    pub(crate) shared_page: usize,
    /// A PVH guest's.
    pub(crate) params: Params,
    pub(crate) vcpus: Vec<Vcpu>,
    pub(crate) watchdogs: Watchdogs,
    /// What it switched on, by the numbers of the assists.
    pub(crate) assists: u64,
    /// When the host started.
    #[cfg_attr(
        not(feature = "user"),
        expect(dead_code, reason = "told by who runs a guest's image")
    )]
    pub(crate) wall_ns: u64,
    /// The latest time that its guest has read.
    pub(crate) read_ns: u64,
    pub(crate) shutdown: Option<Shutdown>,
    /// The reason that its end is to have, if it was told beforehand.
    pub(crate) shutdown_code: Option<ShutdownReason>,
    /// It was asked to suspend itself, and this is to follow.
    pub(crate) resume: Option<Suspend>,
    /// All vCPUs are to end, for this reason.
    pub(crate) ending: Option<Shutdown>,
    /// Nothing of it is known to the world any more.
    pub(crate) is_destroyed: bool,
    pub(crate) calls: BTreeMap<u32, u64>,
    /// How often a vCPU has slept.
    pub(crate) sleeps: u64,
    pub(crate) unknown: BTreeMap<(u32, Option<usize>), u64>,
}

/// Numbers from this on are counted as this one: a call's page has room for fewer.
pub(crate) const MOST_NR: u32 = 128;
/// What a call's operation is at most: where the first argument is more, it is none.
const MOST_OP: usize = 0xfff;

impl State {
    /// Counts a call of the guest's.
    pub(crate) fn note_call(&mut self, nr: HypercallNr) {
        *self.calls.entry(nr.0.min(MOST_NR)).or_default() += 1;
    }

    /// Counts one that there is not. However many the guest tries, few are told apart.
    pub(crate) fn note_unknown(&mut self, nr: HypercallNr, op: usize) {
        let op = Some(op).filter(|op| *op <= MOST_OP);
        *self.unknown.entry((nr.0.min(MOST_NR), op)).or_default() += 1;
    }

    /// Takes the console's output, gives it input, and says so.
    pub(crate) fn serve_console(&mut self) {
        if self.console.serve() {
            self.ports.set_pending(self.console_port);
        }
    }
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
    /// What is to be done before its process ends.
    pub(crate) at_end: OnceLock<AtEnd>,
    /// What the network still has for the host when the guest ends.
    #[cfg(feature = "user-net")]
    pub(crate) delivery: OnceLock<crate::user_net::Delivery>,
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

    fn add(&self, nr: HypercallNr, op: Option<usize>, errno: Errno) {
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

/// A function for the end.
pub(crate) type AtEnd = Box<dyn Fn() + Send + Sync>;

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
        world.push_store_events();
        self.xen.0.rouse(&mut world);
    }
}

impl Domain {
    /// A domain on a host of its own: see [`Xen::domain`].
    ///
    /// # Errors
    /// The host has not enough memory.
    pub fn new(config: Config) -> Result<Self, NoMemory> {
        Xen::new(config.time).domain(config)
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

    /// What this guest does at an upcall: called on the vCPU's own thread when
    /// a hypercall returns or a sleep ends, with further upcalls held back,
    /// whenever the vCPU's words in the shared page ask for it. Only the first
    /// call of this counts.
    pub fn on_upcall(&self, upcall: impl Fn(VcpuId) + Send + Sync + 'static) {
        let _second: Result<(), Upcall> = self.upcall.set(Box::new(upcall));
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

    /// A PV guest's start information; a PVH guest's (`struct hvm_start_info`) is
    /// at physical address 0.
    pub fn start_info(&self) -> NonNull<StartInfo> {
        self.start_info
    }

    /// The page that the hypervisor and the guest share.
    pub fn shared_info(&self) -> NonNull<SharedInfo> {
        self.shared_info
    }

    /// What the guest wrote to its console so far, where that is kept.
    pub fn console_output(&self) -> Vec<u8> {
        let mut state = self.lock();
        state.serve_console();
        state.console.captured.clone()
    }

    /// Gives the guest's console something to read.
    pub fn console_input(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.console.input.extend(bytes);
        state.serve_console();
        self.xen.0.rouse(&mut state.world);
    }

    /// How many bytes that it was given it has no room for yet.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    pub(crate) fn console_waiting(&self) -> usize {
        self.lock().console.input.len()
    }

    /// How the domain ended, if it did.
    pub fn shutdown(&self) -> Option<Shutdown> {
        self.lock().shutdown.clone()
    }

    /// How often its vCPUs have slept, and woken again: for an event, a time, or nothing.
    pub fn wakeups(&self) -> u64 {
        self.lock().sleeps
    }

    /// How often each hypercall was made, by number.
    pub fn calls(&self) -> BTreeMap<u32, u64> {
        self.lock().calls.clone()
    }

    /// Has every call of this number (and with this first argument, where one is given)
    /// answered with `errno` from now on, as by a hypervisor that does not offer it.
    pub fn refuse(&self, nr: HypercallNr, op: Option<usize>, errno: Errno) {
        self.refused.add(nr, op, errno);
    }

    /// Has the next so many uses of this domain's grants find their pages paged
    /// out (`GNTST_eagain`).
    pub fn page_out(&self, uses: u32) {
        self.lock().grants.paged_out = uses;
    }

    /// Has the domain's next list of grant operations fail after so many of its entries
    /// are done, as where Xen cannot read the next one.
    pub fn fail_grant_list_after(&self, entries: usize, errno: Errno) {
        self.lock().grants.fails_after = Some((entries, errno));
    }

    /// Destroys the domain, as `xl destroy` does: its code ends at its next
    /// hypercall, and others are told.
    pub fn destroy(&self) {
        let host = &self.xen.0;
        host.destroy(&mut host.lock(), self.domid);
    }

    /// Whether it is a PVH guest.
    pub(crate) fn is_pvh(&self) -> bool {
        self.domain_type == DomainType::Pvh
    }

    /// How many of its pages are given out.
    pub fn pages_in_use(&self) -> usize {
        self.lock().memory.in_use()
    }

    /// How many ports are open, those of the console and the store included.
    pub fn open_ports(&self) -> usize {
        self.lock().ports.count()
    }

    /// How many of its grants are in use.
    pub fn grants_in_use(&self) -> usize {
        self.lock().grants.in_use()
    }

    /// The bytes of all that it grants to `peer` just now: what that one could read, if it
    /// looked at every reference.
    pub fn granted_to(&self, peer: DomId) -> Vec<Vec<u8>> {
        let state = self.lock();
        state.grants.granted_to(&state.memory, peer)
    }

    /// How many grants of others it has mapped.
    pub fn grants_mapped(&self) -> usize {
        self.lock().grants.maps.iter().flatten().count()
    }

    /// The calls that were answered with `ENOSYS`: number (those from 128 on are as 128), and
    /// first argument if that can be an operation; and how often.
    pub fn unknown_calls(&self) -> BTreeMap<(u32, Option<usize>), u64> {
        self.lock().unknown.clone()
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
        state.console.serve();
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
                if let Some(at_end) = self.at_end.get() {
                    at_end();
                }
                // Of a guest that ended well, not all that it said was kept.
                #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
                let status = match status {
                    0 => i32::from(crate::terminal::has_lost()),
                    status => status,
                };
                #[cfg(feature = "user-net")]
                if let Some(delivery) = self.delivery.get() {
                    delivery.complete();
                }
                std::process::exit(status)
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
