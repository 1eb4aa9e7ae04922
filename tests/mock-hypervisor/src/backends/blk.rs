//! A disk, as blkback serves it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE, Port,
    io::{
        blkif::{
            BLKIF_MAX_SEGMENTS_PER_REQUEST, BlkifOp, BlkifRequest, BlkifRequestDiscard,
            BlkifRequestIndirect, BlkifRequestSegment, BlkifResponse, BlkifStatus, VdiskInfo,
        },
        protocols::XEN_IO_PROTO_ABI_NATIVE,
        ring::{BackRing, Notify},
    },
    peer::PeerSlice,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{Mapped, device::Serve};
use crate::{grants::Use, memory::Access, world::World};

const SECTOR_BYTES: u64 = 512;
const SLOT_BYTES: usize = size_of::<BlkifRequest>();
/// Grants that are kept mapped, as Linux's backend does.
const MOST_PERSISTENT: usize = 1056;
/// Segments of a page of them.
const SEGMENTS_PER_PAGE: usize = PAGE_SIZE / size_of::<BlkifRequestSegment>();

/// What is behind a disk.
#[derive(Debug, Default)]
pub enum Medium {
    /// Memory, of so many bytes.
    #[default]
    Empty,
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file of the host's.
    File(std::fs::File),
}

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

/// The bytes of a disk.
#[derive(Debug)]
enum Bytes {
    Memory(Vec<u8>),
    File(std::fs::File),
}

