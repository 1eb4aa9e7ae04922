//! The system time and the wall clock; and timers.

use hypercall_abi::{
    peer::PeerPtr,
    peer_field,
    platform::Clock,
    sched,
    xen::{SharedInfo, VcpuInfo, VcpuTimeInfo},
};
use pv_guest::{Guest, GuestType, clock::ticks_to_ns};

use crate::claim::{
    Group, Stop, Verdict, WAIT_NS, claims, ensure, everywhere, on_processor, on_xen, skip,
};

mod timers;

use timers::{
    a_periodic_timer_rings_again, a_periodic_timer_stops,
    a_timer_that_is_set_again_forgets_its_first_time, a_timer_that_is_stopped_is_quiet,
    periods_that_nobody_saw_ring_once, set_timer_op_sets_the_same_timer,
};

pub(super) const GROUP: Group = Group {
    name: "clocks",
    claims: claims! {
        everywhere(clock_goes_on_and_never_back): "xen.h: vcpu_time_info",
        on_xen(what_xen_tells_of_time_goes_on): "xen.h: vcpu_time_info",
        on_xen(the_counter_keeps_step_with_what_xen_tells): "xen.h: vcpu_time_info, tsc_to_system_mul",
        on_processor(a_machines_clock_keeps_step_with_its_calendar): "docs/DESIGN.md: The image",
        everywhere(wall_clock_is_in_this_century): "xen.h: shared_info, wc_sec",
        on_xen(a_timer_that_is_stopped_is_quiet): "vcpu.h: VCPUOP_stop_singleshot_timer",
        on_xen(a_timer_that_is_set_again_forgets_its_first_time): "vcpu.h: VCPUOP_set_singleshot_timer",
        on_xen(a_periodic_timer_rings_again): "vcpu.h: VCPUOP_set_periodic_timer",
        on_xen(periods_that_nobody_saw_ring_once): "vcpu.h: VCPUOP_set_periodic_timer",
        on_xen(a_periodic_timer_stops): "vcpu.h: VCPUOP_stop_periodic_timer",
        on_xen(set_timer_op_sets_the_same_timer): "xen.h: set_timer_op",
    },
};

/// What the platform makes of what it is told.
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

/// Where there is no Xen, the clock is of the library's own making: a second of it is one of
/// the battery's clock, whose edges a busy machine may show late.
fn a_machines_clock_keeps_step_with_its_calendar(guest: &Guest) -> Verdict {
    const TRIES: usize = 4;
    const SECOND_NS: u64 = 1_000_000_000;
    if guest.guest_type() != GuestType::Bare {
        return skip("Xen tells the time");
    }
    let mut last_ns = edge_of_a_second(guest)?;
    let mut took_ns = 0;
    for _ in 0..TRIES {
        let now_ns = edge_of_a_second(guest)?;
        took_ns = now_ns - last_ns;
        if (SECOND_NS / 5 * 4..SECOND_NS / 4 * 5).contains(&took_ns) {
            return Ok(());
        }
        last_ns = now_ns;
    }
    Err(alloc::format!("a second of the machine's takes {took_ns} ns").into())
}

/// Waits until the battery's clock says another second.
fn edge_of_a_second(guest: &Guest) -> Result<u64, Stop> {
    let before = second();
    let start_ns = guest.platform().now_ns();
    loop {
        let now_ns = guest.platform().now_ns();
        if second() != before {
            return Ok(now_ns);
        }
        if now_ns > start_ns + 20 * WAIT_NS {
            return Err("the machine has no calendar, or the clock is much too fast".into());
        }
    }
}

/// What the battery's clock says of seconds.
fn second() -> u8 {
    let word: u32;
    // SAFETY: chooses its first register and reads that; nobody else uses it.
    unsafe {
        core::arch::asm!("xor eax, eax", "out 0x70, al", "in al, 0x71", out("eax") word,
            options(nomem, nostack));
    }
    word as u8
}

/// What Xen told of a moment, as it is in the shared page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    version: u32,
    ticks: u64,
    ns: u64,
    mul: u32,
    shift: i8,
}

impl Told {
    /// The time when the counter is at `ticks`, by this.
    fn at(self, ticks: u64) -> u64 {
        // A guest's counter may begin at zero: what was noted before is huge.
        let since = ticks.wrapping_sub(self.ticks);
        let since = if since.cast_signed() < 0 { 0 } else { since };
        self.ns + ticks_to_ns(since, self.mul, self.shift)
    }
}

fn words(guest: &Guest) -> Result<PeerPtr<'static, VcpuTimeInfo>, Stop> {
    // SAFETY: it is only read.
    let shared = unsafe { guest.shared_info() }.ok_or("no shared page")?;
    let words = peer_field!(shared, SharedInfo, vcpu_info).get(0);
    Ok(peer_field!(words.ok_or("no words")?, VcpuInfo, time))
}

