//! That the same file does the same as a process and on a real Xen.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{
    build::{
        disk,
        guest::{self, Build},
    },
    job::{Job, Platform, With, exit::Ended, net::Net},
    platforms::run::run,
    say::say,
};

/// Guests, with their command lines and visitors.
const GUESTS: [(&str, &str, With); 4] = [
    ("hello", "", With::Nobody),
    ("tour", "", With::Nobody),
    ("disk", "", With::Nobody),
    ("web", "requests=7", With::Visitor),
];
const PLATFORMS: [Platform; 2] = [Platform::User, Platform::XenPv];
/// What tells of the hypervisor: only the first word is the guest's.
const OF_THE_HYPERVISOR: [&str; 3] = ["hypervisor", "features", "store"];

/// Runs each guest on both, and compares what they say.
pub(crate) fn check() -> Result<()> {
    for (guest, command_line, with) in GUESTS {
        let image = fs::read(guest::build(guest, Build::Kernel)?)?;
        let mut told = Vec::new();
        for platform in PLATFORMS {
            let job = Job {
                command_line: command_line.to_owned(),
                with,
                disks: disk::sample_for(guest, platform.name(), 0)?
                    .into_iter()
                    .collect(),
                net: Net::of(guest, None)?,
                ..Job::new(guest, platform)
            };
            let report = run(&job).with_context(|| format!("{guest} on {}", platform.name()))?;
            if report.ended != Ended::Shutdown(0) || report.complaint.is_some() {
                bail!(
                    "{guest} on {} ended by {}\n{}",
                    platform.name(),
                    report.ended,
                    report.console
                );
            }
            told.push(plain(&report.console));
        }
        let [here, there] = &told[..] else {
            bail!("{guest} did not run twice");
        };
        if here != there {
            bail!(
                "{guest} says\n{}\non user, and\n{}\non xen-pv",
                here.join("\n"),
                there.join("\n")
            );
        }
        say!(
            "{guest}: the same {} lines on user and xen-pv, by the file {}",
            here.len(),
            disk::sum(&image)
        );
    }
    Ok(())
}

/// What was said, without figures and names that no two runs have in common, and
/// without what others than the guest say.
fn plain(console: &str) -> Vec<String> {
    let is_guests = |line: &&str| !line.trim().is_empty() && !line.starts_with("mock: ");
    let lines = console.lines().filter(is_guests).map(|line| {
        let mut words = line.split_whitespace();
        if let Some(first) = words.next().filter(|word| OF_THE_HYPERVISOR.contains(word)) {
            return first.to_owned();
        }
        let word = |word: &str| {
            let has_figures = word.contains(|c: char| c.is_ascii_digit());
            if has_figures { "#" } else { word }.to_owned()
        };
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        words.join(" ")
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_do_not_count_and_words_do() {
        let here = "hello from PV on Xen 4.20-user\nuptime  382 us\nmock: a port\n";
        let there = "hello from PV on Xen 4.20.5-pre\n\nuptime 4164 us\n";
        assert_eq!(plain(here), plain(there));
        assert_ne!(
            plain(here),
            plain("hello from PVH on Xen 4.20\nuptime 1 us")
        );
    }
}
