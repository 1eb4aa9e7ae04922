//! A domain: how it is made, what it holds, how it ends.

use std::{
    collections::BTreeMap,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::NonNull,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use hypercall_abi::{
    Mfn, PAGE_SIZE, Port,
    peer::PeerPtr,
    sched::ShutdownReason,
    xen::{SharedInfo, StartInfo},
};
use zerocopy::FromZeros;

use crate::{
    calls::Timers,
    console::Console,
    memory::Memory,
    ports::{Binding, Ports},
};

/// Which time a domain lives in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Time {
    /// Time passes only when the guest sleeps. A guest that waits for what
    /// cannot come is reported as a deadlock.
    #[default]
    Virtual,
    /// The host's time.
    Real,
}

/// What a shutdown does to the code that asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnShutdown {
    /// Unwinds to [`Domain::run`].
    #[default]
    Unwind,
    /// Ends the process: with 0 for a power-off, else 64 and the reason.
    ExitProcess,
}

/// What a domain is given.
#[derive(Default)]
pub struct Config {
    /// MiB of memory; 0 is as good as 1.
    pub memory_mib: usize,
    /// vCPUs, of which the first runs; 0 is as good as 1.
    pub vcpus: u32,
    /// The command line.
    pub command_line: String,
    /// Where console output goes; `None`: it is kept, see
    /// [`Domain::console_output`].
    pub console: Option<Box<dyn Write + Send>>,
    /// Which time it lives in.
    pub time: Time,
    /// What a shutdown does.
    pub on_shutdown: OnShutdown,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("memory_mib", &self.memory_mib)
            .field("vcpus", &self.vcpus)
            .field("command_line", &self.command_line)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// The host has not enough memory for the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl std::fmt::Display for NoMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not enough memory for the domain")
    }
}

impl std::error::Error for NoMemory {}

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
    pub(crate) console: Console,
    pub(crate) console_port: Port,
    pub(crate) virtual_ns: u64,
    pub(crate) timers: Timers,
    pub(crate) shutdown: Option<Shutdown>,
    pub(crate) calls: BTreeMap<u32, u64>,
    pub(crate) unknown: BTreeMap<(u32, usize), u64>,
}

/// A domain of the mock's. It is the platform of the guest in it.
#[derive(Debug)]
pub struct Domain {
    pub(crate) state: Mutex<State>,
    /// Rung when a port becomes pending.
    pub(crate) event: Condvar,
    pub(crate) vcpus: u32,
    pub(crate) time: Time,
    pub(crate) on_shutdown: OnShutdown,
    pub(crate) started: Instant,
    pub(crate) started_wall_ns: u64,
    start_info: NonNull<StartInfo>,
    shared_info: NonNull<SharedInfo>,
}

// SAFETY: the two pointers lead into the domain's memory, which lives as long
// as the domain and is only read, or used as peer memory.
unsafe impl Send for Domain {}
// SAFETY: as above; all else is behind a lock.
unsafe impl Sync for Domain {}

const MIB: usize = 1 << 20;

impl Domain {
    /// Makes a domain: its memory, start information, shared page and console.
    ///
    /// # Errors
    /// The host has not enough memory.
    pub fn new(config: Config) -> Result<Self, NoMemory> {
        let nr_pages = config.memory_mib.max(1).saturating_mul(MIB / PAGE_SIZE);
        let mut memory = Memory::new(nr_pages).ok_or(NoMemory)?;
        let mut page = || memory.alloc(1).ok_or(NoMemory);
        let start_page = page()?.cast::<StartInfo>();
        let shared_page = page()?.cast::<SharedInfo>();
        let console_page = page()?.cast();
        // SAFETY: pages of the domain's memory, which outlives `state`, and
        // are from now on used as peer memory only.
        let shared = unsafe { PeerPtr::new(shared_page) };
        // SAFETY: as above.
        let console = unsafe { PeerPtr::new(console_page) };
        let mut ports = Ports::new(shared);
        let console_port = ports.open(Binding::Console).map_err(|_| NoMemory)?;

        let mut start = StartInfo::new_zeroed();
        let magic = b"xen-3.0-x86_64";
        start.magic[..magic.len()].copy_from_slice(magic);
        start.nr_pages = memory.nr_pages() as u64;
        start.console.mfn = Mfn(memory.gfn_of(console_page.cast()).map_or(0, |gfn| gfn.0));
        start.console.evtchn = console_port;
        start.shared_info = memory
            .gfn_of(shared_page.cast())
            .and_then(|gfn| gfn.address())
            .unwrap_or(0);
        // The last byte stays zero.
        let text = config.command_line.as_bytes();
        let room = start.cmd_line.len() - 1;
        for (slot, byte) in start.cmd_line[..room].iter_mut().zip(text) {
            *slot = *byte;
        }
        // SAFETY: a fresh page of the domain's.
        unsafe { start_page.write(start) };

        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let started_wall_ns = wall.map_or(0, |since| since.as_nanos() as u64);
        Ok(Self {
            state: Mutex::new(State {
                memory,
                ports,
                console: Console::new(console, config.console),
                console_port,
                virtual_ns: 0,
                timers: Timers::default(),
                shutdown: None,
                calls: BTreeMap::new(),
                unknown: BTreeMap::new(),
            }),
            event: Condvar::new(),
            vcpus: config.vcpus.max(1),
            time: config.time,
            on_shutdown: config.on_shutdown,
            started: Instant::now(),
            started_wall_ns,
            start_info: start_page,
            shared_info: shared_page,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A guest that panics in a call leaves the state as consistent as a
        // crashed vCPU would.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest's start information.
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
        state.console.serve();
        state.console.captured.clone()
    }

    /// Gives the guest's console something to read.
    pub fn console_input(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.console.input.extend(bytes);
        if state.console.serve() {
            let port = state.console_port;
            state.ports.set_pending(port);
            self.event.notify_all();
        }
    }

    /// How the domain ended, if it did.
    pub fn shutdown(&self) -> Option<Shutdown> {
        self.lock().shutdown.clone()
    }

    /// How often each hypercall was made, by number.
    pub fn calls(&self) -> BTreeMap<u32, u64> {
        self.lock().calls.clone()
    }

    /// The calls that were answered with `ENOSYS`: number and first argument,
    /// and how often.
    pub fn unknown_calls(&self) -> BTreeMap<(u32, usize), u64> {
        self.lock().unknown.clone()
    }

    /// Runs a guest's code, and says how it ended.
    pub fn run<T>(&self, guest: impl FnOnce(&Self) -> T) -> Outcome<T> {
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
        drop(state);
        match self.on_shutdown {
            OnShutdown::Unwind => resume_unwind(Box::new(shutdown)),
            OnShutdown::ExitProcess => {
                if !shutdown.report.is_empty() {
                    eprint!("mock: {}", shutdown.report);
                }
                std::process::exit(exit_status(reason))
            }
        }
    }
}

/// The exit status of a process whose guest ended for this reason.
pub(crate) fn exit_status(reason: ShutdownReason) -> i32 {
    match reason {
        ShutdownReason::POWEROFF => 0,
        ShutdownReason(code) => 64 + (code & 63) as i32,
    }
}
