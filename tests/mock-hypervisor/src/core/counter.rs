//! What a vCPU is told of time (`vcpu_time_info`): a moment, by the processor's counter and by
//! the host's clock, and how the one makes the other.

use std::sync::atomic::Ordering;

use hypercall_abi::{
    peer::PeerPtr,
    peer_field,
    xen::{VcpuInfo, VcpuTimeInfo},
};

/// Nanoseconds from ticks: shifted, times the factor, of which 32 bits are behind
/// the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) factor: u32,
    pub(crate) shift: i8,
}

impl Scale {
    pub(crate) fn of(ticks: u64, ns: u64) -> Self {
        // The factor is to use all of its bits.
        let mut shift = 0;
        let wide = |shift: i32| {
            let ticks = if shift < 0 {
                u128::from(ticks) >> -shift
            } else {
                u128::from(ticks) << shift
            };
            (u128::from(ns) << 32) / ticks.max(1)
        };
        while wide(shift) > u128::from(u32::MAX) && shift < 31 {
            shift += 1;
        }
        while wide(shift) <= u128::from(u32::MAX / 2) && shift > -31 {
            shift -= 1;
        }
        Self {
            factor: wide(shift).min(u128::from(u32::MAX)) as u32,
            shift: shift as i8,
        }
    }

    pub(crate) fn ns(self, ticks: u64) -> u64 {
        let ticks = if self.shift < 0 {
            ticks >> -self.shift
        } else {
            ticks << self.shift
        };
        ((u128::from(ticks) * u128::from(self.factor)) >> 32) as u64
    }
}

/// What is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) ticks: u64,
    pub(crate) ns: u64,
    pub(crate) scale: Scale,
}

/// The processor's counter. Under Miri there is none.
pub(crate) fn ticks() -> u64 {
    if cfg!(miri) {
        return 0;
    }
    // SAFETY: every processor that runs this has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The counter, and what a clock says at that moment: where the host has other things to do
/// between the two, they are read again.
pub(crate) fn together<T>(clock: impl Fn() -> T) -> (u64, T) {
    const TRIES: usize = 8;
    /// No more than a few microseconds on any processor.
    const NEAR: u64 = 20_000;
    let look = || {
        let before = ticks();
        let told = clock();
        (ticks().saturating_sub(before), before, told)
    };
    let mut best = look();
    for _ in 1..TRIES {
        if best.0 <= NEAR {
            break;
        }
        let next = look();
        if next.0 < best.0 {
            best = next;
        }
    }
    (best.1, best.2)
}

/// Tells a vCPU a moment.
pub(crate) fn write(info: PeerPtr<'_, VcpuInfo>, told: Moment) {
    let time = peer_field!(info, VcpuInfo, time);
    let version = peer_field!(time, VcpuTimeInfo, version);
    let before = version.load().trust() & !1;
    version.store_release(before.wrapping_add(1));
    std::sync::atomic::fence(Ordering::SeqCst);
    peer_field!(time, VcpuTimeInfo, tsc_timestamp).store(told.ticks);
    peer_field!(time, VcpuTimeInfo, system_time).store(told.ns);
    peer_field!(time, VcpuTimeInfo, tsc_to_system_mul).store(told.scale.factor);
    peer_field!(time, VcpuTimeInfo, tsc_shift)
        .bits()
        .store(told.scale.shift.cast_unsigned());
    version.store_release(before.wrapping_add(2));
}

/// What time it is by what a vCPU was told, when the counter is at `ticks`: as a guest reads
/// it.
pub(crate) fn read(info: PeerPtr<'_, VcpuInfo>, ticks: u64) -> u64 {
    let time = peer_field!(info, VcpuInfo, time);
    let then = peer_field!(time, VcpuTimeInfo, tsc_timestamp)
        .load()
        .trust();
    let scale = Scale {
        factor: peer_field!(time, VcpuTimeInfo, tsc_to_system_mul)
            .load()
            .trust(),
        shift: peer_field!(time, VcpuTimeInfo, tsc_shift)
            .bits()
            .load()
            .trust()
            .cast_signed(),
    };
    let ns = peer_field!(time, VcpuTimeInfo, system_time).load().trust();
    ns.wrapping_add(scale.ns(ticks.saturating_sub(then)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn ticks_of_any_rate_are_nanoseconds() {
        for khz in [25_000, 999_999, 1_000_000, 2_445_406, 5_000_000] {
            let scale = Scale::of(khz * 1000, SECOND_NS);
            let error = scale.ns(khz * 1000).abs_diff(SECOND_NS);
            assert!(error < 10, "{khz} kHz: {error} ns in a second");
        }
    }
}
