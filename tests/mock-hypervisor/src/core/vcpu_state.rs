//! One vCPU, as the hypervisor keeps it.

use hypercall_abi::{
    vcpu::{RunState, VcpuRunstateInfo},
    xen::VcpuGuestContext,
};

use super::processor::Processor;

/// What a vCPU starts with.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// A function of the host's, and its argument.
    Code { code: u64, argument: u64 },
    /// All registers, of a guest that runs as an image.
    #[cfg_attr(
        not(feature = "user"),
        expect(dead_code, reason = "read by who runs a guest's image")
    )]
    Context(Box<VcpuGuestContext>),
}

/// One vCPU, as the hypervisor keeps it.
#[derive(Debug)]
pub(crate) struct Vcpu {
    pub(crate) entry: Option<Entry>,
    pub(crate) is_up: bool,
    /// Whether its code runs, or would if it were up.
    pub(crate) has_begun: bool,
    /// Whether it is one of those that run or sleep.
    pub(crate) is_counted: bool,
    pub(crate) timers: Timers,
    pub(crate) run_times: RunTimes,
    /// What a PV guest has set of it.
    pub(crate) processor: Processor,
}

impl Vcpu {
    /// The one that the domain starts with.
    pub(crate) fn first(now_ns: u64) -> Self {
        Self {
            entry: None,
            is_up: true,
            has_begun: false,
            is_counted: false,
            timers: Timers::default(),
            run_times: RunTimes::new(RunState::RUNNING, now_ns),
            processor: Processor::default(),
        }
    }

    /// Another.
    pub(crate) fn other() -> Self {
        Self {
            is_up: false,
            run_times: RunTimes::new(RunState::OFFLINE, 0),
            ..Self::first(0)
        }
    }
}

/// What happens at a time: all in nanoseconds since the domain started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timers {
    pub(crate) singleshot_ns: Option<u64>,
    /// When next, and from then on how often.
    pub(crate) periodic_ns: Option<(u64, u64)>,
}

impl Timers {
    /// When something happens next.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let periodic = self.periodic_ns.map(|(at, _)| at);
        self.singleshot_ns.into_iter().chain(periodic).min()
    }

    /// Whether it is to ring.
    pub(super) fn fire(&mut self, now_ns: u64) -> bool {
        let mut ring = self.singleshot_ns.is_some_and(|at| at <= now_ns);
        if ring {
            self.singleshot_ns = None;
        }
        if let Some((at, period)) = self.periodic_ns.filter(|(at, _)| *at <= now_ns) {
            let missed = (now_ns - at) / period;
            self.periodic_ns = Some((at + (missed + 1) * period, period));
            ring = true;
        }
        ring
    }
}

/// How long a vCPU did what, and where it is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunTimes {
    state: RunState,
    since_ns: u64,
    ns: [u64; 4],
    pub(crate) told_at: Area,
    pub(crate) time_told_at: Area,
    /// Something has changed that was not told yet.
    pub(crate) news: bool,
}

/// A place in the guest where Xen keeps telling something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Area {
    None,
    /// One of the guest's addresses.
    Address(u64),
    /// A place in a page of its memory, by the page's number.
    Page(usize, usize),
}

impl RunTimes {
    /// Whether there is something to tell.
    #[cfg(feature = "user")]
    pub(crate) const fn has_news(&self) -> bool {
        self.news
    }

    pub(crate) fn new(state: RunState, now_ns: u64) -> Self {
        Self {
            state,
            since_ns: now_ns,
            ns: [0; 4],
            told_at: Area::None,
            time_told_at: Area::None,
            news: false,
        }
    }

    /// From now on it does something else.
    pub(crate) fn enter(&mut self, state: RunState, now_ns: u64) {
        self.ns[self.state.0 as usize] += now_ns.saturating_sub(self.since_ns);
        self.state = state;
        self.since_ns = now_ns;
        self.news = true;
    }

    pub(crate) fn info(&self, now_ns: u64) -> VcpuRunstateInfo {
        let mut info = VcpuRunstateInfo {
            state: self.state,
            state_entry_time: self.since_ns,
            time: self.ns,
            ..VcpuRunstateInfo::default()
        };
        info.time[self.state.0 as usize] += now_ns.saturating_sub(self.since_ns);
        info
    }
}
