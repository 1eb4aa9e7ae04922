//! How long to wait before something that was refused is tried again.

use core::time::Duration;

/// How often something may go wrong in a row before that costs a pause.
const FORGIVEN: u32 = 2;

/// Refusals in a row, and when the next try is due: twice as long after each.
#[derive(Debug)]
pub(super) struct Backoff {
    first_ns: u64,
    max_ns: u64,
    failures: u32,
    next_ns: u64,
}

impl Backoff {
    pub(super) const fn new(first: Duration, max: Duration) -> Self {
        Self {
            first_ns: first.as_nanos() as u64,
            max_ns: max.as_nanos() as u64,
            failures: 0,
            next_ns: 0,
        }
    }

    /// It was refused once more.
    pub(super) fn fail(&mut self, now_ns: u64) {
        let pause_ns = self.first_ns.saturating_mul(1 << self.failures.min(30));
        self.failures = self.failures.saturating_add(1);
        self.next_ns = now_ns.saturating_add(pause_ns.min(self.max_ns));
    }

    /// It went wrong, which happens once or twice without anything being wrong: the first
    /// [`FORGIVEN`] in a row are tried again at once.
    pub(super) fn fail_lightly(&mut self, now_ns: u64) {
        if self.failures < FORGIVEN {
            self.failures += 1;
        } else {
            self.fail(now_ns);
        }
    }

    /// It was not refused.
    pub(super) const fn reset(&mut self) {
        (self.failures, self.next_ns) = (0, 0);
    }

    /// Refusals in a row.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next try is due; `None`: it is.
    pub(super) fn due_ns(&self, now_ns: u64) -> Option<u64> {
        (now_ns < self.next_ns).then_some(self.next_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(backoff.due_ns(0), None);
        let mut now_ns = 5;
        for pause_s in [1, 2, 4, 8, 16, 32, 60, 60] {
            backoff.fail(now_ns);
            let next_ns = now_ns + pause_s * 1_000_000_000;
            assert_eq!(backoff.due_ns(now_ns), Some(next_ns));
            assert_eq!(backoff.due_ns(next_ns), None);
            now_ns = next_ns;
        }
        for _ in 0..100 {
            backoff.fail(now_ns);
        }
        assert_eq!(backoff.failures(), 108);
        assert_eq!(backoff.due_ns(now_ns), Some(now_ns + 60_000_000_000));
        backoff.fail(u64::MAX - 1);
        assert_eq!(backoff.due_ns(u64::MAX - 1), Some(u64::MAX));
        backoff.reset();
        assert_eq!((backoff.failures(), backoff.due_ns(0)), (0, None));
    }

    #[test]
    fn what_happens_once_costs_no_pause() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for _ in 0..FORGIVEN {
            backoff.fail_lightly(5);
            assert_eq!(backoff.due_ns(5), None);
        }
        backoff.fail_lightly(5);
        assert_eq!(backoff.due_ns(5), Some(4_000_000_005));
        assert_eq!(backoff.failures(), FORGIVEN + 1);
    }
}
