//! One guest, from its start to its end, on any platform.

use std::{
    fs,
    io::{BufRead, Read, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use sha2::{Digest, Sha256};

use crate::{
    crash,
    exit::Ended,
    guest::{self, Build},
    machine::{Parts, Start, run_folder, spawn, write_job},
    names::Names,
    packages,
    spoil::{self, Spoil},
};

/// What a guest runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    /// The mock hypervisor, as a Linux process.
    Mock,
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
            Self::XenPv => "xen-pv",
            Self::XenPvh => "xen-pvh",
            Self::Qemu => "qemu",
        }
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

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) guest: String,
    pub(crate) platform: Platform,
    pub(crate) memory_mib: u32,
    pub(crate) vcpus: u32,
    pub(crate) command_line: String,
    /// How the loader's information is spoilt.
    pub(crate) spoil: Option<Spoil>,
    pub(crate) timeout: Duration,
    pub(crate) start: Start,
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
}

/// Runs a guest to its end.
pub(crate) fn run(job: &Job) -> Result<Report> {
    match job.platform {
        Platform::Mock => mock(job),
        Platform::Qemu => qemu(job),
        Platform::XenPv | Platform::XenPvh => xen(job),
    }
}

/// The process of the platform, killed when its time is over.
struct Watchdog {
    expired: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
}

impl Watchdog {
    fn start(pid: u32, timeout: Duration) -> Self {
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

    fn stop(self) -> bool {
        self.done.store(true, Ordering::Relaxed);
        self.expired.load(Ordering::Relaxed)
    }
}

/// Hands the terminal's input to the guest, and its end as a terminal would.
fn feed(mut target: impl Write + Send + 'static) {
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

fn show(job: &Job, bytes: &[u8]) {
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

fn mock(job: &Job) -> Result<Report> {
    let program = guest::build(&job.guest, Build::Process)?;
    let mut command = Command::new(program);
    command
        .env("PV_GUEST_CMDLINE", &job.command_line)
        .env("PV_GUEST_MEMORY_MIB", job.memory_mib.to_string())
        .env("PV_GUEST_VCPUS", job.vcpus.to_string())
        .env("RUST_BACKTRACE", "0");
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
    })
}

/// Tells how to reach the guest with a debugger.
fn invite(kernel: &std::path::Path, socket: &std::path::Path, then: &str) {
    eprintln!(
        "lab: gdb {} -ex 'target remote {}' -ex 'hbreak pv_guest_main'\nlab: {then}",
        kernel.display(),
        socket.display()
    );
}

/// Tells which file is booted.
fn announce(job: &Job, kernel: &[u8]) {
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
    })
}

const JOB_SCRIPT: &str = include_str!("../dom0/job.sh");

fn configuration(job: &Job) -> String {
    let kind = if job.platform == Platform::XenPv {
        "pv"
    } else {
        "pvh"
    };
    // xl reads strings as Python does, in single or double quotes.
    let command_line = job.command_line.replace(['"', '\n', '\\'], " ");
    format!(
        "name=\"guest\"\ntype=\"{kind}\"\nkernel=\"/job/image\"\nmemory={}\nvcpus={}\n\
         cmdline=\"{command_line}\"\ntsc_mode=\"native\"\non_poweroff=\"destroy\"\n\
         on_crash=\"destroy\"\non_reboot=\"destroy\"\non_watchdog=\"destroy\"\n",
        job.memory_mib, job.vcpus
    )
}

/// What the initial domain's console says, sorted.
#[derive(Default)]
struct Transcript {
    console: String,
    log: Vec<String>,
    ended: Option<Ended>,
    stage: Stage,
    create_log: String,
}

/// Whose words a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Guests,
    Others,
}

/// Whether the start of a line may turn out to be Xen's or the lab's own.
fn could_be_ours(line: &[u8]) -> bool {
    [b"(XEN)", b"@@LAB"].iter().any(|mark| {
        let len = line.len().min(mark.len());
        line.get(..len) == mark.get(..len)
    })
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Before,
    Guest,
    Log,
}

