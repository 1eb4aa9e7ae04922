//! The time that the guest reads by itself: the processor's counter, with what it
//! takes to make nanoseconds of it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use hypercall_abi::{
    VcpuId,
    peer::PeerPtr,
    peer_field,
    xen::{SharedInfo, VcpuInfo, VcpuTimeInfo},
};

use crate::domain::State;

/// How long the counter is compared with the host's clock before the guest starts.
const LEAST_NS: u64 = 2_000_000;
/// How often the guest is told anew.
const PERIOD_NS: u64 = 250_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Nanoseconds from ticks: shifted, times the factor, of which 32 bits are behind
/// the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) factor: u32,
    pub(super) shift: i8,
}

impl Scale {
    fn of(ticks: u64, ns: u64) -> Self {
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

    fn ns(self, ticks: u64) -> u64 {
        let ticks = if self.shift < 0 {
            ticks >> -self.shift
        } else {
            ticks << self.shift
        };
        ((u128::from(ticks) * u128::from(self.factor)) >> 32) as u64
    }
}

/// A moment, by both.
#[derive(Clone, Copy, Debug)]
struct Moment {
    ticks: u64,
    instant: Instant,
}

fn now() -> Moment {
    let instant = Instant::now();
    // SAFETY: every processor that runs this has it.
    let ticks = unsafe { core::arch::x86_64::_rdtsc() };
    Moment { ticks, instant }
}

/// What a vCPU was told last.
#[derive(Clone, Copy, Debug)]
struct Told {
    ticks: u64,
    ns: u64,
    scale: Scale,
    /// Where.
    place: usize,
}

/// Of virtual time: a tick is a nanosecond.
const ONE_TO_ONE: Scale = Scale {
    factor: 1 << 31,
    shift: 1,
};

/// The clock.
#[derive(Debug)]
pub(super) struct Clock {
    is_virtual: bool,
    start: Moment,
    told: Mutex<Vec<Option<Told>>>,
    khz: AtomicU64,
}

impl Clock {
    /// One that begins to compare.
    pub(super) fn start(is_virtual: bool) -> Self {
        Self {
            is_virtual,
            start: now(),
            told: Mutex::new(Vec::new()),
            khz: AtomicU64::new(0),
        }
    }

    /// Waits until the comparison is good enough to begin with.
    pub(super) fn settle(&self) {
        while !self.is_virtual && (self.start.instant.elapsed().as_nanos() as u64) < LEAST_NS {
            std::hint::spin_loop();
        }
        let _scale = self.scale();
    }

    /// How ticks are nanoseconds, as far as that is known now.
    pub(super) fn scale(&self) -> Scale {
        if self.is_virtual {
            self.khz.store(1_000_000, Ordering::Relaxed);
            return ONE_TO_ONE;
        }
        let moment = now();
        let ns = moment.instant.duration_since(self.start.instant).as_nanos() as u64;
        let ticks = moment.ticks.saturating_sub(self.start.ticks);
        let khz = u128::from(ticks) * 1_000_000 / u128::from(ns.max(1));
        self.khz.store(khz as u64, Ordering::Relaxed);
        Scale::of(ticks, ns)
    }

    pub(super) fn khz(&self) -> u32 {
        self.khz.load(Ordering::Relaxed) as u32
    }

    /// Tells a vCPU the time, if it was not told lately.
    pub(super) fn tell(
        &self,
        vcpu: VcpuId,
        state: &State,
        info: PeerPtr<'static, VcpuInfo>,
        now_ns: u64,
    ) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let index = vcpu.0 as usize;
        if told.len() <= index {
            told.resize(index + 1, None);
        }
        let place = info.as_ptr().addr();
        let before = told[index];
        if before.is_some_and(|before| {
            before.place == place && now_ns < before.ns.saturating_add(PERIOD_NS)
        }) {
            return;
        }
        let ticks = match self.is_virtual {
            true => now_ns,
            // SAFETY: every processor that runs this has it.
            false => unsafe { core::arch::x86_64::_rdtsc() },
        };
        // Time does not go back, whatever is known better now.
        let expected = before.map_or(0, |before| {
            before.ns + before.scale.ns(ticks.saturating_sub(before.ticks))
        });
        let fresh = Told {
            ticks,
            ns: now_ns.max(expected),
            scale: self.scale(),
            place,
        };
        told[index] = Some(fresh);
        write(info, fresh);
        if before.is_none() {
            tell_wall_clock(state);
        }
    }
}

fn write(info: PeerPtr<'static, VcpuInfo>, told: Told) {
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

/// When the host started, of which all times are counted.
fn tell_wall_clock(state: &State) {
    let shared = state.ports.shared();
    let start_ns = state.wall_ns;
    let version = peer_field!(shared, SharedInfo, wc_version);
    version.store_release(version.load().trust() | 1);
    std::sync::atomic::fence(Ordering::SeqCst);
    let seconds = start_ns / SECOND_NS;
    peer_field!(shared, SharedInfo, wc_sec).store(seconds as u32);
    peer_field!(shared, SharedInfo, wc_sec_hi).store((seconds >> 32) as u32);
    peer_field!(shared, SharedInfo, wc_nsec).store((start_ns % SECOND_NS) as u32);
    version.store_release(version.load().trust().wrapping_add(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_any_rate_are_nanoseconds() {
        for khz in [25_000, 999_999, 1_000_000, 2_445_406, 5_000_000] {
            let scale = Scale::of(khz * 1000, SECOND_NS);
            let error = scale.ns(khz * 1000).abs_diff(SECOND_NS);
            assert!(error < 10, "{khz} kHz: {error} ns in a second");
        }
    }
}
