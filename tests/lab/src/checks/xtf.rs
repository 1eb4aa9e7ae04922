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
    checks::matrix::Column,
    job::{Job, Platform},
    platforms::run::run,
    say::say,
};

/// How the names of their configurations begin and end: 64-bit PV, which is what all
/// platforms have.
const KIND: &str = "test-pv64-";
const CONFIGURATION: &str = ".cfg";
/// What stands between a test's name and that of a variation, which has a command line.
const VARIATION: char = '~';
const COMMAND_LINE: &str = "cmdline=";
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
    for (name, test) in &tests {
        let mut told = Vec::new();
        for column in columns {
            told.push(result(test, *column)?);
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

/// One of them.
struct Test {
    kernel: PathBuf,
    command_line: String,
}

/// All that were built, by name.
fn tests(folder: &Path, filter: &str) -> Result<BTreeMap<String, Test>> {
    let mut all = BTreeMap::new();
    let folder = folder.join("tests");
    let entries = fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let Ok(files) = fs::read_dir(entry?.path()) else {
            continue;
        };
        for file in files {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            let name = name
                .strip_prefix(KIND)
                .and_then(|it| it.strip_suffix(CONFIGURATION));
            let Some(name) = name.filter(|name| name.contains(filter)) else {
                continue;
            };
            let plain = name.split(VARIATION).next().unwrap_or(name);
            let kernel = file.path().with_file_name(format!("{KIND}{plain}"));
            let test = Test {
                kernel: fs::canonicalize(&kernel)
                    .with_context(|| format!("no {}", kernel.display()))?,
                command_line: command_line(&fs::read_to_string(file.path())?).to_owned(),
            };
            all.insert(name.to_owned(), test);
        }
    }
    Ok(all)
}

/// What a configuration has the guest told.
fn command_line(configuration: &str) -> &str {
    let mut lines = configuration.lines();
    let value = lines.find_map(|line| line.strip_prefix(COMMAND_LINE));
    value.unwrap_or_default().trim_matches('"')
}

/// What one says at its end, or how it ended without.
fn result(test: &Test, column: Column) -> Result<String> {
    let guest = test.kernel.to_str().context("a path that is no text")?;
    let job = Job {
        xen: column.xen,
        memory_mib: 128,
        command_line: test.command_line.clone(),
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
    fn what_it_is_told_and_what_it_says() {
        let console = "--- Xen Test Framework ---\r\nTest result: SUCCESS\r\n\r\n";
        assert_eq!(last_words(console), Some("SUCCESS"));
        assert_eq!(last_words("Test result: FAILURE (1)\n"), Some("FAILURE"));
        assert_eq!(last_words("FATAL\n"), None);
        assert_eq!(
            command_line("vcpus=1\ncmdline=\"hypercall\"\n"),
            "hypercall"
        );
        assert_eq!(command_line("vcpus=1\n"), "");
    }
}