impl Transcript {
    /// Takes a line, and says whose it was.
    fn line(&mut self, line: &str) -> Whose {
        if let Some(mark) = line.trim_end().strip_prefix("@@LAB ") {
            match mark.split_once(' ').map_or(mark, |(word, _)| word) {
                "begin" => self.stage = Stage::Guest,
                "log" => self.stage = Stage::Log,
                "refused" => self.ended = Some(Ended::Refused(self.create_log.trim().to_owned())),
                "end" => {
                    let reason = mark.rsplit(' ').next().and_then(|word| word.parse().ok());
                    self.ended = Some(reason.map_or_else(
                        || Ended::Died("without telling why".to_owned()),
                        Ended::Shutdown,
                    ));
                }
                _ => {}
            }
            return Whose::Others;
        }
        match self.stage {
            Stage::Before => {
                if !line.starts_with("(XEN)") {
                    self.create_log.push_str(line);
                }
                Whose::Others
            }
            // Xen's own console is the same line: it is asked for its log
            // when the guest has ended.
            Stage::Guest if line.starts_with("(XEN)") => Whose::Others,
            Stage::Guest => {
                self.console.push_str(line);
                Whose::Guests
            }
            Stage::Log => {
                // Xen lists the state that it saves when it starts a guest.
                if line.starts_with("(XEN)") && !line.contains(" save: ") {
                    self.log.push(line.trim_end().to_owned());
                }
                Whose::Others
            }
        }
    }
}

fn xen(job: &Job) -> Result<Report> {
    let kernel_path = guest::build(&job.guest, Build::Kernel)?;
    let mut kernel = fs::read(&kernel_path)?;
    announce(job, &kernel);
    if let Some(spoil) = job.spoil {
        kernel = spoil::image(&kernel, spoil)?;
    }
    let parts = {
        let _lock = packages::lock()?;
        let parts = Parts::ensure()?;
        if job.start == Start::Restored {
            parts.ensure_saved()?;
        }
        parts
    };
    let folder = run_folder()?;
    let configuration = configuration(job);
    let script = match job.debug {
        Debug::Off => JOB_SCRIPT.to_owned(),
        Debug::Gdb => JOB_SCRIPT.replace("(sleep", "read -r _\n(sleep"),
    };
    write_job(
        &folder.path().join("job"),
        &[
            ("image", &kernel),
            ("guest.cfg", configuration.as_bytes()),
            ("run.sh", script.as_bytes()),
        ],
    )?;
    let mut machine = parts.start(folder.path(), job.start, job.debug)?;
    if job.debug == Debug::Gdb {
        let socket = folder.path().join("gdb");
        invite(
            &kernel_path,
            &socket,
            "the guest starts when you press Enter here",
        );
    }
    // Starting Xen is not the guest's time.
    let allowance = Duration::from_secs(if job.start == Start::Cold { 90 } else { 20 });
    let watchdog = Watchdog::start(machine.pid(), job.timeout + allowance);
    let mut input = machine.input()?;
    let mut output = machine.output()?;
    let mut transcript = Transcript::default();
    let blocks = (kernel.len() + script.len() + configuration.len()) / 65536 + 2;
    let start = format!(
        // The shell's prompt stands on the line where the job starts to speak.
        "echo; dd if=/dev/vda bs=64k count={blocks} iflag=direct 2>/dev/null | tar xf - -C /job; \
         sh /job/run.sh\n"
    );
    if job.start == Start::Cold {
        let mut line = Vec::new();
        while !String::from_utf8_lossy(&line).contains("@@LAB ready") {
            line.clear();
            if output.read_until(b'\n', &mut line)? == 0 {
                break;
            }
        }
        thread::sleep(Duration::from_millis(1500));
    }
    input.write_all(start.as_bytes())?;
    input.flush()?;

    let input = Arc::new(Mutex::new(Some(input)));
    let names = Names::of(&kernel_path);
    let guest_watchdog = follow(
        job,
        &names,
        &mut output,
        &mut transcript,
        &input,
        machine.pid(),
    );
    let expired = watchdog.stop() | guest_watchdog.is_some_and(Watchdog::stop);
    if job.show == Show::Verbose {
        for line in &transcript.log {
            eprintln!("{line}");
        }
    }
    let ended = if expired {
        Ended::TimedOut
    } else {
        transcript
            .ended
            .unwrap_or_else(|| Ended::Died("with its machine".to_owned()))
    };
    Ok(Report {
        ended,
        console: transcript.console,
        diagnosis: crash::stack_overflow(&transcript.log, &crash::guards(&kernel), &names),
        hypervisor_log: transcript.log,
    })
}

