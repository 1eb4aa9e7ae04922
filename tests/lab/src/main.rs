//! `cargo lab`: runs guests and tests on every platform.

mod abi;
mod cpio;
mod crash;
mod dom0;
mod exit;
mod fuzz;
mod guest;
mod linux;
mod machine;
mod names;
mod packages;
mod qmp;
mod run;
mod say;
mod scenario;
mod size;
mod spoil;
mod xen;

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::{
    exit::Ended,
    machine::Start,
    run::{Debug, Job, Platform, Show, With},
    say::say,
    spoil::Spoil,
};

/// Runs guests and tests on every platform.
#[derive(Debug, Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run a guest; the exit status is 0 if it powers off, else 64 and the
    /// reason (65 reboot, 67 crash, 68 watchdog), 124 if its time is over
    Run(RunOptions),
    /// Run all tests: the host's, and the guests' on each platform
    Test {
        /// The platforms
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "mock,qemu,xen-pv,xen-pvh"
        )]
        on: Vec<Platform>,
        /// Only scenarios whose name contains this
        #[arg(long, default_value = "")]
        filter: String,
    },
    /// Tell the size of a guest, and the least memory in which it boots
    Size {
        /// The guest
        #[arg(default_value = "hello")]
        example: String,
    },
    /// Compare hypercall-abi with Xen's own headers
    Abi {
        /// More headers: a folder that has xen.h
        #[arg(long, value_name = "FOLDER")]
        headers: Vec<PathBuf>,
        /// Write the index of the crate's documentation anew
        #[arg(long)]
        write_index: bool,
    },
    /// Run the fuzz targets, all at once
    Fuzz {
        /// Only those whose name contains this
        #[arg(default_value = "")]
        target: String,
        /// For so long
        #[arg(long, value_name = "S", default_value_t = 60)]
        seconds: u64,
    },
    /// Say what is missing on this machine, and how to mend it
    Doctor,
}

#[derive(Debug, clap::Args)]
struct RunOptions {
    /// The guest: a package in examples/, conformance, or (to compare with, on
    /// xen-pv and xen-pvh) linux
    #[arg(default_value = "tour")]
    example: String,
    /// What to run it on
    #[arg(long, default_value = "mock")]
    on: Platform,
    /// Its memory
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    memory: u32,
    /// Its vCPUs
    #[arg(long, value_name = "N", default_value_t = 1)]
    vcpus: u32,
    /// Its command line
    #[arg(long, value_name = "S", default_value = "")]
    cmdline: String,
    /// Seconds until it is ended
    #[arg(long, value_name = "S", default_value_t = 60)]
    timeout: u64,
    /// Who else is there (xen-pv and xen-pvh only)
    #[arg(long, default_value = "nobody")]
    with: With,
    /// Spoil what the loader hands to the guest (conformance only)
    #[arg(long, value_name = "KIND")]
    spoil: Option<Spoil>,
    /// Start Xen anew instead of restoring a saved machine
    #[arg(long)]
    cold: bool,
    /// Let the guest wait for gdb, and say how to attach it
    #[arg(long)]
    gdb: bool,
    /// Show what the hypervisor says, too
    #[arg(short, long)]
    verbose: bool,
}

