//! A guest's image as a Linux process: the very file that Xen boots as a PV guest is
//! loaded into this process and runs there, with this as its Xen.
//!
//! The guest's memory is a file without a name; it is mapped where the guest's page
//! tables say, after each change of those was checked. The guest's code runs as the
//! process's own. What it cannot do by itself (hypercalls, privileged instructions,
//! faults) comes as a signal. The calls and devices are those of the mock's other
//! guests.
//!
//! It is not a sandbox: a malicious guest can do what the process may do.

mod bounce;
mod clock;
mod coverage;
mod direct;
mod emulate;
mod faults;
mod gdb;
mod interrupted;
mod jitter;
mod kept;
mod monitor;
pub mod privileged;
mod refusal;
mod registers;
mod report;
mod signals;
mod space;
mod sysenter;
mod table_writes;
mod timer;
mod trace;
mod vcpu;

use std::{
    cell::UnsafeCell, fs::File, io, io::Read, ops::Range, path::PathBuf, ptr::NonNull, sync::Arc,
    thread, time::Duration,
};

use domain_builder::{Facts, Plan, Refused, Request};
use hypercall_abi::{
    Mfn, PAGE_SIZE, VcpuId,
    io::blkif::VdiskInfo,
    peer::PeerPtr,
    xen::{SharedInfo, StartInfo},
};

use self::{
    clock::Clock,
    coverage::Coverage,
    monitor::Monitor,
    registers::Registers,
    signals::Area,
    space::Space,
    vcpu::{Cpu, Thread},
};
pub use self::{gdb::Stop, refusal::Refusal, trace::Trace};
use super::{
    builder::{MAX_EVENT_CHANNELS, Parts, hold_upcalls, vcpus_of},
    terminal::{self, Terminal},
};
use crate::{
    core::{
        config::{DomainType, OnShutdown, Time},
        domain_state::Params,
        event_channels::{Binding, Ports},
        memory::Memory,
        profile::Profile,
        vcpu_state::Entry,
    },
    engine::{domain::Domain, host::Xen},
    services::{console::Console, xenstore::Ring},
};

const MIB: usize = 1 << 20;
/// How often it is looked whether somebody wants something.
const TICK: Duration = Duration::from_millis(100);
/// When virtual time begins, by the calendar: with the year 2026.
const VIRTUAL_START_NS: u64 = 1_767_225_600 * 1_000_000_000;
/// By how much the interrupt flag is the opposite of the event mask.
const FIRST_FLAGS: u64 = registers::INTERRUPTS | 2;

/// What is to be run, and with what.
#[derive(Debug, Default)]
pub struct Options {
    /// The kernel's file.
    pub kernel: Vec<u8>,
    /// Where it came from, with its debug information.
    pub kernel_path: PathBuf,
    /// A file for it, in its memory.
    pub ramdisk: Option<Vec<u8>>,
    /// Its command line.
    pub command_line: String,
    /// MiB of memory.
    pub memory_mib: usize,
    /// vCPUs, of which the first runs at the start.
    pub vcpus: u32,
    /// Files for its disks, and whether each is read-only.
    pub disks: Vec<(File, bool)>,
    /// A port of the host's that leads to its port 80.
    pub port: Option<String>,
    /// Where to write which of its lines ran.
    pub coverage: Option<PathBuf>,
    /// Run it under gdb, which gets it there.
    pub gdb: Option<Stop>,
    /// Time is virtual: it passes while the guest sleeps, and a little whenever the
    /// guest looks at a clock; nothing comes but when the guest calls, and there is no
    /// input.
    pub virtual_time: bool,
    /// Interrupt it at random moments.
    pub jitter: bool,
    /// Calls that are answered by an error.
    pub refusals: Vec<Refusal>,
    /// What is told of what it does.
    pub trace: Trace,
}

