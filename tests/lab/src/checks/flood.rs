//! That every line of a guest arrives, once and in order, however fast it writes.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{
    checks::matrix::Column,
    job::{Job, exit::Ended},
    platforms::run::run,
};

/// Lines that a guest writes without a pause: many times what any buffer between it and
/// the lab holds.
pub(crate) const LINES: usize = 3_000;

/// Runs a guest that writes them, and compares.
pub(crate) fn check(column: Column) -> Result<()> {
    let job = Job {
        xen: column.xen,
        command_line: format!("lines={LINES}"),
        timeout: Duration::from_secs(120),
        ..Job::new("conformance", column.platform)
    };
    let report = run(&job)?;
    if report.ended != Ended::Shutdown(0) {
        bail!("the guest ended by {}", report.ended);
    }
    compare(&report.console)
}

pub(crate) fn compare(console: &str) -> Result<()> {
    let mut expected = 0;
    for line in console.lines() {
        let Some(rest) = line.strip_prefix("line ") else {
            continue;
        };
        let text =
            format!("{expected:06} (XEN) @@LAB end 0, and bytes that take room in every buffer");
        if rest != text {
            bail!("line {expected} should be {text:?} and is {rest:?}");
        }
        expected += 1;
    }
    if expected != LINES || !console.contains("lines: 3000 were written") {
        bail!("{expected} of {LINES} lines arrived");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(numbers: impl Iterator<Item = usize>) -> String {
        let mut text: String = numbers
            .map(|number| {
                format!(
                    "line {number:06} (XEN) @@LAB end 0, and bytes that take room in every buffer\n"
                )
            })
            .collect();
        text.push_str("lines: 3000 were written\n");
        text
    }

    #[test]
    fn a_line_that_is_missing_or_out_of_order_is_noticed() {
        assert!(compare(&console(0..LINES)).is_ok());
        assert!(compare(&console(0..LINES - 1)).is_err());
        assert!(compare(&console((0..LINES).filter(|number| *number != 1_500))).is_err());
        assert!(compare(&console((0..LINES).chain([7]))).is_err());
        let swapped = (0..LINES).map(|number| match number {
            10 => 11,
            11 => 10,
            other => other,
        });
        assert!(compare(&console(swapped)).is_err());
    }
}
