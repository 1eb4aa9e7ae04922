//! How many web servers a host of 2 GiB has room for, and what they cost while nobody asks.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, Result};

use super::{
    Options,
    figures::{Figures, Kind, Numbers, Who, ratio},
    table::cell,
};
use crate::{
    disk,
    job::{Job, Platform, With},
    machine::Pace,
    run::run as run_job,
};

/// What `web` needs.
const WEB_MIB: u32 = 9;
/// The lab's machine has 3 GiB: this is nobody's.
const FILLER_MIB: u32 = 1024;
/// More are not tried.
const MOST: u32 = 500;
/// A guest takes a second to be made, or several on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(2400);

fn look(platform: Platform) -> Result<String> {
    let job = Job {
        memory_mib: WEB_MIB,
        command_line: "ip=@ADDRESS@/16".to_owned(),
        disks: vec![disk::to_serve()?],
        with: With::Density,
        scene: format!("{FILLER_MIB} {MOST}"),
        timeout: TIMEOUT,
        // By the clock, what else the machine does is theirs.
        pace: Pace::Counted,
        ..Job::new("web", platform)
    };
    let report = run_job(&job).with_context(|| format!("web on {}", platform.name()))?;
    for line in report
        .console
        .lines()
        .filter(|line| line.starts_with("dom0: "))
    {
        eprintln!("lab: {}, {line}", platform.name());
    }
    Ok(report.console)
}

/// Counts, once (memory is what it is), and makes the table.
pub(crate) fn run(options: &Options) -> Result<String> {
    let mut all = Figures::default();
    for platform in &options.on {
        eprintln!("lab: density, {}", platform.name());
        all.take(Pace::Counted, *platform, Who::Ours, &look(*platform)?)?;
    }
    Ok(markdown(&all))
}

fn markdown(all: &Figures) -> String {
    let mut text = format!(
        "\n| `web`, {WEB_MIB} MiB each | guests | of them answer | processor share of all, \
         idle (%) |\n|---|---|---|---|\n"
    );
    for column in all.columns() {
        let of = |figure: fn(&Numbers) -> Option<f64>| {
            cell(all.median(column, Who::Ours, Kind::Measured, "web", figure))
        };
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {} |",
            column.1.name(),
            of(|n| n.get("guests").copied()),
            of(|n| n.get("ops").copied()),
            of(|n| Some(ratio(n, "ran", "ns")? * 100.0)),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_a_processor() {
        let mut all = Figures::default();
        let line = "bench: measure web guests=200 ops=199 ns=1000 ran=20\n";
        all.take(Pace::Clock, Platform::XenPv, Who::Ours, line)
            .unwrap();
        assert!(markdown(&all).contains("| xen-pv | 200 | 199 | 2.00 |"));
    }
}