/// Reads it, whole; `None` if it is being written all the time.
fn told(words: PeerPtr<'_, VcpuTimeInfo>) -> Option<Told> {
    const TRIES: usize = 1_000_000;
    for _ in 0..TRIES {
        let version = peer_field!(words, VcpuTimeInfo, version)
            .load_acquire()
            .trust();
        let told = Told {
            version,
            ticks: peer_field!(words, VcpuTimeInfo, tsc_timestamp)
                .load_acquire()
                .trust(),
            ns: peer_field!(words, VcpuTimeInfo, system_time)
                .load_acquire()
                .trust(),
            mul: peer_field!(words, VcpuTimeInfo, tsc_to_system_mul)
                .load_acquire()
                .trust(),
            shift: peer_field!(words, VcpuTimeInfo, tsc_shift)
                .bits()
                .load_acquire()
                .trust()
                .cast_signed(),
        };
        let again = peer_field!(words, VcpuTimeInfo, version)
            .load_acquire()
            .trust();
        if version == again && version & 1 == 0 {
            return Some(told);
        }
        core::hint::spin_loop();
    }
    None
}

fn ticks() -> u64 {
    // SAFETY: every processor that runs this has the counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The most that the clocks of two processors may differ, and that one is corrected by.
const SKEW_NS: u64 = 1_000_000;

/// Without what a library makes of it: no clock that is held up where it goes back.
fn what_xen_tells_of_time_goes_on(guest: &Guest) -> Verdict {
    const LONG_NS: u64 = 30_000_000;
    const ALWAYS: &str = "it is being written all the time";
    let words = words(guest)?;
    let first = told(words).ok_or(ALWAYS)?;
    ensure(first.version != 0 && first.ns != 0, "it was never told")?;
    ensure(first.mul != 0, "the counter counts nothing")?;
    let (mut most, start) = (0, first.at(ticks()));
    // Asleep as well as awake.
    for _ in 0..20 {
        for _ in 0..100 {
            let told = told(words).ok_or(ALWAYS)?;
            let now = told.at(ticks());
            ensure(now + SKEW_NS >= most, "it went back")?;
            most = most.max(now);
        }
        // Any event ends a sleep.
        let until = guest.platform().now_ns() + LONG_NS / 20;
        while guest.platform().now_ns() < until {
            sched::poll(guest.platform(), &[], Some(until))?;
        }
    }
    ensure(most >= start + LONG_NS / 2, "it stands still")
}

/// By the words alone, the counter's time and that of the hypercalls are one: over a while as
/// long as one that Xen tells nothing new in.
fn the_counter_keeps_step_with_what_xen_tells(guest: &Guest) -> Verdict {
    const LONG_NS: u64 = 200_000_000;
    /// Under emulation, and load, the hypervisor's own measure of the counter is off by
    /// some percent.
    const TOLERATED: u64 = 10;
    let platform = guest.platform();
    let words = words(guest)?;
    let first = told(words).ok_or("it is being written all the time")?;
    let (start, counted) = (first.at(ticks()), ticks());
    let until = platform.now_ns() + LONG_NS;
    while platform.now_ns() < until {
        sched::poll(platform, &[], Some(until))?;
    }
    let last = told(words).ok_or("it is being written all the time")?;
    // The first words and the last ones, of the same moment.
    let now = ticks();
    let (by_first, by_last) = (first.at(now), last.at(now));
    ensure(now > counted && by_last > start, "it stands still")?;
    let passed = by_last - start;
    ensure(
        passed + SKEW_NS >= LONG_NS,
        "a sleep took less than it should, by this",
    )?;
    ensure(
        by_first.abs_diff(by_last) <= passed / TOLERATED + SKEW_NS,
        "the counter and what is told of it differ by more than a tenth",
    )
}

/// `wc_sec`, `struct shared_info`, xen.h: in the layout of a 64-bit guest. It goes on as the
/// system's time does.
fn wall_clock_is_in_this_century(guest: &Guest) -> Verdict {
    const Y2020_NS: u64 = 1_577_836_800_000_000_000;
    const Y2100_NS: u64 = 4_102_444_800_000_000_000;
    const LONG_NS: u64 = 50_000_000;
    let platform = guest.platform();
    let both = || Some((platform.now_ns(), platform.wall_clock_ns()?));
    let Some((start, first)) = both() else {
        return skip("nobody tells the time");
    };
    while platform.now_ns() < start + LONG_NS {
        sched::poll(platform, &[], Some(start + LONG_NS))?;
    }
    let (end, last) = both().ok_or("it is told no more")?;
    ensure((Y2020_NS..Y2100_NS).contains(&first), "it is not")?;
    // A host's clock may be set meanwhile, by little.
    let passed = last.checked_sub(first).ok_or("it goes back")?;
    ensure(
        passed.abs_diff(end - start) <= LONG_NS / 5,
        "it does not go on as the system's time does",
    )?;
    if guest.guest_type() == GuestType::Bare {
        return Ok(());
    }
    // SAFETY: it is only read.
    let Some(shared) = (unsafe { guest.shared_info() }) else {
        return Ok(());
    };
    let nsec = peer_field!(shared, SharedInfo, wc_nsec).load().trust();
    ensure(
        nsec < 1_000_000_000,
        "a second has more than its nanoseconds",
    )
}
