//! The memory of connections: as much as there is for few, enough for many.

use alloc::vec::Vec;

use super::Config;

/// Bytes that each connection has at least, each way.
const MIN_RX: usize = 2 << 10;
const MIN_TX: usize = 4 << 10;
const LEAST: usize = MIN_RX + MIN_TX;
/// How many times an equal share of what is left a connection gets, if it wants that much:
/// most have few beside them.
const GENEROSITY: usize = 8;

/// What connections may use, and do.
#[derive(Debug)]
pub(super) struct Budget {
    max_connections: usize,
    memory_bytes: usize,
    most: Sizes,
    connections: usize,
    used_bytes: usize,
}

/// Bytes of a connection's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) rx: usize,
    pub(super) tx: usize,
}

impl Budget {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            max_connections: config.connections.min(config.memory_bytes / LEAST),
            memory_bytes: config.memory_bytes,
            most: Sizes {
                // Windows of TCP have their bounds.
                rx: config.rx_bytes.clamp(MIN_RX, 1 << 24),
                tx: config.tx_bytes.clamp(MIN_TX, 1 << 24),
            },
            connections: 0,
            used_bytes: 0,
        }
    }

    /// What the next connection gets; `None`: there is no room for it.
    fn next(&self) -> Option<Sizes> {
        let left = self.max_connections.checked_sub(self.connections)?;
        let free_bytes = self.memory_bytes.checked_sub(self.used_bytes)?;
        // What all that may still come need at least is theirs.
        let extra_bytes = free_bytes.checked_sub(left.saturating_mul(LEAST))?;
        let share = extra_bytes.saturating_mul(GENEROSITY) / left.max(1);
        let share = LEAST.saturating_add(share.min(extra_bytes));
        let rx = (share / 8).clamp(MIN_RX, self.most.rx);
        let tx = (share - rx).clamp(MIN_TX, self.most.tx);
        (left > 0).then_some(Sizes { rx, tx })
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.next().is_some()
    }

    /// The memory of one more connection, which is counted until it is
    /// [given back](Self::give_back); `None`: there is none.
    pub(super) fn take(&mut self) -> Option<(Sizes, Vec<u8>, Vec<u8>)> {
        let sizes = self.next()?;
        let (rx, tx) = (zeroes(sizes.rx)?, zeroes(sizes.tx)?);
        self.connections += 1;
        self.used_bytes += sizes.rx + sizes.tx;
        Some((sizes, rx, tx))
    }

    pub(super) const fn give_back(&mut self, sizes: Sizes) {
        self.connections = self.connections.saturating_sub(1);
        self.used_bytes = self.used_bytes.saturating_sub(sizes.rx + sizes.tx);
    }

    /// Bytes that are in use.
    pub(super) const fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

/// So many bytes; `None`: there is no memory for them.
fn zeroes(len_bytes: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len_bytes).ok()?;
    bytes.resize(len_bytes, 0);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_enough_and_together_not_too_much() {
        for (connections, memory_bytes) in [(256, 4 << 20), (64, 1 << 20), (8, 64 << 10)] {
            let config = Config {
                connections,
                memory_bytes,
                ..Config::default()
            };
            let mut budget = Budget::new(&config);
            let mut all: Vec<Sizes> = Vec::new();
            while let Some((sizes, rx, tx)) = budget.take() {
                assert_eq!((rx.len(), tx.len()), (sizes.rx, sizes.tx));
                assert!(sizes.rx >= MIN_RX && sizes.tx >= MIN_TX, "{sizes:?}");
                // The last few bytes are rounded.
                assert!(all.last().is_none_or(|last| last.tx + 4 >= sizes.tx));
                all.push(sizes);
            }
            assert_eq!(all.len(), connections);
            let sum: usize = all.iter().map(|sizes| sizes.rx + sizes.tx).sum();
            assert!(sum <= memory_bytes && sum == budget.used_bytes(), "{sum}");
            assert!(all[0].tx > 4 * all[connections - 1].tx || all[0].tx < 32 << 10);
            // What one gives back is the next one's.
            budget.give_back(all[0]);
            assert!(budget.has_room());
            assert!(budget.take().is_some());
            assert!(!budget.has_room());
        }
    }

    #[test]
    fn memory_bounds_connections() {
        let config = Config {
            memory_bytes: LEAST * 3 + 1,
            ..Config::default()
        };
        let mut budget = Budget::new(&config);
        assert_eq!(core::iter::from_fn(|| budget.take()).count(), 3);
        let config = Config {
            memory_bytes: 10,
            ..config
        };
        assert!(!Budget::new(&config).has_room());
    }
}
