//! Machines that nothing powers off: a guest ends them by a reset.

use anyhow::{Result, ensure};

use crate::{
    checks::matrix::Column,
    job::{Chipset, Job, exit::Ended},
    platforms::run::run,
};

/// What QEMU writes of a reset that no device was asked for.
const TRIPLE_FAULT: &str = "Triple fault";

/// A guest that powers off, and one that dies, end a machine that has a keyboard controller
/// by that, and one that has none by a fault without a handler. Both have nothing but a
/// serial port.
pub(crate) fn check(column: Column) -> Result<()> {
    for (chipset, by_fault) in [(Chipset::PcWithoutAcpi, false), (Chipset::Microvm, true)] {
        for (guest, command_line, said) in [
            ("hello", "", "hello from"),
            ("conformance", "fault=panic", "as the command line wished"),
        ] {
            let job = Job {
                chipset,
                command_line: command_line.to_owned(),
                ..Job::new(guest, column.platform)
            };
            let report = run(&job)?;
            let name = chipset.name();
            ensure!(
                report.ended == Ended::Shutdown(0) && report.console.contains(said),
                "{guest} on {name} ended by {}\n{}",
                report.ended,
                report.console
            );
            ensure!(
                report
                    .hypervisor_log
                    .iter()
                    .any(|line| line == TRIPLE_FAULT)
                    == by_fault,
                "{guest} on {name} ended the machine by another way"
            );
        }
    }
    Ok(())
}
