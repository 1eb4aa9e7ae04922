//! The system time and the wall clock.

use hypercall_abi::platform::Clock;
use pv_guest::Guest;

use crate::claim::{Group, Verdict, claims, ensure, everywhere, skip};

pub(super) const GROUP: Group = Group {
    name: "clocks",
    claims: claims! {
        everywhere(clock_goes_on_and_never_back): "xen.h: vcpu_time_info",
        everywhere(wall_clock_is_in_this_century): "xen.h: shared_info, wc_sec",
    },
};

/// `struct vcpu_time_info`, xen.h.
fn clock_goes_on_and_never_back(guest: &Guest) -> Verdict {
    let mut last = guest.platform().now_ns();
    let first = last;
    for _ in 0..10_000 {
        let now = guest.platform().now_ns();
        if now < last {
            return Err("it went back".into());
        }
        last = now;
    }
    ensure(last > first, "it stands still")
}

/// `wc_sec`, `struct shared_info`, xen.h: in the layout of a 64-bit guest.
fn wall_clock_is_in_this_century(guest: &Guest) -> Verdict {
    const Y2020_NS: u64 = 1_577_836_800_000_000_000;
    match guest.platform().wall_clock_ns() {
        Some(now) => ensure(now > Y2020_NS, "it is not"),
        None => skip("nobody tells the time"),
    }
}