impl Bytes {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(file) => file.metadata().map_or(0, |data| data.len()),
        }
    }

    fn read(&self, at: u64, target: &mut [u8]) -> bool {
        match self {
            Self::Memory(bytes) => {
                let source = bytes.get(at as usize..at as usize + target.len());
                source
                    .map(|source| target.copy_from_slice(source))
                    .is_some()
            }
            Self::File(file) => std::os::unix::fs::FileExt::read_exact_at(file, target, at).is_ok(),
        }
    }

    fn write(&mut self, at: u64, source: &[u8]) -> bool {
        match self {
            Self::Memory(bytes) => {
                let target = bytes.get_mut(at as usize..at as usize + source.len());
                target
                    .map(|target| target.copy_from_slice(source))
                    .is_some()
            }
            Self::File(file) => std::os::unix::fs::FileExt::write_all_at(file, source, at).is_ok(),
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
pub(super) struct Blk {
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
    pub(super) failing: u32,
}

/// Pages that a request uses, of which those that are not kept are let go.
type Pages = Vec<(PeerSlice<'static>, Option<Use>)>;

impl Blk {
    pub(super) fn new(mut config: DiskConfig) -> Self {
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

    pub(super) fn resize(&mut self, sectors: u64) {
        if let Bytes::Memory(bytes) = &mut self.bytes {
            bytes.resize((sectors * SECTOR_BYTES) as usize, 0);
        }
        self.sectors = sectors.min(self.bytes.len() / SECTOR_BYTES);
    }

    /// Its size in sectors.
    pub(super) const fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn content(&self) -> Vec<u8> {
        let mut content = vec![0; (self.sectors * SECTOR_BYTES) as usize];
        self.bytes.read(0, &mut content);
        content
    }

    /// The bytes of the frontend's pages that are mapped for its requests.
    pub(super) fn mapped_pages(&self) -> Vec<Vec<u8>> {
        let pages = self.persistent.values().map(|(_, page)| {
            let mut bytes = vec![0; PAGE_SIZE];
            page.copy_to(&mut bytes);
            bytes
        });
        pages.collect()
    }

    /// Does all that is asked, and answers what takes no time.
    fn serve(&mut self, world: &mut World) {
        self.wakes_ns = None;
        let mut queues = std::mem::take(&mut self.queues);
        for queue in &mut queues {
            while !queue.is_broken {
                match queue.ring.pop::<BlkifRequest>() {
                    Ok(Some(request)) => {
                        let response = self.execute(world, &request);
                        let slow_ns = world.backend_delay_ns();
                        let at_ns = world.backend_ns().saturating_add(slow_ns);
                        queue.due.push_back(Due { at_ns, response });
                    }
                    Ok(None) if queue.ring.listen() => {}
                    Ok(None) => break,
                    Err(_) => queue.is_broken = true,
                }
            }
        }
        self.queues = queues;
        let now_ns = world.backend_ns();
        self.answer(world, now_ns);
    }

    /// Answers what is due, in the order in which it is.
    fn answer(&mut self, world: &mut World, now_ns: u64) {
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
                world.tell_front(front, port);
            }
        }
    }

    fn execute(&mut self, world: &mut World, request: &BlkifRequest) -> BlkifResponse {
        let (operation, status, id) = match request.operation {
            BlkifOp::INDIRECT => {
                let read = BlkifRequestIndirect::read_from_prefix(request.as_bytes());
                match read {
                    Ok((request, _)) => self.indirect(world, &request),
                    Err(_) => (request.operation, BlkifStatus::ERROR, request.id),
                }
            }
            BlkifOp::DISCARD => {
                let read = BlkifRequestDiscard::read_from_prefix(request.as_bytes());
                match read {
                    Ok((request, _)) => (request.operation, self.discard(&request), request.id),
                    Err(_) => (request.operation, BlkifStatus::ERROR, request.id),
                }
            }
            operation => {
                let count = usize::from(request.nr_segments);
                let status = match request.seg.get(..count) {
                    Some(segments) if count <= BLKIF_MAX_SEGMENTS_PER_REQUEST => {
                        self.transfer(world, operation, request.sector_number, segments)
                    }
                    _ => BlkifStatus::ERROR,
                };
                (operation, status, request.id)
            }
        };
        BlkifResponse {
            id,
            operation,
            status,
            ..BlkifResponse::default()
        }
    }

    fn indirect(
        &mut self,
        world: &mut World,
        request: &BlkifRequestIndirect,
    ) -> (BlkifOp, BlkifStatus, u64) {
        let operation = request.indirect_op;
        let failed = (operation, BlkifStatus::ERROR, request.id);
        let count = usize::from(request.nr_segments);
        let is_rw = matches!(operation, BlkifOp::READ | BlkifOp::WRITE);
        if !is_rw || count == 0 || count > self.config.indirect_segments as usize {
            return failed;
        }
        let mut segments = Vec::new();
        for (page, gref) in request.indirect_grefs.iter().enumerate() {
            let first = page * SEGMENTS_PER_PAGE;
            if first >= count {
                break;
            }
            let (domid, front) = self.domids;
            // One that keeps grants mapped maps them all to write, as Linux's.
            let access = if self.is_persistent {
                Access::Write
            } else {
                Access::Read
            };
            let Ok(used) = world.acquire(domid, front, *gref, access) else {
                return failed;
            };
            let mut bytes = [0; PAGE_SIZE];
            if let Some(page) = world.page_of(&used) {
                page.copy_to(&mut bytes);
            }
            world.release(&used, access);
            let (slots, _) = bytes.as_chunks::<{ size_of::<BlkifRequestSegment>() }>();
            for slot in slots.iter().take(count - first) {
                match BlkifRequestSegment::read_from_bytes(slot) {
                    Ok(segment) => segments.push(segment),
                    Err(_) => return failed,
                }
            }
        }
        let status = self.transfer(world, operation, request.sector_number, &segments);
        (operation, status, request.id)
    }

    fn discard(&mut self, request: &BlkifRequestDiscard) -> BlkifStatus {
        if self.config.info.contains(VdiskInfo::READONLY) {
            return BlkifStatus::ERROR;
        }
        if !self.config.discard {
            return BlkifStatus::EOPNOTSUPP;
        }
        let end = request.sector_number.checked_add(request.nr_sectors);
        if end.is_none_or(|end| end > self.sectors) {
            return BlkifStatus::ERROR;
        }
        let zeros = vec![0; (request.nr_sectors * SECTOR_BYTES) as usize];
        match self
            .bytes
            .write(request.sector_number * SECTOR_BYTES, &zeros)
        {
            true => BlkifStatus::OKAY,
            false => BlkifStatus::ERROR,
        }
    }

    fn transfer(
        &mut self,
        world: &mut World,
        operation: BlkifOp,
        first: u64,
        segments: &[BlkifRequestSegment],
    ) -> BlkifStatus {
        match operation {
            BlkifOp::FLUSH_DISKCACHE if !self.config.flush => return BlkifStatus::EOPNOTSUPP,
            BlkifOp::WRITE_BARRIER if !self.config.barrier => return BlkifStatus::EOPNOTSUPP,
            BlkifOp::READ | BlkifOp::WRITE | BlkifOp::FLUSH_DISKCACHE | BlkifOp::WRITE_BARRIER => {}
            _ => return BlkifStatus::EOPNOTSUPP,
        }
        let writes = operation != BlkifOp::READ;
        let is_flush = matches!(operation, BlkifOp::FLUSH_DISKCACHE | BlkifOp::WRITE_BARRIER);
        let is_read_only = self.config.info.contains(VdiskInfo::READONLY);
        // As `dispatch_rw_block_io`: no bytes are an error, but of a flush; and nothing is
        // written to a disk that can only be read, not even nothing.
        if (writes && is_read_only) || (segments.is_empty() && !is_flush) || self.fails(world) {
            return BlkifStatus::ERROR;
        }
        let unit = u64::from(self.config.sector_bytes) / SECTOR_BYTES;
        if !first.is_multiple_of(unit) {
            return BlkifStatus::ERROR;
        }
        let mut sectors = 0;
        for segment in segments {
            let (first, last) = (segment.first_sect, segment.last_sect);
            let is_whole = u64::from(first) % unit == 0 && (u64::from(last) + 1) % unit == 0;
            if last < first || u64::from(last) >= PAGE_SIZE as u64 / SECTOR_BYTES || !is_whole {
                return BlkifStatus::ERROR;
            }
            sectors += u64::from(last - first) + 1;
        }
        if first
            .checked_add(sectors)
            .is_none_or(|end| end > self.sectors)
        {
            return BlkifStatus::ERROR;
        }
        let Some(pages) = self.pages(world, segments) else {
            return BlkifStatus::ERROR;
        };
        let mut at = first * SECTOR_BYTES;
        let mut done = true;
        for (segment, (page, _)) in segments.iter().zip(&pages) {
            let offset = usize::from(segment.first_sect) * SECTOR_BYTES as usize;
            let len =
                (usize::from(segment.last_sect - segment.first_sect) + 1) * SECTOR_BYTES as usize;
            let Some(part) = page.get(offset, len) else {
                continue;
            };
            let mut bytes = [0; PAGE_SIZE];
            let bytes = &mut bytes[..len];
            if writes {
                part.copy_to(bytes);
                done &= self.bytes.write(at, bytes);
            } else {
                done &= self.bytes.read(at, bytes);
                part.copy_from(bytes);
            }
            at += len as u64;
        }
        for (_, used) in pages {
            match used {
                Some(used) if self.hoards_all => self.hoarded.push(used),
                Some(used) => world.release(&used, Access::Write),
                None => {}
            }
        }
        if done {
            BlkifStatus::OKAY
        } else {
            BlkifStatus::ERROR
        }
    }

    fn fails(&mut self, world: &mut World) -> bool {
        if let Some(rest) = self.failing.checked_sub(1) {
            self.failing = rest;
            return true;
        }
        world.backend_fails()
    }

    /// The pages of a request; `None`: one of them cannot be had.
    fn pages(&mut self, world: &mut World, segments: &[BlkifRequestSegment]) -> Option<Pages> {
        let (domid, front) = self.domids;
        let mut pages = Pages::new();
        for segment in segments {
            if let Some((_, page)) = self.persistent.get(&segment.gref) {
                pages.push((*page, None));
                continue;
            }
            let used = world.acquire(domid, front, segment.gref, Access::Write);
            let page = used
                .ok()
                .and_then(|used| Some((world.page_of(&used)?, used)));
            match page {
                Some((page, used)) => {
                    if self.is_persistent && self.persistent.len() < MOST_PERSISTENT {
                        self.persistent.insert(segment.gref, (used, page));
                        pages.push((page, None));
                    } else {
                        pages.push((page, Some(used)));
                    }
                }
                None => {
                    for (_, used) in pages {
                        if let Some(used) = used {
                            world.release(&used, Access::Write);
                        }
                    }
                    return None;
                }
            }
        }
        Some(pages)
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

    fn write_details(&self, world: &mut World, path: &str) {
        let details = [
            ("sectors", self.sectors.to_string()),
            ("sector-size", self.config.sector_bytes.to_string()),
            ("physical-sector-size", self.config.sector_bytes.to_string()),
            ("info", self.config.info.bits().to_string()),
        ];
        for (name, value) in details {
            world
                .store
                .write(&format!("{path}/{name}"), value.as_bytes());
        }
    }

    fn next_ns(&self) -> Option<u64> {
        let due = self.queues.iter().flat_map(|queue| &queue.due);
        due.map(|due| due.at_ns).chain(self.wakes_ns).min()
    }

    fn connect(&mut self, world: &mut World, details: (DomId, DomId, String)) -> bool {
        let (domid, front, path) = details;
        self.let_go(world);
        self.domids = (domid, front);
        let number = |world: &World, name: &str| -> Option<u32> {
            let value = world.store.read(&format!("{path}/{name}"))?;
            std::str::from_utf8(value).ok()?.trim().parse().ok()
        };
        // All of it as Linux's `connect_ring` reads it, in whatever way it came there.
        let queues = number(world, "multi-queue-num-queues").unwrap_or(1);
        let order = number(world, "ring-page-order");
        let pages = 1_u32 << order.unwrap_or(0).min(31);
        let protocol = world.store.read(&format!("{path}/protocol"));
        if queues == 0
            || queues > self.config.queues
            || order.is_some_and(|order| order > self.config.ring_page_order)
            || protocol.is_some_and(|protocol| protocol != XEN_IO_PROTO_ABI_NATIVE.as_bytes())
        {
            return false;
        }
        let wants = number(world, "feature-persistent").unwrap_or(0) != 0;
        self.is_persistent = self.config.persistent && wants;
        for index in 0..queues {
            let folder = match queues {
                1 => String::new(),
                _ => format!("queue-{index}/"),
            };
            let refs = (0..pages).map(|page| match order {
                None => number(world, &format!("{folder}ring-ref")),
                Some(_) => number(world, &format!("{folder}ring-ref{page}")),
            });
            let refs: Option<Vec<GrantRef>> = refs.map(|gref| gref.map(GrantRef)).collect();
            let port = number(world, &format!("{folder}event-channel")).map(Port);
            let (Some(refs), Some(port)) = (refs, port) else {
                self.let_go(world);
                return false;
            };
            let Some(mapped) = world.map(domid, front, &refs) else {
                self.let_go(world);
                return false;
            };
            let bound = world.bind(domid, front, port);
            let sizes = mapped.uses.clone();
            let Some(ring) = BackRing::attach(mapped).filter(|_| bound.is_some()) else {
                for used in sizes {
                    world.release(&used, Access::Write);
                }
                self.let_go(world);
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

    fn let_go(&mut self, world: &mut World) {
        let (domid, front) = self.domids;
        self.wakes_ns = None;
        for queue in std::mem::take(&mut self.queues) {
            match self.hoards_all {
                true => self.hoarded.extend_from_slice(&queue.ring.memory().uses),
                false => world.unmap_pages(queue.ring.memory()),
            }
            world.unbind(domid, front, queue.port, queue.local);
        }
        for (_, (used, _)) in std::mem::take(&mut self.persistent) {
            match self.hoards_all {
                true => self.hoarded.push(used),
                false => world.release(&used, Access::Write),
            }
        }
    }

    fn ring(&mut self, world: &mut World) {
        if self.config.latency_ns == 0 {
            return self.serve(world);
        }
        let wakes_ns = world.backend_ns().saturating_add(self.config.latency_ns);
        let _earlier = self.wakes_ns.get_or_insert(wakes_ns);
    }

    fn finish(&mut self, world: &mut World, now_ns: u64) {
        if self.wakes_ns.is_some_and(|wakes_ns| wakes_ns <= now_ns) {
            self.serve(world);
        }
        self.answer(world, now_ns);
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

    fn hoard(&mut self, _world: &mut World) {
        if let Some((_, (used, _))) = self.persistent.pop_first() {
            self.hoarded.push(used);
        }
    }
}
