//! What the lab tests: guests, what they are given, and how they must end.

mod boot;
mod claims;
mod devices;
mod disks;
mod faults;
mod web;

use std::{path::PathBuf, time::Duration};

use crate::{
    build::disk,
    checks::matrix::Column,
    folders::cache,
    job::{
        Crowd, Job, Platform, Report, Spoil, Start, Tools, With, XenVersion, exit::Ended, net::Net,
    },
    platforms::run::run,
};

/// One row of the table.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    guest: &'static str,
    memory_mib: u32,
    max_memory_mib: Option<u32>,
    command_line: &'static str,
    /// Lines of its own in the configuration that `xl` is given.
    xl: &'static [&'static str],
    /// Bytes of a module that is loaded with it; none if zero.
    module_bytes: usize,
    with: With,
    crowd: Crowd,
    /// Megabytes of a large file on its disk.
    large_mb: usize,
    vcpus: u32,
    jitter: bool,
    spoil: Option<Spoil>,
    ended: Expected,
    /// What the console must say; each of these.
    says: &'static [&'static str],
    /// Where it can be run; nothing: everywhere.
    only_on: &'static [Platform],
    /// The versions of Xen whose tools can do it; nothing: all.
    only_xens: &'static [XenVersion],
    /// Where it is run only when it is asked for: it takes long, and elsewhere it tries the
    /// same of the library.
    nightly_on: &'static [Platform],
    /// Where it has no way to say it.
    mute_on: &'static [Platform],
    timeout_s: u64,
    start: Start,
}

/// How the names begin of what takes long and rarely finds something.
const NIGHTLY: &str = "nightly";

fn is_nightly(name: &str) -> bool {
    name.starts_with(NIGHTLY)
}

/// Whether somebody who asks for `filter` wants what has this name: what takes long only if
/// that is asked for.
pub(crate) fn is_wanted(name: &str, filter: &str) -> bool {
    name.contains(filter) && (!is_nightly(name) || is_nightly(filter))
}

/// How a guest must end.
#[derive(Clone, Copy)]
enum Expected {
    Shutdown(u8),
    /// For a reason that has no name, which not every platform tells.
    Unnamed,
    TimedOut,
}

impl From<Expected> for Ended {
    fn from(expected: Expected) -> Self {
        match expected {
            Expected::Shutdown(reason) => Self::Shutdown(reason),
            Expected::Unnamed => Self::Unnamed,
            Expected::TimedOut => Self::TimedOut,
        }
    }
}

const fn scenario(
    name: &'static str,
    guest: &'static str,
    says: &'static [&'static str],
) -> Scenario {
    Scenario {
        name,
        guest,
        memory_mib: 32,
        max_memory_mib: None,
        command_line: "",
        xl: &[],
        module_bytes: 0,
        with: With::Nobody,
        crowd: Crowd {
            stay: Duration::from_secs(5),
            ..Crowd::DEFAULT
        },
        large_mb: 0,
        vcpus: 1,
        jitter: false,
        spoil: None,
        ended: Expected::Shutdown(0),
        says,
        only_on: &[],
        only_xens: &[],
        nightly_on: &[],
        mute_on: &[],
        timeout_s: 30,
        start: Start::Restored,
    }
}

const fn fault(
    name: &'static str,
    command_line: &'static str,
    says: &'static [&'static str],
) -> Scenario {
    Scenario {
        command_line,
        ended: Expected::Shutdown(3),
        ..scenario(name, "conformance", says)
    }
}

const fn wild(
    name: &'static str,
    command_line: &'static str,
    says: &'static [&'static str],
) -> Scenario {
    Scenario {
        only_on: &[Platform::User],
        ..fault(name, command_line, says)
    }
}

const fn spoilt(name: &'static str, spoil: Spoil, says: &'static [&'static str]) -> Scenario {
    Scenario {
        spoil: Some(spoil),
        ended: Expected::Shutdown(3),
        ..scenario(name, "conformance", says)
    }
}

const MOCKS: &[Platform] = &[Platform::User, Platform::Mock];
const MOCKS_AND_XENS: &[Platform] = &[
    Platform::User,
    Platform::Mock,
    Platform::XenPv,
    Platform::XenPvh,
];
const MOCKS_AND_XENS_OF_BOTH_KINDS: &[Platform] = &[
    Platform::User,
    Platform::Mock,
    Platform::MockPvh,
    Platform::XenPv,
    Platform::XenPvh,
];
const XENS: &[Platform] = &[Platform::XenPv, Platform::XenPvh];
const PVH: &[Platform] = &[Platform::XenPvh];

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    [
        boot::ALL,
        disks::ALL,
        devices::ALL,
        web::ALL,
        claims::ALL,
        faults::ALL,
    ]
    .into_iter()
    .flatten()
}

