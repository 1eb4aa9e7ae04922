//! The tests of the Xen Test Framework, which somebody else has built: each is a kernel that
//! says at its end what became of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    job::{Job, Platform},
    matrix::Column,
    run::run,
    say::say,
};

/// How their files' names begin: 64-bit PV, which is what all platforms have.
const KIND: &str = "test-pv64-";
/// How a test's last line begins.
const RESULT: &str = "Test result: ";
/// Where those run.
const PLATFORMS: [Platform; 2] = [Platform::User, Platform::XenPv];
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs those whose name contains `filter`, of a folder in which XTF was built, and says
/// what each told; 1 if one differs from platform to platform.
pub(crate) fn run_all(folder: &Path, filter: &str, columns: &[Column]) -> Result<u8> {
    for column in columns {
        ensure!(
            PLATFORMS.contains(&column.platform),
            "XTF's kernels for PV do not run on {}",
            column.name()
        );
    }
    let tests = tests(folder, filter)?;
    ensure!(
        !tests.is_empty(),
        "there is no {KIND}* below {}: build XTF there first (make)",
        folder.join("tests").display()
    );
    let names: Vec<String> = columns.iter().map(|column| column.name()).collect();
    say!(
        "| test | {} |\n|---|{}",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    let mut counts = BTreeMap::<_, usize>::new();
    let mut differences = 0;
    for (name, path) in &tests {
        let mut told = Vec::new();
        for column in columns {
            told.push(result(path, *column)?);
        }
        say!("| {name} | {} |", told.join(" | "));
        differences += u8::from(told.iter().any(|one| Some(one) != told.first()));
        for (column, told) in names.iter().zip(told) {
            *counts.entry(format!("{column}: {told}")).or_default() += 1;
        }
    }
    for (what, count) in counts {
        say!("{what}, {count} of {}", tests.len());
    }
    Ok(u8::from(differences > 0))
}

/// Their names and files, in order.
fn tests(folder: &Path, filter: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut all = BTreeMap::new();
    let folder = folder.join("tests");
    let entries = fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path().join(format!("{KIND}{name}"));
        if name.contains(filter) && path.is_file() {
            all.insert(name, fs::canonicalize(path)?);
        }
    }
    Ok(all)
}

/// What one says at its end, or how it ended without.
fn result(path: &Path, column: Column) -> Result<String> {
    let guest = path.to_str().context("a path that is no text")?;
    let job = Job {
        xen: column.xen,
        memory_mib: 128,
        timeout: TIMEOUT,
        ..Job::new(guest, column.platform)
    };
    let report = run(&job)?;
    let told = last_words(&report.console);
    Ok(told.map_or_else(|| format!("ended by {}", report.ended), str::to_owned))
}

fn last_words(console: &str) -> Option<&str> {
    let line = console
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix(RESULT))?;
    line.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_what_became_of_it() {
        let console = "--- Xen Test Framework ---\r\nTest result: SUCCESS\r\n\r\n";
        assert_eq!(last_words(console), Some("SUCCESS"));
        assert_eq!(last_words("Test result: FAILURE (1)\n"), Some("FAILURE"));
        assert_eq!(last_words("FATAL\n"), None);
    }
}
