//! Guests that are Linux processes: the source with a mock, and the image itself.

use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result};
use guest_names::Names;

use crate::{
    build::{
        guest::{self, Build},
        spoil,
    },
    folders::run_folder,
    job::{Debug, Job, Report, Show, disk::Access, exit::Ended},
    platforms::{
        interrupted,
        run::{Watchdog, announce, collect, finish},
    },
    say::Patient,
    xen_machine::machine::spawn,
};

/// The disks as the mock's hosted front is told of them.
fn disks(job: &Job) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for disk in &job.disks {
        let path = fs::canonicalize(&disk.path);
        let path = path.with_context(|| format!("there is no {}", disk.path.display()))?;
        let suffix = match disk.access {
            Access::Read => ":ro",
            Access::Write => "",
        };
        all.push(format!("{}{suffix}", path.display()));
    }
    Ok(all)
}

pub(crate) fn mock(job: &Job) -> Result<Report> {
    let program = guest::build(&job.guest, Build::Process)?;
    let mut command = Command::new(program);
    command
        .env("PV_GUEST_CMDLINE", &job.command_line)
        .env("PV_GUEST_TYPE", job.platform.guest_type())
        .env("PV_GUEST_DISKS", disks(job)?.join("\n"))
        .env("PV_GUEST_MEMORY_MIB", job.memory_mib.to_string())
        .env("PV_GUEST_VCPUS", job.vcpus.to_string())
        .env("PV_GUEST_XEN", job.xen.name())
        .env("RUST_BACKTRACE", "0");
    if let Some(net) = job.net {
        command.env("PV_GUEST_NET", net.port.to_string());
    }
    if let Some(spoil) = job.spoil {
        command.env("PV_GUEST_SPOIL", spoil.name());
    }
    if job.debug == Debug::Gdb {
        return debug_process(&command);
    }
    attend(job, &mut command, &Names::NONE)
}

/// Runs a kernel's own image.
pub(crate) fn user(job: &Job) -> Result<Report> {
    let folder = run_folder()?;
    let mut kernel = guest::build(&job.guest, Build::Kernel)?;
    let image = fs::read(&kernel)?;
    announce(job, &image);
    let names = Names::of(&kernel);
    if let Some(spoil) = job.spoil {
        kernel = folder.path().join("image");
        fs::write(&kernel, spoil::image(&image, spoil)?)?;
    }
    if guest::is_foreign(&job.guest) && job.show != Show::Kept {
        eprintln!(
            "lab: on user, {} can do whatever you can: its code runs in a process of yours. \
             For one that you do not trust: --on xen-pv",
            job.guest
        );
    }
    let mut command = Command::new(guest::build_user_hypervisor()?);
    command
        .arg(&kernel)
        .args(["--cmdline", &job.command_line])
        .args(["--memory", &job.memory_mib.to_string()])
        .args(["--vcpus", &job.vcpus.to_string()]);
    if let Some(module) = &job.module {
        command.arg("--ramdisk").arg(module);
    }
    for disk in disks(job)? {
        command.args(["--disk", &disk]);
    }
    if let Some(net) = job.net {
        command.args(["--net", &net.port.to_string()]);
    }
    if !job.tools.trace.is_empty() {
        command.args(["--trace", &job.tools.trace.join(",")]);
    }
    if job.tools.virtual_time {
        command.arg("--virtual-time");
    }
    if job.tools.jitter {
        command.arg("--jitter");
    }
    for refusal in &job.tools.refuse {
        command.args(["--refuse", refusal]);
    }
    if let Some(file) = &job.tools.coverage {
        command.arg("--coverage").arg(file);
    }
    if job.debug == Debug::Gdb {
        return Err(command.arg("--gdb").exec()).context("cannot run it");
    }
    attend(job, &mut command, &names)
}

/// Runs a guest's process to its end.
fn attend(job: &Job, command: &mut Command, names: &Names) -> Result<Report> {
    command
        .stdin(if job.show == Show::Kept {
            Stdio::null()
        } else {
            Stdio::inherit()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(command)?;
    let watchdog = Watchdog::start_gently(child.id(), job.timeout);
    let _attended = interrupted::attend(child.id());
    let output = child.stdout.take().context("no output")?;
    let errors = child.stderr.take().context("no output")?;
    let mut console = String::new();
    let mut complaints = String::new();
    thread::scope(|scope| {
        let errors = scope.spawn(|| collect(job, &Names::NONE, errors, Patient(std::io::stderr())));
        console = collect(job, names, output, Patient(std::io::stdout()));
        complaints = errors.join().unwrap_or_default();
    });
    Ok(Report {
        ended: finish(child, watchdog, Ended::from_process_status)?,
        console: console + &complaints,
        hypervisor_log: Vec::new(),
        diagnosis: None,
        complaint: None,
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
        complaint: None,
    })
}
