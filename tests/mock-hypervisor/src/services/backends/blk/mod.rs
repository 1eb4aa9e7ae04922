//! A disk, as blkback serves it.

mod medium;
mod requests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE, Port,
    io::{
        blkif::{BlkifRequest, BlkifResponse, BlkifStatus, VdiskInfo},
        protocols::XEN_IO_PROTO_ABI_NATIVE,
        ring::{BackRing, Notify},
    },
    peer::PeerSlice,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{Mapped, device::Serve};
use crate::{
    core::{grant_uses::Use, memory::Access},
    services::Services,
};
pub use medium::Medium;
use medium::{Bytes, SECTOR_BYTES};

const SLOT_BYTES: usize = size_of::<BlkifRequest>();

/// What a disk is, and what its backend offers.
#[derive(Debug)]
pub struct DiskConfig {
    /// Its number: 51712 is `xvda`.
    pub vdev: u32,
    /// Who has the backend.
    pub backend: DomId,
    /// What it holds.
    pub medium: Medium,
    /// Its size in sectors of 512 bytes; 0: that of the medium.
    pub sectors: u64,
    /// Bytes of its own sectors.
    pub sector_bytes: u32,
    /// CD-ROM, removable, read-only.
    pub info: VdiskInfo,
    /// Queues that are offered.
    pub queues: u32,
    /// Pages of a ring that are offered, as a power of two.
    pub ring_page_order: u32,
    /// Segments of indirect requests; 0: there are none.
    pub indirect_segments: u32,
    /// Whether grants are kept mapped.
    pub persistent: bool,
    /// Which of flush, barrier and discard there are.
    pub flush: bool,
    /// Barriers, as of older backends.
    pub barrier: bool,
    /// Discard, also secure.
    pub discard: bool,
    /// How long it takes to look at its rings.
    pub latency_ns: u64,
    /// Whether the frontend is told to trust it.
    pub trusted: bool,
    /// Keys that it writes with these values, whatever it does.
    pub says: Vec<(&'static str, &'static [u8])>,
}

impl Default for DiskConfig {
    /// A disk of 1 MiB, with all that Linux's backend has.
    fn default() -> Self {
        Self {
            vdev: 51712,
            backend: DomId(0),
            medium: Medium::Empty,
            sectors: 2048,
            sector_bytes: 512,
            info: VdiskInfo::empty(),
            queues: 1,
            ring_page_order: 4,
            indirect_segments: 256,
            persistent: true,
            flush: true,
            barrier: true,
            discard: true,
            latency_ns: 0,
            trusted: true,
            says: Vec::new(),
        }
    }
}

/// What is still to be answered.
#[derive(Clone, Copy, Debug)]
struct Due {
    at_ns: u64,
    response: BlkifResponse,
}

/// One queue that is connected.
#[derive(Debug)]
struct Queue {
    ring: BackRing<Mapped, SLOT_BYTES>,
    port: Port,
    local: Port,
    due: VecDeque<Due>,
    /// The frontend broke it: it is served no more.
    is_broken: bool,
    last: BlkifResponse,
}

/// The disk's backend.
#[derive(Debug)]
pub(crate) struct Blk {
    config: DiskConfig,
    bytes: Bytes,
    sectors: u64,
    queues: Vec<Queue>,
    /// Its domain, and its frontend's.
    domids: (DomId, DomId),
    is_persistent: bool,
    persistent: BTreeMap<GrantRef, (Use, PeerSlice<'static>)>,
    /// It was rung, and looks at its rings then.
    wakes_ns: Option<u64>,
    /// Grants that it will never let go of.
    hoarded: Vec<Use>,
    /// It never lets go of any.
    hoards_all: bool,
    /// The next requests fail.
    pub(crate) failing: u32,
}

impl Blk {
    pub(crate) fn new(mut config: DiskConfig) -> Self {
        let medium = std::mem::take(&mut config.medium);
        let bytes = match medium {
            Medium::Empty => Bytes::Memory(vec![0; (config.sectors * SECTOR_BYTES) as usize]),
            Medium::Bytes(bytes) => Bytes::Memory(bytes),
            Medium::File(file) => Bytes::File(file),
        };
        let sectors = match config.sectors {
            0 => bytes.len() / SECTOR_BYTES,
            sectors => sectors.min(bytes.len() / SECTOR_BYTES),
        };
        Self {
            bytes,
            sectors,
            queues: Vec::new(),
            domids: (config.backend, DomId(0)),
            is_persistent: false,
            persistent: BTreeMap::new(),
            wakes_ns: None,
            hoarded: Vec::new(),
            hoards_all: false,
            failing: 0,
            config,
        }
    }