/// How long a guest may run under a debugger: a day.
const DEBUGGING_S: u64 = 86_400;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or("error: wrong options");
            eprintln!("{first} (see cargo lab --help)");
            return ExitCode::from(2);
        }
    };
    // Children die with us; only what is on disk needs this.
    let interrupted = ctrlc::set_handler(|| {
        machine::clean_up();
        std::process::exit(130)
    });
    let result = interrupted
        .context("cannot watch for signals")
        .and_then(|()| match cli.command {
            Action::Run(options) => run_guest(options),
            Action::Test { on, filter } => test(&on, &filter),
            Action::Size { example } => size::report(&example),
            Action::Abi {
                headers,
                write_index,
            } => abi::report(&headers, write_index),
            Action::Fuzz { target, seconds } => fuzz::run(&target, seconds).map(|()| 0),
            Action::Doctor => doctor(),
        });
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn run_guest(options: RunOptions) -> Result<u8> {
    let job = Job {
        guest: options.example,
        platform: options.on,
        memory_mib: options.memory,
        vcpus: options.vcpus,
        command_line: options.cmdline,
        with: options.with,
        spoil: options.spoil,
        timeout: Duration::from_secs(if options.gdb {
            DEBUGGING_S
        } else {
            options.timeout
        }),
        start: if options.cold {
            Start::Cold
        } else {
            Start::Restored
        },
        show: if options.verbose {
            Show::Verbose
        } else {
            Show::Live
        },
        debug: if options.gdb { Debug::Gdb } else { Debug::Off },
    };
    let report = run::run(&job)?;
    if report.ended != Ended::Shutdown(0) {
        if !options.verbose {
            for line in &report.hypervisor_log {
                eprintln!("{line}");
            }
        }
        if let Some(diagnosis) = &report.diagnosis {
            eprint!("{diagnosis}");
        }
        eprintln!("lab: {} ended by {}", job.guest, report.ended);
    }
    Ok(report.ended.status())
}

/// The host's own tests: all libraries, and what is not among them.
const HOST_TESTS: [&[&str]; 3] = [
    &[],
    &["--package", "conformance"],
    &[
        "--package",
        "xenstore-client",
        "--features",
        "std",
        "--tests",
    ],
];

fn test(platforms: &[Platform], filter: &str) -> Result<u8> {
    let mut failures = Vec::new();
    if filter.is_empty() {
        for arguments in HOST_TESTS {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let status = Command::new(cargo)
                .current_dir(guest::root())
                .arg("test")
                .args(arguments)
                .status()
                .context("cannot run cargo test")?;
            if !status.success() {
                failures.push(format!("host: cargo test {} failed", arguments.join(" ")));
            }
        }
    }
    if filter.is_empty() && abi::report(&[], false)? != 0 {
        failures.push("hypercall-abi is not what Xen's headers say".to_owned());
    }
    let scenarios: Vec<_> = scenario::ALL
        .iter()
        .filter(|scenario| scenario.name.contains(filter))
        .collect();
    let mut table = Vec::new();
    let mut passed = 0;
    for scenario in &scenarios {
        let mut row = format!("{:16}", scenario.name);
        for platform in platforms {
            if !scenario.is_for(*platform) {
                row.push_str(&format!("{:>10}", "-"));
                continue;
            }
            let start = Instant::now();
            let result = scenario.check(*platform);
            let verdict = if result.is_ok() { "ok" } else { "FAILED" };
            let seconds = start.elapsed().as_secs_f32();
            say!(
                "{} on {} ... {verdict} ({seconds:.1} s)",
                scenario.name,
                platform.name()
            );
            row.push_str(&format!("{verdict:>10}"));
            match result {
                Ok(()) => passed += 1,
                Err(why) => {
                    failures.push(format!("{} on {}: {why}", scenario.name, platform.name()));
                }
            }
        }
        table.push(row);
    }
    for failure in &failures {
        say!("\nFAILED: {failure}");
    }
    let names: String = platforms
        .iter()
        .map(|p| format!("{:>10}", p.name()))
        .collect();
    say!("\n{:16}{names}", "scenario");
    for row in table {
        say!("{row}");
    }
    say!("\n{passed} passed, {} failed", failures.len());
    Ok(u8::from(!failures.is_empty()))
}

fn doctor() -> Result<u8> {
    let mut missing = 0;
    for (tool, package) in packages::TOOLS {
        if packages::has(tool) {
            say!("ok       {tool}");
        } else {
            missing += 1;
            say!("missing  {tool}: sudo apt-get install -y {package}");
        }
    }
    let targets = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .output();
    let kernel_target = targets.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).contains("x86_64-unknown-none")
    });
    if kernel_target {
        say!("ok       target x86_64-unknown-none");
    } else {
        missing += 1;
        say!("missing  rustup target add x86_64-unknown-none");
    }
    if packages::cache().join("tree").exists() {
        say!("ok       the lab's packages");
    } else {
        say!("later    the lab's packages are fetched when they are first needed");
    }
    Ok(u8::from(missing > 0))
}
