//! What a benchmark looks at: one guest, from its first instruction, and the files that it
//! may serve.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    build::{
        disk,
        guest::{self, Tool},
    },
    job::{Job, With},
};

/// What domain 0 does, if it is one who looks.
pub(crate) fn script(with: With) -> Option<&'static str> {
    match with {
        With::Scene => Some(include_str!("../../dom0/bench.sh")),
        With::Density => Some(include_str!("../../dom0/density.sh")),
        _ => None,
    }
}

/// The files of the job by which domain 0 looks.
pub(crate) fn files(job: &Job) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let tool = fs::read(guest::build_tool(Tool::LinuxLoad)?).context("no tool")?;
    let name = match job.with {
        With::Density => "density",
        _ => "scene",
    };
    let mut files = vec![("bench", tool), (name, job.scene.clone().into_bytes())];
    files.extend(disk::served());
    Ok(files)
}

/// Whether the guest is on the bridge.
pub(crate) fn has_network(job: &Job) -> bool {
    !job.scene.is_empty() && !job.scene.starts_with("boot")
}
