//! `cargo lab`: runs guests and tests on every platform.

mod build;
mod checks;
mod commands;
mod folders;
mod fresh;
mod job;
mod peers;
mod platforms;
mod reports;
mod say;
mod workers;
mod xen_machine;

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::{
    build::{disk, packages},
    checks::{layers, matrix::Column, size, xtf},
    commands::{nightly, test},
    job::{
        Chipset, Crowd, Debug, Job, Pace, Platform, Show, Spoil, Start, Tools, With, XenVersion,
        disk::Disk, exit::Ended, net::Net,
    },
    platforms::{interrupted, run},
    reports::{abi, bench, claims, fuzz, miri, mutants},
    say::say,
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
    /// reason (65 reboot, 67 crash, 68 watchdog) or 70 for a reason without a name,
    /// 124 on timeout, 130 on interruption, 1 if a client's check (`--with visitor`,
    /// `--with crowd`) failed or the guest was not started
    Run(RunOptions),
    /// Run all tests: the host's, and the guests' on each platform
    Test {
        /// The platforms
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "user,mock,mock-pvh,qemu,xen-pv,xen-pvh"
        )]
        on: Vec<Platform>,
        /// The versions of Xen, where it is a real one
        #[arg(long, value_delimiter = ',', default_value = "4.20")]
        xen: Vec<XenVersion>,
        /// Only scenarios and claims whose name contains this
        #[arg(long, default_value = "")]
        filter: String,
        /// Write the table of claims, too, and say where
        #[arg(long, value_delimiter = ',', value_name = "FORM")]
        report: Vec<claims::Form>,
    },
    /// Write a new claim, with all that belongs to it
    NewTest {
        /// The part of the interface, and the claim: events::ports_ring, say
        name: String,
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
    /// Print which folders of each crate import from which; an error if an import goes up
    Layers,
    /// Run the fuzz targets, all at once
    Fuzz {
        /// Only those whose name contains this
        #[arg(default_value = "")]
        target: String,
        /// Duration in seconds
        #[arg(long, value_name = "S", default_value_t = 60)]
        seconds: u64,
    },
    /// Plant bugs in the mock, one by one, and say which the claims find
    Mutants {
        /// Only those whose name contains one of these
        names: Vec<String>,
    },
    /// Run tests of the Xen Test Framework, built by somebody, and say what each told
    Xtf {
        /// The folder in which it was built
        folder: PathBuf,
        /// The platforms: user, xen-pv
        #[arg(long, value_delimiter = ',', default_value = "user")]
        on: Vec<Platform>,
        /// Only those whose name contains this
        #[arg(long, default_value = "")]
        filter: String,
    },
    /// Run tests under Miri, which sees undefined behaviour: those of each change
    Miri {
        /// Only of packages whose name contains this
        #[arg(default_value = "")]
        package: String,
        /// Those that take minutes, too
        #[arg(long)]
        all: bool,
    },
    /// Run what takes hours and rarely finds something: Miri's long tests, all seeds, long fuzzing, planted
    /// bugs, an older Xen
    Nightly {
        /// Only steps whose name contains this
        #[arg(default_value = "")]
        filter: String,
    },
    /// Measure devices, starts, a web server and idle guests beside those of Linux, and
    /// write docs/BENCH.md
    Bench(bench::Options),
    /// Check this machine's prerequisites and print how to install what is missing
    Doctor,
}

#[derive(Debug, clap::Args)]
struct RunOptions {
    /// The guest: a package in examples/, conformance, the path of a kernel
    /// (./kernel), or (to compare with, on xen-pv and xen-pvh) linux
    #[arg(default_value = "tour")]
    example: String,
    /// What to run it on
    #[arg(long, default_value = "user")]
    on: Platform,
    /// Which Xen, where it is a real one
    #[arg(long, default_value = "4.20")]
    xen: XenVersion,
    /// Its memory
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    memory: u32,
    /// The memory that it may have later (xen-pv and xen-pvh): `maxmem` of xl
    #[arg(long, value_name = "MIB")]
    maxmem: Option<u32>,
    /// Its vCPUs
    #[arg(long, value_name = "N", default_value_t = 1)]
    vcpus: u32,
    /// Its command line
    #[arg(long, value_name = "S", default_value = "")]
    cmdline: String,
    /// A file to load with it, as a module: its ramdisk (not on mock)
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// A line for the configuration that xl is given (xen-pv and xen-pvh), such as
    /// maxmem=128
    #[arg(long, value_name = "LINE")]
    xl: Vec<String>,
    /// Timeout in seconds [default: 60; 86400 with a network]
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// Run a peer beside the guest (xen-pv and xen-pvh only, except visitor and crowd)
    #[arg(long, default_value = "nobody")]
    with: With,
    /// How many clients a crowd is
    #[arg(long, value_name = "N", default_value_t = Crowd::DEFAULT.clients)]
    clients: usize,
    /// How long a crowd stays
    #[arg(long, value_name = "S", default_value_t = Crowd::DEFAULT.stay.as_secs())]
    seconds: u64,
    /// Corrupt the boot information that the guest gets (conformance only)
    #[arg(long = "corrupt-boot-info", value_name = "KIND")]
    spoil: Option<Spoil>,
    /// A disk for it, xvda and on: FILE, or FILE:ro to read only. On a real Xen
    /// the guest has a copy, which costs domain 0 memory unless it is read only
    #[arg(long, value_name = "FILE")]
    disk: Vec<Disk>,
    /// A file of so many megabytes on the disk that a guest gets which was given
    /// none, and wants one
    #[arg(long, value_name = "MB", default_value_t = 0)]
    large: usize,
    /// Give it a network, and have this port of this machine lead to its port 80;
    /// 0 is any. A web server gets one without being asked: 8080, or any
    #[arg(long, value_name = "PORT")]
    net: Option<u16>,
    /// Boot Xen from scratch instead of restoring the snapshot
    #[arg(long)]
    cold: bool,
    /// In a machine whose time is the number of its instructions (xen-pv and
    /// xen-pvh): slow, and always the same
    #[arg(long)]
    counted: bool,
    /// Let the guest wait for gdb, and say how to attach it
    #[arg(long)]
    gdb: bool,
    #[command(flatten)]
    tools: Tools,
    /// Show what the hypervisor says, too
    #[arg(short, long)]
    verbose: bool,
}

