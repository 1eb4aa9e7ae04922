//! One guest, from its start to its end, on any platform.

use std::{
    fs,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use sha2::{Digest, Sha256};

use crate::{
    crowd::Crowd,
    disk::{Access, Disk},
    exit::Ended,
    guest::{self, Build},
    machine::{Pace, Start, run_folder, spawn},
    names::Names,
    net::Net,
    packages::{self, XenVersion},
    spoil::{self, Spoil},
    visitor::Visitor,
    xen,
};

/// What a guest runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    /// The mock hypervisor, as a Linux process.
    Mock,
    /// The same, as a PVH guest.
    MockPvh,
    /// A real Xen in QEMU, as a PV guest.
    XenPv,
    /// A real Xen in QEMU, as a PVH guest.
    XenPvh,
    /// QEMU, without Xen.
    Qemu,
}

impl Platform {
    /// Its name, as on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mock => "mock",
            Self::MockPvh => "mock-pvh",
            Self::XenPv => "xen-pv",
            Self::XenPvh => "xen-pvh",
            Self::Qemu => "qemu",
        }
    }

    /// How its guests are virtualized, as Xen's tools call it.
    pub(crate) const fn guest_type(self) -> &'static str {
        match self {
            Self::Mock | Self::XenPv => "pv",
            Self::MockPvh | Self::XenPvh | Self::Qemu => "pvh",
        }
    }

    /// Whether it is a real Xen.
    pub(crate) const fn is_xen(self) -> bool {
        matches!(self, Self::XenPv | Self::XenPvh)
    }
}

/// Who sees the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// The terminal, live; and its input goes to the guest.
    Live,
    /// The terminal, live, with what the hypervisor says too.
    Verbose,
    /// Nobody: it is kept.
    Kept,
}

/// Who else is there (on a real Xen).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum With {
    /// Nobody
    #[default]
    Nobody,
    /// A second guest of the same image, with `pair=back` for a command line;
    /// each is told the other's number
    Peer,
    /// The same, as a Linux process in domain 0
    Linux,
    /// Somebody in domain 0 who answers in the guest's part of the store
    Echo,
    /// That, and others who work there
    Store,
    /// Linux in domain 0, which looks at the sample disk when the guest has ended
    Check,
    /// A visitor on this machine, who fetches all files that a guest serves
    Visitor,
    /// Many visitors at once, each of whom checks every answer: see --clients and
    /// --seconds. The guest is to end by itself: --cmdline quiet=5
    Crowd,
    /// A Linux guest on the same bridge, which fetches all files, too
    Neighbour,
    /// Trouble with the guest's disk, which is a blank one: it grows, fails, goes
    /// and comes back
    Trouble,
    /// What a benchmark needs: a RAM disk, a server, and one who counts
    Bench,
    /// A toolstack that suspends and resumes the guest when it asks for it
    Toolstack,
}

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) guest: String,
    pub(crate) platform: Platform,
    /// Which Xen, where it is a real one.
    pub(crate) xen: XenVersion,
    pub(crate) memory_mib: u32,
    pub(crate) vcpus: u32,
    pub(crate) command_line: String,
    /// Its disks.
    pub(crate) disks: Vec<Disk>,
    /// Its network.
    pub(crate) net: Option<Net>,
    /// Who else is there.
    pub(crate) with: With,
    /// What a crowd is, if it is that.
    pub(crate) crowd: Crowd,
    /// How the loader's information is spoilt.
    pub(crate) spoil: Option<Spoil>,
    pub(crate) timeout: Duration,
    pub(crate) start: Start,
    pub(crate) pace: Pace,
    pub(crate) show: Show,
    pub(crate) debug: Debug,
}

/// Whether a debugger is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Debug {
    /// No.
    Off,
    /// Yes: the guest waits for it, and has all the time it wants.
    Gdb,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) ended: Ended,
    /// The guest's console.
    pub(crate) console: String,
    /// What Xen said meanwhile.
    pub(crate) hypervisor_log: Vec<String>,
    /// What the log tells of a guest that could not speak for itself.
    pub(crate) diagnosis: Option<String>,
    /// What its visitors complain of.
    pub(crate) complaint: Option<String>,
}

impl Report {
    /// The exit status of the lab.
    pub(crate) fn status(&self) -> u8 {
        match self.ended.status() {
            0 => self.complaint.is_some().into(),
            status => status,
        }
    }
}

