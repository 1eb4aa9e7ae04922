//! What a start costs does not depend on how much memory there is, and a line is one event.

use anyhow::{Context, Result, ensure};

use crate::{
    job::{Job, Platform, Tools, exit::Ended},
    platforms::run::run,
    say::say,
};

/// The least is what the domain builder maps.
const MEMORY_MIB: [u32; 3] = [4, 64, 512];
/// The entries of the table that has the code's, those of tables above, the pages below
/// stacks, and the shared page.
const MAX_ENTRIES: u64 = 512 + 8;

/// Counts what a guest that says one line has Xen do to its page tables, and the events
/// that it sends.
pub(crate) fn check() -> Result<()> {
    let mut first = None;
    for memory_mib in MEMORY_MIB {
        let job = Job {
            memory_mib,
            tools: Tools {
                trace: vec!["hypercalls".to_owned()],
                virtual_time: true,
                ..Tools::default()
            },
            ..Job::new("hello", Platform::User)
        };
        let report = run(&job)?;
        ensure!(
            report.ended == Ended::Shutdown(0),
            "hello in {memory_mib} MiB ended by {}",
            report.ended
        );
        let cost = Cost::of(&report.console).context("a call without its arguments")?;
        ensure!(
            (1..=MAX_ENTRIES).contains(&cost.entries),
            "{memory_mib} MiB: {cost:?}, more than {MAX_ENTRIES} entries, or none"
        );
        ensure!(
            cost.events == 1,
            "{memory_mib} MiB: {cost:?}, where a line is one event"
        );
        ensure!(
            *first.get_or_insert(cost) == cost,
            "{memory_mib} MiB: {cost:?}, and {:?} in {} MiB",
            first,
            MEMORY_MIB[0]
        );
        say!("hello starts in {memory_mib} MiB by {cost:?}");
    }
    Ok(())
}

/// What a story tells of calls for page tables, and of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    /// The calls.
    calls: u64,
    /// The entries that were written.
    entries: u64,
    /// The events that were sent.
    events: u64,
}

impl Cost {
    fn of(story: &str) -> Option<Self> {
        let mut cost = Self::default();
        for line in story.lines() {
            if line.contains("event_channel_op send(") {
                cost.events += 1;
            } else if line.contains("update_va_mapping(") {
                cost.calls += 1;
                cost.entries += 1;
            } else if let Some((_, arguments)) = line.split_once("mmu_update(") {
                let count = arguments.split(", ").nth(1)?.strip_prefix("0x")?;
                cost.calls += 1;
                cost.entries += u64::from_str_radix(count, 16).ok()?;
            }
        }
        Some(cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_as_the_story_tells_them() {
        let story = "  1 us  v0  mmu_update(0x40132848, 0x1fe, 0x4013488c, 0x7ff0) = 0\n\
                     hello from PV\n\
                     2 us  v0  event_channel_op send(0x40136780) = 0\n\
                     2 us  v0  update_va_mapping(0x40112000, 0x8000000120050027, 0x2) = 0\n";
        let cost = Cost {
            calls: 2,
            entries: 0x1ff,
            events: 1,
        };
        assert_eq!(Cost::of(story), Some(cost));
        assert_eq!(Cost::of("mmu_update(nothing)"), None);
    }
}
