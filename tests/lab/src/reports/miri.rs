//! `cargo lab miri`: the tests that end within seconds or minutes there, two at a time.
//! Miri runs a test on one processor, whatever the test does.

use std::{
    process::{Command, Output},
    sync::Mutex,
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    folders::{root, target_dir},
    say::say,
};

/// One run of `cargo miri test`.
struct Run {
    package: &'static str,
    /// Which targets, and which tests of them.
    arguments: &'static [&'static str],
    /// Beside those of all.
    flags: &'static str,
    when: When,
}

/// When a run is worth its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// At each change: each kind of access to shared memory once.
    Always,
    /// At night, with the rest of what the other kind tries.
    Nightly,
}

/// The mock's tables have entries of two sizes at one place, which Miri's model of weak
/// memory does not take (it stops with an error of its own).
const STRONG: &str = "-Zmiri-disable-weak-memory-emulation";
const FLAGS: &str = "-Zmiri-permissive-provenance -Zmiri-ignore-leaks -Zmiri-disable-isolation";

/// All of them; the longest first, so that two processors end together.
const RUNS: &[Run] = &[
    run(When::Always, "hypercall-abi", &["--lib"]),
    run(
        When::Always,
        "event-channels",
        &["--test", "single", "--test", "blocking"],
    ),
    // The drivers, each of their ways once: a half hour beside other work.
    run(
        When::Nightly,
        "pv-frontends",
        &["--test", "small", "--", "a_disk_is"],
    ),
    Run {
        flags: STRONG,
        ..run(
            When::Always,
            "grant-tables",
            &["--test", "mock", "--", "copies_go", "two_grants"],
        )
    },
    run(
        When::Always,
        "xenstore-client",
        &["--test", "mock", "--", "own_indices", "server"],
    ),
    // What reads what the loader wrote.
    run(
        When::Nightly,
        "pv-guest",
        &["--lib", "--", "boot_info", "command_line"],
    ),
    Run {
        flags: STRONG,
        ..run(
            When::Nightly,
            "grant-tables",
            &["--test", "mock", "--test", "single"],
        )
    },
    run(When::Nightly, "event-channels", &["--tests"]),
    run(
        When::Nightly,
        "xenstore-client",
        &["--lib", "--test", "machine"],
    ),
    run(
        When::Nightly,
        "xenstore-client",
        &[
            "--test",
            "mock",
            "--",
            "begins_anew",
            "nonsense",
            "one_who",
            "permissions",
        ],
    ),
    run(When::Nightly, "hypercall-abi", &["--tests"]),
];

const fn run(when: When, package: &'static str, arguments: &'static [&'static str]) -> Run {
    Run {
        package,
        arguments,
        flags: "",
        when,
    }
}

/// Runs those of each change, or all of them, and tells how each ended.
///
/// # Errors
/// There is no nightly compiler with Miri, or a test fails.
pub(crate) fn run_all(is_wanted: Wanted, filter: &str) -> Result<()> {
    look()?;
    let wanted = |one: &&Run| is_wanted == Wanted::All || one.when == When::Always;
    let runs: Vec<_> = RUNS
        .iter()
        .filter(wanted)
        .filter(|one| one.package.contains(filter))
        .collect();
    ensure!(!runs.is_empty(), "no package that is tried has {filter:?}");
    let rest = Mutex::new(runs.iter());
    let failed = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(one) = rest.lock().ok().and_then(|mut rest| rest.next()) {
                    let start = Instant::now();
                    let name = format!("miri {} {}", one.package, one.arguments.join(" "));
                    let why = match one.output() {
                        Ok(output) if output.status.success() => match tests_passed(&output) {
                            0 => "no test has such a name".to_owned(),
                            count => {
                                let seconds = start.elapsed().as_secs();
                                say!("{name} ... ok ({count} tests, {seconds} s)");
                                continue;
                            }
                        },
                        Ok(output) => text(&output),
                        Err(error) => format!("{error:#}"),
                    };
                    say!("{name} ... FAILED\n{why}");
                    if let Ok(mut failed) = failed.lock() {
                        *failed += 1;
                    }
                }
            });
        }
    });
    match failed.into_inner() {
        Ok(0) => Ok(()),
        Ok(count) => bail!("{count} runs failed under Miri"),
        Err(_) => bail!("a run ended by a panic"),
    }
}

/// Which runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those of each change.
    Quick,
    /// All.
    All,
}

impl Run {
    fn output(&self) -> Result<Output> {
        cargo()
            .args(["miri", "test", "--package", self.package, "--target-dir"])
            .arg(target_dir().join("miri"))
            .args(self.arguments)
            .env("MIRIFLAGS", format!("{FLAGS} {}", self.flags))
            .output()
            .context("cannot run cargo")
    }
}

/// How many tests ran and passed: a filter that fits none is no success.
fn tests_passed(output: &Output) -> usize {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "))
        .filter_map(|rest| rest.split(' ').next()?.parse::<usize>().ok())
        .sum()
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes))
        .concat()
}

/// Cargo of the nightly compiler. The one that has built the lab is of another, which its
/// variables name.
fn cargo() -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo"])
        .current_dir(root())
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC")
        .env_remove("CARGO");
    command
}

/// Says how Miri is had, if it is not there.
fn look() -> Result<()> {
    let version = cargo().args(["miri", "--version"]).output();
    ensure!(
        version.is_ok_and(|output| output.status.success()),
        "Miri comes with nightly compilers: \
         rustup toolchain install nightly --component miri,rust-src"
    );
    Ok(())
}
