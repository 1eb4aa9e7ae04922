//! Who waits for which time.

use alloc::collections::BTreeMap;
use core::task::Waker;

use crate::cpu::sync::UpcallMutex;

/// When, and a number that tells those of one time apart.
type Key = (u64, u64);

struct Queue {
    entries: BTreeMap<Key, Waker>,
    last: u64,
}

static QUEUE: UpcallMutex<Queue> = UpcallMutex::new(Queue {
    entries: BTreeMap::new(),
    last: 0,
});

impl Queue {
    fn add(&mut self, at_ns: u64, waker: &Waker) -> Key {
        self.last += 1;
        let key = (at_ns, self.last);
        self.entries.insert(key, waker.clone());
        key
    }
}

/// A place in the queue, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket(Key);

impl Ticket {
    pub(super) fn new(at_ns: u64, waker: &Waker) -> Self {
        Self((at_ns, enter(at_ns, None, waker)))
    }

    /// The task to wake may be another now, and may have been woken already.
    pub(super) fn renew(&self, waker: &Waker) {
        let (at_ns, number) = self.0;
        enter(at_ns, Some(number), waker);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        leave(self.0);
    }
}

/// A place until [`leave`], or news of one that there is; says its number.
pub(super) fn enter(at_ns: u64, number: Option<u64>, waker: &Waker) -> u64 {
    let mut queue = QUEUE.lock();
    let Some(number) = number else {
        return queue.add(at_ns, waker).1;
    };
    let key = (at_ns, number);
    let before = match queue.entries.get_mut(&key) {
        Some(old) if old.will_wake(waker) => None,
        Some(old) => Some(core::mem::replace(old, waker.clone())),
        None => queue.entries.insert(key, waker.clone()),
    };
    drop(queue);
    // Outside of the lock: it may free memory.
    drop(before);
    number
}

/// Gives a place up.
pub(super) fn leave(key: Key) {
    let gone = QUEUE.lock().entries.remove(&key);
    drop(gone);
}

/// A place that nobody gives up: it ends at its time.
pub(super) fn add_detached(at_ns: u64, waker: &Waker) {
    let mut queue = QUEUE.lock();
    let mut same = queue.entries.range((at_ns, 0)..=(at_ns, u64::MAX));
    if !same.any(|(_, other)| other.will_wake(waker)) {
        queue.add(at_ns, waker);
    }
}

/// Wakes those whose time has come, and says when the next one's does.
pub(super) fn expire(now_ns: u64) -> Option<u64> {
    loop {
        let waker = {
            let mut queue = QUEUE.lock();
            let (&(at_ns, _), _) = queue.entries.first_key_value()?;
            if at_ns > now_ns {
                return Some(at_ns);
            }
            queue.entries.pop_first()
        };
        if let Some((_, waker)) = waker {
            waker.wake();
        }
    }
}

/// How many wait for a time.
pub fn waiting() -> usize {
    QUEUE.lock().entries.len()
}
