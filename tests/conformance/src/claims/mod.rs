//! The claims. Each names the header that makes it.

mod basics;
mod events;
mod grants;
mod store;
mod time;

use pv_guest::Guest;

use crate::Verdict;

pub(crate) type Claim = (&'static str, fn(&Guest) -> Verdict);

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Claim> {
    let mechanisms = events::ALL.iter().chain(grants::ALL).chain(store::ALL);
    basics::ALL.iter().chain(mechanisms).chain(time::ALL)
}

fn check(holds: bool, why: &'static str) -> Verdict {
    if holds {
        Verdict::Ok
    } else {
        Verdict::Failed(why)
    }
}

/// A claim of several steps, the first of which that fails says why.
fn steps(claim: impl FnOnce() -> Result<(), &'static str>) -> Verdict {
    match claim() {
        Ok(()) => Verdict::Ok,
        Err(why) => Verdict::Failed(why),
    }
}

/// That one step holds.
fn ensure(holds: bool, why: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(why) }
}

/// Why a claim about Xen cannot be tried, where there is no Xen.
const NO_XEN: &str = "no Xen";

macro_rules! needs_xen {
    ($guest:expr) => {
        if $guest.guest_type() == GuestType::Bare {
            return Skipped(NO_XEN);
        }
    };
}
use needs_xen;

/// A time in which an event that was sent must have come.
const WAIT_NS: u64 = 1_000_000_000;
