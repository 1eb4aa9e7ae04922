//! What goes wrong in a run in turns: by seed, or by script.

use hypercall_abi::{DomId, Errno, HypercallNr, Port};

use crate::core::{chance::Faults, domain_state::Suspend};

/// What goes wrong by script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// A domain is destroyed.
    Destroy(DomId),
    /// The store forgets it.
    RestartStore(DomId),
    /// One of its ports rings.
    Ring(DomId, Port),
    /// A page that it lends to one who writes gets a word of something.
    Corrupt(DomId),
    /// Nobody runs for so many nanoseconds.
    Pause(u64),
    /// It is asked to suspend itself.
    Suspend(DomId, Suspend),
    /// Its next call of this number is refused.
    Refuse(DomId, HypercallNr, Errno),
}

/// How a run in turns goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What fixes the order, and all that is by chance.
    pub seed: u64,
    /// What goes wrong by chance.
    pub faults: Faults,
    /// What goes wrong at the call of this number (of all guests' calls; the first
    /// is 0).
    pub script: Vec<(u64, Mishap)>,
}

impl Plan {
    /// One in which nothing goes wrong.
    pub fn seed(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// With these faults.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// With this, at this call.
    #[must_use]
    pub fn at(mut self, call: u64, mishap: Mishap) -> Self {
        self.script.push((call, mishap));
        self
    }
}