/// Runs a guest to its end.
pub(crate) fn run(job: &Job) -> Result<Report> {
    if let Some(net) = job.net.filter(|_| job.show != Show::Kept) {
        eprintln!("lab: {} leads to the guest", net.url());
    }
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let visit = job.net.and_then(|net| match job.with {
            With::Visitor => Some(scope.spawn(move || Visitor::new(net, over).visit())),
            With::Crowd => Some(scope.spawn(move || job.crowd.visit(net, over))),
            _ => None,
        });
        let report = match job.platform {
            Platform::Mock | Platform::MockPvh => mock(job),
            Platform::Qemu => qemu(job),
            Platform::XenPv | Platform::XenPvh => xen::run(job),
        };
        over.store(true, Ordering::Relaxed);
        let mut report = report?;
        match visit.map(ScopedJoinHandle::join) {
            None => {}
            Some(Ok(Ok(said))) => {
                show(job, said.as_bytes());
                report.console += &said;
            }
            Some(Ok(Err(error))) => report.complaint = Some(format!("{error:#}")),
            Some(Err(_)) => report.complaint = Some("a panic".to_owned()),
        }
        Ok(report)
    })
}

/// The process of the platform, killed when its time is over.
pub(crate) struct Watchdog {
    expired: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
}

impl Watchdog {
    pub(crate) fn start(pid: u32, timeout: Duration) -> Self {
        let expired = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicBool::new(false));
        let (say, stop) = (Arc::clone(&expired), Arc::clone(&done));
        let deadline = Instant::now() + timeout;
        thread::spawn(move || {
            while Instant::now() < deadline {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
            say.store(true, Ordering::Relaxed);
            // SAFETY: ends a child that was not yet waited for: `done` is set
            // before it is.
            unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
        });
        Self { expired, done }
    }

    pub(crate) fn stop(self) -> bool {
        self.done.store(true, Ordering::Relaxed);
        self.expired.load(Ordering::Relaxed)
    }
}

/// Hands the terminal's input to the guest, and its end as a terminal would.
pub(crate) fn feed(mut target: impl Write + Send + 'static) {
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok(len @ 1..) = std::io::stdin().read(&mut buffer) {
            if target
                .write_all(&buffer[..len])
                .and_then(|()| target.flush())
                .is_err()
            {
                return;
            }
        }
        let _gone = target.write_all(&[4]).and_then(|()| target.flush());
        // Keep the pipe open: its end would end QEMU's console.
        thread::sleep(Duration::from_secs(3600));
    });
}

/// Copies a process's output to the terminal and keeps it.
fn collect(job: &Job, names: &Names, mut output: impl Read) -> String {
    let mut console = Vec::new();
    let mut buffer = [0; 4096];
    let mut line_start = 0;
    while let Ok(len @ 1..) = output.read(&mut buffer) {
        let shown = console.len();
        for byte in buffer[..len].iter().copied().filter(|b| *b != b'\r') {
            if byte == b'\n' {
                let suffix = names.suffix(&console[line_start..]);
                console.extend(suffix.as_bytes());
                line_start = console.len() + 1;
            }
            console.push(byte);
        }
        show(job, &console[shown..]);
    }
    String::from_utf8_lossy(&console).into_owned()
}

pub(crate) fn show(job: &Job, bytes: &[u8]) {
    if job.show != Show::Kept {
        let mut out = std::io::stdout().lock();
        let _closed = out.write_all(bytes).and_then(|()| out.flush());
    }
}

fn finish(mut child: Child, watchdog: Watchdog, read: impl FnOnce(i32) -> Ended) -> Result<Ended> {
    use std::os::unix::process::ExitStatusExt;
    let status = child.wait()?;
    if watchdog.stop() {
        return Ok(Ended::TimedOut);
    }
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => read(code),
        (None, signal) => Ended::Died(format!("by signal {}", signal.unwrap_or(0))),
    })
}

/// The disks as the mock's hosted front is told of them.
fn disks(job: &Job) -> Result<String> {
    let mut all = Vec::new();
    for disk in &job.disks {
        let path = fs::canonicalize(&disk.path);
        let path = path.with_context(|| format!("there is no {}", disk.path.display()))?;
        let suffix = match disk.access {
            Access::Read => ":ro",
            Access::Write => "",
        };
        all.push(format!("{}{suffix}", path.display()));
    }
    Ok(all.join(","))
}

