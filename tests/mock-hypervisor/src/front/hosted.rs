//! A guest as a Linux process: its console is the terminal, its exceptions are
//! signals, its end is the process's.
//!
//! Who writes `suspend` to its `data/please` in the store is suspended and
//! resumed.
//!
//! `PV_GUEST_TYPE` (`pv` or `pvh`), `PV_GUEST_CMDLINE`, `PV_GUEST_MEMORY_MIB` and
//! `PV_GUEST_VCPUS` say what the domain is given, `PV_GUEST_XEN` (`4.17` or `4.20`) which Xen
//! it finds; `PV_GUEST_DISKS` are files for its
//! disks, each on a line of its own, with `:ro` behind it if it is read-only; `PV_GUEST_SPOIL` is
//! `magic`, `nothing`, `short`, `absurd`, `console` or `ring` to spoil what its start information
//! says. The exit status is 0 for a power-off, else 64 and the reason of the shutdown
//! (crash: 67), or 70 for a reason that has no name.

use std::{
    cell::UnsafeCell, env, io, mem::MaybeUninit, ptr::NonNull, sync::OnceLock, thread,
    time::Duration,
};

use hypercall_abi::{
    Mfn, Port, VcpuId,
    hvm::HvmParam,
    io::blkif::VdiskInfo,
    platform::{Pages, Platform},
    sched::ShutdownReason,
    xen::{SharedInfo, StartInfo},
};

use super::terminal::{self, Terminal};
use crate::{
    core::{
        config::{Config, DomainType, OnShutdown, Time},
        domain_state::Suspend,
        profile::Profile,
    },
    engine::domain::Domain,
    services::backends::{DiskConfig, Medium, NicConfig},
};

/// An exception of the guest's code.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// The processor's number for it.
    pub vector: u32,
    /// The processor's error code.
    pub error_code: u32,
    /// The address of a page fault.
    pub address: u64,
    /// r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi,
    /// rip, rflags, rsp.
    pub registers: [u64; 18],
    /// Where the stack of the guest's code must not reach: start and end.
    pub guard: (u64, u64),
}

/// What becomes of the code that raised an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It goes on.
    Yes,
    /// The guest has ended.
    No,
}

/// The guest's exception handler: the code goes on with the registers that it
/// leaves.
pub type Handler = fn(&mut Exception) -> Resume;

/// What a guest starts with.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// A PV guest: its start information and its shared page.
    Pv(NonNull<StartInfo>, NonNull<SharedInfo>),
    /// A PVH guest: the physical address of its start information.
    Pvh(u64),
}

/// The guest's code: gets its platform, and what it starts with.
pub type Main = fn(&'static dyn Platform, Start) -> !;

static DOMAIN: OnceLock<&'static Domain> = OnceLock::new();
static HANDLER: OnceLock<Handler> = OnceLock::new();
static GUARD: OnceLock<(u64, u64)> = OnceLock::new();

/// The number of the first disk.
const XVDA: u32 = 51712;
const DEFAULT_MEMORY_MIB: usize = 64;
const STACK_BYTES: usize = 1 << 20;
/// How often it is looked whether a watchdog has run out.
const TICK: Duration = Duration::from_millis(100);
const SIGNAL_STACK_BYTES: usize = 256 << 10;
/// How far around the end of the stack an access counts as an overflow.
const GUARD_BYTES: u64 = 64 << 10;

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    match env::var(name).map(|text| text.parse()) {
        Ok(Ok(number)) => number,
        Ok(Err(_)) => {
            eprintln!("mock: {name} is no number");
            std::process::exit(2);
        }
        Err(_) => default,
    }
}

