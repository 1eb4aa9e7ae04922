//! `cargo lab abi`: finds Xen's headers, and has `tests/abi` compare them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{build::packages, folders};

/// Compares with every version of Xen's headers that Debian has, and with those
/// of `more`. Returns zero if nothing is missing or differs.
pub(crate) fn report(more: &[PathBuf], write_index: bool) -> Result<u8> {
    let mut sets = Vec::new();
    {
        let _lock = folders::lock()?;
        for (name, tree) in packages::ensure_headers()? {
            sets.push((name, tree.join("usr/include/xen")));
        }
    }
    for root in more {
        sets.push((root.display().to_string(), root.clone()));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(folders::root())
        .args(["run", "--quiet", "--package", "abi", "--"]);
    for (name, root) in sets {
        let root = Path::new(&root).canonicalize();
        let root = root.with_context(|| format!("there are no headers of {name}"))?;
        command
            .arg("--headers")
            .arg(format!("{name}={}", root.display()));
    }
    if write_index {
        command.arg("--write-index");
    }
    let status = command.status().context("cannot run cargo")?;
    Ok(u8::from(!status.success()))
}
