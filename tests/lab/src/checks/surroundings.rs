//! That the lab and the guests work as users have them: in folders with spaces and commas
//! in their names, with flags for the compiler in the environment, without `--release`.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{
    build::{
        disk,
        guest::{self, Build},
    },
    checks::matrix::Column,
    folders,
    job::{Job, Platform, exit::Ended},
    platforms::run::run,
};

const GREETING: &str = "hello from";

/// Builds a guest with `RUSTFLAGS` set, which replace those of `.cargo/config.toml`, and
/// starts what was built from a folder with such a name, which holds the machine's files,
/// too.
pub(crate) fn check() -> Result<()> {
    let parent = tempfile::Builder::new().prefix("a lab, moved").tempdir()?;
    let target = folders::target_dir().join("flags");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(folders::root())
        .args(["build", "--quiet", "--package", "hello", "--release"])
        .args(["--target", guest::KERNEL_TARGET, "--target-dir"])
        .arg(&target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-D warnings")
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "hello does not build with RUSTFLAGS set");
    check_foreign(parent.path())?;
    let image = parent.path().join("hello");
    let release = target.join(guest::KERNEL_TARGET).join("release");
    fs::copy(release.join("hello"), &image)?;
    for platform in [Platform::User, Platform::Qemu, Platform::XenPv] {
        let output = Command::new(std::env::current_exe()?)
            .arg("run")
            .arg(&image)
            .args(["--on", platform.name()])
            .env("TMPDIR", parent.path())
            .stdin(Stdio::null())
            .output()
            .context("cannot run the lab")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && said.contains(GREETING),
            "on {}: {said}\n{}",
            platform.name(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    check_disks(parent.path())
}

/// Disks that lie there.
fn check_disks(parent: &Path) -> Result<()> {
    for platform in [Platform::User, Platform::Mock, Platform::XenPv] {
        let sample = disk::sample_for("disk", platform.name(), 0)?;
        let mut disk = sample.context("no sample")?;
        let path = parent.join(format!("a disk, on {}", platform.name()));
        fs::copy(&disk.path, &path)?;
        disk.path = path;
        let job = Job {
            disks: vec![disk],
            ..Job::new("disk", platform)
        };
        let report = run(&job)?;
        ensure!(
            report.ended == Ended::Shutdown(0),
            "a disk on {}: the guest ended by {}\n{}",
            platform.name(),
            report.ended,
            report.console
        );
    }
    Ok(())
}

/// Builds a kernel of a user's, with adapters: without a build script the linker says what is
/// missing, and nothing else; with that of the crate's README it is linked, and starts.
fn check_foreign(parent: &Path) -> Result<()> {
    const ERROR: &str = "rust-lld: error: ";
    const SCRIPT: &str = "```rust,ignore\nfn main() {\n";
    let (root, package) = (folders::root(), parent.join("mine"));
    fs::create_dir_all(package.join("src"))?;
    fs::copy(
        root.join("examples/hello/src/main.rs"),
        package.join("src/main.rs"),
    )?;
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock"))?;
    let manifest = format!(
        "[package]\nname = \"mine\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [profile.dev]\npanic = \"abort\"\n\n[dependencies.pv-guest]\npath = {:?}\n\
         features = [\"embassy\", \"embassy-net\", \"ext4-view\"]\n",
        root.join("pv-guest")
    );
    fs::write(package.join("Cargo.toml"), manifest)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = folders::target_dir().join("flags");
    let build = || {
        Command::new(&cargo)
            .current_dir(&package)
            .args(["build", "--quiet", "--target", guest::KERNEL_TARGET])
            .arg("--target-dir")
            .arg(&target)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", "-D warnings")
            .output()
            .context("cannot run cargo")
    };
    let output = build()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said.split(ERROR).skip(1).collect();
    ensure!(
        errors.len() == 1 && said.contains("link-the-kernel-with-pv-guest.ld-as-the-README"),
        "a kernel without the linker script is told otherwise:\n{said}"
    );

    let readme = fs::read_to_string(root.join("pv-guest/README.md"))?;
    let script = readme
        .split_once(SCRIPT)
        .context("the README has no build script")?
        .1;
    let script = script.split_once("```").context("the script has no end")?.0;
    fs::write(package.join("build.rs"), format!("fn main() {{\n{script}"))?;
    let output = build()?;
    ensure!(
        output.status.success(),
        "a kernel with the README's build script is not linked:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let image = target.join(guest::KERNEL_TARGET).join("debug/mine");
    let report = run(&Job::new(&image.to_string_lossy(), Platform::User))?;
    ensure!(
        report.ended == Ended::Shutdown(0) && report.console.contains(GREETING),
        "a kernel with the README's build script ended by {}\n{}",
        report.ended,
        report.console
    );
    Ok(())
}

/// Runs kernels that were built by the development profile: their code needs several times
/// the stack of others.
pub(crate) fn check_development(column: Column) -> Result<()> {
    for name in ["hello", "tour"] {
        let path = guest::build(name, Build::Development)?;
        let job = Job {
            xen: column.xen,
            ..Job::new(&path.to_string_lossy(), column.platform)
        };
        let report = run(&job)?;
        ensure!(
            report.ended == Ended::Shutdown(0),
            "{name} ended by {}\n{}",
            report.ended,
            report.console
        );
    }
    Ok(())
}