impl Scenario {
    /// Whether there is anything to run there.
    pub(crate) fn is_for(&self, column: Column) -> bool {
        let platform = column.platform;
        if platform.is_xen() && !self.only_xens.is_empty() && !self.only_xens.contains(&column.xen)
        {
            return false;
        }
        // One mock is enough, unless it is named: they differ in what claims are about.
        self.only_on.contains(&platform) || self.only_on.is_empty() && platform != Platform::MockPvh
    }

    /// Whether somebody who asks for `filter` wants it there.
    pub(crate) fn is_wanted(&self, column: Column, filter: &str) -> bool {
        match filter {
            "" => is_wanted(self.name, "") && !self.nightly_on.contains(&column.platform),
            NIGHTLY => is_nightly(self.name) || self.nightly_on.contains(&column.platform),
            part => is_wanted(self.name, part),
        }
    }

    /// Runs it, and says what was wrong.
    pub(crate) fn check(&self, column: Column) -> Result<(), String> {
        let platform = column.platform;
        let disks = disk::sample_for(self.guest, platform.name(), self.large_mb);
        let disks = disks.map_err(|error| format!("{error:#}"))?;
        let job = Job {
            xen: column.xen,
            memory_mib: self.memory_mib,
            max_memory_mib: self.max_memory_mib,
            vcpus: self.vcpus,
            tools: Tools {
                jitter: self.jitter,
                ..Tools::default()
            },
            command_line: self.command_line.to_owned(),
            xl: self
                .xl
                .iter()
                .map(|line| line.as_bytes().to_vec())
                .collect(),
            module: module(self.module_bytes).map_err(|error| format!("{error:#}"))?,
            disks: disks.into_iter().collect(),
            net: Net::apart(self.guest).map_err(|error| format!("{error:#}"))?,
            with: self.with,
            crowd: self.crowd,
            spoil: self.spoil,
            timeout: Duration::from_secs(self.timeout_s) * patience(platform, self.ended),
            start: self.start,
            ..Job::new(self.guest, platform)
        };
        let report = run(&job).map_err(|error| format!("{error:#}"))?;
        let said = said(&report);
        let expected = Ended::from(self.ended);
        let is_unnamed = expected == Ended::Unnamed && report.ended.status() == expected.status();
        if report.ended != expected && !is_unnamed {
            return Err(format!(
                "it ended by {}, not by {expected}\n{said}",
                report.ended
            ));
        }
        if let Some(complaint) = &report.complaint {
            return Err(format!("its visitors complain: {complaint}\n{said}"));
        }
        if self.mute_on.contains(&platform) {
            return Ok(());
        }
        match self.says.iter().find(|text| !said.contains(*text)) {
            Some(text) => Err(format!("it did not say {text:?}\n{said}")),
            None => Ok(()),
        }
    }
}

/// How many times longer a guest may take than it needs on a machine that has nothing else to
/// do. One in an emulated machine is slower the more that has, and one that is to be ended
/// by its time is ended by it.
fn patience(platform: Platform, ended: Expected) -> u32 {
    match ended {
        Expected::TimedOut => 1,
        Expected::Shutdown(_) | Expected::Unnamed if platform.is_xen() => 4,
        Expected::Shutdown(_) | Expected::Unnamed => 2,
    }
}

/// A file of so many bytes, none of which is like its neighbours.
fn module(len_bytes: usize) -> std::io::Result<Option<PathBuf>> {
    if len_bytes == 0 {
        return Ok(None);
    }
    let path = cache().join(format!("module-{len_bytes}"));
    // Somebody else may just read it.
    let is_there = std::fs::metadata(&path).is_ok_and(|file| file.len() == len_bytes as u64);
    if !is_there {
        let bytes: Vec<u8> = (0..len_bytes).map(|at| (at % 251) as u8).collect();
        let mut new = tempfile::NamedTempFile::new_in(cache())?;
        std::io::Write::write_all(&mut new, &bytes)?;
        new.persist(&path)?;
    }
    Ok(Some(path))
}

/// What the guest said, and what is said about it.
fn said(report: &Report) -> String {
    let mut text = report.console.clone();
    text.extend(report.diagnosis.iter().map(String::as_str));
    text
}
