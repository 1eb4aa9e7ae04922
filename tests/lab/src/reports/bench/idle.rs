//! What guests do that have nothing to do.

use std::fmt::Write;

use anyhow::Result;

use super::{
    Options,
    figures::{Figures, Kind, Numbers, Who, ratio},
    scenes::{Scene, look_at},
    table::cell,
};
use crate::job::{Pace, Platform};

const ROWS: [(&str, &str); 4] = [
    ("web", "`web`, without traffic"),
    ("tour", "`tour`, which waits for a name"),
    ("disk", "`disk`, connected"),
    ("nginx", "Linux 6.12 with nginx, without traffic"),
];

/// What is told, for each second.
const FIGURES: [&str; 4] = ["wakeups", "calls", "exits", "ran"];

fn scenes(_platform: Platform) -> Result<Vec<Scene>> {
    // Longer than is looked at.
    let waits = |guest, word: &str, what| Scene {
        command_line: format!("{word}=60"),
        ..Scene::new(guest, 32, what)
    };
    let mut disk = waits("disk", "wait", "idle disk \"disk: waits\"");
    disk.disks = vec![crate::build::disk::to_serve()?];
    Ok(vec![
        Scene::web("idle web")?,
        waits("tour", "patience", "idle tour \"what is your name?\""),
        disk,
        Scene::nginx("idle nginx"),
    ])
}

/// Measures, and makes the table.
pub(crate) fn run(options: &Options) -> Result<String> {
    Ok(markdown(&look_at(options, "idle", scenes)?))
}

/// One of [`FIGURES`], a second.
fn rate(figure: &str) -> impl Fn(&Numbers) -> Option<f64> + '_ {
    move |numbers| Some(ratio(numbers, figure, "ms")? * 1e3)
}

fn markdown(all: &Figures) -> String {
    let mut text = String::new();
    for column in all.columns() {
        let (_, platform): (Pace, Platform) = column;
        let _infallible = write!(
            text,
            "\n#### {}, counted\n\n| each second | wakeups | hypercalls | exits | \
             instructions |\n|---|---|---|---|---|\n",
            platform.name()
        );
        for (phase, title) in ROWS {
            let _infallible = write!(text, "| {title} |");
            for figure in FIGURES {
                let of = |who| all.median(column, who, Kind::Counted, phase, rate(figure));
                let _infallible = write!(text, " {} |", cell(of(Who::Ours).or(of(Who::Linux))));
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_for_a_second() {
        let mut all = Figures::default();
        let line = "bench: counted tour ms=5000 wakeups=10 calls=20 exits=0 ran=5000\n";
        all.take(Pace::Counted, Platform::XenPv, Who::Ours, line)
            .unwrap();
        assert!(markdown(&all).contains("waits for a name | 2.00 | 4.00 | 0.00 | 1,000 |"));
    }
}
