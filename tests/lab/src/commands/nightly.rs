//! `cargo lab nightly`: what takes too long for each change and rarely finds something.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{folders, say::say};

/// A step: cargo with these arguments and variables.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
}

/// As many seeds as the tests were written for; each change tries a part of them.
const ALL_SEEDS: &[(&str, &str)] = &[("MOCK_SEEDS", "10000")];

const STEPS: &[Step] = &[
    Step {
        name: "the host's tests with default features",
        arguments: &["test", "--no-fail-fast"],
        variables: &[],
    },
    Step {
        name: "10,000 seeds of each torture",
        arguments: &[
            "test",
            "--release",
            "--package",
            "pv-frontends",
            "--test",
            "blk_torture",
            "--test",
            "net_torture",
        ],
        variables: ALL_SEEDS,
    },
    Step {
        name: "10,000 seeds of clients",
        arguments: &[
            "test",
            "--release",
            "--package",
            "pv-frontends",
            "--features",
            "net",
            "--test",
            "drivers",
            "net_clients::",
        ],
        variables: ALL_SEEDS,
    },
    Step {
        name: "10,000 seeds of three guests",
        arguments: &[
            "test",
            "--release",
            "--package",
            "conformance",
            "--test",
            "pair",
        ],
        variables: ALL_SEEDS,
    },
    Step {
        name: "undefined behaviour",
        arguments: &["lab", "miri", "--all"],
        variables: &[],
    },
    Step {
        name: "ten minutes of each fuzz target",
        arguments: &["lab", "fuzz", "--seconds", "600"],
        variables: &[],
    },
    Step {
        name: "planted bugs",
        arguments: &["lab", "mutants"],
        variables: &[],
    },
    Step {
        name: "long scenarios",
        arguments: &[
            "lab",
            "test",
            "--on",
            "user,xen-pv,xen-pvh",
            "--filter",
            "nightly",
        ],
        variables: &[],
    },
    Step {
        name: "all scenarios on Xen 4.17",
        arguments: &["lab", "test", "--on", "xen-pv,xen-pvh", "--xen", "4.17"],
        variables: &[],
    },
    Step {
        name: "long scenarios on Xen 4.17",
        arguments: &[
            "lab",
            "test",
            "--on",
            "xen-pv,xen-pvh",
            "--xen",
            "4.17",
            "--filter",
            "nightly",
        ],
        variables: &[],
    },
];

/// Runs the steps whose name contains `filter`, all of them whatever fails, and tells
/// what each took.
///
/// # Errors
/// Cargo cannot be started.
pub(crate) fn run(filter: &str) -> Result<u8> {
    let mut table = Vec::new();
    let mut failed = 0;
    for step in STEPS.iter().filter(|step| step.name.contains(filter)) {
        say!("\n== {}", step.name);
        let start = Instant::now();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .current_dir(folders::root())
            .args(step.arguments)
            .envs(step.variables.iter().copied())
            .status()
            .context("cannot run cargo")?;
        failed += usize::from(!status.success());
        table.push((step.name, status.success(), start.elapsed()));
    }
    say!("");
    for (name, passed, took) in &table {
        let verdict = if *passed { "ok" } else { "FAILED" };
        say!("{name:40}{verdict:>8}{:>10}", minutes(*took));
    }
    say!("\n{} passed, {failed} failed", table.len() - failed);
    Ok(u8::from(failed > 0 || table.is_empty()))
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
}
