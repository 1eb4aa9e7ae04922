//! Command lines that are no text, or longer than what hands them over keeps.

use anyhow::{Result, ensure};

use crate::{
    checks::matrix::Column,
    job::{Job, Platform, exit::Ended},
    platforms::run::run,
};

/// Bytes of a command line that reach a guest: of PV's, what there is room for beside its
/// NUL in the start information; of PVH's, what the guest's own crate reads.
const PV_BYTES: usize = 1023;
const PVH_BYTES: usize = 4096;

/// A guest with a line that has a byte which is no UTF-8, and one whose line ends within a
/// character: each starts, has all that came, and knows whether that is all.
pub(crate) fn check(column: Column) -> Result<()> {
    let max_bytes = match column.platform {
        Platform::XenPvh => PVH_BYTES,
        _ => PV_BYTES,
    };
    let odd = b"first=1 odd=a\xffb last=2";
    let said = start(column, odd)?;
    let told = tell(&String::from_utf8_lossy(odd));
    ensure!(said.contains(&told), "no {told:?} in\n{said}");
    ensure!(!said.contains(CUT), "nothing is missing:\n{said}");

    let kept = cut_within_a_character(max_bytes);
    let said = start(column, format!("{kept}\u{e4} behind=1").as_bytes())?;
    let told = tell(&format!("{kept}\u{fffd}"));
    ensure!(said.contains(&told), "no {told:?} in\n{said}");
    ensure!(said.contains(CUT), "nobody says that it was cut:\n{said}");
    Ok(())
}

/// What the guest says of a line that may go on.
const CUT: &str = "its end may be missing";

/// How the guest shows its line.
fn tell(line: &str) -> String {
    format!("command line  {line:?}\n")
}

/// Words of which `max_bytes` keep all and the first byte of what follows.
fn cut_within_a_character(max_bytes: usize) -> String {
    let mut line = String::new();
    for number in 0.. {
        let word = format!("word{number}={number} ");
        if line.len() + word.len() >= max_bytes {
            break;
        }
        line.push_str(&word);
    }
    line.extend(std::iter::repeat_n('x', max_bytes - 1 - line.len()));
    line
}

/// Starts a guest with such a line, and returns what it said.
fn start(column: Column, line: &[u8]) -> Result<String> {
    let job = Job {
        xen: column.xen,
        // The last of two settings counts.
        xl: vec![[b"cmdline=\"", line, b"\""].concat()],
        ..Job::new("tour", column.platform)
    };
    let report = run(&job)?;
    ensure!(
        report.ended == Ended::Shutdown(0),
        "the guest ended by {}\n{}",
        report.ended,
        report.console
    );
    Ok(report.console)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_of_the_last_character_is_kept() {
        for max_bytes in [PV_BYTES, PVH_BYTES] {
            let line = cut_within_a_character(max_bytes);
            assert_eq!(line.len(), max_bytes - 1);
            assert!(line.starts_with("word0=0 word1=1 "));
        }
    }
}
