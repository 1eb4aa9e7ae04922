//! `cargo lab fuzz`: builds the fuzz targets with coverage, and runs them.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    folders::{root, target_dir},
    say::say,
};

/// The targets of tests/fuzz.
const TARGETS: [&str; 7] = [
    "store",
    "events",
    "rings",
    "disks",
    "nics",
    "images",
    "instructions",
];

/// What has the compiler count which code ran: flags that every one has.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=on";
const HOST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Runs the targets whose name contains `filter`, each for so long.
pub(crate) fn run(filter: &str, seconds: u64) -> Result<()> {
    let wanted: Vec<_> = TARGETS
        .iter()
        .filter(|name| name.contains(filter))
        .collect();
    if wanted.is_empty() {
        bail!(
            "there is no target {filter:?}; there are: {}",
            TARGETS.join(", ")
        );
    }
    let folder = target_dir().join("fuzz");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let status = cargo
        .current_dir(root())
        .args(["build", "--quiet", "--release", "--package", "fuzz"])
        .args(["--features", "targets", "--target", HOST_TARGET])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", COVERAGE)
        // For the runs to be quick and what is found to be told by line.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the fuzz targets do not build; they need a C++ compiler (Debian: g++)");
    }
    let mut running = Vec::new();
    for name in wanted {
        let corpus = folder.join("corpus").join(name);
        let found = folder.join("found").join(name);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&found)?;
        let log = folder.join(format!("{name}.log"));
        let program: PathBuf = folder
            .join(HOST_TARGET)
            .join("release")
            .join(format!("fuzz-{name}"));
        let output = fs::File::create(&log)?;
        let child = Command::new(program)
            .arg(&corpus)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .args(["-max_len=4096", "-timeout=20", "-print_final_stats=1"])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot run the target {name}"))?;
        running.push((name, child, log));
    }
    let mut failed = 0;
    for (name, mut child, log) in running {
        let status = child.wait()?;
        let text = fs::read_to_string(&log)?;
        let count = |what: &str| {
            let line = text.lines().find(|line| line.contains(what));
            let number = line.and_then(|line| line.split_whitespace().last());
            number.unwrap_or("?").to_owned()
        };
        if status.success() {
            let executed = count("stat::number_of_executed_units");
            say!("fuzz {name} ... ok ({executed} inputs in {seconds} s)");
        } else {
            failed += 1;
            let from = text.len().saturating_sub(3000);
            say!(
                "fuzz {name} ... FAILED\n{}",
                text.get(from..).unwrap_or(&text)
            );
        }
    }
    if failed > 0 {
        bail!("{failed} fuzz targets found something");
    }
    Ok(())
}
