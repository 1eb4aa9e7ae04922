//! What Xen keeps of one domain.

use std::collections::BTreeMap;

use hypercall_abi::{
    Errno, HypercallNr, PAGE_SIZE, VcpuId,
    hvm::{HvmMemmapTableEntry, XEN_HVM_MEMMAP_TYPE_RAM, XEN_HVM_MEMMAP_TYPE_RESERVED},
    memory::{MapSpace, XENMAPIDX_GRANT_TABLE_STATUS},
    sched::ShutdownReason,
    vcpu::RunState,
};

use super::{
    config::DomainType,
    event_channels::{Binding, Ports},
    grant_table::Grants,
    memory::{Memory, STATUS_PAGES, TABLE_PAGES},
    profile::Profile,
    vcpu_state::Vcpu,
};

/// How a domain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// The reason that the guest (or the hypervisor) gave.
    pub reason: ShutdownReason,
    /// What the hypervisor has to say about it; empty if nothing.
    pub report: String,
}

/// What becomes of a domain that suspends itself because it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspend {
    /// It is not saved, and goes on as it was.
    Cancelled,
    /// It is saved, and goes on in other frames: its ports, grants, timers and
    /// watches are gone, and its start information tells of new ones.
    Moved,
}

/// A PVH guest's parameters.
pub(crate) type Params = BTreeMap<u32, u64>;

/// The watchdogs of a domain.
pub(crate) const WATCHDOGS: usize = 2;

/// For each watchdog, when the domain is ended, and the time that feeding gives.
pub(crate) type Watchdogs = [Option<(u64, u64)>; WATCHDOGS];

/// What Xen keeps of it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) domain_type: DomainType,
    pub(crate) profile: Profile,
    pub(crate) memory: Memory,
    pub(crate) ports: Ports,
    pub(crate) grants: Grants,
    /// The page that is shared, by number.
    pub(crate) shared_page: usize,
    /// A PVH guest's.
    pub(crate) params: Params,
    pub(crate) vcpus: Vec<Vcpu>,
    pub(crate) watchdogs: Watchdogs,
    /// What it switched on, by the numbers of the assists.
    pub(crate) assists: u64,
    /// When the host started.
    #[cfg_attr(
        not(feature = "user"),
        expect(dead_code, reason = "told by who runs a guest's image")
    )]
    pub(crate) wall_ns: u64,
    /// The latest time that its guest has read.
    pub(crate) read_ns: u64,
    pub(crate) shutdown: Option<Shutdown>,
    /// The reason that its end is to have, if it was told beforehand.
    pub(crate) shutdown_code: Option<ShutdownReason>,
    /// It was asked to suspend itself, and this is to follow.
    pub(crate) resume: Option<Suspend>,
    /// All vCPUs are to end, for this reason.
    pub(crate) ending: Option<Shutdown>,
    /// Nothing of it is known to the world any more.
    pub(crate) is_destroyed: bool,
    pub(crate) calls: BTreeMap<u32, u64>,
    /// How often a vCPU has slept.
    pub(crate) sleeps: u64,
    pub(crate) unknown: BTreeMap<(u32, Option<usize>), u64>,
}

/// Numbers from this on are counted as this one: a call's page has room for fewer.
pub(crate) const MAX_NR: u32 = 128;
/// What a call's operation is at most: where the first argument is more, it is none.
const MAX_OP: usize = 0xfff;

impl State {
    /// Counts a call of the guest's.
    pub(crate) fn note_call(&mut self, nr: HypercallNr) {
        *self.calls.entry(nr.0.min(MAX_NR)).or_default() += 1;
    }

    /// Counts one that there is not. However many the guest tries, few are told apart.
    pub(crate) fn note_unknown(&mut self, nr: HypercallNr, op: usize) {
        let op = Some(op).filter(|op| *op <= MAX_OP);
        *self.unknown.entry((nr.0.min(MAX_NR), op)).or_default() += 1;
    }

    /// When something happens next.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let watchdogs = self.watchdogs.iter().flatten().map(|(at, _)| *at);
        let timers = self.vcpus.iter().filter_map(|vcpu| vcpu.timers.next_ns());
        watchdogs.chain(timers).min()
    }

    /// Sends the timers' interrupts that are due.
    pub(crate) fn fire(&mut self, now_ns: u64) {
        for (index, vcpu) in self.vcpus.iter_mut().enumerate() {
            if vcpu.timers.fire(now_ns) {
                self.ports.ring(Binding::timer(VcpuId(index as u32)));
            }
        }
    }

    /// From now on a vCPU does something else.
    pub(crate) fn enter(&mut self, vcpu: VcpuId, run_state: RunState, now_ns: u64) {
        if let Some(vcpu) = self.vcpus.get_mut(vcpu.0 as usize) {
            vcpu.run_times.enter(run_state, now_ns);
        }
    }

    /// Whether a watchdog has run out.
    pub(crate) fn starved(&self, now_ns: u64) -> bool {
        let mut watchdogs = self.watchdogs.iter().flatten();
        watchdogs.any(|(at, _)| *at <= now_ns)
    }
}

impl State {
    /// Whether it is a PVH guest.
    pub(crate) fn is_pvh(&self) -> bool {
        self.domain_type == DomainType::Pvh
    }

    /// The number of a page that a guest may add to its physical memory.
    pub(crate) fn page_of_space(&self, space: MapSpace, idx: u64) -> Result<usize, Errno> {
        let idx = usize::try_from(idx).map_err(|_| Errno::EINVAL)?;
        let xens = self.memory.nr_pages();
        match space {
            MapSpace::SHARED_INFO if idx == 0 => Ok(self.shared_page),
            MapSpace::GRANT_TABLE => {
                let status = XENMAPIDX_GRANT_TABLE_STATUS as usize;
                match idx.checked_sub(status) {
                    Some(idx) if idx < STATUS_PAGES => Ok(xens + TABLE_PAGES + idx),
                    None if idx < TABLE_PAGES => Ok(xens + idx),
                    _ => Err(Errno::EINVAL),
                }
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Grows the grant table up to a frame that is asked for.
    pub(crate) fn grow_grants(&mut self, idx: usize) {
        if idx < TABLE_PAGES {
            self.grants.frames = self.grants.frames.max(idx + 1);
        }
    }
}

/// The first page of a PVH guest is memory with its start information; those up to
/// this one are not: store, console, and the page that is shared once it was added.
const SPECIAL_PAGES_END: usize = 4;

/// The map of a PVH guest's memory.
pub(crate) fn memory_ranges(nr_pages: usize) -> [HvmMemmapTableEntry; 3] {
    let first = PAGE_SIZE as u64;
    let special = (SPECIAL_PAGES_END * PAGE_SIZE) as u64;
    let all = (nr_pages * PAGE_SIZE) as u64;
    let range = |addr, size, r#type| HvmMemmapTableEntry {
        addr,
        size,
        r#type,
        ..HvmMemmapTableEntry::default()
    };
    [
        range(0, first, XEN_HVM_MEMMAP_TYPE_RAM),
        range(first, special - first, XEN_HVM_MEMMAP_TYPE_RESERVED),
        range(special, all - special, XEN_HVM_MEMMAP_TYPE_RAM),
    ]
}
