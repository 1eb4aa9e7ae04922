//! The figures as tables.

use std::fmt::Write;

use super::{
    Device,
    figures::{Figures, Kind, Numbers, Unit, Who, ratio},
};
use crate::job::Pace;

/// What is told of a request, and how it is made of what was counted.
type Cost = (&'static str, fn(&Numbers) -> Option<f64>);

const COSTS: [Cost; 7] = [
    ("instructions, guest", |n| ratio(n, "guest-ran", "requests")),
    ("domain 0", |n| ratio(n, "dom0-ran", "requests")),
    ("hypercalls, guest", |n| ratio(n, "guest-calls", "requests")),
    ("exits", |n| ratio(n, "guest-exits", "requests")),
    ("events sent", |n| ratio(n, "guest-events", "requests")),
    ("hypercalls, domain 0", |n| {
        ratio(n, "dom0-calls", "requests")
    }),
    ("grant operations", |n| ratio(n, "dom0-grants", "requests")),
];

/// A number with as many places as make sense.
pub(super) fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

pub(super) fn cell(value: Option<f64>) -> String {
    value.map_or_else(String::new, number)
}

/// All tables.
pub(crate) fn markdown(device: Device, all: &Figures) -> String {
    let mut text = String::new();
    for column in all.columns() {
        let (pace, platform) = column;
        let _infallible = write!(
            text,
            "\n#### {}, {}\n\n| load | ours | Linux | times better | p50, p99 ours (us) | Linux |\n\
             |---|---|---|---|---|---|\n",
            platform.name(),
            match pace {
                Pace::Counted => "counted",
                Pace::Clock => "by the clock",
            }
        );
        for phase in all.phases() {
            let unit = Unit::of(phase);
            let value = |who| {
                all.median(column, who, Kind::Measured, phase, |numbers| {
                    unit.value(numbers)
                })
            };
            let at = |who, name: &str| {
                let us = |numbers: &Numbers| Some(numbers.get(name)? / 1e3);
                cell(all.median(column, who, Kind::Measured, phase, us))
            };
            let [ours, linux] = [value(Who::Ours), value(Who::Linux)];
            let better = ours
                .zip(linux)
                .map(|(ours, linux)| unit.better(ours, linux));
            let _infallible = writeln!(
                text,
                "| {phase} ({}) | {} | {} | {} | {}, {} | {}, {} |",
                unit.name(),
                cell(ours),
                cell(linux),
                cell(better),
                at(Who::Ours, "p50"),
                at(Who::Ours, "p99"),
                at(Who::Linux, "p50"),
                at(Who::Linux, "p99"),
            );
        }
        if pace == Pace::Counted {
            text += &costs(device, all, column);
        }
    }
    text
}

/// What a request costs, ours and Linux's side by side.
fn costs(device: Device, all: &Figures, column: (Pace, crate::job::Platform)) -> String {
    let what = match device {
        Device::Block => "a request",
        _ => "a packet",
    };
    let mut text = format!("\n| of {what}, ours / Linux |");
    for (name, _) in COSTS {
        let _infallible = write!(text, " {name} |");
    }
    text += "\n|---|";
    text += &"---|".repeat(COSTS.len());
    text.push('\n');
    for phase in all.phases() {
        let _infallible = write!(text, "| {phase} |");
        for (_, cost) in COSTS {
            let of = |who| cell(all.median(column, who, Kind::Counted, phase, cost));
            let _infallible = write!(text, " {} / {} |", of(Who::Ours), of(Who::Linux));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_easy_to_read() {
        for (value, text) in [
            (1_234_567.8, "1,234,568"),
            (123.4, "123"),
            (12.34, "12.3"),
            (0.014, "0.01"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
