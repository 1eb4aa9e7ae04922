//! Taking a grant back while the peer may begin to use it: pure steps over the
//! words of an entry, so that a model checker can go through all of their
//! interleavings.
//!
//! Source: `grant_table.h`, "Invalidating an unused GTF_permit_access entry".

use core::sync::atomic::{Ordering, fence};

use hypercall_abi::{grant_table::entry::GrantFlags, peer::PeerPtr};

/// The bits that Xen sets while the grant is used.
pub const USED: u16 = GrantFlags::READING.bits() | GrantFlags::WRITING.bits();

/// A word of 16 bits that Xen changes, too.
pub trait FlagsWord {
    /// Reads it.
    fn load(&self) -> u16;
    /// Writes it, after all that was written before.
    fn store(&self, value: u16);
    /// Replaces it if it is `current`.
    ///
    /// # Errors
    /// What it is instead.
    fn compare_exchange(&self, current: u16, new: u16) -> Result<(), u16>;
    /// Orders what this side wrote before what it reads next.
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

impl FlagsWord for PeerPtr<'_, u16> {
    fn load(&self) -> u16 {
        self.load_acquire().trust()
    }
    fn store(&self, value: u16) {
        self.store_release(value);
    }
    fn compare_exchange(&self, current: u16, new: u16) -> Result<(), u16> {
        PeerPtr::compare_exchange(*self, current, new).map_err(|found| found.trust())
    }
}

/// Ends a grant of version 1: false if it is used.
#[must_use]
pub fn revoke_v1(flags: &impl FlagsWord) -> bool {
    let mut old = flags.load();
    loop {
        if old & USED != 0 {
            return false;
        }
        match flags.compare_exchange(old, 0) {
            Ok(()) => return true,
            Err(found) => old = found,
        }
    }
}

/// Ends a grant of version 2: no use begins any more; false if one goes on.
#[must_use]
pub fn revoke_v2(flags: &impl FlagsWord, status: &impl FlagsWord) -> bool {
    flags.store(0);
    flags.fence();
    status.load() & USED == 0
}
