//! Linux as a guest, to compare with: `cargo lab run linux`.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    build::guest::{self, Tool},
    xen_machine::{cpio::Archive, dom0, nginx},
};

/// Its name among the guests.
pub(crate) const NAME: &str = "linux";
/// What it needs to start.
pub(crate) const MEMORY_MIB: u32 = 160;
/// What its kernel is told besides.
pub(crate) const OPTIONS: &str = "console=hvc0 quiet mitigations=off";

const INIT: &str = include_str!("../../linux/init");
const VISIT: &str = include_str!("../../linux/visit");
/// The drivers of what a process may do with other domains, of disks and networks.
const MODULES: [&str; 5] = [
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-blkfront",
    "xen-netfront",
];

/// The word of its command line for which it serves files.
pub(crate) const SERVE: &str = "serve";

/// Its file system, with a web server if its command line asks for one.
pub(crate) fn ramdisk(tree: &Path, command_line: &str) -> Result<Vec<u8>> {
    let (order, modules) = dom0::modules(tree, &MODULES)?;
    let mut archive = Archive::default();
    for folder in ["bin", "proc", "dev", "modules", "files"] {
        archive.directory(folder);
    }
    let busybox = fs::read(tree.join("usr/bin/busybox")).context("the packages have no busybox")?;
    archive.file("bin/busybox", 0o755, &busybox);
    for (name, content) in &modules {
        archive.file(&format!("modules/{name}.ko"), 0o644, content);
    }
    archive.file("modules/order", 0o644, order.join("\n").as_bytes());
    let peer = fs::read(guest::build_tool(Tool::LinuxPeer)?)?;
    archive.file("linux-peer", 0o755, &peer);
    let load = fs::read(guest::build_tool(Tool::LinuxLoad)?)?;
    archive.file("linux-load", 0o755, &load);
    if command_line.split_whitespace().any(|word| word == SERVE) {
        nginx::add(&mut archive)?;
    }
    archive.file("visit", 0o644, VISIT.as_bytes());
    archive.file("init", 0o755, INIT.as_bytes());
    Ok(archive.finish())
}
