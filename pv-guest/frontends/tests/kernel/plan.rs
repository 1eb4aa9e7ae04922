//! What befalls the guests of a seed.

use hypercall_abi::DomId;
use mock_hypervisor::{Faults, Mishap, Plan, Suspend};

/// Whether the guest of this seed goes on elsewhere.
pub(crate) const fn moves(seed: u64) -> bool {
    seed.is_multiple_of(4)
}

/// Faults; and one `domid` in four goes on elsewhere, twice if it lives so long. That one
/// has room: a guest that finds none there cannot go on.
pub(crate) fn plan(seed: u64, faults: Faults, domid: DomId) -> Plan {
    let plan = Plan::seed(seed);
    if !moves(seed) {
        return plan.with_faults(faults);
    }
    let moved = Mishap::Suspend(domid, Suspend::Moved);
    let faults = Faults {
        no_room: 0,
        ..faults
    };
    plan.with_faults(faults)
        .at(50 + seed % 300, moved)
        .at(400 + seed % 700, moved)
}
