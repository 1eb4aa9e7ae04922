//! Lists of references, without locks: a stack whose links lie beside the
//! table, and whose head carries a count that no two states share.

use core::sync::atomic::{AtomicU32, Ordering};

/// What a list needs of its memory.
pub trait Links {
    /// The reference behind `gref`; 0: none.
    fn next(&self, gref: u32) -> u32;
    /// Sets it.
    fn set_next(&self, gref: u32, next: u32);
}

/// The head: 32 bits of reference, 32 bits of count.
pub trait Head {
    /// Reads it.
    fn load(&self) -> u64;
    /// Replaces it if it is `current`.
    ///
    /// # Errors
    /// What it is instead.
    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64>;
}

impl Head for core::sync::atomic::AtomicU64 {
    fn load(&self) -> u64 {
        self.load(Ordering::Acquire)
    }
    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64> {
        self.compare_exchange_weak(current, new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }
}

const COUNT: u64 = 1 << 32;

const fn gref_of(head: u64) -> u32 {
    head as u32
}

/// The next state's head: another count, and this reference.
const fn with(head: u64, gref: u32) -> u64 {
    (head.wrapping_add(COUNT) & !(COUNT - 1)) | gref as u64
}

/// Takes a reference.
pub fn pop(head: &impl Head, links: &impl Links) -> Option<u32> {
    let mut old = head.load();
    loop {
        let gref = gref_of(old);
        if gref == 0 {
            return None;
        }
        // It may be taken by another meanwhile, and the link be anything: then
        // the count is another one, too.
        match head.compare_exchange(old, with(old, links.next(gref))) {
            Ok(()) => return Some(gref),
            Err(found) => old = found,
        }
    }
}

/// Gives a reference back.
pub fn push(head: &impl Head, links: &impl Links, gref: u32) {
    let mut old = head.load();
    loop {
        links.set_next(gref, gref_of(old));
        match head.compare_exchange(old, with(old, gref)) {
            Ok(()) => return,
            Err(found) => old = found,
        }
    }
}

/// A list, and how long it is.
#[derive(Debug, Default)]
pub(crate) struct List {
    head: core::sync::atomic::AtomicU64,
    len: AtomicU32,
}

impl List {
    pub(crate) fn pop(&self, links: &impl Links) -> Option<u32> {
        let gref = pop(&self.head, links)?;
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(gref)
    }

    pub(crate) fn push(&self, links: &impl Links, gref: u32) {
        // Counted first: the length never falls below zero.
        self.len.fetch_add(1, Ordering::Relaxed);
        push(&self.head, links, gref);
    }

    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }
}