    pub(crate) fn resize(&mut self, sectors: u64) {
        if let Bytes::Memory(bytes) = &mut self.bytes {
            bytes.resize((sectors * SECTOR_BYTES) as usize, 0);
        }
        self.sectors = sectors.min(self.bytes.len() / SECTOR_BYTES);
    }

    /// Its size in sectors.
    pub(crate) const fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        let mut content = vec![0; (self.sectors * SECTOR_BYTES) as usize];
        self.bytes.read(0, &mut content);
        content
    }

    /// The bytes of the frontend's pages that are mapped for its requests.
    pub(crate) fn mapped_pages(&self) -> Vec<Vec<u8>> {
        let pages = self.persistent.values().map(|(_, page)| {
            let mut bytes = vec![0; PAGE_SIZE];
            page.copy_to(&mut bytes);
            bytes
        });
        pages.collect()
    }

    /// Does all that is asked, and answers what takes no time.
    fn serve(&mut self, services: &mut Services) {
        self.wakes_ns = None;
        let mut queues = std::mem::take(&mut self.queues);
        for queue in &mut queues {
            while !queue.is_broken {
                match queue.ring.pop::<BlkifRequest>() {
                    Ok(Some(request)) => {
                        let response = self.execute(services, &request);
                        let slow_ns = requests::slow_ns(services);
                        let at_ns = services.now_ns().saturating_add(slow_ns);
                        queue.due.push_back(Due { at_ns, response });
                    }
                    Ok(None) if queue.ring.listen() => {}
                    Ok(None) => break,
                    Err(_) => queue.is_broken = true,
                }
            }
        }
        self.queues = queues;
        let now_ns = services.now_ns();
        self.answer(services, now_ns);
    }

    /// Answers what is due, in the order in which it is.
    fn answer(&mut self, services: &mut Services, now_ns: u64) {
        for queue in &mut self.queues {
            let mut due: Vec<Due> = Vec::new();
            queue.due.retain(|one| {
                let is_due = one.at_ns <= now_ns;
                if is_due {
                    due.push(*one);
                }
                !is_due
            });
            due.sort_by_key(|one| one.at_ns);
            for one in due {
                queue.last = one.response;
                let _room = queue.ring.push(&one.response);
            }
            if queue.ring.publish() == Notify::Yes {
                let (front, port) = (self.domids.1, queue.port);
                services.notify_front(front, port);
            }
        }
    }
}

