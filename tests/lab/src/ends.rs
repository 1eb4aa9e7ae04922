//! How the process of a guest ends: by a status for each reason, of which none is anybody
//! else's; or by the signal that interrupts it, after it has told what it would have told
//! at the guest's own end.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    guest::{self, Build},
    machine::spawn,
    run::Watchdog,
    say::say,
};

/// What a guest is to do, and the status of its process.
const STATUSES: [(&str, i32); 5] = [
    ("fault=reboot", 65),
    ("fault=panic", 67),
    ("fault=watchdog", 68),
    // A reason without a name, which would be the 124 of who watches if it were added up.
    ("fault=reason", 70),
    ("only=none-such", 0),
];

/// A guest that hangs behind a call that there is not.
const HANGS: &str = "fault=hang";
const BEFORE: &str = "fault: hang";
const TOLD: [&str; 2] = [
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
    say!("a guest's process ends by its reason's status, or by the signal that interrupts it");
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
    for text in TOLD {
        ensure!(
            told.contains(text),
            "interrupted by signal {signal}, it did not tell {text:?}:\n{told}"
        );
    }
    Ok(())
}