type SharedInput = Arc<Mutex<Option<std::process::ChildStdin>>>;

/// Reads the machine's console until the guest has ended.
fn follow(
    job: &Job,
    names: &Names,
    output: &mut impl BufRead,
    transcript: &mut Transcript,
    input: &SharedInput,
    pid: u32,
) -> Option<Watchdog> {
    let mut watchdog = None;
    let mut line = Vec::new();
    let mut shown = 0;
    while transcript.ended.is_none() {
        let chunk = match output.fill_buf() {
            Ok(chunk) if !chunk.is_empty() => chunk.to_vec(),
            _ => break,
        };
        output.consume(chunk.len());
        for byte in chunk.into_iter().filter(|byte| *byte != b'\r') {
            if byte == b'\n' {
                line.extend(names.suffix(&line).as_bytes());
            }
            line.push(byte);
            if byte == b'\n' {
                let text = String::from_utf8_lossy(&line);
                if transcript.line(&text) == Whose::Guests {
                    show(job, line.get(shown..).unwrap_or(&[]));
                }
                line.clear();
                shown = 0;
            }
        }
        if transcript.stage == Stage::Guest {
            // A prompt has no end of line: show what can only be the guest's.
            if !could_be_ours(&line) {
                show(job, line.get(shown..).unwrap_or(&[]));
                shown = line.len();
            }
            if watchdog.is_none() {
                watchdog = Some(Watchdog::start(pid, job.timeout));
                if job.show != Show::Kept {
                    let input = input.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(input) = input {
                        feed(input);
                    }
                }
            }
        }
    }
    watchdog
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_words_and_xens_are_told_apart() {
        let mut transcript = Transcript::default();
        for line in [
            "noise\n",
            "@@LAB begin\n",
            "hello\n",
            "(XEN) something\n",
            "@@LAB log\n",
            "(XEN) crashed\n",
            "@@LAB end reason code 3\n",
        ] {
            transcript.line(line);
        }
        assert_eq!(transcript.console, "hello\n");
        assert_eq!(transcript.log, ["(XEN) crashed"]);
        assert_eq!(transcript.ended, Some(Ended::Shutdown(3)));
    }

    #[test]
    fn a_prompt_is_shown_before_its_line_ends() {
        assert!(!could_be_ours(b"name? "));
        for ours in [b"".as_slice(), b"(X", b"(XEN) d1", b"@@", b"@@LAB end"] {
            assert!(could_be_ours(ours));
        }
    }

    #[test]
    fn a_refused_guest_says_why() {
        let mut transcript = Transcript::default();
        transcript.line("xl: bad image\n");
        transcript.line("@@LAB refused\n");
        assert_eq!(
            transcript.ended,
            Some(Ended::Refused("xl: bad image".into()))
        );
    }

    #[test]
    fn a_command_line_cannot_leave_its_quotes() {
        let job = Job {
            guest: "hello".into(),
            platform: Platform::XenPvh,
            memory_mib: 8,
            vcpus: 1,
            command_line: "a\"\nextra=\"b".into(),
            spoil: None,
            timeout: Duration::ZERO,
            start: Start::Cold,
            show: Show::Kept,
            debug: Debug::Off,
        };
        let text = configuration(&job);
        assert!(text.contains("cmdline=\"a  extra= b\"\n"));
        assert!(text.contains("type=\"pvh\"\n"));
    }
}
