//! Xen's clock for guests: the time stamp counter, and how to read it.

#[cfg(any(test, target_os = "none"))]
pub(crate) mod tsc_rate;

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use hypercall_abi::{
    peer::PeerPtr,
    peer_field,
    xen::{SharedInfo, VcpuTimeInfo},
};

use crate::number::Decimal;

/// What a guest's clock reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockSource {
    /// Xen's page for the vCPU (`vcpu_time_info`).
    Xen,
    /// The time stamp counter alone.
    Tsc(TscRate),
    /// The platform's own, of a guest that is a process.
    Platform,
}

impl fmt::Display for ClockSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xen => f.write_str("Xen's"),
            Self::Tsc(rate) => write!(f, "time stamp counter, {rate}"),
            Self::Platform => f.write_str("the platform's"),
        }
    }
}

/// The counter's rate, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscRate {
    /// Ticks in a millisecond.
    pub khz: u64,
    /// How it is known.
    pub source: RateSource,
}

/// How the rate of the time stamp counter is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateSource {
    /// The processor says it. Source: CPUID leaf 0x15, Intel SDM volume 2.
    Processor,
    /// The hypervisor says it. Source: CPUID leaf 0x40000010, as VMware defined it.
    Hypervisor,
    /// It was compared with the interval timer (8254).
    IntervalTimer,
    /// The processor's nominal rate. Source: CPUID leaf 0x16, Intel SDM volume 2.
    Nominal,
    /// Nothing says it: time may pass several times too fast or too slowly.
    Assumed,
}

impl fmt::Display for TscRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            RateSource::Processor => "as the processor says",
            RateSource::Hypervisor => "as the hypervisor says",
            RateSource::IntervalTimer => "compared with the interval timer",
            RateSource::Nominal => "the processor's nominal rate",
            RateSource::Assumed => "assumed: nothing says it",
        };
        Decimal(self.khz).fmt(f)?;
        f.write_str(" kHz, ")?;
        f.write_str(source)
    }
}

/// Tries before a clock that is forever being written is given up.
const TRIES: usize = 1_000_000;

/// Nanoseconds for a number of ticks. Source: `vcpu_time_info`, `xen.h`.
pub const fn ticks_to_ns(ticks: u64, mul: u32, shift: i8) -> u64 {
    let shifted = if shift < 0 {
        ticks >> (shift.unsigned_abs() as u32 % u64::BITS)
    } else {
        ticks << (shift as u32 % u64::BITS)
    };
    ((shifted as u128 * mul as u128) >> 32) as u64
}

/// Ticks from `then` to `now`, modulo 2^64: a guest's counter starts at zero, so
/// what Xen noted before that is a huge number. Not at all if `then` is ahead.
const fn ticks_since(then: u64, now: u64) -> u64 {
    let ticks = now.wrapping_sub(then);
    if ticks.cast_signed() < 0 { 0 } else { ticks }
}

/// The system time by `info`, when the counter says `tsc()`.
pub fn system_time_ns(info: PeerPtr<'_, VcpuTimeInfo>, tsc: impl Fn() -> u64) -> u64 {
    for _ in 0..TRIES {
        let version = peer_field!(info, VcpuTimeInfo, version)
            .load_acquire()
            .trust();
        let now = tsc();
        let then = peer_field!(info, VcpuTimeInfo, tsc_timestamp)
            .load_acquire()
            .trust();
        let time = peer_field!(info, VcpuTimeInfo, system_time)
            .load_acquire()
            .trust();
        let mul = peer_field!(info, VcpuTimeInfo, tsc_to_system_mul)
            .load_acquire()
            .trust();
        let shift = peer_field!(info, VcpuTimeInfo, tsc_shift)
            .bits()
            .load_acquire()
            .trust()
            .cast_signed();
        let again = peer_field!(info, VcpuTimeInfo, version)
            .load_acquire()
            .trust();
        if version == again && version & 1 == 0 {
            return time.wrapping_add(ticks_to_ns(ticks_since(then, now), mul, shift));
        }
        core::hint::spin_loop();
    }
    0
}

/// A clock that never goes back. Xen keeps the time of each processor of its own
/// and corrects it once a second, so a vCPU that moves to another one may read
/// less than before.
#[derive(Debug, Default)]
pub struct Monotonic(AtomicU64);

impl Monotonic {
    /// One that nobody has read.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The time, when a clock says `now_ns`: no less than ever before.
    pub fn at_least(&self, now_ns: u64) -> u64 {
        self.0.fetch_max(now_ns, Ordering::Relaxed).max(now_ns)
    }
}

/// The wall clock when the host booted, in nanoseconds since 1970.
pub fn boot_wall_clock_ns(shared: PeerPtr<'_, SharedInfo>) -> u64 {
    for _ in 0..TRIES {
        let word = |field: PeerPtr<'_, u32>| u64::from(field.load_acquire().trust());
        let version = word(peer_field!(shared, SharedInfo, wc_version));
        let low = word(peer_field!(shared, SharedInfo, wc_sec));
        let high = word(peer_field!(shared, SharedInfo, wc_sec_hi));
        let ns = word(peer_field!(shared, SharedInfo, wc_nsec));
        if version == word(peer_field!(shared, SharedInfo, wc_version)) && version & 1 == 0 {
            return ((high << 32) | low)
                .saturating_mul(1_000_000_000)
                .saturating_add(ns);
        }
        core::hint::spin_loop();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_noted_before_the_counter_started_goes_on() {
        assert_eq!(ticks_since(1_000, 5_000), 4_000);
        assert_eq!(ticks_since(u64::MAX - 999, 1_000), 2_000);
        assert_eq!(ticks_since(5_000, 4_999), 0);
    }

    #[test]
    fn a_clock_that_goes_back_stands_still() {
        let clock = Monotonic::new();
        assert_eq!(
            [7, 5, 6, 8, 8].map(|ns| clock.at_least(ns)),
            [7, 7, 7, 8, 8]
        );
    }

    #[test]
    fn ticks_are_scaled_as_xen_says() {
        // 2 GHz: half a nanosecond a tick.
        assert_eq!(ticks_to_ns(2_000, 1 << 31, 0), 1_000);
        assert_eq!(ticks_to_ns(2_000, 1 << 31, 1), 2_000);
        assert_eq!(ticks_to_ns(2_000, 1 << 31, -1), 500);
        assert_eq!(ticks_to_ns(1 << 40, u32::MAX, 0), (1 << 40) - (1 << 8));
    }
}
