//! What load is made, in which order, and how it is told: the same for the guest
//! `load`, for Linux, and for whoever reads what they say.
//!
//! A command line has `bench=PHASE,PHASE...`, and may have `ms=N` for the length of
//! a phase (500) and `count=MS` to run each once more while domain 0 counts what is
//! done. A phase is `randread-4k-32` (operation, bytes, depth) on a disk,
//! `udp-echo`, `tcp-echo`, `tcp-out` or `tcp-in` on a network.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod phase;
mod random;
mod samples;

use alloc::{string::String, vec::Vec};
use core::time::Duration;

pub use phase::{Access, Device, Direction, Disk, Network, Order, Phase};
pub use random::Random;
pub use samples::Samples;

/// The server's address, and the guest's.
pub const SERVER: [u8; 4] = [10, 0, 3, 1];
/// The guest's.
pub const GUEST: [u8; 4] = [10, 0, 3, 2];
/// Where the server sends back what it gets.
pub const ECHO_PORT: u16 = 7;
/// Where it throws away what it gets.
pub const SINK_PORT: u16 = 9;
/// Where it sends without an end.
pub const SOURCE_PORT: u16 = 19;
/// Bytes of a message that is sent back.
pub const ECHO_BYTES: usize = 64;
/// The part of the disk that is used.
pub const DISK_BYTES: u64 = 64 << 20;

/// Why a phase is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To see how long things take.
    Measure,
    /// While domain 0 counts what is done.
    Count,
}

impl Purpose {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Measure => "measure",
            Self::Count => "count",
        }
    }

    /// What is said before a phase.
    pub fn announcement(self, phase: &Phase) -> String {
        alloc::format!("bench: begin {} {phase}", self.word())
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    phases: Vec<Phase>,
    measure: Duration,
    count: Option<Duration>,
}

impl Plan {
    /// That of a command line.
    ///
    /// # Errors
    /// Says which word makes no sense.
    pub fn of(command_line: &str) -> Result<Self, String> {
        let value = |name: &str| {
            let mut words = command_line.split_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let length = |name: &str| match value(name) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(ms) => Ok(Some(Duration::from_millis(ms))),
                Err(_) => Err(alloc::format!("{name}={text} is no number")),
            },
        };
        let phases = value("bench").unwrap_or("").split(',');
        let phases = phases.filter(|name| !name.is_empty()).map(str::parse);
        Ok(Self {
            phases: phases.collect::<Result<_, _>>()?,
            measure: length("ms")?.unwrap_or(Duration::from_millis(500)),
            count: length("count")?,
        })
    }

    /// All that is to be run, in its order.
    pub fn steps(&self) -> impl Iterator<Item = (Phase, Purpose)> + '_ {
        let again = self.count.map(|_| Purpose::Count);
        let purposes = core::iter::once(Purpose::Measure).chain(again);
        purposes.flat_map(|purpose| self.phases.iter().map(move |phase| (*phase, purpose)))
    }

    /// How long a phase is run.
    pub fn length(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Measure => self.measure,
            Purpose::Count => self.count.unwrap_or(self.measure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_from_a_command_line() {
        let plan = Plan::of("x bench=randread-4k-1,tcp-in ms=20 count=30").unwrap();
        let steps: Vec<String> = plan
            .steps()
            .map(|(phase, purpose)| purpose.announcement(&phase))
            .collect();
        assert_eq!(
            steps,
            [
                "bench: begin measure randread-4k-1",
                "bench: begin measure tcp-in",
                "bench: begin count randread-4k-1",
                "bench: begin count tcp-in"
            ]
        );
        assert_eq!(plan.length(Purpose::Count), Duration::from_millis(30));
        for wrong in ["bench=randread", "bench=read-5x-1", "bench=read-4k-1 ms=x"] {
            assert!(Plan::of(wrong).is_err(), "{wrong}");
        }
    }
}
