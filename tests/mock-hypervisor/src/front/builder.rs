//! How a domain is made: its first pages, and what it is told of them.

use std::{collections::BTreeMap, ptr::NonNull};

use hypercall_abi::{
    Mfn, PAGE_SIZE,
    hvm::{HvmParam, HvmStartInfo, XEN_HVM_START_MAGIC_VALUE},
    peer::PeerPtr,
    peer_field,
    xen::{SharedInfo, StartInfo, VcpuInfo},
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{
    core::{
        config::{Config, DomainType, NoMemory},
        domain_state::{Params, State, Watchdogs, memory_ranges},
        event_channels::{Binding, Ports},
        grant_table::Grants,
        memory::Memory,
        profile::Profile,
        vcpu_state::Vcpu,
    },
    engine::{domain::Domain, host::Xen},
    services::{console::Console, xenstore::Ring},
};

/// Where a PVH guest's start information has the map of its memory, and its
/// command line.
const MEMMAP_AT: usize = 0x100;
const COMMAND_LINE_AT: usize = 0x200;

/// Fills the page at physical address 0 with a PVH guest's start information.
fn write_pvh_start(page: &mut [u8], nr_pages: usize, command_line: &str) {
    let map = memory_ranges(nr_pages);
    let start = HvmStartInfo {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        cmdline_paddr: COMMAND_LINE_AT as u64,
        memmap_paddr: MEMMAP_AT as u64,
        memmap_entries: map.len() as u32,
        ..HvmStartInfo::default()
    };
    let text = command_line.as_bytes();
    // The last byte stays zero.
    let room = PAGE_SIZE - COMMAND_LINE_AT - 1;
    let text = &text[..text.len().min(room)];
    for (at, bytes) in [
        (0, start.as_bytes()),
        (MEMMAP_AT, map.as_bytes()),
        (COMMAND_LINE_AT, text),
    ] {
        page[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// What a fresh domain has of its own.
pub(crate) struct Parts {
    pub(crate) domain_type: DomainType,
    pub(crate) profile: Profile,
    pub(crate) memory: Memory,
    pub(crate) ports: Ports,
    pub(crate) shared_page: usize,
    pub(crate) params: Params,
    pub(crate) vcpus: Vec<Vcpu>,
}

impl Parts {
    /// The domain that has them, on a host that started at this time.
    pub(crate) fn state(self, wall_ns: u64) -> State {
        State {
            domain_type: self.domain_type,
            profile: self.profile,
            memory: self.memory,
            ports: self.ports,
            grants: Grants::default(),
            shared_page: self.shared_page,
            params: self.params,
            vcpus: self.vcpus,
            watchdogs: Watchdogs::default(),
            assists: 0,
            wall_ns,
            read_ns: 0,
            shutdown: None,
            shutdown_code: None,
            resume: None,
            ending: None,
            is_destroyed: false,
            calls: BTreeMap::new(),
            sleeps: 0,
            unknown: BTreeMap::new(),
        }
    }
}

/// No upcall before the guest is ready for one.
pub(crate) fn hold_upcalls(shared: PeerPtr<'static, SharedInfo>) {
    let vcpus = peer_field!(shared, SharedInfo, vcpu_info);
    for vcpu in (0..).map_while(|index| vcpus.get(index)) {
        peer_field!(vcpu, VcpuInfo, evtchn_upcall_mask).store(1);
    }
}

/// A domain's vCPUs, of which the first is up.
pub(crate) fn vcpus_of(count: u32, now_ns: u64) -> Vec<Vcpu> {
    let others = (1..count).map(|_| Vcpu::other());
    std::iter::once(Vcpu::first(now_ns)).chain(others).collect()
}

const MIB: usize = 1 << 20;
/// What `xl` gives a domain.
pub(crate) const MAX_EVENT_CHANNELS: u32 = 1023;

impl Xen {
    /// Makes a domain: its memory, start information, shared page, console and
    /// its ring to the store.
    ///
    /// # Errors
    /// The host has not enough memory.
    pub fn domain(&self, config: Config) -> Result<Domain, NoMemory> {
        let mut world = self.0.lock();
        let domid = world.next_domid();
        let nr_pages = config.memory_mib.max(1).saturating_mul(MIB / PAGE_SIZE);
        let mut memory = Memory::new(domid, config.domain_type, nr_pages).ok_or(NoMemory)?;
        let mut page = || memory.alloc(1).ok_or(NoMemory);
        let start_page = page()?.cast::<StartInfo>();
        // In the order of a PV guest's first pages.
        let store_page = page()?.cast::<SharedInfo>();
        let console_page = page()?.cast::<SharedInfo>();
        let shared_page = page()?.cast::<SharedInfo>();
        let own = |page| memory.own_of(page).ok_or(NoMemory);
        // SAFETY: pages of the domain's memory, which outlives `state`, and
        // are from now on used as peer memory only.
        let shared = unsafe { PeerPtr::new(own(shared_page)?) };
        // SAFETY: as above.
        let console = unsafe { PeerPtr::new(own(console_page)?.cast()) };
        // SAFETY: as above.
        let store = unsafe { PeerPtr::new(own(store_page)?.cast()) };
        hold_upcalls(shared);
        let most = match config.max_event_channels {
            0 => MAX_EVENT_CHANNELS,
            most => most,
        };
        // One more than there are: port 0 is never used.
        let mut ports = Ports::new(shared, most.saturating_add(1));
        let store_port = ports.open(Binding::Store).map_err(|_| NoMemory)?;
        let console_port = ports.open(Binding::Console).map_err(|_| NoMemory)?;

        let mut start = StartInfo::new_zeroed();
        let magic = b"xen-3.0-x86_64";
        start.magic[..magic.len()].copy_from_slice(magic);
        start.nr_pages = memory.nr_pages() as u64;
        let mfn = |page: NonNull<u8>| Mfn(memory.gfn_of(page).map_or(0, |gfn| gfn.0));
        start.console.mfn = mfn(console_page.cast());
        start.console.evtchn = console_port;
        start.store_mfn = mfn(store_page.cast());
        start.store_evtchn = store_port;
        start.shared_info = mfn(shared_page.cast()).address().unwrap_or(0);
        // The last byte stays zero.
        let text = config.command_line.as_bytes();
        let room = start.cmd_line.len() - 1;
        for (slot, byte) in start.cmd_line[..room].iter_mut().zip(text) {
            *slot = *byte;
        }
        let shared_index = memory.any_index_of(shared_page.cast());
        let shared_index = shared_index.ok_or(NoMemory)?;
        let mut params = Params::new();
        match config.domain_type {
            // SAFETY: a fresh page of the domain's.
            DomainType::Pv => unsafe { start_page.write(start) },
            DomainType::Pvh => {
                params.extend([
                    (HvmParam::STORE_PFN.0, start.store_mfn.0),
                    (HvmParam::STORE_EVTCHN.0, u64::from(store_port.0)),
                    (HvmParam::CONSOLE_PFN.0, start.console.mfn.0),
                    (HvmParam::CONSOLE_EVTCHN.0, u64::from(console_port.0)),
                ]);
                // SAFETY: as above.
                let page = unsafe {
                    std::slice::from_raw_parts_mut(start_page.cast().as_ptr(), PAGE_SIZE)
                };
                write_pvh_start(page, nr_pages, &config.command_line);
            }
        }
        let parts = Parts {
            domain_type: config.domain_type,
            profile: config.profile,
            memory,
            ports,
            shared_page: shared_index,
            params,
            vcpus: vcpus_of(config.vcpus.max(1), world.now_ns()),
        };
        let state = parts.state(world.started_wall_ns());
        world.domains.insert(domid, state);
        let store = Ring::new(store, store_port);
        let output = Console::new(console, console_port, config.console);
        world.introduce(domid, store, output, start.console.mfn);
        self.0.rouse(&mut world);
        drop(world);
        let pages = (start_page, shared_page);
        Ok(Domain::of(self, domid, pages, config.on_shutdown))
    }
}
