//! `cargo lab bench`: our drivers and servers beside Linux's, in guests on the same
//! machine, in turns.

mod boot;
mod chart;
mod density;
mod doc;
mod figures;
mod idle;
mod scenes;
pub(crate) mod sizes;
mod table;
mod web;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{
    job::{Job, Pace, Platform, With},
    platforms::run::run,
    say::say,
    xen_machine::linux,
};
use figures::{Figures, Who};

/// What is measured, and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What is measured
    #[arg(value_enum, default_values = ["block", "net"])]
    devices: Vec<Device>,
    /// The platforms: xen-pv, xen-pvh
    #[arg(long, value_delimiter = ',', default_value = "xen-pv,xen-pvh")]
    on: Vec<Platform>,
    /// How often each guest is run
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// What time is: the host's, or the number of instructions. Starts, web servers and
    /// idle guests are counted, whatever is said here
    #[arg(long, value_delimiter = ',', default_value = "counted,clock")]
    pace: Vec<Pace>,
    /// Write the figures to docs/BENCH.md, and their charts to docs/images
    #[arg(long)]
    write: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Device {
    /// A disk: RAM of domain 0's, by blkback
    Block,
    /// A network: domain 0, by netback
    Net,
    /// A start: from the unpause to the first line, and to a web server's first answer
    Boot,
    /// A web server, beside nginx on Linux
    Web,
    /// Guests that have nothing to do
    Idle,
    /// Web servers, as many as 2 GiB have room for
    Density,
    /// The examples' images: how large they are, and what of
    Size,
}

impl Device {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Net => "net",
            Self::Boot => "boot",
            Self::Web => "web",
            Self::Idle => "idle",
            Self::Density => "density",
            Self::Size => "size",
        }
    }

    /// What is done to a device, in the form of `load-plan`.
    const fn phases(self) -> &'static str {
        match self {
            Self::Block => {
                "randread-4k-1,randread-4k-32,randwrite-4k-32,read-128k-1,read-128k-8,\
                 read-1024k-1,read-1024k-4,write-128k-8"
            }
            Self::Net => "udp-echo,tcp-echo,tcp-out,tcp-in",
            Self::Boot | Self::Web | Self::Idle | Self::Density | Self::Size => "",
        }
    }
}

/// Both guests have it: Linux needs as much.
const MEMORY_MIB: u32 = linux::MEMORY_MIB;
/// A second of the counted machine's may be ten of ours.
const TIMEOUT: Duration = Duration::from_secs(900);

/// Measures, and tells.
pub(crate) fn run_all(options: &Options) -> Result<()> {
    if let Some(platform) = options.on.iter().find(|platform| !platform.is_xen()) {
        bail!("{} has no backends of Linux's", platform.name());
    }
    for device in &options.devices {
        let (text, chart) = match device {
            Device::Block | Device::Net => {
                let all = measure_all(*device, options)?;
                let chart = chart::draw(*device, &all)?;
                (table::markdown(*device, &all), Some(chart))
            }
            Device::Boot => (boot::run(options)?, None),
            Device::Web => (web::run(options)?, None),
            Device::Idle => (idle::run(options)?, None),
            Device::Density => (density::run(options)?, None),
            Device::Size => (sizes::run()?, None),
        };
        say!("{text}");
        if options.write {
            doc::write(*device, &text, chart.as_deref())?;
        }
    }
    Ok(())
}

/// Loads a device by both guests, in turns.
fn measure_all(device: Device, options: &Options) -> Result<Figures> {
    let mut all = Figures::default();
    for pace in &options.pace {
        for platform in &options.on {
            for round in 1..=options.rounds {
                for who in [Who::Ours, Who::Linux] {
                    eprintln!(
                        "lab: {}, {}, {}, round {round} of {}: {}",
                        device.name(),
                        pace.name(),
                        platform.name(),
                        options.rounds,
                        who.name()
                    );
                    let console = measure(device, *pace, *platform, who)?;
                    all.take(*pace, *platform, who, &console)?;
                }
            }
        }
    }
    Ok(all)
}

/// Runs one guest, and returns what it and domain 0 said.
fn measure(device: Device, pace: Pace, platform: Platform, who: Who) -> Result<String> {
    let count = match pace {
        Pace::Counted => " count=400",
        // Who runs when is not ours to say there.
        Pace::Clock => "",
    };
    let guest = match who {
        Who::Ours => "load",
        Who::Linux => linux::NAME,
    };
    let job = Job {
        memory_mib: MEMORY_MIB,
        command_line: format!("bench={}{count}", device.phases()),
        with: With::Bench,
        timeout: TIMEOUT,
        pace,
        ..Job::new(guest, platform)
    };
    let report = run(&job).with_context(|| format!("{} on {}", job.guest, platform.name()))?;
    Ok(report.console)
}
