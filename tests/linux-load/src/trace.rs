//! Xen's own record of what domains do, summed up.
//!
//! Source: `trace.h`.

use std::collections::BTreeMap;

/// What one domain did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Hypercalls, by number.
    pub(crate) hypercalls: BTreeMap<u32, u64>,
    /// Operations of grant table hypercalls: one may have many.
    pub(crate) grant_ops: u64,
    /// Times that a guest with hardware support left its processor to Xen, by the
    /// processor's number for the reason.
    pub(crate) exits: BTreeMap<u32, u64>,
    /// Ticks of the processor in which it ran.
    pub(crate) ran: u64,
    /// Times that it was given a processor.
    pub(crate) entries: u64,
}

impl Sum {
    /// Hypercalls. What those of a guest with hardware support are is not told.
    pub(crate) fn calls(&self) -> u64 {
        let told: u64 = self.hypercalls.values().sum();
        let exits = VMEXIT_CALLS.iter().filter_map(|why| self.exits.get(why));
        told + exits.sum::<u64>()
    }

    /// Times that it left its processor to Xen.
    pub(crate) fn all_exits(&self) -> u64 {
        self.exits.values().sum()
    }
}

const CPU_CHANGE: u32 = 0x1f003;
const LOST: u32 = 0x1f001;
const SWITCH: u32 = 0x2_800a;
const PV_HYPERCALL: u32 = 0x20_100d;
const PV_SUBCALL: u32 = 0x20_200e;
/// With the bit for 64-bit guests cleared.
const VMEXIT: u32 = 0x8_1002;
const VMEXIT64: u32 = 0x8_1103;
/// Why it left, if it made a hypercall: as AMD's processors have it, and Intel's.
const VMEXIT_CALLS: [u32; 2] = [0x81, 18];
const GRANT_TABLE_OP: u32 = 20;
const MULTICALL: u32 = 13;

/// A record of the trace.
struct Record<'a> {
    event: u32,
    tsc: Option<u64>,
    words: &'a [[u8; 4]],
}

impl Record<'_> {
    fn word(&self, index: usize) -> u32 {
        self.words
            .get(index)
            .map_or(0, |word| u32::from_le_bytes(*word))
    }
}

/// What is in a file of xentrace's, between two times.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) domains: BTreeMap<u32, Sum>,
    /// Records that there was no room for.
    pub(crate) lost: u64,
}

impl Trace {
    /// Sums up `file` from `start` to `end`, in ticks of the processor.
    pub(crate) fn read(file: &[u8], start: u64, end: u64) -> Self {
        let mut trace = Self::default();
        // Of each processor: who runs there, since when.
        let mut running: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
        let mut cpu = 0;
        let mut rest = file.as_chunks::<4>().0;
        while let Some((record, behind)) = next(rest) {
            rest = behind;
            let in_time = record.tsc.is_some_and(|tsc| (start..end).contains(&tsc));
            let (now, known) = (record.tsc.unwrap_or(0), running.get(&cpu).copied());
            match record.event {
                CPU_CHANGE => cpu = record.word(0),
                LOST => trace.lost += 1,
                SWITCH => {
                    if let Some((domain, since)) = known {
                        trace.ran(domain, since.max(start), now.min(end));
                    }
                    running.insert(cpu, (record.word(2), now));
                    if in_time {
                        let next = trace.domains.entry(record.word(2));
                        next.or_default().entries += 1;
                    }
                }
                event if in_time => {
                    if let Some((domain, _)) = known {
                        trace
                            .domains
                            .entry(domain)
                            .or_default()
                            .take(event, &record);
                    }
                }
                _ => {}
            }
        }
        for (domain, since) in running.into_values() {
            trace.ran(domain, since.max(start), end);
        }
        trace
    }

    fn ran(&mut self, domain: u32, from: u64, to: u64) {
        self.domains.entry(domain).or_default().ran += to.saturating_sub(from);
    }
}

impl Sum {
    fn take(&mut self, event: u32, record: &Record<'_>) {
        match event {
            PV_HYPERCALL | PV_SUBCALL => {
                let number = record.word(0) & 0xf_ffff;
                // What it consists of is told one by one.
                if number != MULTICALL {
                    *self.hypercalls.entry(number).or_default() += 1;
                }
                if number == GRANT_TABLE_OP {
                    // Behind the number: the operation, and how many.
                    self.grant_ops += u64::from(record.word(2));
                }
            }
            VMEXIT | VMEXIT64 => *self.exits.entry(record.word(0)).or_default() += 1,
            _ => {}
        }
    }
}

/// The first record, and what is behind it.
fn next(words: &[[u8; 4]]) -> Option<(Record<'_>, &[[u8; 4]])> {
    let (header, rest) = words.split_first()?;
    let header = u32::from_le_bytes(*header);
    let (tsc, rest) = match header >> 31 {
        0 => (None, rest),
        _ => {
            let (words, rest) = rest.split_at_checked(2)?;
            let low = u64::from(u32::from_le_bytes(words[0]));
            let high = u64::from(u32::from_le_bytes(words[1]));
            (Some(high << 32 | low), rest)
        }
    };
    let (words, rest) = rest.split_at_checked((header >> 28 & 7) as usize)?;
    let record = Record {
        event: header & 0x0fff_ffff,
        tsc,
        words,
    };
    Some((record, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(event: u32, tsc: u64, words: &[u32]) -> Vec<u8> {
        let header = 1 << 31 | (words.len() as u32) << 28 | event;
        let mut bytes = header.to_le_bytes().to_vec();
        bytes.extend(tsc.to_le_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    #[test]
    fn each_domain_has_what_it_did() {
        let mut file = (2 << 28 | CPU_CHANGE).to_le_bytes().to_vec();
        file.extend([0; 8]);
        for (event, tsc, words) in [
            (SWITCH, 5, &[0, 0, 3, 0][..]),
            (PV_HYPERCALL, 9, &[32]),
            (PV_HYPERCALL, 11, &[20 | 5 << 20, 5, 7]),
            (SWITCH, 15, &[3, 0, 0, 0]),
            (PV_HYPERCALL, 16, &[29]),
            (VMEXIT64, 17, &[0x81, 9]),
            (VMEXIT64, 18, &[0x78, 9]),
            (PV_HYPERCALL, 30, &[29]),
        ] {
            file.extend(record(event, tsc, words));
        }
        let trace = Trace::read(&file, 10, 20);
        let guest = &trace.domains[&3];
        assert_eq!((guest.calls(), guest.grant_ops, guest.ran), (1, 7, 5));
        let host = &trace.domains[&0];
        assert_eq!(host.hypercalls[&29], 1);
        assert_eq!((host.calls(), host.all_exits()), (2, 2));
        assert_eq!(trace.domains[&0].ran, 5);
        // Domain 3 was there before, and domain 0 came in between.
        assert_eq!((guest.entries, host.entries), (0, 1));
    }
}
