//! From the call by which a guest is let go to its first line, or its first answer.

use std::fmt::Write;

use anyhow::Result;

use super::{
    Options,
    figures::{Figures, Kind, Numbers, Who},
    scenes::{Scene, look_at},
    table::cell,
};
use crate::{
    build::packages,
    folders,
    job::{Pace, Platform},
    xen_machine::linux,
};

/// The smallest guest's.
const MEMORY_MIB: [u32; 4] = [4, 32, 128, 512];
/// What the others need.
const GRUB_MIB: u32 = 128;

/// How the rows are called.
const ROWS: [(&str, &str); 8] = [
    ("hello-4", "`hello`, 4 MiB: its line"),
    ("hello-32", "`hello`, 32 MiB"),
    ("hello-128", "`hello`, 128 MiB"),
    ("hello-512", "`hello`, 512 MiB"),
    ("grub", "GRUB, 128 MiB: its first words"),
    ("linux", "Linux 6.12, 160 MiB: its first process's line"),
    ("web", "`web`, 32 MiB, with its disk: its first answer"),
    ("nginx", "nginx on that Linux: its first answer"),
];

fn scenes(platform: Platform) -> Result<Vec<Scene>> {
    let mut scenes: Vec<Scene> = MEMORY_MIB
        .iter()
        .map(|mib| Scene::new("hello", *mib, &format!("boot hello-{mib} \"hello from\"")))
        .collect();
    let grub = {
        let _lock = folders::lock()?;
        packages::ensure_grub()?.join("usr/lib/grub-xen")
    };
    let image = match platform {
        Platform::XenPv => "grub-x86_64-xen.bin",
        _ => "grub-i386-xen_pvh.bin",
    };
    let grub = grub.join(image).to_string_lossy().into_owned();
    scenes.push(Scene::new(&grub, GRUB_MIB, "boot grub GRUB"));
    scenes.push(Scene {
        who: Who::Linux,
        command_line: "boot".to_owned(),
        ..Scene::new(
            linux::NAME,
            linux::MEMORY_MIB,
            "boot linux \"linux: the first process\"",
        )
    });
    scenes.push(Scene::web("served web")?);
    scenes.push(Scene::nginx("served nginx"));
    Ok(scenes)
}

/// Measures, and makes the table.
pub(crate) fn run(options: &Options) -> Result<String> {
    Ok(markdown(&look_at(options, "boot", scenes)?, &options.on))
}

fn markdown(all: &Figures, platforms: &[Platform]) -> String {
    let mut text = "\n| million instructions, from the unpause | ".to_owned();
    for platform in platforms {
        let name = platform.name();
        let _infallible = write!(text, "{name}: the guest's | domain 0's | ");
    }
    let _infallible = write!(text, "\n|---|{}\n", "---|---|".repeat(platforms.len()));
    for (phase, title) in ROWS {
        let _infallible = write!(text, "| {title} |");
        for platform in platforms {
            for figure in ["guest", "dom0"] {
                let millions = |numbers: &Numbers| Some(numbers.get(figure)? / 1e6);
                let of = |who| {
                    let column = (Pace::Counted, *platform);
                    all.median(column, who, Kind::Measured, phase, millions)
                };
                let _infallible = write!(text, " {} |", cell(of(Who::Ours).or(of(Who::Linux))));
            }
        }
        text.push('\n');
    }
    text
}
