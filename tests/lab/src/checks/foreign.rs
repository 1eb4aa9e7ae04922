//! A PV guest that nobody here wrote: GRUB's image for Xen, as Debian has it. As a
//! process it reaches its prompt, and reads a file of its disk.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    build::{disk, guest, packages},
    folders,
    platforms::run::Watchdog,
    say::say,
    xen_machine::machine::spawn,
};

/// A command for each prompt: keys that come earlier it takes for something else.
const COMMANDS: [&str; 2] = ["cat (xenid/51712,msdos2)/hello.txt\n", "halt\n"];
const PROMPT: &str = "grub> ";
const TIMEOUT: Duration = Duration::from_secs(60);
const PUBLISHED_STATE: [&str; 3] = ["GNU GRUB  version", "grub>", "Hello from the sample disk."];
/// It is linked at address 0, which not every host lets everybody map.
const NOT_HERE: &str = "vm.mmap_min_addr";

/// Runs it.
pub(crate) fn grub() -> Result<()> {
    let image = {
        let _lock = folders::lock()?;
        packages::ensure_grub()?.join("usr/lib/grub-xen/grub-x86_64-xen.bin")
    };
    let disk = disk::sample_for("web", "grub", 0)?.context("no disk")?;
    let mut command = Command::new(guest::build_user_hypervisor()?);
    command
        .arg(image)
        .args(["--memory", "128", "--disk"])
        .arg(format!("{}:ro", disk.path.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(&mut command)?;
    let watchdog = Watchdog::start(child.id(), TIMEOUT);
    let mut input = child.stdin.take().context("no input")?;
    let mut output = child.stdout.take().context("no output")?;
    let (mut said, mut seen) = (String::new(), 0);
    let mut commands = COMMANDS.into_iter();
    let mut buffer = [0; 512];
    while let Ok(len @ 1..) = output.read(&mut buffer) {
        said.push_str(&String::from_utf8_lossy(&buffer[..len]));
        if let Some(at) = said.get(seen..).and_then(|news| news.find(PROMPT)) {
            seen += at + PROMPT.len();
            if let Some(command) = commands.next() {
                input.write_all(command.as_bytes())?;
            }
        }
    }
    let output = child.wait_with_output()?;
    ensure!(!watchdog.stop(), "GRUB did not end:\n{said}");
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains(NOT_HERE) {
        say!("grub: {}", errors.lines().next().unwrap_or(""));
        return Ok(());
    }
    for text in PUBLISHED_STATE {
        ensure!(
            said.contains(text),
            "GRUB did not say {text:?}:\n{said}{errors}"
        );
    }
    ensure!(output.status.success(), "GRUB did not halt:\n{errors}");
    say!("grub: reads a file of its disk on user, and halts");
    Ok(())
}
