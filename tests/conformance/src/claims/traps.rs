//! Exceptions: how they come, and how the guest returns from them.

use pv_guest::{Guest, trap};

use crate::claim::{Group, Verdict, claims, ensure, everywhere};

pub(super) const GROUP: Group = Group {
    name: "traps",
    claims: claims! {
        everywhere(breakpoint_returns): "arch-x86/xen.h: set_trap_table",
    },
};

/// A breakpoint is a trap: it returns behind the instruction.
fn breakpoint_returns(_: &Guest) -> Verdict {
    let before = trap::breakpoints_caught();
    trap::breakpoint();
    ensure(trap::breakpoints_caught() == before + 1, "it was not seen")
}
