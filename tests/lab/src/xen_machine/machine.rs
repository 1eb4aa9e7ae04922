//! The machine on which Xen runs: started once, saved, and restored for each
//! guest.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    build::packages,
    folders,
    job::{Debug, Pace, Start, XenVersion, net},
    xen_machine::{
        dom0,
        job_disk::{self, JOB_DISK_BYTES},
        qmp::Qmp,
    },
};

/// Domain 0 may have more than it starts with, where many backends need it.
const XEN_OPTIONS: &str = "dom0_mem=512M,max:832M dom0_max_vcpus=1 console=com1 com1=115200,8n1 \
    sched=credit cpuidle=0 edd=off edid=no spec-ctrl=no bootscrub=off loglvl=info guest_loglvl=all";
/// Bounce buffers of 16 MiB: by default they are 64, and domain 0 has 512.
const LINUX_OPTIONS: &str = "swiotlb=8192 console=hvc0 rdinit=/init net.ifnames=0 quiet rodata=off \
    mitigations=off lsm= apparmor=0 audit=0 cryptomgr.notests=1 nokaslr";

/// The network of the initial domain, which its guests' bridge is on.
const NETWORK_DEVICE: &str = "virtio-net-pci,netdev=net0,romfile=";

/// The port by which jobs and what they print go: a stream without loss. Xen's own
/// serial console is none: it drops what does not fit into its buffer, and carries Xen's
/// log in between.
const JOB_PORT: [&str; 6] = [
    "-chardev",
    "stdio,id=job,signal=off",
    "-device",
    "virtio-serial-pci,max_ports=2",
    "-device",
    "virtserialport,chardev=job,nr=1",
];

/// Files in a machine's folder. QEMU runs there and gets these names alone: in its
/// options, commas and spaces of a path have a meaning.
mod name {
    pub(super) const XEN: &str = "xen";
    pub(super) const LINUX: &str = "linux";
    pub(super) const DOM0: &str = "dom0.cpio";
    pub(super) const SAVED: &str = "saved";
    pub(super) const JOB: &str = "job";
    pub(super) const SERIAL: &str = "serial.log";
    pub(super) const QMP: &str = "qmp";
    pub(super) const GDB: &str = "gdb";
}

/// The parts of the machine, built and kept.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Xen, its tools and its kernel.
    pub(crate) tree: PathBuf,
    /// QEMU.
    machine_tree: PathBuf,
    folder: PathBuf,
}