/// Why it did not start.
#[derive(Debug)]
pub enum Error {
    /// The image is not built.
    Refused(Refused),
    /// The host has not what it takes.
    Host(io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refused) => write!(f, "the image is refused: {refused}"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

/// The last thing that the host refused was memory for the domain.
fn no_memory() -> Error {
    let why = io::Error::last_os_error();
    Error::Host(io::Error::other(format!(
        "no memory for the domain, which is a file without a name (memfd_create): {why}"
    )))
}

/// Runs a guest: ends the process when the guest ends, with 0 for a power-off, else
/// with 64 and the reason, or 70 for one that has no name.
///
/// # Errors
/// The image is refused, or something is missing on this host: before the guest has
/// begun.
pub fn run(options: Options) -> Result<std::convert::Infallible, Error> {
    if options.gdb.is_some() && !gdb::watches() {
        return Err(gdb::start(&options.kernel_path).into());
    }
    let clock = Clock::start(options.virtual_time);
    // A limit for files is to be an error like any other.
    // SAFETY: ignores a signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    ensure_bases()?;
    let is_debugged = gdb::watches();
    if !is_debugged {
        // gdb wants to be asked first.
        interrupted::hold()?;
    }
    let vcpus = options.vcpus.max(1);
    let built = build(&options, vcpus)?;
    let domain = built.domain;
    for refusal in &options.refusals {
        domain.refuse(refusal.nr, refusal.op, refusal.errno);
    }
    let mut state = domain.lock();
    let tables = state.memory.tables.as_ref().ok_or_else(no_memory)?;
    let view = Arc::clone(&tables.view);
    let space = Space::new(tables)?;
    let threads: &'static [Thread] = Box::leak((0..vcpus).map(|_| Thread::default()).collect());
    let is_virtual = options.virtual_time;
    state.ports.kick_by(Box::new(move |vcpu| {
        if let Some(thread) = threads.get(vcpu.0 as usize).filter(|_| !is_virtual) {
            thread.kick();
        }
    }));
    drop(state);
    for (index, (file, is_read_only)) in options.disks.into_iter().enumerate() {
        let info = if is_read_only {
            VdiskInfo::READONLY
        } else {
            VdiskInfo::empty()
        };
        crate::front::hosted::attach_disk(domain, index, file, info);
    }
    if let Some(port) = &options.port {
        crate::front::hosted::attach_nic_at(domain, port);
    }
    clock.settle();
    let monitor: &'static Monitor = Box::leak(Box::new(Monitor {
        domain,
        view,
        space,
        clock,
        trace: options.trace,
        kernel: options.kernel_path,
        coverage: built.coverage,
        is_debugged,
        is_virtual,
        threads,
    }));
    terminal::tell_loss(domain);
    let farewell = |status| {
        report::farewell(monitor);
        status
    };
    // Before what the network has for the host.
    domain.at_end().push_front(Box::new(farewell));
    if !is_debugged {
        interrupted::watch(domain)?;
    }
    signals::install()?;
    if !gdb::has_input() && !is_virtual {
        thread::spawn(move || terminal::feed(domain));
    }
    crate::front::hosted::listen(domain);
    if !is_virtual {
        thread::spawn(move || {
            loop {
                thread::sleep(TICK);
                domain.tick();
                crate::front::hosted::suspend_on_request(domain);
                // They are told the time.
                threads.iter().for_each(Thread::kick);
            }
        });
    }
    for vcpu in (1..vcpus).map(VcpuId) {
        thread::Builder::new()
            .name(format!("vCPU {}", vcpu.0))
            .spawn(move || run_other(monitor, vcpu))?;
    }
    if gdb::watches() {
        let mut state = domain.lock();
        monitor.space.fill(&mut state.memory, built.mapped)?;
        drop(state);
        if options.gdb == Some(Stop::Start) {
            gdb::stop();
        }
    }
    if options.jitter {
        jitter::start(threads);
    }
    domain.begin_first();
    let first = Cpu::new(monitor, VcpuId(0), built.registers);
    let area = SendArea(signals::area(first)?);
    // SAFETY: it is there for as long as the process.
    direct::begin(unsafe { area.0.as_ref() });
    let thread = thread::Builder::new()
        .name("vCPU 0".to_owned())
        .spawn(move || signals::run(area.get()))?;
    match thread.join() {
        Ok(error) => Err(error.into()),
        Err(_) => Err(io::Error::other("the first vCPU's thread ended").into()),
    }
}

/// An area that goes to the thread whose it is.
struct SendArea(NonNull<UnsafeCell<Area>>);

// SAFETY: only the thread that gets it uses it.
unsafe impl Send for SendArea {}

impl SendArea {
    /// By a method, for the whole value to go along.
    const fn get(self) -> NonNull<UnsafeCell<Area>> {
        self.0
    }
}

/// A vCPU that the guest is to bring up.
fn run_other(monitor: &'static Monitor, vcpu: VcpuId) {
    let Some(Entry::Context(context)) = monitor.domain.wait_for_start(vcpu) else {
        return;
    };
    direct::end();
    let state = monitor.domain.lock();
    let root = state
        .memory
        .tables
        .as_ref()
        .map(|tables| tables.view.root());
    let frame = hypercall_abi::Gfn(context.ctrlreg[3] / PAGE_SIZE as u64);
    if root.is_none() || state.memory.ram_index(frame) != root {
        drop(state);
        report::fail(
            "a vCPU is to start with page tables of its own: in a process, all vCPUs have the \
             same",
        );
    }
    drop(state);
    let mut cpu = Cpu::new(monitor, vcpu, Registers::of_context(&context.user_regs));
    cpu.start_with(&context);
    let area = match signals::area(cpu) {
        Ok(area) => area,
        Err(error) => report::fail(&format!("no memory for a vCPU: {error}")),
    };
    report::fail(&signals::run(area).to_string());
}

