//! A guest's console while its daemon is stopped, for a while or for good.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::{
    checks::matrix::Column,
    job::{Job, Platform, Report, With, exit::Ended},
    platforms::run::run,
};

/// What the guest writes: so many lines of a length, each with two bytes for its end.
const LINES: usize = 1_000;
const LINE_BYTES: usize = "line 000000, ".len() + 50 + 2;

/// How long a guest waits for a daemon that takes nothing, in seconds.
const STALL_S: u64 = 30;

/// The daemon is stopped for less than a guest waits: nothing is lost.
pub(crate) fn check_short(column: Column) -> Result<()> {
    let report = start(column, "8", Ended::Shutdown(0))?;
    let console = &report.console;
    let arrived = arrived(console)?;
    ensure!(
        arrived == (LINES * LINE_BYTES, None),
        "{arrived:?} arrived\n{console}"
    );
    ensure!(
        number_before(console, "in ", " ms\n")? > 1_000,
        "the daemon was not stopped:\n{console}"
    );
    Ok(())
}

/// It is stopped for longer: the guest goes on without it, and tells it how many bytes it
/// has lost when it runs again.
pub(crate) fn check_long(column: Column) -> Result<()> {
    let report = start(column, "38", Ended::Shutdown(0))?;
    let console = &report.console;
    ensure!(
        console.contains("dom0: after 38 s the guest says: printed 1000 lines in "),
        "the guest did not go on:\n{console}"
    );
    let (arrived, lost) = arrived(console)?;
    let lost = lost.context("nobody says what was lost")?;
    // One is the first half of a line's end, which the lab does not keep.
    ensure!(
        (LINES * LINE_BYTES).abs_diff(arrived + lost) <= 1,
        "{arrived} bytes arrived and {lost} were lost\n{console}"
    );
    let took_ms = number_before(console, "in ", " ms\n")?;
    ensure!(
        (STALL_S * 1_000..STALL_S * 1_000 + 5_000).contains(&took_ms),
        "the guest waited {took_ms} ms"
    );
    Ok(())
}

/// The guest dies while it is stopped: it does so soon, and says why where it can.
pub(crate) fn check_panic(column: Column) -> Result<()> {
    let report = start(column, "panic", Ended::Shutdown(3))?;
    let console = &report.console;
    let took_s = number_before(console, "dom0: the guest ended after ", " s\n")?;
    ensure!((4..20).contains(&took_s), "it took {took_s} s to die");
    // Xen takes words of a PV guest only if it was built for debugging.
    let words = [
        "FATAL: panicked at ",
        "while nobody reads the console",
        "backtrace:",
    ];
    let is_told = |word: &&str| {
        report
            .hypervisor_log
            .iter()
            .any(|line| line.contains(*word))
    };
    if column.platform == Platform::XenPvh && !words.iter().all(is_told) {
        bail!("Xen's log does not say why: {:#?}", report.hypervisor_log);
    }
    Ok(())
}

fn start(column: Column, how: &str, expected: Ended) -> Result<Report> {
    let job = Job {
        xen: column.xen,
        command_line: format!("silence={how}"),
        with: With::Silence,
        timeout: Duration::from_secs(120),
        ..Job::new("conformance", column.platform)
    };
    let report = run(&job)?;
    ensure!(
        report.ended == expected,
        "the guest ended by {}\n{}",
        report.ended,
        report.console
    );
    Ok(report)
}

/// How many bytes of the lines arrived, in order and up to a gap, and how many are said to
/// be missing there.
fn arrived(console: &str) -> Result<(usize, Option<usize>)> {
    let (before, lost) = match console.split_once("\n[console: ") {
        Some((before, rest)) => {
            let lost = rest.split_once(" bytes lost]\n").context("half a notice")?;
            (before, Some(lost.0.parse()?))
        }
        None => (console, None),
    };
    let mut bytes = 0;
    for (expected, line) in before
        .lines()
        .filter(|line| line.starts_with("line "))
        .enumerate()
    {
        let whole = format!("line {expected:06}, {}", "#".repeat(50));
        if line == whole {
            bytes += LINE_BYTES;
        } else if whole.starts_with(line) && before.ends_with(line) {
            bytes += line.len();
        } else {
            bail!("line {expected} is {line:?}\n{console}");
        }
    }
    Ok((bytes, lost))
}

/// The number between two texts, of which the second is the first one behind the other.
fn number_before(console: &str, before: &str, behind: &str) -> Result<u64> {
    let (head, _) = console.split_once(behind).context("no number")?;
    let (_, number) = head.rsplit_once(before).context("no number")?;
    Ok(number.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> String {
        (0..count)
            .map(|number| format!("line {number:06}, {}\n", "#".repeat(50)))
            .collect()
    }

    #[test]
    fn what_arrived_is_counted() {
        let rest = "silence: 1000 lines were written in 30123 ms\n";
        assert_eq!(arrived(&(lines(3) + rest)).unwrap(), (3 * LINE_BYTES, None));
        let cut = lines(3) + "line 000003, ##\n[console: 77 bytes lost]\n" + rest;
        assert_eq!(arrived(&cut).unwrap(), (3 * LINE_BYTES + 15, Some(77)));
        let whole = lines(3) + "\n[console: 77 bytes lost]\n";
        assert_eq!(arrived(&whole).unwrap(), (3 * LINE_BYTES, Some(77)));
        for bad in [
            lines(3) + &lines(1),
            lines(3) + "line 000004, \n",
            lines(3) + "line 000003, ##\n" + &lines(1),
        ] {
            assert!(arrived(&bad).is_err(), "{bad}");
        }
        assert_eq!(number_before(rest, "in ", " ms\n").unwrap(), 30_123);
    }
}