/// Makes a domain of this process, and runs `main` as its guest, `handler` at
/// its exceptions, and `upcall` at its events.
pub fn run(main: Main, handler: Handler, upcall: fn()) -> ! {
    let domain_type = match env::var("PV_GUEST_TYPE").as_deref() {
        Ok("pvh") => DomainType::Pvh,
        Ok("pv") | Err(_) => DomainType::Pv,
        Ok(_) => {
            eprintln!("mock: PV_GUEST_TYPE is neither pv nor pvh");
            std::process::exit(2);
        }
    };
    let profile = match env::var("PV_GUEST_XEN").as_deref() {
        Ok("4.17") => Profile::Xen4_17,
        Ok("4.20") | Err(_) => Profile::Xen4_20,
        Ok(_) => {
            eprintln!("mock: PV_GUEST_XEN is neither 4.17 nor 4.20");
            std::process::exit(2);
        }
    };
    let config = Config {
        domain_type,
        memory_mib: number("PV_GUEST_MEMORY_MIB", DEFAULT_MEMORY_MIB),
        vcpus: number("PV_GUEST_VCPUS", 1),
        command_line: env::var("PV_GUEST_CMDLINE").unwrap_or_default(),
        console: Some(Box::new(Terminal(io::stdout()))),
        time: Time::Real,
        // More than one page of the queues' array has.
        max_event_channels: 2000,
        on_shutdown: OnShutdown::ExitProcess,
        profile,
    };
    let domain: &'static Domain = match Domain::new(config) {
        Ok(domain) => Box::leak(Box::new(domain)),
        Err(error) => {
            eprintln!("mock: {error}");
            std::process::exit(1);
        }
    };
    // The others take none.
    domain.on_upcall(move |vcpu| {
        if vcpu == VcpuId(0) {
            upcall();
        }
    });
    terminal::tell_loss(domain);
    attach_disks(domain);
    attach_nic(domain);
    if let Ok(kind) = env::var("PV_GUEST_SPOIL") {
        spoil(domain, &kind);
    }
    let _first: Result<(), &Domain> = DOMAIN.set(domain);
    let _first: Result<(), Handler> = HANDLER.set(handler);
    thread::spawn(move || terminal::feed(domain));
    listen(domain);
    for vcpu in 1..domain.vcpus {
        thread::spawn(move || domain.run_vcpu(VcpuId(vcpu)));
    }
    // A guest that loops makes no calls: its watchdog must end it all the same.
    thread::spawn(move || {
        loop {
            thread::sleep(TICK);
            domain.tick();
            suspend_on_request(domain);
        }
    });
    let guest = thread::Builder::new()
        .name("guest".into())
        .stack_size(STACK_BYTES)
        .spawn(move || -> () {
            catch_signals();
            let start = match domain_type {
                DomainType::Pv => Start::Pv(domain.start_info(), domain.shared_info()),
                DomainType::Pvh => Start::Pvh(0),
            };
            main(domain, start)
        });
    // The guest ends the process; it only gets here by a Rust panic.
    if let Ok(guest) = guest {
        let _panicked = guest.join();
    }
    domain.end(ShutdownReason::CRASH, String::new())
}

/// Whoever wants to be suspended finds that somebody listens.
pub(crate) fn listen(domain: &Domain) {
    let please = format!("/local/domain/{}/data/please", domain.domid());
    let _made = domain.xen().store_write(&please, b"");
    let _own = domain.xen().store_give(&please, domain.domid());
}

/// Gives the domain the disks that it is to have.
fn attach_disks(domain: &Domain) {
    let all = env::var("PV_GUEST_DISKS").unwrap_or_default();
    let paths = all.lines().filter(|path| !path.is_empty());
    for (index, path) in paths.enumerate() {
        let (path, info) = match path.strip_suffix(":ro") {
            Some(path) => (path, VdiskInfo::READONLY),
            None => (path, VdiskInfo::empty()),
        };
        let writes = !info.contains(VdiskInfo::READONLY);
        let file = std::fs::File::options().read(true).write(writes).open(path);
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                eprintln!("mock: cannot open {path}: {error}");
                std::process::exit(2);
            }
        };
        attach_disk(domain, index, file, info);
    }
}

/// Gives the domain a file for a disk.
pub(crate) fn attach_disk(domain: &Domain, index: usize, file: std::fs::File, info: VdiskInfo) {
    let config = DiskConfig {
        vdev: XVDA + 16 * index as u32,
        medium: Medium::File(file),
        sectors: 0,
        info,
        ..DiskConfig::default()
    };
    domain.xen().attach_disk(domain.domid(), config);
}

/// Gives the domain the network that it is to have: one that a port of the host's
/// leads into, whose number is said.
fn attach_nic(domain: &Domain) {
    if let Ok(port) = env::var("PV_GUEST_NET") {
        attach_nic_at(domain, &port);
    }
}

/// Gives it one at this port.
pub(crate) fn attach_nic_at(domain: &Domain, port: &str) {
    let config = NicConfig::default();
    let mac = config.mac;
    let bridge = config.bridge.clone();
    domain.xen().attach_nic(domain.domid(), config);
    cfg_if::cfg_if! {
        if #[cfg(feature = "user-net")] {
            let started = super::user_net::start(domain.xen().tap(&bridge), mac, port);
            match started {
                Ok((address, delivery)) => {
                    eprintln!("mock: http://{address}/ leads to the guest's port 80");
                    let complete = move |status| {
                        delivery.complete();
                        status
                    };
                    domain.at_end().push_back(Box::new(complete));
                }
                Err(error) => {
                    eprintln!("mock: no network at port {port}: {error}");
                    std::process::exit(2);
                }
            }
        } else {
            let _unused = (mac, bridge, port);
            eprintln!("mock: this guest was built without the mock's feature user-net");
        }
    }
}

