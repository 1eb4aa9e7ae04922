//! One guest, from its start to its end, on any platform.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::symlink,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use guest_names::Names;
use sha2::{Digest, Sha256};

use crate::{
    build::{
        guest::{self, Build},
        packages, spoil,
    },
    folders::{self, run_folder},
    job::{Chipset, Debug, Job, Platform, Report, Show, With, exit::Ended},
    peers::{clients, crowd, visitor::Visitor},
    platforms::{process, xen},
    say::Patient,
    xen_machine::machine::{debugger, spawn},
};

/// Runs a guest to its end.
pub(crate) fn run(job: &Job) -> Result<Report> {
    if let Some(net) = job.net.filter(|_| job.show != Show::Kept) {
        eprintln!("lab: {} leads to the guest", net.url());
    }
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let visit = job.net.and_then(|net| match job.with {
            With::Visitor => Some(scope.spawn(move || Visitor::new(net, over).visit())),
            With::Clients => Some(scope.spawn(move || clients::visit(net, over))),
            With::Crowd => Some(scope.spawn(move || crowd::visit(job.crowd, net, over))),
            _ => None,
        });
        let report = match job.platform {
            Platform::User => process::user(job),
            Platform::Mock | Platform::MockPvh => process::mock(job),
            Platform::Qemu => qemu(job),
            Platform::XenPv | Platform::XenPvh => xen::run(job),
        };
        over.store(true, Ordering::Relaxed);
        let mut report = report?;
        match visit.map(ScopedJoinHandle::join) {
            None => {}
            Some(Ok(Ok(said))) => {
                show(job, said.as_bytes(), Patient(std::io::stdout()));
                report.console += &said;
            }
            Some(Ok(Err(error))) => report.complaint = Some(format!("{error:#}")),
            Some(Err(_)) => report.complaint = Some("a panic".to_owned()),
        }
        Ok(report)
    })
}

/// How long a process is waited for that was asked to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The process of the platform, killed when its time is over.
pub(crate) struct Watchdog {
    expired: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
}

impl Watchdog {
    pub(crate) fn start(pid: u32, timeout: Duration) -> Self {
        Self::start_with(pid, timeout, Duration::ZERO)
    }

    /// One that asks first, and waits a moment for what is then told.
    pub(crate) fn start_gently(pid: u32, timeout: Duration) -> Self {
        Self::start_with(pid, timeout, PATIENCE)
    }

    fn start_with(pid: u32, timeout: Duration, patience: Duration) -> Self {
        let expired = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicBool::new(false));
        let (say, stop) = (Arc::clone(&expired), Arc::clone(&done));
        let deadline = Instant::now() + timeout;
        thread::spawn(move || {
            let is_over = |deadline: Instant| {
                while Instant::now() < deadline {
                    if stop.load(Ordering::Relaxed) {
                        return true;
                    }
                    thread::sleep(Duration::from_millis(20));
                }
                false
            };
            if is_over(deadline) {
                return;
            }
            say.store(true, Ordering::Relaxed);
            if !patience.is_zero() {
                // SAFETY: asks a child to end that was not yet waited for, as below.
                unsafe { libc::kill(pid.cast_signed(), libc::SIGTERM) };
                if is_over(deadline + patience) {
                    return;
                }
            }
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

/// Copies a process's output to one of ours and keeps it.
pub(crate) fn collect(
    job: &Job,
    names: &Names,
    mut output: impl Read,
    mut ours: impl Write,
) -> String {
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
        show(job, &console[shown..], &mut ours);
    }
    String::from_utf8_lossy(&console).into_owned()
}

pub(crate) fn show(job: &Job, bytes: &[u8], mut ours: impl Write) {
    if job.show != Show::Kept {
        let _closed = ours.write_all(bytes).and_then(|()| ours.flush());
    }
}

pub(crate) fn finish(
    mut child: Child,
    watchdog: Watchdog,
    read: impl FnOnce(i32) -> Ended,
) -> Result<Ended> {
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

/// QEMU's own log, in a run's folder.
const QEMU_LOG: &str = "qemu.log";

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
        let _lock = folders::lock()?;
        packages::ensure_tree()?
    };
    // QEMU runs in the folder, and reads names of files there.
    symlink(fs::canonicalize(&kernel)?, folder.path().join("kernel"))?;
    let mut command = packages::qemu(&tree, folder.path())?;
    command
        .args(["-M", job.chipset.name(), "-accel", "tcg", "-cpu", "max"])
        .args(["-serial", "stdio"])
        .args(match job.chipset {
            Chipset::Q35 => ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"],
            // Which reset it was is in QEMU's own log only.
            Chipset::PcWithoutAcpi | Chipset::Microvm => ["-d", "cpu_reset"],
        })
        .args(["-D", QEMU_LOG])
        .args([
            "-m",
            &job.memory_mib.to_string(),
            "-smp",
            &job.vcpus.to_string(),
        ])
        .args(["-append", &job.command_line, "-kernel", "kernel"]);
    if let Some(module) = &job.module {
        symlink(fs::canonicalize(module)?, folder.path().join("module"))?;
        command.args(["-initrd", "module"]);
    }
    if job.debug == Debug::Gdb {
        let socket = debugger(folder.path());
        invite(&kernel, &socket, "the guest waits for gdb's continue");
        command.args(["-S", "-gdb", "unix:gdb,server=on,wait=off"]);
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
    let console = collect(job, &Names::of(&kernel), output, Patient(std::io::stdout()));
    Ok(Report {
        ended: finish(child, watchdog, Ended::from_qemu_status)?,
        console,
        hypervisor_log: fs::read_to_string(folder.path().join(QEMU_LOG))
            .map(|log| log.lines().map(str::to_owned).collect())
            .unwrap_or_default(),
        diagnosis: None,
        complaint: None,
    })
}