/// How long a guest may run under a debugger, and a server.
const DAY_S: u64 = 86_400;

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
    // Children die with us; only what is on disk needs this, and what a guest's process
    // has still to say.
    let interrupted = ctrlc::set_handler(|| {
        interrupted::ask();
        folders::clean_up();
        std::process::exit(interrupted::STATUS)
    });
    let result = interrupted
        .context("cannot watch for signals")
        .and_then(|()| match cli.command {
            Action::Run(options) => run_guest(options),
            Action::Test {
                on,
                xen,
                filter,
                report,
            } => test::run(&columns(&on, &xen), &filter, &report),
            Action::NewTest { name } => test::new(&name),
            Action::Size { example } => size::report(&example),
            Action::Abi {
                headers,
                write_index,
            } => abi::report(&headers, write_index),
            Action::Layers => layers::show().map(|text| {
                say!("{text}");
                0
            }),
            Action::Fuzz { target, seconds } => fuzz::run(&target, seconds).map(|()| 0),
            Action::Xtf { folder, on, filter } => {
                xtf::run_all(&folder, &filter, &columns(&on, &[XenVersion::default()]))
            }
            Action::Miri { package, all } => {
                let wanted = match all {
                    true => miri::Wanted::All,
                    false => miri::Wanted::Quick,
                };
                miri::run_all(wanted, &package).map(|()| 0)
            }
            Action::Nightly { filter } => nightly::run(&filter),
            Action::Mutants { names } => mutants::run(&names),
            Action::Bench(options) => bench::run_all(&options).map(|()| 0),
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
    let disks = match options.disk.is_empty() {
        true => disk::sample_for(&options.example, options.on.name(), options.large)?
            .into_iter()
            .collect(),
        false => options.disk,
    };
    if let Some(option) = options.tools.refused_on(options.on) {
        bail!("{option} is for --on user, not for {}", options.on.name());
    }
    let net = Net::of(&options.example, options.net)?;
    let job = Job {
        guest: options.example,
        platform: options.on,
        xen: options.xen,
        memory_mib: options.memory,
        max_memory_mib: options.maxmem,
        vcpus: options.vcpus,
        command_line: options.cmdline,
        module: options.module,
        chipset: Chipset::default(),
        xl: options.xl.into_iter().map(String::into_bytes).collect(),
        disks,
        net,
        with: options.with,
        scene: String::new(),
        crowd: Crowd {
            clients: options.clients,
            stay: Duration::from_secs(options.seconds),
        },
        spoil: options.spoil,
        timeout: Duration::from_secs(match options.timeout {
            _ if options.gdb => DAY_S,
            Some(seconds) => seconds,
            None if net.is_some() => DAY_S,
            None => 60,
        }),
        start: if options.cold {
            Start::Cold
        } else {
            Start::Restored
        },
        pace: if options.counted {
            Pace::Counted
        } else {
            Pace::Clock
        },
        show: if options.verbose {
            Show::Verbose
        } else {
            Show::Live
        },
        debug: if options.gdb { Debug::Gdb } else { Debug::Off },
        tools: options.tools,
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
    if let Some(complaint) = &report.complaint
        && report.ended == Ended::Shutdown(0)
    {
        eprintln!(
            "lab: the client's check of {} failed: {complaint}",
            job.guest
        );
    }
    Ok(report.status())
}

/// Each platform, on each version of Xen that it has.
fn columns(platforms: &[Platform], versions: &[XenVersion]) -> Vec<Column> {
    let of = |platform: &Platform| {
        let count = match platform.has_versions() {
            true => versions.len(),
            false => 1,
        };
        let versions = versions.iter().chain(&[XenVersion::V4_20]).take(count);
        let platform = *platform;
        let column = move |xen: &XenVersion| Column {
            platform,
            xen: *xen,
        };
        versions.map(column).collect::<Vec<_>>()
    };
    platforms.iter().flat_map(of).collect()
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
    if folders::cache().join("tree").exists() {
        say!("ok       the lab's packages");
    } else {
        say!("later    the lab's packages are fetched when they are first needed");
    }
    Ok(u8::from(missing > 0))
}
