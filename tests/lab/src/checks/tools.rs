//! That a guest which runs as a process can be looked into: by a debugger, and by which
//! of its lines ran.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    build::guest::{self, Build},
    folders,
    say::say,
    xen_machine::machine::spawn,
};

/// What a session of gdb's is told, and what it must say.
const SESSION: &str = "\
break pv_guest_main
continue
backtrace
info registers rip
stepi
x/2i $rip
delete
continue
";
const PUBLISHED_STATE: [&str; 5] = [
    "hit Temporary breakpoint",
    "hit Breakpoint 2, pv_guest_main",
    "in pv_guest_pv_entry",
    "<pv_guest_main+",
    "exited normally",
];

/// Runs a guest under gdb, to a function of its own.
pub(crate) fn debug() -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("a \"guest\", moved ")
        .tempdir()?;
    let kernel = folder.path().join("hello again");
    fs::copy(guest::build("hello", Build::Kernel)?, &kernel)?;
    let mut command = Command::new(guest::build_user_hypervisor()?);
    command
        .arg(&kernel)
        .arg("--gdb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(&mut command)?;
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(SESSION.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    for text in PUBLISHED_STATE {
        ensure!(
            said.contains(text),
            "gdb did not say {text:?}:\n{said}{errors}"
        );
    }
    say!("gdb stops hello in pv_guest_main, and lets it go on");
    Ok(())
}

/// Guests that do the same each time, if time is virtual, and what each prints at its
/// end. Of one, all claims are tried; those about a toolstack fail, as there is none.
const STEADY: [(&str, &str); 2] = [("tour", "powering off"), ("conformance", " passed, ")];
/// What is in each one's trace: a hypercall, an entry of a table, an upcall's end.
const TRACED: [&str; 3] = ["update_va_mapping(", ", entry ", "returns to 0x"];
const RUNS: usize = 3;

/// Runs guests several times in virtual time, and compares the stories of what they do.
pub(crate) fn steady() -> Result<()> {
    for (guest, end) in STEADY {
        let kernel = guest::build(guest, Build::Kernel)?;
        let mut first = None;
        for run in 1..=RUNS {
            let output = Command::new(guest::build_user_hypervisor()?)
                .arg(&kernel)
                .args(["--virtual-time", "--trace", "hypercalls,traps,mmu"])
                .stdin(Stdio::null())
                .output()
                .context("cannot run it")?;
            let story = (output.stdout, output.stderr);
            let told = first.get_or_insert_with(|| story.clone());
            ensure!(*told == story, "{guest} did something else in run {run}");
        }
        let (output, trace) = first.unwrap_or_default();
        let (output, trace) = (
            String::from_utf8_lossy(&output),
            String::from_utf8_lossy(&trace),
        );
        ensure!(
            output.contains(end),
            "{guest} did not print {end:?}:\n{output}"
        );
        for what in TRACED {
            ensure!(
                trace.contains(what),
                "no {what:?} in the trace of {guest}:\n{trace}"
            );
        }
        let lines = trace.lines().count();
        say!("{guest} does the same in {RUNS} runs in virtual time: {lines} lines of trace");
    }
    Ok(())
}

/// The least share of lines, in hundredths, that the claims run.
const MIN_PERCENT: usize = 50;

/// Tells which lines of the guest's crates the claims run.
pub(crate) fn coverage() -> Result<()> {
    let report = folders::target_dir().join("claims.lcov");
    let kernel = guest::build("conformance", Build::Kernel)?;
    let output = Command::new(guest::build_user_hypervisor()?)
        .arg(kernel)
        .args(["--vcpus", "2", "--coverage"])
        .arg(&report)
        .stdin(Stdio::null())
        .output()
        .context("cannot run it")?;
    let text = fs::read_to_string(&report)?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stdout));
    }
    for part in ["pv-guest/src/arch/traps.rs", "xenstore-client/src/"] {
        ensure!(text.contains(part), "nothing is told of {part}");
    }
    let (mut ran, mut all) = (0, 0);
    for line in text.lines() {
        if let Some((_, times)) = line
            .strip_prefix("DA:")
            .and_then(|rest| rest.split_once(','))
        {
            all += 1;
            ran += usize::from(times != "0");
        }
    }
    ensure!(
        ran * 100 >= all * MIN_PERCENT && ran < all,
        "{ran} of {all} lines ran"
    );
    say!(
        "the claims run {ran} of {all} lines of their image: {}",
        report.display()
    );
    Ok(())
}
