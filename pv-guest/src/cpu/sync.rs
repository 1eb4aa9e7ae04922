//! Locks for what both the kernel and its upcalls use.
//!
//! Holds of upcalls are counted, for the vCPU that this kernel runs on: they are
//! let through when the last hold ends, whichever that is. So guards may be
//! dropped in any order, and one that is dropped within a critical section opens
//! nothing there.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use lock_api::{GuardNoSend, RawMutex};

#[cfg(not(target_os = "none"))]
use super::hosted::{mask, unmask};
#[cfg(target_os = "none")]
use super::mask::{mask, unmask};

/// Whether upcalls come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upcalls {
    Open,
    Held,
}

/// The holds of upcalls on a vCPU.
#[derive(Debug)]
struct Holds {
    count: AtomicU32,
    /// Upcalls came when the first of them began, and come again after the last.
    were_open: AtomicBool,
}

/// Those of the vCPU that runs this kernel.
static HOLDS: Holds = Holds {
    count: AtomicU32::new(0),
    were_open: AtomicBool::new(false),
};

impl Holds {
    /// Counts one more, and returns how many there were.
    fn push(&self) -> u32 {
        if cfg!(target_os = "none") {
            // Nothing else runs on this vCPU: no bus has to be locked.
            let count = self.count.load(Ordering::Relaxed);
            self.count.store(count.saturating_add(1), Ordering::Relaxed);
            return count;
        }
        self.count.fetch_add(1, Ordering::AcqRel)
    }

    /// Counts one less, and returns how many are left.
    fn pop(&self) -> u32 {
        if cfg!(target_os = "none") {
            let left = self.count.load(Ordering::Relaxed).saturating_sub(1);
            self.count.store(left, Ordering::Relaxed);
            return left;
        }
        self.count.fetch_sub(1, Ordering::AcqRel).saturating_sub(1)
    }
}

/// Holds upcalls back until [`release`], and returns whether they came until now.
#[inline(never)]
pub(crate) fn hold() -> Upcalls {
    // First: an upcall in between would count holds of its own.
    let before = mask();
    let nested = HOLDS.push() > 0;
    if !nested {
        HOLDS
            .were_open
            .store(before == Upcalls::Open, Ordering::Relaxed);
    }
    debug_assert!(
        !nested || before == Upcalls::Held,
        "upcalls were let through while they were held back"
    );
    before
}

/// Ends a hold; with the last one, upcalls come if they came before the first.
#[inline(never)]
pub(crate) fn release() {
    if HOLDS.pop() == 0 && HOLDS.were_open.load(Ordering::Relaxed) {
        unmask();
    }
}

/// Lets upcalls through from now on; if they are held back, when that ends.
pub(crate) fn open() {
    if HOLDS.count.load(Ordering::Relaxed) == 0 {
        unmask();
    } else {
        HOLDS.were_open.store(true, Ordering::Relaxed);
    }
}

/// Whether the caller of this function, who has a hold, is the only one.
#[cfg(target_os = "none")]
pub(crate) fn is_only_hold() -> bool {
    HOLDS.count.load(Ordering::Relaxed) == 1
}

/// Runs `sleep`, which lets upcalls through and returns with them held back or not;
/// they are held back afterwards. The caller's is the only hold.
#[cfg(target_os = "none")]
pub(crate) fn suspend_hold(sleep: impl FnOnce()) {
    let were_open = HOLDS.were_open.load(Ordering::Relaxed);
    // An upcall in the sleep is held back by nobody.
    HOLDS.count.store(0, Ordering::Relaxed);
    sleep();
    let _open = mask();
    HOLDS.count.store(1, Ordering::Relaxed);
    HOLDS.were_open.store(were_open, Ordering::Relaxed);
}

/// A spin lock that holds upcalls back while it is locked: what an upcall uses
/// is never locked when it comes.
#[derive(Debug)]
pub struct RawUpcallMutex(AtomicBool);

// SAFETY: only one `swap` from false succeeds until the next unlock.
unsafe impl RawMutex for RawUpcallMutex {
    const INIT: Self = Self(AtomicBool::new(false));
    // The holds that are counted are those of one vCPU.
    type GuardMarker = GuardNoSend;

    // Not inlined: of many places of use, few are hot.
    #[inline(never)]
    fn lock(&self) {
        while !self.try_lock() {
            core::hint::spin_loop();
        }
    }

    fn try_lock(&self) -> bool {
        let _before = hold();
        let taken = !self.0.swap(true, Ordering::Acquire);
        if !taken {
            release();
        }
        taken
    }

    #[inline(never)]
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
        release();
    }
}

/// A mutex that holds upcalls back while it is locked.
pub type UpcallMutex<T> = lock_api::Mutex<RawUpcallMutex, T>;
