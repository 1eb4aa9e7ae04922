//! Guests: which there are, and how they are built.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{folders, fresh};

/// The packages that are guests.
pub(crate) fn names() -> Result<Vec<String>> {
    let mut names = ["conformance", "load", "own-kernel"]
        .map(str::to_owned)
        .to_vec();
    for entry in fs::read_dir(folders::root().join("examples")).context("cannot list examples/")? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// What a guest is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// A Linux process.
    Process,
    /// A kernel.
    Kernel,
    /// A kernel by the development profile, as `cargo build` makes it.
    Development,
}

/// The compiler's target of kernels.
pub(crate) const KERNEL_TARGET: &str = "x86_64-unknown-none";

/// Whether it is the path of a kernel, and not a package of the workspace.
pub(crate) fn is_foreign(name: &str) -> bool {
    name.contains('/')
}

/// Builds a guest, and says where it is.
pub(crate) fn build(name: &str, build: Build) -> Result<PathBuf> {
    if is_foreign(name) {
        return match build {
            Build::Kernel => {
                fs::canonicalize(name).with_context(|| format!("there is no kernel {name}"))
            }
            Build::Process | Build::Development => {
                bail!("{name} is a kernel already: run it on another platform")
            }
        };
    }
    let names = names()?;
    if !names.iter().any(|known| known == name) {
        bail!(
            "there is no example {name:?}; there are: {}",
            names.join(", ")
        );
    }
    let mut arguments = vec!["--package", name];
    let path = match build {
        Build::Process => folders::target_dir().join("debug").join(name),
        Build::Kernel => {
            arguments.extend(["--release", "--target", KERNEL_TARGET]);
            folders::target_dir()
                .join(KERNEL_TARGET)
                .join("release")
                .join(name)
        }
        Build::Development => {
            arguments.extend(["--target", KERNEL_TARGET]);
            folders::target_dir()
                .join(KERNEL_TARGET)
                .join("debug")
                .join(name)
        }
    };
    if fresh::is_fresh(&path, &folders::root()) {
        return Ok(path);
    }
    if build != Build::Process {
        ensure_kernel_target();
    }
    if !fresh::build(&path, &folders::root(), &arguments).context("cannot run cargo")? {
        bail!("{name} does not build");
    }
    Ok(path)
}

/// Builds what runs a kernel's image as a process, and says where it is.
pub(crate) fn build_user_hypervisor() -> Result<PathBuf> {
    const NAME: &str = "user-hypervisor";
    let path = folders::target_dir().join("release").join(NAME);
    let arguments = [
        "--release",
        "--package",
        "mock-hypervisor",
        "--features",
        "user",
        "--bin",
        NAME,
    ];
    if !fresh::build(&path, &folders::root(), &arguments).context("cannot run cargo")? {
        bail!("{NAME} does not build");
    }
    Ok(path)
}

const HOST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// A program for the initial domain, where there are no libraries for it but
/// its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tool {
    /// The store's command line.
    Store,
    /// The other side of two guests, as a Linux process.
    LinuxPeer,
    /// The same load as the guest `load` makes, and what it needs in domain 0.
    LinuxLoad,
}

/// Builds one, and says where it is.
pub(crate) fn build_tool(tool: Tool) -> Result<PathBuf> {
    let (arguments, place): (&[&str], _) = match tool {
        Tool::Store => (
            &["xenstore-client", "--example", "xs", "--features", "std"],
            "examples/xs",
        ),
        Tool::LinuxPeer => (&["linux-peer"], "linux-peer"),
        Tool::LinuxLoad => (&["linux-load", "--release"], "linux-load"),
    };
    let target = folders::target_dir().join("static");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(folders::root())
        .args(["build", "--quiet", "--package"])
        .args(arguments)
        .args(["--target", HOST_TARGET, "--target-dir"])
        .arg(&target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static -Cstrip=symbols");
    let status = cargo.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("{tool:?} does not build");
    }
    let profile = match tool {
        Tool::LinuxLoad => "release",
        Tool::Store | Tool::LinuxPeer => "debug",
    };
    Ok(target.join(HOST_TARGET).join(profile).join(place))
}

/// Adds the compiler's target, if rustup can; cargo says it if it is missing.
fn ensure_kernel_target() {
    let _cannot = Command::new("rustup")
        .args(["--quiet", "target", "add", KERNEL_TARGET])
        .current_dir(folders::root())
        .stderr(std::process::Stdio::null())
        .status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_lab_works_in_every_folder() {
        let alias = |folder: PathBuf| fs::read_to_string(folder.join(".cargo/config.toml"));
        let expected = alias(folders::root().join("tests")).unwrap();
        for folder in fs::read_dir(folders::root())
            .unwrap()
            .map(|entry| entry.unwrap())
        {
            let (path, name) = (folder.path(), folder.file_name());
            if path.join("Cargo.toml").exists() || name == "examples" || name == "docs" {
                assert_eq!(alias(path).ok().as_ref(), Some(&expected), "in {name:?}");
            }
        }
    }
}
