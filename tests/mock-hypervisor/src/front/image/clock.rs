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
    xen::{SharedInfo, VcpuInfo},
};

use crate::core::{
    counter::{self, Scale},
    domain_state::State,
};

/// How long the counter is compared with the host's clock before the guest starts.
const MIN_NS: u64 = 2_000_000;
/// How often the guest is told anew.
const PERIOD_NS: u64 = 250_000_000;
const SECOND_NS: u64 = 1_000_000_000;

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
        while !self.is_virtual && (self.start.instant.elapsed().as_nanos() as u64) < MIN_NS {
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
    let Told {
        ticks, ns, scale, ..
    } = told;
    counter::write(info, counter::Moment { ticks, ns, scale });
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
