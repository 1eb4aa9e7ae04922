//! How many servers a host of 2 GiB has room for, and what they cost while nobody asks.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, Result};

use super::{
    Options,
    figures::{Figures, Kind, Numbers, Who, ratio},
    table::cell,
};
use crate::{
    build::disk,
    job::{Job, Pace, Platform, With},
    platforms::run::run as run_job,
};

/// A server of which there are many.
struct Server {
    guest: &'static str,
    /// What it needs.
    memory_mib: u32,
    /// Whether it has a disk of files.
    serves_files: bool,
    /// What domain 0 has for as many of their backends: Linux's blkback takes 1.3 MB for a
    /// ring of one page, netback and the store half of one for a guest.
    dom0_mib: u32,
}

/// The one that asks for `1k` knows them by the same names: see `linux-load density`.
const SERVERS: [Server; 2] = [
    Server {
        guest: "web",
        memory_mib: 4,
        serves_files: true,
        dom0_mib: 768,
    },
    Server {
        guest: "echo",
        memory_mib: 4,
        serves_files: false,
        dom0_mib: 512,
    },
];
/// The lab's machine has 3 GiB: this is nobody's.
const FILLER_MIB: u32 = 1024;
/// More are not tried.
const MOST: u32 = 500;
/// A guest takes several seconds to be made in the machine that counts, and `web` on PV is
/// more than three hundred.
const TIMEOUT: Duration = Duration::from_secs(7200);

fn look(server: &Server, platform: Platform) -> Result<String> {
    let guest = server.guest;
    let job = Job {
        memory_mib: server.memory_mib,
        command_line: "ip=@ADDRESS@/16".to_owned(),
        disks: match server.serves_files {
            true => vec![disk::to_serve()?],
            false => Vec::new(),
        },
        with: With::Density,
        scene: format!("{FILLER_MIB} {} {MOST} {guest}", server.dom0_mib),
        timeout: TIMEOUT,
        // By the clock, what else the machine does is theirs.
        pace: Pace::Counted,
        ..Job::new(guest, platform)
    };
    let report = run_job(&job).with_context(|| format!("{guest} on {}", platform.name()))?;
    for line in report
        .console
        .lines()
        .filter(|line| line.starts_with("dom0: ") || line.starts_with("bench: "))
    {
        eprintln!("lab: {guest} on {}, {line}", platform.name());
    }
    Ok(report.console)
}

/// Counts, once (memory is what it is), and makes the table.
pub(crate) fn run(options: &Options) -> Result<String> {
    let mut all = Figures::default();
    for server in &SERVERS {
        for platform in &options.on {
            eprintln!("lab: density, {} on {}", server.guest, platform.name());
            let console = look(server, *platform)?;
            all.take(Pace::Counted, *platform, Who::Ours, &console)?;
        }
    }
    Ok(markdown(&all))
}

fn markdown(all: &Figures) -> String {
    let mut text = String::from(
        "\n| | domain 0 | guests | of them answer | processor share of all, idle (%) |\n\
         |---|---|---|---|---|\n",
    );
    for server in &SERVERS {
        for column in all.columns() {
            let of = |figure: fn(&Numbers) -> Option<f64>| {
                cell(all.median(column, Who::Ours, Kind::Measured, server.guest, figure))
            };
            let _infallible = writeln!(
                text,
                "| `{}`, {} MiB each, {} | {} MiB | {} | {} | {} |",
                server.guest,
                server.memory_mib,
                column.1.name(),
                server.dom0_mib,
                of(|n| n.get("guests").copied()),
                of(|n| n.get("ops").copied()),
                of(|n| Some(ratio(n, "ran", "ns")? * 100.0)),
            );
        }
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
        assert!(markdown(&all).contains("MiB each, xen-pv | 768 MiB | 200 | 199 | 2.00 |"));
    }
}
