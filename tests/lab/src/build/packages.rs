//! The lab's parts: Debian's packages of Xen, its tools, a kernel and QEMU,
//! unpacked beside the build, nothing of them installed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{folders, job::XenVersion};

const SUITE: &str = "trixie";
const OLDER_SUITE: &str = "bookworm";
const PACKAGES: &str = "qemu-system-x86,seabios,xen-hypervisor-4.20-amd64,xen-utils-4.20,\
                        xenstore-utils,linux-image-amd64,busybox-static,iproute2,bash,libxen-dev,\
                        dmsetup,e2fsprogs,dosfstools";
const OLDER_PACKAGES: &str = "xen-hypervisor-4.17-amd64,xen-utils-4.17,xenstore-utils,\
                              linux-image-amd64,busybox-static,iproute2,bash,\
                              dmsetup,e2fsprogs,dosfstools";

/// As mmdebstrap's own package installs it.
const MERGED_USR: &str = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr";

/// The host's tools that the lab needs, and the packages that have them.
pub(crate) const TOOLS: [(&str, &str); 2] = [("mmdebstrap", "mmdebstrap"), ("xz", "xz-utils")];

/// Whether a command is there.
pub(crate) fn has(tool: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).exists()))
}

/// A line that moves while something takes long.
pub(crate) fn progress(message: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Installs the missing tools, if that is ours to do.
fn ensure_tools() -> Result<()> {
    let missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(tool, _)| !has(tool))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install -y {}", missing.join(" "));
    // SAFETY: asks who we are.
    let root = unsafe { libc::geteuid() } == 0;
    if !root || !has("apt-get") {
        bail!("the lab needs tools of this host: sudo {command}");
    }
    let bar = progress("installing the lab's tools");
    for args in [
        vec!["update", "-q"],
        [vec!["install", "-y", "-q"], missing].concat(),
    ] {
        let status = Command::new("apt-get")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot run apt-get")?;
        if !status.success() {
            bail!("apt-get failed; try it by hand: {command}");
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// The unpacked packages.
pub(crate) fn ensure_tree() -> Result<PathBuf> {
    ensure_unpacked(
        "tree",
        SUITE,
        PACKAGES,
        "fetching Xen, its tools, a kernel and QEMU",
    )
}

/// The unpacked packages of a Xen, its tools and a kernel.
pub(crate) fn ensure_xen(version: XenVersion) -> Result<PathBuf> {
    match version {
        XenVersion::V4_20 => ensure_tree(),
        XenVersion::V4_17 => ensure_unpacked(
            "tree-4.17",
            OLDER_SUITE,
            OLDER_PACKAGES,
            "fetching Xen 4.17, its tools and a kernel",
        ),
    }
}

/// GRUB's images for Xen.
pub(crate) fn ensure_grub() -> Result<PathBuf> {
    ensure_unpacked("grub", SUITE, "grub-xen-host", "fetching GRUB for Xen")
}

/// nginx.
pub(crate) fn ensure_nginx() -> Result<PathBuf> {
    ensure_unpacked("nginx", SUITE, "nginx", "fetching nginx")
}

/// Xen's headers, of each version that Debian has, by name.
pub(crate) fn ensure_headers() -> Result<Vec<(String, PathBuf)>> {
    let mut trees = Vec::new();
    for (name, suite) in [("Xen 4.20", SUITE), ("Xen 4.17", OLDER_SUITE)] {
        let folder = format!("headers-{suite}");
        let message = format!("fetching the headers of {name}");
        let lab = folders::cache().join("tree");
        let tree = if suite == SUITE && lab.exists() {
            lab
        } else {
            ensure_unpacked(&folder, suite, "libxen-dev", &message)?
        };
        trees.push((format!("{name} (libxen-dev of Debian's {suite})"), tree));
    }
    Ok(trees)
}

/// Packages and what they need, unpacked into a folder of the cache. Those that
/// fetch them check their signatures.
fn ensure_unpacked(folder: &str, suite: &str, packages: &str, message: &str) -> Result<PathBuf> {
    let tree = folders::cache().join(folder);
    let contents = tree.join("packages");
    if fs::read(&contents).is_ok_and(|known| known == packages.as_bytes()) {
        return Ok(tree);
    }
    ensure_tools()?;
    let bar = progress(message);
    let unfinished = folders::cache().join(format!("{folder}.new"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    let output = Command::new("mmdebstrap")
        // Old packages still have files in /lib; the lab looks in /usr/lib.
        .args(["--variant=extract", MERGED_USR, "--include"])
        .arg(packages)
        .arg(suite)
        .arg(&unfinished)
        .output()
        .context("cannot run mmdebstrap")?;
    bar.finish_and_clear();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        bail!(
            "mmdebstrap failed: {}",
            last.into_iter().rev().collect::<Vec<_>>().join("\n")
        );
    }
    fs::write(unfinished.join("packages"), packages)?;
    if tree.exists() {
        // Of an older lab, which needed less.
        fs::remove_dir_all(&tree)?;
    }
    fs::rename(&unfinished, &tree)?;
    Ok(tree)
}

/// QEMU out of the tree, whatever the host has. It runs in `folder`, where the tree is
/// `tree`: a colon in a path ends it for the loader.
pub(crate) fn qemu(tree: &Path, folder: &Path) -> Result<Command> {
    symlink(fs::canonicalize(tree)?, folder.join("tree")).context("cannot link QEMU's tree")?;
    let libraries = "tree/usr/lib/x86_64-linux-gnu";
    let mut command = Command::new(tree.join("lib64/ld-linux-x86-64.so.2"));
    command
        .current_dir(folder)
        .arg("--library-path")
        .arg(format!("{libraries}:{libraries}/pulseaudio"))
        .arg("tree/usr/bin/qemu-system-x86_64")
        .args(["-L", "tree/usr/share/qemu"])
        .args(["-L", "tree/usr/share/seabios"])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-vga",
            "none",
            "-display",
            "none",
        ])
        .args(["-no-reboot"]);
    Ok(command)
}