fn mock(job: &Job) -> Result<Report> {
    let program = guest::build(&job.guest, Build::Process)?;
    let mut command = Command::new(program);
    command
        .env("PV_GUEST_CMDLINE", &job.command_line)
        .env("PV_GUEST_TYPE", job.platform.guest_type())
        .env("PV_GUEST_DISKS", disks(job)?)
        .env("PV_GUEST_MEMORY_MIB", job.memory_mib.to_string())
        .env("PV_GUEST_VCPUS", job.vcpus.to_string())
        .env("RUST_BACKTRACE", "0");
    if let Some(net) = job.net {
        command.env("PV_GUEST_NET", net.port.to_string());
    }
    if let Some(spoil) = job.spoil {
        command.env("PV_GUEST_SPOIL", spoil.name());
    }
    if job.debug == Debug::Gdb {
        return debug_process(&command);
    }
    command
        .stdin(if job.show == Show::Kept {
            Stdio::null()
        } else {
            Stdio::inherit()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(&mut command)?;
    let watchdog = Watchdog::start(child.id(), job.timeout);
    let output = child.stdout.take().context("no output")?;
    let errors = child.stderr.take().context("no output")?;
    let mut console = String::new();
    let mut complaints = String::new();
    thread::scope(|scope| {
        let errors = scope.spawn(|| collect(job, &Names::NONE, errors));
        console = collect(job, &Names::NONE, output);
        complaints = errors.join().unwrap_or_default();
    });
    Ok(Report {
        ended: finish(child, watchdog, Ended::from_process_status)?,
        console: console + &complaints,
        hypervisor_log: Vec::new(),
        diagnosis: None,
        complaint: None,
    })
}

/// Runs a guest's process under gdb, on this terminal.
fn debug_process(program: &Command) -> Result<Report> {
    let mut gdb = Command::new("gdb");
    for (name, value) in program.get_envs() {
        gdb.env(name, value.unwrap_or_default());
    }
    // The guest's own handler is to get what it can handle.
    let status = gdb
        .args(["-ex", "handle SIGTRAP nostop noprint pass", "--args"])
        .arg(program.get_program())
        .status()
        .context("cannot run gdb; install it with: sudo apt-get install -y gdb")?;
    Ok(Report {
        ended: Ended::from_process_status(status.code().unwrap_or(1)),
        console: String::new(),
        hypervisor_log: Vec::new(),
        diagnosis: None,
        complaint: None,
    })
}

/// Tells how to reach the guest with a debugger.
pub(crate) fn invite(kernel: &std::path::Path, socket: &std::path::Path, then: &str) {
    eprintln!(
        "lab: gdb {} -ex 'target remote {}' -ex 'hbreak pv_guest_main'\nlab: {then}",
        kernel.display(),
        socket.display()
    );
}

/// Tells which file is booted.
pub(crate) fn announce(job: &Job, kernel: &[u8]) {
    if job.show != Show::Kept {
        let hash: String = Sha256::digest(kernel)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        eprintln!(
            "lab: {} on {}, sha256 {hash}",
            job.guest,
            job.platform.name()
        );
    }
}

fn qemu(job: &Job) -> Result<Report> {
    let folder = run_folder()?;
    let mut kernel = guest::build(&job.guest, Build::Kernel)?;
    announce(job, &fs::read(&kernel)?);
    if let Some(spoil) = job.spoil {
        let image = spoil::image(&fs::read(&kernel)?, spoil)?;
        kernel = folder.path().join("image");
        fs::write(&kernel, image)?;
    }
    let tree = {
        let _lock = packages::lock()?;
        packages::ensure_tree()?
    };
    let mut command = packages::qemu(&tree);
    command
        .args([
            "-M", "q35", "-accel", "tcg", "-cpu", "max", "-serial", "stdio",
        ])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .args([
            "-m",
            &job.memory_mib.to_string(),
            "-smp",
            &job.vcpus.to_string(),
        ])
        .args(["-append", &job.command_line, "-kernel"])
        .arg(&kernel);
    if job.debug == Debug::Gdb {
        let socket = folder.path().join("gdb");
        invite(&kernel, &socket, "the guest waits for gdb's continue");
        command
            .args(["-S", "-gdb"])
            .arg(format!("unix:{},server=on,wait=off", socket.display()));
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut child = spawn(&mut command)?;
    let watchdog = Watchdog::start(child.id(), job.timeout);
    let input = child.stdin.take().context("no input")?;
    let _open = if job.show == Show::Kept {
        Some(input)
    } else {
        feed(input);
        None
    };
    let output = child.stdout.take().context("no output")?;
    let console = collect(job, &Names::of(&kernel), output);
    Ok(Report {
        ended: finish(child, watchdog, Ended::from_qemu_status)?,
        console,
        hypervisor_log: Vec::new(),
        diagnosis: None,
        complaint: None,
    })
}
