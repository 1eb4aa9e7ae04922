//! The indices of a ring while both sides change them: pure steps over words,
//! so that a model checker can go through all of their interleavings.
//!
//! Source: `RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`,
//! `RING_FINAL_CHECK_FOR_RESPONSES` and their mirrors, `io/ring.h`.

use core::sync::atomic::{Ordering, fence};

use crate::peer::PeerWord;

/// An index that the other side reads or writes.
pub trait Index {
    /// Reads it; what was written before it can be read after.
    fn load(&self) -> u32;
    /// Writes it, after all that was written before.
    fn store(&self, value: u32);
    /// Orders what this side wrote before what it reads next.
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

impl Index for PeerWord<'_, u32> {
    #[inline]
    fn load(&self) -> u32 {
        self.load_acquire().trust()
    }
    #[inline]
    fn store(&self, value: u32) {
        self.store_release(value);
    }
}

/// The other side wrote an index that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl core::fmt::Display for Broken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the other side of a ring wrote an impossible index")
    }
}

impl core::error::Error for Broken {}

/// What the other side is to be told about what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Notify {
    /// That there is something: it sleeps.
    Yes,
    /// Nothing: it looks by itself.
    No,
}

/// Makes the slots from `old` to `new` known.
#[inline]
pub fn publish(producer: &impl Index, event: &impl Index, old: u32, new: u32) -> Notify {
    producer.store(new);
    // The other side first asks to be told and then looks: whatever it misses
    // here, its wish is seen.
    producer.fence();
    if new.wrapping_sub(event.load()) < new.wrapping_sub(old) {
        Notify::Yes
    } else {
        Notify::No
    }
}

/// How many slots the other side has published beyond `consumed`.
///
/// # Errors
/// More than the `most` that there can be.
#[inline]
pub fn published(producer: &impl Index, consumed: u32, most: u32) -> Result<u32, Broken> {
    let count = producer.load().wrapping_sub(consumed);
    if count > most { Err(Broken) } else { Ok(count) }
}

/// Asks to be told of the next slot, and then looks once more: whether there is
/// one already.
#[inline]
pub fn listen(producer: &impl Index, event: &impl Index, consumed: u32) -> bool {
    listen_for(producer, event, consumed, 1)
}

/// Asks to be told when `count` more slots are there (one at least), and then looks once
/// more: whether they are already.
#[inline]
pub fn listen_for(producer: &impl Index, event: &impl Index, consumed: u32, count: u32) -> bool {
    let count = count.max(1);
    event.store(consumed.wrapping_add(count));
    event.fence();
    producer.load().wrapping_sub(consumed) >= count
}
