//! The rate of the time stamp counter on a machine without a hypervisor's clock.

use hypercall_abi::arch_x86::cpuid::Leaf;

use super::{RateSource, TscRate};

const MAX_LEAF: u32 = 0;
const TSC_AND_CRYSTAL: u32 = 0x15;
const NOMINAL_MHZ: u32 = 0x16;
const HYPERVISOR_MAX_LEAF: u32 = 0x4000_0000;
const HYPERVISOR_TSC_KHZ: u32 = 0x4000_0010;
/// No processor counts faster than 100 GHz, nor a hypervisor's leaves reach further.
const MAX_KHZ: u64 = 100_000_000;
const MAX_HYPERVISOR_LEAF: u32 = 0x4000_ffff;

fn plausible(khz: u64, source: RateSource) -> Option<TscRate> {
    (1_000..=MAX_KHZ)
        .contains(&khz)
        .then_some(TscRate { khz, source })
}

/// What CPUID says, whose leaves `leaf` reads.
pub(crate) fn by_cpuid(leaf: impl Fn(u32) -> Leaf) -> Option<TscRate> {
    let of_processor = || {
        if leaf(MAX_LEAF).eax < TSC_AND_CRYSTAL {
            return None;
        }
        let Leaf { eax, ebx, ecx, .. } = leaf(TSC_AND_CRYSTAL);
        let crystal_hz = u64::from(ecx);
        let hz = (crystal_hz * u64::from(ebx)).checked_div(u64::from(eax))?;
        plausible(hz / 1_000, RateSource::Processor)
    };
    let of_hypervisor = || {
        let max = leaf(HYPERVISOR_MAX_LEAF).eax;
        if !(HYPERVISOR_TSC_KHZ..=MAX_HYPERVISOR_LEAF).contains(&max) {
            return None;
        }
        let khz = u64::from(leaf(HYPERVISOR_TSC_KHZ).eax);
        plausible(khz, RateSource::Hypervisor)
    };
    of_processor().or_else(of_hypervisor)
}

/// The nominal rate, or a guess: what is left where nothing can be measured.
pub(crate) fn nominal(leaf: impl Fn(u32) -> Leaf) -> TscRate {
    let nominal = if leaf(MAX_LEAF).eax < NOMINAL_MHZ {
        None
    } else {
        let mhz = u64::from(leaf(NOMINAL_MHZ).eax & 0xffff);
        plausible(mhz * 1_000, RateSource::Nominal)
    };
    nominal.unwrap_or(TscRate {
        khz: 1_000_000,
        source: RateSource::Assumed,
    })
}

/// The rate of the interval timer, in ticks a second.
pub(crate) const TIMER_HZ: u64 = 1_193_182;

/// What the counter and the timer, which counts down, said at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The counter before and after the timer was read.
    pub(crate) tsc: [u64; 2],
    pub(crate) timer: u16,
}

impl Moment {
    /// How long it took to look, in the counter's ticks.
    pub(crate) const fn width(&self) -> u64 {
        self.tsc[1].wrapping_sub(self.tsc[0])
    }

    const fn middle(&self) -> u64 {
        self.tsc[0].wrapping_add(self.width() / 2)
    }
}

/// The rate by two moments, between which the timer did not pass zero.
pub(crate) fn between(first: Moment, last: Moment) -> Option<TscRate> {
    let timer_ticks = u64::from(first.timer.checked_sub(last.timer)?);
    let tsc_ticks = last.middle().checked_sub(first.middle())?;
    let khz = tsc_ticks.checked_mul(TIMER_HZ)?;
    plausible(
        khz.checked_div(timer_ticks * 1_000)?,
        RateSource::IntervalTimer,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(leaves: &[(u32, [u32; 3])]) -> impl Fn(u32) -> Leaf {
        move |number| {
            let found = leaves.iter().find(|(leaf, _)| *leaf == number);
            let [eax, ebx, ecx] = found.map_or([0; 3], |(_, registers)| *registers);
            Leaf {
                eax,
                ebx,
                ecx,
                edx: 0,
            }
        }
    }

    #[test]
    fn the_processor_is_believed_first() {
        let leaves = [
            (0, [0x16, 0, 0]),
            (0x15, [2, 176, 24_000_000]),
            (0x4000_0000, [0x4000_0010, 0, 0]),
            (0x4000_0010, [2_000_000, 0, 0]),
            (0x16, [2_100, 0, 0]),
        ];
        let by = |first: usize| by_cpuid(machine(&leaves[first..]));
        let rate = |khz, source| Some(TscRate { khz, source });
        assert_eq!(by(0), rate(2_112_000, RateSource::Processor));
        assert_eq!(by(2), rate(2_000_000, RateSource::Hypervisor));
        assert_eq!(by(4), None);
        let rate = nominal(machine(&[leaves[0], leaves[4]]));
        assert_eq!((rate.khz, rate.source), (2_100_000, RateSource::Nominal));
        assert_eq!(nominal(machine(&[])).source, RateSource::Assumed);
    }

    /// A crystal that is not told, a ratio without one, and registers of what is no
    /// hypervisor.
    #[test]
    fn leaves_that_say_nothing_are_not_believed() {
        for leaves in [
            [(0, [0x15, 0, 0]), (0x15, [2, 176, 0])],
            [(0, [0x15, 0, 0]), (0x15, [0, 176, 24_000_000])],
            [(0, [0x14, 0, 0]), (0x15, [2, 176, 24_000_000])],
            [
                (0x4000_0000, [u32::MAX, 0, 0]),
                (0x4000_0010, [2_000_000, 0, 0]),
            ],
            [
                (0x4000_0000, [0x4000_000f, 0, 0]),
                (0x4000_0010, [2_000_000, 0, 0]),
            ],
            [(0x4000_0000, [0x4000_0010, 0, 0]), (0x4000_0010, [7, 0, 0])],
        ] {
            assert_eq!(by_cpuid(machine(&leaves)), None, "{leaves:?}");
        }
    }

    #[test]
    fn two_moments_are_a_rate() {
        let moment = |tsc: u64, timer| Moment {
            tsc: [tsc - 500, tsc + 500],
            timer,
        };
        // Ten milliseconds at 3 GHz.
        let rate = between(moment(1_000, 60_000), moment(30_001_000, 60_000 - 11_932)).unwrap();
        assert!(rate.khz.abs_diff(3_000_000) < 100, "{rate}");
        // The end was seen late: the timer says as much.
        let rate = between(moment(1_000, 60_000), moment(90_001_000, 60_000 - 35_795)).unwrap();
        assert!(rate.khz.abs_diff(3_000_000) < 100, "{rate}");
        assert_eq!(between(moment(1_000, 7), moment(90_001_000, 7)), None);
        assert_eq!(between(moment(1_000, 7), moment(90_001_000, 9)), None);
        assert_eq!(between(moment(90_001_000, 9), moment(1_000, 7)), None);
    }
}
