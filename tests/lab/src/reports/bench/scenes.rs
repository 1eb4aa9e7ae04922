//! Guests that are looked at from their first instruction, in the machine that counts.

use anyhow::{Context, Result, ensure};

use super::{
    Options, TIMEOUT,
    figures::{Figures, Who},
};
use crate::{
    build::disk,
    job::{Job, Pace, Platform, With, disk::Disk},
    platforms::run::run,
    xen_machine::linux,
};

/// One of them.
pub(crate) struct Scene {
    pub(crate) who: Who,
    pub(crate) guest: String,
    pub(crate) memory_mib: u32,
    pub(crate) command_line: String,
    pub(crate) disks: Vec<Disk>,
    /// What is looked at, as `linux-load` has it, in words of a shell.
    pub(crate) what: String,
}

/// The server's addresses, as `web` is told.
const ADDRESSES: &str = "ip=10.0.3.2/24 ip6=fd00:3::2/64";

impl Scene {
    /// A guest of ours that needs nothing.
    pub(crate) fn new(guest: &str, memory_mib: u32, what: &str) -> Self {
        Self {
            who: Who::Ours,
            guest: guest.to_owned(),
            memory_mib,
            command_line: String::new(),
            disks: Vec::new(),
            what: what.to_owned(),
        }
    }

    /// `web`, with the files that servers are compared by.
    pub(crate) fn web(what: &str) -> Result<Self> {
        Ok(Self {
            command_line: ADDRESSES.to_owned(),
            disks: vec![disk::to_serve()?],
            ..Self::new("web", 32, &format!("{what} \"web: http://\""))
        })
    }

    /// nginx on Linux, with the same.
    pub(crate) fn nginx(what: &str) -> Self {
        Self {
            who: Who::Linux,
            command_line: linux::SERVE.to_owned(),
            ..Self::new(
                linux::NAME,
                linux::MEMORY_MIB,
                &format!("{what} \"linux: nginx serves\""),
            )
        }
    }

    fn look(self, platform: Platform) -> Result<String> {
        let job = Job {
            memory_mib: self.memory_mib,
            command_line: self.command_line,
            disks: self.disks,
            with: With::Scene,
            scene: self.what,
            timeout: TIMEOUT,
            pace: Pace::Counted,
            ..Job::new(&self.guest, platform)
        };
        let report = run(&job).with_context(|| format!("{} on {}", job.guest, platform.name()))?;
        ensure!(
            !report.console.contains("Error: "),
            "{} on {}: {}",
            job.guest,
            platform.name(),
            report.console
        );
        Ok(report.console)
    }
}

/// Looks at all scenes, in turns, so often.
pub(crate) fn look_at(
    options: &Options,
    name: &str,
    scenes: impl Fn(Platform) -> Result<Vec<Scene>>,
) -> Result<Figures> {
    let mut all = Figures::default();
    for platform in &options.on {
        for round in 1..=options.rounds {
            for scene in scenes(*platform)? {
                eprintln!(
                    "lab: {name}, {}, round {round} of {}: {}, {}",
                    platform.name(),
                    options.rounds,
                    scene.guest,
                    scene.what
                );
                let who = scene.who;
                let console = scene.look(*platform)?;
                all.take(Pace::Counted, *platform, who, &console)?;
            }
        }
    }
    Ok(all)
}