impl Serve for Blk {
    fn kind(&self) -> &'static str {
        "vbd"
    }

    fn number(&self) -> u32 {
        self.config.vdev
    }

    fn front_keys(&self) -> Vec<(&'static str, String)> {
        vec![
            ("virtual-device", self.config.vdev.to_string()),
            ("device-type", "disk".into()),
            ("trusted", u32::from(self.config.trusted).to_string()),
        ]
    }

    fn says(&self) -> &[(&'static str, &'static [u8])] {
        &self.config.says
    }

    fn front(&self) -> DomId {
        self.domids.1
    }

    fn ports(&self) -> Vec<(Port, Port)> {
        let ports = self.queues.iter().map(|queue| (queue.port, queue.local));
        ports.collect()
    }

    fn rings(&self) -> Vec<PeerSlice<'static>> {
        let queues = self.queues.iter();
        let first = queues.filter_map(|queue| queue.ring.memory().first());
        first.collect()
    }

    fn forge(&mut self, value: u64) {
        let response = BlkifResponse {
            id: value,
            status: BlkifStatus::OKAY,
            ..BlkifResponse::default()
        };
        if let Some(queue) = self.queues.first() {
            queue.ring.memory().force(SLOT_BYTES, response.as_bytes());
        }
    }

    fn repeat(&mut self) {
        if let Some(queue) = self.queues.first() {
            queue.ring.memory().force(SLOT_BYTES, queue.last.as_bytes());
        }
    }

    fn offers(&self) -> Vec<(&'static str, String)> {
        let config = &self.config;
        let flag = |value: bool| u32::from(value).to_string();
        vec![
            ("feature-persistent", flag(config.persistent)),
            (
                "feature-max-indirect-segments",
                config.indirect_segments.to_string(),
            ),
            ("max-ring-page-order", config.ring_page_order.to_string()),
            ("max-ring-pages", (1 << config.ring_page_order).to_string()),
            ("multi-queue-max-queues", config.queues.to_string()),
            ("feature-flush-cache", flag(config.flush)),
            ("feature-barrier", flag(config.barrier)),
            ("feature-discard", flag(config.discard)),
            ("discard-secure", flag(config.discard)),
            ("discard-granularity", config.sector_bytes.to_string()),
            ("discard-alignment", "0".into()),
        ]
    }

    fn write_details(&self, services: &mut Services, path: &str) {
        let details = [
            ("sectors", self.sectors.to_string()),
            ("sector-size", self.config.sector_bytes.to_string()),
            ("physical-sector-size", self.config.sector_bytes.to_string()),
            ("info", self.config.info.bits().to_string()),
        ];
        for (name, value) in details {
            services
                .store
                .write(&format!("{path}/{name}"), value.as_bytes());
        }
    }

    fn next_ns(&self) -> Option<u64> {
        let due = self.queues.iter().flat_map(|queue| &queue.due);
        due.map(|due| due.at_ns).chain(self.wakes_ns).min()
    }

    fn connect(&mut self, services: &mut Services, details: (DomId, DomId, String)) -> bool {
        let (domid, front, path) = details;
        self.let_go(services);
        self.domids = (domid, front);
        let number = |services: &Services, name: &str| -> Option<u32> {
            let value = services.store.read(&format!("{path}/{name}")).ok()?;
            std::str::from_utf8(value).ok()?.trim().parse().ok()
        };
        // All of it as Linux's `connect_ring` reads it, in whatever way it came there.
        let queues = number(services, "multi-queue-num-queues").unwrap_or(1);
        let order = number(services, "ring-page-order");
        let pages = 1_u32 << order.unwrap_or(0).min(31);
        let protocol = services.store.read(&format!("{path}/protocol")).ok();
        if queues == 0
            || queues > self.config.queues
            || order.is_some_and(|order| order > self.config.ring_page_order)
            || protocol.is_some_and(|protocol| protocol != XEN_IO_PROTO_ABI_NATIVE.as_bytes())
        {
            return false;
        }
        let wants = number(services, "feature-persistent").unwrap_or(0) != 0;
        self.is_persistent = self.config.persistent && wants;
        for index in 0..queues {
            let folder = match queues {
                1 => String::new(),
                _ => format!("queue-{index}/"),
            };
            let refs = (0..pages).map(|page| match order {
                None => number(services, &format!("{folder}ring-ref")),
                Some(_) => number(services, &format!("{folder}ring-ref{page}")),
            });
            let refs: Option<Vec<GrantRef>> = refs.map(|gref| gref.map(GrantRef)).collect();
            let port = number(services, &format!("{folder}event-channel")).map(Port);
            let (Some(refs), Some(port)) = (refs, port) else {
                self.let_go(services);
                return false;
            };
            let Some(mapped) = services.map(domid, front, &refs) else {
                self.let_go(services);
                return false;
            };
            let bound = services.bind(domid, front, port);
            let sizes = mapped.uses.clone();
            let Some(ring) = BackRing::attach(mapped).filter(|_| bound.is_some()) else {
                for used in sizes {
                    services.release(&used, Access::Write);
                }
                self.let_go(services);
                return false;
            };
            self.queues.push(Queue {
                ring,
                port,
                local: bound.unwrap_or_default(),
                due: VecDeque::new(),
                is_broken: false,
                last: BlkifResponse::new_zeroed(),
            });
        }
        true
    }

    fn let_go(&mut self, services: &mut Services) {
        let (domid, front) = self.domids;
        self.wakes_ns = None;
        for queue in std::mem::take(&mut self.queues) {
            match self.hoards_all {
                true => self.hoarded.extend_from_slice(&queue.ring.memory().uses),
                false => services.unmap_pages(queue.ring.memory()),
            }
            services.unbind(domid, front, queue.port, queue.local);
        }
        for (_, (used, _)) in std::mem::take(&mut self.persistent) {
            match self.hoards_all {
                true => self.hoarded.push(used),
                false => services.release(&used, Access::Write),
            }
        }
    }

    fn ring(&mut self, services: &mut Services) {
        if self.config.latency_ns == 0 {
            return self.serve(services);
        }
        let wakes_ns = services.now_ns().saturating_add(self.config.latency_ns);
        let _earlier = self.wakes_ns.get_or_insert(wakes_ns);
    }

    fn finish(&mut self, services: &mut Services, now_ns: u64) {
        if self.wakes_ns.is_some_and(|wakes_ns| wakes_ns <= now_ns) {
            self.serve(services);
        }
        self.answer(services, now_ns);
    }

    fn abandon(&mut self) {
        self.hoarded.clear();
    }

    fn hoarded(&self) -> usize {
        let grefs = self.hoarded.iter().map(|used| used.gref);
        grefs.collect::<BTreeSet<_>>().len()
    }

    fn hoard_all(&mut self) {
        self.hoards_all = true;
    }

    fn hoard(&mut self, _services: &mut Services) {
        if let Some((_, (used, _))) = self.persistent.pop_first() {
            self.hoarded.push(used);
        }
    }
}
