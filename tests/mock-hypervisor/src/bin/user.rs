//! Runs a PV guest's image as a Linux process.

use std::{fs::File, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use mock_hypervisor::user::{self, Options, Refusal, Stop, Trace};

/// The most vCPUs of a domain: each is a thread.
const MAX_VCPUS: i64 = 128;

/// Runs the image of a PV guest of Xen's in this process, without Xen and without
/// any rights. The exit status is 0 if the guest powers off, else 64 and the reason
/// (65 reboot, 67 crash, 68 watchdog) or 70 for a reason without a name; 2 if it is not
/// started, 1 if this host cannot go on with it, or could not keep all that it wrote.
///
/// It is not a sandbox: the guest can do whatever this user can. Run only images that
/// you would run as programs.
#[derive(Debug, Parser)]
#[command(name = "user-hypervisor", version)]
struct Cli {
    /// The kernel: an ELF file with Xen's notes
    kernel: PathBuf,
    /// A file that is loaded behind it
    #[arg(long, value_name = "FILE")]
    ramdisk: Option<PathBuf>,
    /// Its command line
    #[arg(long, value_name = "S", default_value = "")]
    cmdline: String,
    /// Its memory
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    memory: usize,
    /// Its vCPUs
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=MAX_VCPUS))]
    vcpus: u32,
    /// A disk for it, xvda and on: FILE, or FILE:ro to read only
    #[arg(long, value_name = "FILE")]
    disk: Vec<String>,
    /// Give it a network, and have this port of this machine lead to its port 80; 0
    /// is any
    #[arg(long, value_name = "PORT")]
    net: Option<String>,
    /// Write which lines of its source ran, as lcov's tools read it; the kernel needs
    /// debug information
    #[arg(long, value_name = "FILE")]
    coverage: Option<PathBuf>,
    /// Run it under gdb, with its symbols: from its first call on, or from the start
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "call",
          value_name = "FROM")]
    gdb: Option<From>,
    /// Let time pass only while the guest sleeps, or looks at a clock, and nothing come
    /// but at its calls: with one vCPU and without a network, it does the same each time
    #[arg(long, conflicts_with_all = ["jitter", "net"])]
    virtual_time: bool,
    /// Interrupt it at random moments, more than ten thousand times a second: it must
    /// not show
    #[arg(long)]
    jitter: bool,
    /// Answer a call by an error, as a hypervisor does that does not offer it:
    /// CALL=ERRNO or CALL:OPERATION=ERRNO, by the names that --trace has
    #[arg(long, value_name = "CALL=ERRNO")]
    refuse: Vec<Refusal>,
    /// Tell what it does, on standard error
    #[arg(long, value_delimiter = ',', value_name = "WHAT")]
    trace: Vec<What>,
}

/// Where gdb gets the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// At its first call: it has changed its code by then, if it does
    Call,
    /// Before its first instruction
    Start,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Hypercalls and their answers
    Hypercalls,
    /// Exceptions, callbacks, and returns from them
    Traps,
    /// Changes of page tables
    Mmu,
}

fn options(cli: Cli) -> Result<Options, String> {
    let read = |path: &PathBuf| {
        user::read_file(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let mut disks = Vec::new();
    for disk in &cli.disk {
        let (path, is_read_only) = match disk.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (disk.as_str(), false),
        };
        let file = File::options().read(true).write(!is_read_only).open(path);
        let file = file.map_err(|error| format!("cannot open {path}: {error}"))?;
        disks.push((file, is_read_only));
    }
    Ok(Options {
        kernel: read(&cli.kernel)?,
        kernel_path: cli.kernel,
        ramdisk: cli.ramdisk.as_ref().map(read).transpose()?,
        command_line: cli.cmdline,
        memory_mib: cli.memory,
        vcpus: cli.vcpus,
        disks,
        port: cli.net,
        coverage: cli.coverage,
        gdb: cli.gdb.map(|from| match from {
            From::Call => Stop::Call,
            From::Start => Stop::Start,
        }),
        virtual_time: cli.virtual_time,
        jitter: cli.jitter,
        refusals: cli.refuse,
        trace: Trace {
            hypercalls: cli.trace.contains(&What::Hypercalls),
            traps: cli.trace.contains(&What::Traps),
            mmu: cli.trace.contains(&What::Mmu),
        },
    })
}

fn main() -> ExitCode {
    let why = match options(Cli::parse()) {
        Ok(options) => match user::run(options) {
            Ok(never) => match never {},
            Err(error) => error.to_string(),
        },
        Err(why) => why,
    };
    eprintln!("xen: {why}");
    ExitCode::from(2)
}