impl Parts {
    /// Gets and builds what is not there yet. Call it with the lab's lock.
    pub(crate) fn ensure(version: XenVersion) -> Result<Self> {
        let machine_tree = packages::ensure_tree()?;
        let tree = packages::ensure_xen(version)?;
        let inputs = format!(
            "{}{XEN_OPTIONS}{LINUX_OPTIONS}{JOB_DISK_BYTES}{NETWORK_DEVICE}{JOB_PORT:?}{}",
            dom0::inputs(),
            version.name()
        );
        let key: String = Sha256::digest(inputs.as_bytes())
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let folder = folders::cache().join(key);
        if !folder.join("linux").exists() {
            let bar = packages::progress("building the initial domain");
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("dom0.cpio"), dom0::build(&tree)?)?;
            let boot = tree.join("boot");
            let xen = find(&boot, "xen-4", ".gz")?;
            let output = Command::new("gzip").arg("-dc").arg(xen).output();
            fs::write(
                folder.join("xen"),
                output.context("cannot run gzip")?.stdout,
            )?;
            fs::copy(find(&boot, "vmlinuz-", "")?, folder.join("linux.new"))?;
            fs::rename(folder.join("linux.new"), folder.join("linux"))?;
            bar.finish_and_clear();
        }
        Ok(Self {
            tree,
            machine_tree,
            folder,
        })
    }

    /// The kernel of the initial domain.
    pub(crate) fn linux(&self) -> PathBuf {
        self.folder.join("linux")
    }

    fn saved(&self, pace: Pace) -> PathBuf {
        self.folder.join(match pace {
            Pace::Clock => "saved",
            Pace::Counted => "saved-counted",
        })
    }

    /// Starts the machine once and saves it, if that was not done yet.
    pub(crate) fn ensure_saved(&self, pace: Pace) -> Result<()> {
        if self.saved(pace).exists() {
            return Ok(());
        }
        let bar = packages::progress("starting Xen for the first time");
        let run = folders::run_folder()?;
        write_job(run.path(), &[], &[])?;
        let mut machine = self.start(run.path(), Start::Cold, pace, None, Debug::Off)?;
        let mut output = machine.output()?;
        machine.wait_until_ready(&mut output)?;
        let unfinished = self.folder.join("saved.new");
        symlink(&unfinished, run.path().join(name::SAVED))?;
        machine.qmp.use_mapped_ram()?;
        machine.qmp.call("stop", json!({}))?;
        let uri = format!("file:{}", name::SAVED);
        machine.qmp.call("migrate", json!({ "uri": uri }))?;
        machine.qmp.wait_for_migration()?;
        drop(machine);
        fs::rename(unfinished, self.saved(pace))?;
        bar.finish_and_clear();
        Ok(())
    }

    /// What starts the machine in `folder`, which holds its job and its socket; `port`
    /// leads to the guest.
    fn command(
        &self,
        folder: &Path,
        start: Start,
        pace: Pace,
        port: Option<SocketAddr>,
        debug: Debug,
    ) -> Result<Command> {
        for (target, link) in [
            (self.folder.join("xen"), name::XEN),
            (self.folder.join("linux"), name::LINUX),
            (self.folder.join("dom0.cpio"), name::DOM0),
        ] {
            symlink(fs::canonicalize(target)?, folder.join(link))?;
        }
        let mut command = packages::qemu(&self.machine_tree, folder)?;
        command
            .args(["-M", "pc", "-m", "3G"])
            .args(options(pace))
            .args(["-cpu", "EPYC,+svm,+npt,-monitor,-rdtscp"])
            .args(["-kernel", name::XEN, "-append", XEN_OPTIONS, "-initrd"])
            .arg(format!("{} {LINUX_OPTIONS},{}", name::LINUX, name::DOM0))
            .arg("-drive")
            .arg(format!(
                "file={},format=raw,if=virtio,readonly=on",
                name::JOB
            ))
            .args(["-netdev", &net::user(port), "-device", NETWORK_DEVICE])
            .args(JOB_PORT)
            .arg("-serial")
            .arg(format!("file:{}", name::SERIAL))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", name::QMP))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if start == Start::Restored {
            symlink(
                fs::canonicalize(self.saved(pace))?,
                folder.join(name::SAVED),
            )?;
            command.args(["-incoming", "defer"]);
        }
        if debug == Debug::Gdb {
            command
                .arg("-gdb")
                .arg(format!("unix:{},server=on,wait=off", name::GDB));
        }
        Ok(command)
    }

    /// Starts the machine: `folder` holds its job and its socket, `port` leads to the
    /// guest.
    pub(crate) fn start(
        &self,
        folder: &Path,
        start: Start,
        pace: Pace,
        port: Option<SocketAddr>,
        debug: Debug,
    ) -> Result<Machine> {
        let mut child = spawn(&mut self.command(folder, start, pace, port, debug)?)?;
        if let Some(errors) = child.stderr.take() {
            pass_on(errors);
        }
        let mut machine = Machine {
            child,
            qmp: Qmp::connect(&folder.join(name::QMP))?,
            serial: folder.join(name::SERIAL),
        };
        if start == Start::Restored {
            machine.qmp.use_mapped_ram()?;
            let uri = format!("file:{}", name::SAVED);
            machine
                .qmp
                .call("migrate-incoming", json!({ "uri": uri }))?;
            machine.qmp.wait_for_migration()?;
            machine.qmp.call("cont", json!({}))?;
        }
        Ok(machine)
    }
}

