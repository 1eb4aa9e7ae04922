//! The time stamp counter, and its rate on a machine that does not tell.

use core::sync::atomic::{AtomicU64, Ordering};

/// Reads the counter, after all that came before.
pub(crate) fn read() -> u64 {
    // SAFETY: every x86-64 processor has it, and Xen lets its guests use it.
    unsafe {
        core::arch::x86_64::_mm_lfence();
    }
    // SAFETY: as above.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Ticks in a millisecond on a plain machine; zero: not known.
static TICKS_PER_MS: AtomicU64 = AtomicU64::new(0);
static START: AtomicU64 = AtomicU64::new(0);

/// The rate of the interval timer, in ticks a second.
const PIT_HZ: u64 = 1_193_182;
/// How long to compare the two, in the timer's ticks: 10 ms.
const PIT_TICKS: u64 = PIT_HZ / 100;
/// Looks before a timer that does not tick is given up.
const TRIES: u64 = 10_000_000;
/// The rate to assume without a timer.
const FALLBACK_PER_MS: u64 = 1_000_000;

/// Measures the counter's rate by the interval timer's second channel.
pub(crate) fn calibrate() {
    let start = read();
    let mut tries = 0;
    // SAFETY: reading the gate is harmless.
    let gate = unsafe { x86::io::inb(0x61) };
    // SAFETY: the timer and its gate belong to this kernel: gate the channel
    // on, the speaker off.
    unsafe { x86::io::outb(0x61, (gate & !2) | 1) };
    // SAFETY: as above: channel 2, both bytes, one shot.
    unsafe { x86::io::outb(0x43, 0xb0) };
    // SAFETY: as above.
    unsafe { x86::io::outb(0x42, PIT_TICKS as u8) };
    // SAFETY: as above; starts the count.
    unsafe { x86::io::outb(0x42, (PIT_TICKS >> 8) as u8) };
    let from = read();
    // SAFETY: reading the gate's status is harmless.
    while unsafe { x86::io::inb(0x61) } & 0x20 == 0 && tries < TRIES {
        tries += 1;
    }
    let ticks = read() - from;
    let per_ms = if tries == TRIES || tries == 0 {
        FALLBACK_PER_MS
    } else {
        ticks / 10
    };
    TICKS_PER_MS.store(per_ms.max(1), Ordering::Relaxed);
    START.store(start, Ordering::Relaxed);
}

/// Nanoseconds since [`calibrate`]; zero before it.
pub(crate) fn since_start_ns() -> u64 {
    let per_ms = TICKS_PER_MS.load(Ordering::Relaxed);
    if per_ms == 0 {
        return 0;
    }
    let ticks = read().saturating_sub(START.load(Ordering::Relaxed));
    (u128::from(ticks) * 1_000_000 / u128::from(per_ms)) as u64
}
