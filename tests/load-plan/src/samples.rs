//! What was measured.

use alloc::{format, string::String, vec::Vec};

use crate::{Phase, Purpose};

/// How long operations took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    latencies_ns: Vec<u32>,
    bytes: u64,
}

impl Samples {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            latencies_ns: Vec::new(),
            bytes: 0,
        }
    }

    /// An operation that was done: how long it took, and what it moved.
    pub fn add(&mut self, latency_ns: u64, bytes: usize) {
        self.latencies_ns
            .push(latency_ns.try_into().unwrap_or(u32::MAX));
        self.bytes += bytes as u64;
    }

    /// Takes those of another, too.
    pub fn join(&mut self, other: Self) {
        self.latencies_ns.extend(other.latencies_ns);
        self.bytes += other.bytes;
    }

    /// The line that tells all.
    pub fn report(mut self, purpose: Purpose, phase: &Phase, elapsed_ns: u64) -> String {
        self.latencies_ns.sort_unstable();
        let count = self.latencies_ns.len();
        let at = |percent: usize| {
            let index = (count * percent / 100).min(count.saturating_sub(1));
            self.latencies_ns.get(index).copied().unwrap_or(0)
        };
        format!(
            "bench: {} {phase} ns={elapsed_ns} ops={count} bytes={} p50={} p99={}",
            purpose.word(),
            self.bytes,
            at(50),
            at(99)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_what_was_measured() {
        let mut samples = Samples::new();
        for latency in (1..=200).rev() {
            samples.add(latency, 10);
        }
        assert_eq!(
            samples.report(Purpose::Measure, &"udp-echo".parse().unwrap(), 7),
            "bench: measure udp-echo ns=7 ops=200 bytes=2000 p50=101 p99=199"
        );
    }
}