/// A toolstack that suspends and resumes the guest when it writes `suspend` to
/// `data/please` in the store, and then writes `done` there.
pub(crate) fn suspend_on_request(domain: &Domain) {
    let path = format!("/local/domain/{}/data/please", domain.domid());
    let xen = domain.xen();
    let told = match xen.store_read(&path).as_deref() {
        Ok(b"suspend") => {
            let _gone = xen.suspend(domain.domid(), Suspend::Cancelled);
            "asked"
        }
        Ok(b"asked") if !xen.is_suspending(domain.domid()) => "done",
        _ => return,
    };
    let _gone = xen.store_write(&path, told.as_bytes());
}

/// Spoils what the guest is told at its start.
fn spoil(domain: &Domain, kind: &str) {
    let place = domain.start_info();
    if domain.is_pvh() {
        if kind == "ring" {
            // The store's page.
            let mut state = domain.lock();
            let store = state.params.get(&HvmParam::STORE_PFN.0).copied();
            state
                .params
                .insert(HvmParam::CONSOLE_PFN.0, store.unwrap_or(0));
        }
        return;
    }
    // SAFETY: the guest, who alone looks there, has not started.
    let start = unsafe { &mut *place.as_ptr() };
    match kind {
        "magic" => start.magic[0] = 0,
        // This guest needs no frame list: the first that is missed is memory.
        "nothing" | "short" => start.nr_pages = 0,
        "absurd" => start.nr_pages = u64::MAX,
        "console" => {
            start.console.mfn = Mfn(0);
            start.console.evtchn = Port(0);
        }
        "ring" => {
            let own = domain.gfn_of(place.cast());
            start.console.mfn = own.map_or(Mfn(0), |gfn| Mfn(gfn.0));
        }
        // A PV guest has no map whose ranges could overlap.
        _ => {}
    }
}

struct SignalStack(UnsafeCell<[u8; SIGNAL_STACK_BYTES]>);

// SAFETY: used by the kernel as the signal stack of one thread.
unsafe impl Sync for SignalStack {}

static SIGNAL_STACK: SignalStack = SignalStack(UnsafeCell::new([0; SIGNAL_STACK_BYTES]));

/// Makes this thread's exceptions the guest's.
fn catch_signals() {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: asks for the calling thread's number.
    let this = unsafe { libc::pthread_self() };
    // SAFETY: fills the attributes of the calling thread.
    if unsafe { libc::pthread_getattr_np(this, attributes.as_mut_ptr()) } == 0 {
        let (mut start, mut len) = (std::ptr::null_mut(), 0);
        // SAFETY: the attributes were filled above.
        unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &mut start, &mut len) };
        // SAFETY: as above; they are not used again.
        unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
        let start = start.addr() as u64;
        let _first = GUARD.set((start.saturating_sub(GUARD_BYTES), start + 4096));
    }
    let stack = libc::stack_t {
        ss_sp: SIGNAL_STACK.0.get().cast(),
        ss_flags: 0,
        ss_size: SIGNAL_STACK_BYTES,
    };
    // SAFETY: a static buffer that only this thread's signals use.
    unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
    for signal in [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGTRAP,
    ] {
        // SAFETY: all zeroes is a valid (empty) action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for.
        unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    }
}

/// The registers of an [`Exception`], in their order.
const REGISTERS: [libc::c_int; 18] = [
    libc::REG_R15,
    libc::REG_R14,
    libc::REG_R13,
    libc::REG_R12,
    libc::REG_RBP,
    libc::REG_RBX,
    libc::REG_R11,
    libc::REG_R10,
    libc::REG_R9,
    libc::REG_R8,
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_RIP,
    libc::REG_EFL,
    libc::REG_RSP,
];

extern "C" fn on_signal(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid context to a handler with SA_SIGINFO.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let registers = &mut context.uc_mcontext.gregs;
    let get = |index: i32| registers[index as usize].cast_unsigned();
    let vector = get(libc::REG_TRAPNO) as u32;
    // SAFETY: the kernel passes valid information.
    let info = unsafe { &*info };
    // SAFETY: there is an address for faults; it is not used for others.
    let address = unsafe { info.si_addr() }.addr() as u64;
    let mut exception = Exception {
        vector,
        error_code: get(libc::REG_ERR) as u32,
        address: if vector == 14 { address } else { 0 },
        registers: REGISTERS.map(get),
        guard: GUARD.get().copied().unwrap_or_default(),
    };
    let resume = HANDLER
        .get()
        .map_or(Resume::No, |handler| handler(&mut exception));
    for (index, register) in REGISTERS.iter().zip(exception.registers) {
        registers[*index as usize] = register.cast_signed();
    }
    if resume == Resume::No {
        match DOMAIN.get() {
            Some(domain) => domain.end(ShutdownReason::CRASH, String::new()),
            None => std::process::abort(),
        }
    }
}
