//! Whether the claims find bugs: some are planted in the mock, one by one, in a
//! copy of the sources, and the claims are tried on each.

mod list;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{guest, packages, run::Watchdog, say::say};

/// How the claims are tried on each: by one interface of two, and by the other; and
/// in a PVH guest.
const WAYS: [(&str, &str); 3] = [("pv", ""), ("pv", "ports=2level grants=2"), ("pvh", "")];
const TIMEOUT: Duration = Duration::from_secs(20);
/// How many of all must be found, in percent.
const LEAST_PERCENT: usize = 93;

type Verdicts = BTreeMap<String, String>;

/// Plants them all, and says which are found, and by what.
pub(crate) fn run(filter: &str) -> Result<u8> {
    let _lock = packages::lock_for("mutants.lock")?;
    let copy = copy()?;
    build(&copy)?.context("the mock does not build as it is")?;
    let healthy = try_claims(&copy)?;
    let bad = healthy
        .iter()
        .find(|(_, verdict)| verdict.starts_with("FAILED"));
    if let Some((name, verdict)) = bad {
        bail!("{name} fails without a bug: {verdict}");
    }
    let (mut found, mut tried) = (0, 0);
    say!("| planted in the mock | found by |\n|---|---|");
    for mutant in list::ALL.iter().filter(|bug| bug.name.contains(filter)) {
        tried += 1;
        let path = copy.join("tests/mock-hypervisor/src").join(mutant.file);
        let text = fs::read_to_string(&path)?;
        if text.matches(mutant.from).count() != 1 {
            bail!("{}: {:?} is not there once", mutant.file, mutant.from);
        }
        fs::write(&path, text.replace(mutant.from, mutant.to))?;
        let built = build(&copy);
        let told = match &built {
            Ok(Some(())) => try_claims(&copy),
            _ => Ok(Verdicts::new()),
        };
        fs::write(&path, text)?;
        built?.with_context(|| format!("{:?} does not build", mutant.name))?;
        let told = told?;
        let finders: Vec<&str> = healthy
            .iter()
            .filter(|(name, verdict)| told.get(*name) != Some(verdict))
            .map(|(name, _)| name.rsplit_once(' ').map_or(&**name, |(_, name)| name))
            .collect();
        let by = match finders.as_slice() {
            [] => "**nobody**".to_owned(),
            [one] => format!("`{one}`"),
            [one, rest @ ..] => format!("`{one}` and {} more", rest.len()),
        };
        found += usize::from(!finders.is_empty());
        say!("| {} | {by} |", mutant.name);
    }
    say!("\n{found} of {tried} bugs were found");
    Ok(u8::from(found * 100 < tried * LEAST_PERCENT))
}

/// The sources, in a folder of their own: a bug must not meet anybody's work.
fn copy() -> Result<PathBuf> {
    let root = guest::root();
    let files = Command::new("git")
        .current_dir(&root)
        .args(["ls-files", "-z"])
        .output()
        .context("cannot run git")?;
    let copy = packages::cache().join("mutants");
    for name in files.stdout.split(|byte| *byte == 0) {
        let name = String::from_utf8_lossy(name);
        let (source, target) = (root.join(&*name), copy.join(&*name));
        if name.is_empty() || !source.is_file() {
            continue;
        }
        let content = fs::read(&source)?;
        // What is the same keeps its time: it is not built again.
        if fs::read(&target).ok().as_ref() != Some(&content) {
            fs::create_dir_all(target.parent().context("no folder")?)?;
            fs::write(&target, content)?;
        }
    }
    Ok(copy)
}

fn program(copy: &Path) -> PathBuf {
    copy.join("target/debug/conformance")
}

/// Builds it; `None` if the compiler refuses.
fn build(copy: &Path) -> Result<Option<()>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", copy.join("target"))
        .args(["build", "--quiet", "--package", "conformance"])
        .stderr(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    Ok(status.success().then_some(()))
}

/// Tries all claims in every way; those that were told nothing are missing.
fn try_claims(copy: &Path) -> Result<Verdicts> {
    let mut told = Verdicts::new();
    for (domain_type, words) in WAYS {
        let child = Command::new(program(copy))
            .env("PV_GUEST_CMDLINE", words)
            .env("PV_GUEST_TYPE", domain_type)
            .env("PV_GUEST_VCPUS", "2")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let watchdog = Watchdog::start(child.id(), TIMEOUT);
        let output = child.wait_with_output()?;
        watchdog.stop();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let line = line.strip_prefix("test ");
            if let Some((name, verdict)) = line.and_then(|line| line.split_once(" ... ")) {
                told.insert(format!("{domain_type} {words} {name}"), verdict.to_owned());
            }
        }
    }
    Ok(told)
}
