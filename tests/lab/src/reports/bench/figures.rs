//! What was measured, as guests and domain 0 say it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::job::{Pace, Platform};

/// Whose drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Ours,
    Linux,
}

impl Who {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Linux => "Linux",
        }
    }
}

/// One line's numbers, by name.
pub(crate) type Numbers = BTreeMap<String, f64>;

/// All lines, by what they are about.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    lines: Vec<Line>,
}

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// How long things took.
    Measured,
    /// What was done, by Xen's record.
    Counted,
}

#[derive(Debug)]
struct Line {
    pace: Pace,
    platform: Platform,
    who: Who,
    kind: Kind,
    phase: String,
    numbers: Numbers,
}

impl Figures {
    /// Takes what a console has.
    pub(crate) fn take(
        &mut self,
        pace: Pace,
        platform: Platform,
        who: Who,
        console: &str,
    ) -> Result<()> {
        let before = self.lines.len();
        for text in console.lines() {
            let Some(text) = text.trim().strip_prefix("bench: ") else {
                continue;
            };
            let mut words = text.split_whitespace();
            let kind = match words.next() {
                Some("measure") => Kind::Measured,
                Some("counted") => Kind::Counted,
                _ => continue,
            };
            let phase = words.next().unwrap_or_default().to_owned();
            let numbers = words.filter_map(|word| {
                let (name, value) = word.split_once('=')?;
                Some((name.to_owned(), value.parse().ok()?))
            });
            self.lines.push(Line {
                pace,
                platform,
                who,
                kind,
                phase,
                numbers: numbers.collect(),
            });
        }
        ensure!(
            self.lines.len() > before,
            "nothing was measured:\n{console}"
        );
        Ok(())
    }

    /// The phases, in their order.
    pub(crate) fn phases(&self) -> Vec<&str> {
        let mut phases: Vec<&str> = Vec::new();
        for line in &self.lines {
            if !phases.contains(&line.phase.as_str()) {
                phases.push(&line.phase);
            }
        }
        phases
    }

    /// What was measured on, and how.
    pub(crate) fn columns(&self) -> Vec<(Pace, Platform)> {
        let mut columns = Vec::new();
        for line in &self.lines {
            if !columns.contains(&(line.pace, line.platform)) {
                columns.push((line.pace, line.platform));
            }
        }
        columns
    }

    /// The median over all rounds of what `figure` makes of a line.
    pub(crate) fn median(
        &self,
        (pace, platform): (Pace, Platform),
        who: Who,
        kind: Kind,
        phase: &str,
        figure: impl Fn(&Numbers) -> Option<f64>,
    ) -> Option<f64> {
        let lines = self.lines.iter().filter(|line| {
            (line.pace, line.platform, line.who, line.kind) == (pace, platform, who, kind)
                && line.phase == phase
        });
        let mut values: Vec<f64> = lines.filter_map(|line| figure(&line.numbers)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

/// One number of a line divided by another.
pub(crate) fn ratio(numbers: &Numbers, above: &str, below: &str) -> Option<f64> {
    let below = numbers.get(below).copied().filter(|value| *value > 0.0)?;
    Some(numbers.get(above)? / below)
}

/// What a phase is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations a second.
    Operations,
    /// Megabytes a second.
    Megabytes,
    /// Megabits a second.
    Megabits,
    /// Microseconds of a round trip: less is better.
    Microseconds,
}

impl Unit {
    pub(crate) fn of(phase: &str) -> Self {
        match phase {
            echo if echo.ends_with("echo") => Self::Microseconds,
            tcp if tcp.starts_with("tcp") => Self::Megabits,
            random if random.starts_with("rand") => Self::Operations,
            _ => Self::Megabytes,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Operations => "/s",
            Self::Megabytes => "MB/s",
            Self::Megabits => "Mbit/s",
            Self::Microseconds => "us",
        }
    }

    /// That of a line.
    pub(crate) fn value(self, numbers: &Numbers) -> Option<f64> {
        Some(match self {
            Self::Operations => ratio(numbers, "ops", "ns")? * 1e9,
            Self::Megabytes => ratio(numbers, "bytes", "ns")? * 1e3,
            Self::Megabits => ratio(numbers, "bytes", "ns")? * 8e3,
            Self::Microseconds => ratio(numbers, "ns", "ops")? / 1e3,
        })
    }

    /// How many times better `ours` is.
    pub(crate) fn better(self, ours: f64, linux: f64) -> f64 {
        match self {
            Self::Microseconds => linux / ours,
            _ => ours / linux,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let mut all = Figures::default();
        let column = (Pace::Counted, Platform::XenPv);
        for ops in [3, 1, 2] {
            let text = format!(
                "noise\nbench: begin measure udp-echo\nbench: measure udp-echo ns=1000000 ops={ops}\n"
            );
            all.take(column.0, column.1, Who::Ours, &text).unwrap();
        }
        assert_eq!(all.phases(), ["udp-echo"]);
        let value = |numbers: &Numbers| Unit::of("udp-echo").value(numbers);
        let median = all.median(column, Who::Ours, Kind::Measured, "udp-echo", value);
        assert_eq!(median, Some(500.0));
        assert!(all.take(column.0, column.1, Who::Ours, "nothing").is_err());
    }
}
