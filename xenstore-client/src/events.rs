//! The events of a watch that wait to be taken: bounded, and never silently lost.

use alloc::{collections::VecDeque, string::String, sync::Arc, vec::Vec};

/// Whether a watch tells one path twice before the first was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeats {
    /// Every event as it came.
    #[default]
    Keep,
    /// Events for a path that waits to be taken already are left out.
    Merge,
}

/// The most events of one watch that wait to be taken.
pub const MAX_EVENTS: usize = 1024;
/// The most memory that they take, with [`EVENT_BYTES`] for each beside its path.
pub const MAX_EVENT_BYTES: usize = 128 << 10;
/// The most memory that the waiting events of all watches of a connection take.
pub const MAX_ALL_EVENT_BYTES: usize = 512 << 10;
/// What an event takes beside its path.
pub const EVENT_BYTES: usize = 64;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits, or one that says the same or more does.
    Waits,
    /// There is no room for it: the queue has to collapse.
    Over,
}

/// A queue of events.
///
/// One that would grow beyond its bounds collapses into a single event, for the watched
/// path itself: it says that anything at or below the path may have changed, so whoever
/// takes it has to look at everything. Until it is taken it stands for all events that come.
#[derive(Debug)]
pub(crate) struct Events {
    repeats: Repeats,
    queue: VecDeque<Arc<str>>,
    /// The paths in the queue, sorted, where repeated ones are merged.
    waiting: Vec<Arc<str>>,
    bytes: usize,
    collapsed: bool,
}

const fn cost(path: &str) -> usize {
    path.len() + EVENT_BYTES
}

impl Events {
    pub(crate) const fn new(repeats: Repeats) -> Self {
        Self {
            repeats,
            queue: VecDeque::new(),
            waiting: Vec::new(),
            bytes: 0,
            collapsed: false,
        }
    }

    /// How much memory those take that wait. An event that stands for all counts as none:
    /// it is no longer than what the watch keeps anyway.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn place_of(&self, path: &str) -> Result<usize, usize> {
        self.waiting.binary_search_by(|other| (**other).cmp(path))
    }

    /// Adds an event.
    pub(crate) fn push(&mut self, path: &str) -> Pushed {
        // Where it is to be in a sorted list, unless it is there.
        let place = match self.repeats {
            Repeats::Keep => None,
            Repeats::Merge => Some(self.place_of(path)),
        };
        if self.collapsed || matches!(place, Some(Ok(_))) {
            return Pushed::Waits;
        }
        if self.queue.len() >= MAX_EVENTS || self.bytes + cost(path) > MAX_EVENT_BYTES {
            return Pushed::Over;
        }
        let path: Arc<str> = path.into();
        if let Some(Err(place)) = place {
            self.waiting.insert(place, Arc::clone(&path));
        }
        self.bytes += cost(&path);
        self.queue.push_back(path);
        Pushed::Waits
    }

    /// All events become one for `path`, which is watched.
    pub(crate) fn collapse(&mut self, path: &str) {
        // The memory of the queue, too, is given back.
        self.queue = VecDeque::from([path.into()]);
        self.waiting = Vec::new();
        self.bytes = 0;
        self.collapsed = true;
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<String> {
        let path = self.queue.pop_front()?;
        if core::mem::take(&mut self.collapsed) {
            return Some((*path).into());
        }
        if let Ok(place) = self.place_of(&path) {
            self.waiting.remove(place);
        }
        self.bytes -= cost(&path);
        Some((*path).into())
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use super::*;

    fn all(events: &mut Events) -> Vec<String> {
        core::iter::from_fn(|| events.pop()).collect()
    }

    #[test]
    fn repeated_paths_are_kept_or_merged() {
        for (repeats, taken) in [
            (Repeats::Keep, &["a", "b", "a"][..]),
            (Repeats::Merge, &["a", "b"]),
        ] {
            let mut events = Events::new(repeats);
            // Merged only while the first waits.
            for _ in 0..2 {
                for path in ["a", "b", "a"] {
                    assert_eq!(events.push(path), Pushed::Waits);
                }
                assert_eq!(all(&mut events), taken);
                assert_eq!(events.bytes(), 0);
            }
        }
    }

    #[test]
    fn too_many_collapse_and_none_is_lost() {
        for repeats in [Repeats::Keep, Repeats::Merge] {
            let mut events = Events::new(repeats);
            for index in 0..MAX_EVENTS {
                assert_eq!(events.push(&format!("{index}")), Pushed::Waits);
            }
            assert_eq!(events.push("x"), Pushed::Over);
            events.collapse("home");
            assert_eq!(events.bytes(), 0);
            // It stands for those that come before it is taken, and for no later one.
            assert_eq!(events.push("x"), Pushed::Waits);
            assert_eq!(all(&mut events), ["home"]);
            for later in ["x", "0"] {
                assert_eq!(events.push(later), Pushed::Waits);
                assert_eq!(all(&mut events), [later]);
            }
        }
    }

    #[test]
    fn long_paths_are_bounded_by_their_bytes() {
        let mut events = Events::new(Repeats::Keep);
        let path = "a".repeat(3000);
        let count = (0..).take_while(|_| events.push(&path) == Pushed::Waits);
        assert_eq!(count.count(), MAX_EVENT_BYTES / (3000 + EVENT_BYTES));
        assert!(events.bytes() <= MAX_EVENT_BYTES);
    }
}