/// Shows what QEMU complains about, but for the processor's features that its
/// emulation lacks: the list is long, known, and the same every time.
fn pass_on(errors: std::process::ChildStderr) {
    std::thread::spawn(move || {
        for line in BufReader::new(errors).lines().map_while(|line| line.ok()) {
            if !line.contains("TCG doesn't support requested feature") {
                eprintln!("{line}");
            }
        }
    });
}

/// Writes the disk by which a job comes in into a machine's folder.
pub(crate) fn write_job(
    folder: &Path,
    files: &[(&str, Vec<u8>)],
    lent: &[job_disk::Lent],
) -> Result<()> {
    job_disk::write(&folder.join(name::JOB), files, lent)
}

/// QEMU's options for it.
const fn options(pace: Pace) -> &'static [&'static str] {
    match pace {
        Pace::Clock => &["-accel", "tcg,thread=multi", "-smp", "2"],
        Pace::Counted => &[
            "-accel",
            "tcg,thread=single",
            "-smp",
            "1",
            "-icount",
            "shift=0,sleep=off",
        ],
    }
}

/// Where a machine's debugger listens.
pub(crate) fn debugger(folder: &Path) -> PathBuf {
    folder.join(name::GDB)
}

fn find(folder: &Path, prefix: &str, suffix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) && name.ends_with(suffix) {
            return Ok(entry.path());
        }
    }
    bail!("the packages have no {prefix}*{suffix}")
}

/// Starts a child that ends when the lab does, however the lab does.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    let die_with_us = || {
        // SAFETY: asks for a signal when the parent dies; nothing else.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(die_with_us) };
    command
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
}

/// A running machine; it ends when this is dropped.
pub(crate) struct Machine {
    child: Child,
    qmp: Qmp,
    serial: PathBuf,
}

impl Machine {
    /// The output of the job port.
    pub(crate) fn output(&mut self) -> Result<BufReader<std::process::ChildStdout>> {
        let output = self.child.stdout.take().context("the port was taken")?;
        Ok(BufReader::new(output))
    }

    /// The input of the job port.
    pub(crate) fn input(&mut self) -> Result<std::process::ChildStdin> {
        self.child.stdin.take().context("the port was taken")
    }

    /// Reads the port until the initial domain's shell takes commands, which a machine
    /// does that was not restored.
    ///
    /// # Errors
    /// QEMU ended before: the error has what Xen and Linux wrote on the serial console.
    pub(crate) fn wait_until_ready(&self, output: &mut impl BufRead) -> Result<()> {
        let mut line = Vec::new();
        while !String::from_utf8_lossy(&line).contains("@@LAB ready") {
            line.clear();
            if output.read_until(b'\n', &mut line)? == 0 {
                let log = fs::read(&self.serial).unwrap_or_default();
                bail!("Xen did not start:\n{}", String::from_utf8_lossy(&log));
            }
        }
        Ok(())
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU splits options at commas and, for modules of the kernel, at spaces.
    #[test]
    fn no_path_is_in_an_option_of_qemu() {
        let folder = tempfile::Builder::new().prefix("a, b").tempdir().unwrap();
        let parts = Parts {
            tree: "/nowhere".into(),
            machine_tree: folder.path().into(),
            folder: folder.path().into(),
        };
        for name in ["xen", "linux", "dom0.cpio", "saved"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let run = tempfile::Builder::new().prefix("c, d").tempdir().unwrap();
        let command = parts
            .command(run.path(), Start::Restored, Pace::Clock, None, Debug::Gdb)
            .unwrap();
        assert_eq!(command.get_current_dir(), Some(run.path()));
        for argument in command.get_args() {
            let argument = argument.to_string_lossy();
            assert!(
                !argument.contains("a, b") && !argument.contains("c, d"),
                "{argument}"
            );
        }
        for name in [name::XEN, name::LINUX, name::DOM0, name::SAVED] {
            assert!(run.path().join(name).exists(), "{name}");
        }
    }
}
