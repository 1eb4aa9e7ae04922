//! How the process of a guest ends: by a status for each reason, of which none is anybody
//! else's; or by the signal that interrupts it, after it has told what it would have told
//! at the guest's own end.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::ExitStatusExt as _},
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    build::guest::{self, Build},
    checks::flood,
    platforms::run::Watchdog,
    say::say,
    xen_machine::machine::spawn,
};

/// What a guest is to do, and the status of its process.
const STATUSES: [(&str, i32); 5] = [
    ("fault=reboot", 65),
    ("fault=panic", 67),
    ("fault=watchdog", 68),
    // A reason without a name, which would be the 124 of who watches if it were added up.
    ("fault=reason", 70),
    (NOTHING, 0),
];
/// No claim is tried.
const NOTHING: &str = "only=none-such";
/// The most bytes that are taken of a guest's input before it reads some, with those that
/// the host's kernel keeps.
const MAX_TAKEN: usize = 1 << 20;

/// A guest that hangs behind a call that there is not.
const HANGS: &str = "fault=hang";
const BEFORE: &str = "fault: hang";
const PUBLISHED_STATE: [&str; 2] = [
    "xen: the guest is interrupted",
    "hypercall 62, operation 7: 1 time",
];
const TIMEOUT: Duration = Duration::from_secs(60);

/// Has some end, and interrupts others.
pub(crate) fn check() -> Result<()> {
    let kernel = guest::build("conformance", Build::Kernel)?;
    let program = guest::build_user_hypervisor()?;
    let command = |words: &str| {
        let mut command = Command::new(&program);
        command.arg(&kernel).args(["--cmdline", words]);
        command.stdin(Stdio::null());
        command
    };
    for (words, status) in STATUSES {
        let output = command(words).output().context("cannot run it")?;
        ensure!(
            output.status.code() == Some(status),
            "{words} ends by {}, not by status {status}",
            output.status
        );
    }
    let output = Command::new(&program)
        .arg(Path::new("/dev/null"))
        .output()?;
    ensure!(
        output.status.code() == Some(2),
        "what is no kernel ends by {}",
        output.status
    );
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        interrupt(command(HANGS), signal)?;
    }
    check_output(command)?;
    check_input(command(HANGS))?;
    say!("a guest's process ends by its reason's status, or by the signal that interrupts it");
    Ok(())
}

/// What the guest writes arrives where writes do not block, too; what cannot be kept at all
/// is told, and no success.
fn check_output(command: impl Fn(&str) -> Command) -> Result<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    let mut writer = command(&format!("lines={}", flood::LINES));
    writer.stdout(OwnedFd::from(theirs));
    let mut child = spawn(&mut writer)?;
    // The last other end of this is the guest's.
    drop(writer);
    let watchdog = Watchdog::start(child.id(), TIMEOUT);
    // It has written as much as there is room for.
    std::thread::sleep(Duration::from_millis(300));
    let mut console = String::new();
    ours.read_to_string(&mut console)?;
    let status = child.wait()?;
    ensure!(
        !watchdog.stop() && status.success(),
        "a guest whose output is not to block ends by {status}"
    );
    flood::compare(&console)?;
    let full = fs::File::options().write(true).open("/dev/full")?;
    let output = command(NOTHING).stdout(full).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && told.contains("the guest's output is lost"),
        "a guest whose output cannot be kept ends by {}:\n{told}",
        output.status
    );
    Ok(())
}

/// A guest that reads nothing costs no memory for all that it is sent.
fn check_input(mut command: Command) -> Result<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    let mut child = spawn(&mut command)?;
    drop(command);
    let end = Instant::now() + Duration::from_secs(1);
    let mut taken = 0;
    while Instant::now() < end {
        match ours.write(&[b'x'; 4096]) {
            Ok(len) => taken += len,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    child.kill()?;
    child.wait()?;
    ensure!(taken < MAX_TAKEN, "it took {taken} bytes that nobody reads");
    Ok(())
}

fn interrupt(mut command: Command, signal: i32) -> Result<()> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&mut command)?;
    let watchdog = Watchdog::start(child.id(), TIMEOUT);
    let output = BufReader::new(child.stdout.take().context("no output")?);
    let begun = output
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains(BEFORE));
    ensure!(begun, "it did not come to its hang");
    // The call comes right behind that.
    std::thread::sleep(Duration::from_millis(300));
    // SAFETY: a child that was not yet waited for.
    unsafe { libc::kill(child.id().cast_signed(), signal) };
    let mut told = String::new();
    let mut errors = child.stderr.take().context("no output")?;
    errors.read_to_string(&mut told)?;
    let status = child.wait()?;
    ensure!(!watchdog.stop(), "signal {signal} did not end it");
    ensure!(
        status.signal() == Some(signal),
        "interrupted by signal {signal}, it ended by {status}"
    );
    for text in PUBLISHED_STATE {
        ensure!(
            told.contains(text),
            "interrupted by signal {signal}, it did not tell {text:?}:\n{told}"
        );
    }
    Ok(())
}
