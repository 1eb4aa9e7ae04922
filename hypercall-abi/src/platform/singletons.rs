//! What a domain has one of.

use core::sync::atomic::{AtomicU8, Ordering};

/// Something of which a domain has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Singleton {
    /// Its grant table: two managers would give out the same references.
    GrantTable,
    /// Its event channels: two managers would take each other's events.
    EventChannels,
}

impl Singleton {
    const fn bit(self) -> u8 {
        match self {
            Self::GrantTable => 1 << 0,
            Self::EventChannels => 1 << 1,
        }
    }
}

/// Which [`Singleton`]s of a domain are taken.
///
/// Whoever manages one takes it first, and so is alone with it: without this, a safe
/// function that makes a manager could make two.
///
/// ```
/// use hypercall_abi::platform::{Singleton, Singletons};
///
/// let singletons = Singletons::new();
/// assert!(singletons.take(Singleton::GrantTable));
/// assert!(!singletons.take(Singleton::GrantTable), "somebody has it");
/// assert!(singletons.take(Singleton::EventChannels));
/// ```
#[derive(Debug, Default)]
pub struct Singletons(AtomicU8);

impl Singletons {
    /// All are there to be taken.
    pub const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Takes one, and says whether nobody had it.
    #[must_use]
    pub fn take(&self, singleton: Singleton) -> bool {
        let bit = singleton.bit();
        self.0.fetch_or(bit, Ordering::Acquire) & bit == 0
    }

    /// Whether somebody has it.
    pub fn is_taken(&self, singleton: Singleton) -> bool {
        self.0.load(Ordering::Relaxed) & singleton.bit() != 0
    }

    /// Gives one back.
    ///
    /// # Safety
    /// The caller took it, does not use it any more, and it is as it was: the hypervisor
    /// and peers know nothing of what the caller did with it.
    pub unsafe fn give_back(&self, singleton: Singleton) {
        self.0.fetch_and(!singleton.bit(), Ordering::Release);
    }
}
