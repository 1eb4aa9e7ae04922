//! What may be done to the word of one event of the FIFO interface while Xen
//! does its part: pure steps over one atomic word, so that a model checker can
//! go through all of their interleavings.
//!
//! Source: `event_channel.h`, and Xen's "FIFO-based event channel ABI" design.

use hypercall_abi::{
    event_channel::{
        EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED,
        EVTCHN_FIFO_PENDING,
    },
    peer::PeerPtr,
};

/// The event happened.
pub const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
/// The guest wants no upcall for it.
pub const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
/// It is in a queue.
pub const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;
/// Xen changes the link: it is not to be unmasked just now.
pub const BUSY: u32 = 1 << EVTCHN_FIFO_BUSY;
/// The next event in the queue.
pub const LINK: u32 = EVTCHN_FIFO_LINK_MASK;

/// A word of 32 bits that others change, too.
pub trait EventWord {
    /// Reads it, and what was written before.
    fn load(&self) -> u32;
    /// Replaces it if it is `current`.
    ///
    /// # Errors
    /// What it is instead.
    fn compare_exchange(&self, current: u32, new: u32) -> Result<(), u32>;
    /// Sets bits, and says what it was.
    fn fetch_or(&self, bits: u32) -> u32;
    /// Keeps these bits only, and says what it was.
    fn fetch_and(&self, bits: u32) -> u32;
}

impl EventWord for PeerPtr<'_, u32> {
    fn load(&self) -> u32 {
        self.load_acquire().trust()
    }
    fn compare_exchange(&self, current: u32, new: u32) -> Result<(), u32> {
        PeerPtr::compare_exchange(*self, current, new).map_err(|found| found.trust())
    }
    fn fetch_or(&self, bits: u32) -> u32 {
        PeerPtr::fetch_or(*self, bits).trust()
    }
    fn fetch_and(&self, bits: u32) -> u32 {
        PeerPtr::fetch_and(*self, bits).trust()
    }
}

/// Clears the pending bit, and says whether it was set.
pub fn clear_pending(word: &impl EventWord) -> bool {
    word.fetch_and(!PENDING) & PENDING != 0
}

/// Sets the mask, and says whether it was there.
pub fn mask(word: &impl EventWord) -> bool {
    word.fetch_or(MASKED) & MASKED != 0
}

/// An upcall's: masks and clears an event, unless somebody has masked it meanwhile,
/// who looks for it then.
pub fn claim(word: &impl EventWord) -> bool {
    let ours = !mask(word);
    if ours {
        let _was = clear_pending(word);
    }
    ours
}

/// Takes the mask away if nothing is pending; else Xen must be asked to, for it
/// has to put the event into its queue: false.
#[must_use]
pub fn unmask_if_quiet(word: &impl EventWord) -> bool {
    let mut old = word.load();
    loop {
        if old & MASKED == 0 {
            return true;
        }
        if old & PENDING != 0 {
            return false;
        }
        // While Xen is busy with the link the exchange fails, and is tried
        // again.
        old &= !BUSY;
        match word.compare_exchange(old, old & !MASKED) {
            Ok(()) => return true,
            Err(found) => old = found,
        }
    }
}

/// Takes an event out of its queue, and says which one is next (0: none).
pub fn unlink(word: &impl EventWord) -> u32 {
    let mut old = word.load();
    loop {
        match word.compare_exchange(old, old & !(LINKED | LINK)) {
            Ok(()) => return old & LINK,
            Err(found) => old = found,
        }
    }
}

/// A word of 64 bits of the 2-level interface, which others change, too.
pub trait BitsWord {
    /// Reads it, and what was written before.
    fn load(&self) -> u64;
    /// Sets bits, and says what it was.
    fn fetch_or(&self, bits: u64) -> u64;
    /// Keeps these bits only, and says what it was.
    fn fetch_and(&self, bits: u64) -> u64;
    /// Orders what this side wrote before what it reads next.
    fn fence(&self) {
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }
}

impl BitsWord for PeerPtr<'_, u64> {
    fn load(&self) -> u64 {
        self.load_acquire().trust()
    }
    fn fetch_or(&self, bits: u64) -> u64 {
        PeerPtr::fetch_or(*self, bits).trust()
    }
    fn fetch_and(&self, bits: u64) -> u64 {
        PeerPtr::fetch_and(*self, bits).trust()
    }
}

/// [`claim`], for the 2-level interface: its bit in each of two words.
pub fn claim_bit(pending: &impl BitsWord, mask: &impl BitsWord, bit: u64) -> bool {
    let ours = mask.fetch_or(bit) & bit == 0;
    if ours {
        let _before = pending.fetch_and(!bit);
    }
    ours
}

/// [`unmask_if_quiet`], for the 2-level interface: its bit in each of two
/// words.
#[must_use]
pub fn unmask_bit_if_quiet(pending: &impl BitsWord, mask: &impl BitsWord, bit: u64) -> bool {
    if pending.load() & bit != 0 {
        return false;
    }
    let before = mask.fetch_and(!bit);
    // Xen sets the pending bit, then looks at the mask; we the other way round.
    mask.fence();
    if before & bit != 0 && pending.load() & bit != 0 {
        // It came in between, and may have seen the mask.
        let _before = mask.fetch_or(bit);
        return false;
    }
    true
}