/// Whether programs may read and write segment bases by themselves.
fn ensure_bases() -> io::Result<()> {
    const AT_HWCAP2: libc::c_ulong = 26;
    const FSGSBASE: libc::c_ulong = 1 << 1;
    // SAFETY: asks the kernel.
    if unsafe { libc::getauxval(AT_HWCAP2) } & FSGSBASE == 0 {
        return Err(io::Error::other(
            "this host does not let programs set segment bases (fsgsbase: Linux 5.9 and later \
             on processors since 2012 do)",
        ));
    }
    Ok(())
}

struct Built {
    domain: &'static Domain,
    registers: Registers,
    coverage: Option<Coverage>,
    /// The addresses at which it begins.
    mapped: Range<u64>,
}

fn build(options: &Options, vcpus: u32) -> Result<Built, Error> {
    let xen = Xen::new(match options.virtual_time {
        true => Time::Virtual,
        false => Time::Real,
    });
    let nr_pages = options.memory_mib.max(1).saturating_mul(MIB / PAGE_SIZE);
    let request = Request {
        kernel: &options.kernel,
        ramdisk: options.ramdisk.as_deref(),
        command_line: &options.command_line,
        nr_pages: nr_pages as u64,
    };
    let plan = Plan::new(&request)?;
    let mut world = xen.0.lock();
    let domid = world.next_domid();
    let mut memory = Memory::of_tables(domid, nr_pages).ok_or_else(no_memory)?;
    let at = |memory: &Memory, pfn: usize| memory.own_page(pfn);
    let (store_pfn, console_pfn) = (plan.store as usize, plan.console as usize);
    let shared_index = memory.shared_page();
    let shared_own = at(&memory, shared_index).cast::<SharedInfo>();
    // SAFETY: pages of the domain's, which lives as long as the process.
    let shared = unsafe { PeerPtr::new(shared_own) };
    hold_upcalls(shared);
    let mut ports = Ports::new(shared, MAX_EVENT_CHANNELS + 1);
    let store_port = ports.open(Binding::Store).map_err(|_| no_memory())?;
    let console_port = ports.open(Binding::Console).map_err(|_| no_memory())?;
    let first_mfn = memory.first_mfn();
    let shared_maddr = memory.gfn_of_index(shared_index).address().unwrap_or(0);
    let facts = Facts {
        mfn_of: &|pfn| first_mfn + pfn,
        shared_info: shared_maddr,
        store_port,
        console_port,
        magic: "xen-3.0-x86_64",
    };
    plan.write(&request, memory.bytes_mut(), &facts)?;
    if let Some(page) = plan.hypercall_page {
        let start = (page - plan.virt_base) as usize;
        if let Some(page) = memory.bytes_mut().get_mut(start..start + PAGE_SIZE) {
            direct::write_page(page);
        }
    }
    let coverage = options.coverage.as_ref().map(|report| {
        let image = plan.virt_base..plan.mapped.end;
        Coverage::plant(&options.kernel_path, image, memory.bytes_mut(), report)
    });
    let coverage = coverage.transpose()?;
    let root = plan.root() as usize;
    memory
        .pin(root, 4)
        .and_then(|()| memory.switch_to(root))
        .map_err(|errno| io::Error::other(format!("the first page tables: {errno}")))?;
    let start_page = at(&memory, plan.start_info as usize).cast::<StartInfo>();
    // SAFETY: as above.
    let console = unsafe { PeerPtr::new(at(&memory, console_pfn).cast()) };
    // SAFETY: as above.
    let store = unsafe { PeerPtr::new(at(&memory, store_pfn).cast()) };
    let console_gfn = memory.gfn_of_index(console_pfn);
    let parts = Parts {
        domain_type: DomainType::Pv,
        profile: Profile::default(),
        memory,
        ports,
        shared_page: shared_index,
        params: Params::new(),
        vcpus: vcpus_of(vcpus, world.now_ns()),
    };
    let state = parts.state(match options.virtual_time {
        true => VIRTUAL_START_NS,
        false => world.started_wall_ns(),
    });
    world.domains.insert(domid, state);
    let store = Ring::new(store, store_port);
    let writer = Box::new(Terminal(io::stdout()));
    let output = Console::new(console, console_port, Some(writer));
    world.introduce(domid, store, output, Mfn(console_gfn.0));
    drop(world);
    let domain = Domain::of(
        &xen,
        domid,
        (start_page, shared_own),
        OnShutdown::ExitProcess,
    );
    let registers = Registers {
        rip: plan.entry,
        rsp: plan.stack_top(),
        rsi: plan.address_of(plan.start_info),
        rflags: FIRST_FLAGS,
        ..Registers::default()
    };
    Ok(Built {
        domain: Box::leak(Box::new(domain)),
        registers,
        coverage,
        mapped: plan.mapped.clone(),
    })
}

/// Reads a whole file.
///
/// # Errors
/// As of the host's files.
pub fn read_file(path: &std::path::Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
