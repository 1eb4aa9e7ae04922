//! A network interface, as netback serves it, and the bridges between them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::Write,
    os::unix::net::UnixStream,
};

use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE, Port,
    io::{
        netif::{
            NetRxFlags, NetTxFlags, NetifExtraFlags, NetifExtraGso, NetifExtraHash, NetifExtraInfo,
            NetifExtraType, NetifGsoType, NetifRxRequest, NetifRxResponse, NetifStatus,
            NetifTxRequest, NetifTxResponse, XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
            XEN_NETIF_NR_SLOTS_MIN,
        },
        ring::{BackRing, Notify},
    },
    peer::PeerSlice,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{
    Mapped,
    device::Serve,
    segments::{Checksum, Frame, Segments},
    steering::Steering,
};
use crate::{grants::Use, memory::Access, world::World};

const TX_BYTES: usize = size_of::<NetifTxRequest>();
const RX_BYTES: usize = size_of::<NetifRxResponse>();
/// The shortest packet: an Ethernet header.
const LEAST_BYTES: usize = 14;
/// Groups that it passes. Source: Linux's `XEN_NETBK_MCAST_MAX`.
const MOST_GROUPS: usize = 64;
/// Packets that wait for a frontend to make room.
const MOST_WAITING: usize = 1024;

/// What a network interface is, and what its backend offers.
#[derive(Clone, Debug)]
pub struct NicConfig {
    /// Its number: 0 is the first.
    pub handle: u32,
    /// Who has the backend.
    pub backend: DomId,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The bridge that it is on.
    pub bridge: String,
    /// Bytes of a packet without its Ethernet header.
    pub mtu: u16,
    /// Queues that are offered.
    pub queues: u32,
    /// Whether each direction may have a port of its own.
    pub split: bool,
    /// Packets of several pieces, and larger than the MTU.
    pub segments: bool,
    /// Filling in checksums of TCP and UDP over IPv4.
    pub checksums_v4: bool,
    /// Those over IPv6.
    pub checksums_v6: bool,
    /// Passing only groups that are asked for.
    pub multicast: bool,
    /// Receiving by copy, which all backends of today have.
    pub rx_copy: bool,
    /// A control ring, by which queues are chosen.
    pub control: bool,
    /// Whether the toolstack trusts the backend's domain.
    pub trusted: bool,
    /// How long it takes to look at what is sent.
    pub latency_ns: u64,
}

impl Default for NicConfig {
    /// One with all that Linux's backend has.
    fn default() -> Self {
        Self {
            handle: 0,
            backend: DomId(0),
            mac: [0, 0x16, 0x3e, 0, 0, 1],
            bridge: "xenbr0".into(),
            mtu: 1500,
            queues: 1,
            split: true,
            segments: true,
            checksums_v4: true,
            checksums_v6: true,
            multicast: true,
            rx_copy: true,
            control: true,
            trusted: true,
            latency_ns: 0,
        }
    }
}

/// Those who look at bridges from outside.
#[derive(Debug, Default)]
pub(super) struct Taps {
    all: BTreeMap<u64, Watcher>,
    last: u64,
}

/// One of them.
#[derive(Debug)]
struct Watcher {
    bridge: String,
    frames: VecDeque<Frame>,
    /// What is written to when a frame comes and none waits: for whoever waits for other
    /// things as well.
    bell: Option<UnixStream>,
}

impl Taps {
    pub(super) fn add(&mut self, bridge: &str) -> u64 {
        self.last += 1;
        let watcher = Watcher {
            bridge: bridge.to_owned(),
            frames: VecDeque::new(),
            bell: None,
        };
        self.all.insert(self.last, watcher);
        self.last
    }

    pub(super) fn set_bell(&mut self, id: u64, bell: UnixStream) {
        if let Some(watcher) = self.all.get_mut(&id) {
            watcher.bell = Some(bell);
        }
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.all.remove(&id);
    }

    pub(super) fn receive(&mut self, id: u64) -> Option<Frame> {
        self.all.get_mut(&id)?.frames.pop_front()
    }

    pub(super) fn is_empty(&self, id: u64) -> bool {
        self.all
            .get(&id)
            .is_none_or(|watcher| watcher.frames.is_empty())
    }
}

/// One queue that is connected.
#[derive(Debug)]
struct Queue {
    tx: BackRing<Mapped, TX_BYTES>,
    rx: BackRing<Mapped, RX_BYTES>,
    /// The frontend's ports and this side's ends: that of both directions, or
    /// that of what it sends and that of what it receives.
    ports: Vec<(Port, Port)>,
    /// Pages that it may write into.
    posted: VecDeque<NetifRxRequest>,
    /// The frontend broke it: it is served no more.
    is_broken: bool,
    last: NetifTxResponse,
}

/// What the frontend takes.
#[derive(Clone, Copy, Debug, Default)]
struct Takes {
    checksum_v4: bool,
    checksum_v6: bool,
    segments_v4: bool,
    segments_v6: bool,
    /// Only groups that it asked for.
    joined: bool,
    /// Bytes that are to be free before each packet. Source: Linux's `xdp-headroom`.
    headroom: u16,
}

/// The interface's backend.
#[derive(Debug)]
pub(super) struct Net {
    config: NicConfig,
    queues: Vec<Queue>,
    domids: (DomId, DomId),
    takes: Takes,
    /// As they were asked for: one that was asked for twice is here twice.
    groups: Vec<[u8; 6]>,
    steering: Option<Steering>,
    /// Packets that the frontend sent.
    sent: Vec<Frame>,
    /// Packets that it is to get.
    waiting: VecDeque<Frame>,
    hoarded: Vec<Use>,
    /// It never lets go of any.
    hoards_all: bool,
    /// It was rung, and looks then.
    wakes_ns: Option<u64>,
    /// Segmented packets that came without a blank checksum.
    pub(super) checksum_fixups: u64,
}

/// A packet that was sent is wrong.
struct Wrong;

impl Net {
    pub(super) const fn new(config: NicConfig) -> Self {
        Self {
            domids: (config.backend, DomId(0)),
            config,
            queues: Vec::new(),
            takes: Takes {
                checksum_v4: false,
                checksum_v6: false,
                segments_v4: false,
                segments_v6: false,
                joined: false,
                headroom: 0,
            },
            groups: Vec::new(),
            steering: None,
            sent: Vec::new(),
            waiting: VecDeque::new(),
            hoarded: Vec::new(),
            hoards_all: false,
            wakes_ns: None,
            checksum_fixups: 0,
        }
    }

    /// The bytes of the frontend's pages that it never lets go of.
    pub(super) fn kept_pages(&self, world: &World) -> Vec<Vec<u8>> {
        let pages = self.hoarded.iter().filter_map(|used| world.page_of(used));
        let bytes = pages.map(|page| {
            let mut bytes = vec![0; PAGE_SIZE];
            page.copy_to(&mut bytes);
            bytes
        });
        bytes.collect()
    }

    /// Takes all packets that the frontend has sent.
    fn take_sent(&mut self, world: &mut World) {
        let mut queues = std::mem::take(&mut self.queues);
        for queue in &mut queues {
            loop {
                if queue.is_broken {
                    break;
                }
                match queue.tx.pop::<NetifTxRequest>() {
                    Ok(Some(request)) => self.take_packet(world, queue, request),
                    Ok(None) if queue.tx.listen() => {}
                    Ok(None) => break,
                    Err(_) => queue.is_broken = true,
                }
            }
            if queue.tx.publish() == Notify::Yes
                && let Some((port, _)) = queue.ports.first()
            {
                world.tell_front(self.domids.1, *port);
            }
        }
        self.queues = queues;
    }

    /// Takes one packet, of which `first` is the first request.
    fn take_packet(&mut self, world: &mut World, queue: &mut Queue, first: NetifTxRequest) {
        let mut requests = vec![first];
        let mut extras = Vec::new();
        let flags = |request: &NetifTxRequest| NetTxFlags::from_bits_retain(request.flags);
        let mut more = flags(&first).contains(NetTxFlags::EXTRA_INFO);
        while more {
            let Ok(Some(extra)) = queue.tx.pop::<NetifExtraInfo>() else {
                queue.is_broken = true;
                return;
            };
            more = NetifExtraFlags::from_bits_retain(extra.flags).contains(NetifExtraFlags::MORE);
            extras.push(extra);
        }
        while requests
            .last()
            .is_some_and(|last| flags(last).contains(NetTxFlags::MORE_DATA))
        {
            match queue.tx.pop::<NetifTxRequest>() {
                Ok(Some(request)) => requests.push(request),
                _ => {
                    queue.is_broken = true;
                    return;
                }
            }
        }
        let status = match self.packet(world, &requests, &extras) {
            Ok(frame) => {
                self.sent.extend(frame);
                NetifStatus::OKAY
            }
            Err(Wrong) => NetifStatus::ERROR,
        };
        // The first slot, those of more information, and the rest.
        for (index, request) in requests.iter().enumerate() {
            queue.last = NetifTxResponse {
                id: request.id,
                status,
            };
            let _room = queue.tx.push(&queue.last);
            let nothing = NetifTxResponse {
                id: 0xdead,
                status: NetifStatus::NULL,
            };
            for _ in extras.iter().filter(|_| index == 0) {
                let _room = queue.tx.push(&nothing);
            }
        }
    }

    /// The packet that these requests are; none, if they were about something
    /// else.
    fn packet(
        &mut self,
        world: &mut World,
        requests: &[NetifTxRequest],
        extras: &[NetifExtraInfo],
    ) -> Result<Option<Frame>, Wrong> {
        let mut frame = Frame::default();
        for extra in extras {
            match extra.r#type {
                NetifExtraType::GSO if self.config.segments => {
                    let gso = NetifExtraGso::read_from_bytes(extra.u.as_bytes());
                    let gso = gso.map_err(|_| Wrong)?;
                    frame.segments = Some(match gso.r#type {
                        NetifGsoType::TCPV4 if gso.size > 0 => Segments::TcpV4(gso.size),
                        NetifGsoType::TCPV6 if gso.size > 0 => Segments::TcpV6(gso.size),
                        _ => return Err(Wrong),
                    });
                }
                kind @ (NetifExtraType::MCAST_ADD | NetifExtraType::MCAST_DEL) => {
                    let group = extra.u.as_bytes().first_chunk().copied();
                    let group = group.filter(|_| self.config.multicast).ok_or(Wrong)?;
                    let place = self.groups.iter().position(|known| *known == group);
                    if kind == NetifExtraType::MCAST_DEL {
                        place.map(|place| self.groups.remove(place));
                    } else if self.groups.len() < MOST_GROUPS {
                        self.groups.push(group);
                    } else {
                        return Err(Wrong);
                    }
                    return Ok(None);
                }
                _ => return Err(Wrong),
            }
        }
        let Some((first, others)) = requests.split_first() else {
            return Err(Wrong);
        };
        if world.backend_fails() || requests.len() > XEN_NETIF_NR_SLOTS_MIN {
            return Err(Wrong);
        }
        let total = usize::from(first.size);
        let rest: usize = others.iter().map(|other| usize::from(other.size)).sum();
        let own = total.checked_sub(rest).ok_or(Wrong)?;
        let most = match frame.segments {
            Some(_) => usize::from(u16::MAX),
            None => usize::from(self.config.mtu) + LEAST_BYTES + 4,
        };
        if total < LEAST_BYTES || total > most || (!others.is_empty() && !self.config.segments) {
            return Err(Wrong);
        }
        let flags = NetTxFlags::from_bits_retain(first.flags);
        frame.checksum = if flags.contains(NetTxFlags::CSUM_BLANK) {
            Checksum::Blank
        } else if flags.contains(NetTxFlags::DATA_VALIDATED) {
            Checksum::Validated
        } else {
            Checksum::Complete
        };
        let (domid, front) = self.domids;
        for (index, request) in requests.iter().enumerate() {
            let len = if index == 0 {
                own
            } else {
                usize::from(request.size)
            };
            let used = world.acquire(domid, front, request.gref, Access::Read);
            let used = used.map_err(|_| Wrong)?;
            let at = frame.bytes.len();
            frame.bytes.resize(at + len, 0);
            let page = world.page_of(&used);
            let part = page.and_then(|page| page.get(usize::from(request.offset), len));
            let copied = part.map(|part| part.copy_to(&mut frame.bytes[at..]));
            match self.hoards_all {
                true => self.hoarded.push(used),
                false => world.release(&used, Access::Read),
            }
            copied.ok_or(Wrong)?;
        }
        let is_blank = frame.checksum == Checksum::Blank;
        self.checksum_fixups += u64::from(frame.segments.is_some() && !is_blank);
        match frame.settle() {
            Some(is_v6) if frame.checksum == Checksum::Blank => match is_v6 {
                true if !self.config.checksums_v6 => Err(Wrong),
                false if !self.config.checksums_v4 => Err(Wrong),
                _ => Ok(Some(frame)),
            },
            Some(_) => Ok(Some(frame)),
            // Linux's has answered by then.
            None => Ok(None),
        }
    }

    /// A packet comes for the frontend.
    fn offer(&mut self, frame: &Frame) {
        let Some(target) = frame.bytes.first_chunk::<6>() else {
            return;
        };
        let is_group = target[0] & 1 != 0;
        let is_wanted = match is_group {
            false => *target == self.config.mac,
            true => *target == [0xff; 6] || !self.takes.joined || self.groups.contains(target),
        };
        if is_wanted && !self.queues.is_empty() && self.waiting.len() < MOST_WAITING {
            let is_v6 = frame.bytes.get(12..14) == Some(&[0x86, 0xdd]);
            let (checksums, segments) = match is_v6 {
                true => (self.takes.checksum_v6, self.takes.segments_v6),
                false => (self.takes.checksum_v4, self.takes.segments_v4),
            };
            let is_blank = frame.checksum == Checksum::Blank;
            if (is_blank && !checksums) || (frame.segments.is_some() && !segments) {
                let wire = frame.on_wire().into_iter();
                self.waiting.extend(wire.map(Frame::whole));
            } else {
                self.waiting.push_back(frame.clone());
            }
        }
    }

    /// Gives the frontend what waits, as far as it has room.
    fn deliver(&mut self, world: &mut World) {
        let (domid, front) = self.domids;
        let count = self.queues.len();
        while let Some(frame) = self.waiting.front() {
            let steered = self
                .steering
                .as_ref()
                .and_then(|it| it.choose(&frame.bytes));
            // A connection's packets come in their order, by one queue.
            let flow = match frame.bytes.get(12..14) {
                Some([0x08, 0x00]) => frame.bytes.get(26..38),
                Some([0x86, 0xdd]) => frame.bytes.get(22..58),
                _ => None,
            };
            let flow = flow.unwrap_or_default().iter();
            let index = flow.fold(0_usize, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
            });
            let index = steered.map_or(index % count.max(1), |(_, _, queue)| queue as usize);
            let Some(queue) = self.queues.get_mut(index) else {
                break;
            };
            while let Ok(Some(request)) = queue.rx.pop::<NetifRxRequest>() {
                queue.posted.push_back(request);
            }
            let extras = extras(frame, steered, self.takes.headroom);
            let needed = frame.bytes.len().div_ceil(PAGE_SIZE).max(1) + extras.len();
            if queue.posted.len() < needed {
                // It is rung for when there is more.
                if queue.is_broken || !queue.rx.listen() {
                    break;
                }
                continue;
            }
            let Some(frame) = self.waiting.pop_front() else {
                break;
            };
            let mut posted = queue.posted.drain(..needed);
            let chunks = frame.bytes.chunks(PAGE_SIZE);
            let last = chunks.len().saturating_sub(1);
            for (index, chunk) in chunks.enumerate() {
                let Some(request) = posted.next() else {
                    break;
                };
                let mut flags = NetRxFlags::empty();
                flags.set(NetRxFlags::MORE_DATA, index < last);
                if index == 0 {
                    flags |= match frame.checksum {
                        Checksum::Complete => NetRxFlags::empty(),
                        Checksum::Validated => NetRxFlags::DATA_VALIDATED,
                        Checksum::Blank => NetRxFlags::CSUM_BLANK | NetRxFlags::DATA_VALIDATED,
                    };
                    flags.set(NetRxFlags::EXTRA_INFO, !extras.is_empty());
                }
                let used = world.acquire(domid, front, request.gref, Access::Write);
                let copied = used.ok().and_then(|used| {
                    let page = world.page_of(&used);
                    let copied = page.map(|page| page.copy_from(chunk));
                    world.release(&used, Access::Write);
                    copied
                });
                let response = NetifRxResponse {
                    id: request.id,
                    flags: flags.bits(),
                    status: copied.map_or(NetifStatus::ERROR.0, |copied| copied as i16),
                    ..NetifRxResponse::default()
                };
                let _room = queue.rx.push(&response);
                for extra in extras.iter().filter(|_| index == 0) {
                    let _its = posted.next();
                    let _room = queue.rx.push(extra);
                }
            }
        }
        for queue in &mut self.queues {
            if queue.rx.publish() == Notify::Yes
                && let Some((port, _)) = queue.ports.last()
            {
                world.tell_front(front, *port);
            }
        }
    }
}

/// Linux's information about what is free before a packet.
const XDP: NetifExtraType = NetifExtraType(5);

/// More about a packet: how it is to be cut, and its hash.
fn extras(frame: &Frame, steered: Option<(u8, u32, u32)>, headroom: u16) -> Vec<NetifExtraInfo> {
    let gso = frame.segments.map(|segments| {
        let gso = NetifExtraGso {
            size: segments.bytes(),
            r#type: match segments {
                Segments::TcpV4(_) => NetifGsoType::TCPV4,
                Segments::TcpV6(_) => NetifGsoType::TCPV6,
            },
            ..NetifExtraGso::default()
        };
        (NetifExtraType::GSO, zerocopy::transmute!(gso))
    });
    let hash = steered.map(|(kind, value, _)| {
        let hash = NetifExtraHash {
            r#type: kind,
            algorithm: XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
            value: value.to_le_bytes(),
        };
        (NetifExtraType::HASH, zerocopy::transmute!(hash))
    });
    let headroom = (headroom > 0).then_some((XDP, [headroom, 0, 0]));
    let mut all: Vec<_> = gso
        .into_iter()
        .chain(hash)
        .chain(headroom)
        .map(|(r#type, u)| NetifExtraInfo {
            r#type,
            flags: NetifExtraFlags::MORE.bits(),
            u,
        })
        .collect();
    if let Some(last) = all.last_mut() {
        last.flags = NetifExtraFlags::empty().bits();
    }
    all
}

impl World {
    /// Passes packets on, until there are none.
    pub(super) fn switch_frames(&mut self) {
        loop {
            let mut sent: Vec<(u64, String, Frame)> = Vec::new();
            for (id, backend) in &mut self.backends.all {
                if let Some(nic) = backend.device.nic() {
                    let bridge = nic.config.bridge.clone();
                    let frames = std::mem::take(&mut nic.sent).into_iter();
                    sent.extend(frames.map(|frame| (*id, bridge.clone(), frame)));
                }
            }
            if sent.is_empty() {
                return;
            }
            for (id, bridge, frame) in sent {
                self.pass(&bridge, Some(id), None, &frame);
            }
        }
    }

    /// Somebody outside sends a packet.
    pub(super) fn send_frame(&mut self, bridge: &str, tap: u64, frame: Frame) {
        self.pass(bridge, None, Some(tap), &frame);
    }

    fn pass(&mut self, bridge: &str, nic: Option<u64>, tap: Option<u64>, frame: &Frame) {
        for (id, watcher) in &mut self.backends.taps.all {
            let frames = &mut watcher.frames;
            if watcher.bridge == bridge && Some(*id) != tap && frames.len() < MOST_WAITING {
                if let Some(bell) = watcher.bell.as_mut().filter(|_| frames.is_empty()) {
                    // One that is full has been heard.
                    let _full = bell.write(&[1]);
                }
                frames.push_back(frame.clone());
            }
        }
        let ids: Vec<u64> = self.backends.all.keys().copied().collect();
        for id in ids.into_iter().filter(|id| Some(*id) != nic) {
            self.with_backend(id, |world, backend| {
                if let Some(nic) = backend
                    .device
                    .nic()
                    .filter(|nic| nic.config.bridge == bridge)
                {
                    nic.offer(frame);
                    nic.deliver(world);
                }
            });
        }
    }
}

impl Serve for Net {
    fn kind(&self) -> &'static str {
        "vif"
    }

    fn number(&self) -> u32 {
        self.config.handle
    }

    fn front_keys(&self) -> Vec<(&'static str, String)> {
        let mac = self.config.mac.map(|byte| format!("{byte:02x}")).join(":");
        vec![
            ("handle", self.config.handle.to_string()),
            ("mac", mac),
            ("mtu", self.config.mtu.to_string()),
            ("trusted", u32::from(self.config.trusted).to_string()),
        ]
    }

    fn offers(&self) -> Vec<(&'static str, String)> {
        let config = &self.config;
        let flag = |value: bool| u32::from(value).to_string();
        vec![
            ("feature-rx-copy", flag(config.rx_copy)),
            ("feature-sg", flag(config.segments)),
            ("feature-gso-tcpv4", flag(config.segments)),
            ("feature-gso-tcpv6", flag(config.segments)),
            ("feature-no-csum-offload", flag(!config.checksums_v4)),
            ("feature-ipv6-csum-offload", flag(config.checksums_v6)),
            ("feature-multicast-control", flag(config.multicast)),
            ("feature-split-event-channels", flag(config.split)),
            ("feature-ctrl-ring", flag(config.control)),
            ("multi-queue-max-queues", config.queues.to_string()),
        ]
    }

    fn front(&self) -> DomId {
        self.domids.1
    }

    fn connect(&mut self, world: &mut World, details: (DomId, DomId, String)) -> bool {
        let (domid, front, path) = details;
        self.let_go(world);
        self.domids = (domid, front);
        let number = |world: &World, name: &str| -> Option<u32> {
            let value = world.store.read(&format!("{path}/{name}"))?;
            std::str::from_utf8(value).ok()?.trim().parse().ok()
        };
        let says = |world: &World, name: &str| number(world, name).is_some_and(|it| it != 0);
        let queues = number(world, "multi-queue-num-queues").unwrap_or(1);
        if queues == 0 || queues > self.config.queues || !says(world, "request-rx-copy") {
            return false;
        }
        self.takes = Takes {
            checksum_v4: !says(world, "feature-no-csum-offload"),
            checksum_v6: says(world, "feature-ipv6-csum-offload"),
            segments_v4: says(world, "feature-gso-tcpv4"),
            segments_v6: says(world, "feature-gso-tcpv6"),
            joined: says(world, "request-multicast-control") && self.config.multicast,
            headroom: number(world, "xdp-headroom").map_or(0, |bytes| bytes as u16),
        };
        for index in 0..queues {
            let folder = match queues {
                1 => String::new(),
                _ => format!("queue-{index}/"),
            };
            let own = |world: &World, name: &str| number(world, &format!("{folder}{name}"));
            let split = [
                own(world, "event-channel-tx"),
                own(world, "event-channel-rx"),
            ];
            let names: Vec<Option<u32>> = match split {
                // Whatever it offers, it looks for them first.
                [Some(_), Some(_)] => split.to_vec(),
                _ => vec![own(world, "event-channel")],
            };
            let refs = [own(world, "tx-ring-ref"), own(world, "rx-ring-ref")];
            let mut rings = Vec::new();
            for gref in refs.into_iter().flatten() {
                rings.extend(world.map(domid, front, &[GrantRef(gref)]));
            }
            let mut ports = Vec::new();
            for port in names.iter().flatten().map(|port| Port(*port)) {
                let own = world.bind(domid, front, port);
                ports.extend(own.map(|own| (port, own)));
            }
            let is_whole = rings.len() == 2 && ports.len() == names.len();
            if !is_whole {
                for ring in &rings {
                    world.unmap_pages(ring);
                }
                for (port, own) in ports {
                    world.unbind(domid, front, port, own);
                }
                self.let_go(world);
                return false;
            }
            let rings = <[Mapped; 2]>::try_from(rings);
            let rings = rings.map(|[tx, rx]| (BackRing::attach(tx), BackRing::attach(rx)));
            // A page holds some slots.
            let Ok((Some(tx), Some(rx))) = rings else {
                return false;
            };
            self.queues.push(Queue {
                tx,
                rx,
                ports,
                posted: VecDeque::new(),
                is_broken: false,
                last: NetifTxResponse::new_zeroed(),
            });
        }
        let control = (
            number(world, "ctrl-ring-ref"),
            number(world, "event-channel-ctrl"),
        );
        if control.0.is_some() && control.1.is_none() {
            self.let_go(world);
            return false;
        }
        if let (Some(gref), Some(port)) = control {
            let ring = world.map(domid, front, &[GrantRef(gref)]);
            let own = world.bind(domid, front, Port(port));
            let (Some(ring), Some(own)) = (ring, own) else {
                self.let_go(world);
                return false;
            };
            let ring = BackRing::attach(ring);
            self.steering = ring.map(|ring| Steering::new(ring, (Port(port), own)));
        }
        true
    }

    fn let_go(&mut self, world: &mut World) {
        let (domid, front) = self.domids;
        self.wakes_ns = None;
        self.waiting.clear();
        self.groups.clear();
        if let Some(steering) = self.steering.take() {
            world.unmap_pages(steering.memory());
            world.unbind(domid, front, steering.port.0, steering.port.1);
        }
        for mut queue in std::mem::take(&mut self.queues) {
            if self.hoards_all {
                while let Ok(Some(request)) = queue.rx.pop::<NetifRxRequest>() {
                    queue.posted.push_back(request);
                }
                for request in &queue.posted {
                    let used = world.acquire(domid, front, request.gref, Access::Write);
                    self.hoarded.extend(used.ok());
                }
                // What it has not looked at yet, it still reads.
                while let Ok(Some(request)) = queue.tx.pop::<NetifTxRequest>() {
                    let used = world.acquire(domid, front, request.gref, Access::Read);
                    self.hoarded.extend(used.ok());
                }
                self.hoarded.extend_from_slice(&queue.tx.memory().uses);
                self.hoarded.extend_from_slice(&queue.rx.memory().uses);
            } else {
                world.unmap_pages(queue.tx.memory());
                world.unmap_pages(queue.rx.memory());
            }
            for (port, own) in queue.ports {
                world.unbind(domid, front, port, own);
            }
        }
    }

    fn ring(&mut self, world: &mut World) {
        let wakes_ns = world.backend_ns().saturating_add(self.config.latency_ns);
        let _earlier = self.wakes_ns.get_or_insert(wakes_ns);
        if self.config.latency_ns == 0 {
            self.finish(world, wakes_ns);
        }
    }

    fn finish(&mut self, world: &mut World, now_ns: u64) {
        if self.wakes_ns.is_some_and(|wakes_ns| wakes_ns <= now_ns) {
            self.wakes_ns = None;
            if let Some(steering) = &mut self.steering {
                steering.serve(world, self.domids, self.queues.len() as u32);
            }
            self.take_sent(world);
            self.deliver(world);
        }
    }

    fn next_ns(&self) -> Option<u64> {
        self.wakes_ns
    }

    fn ports(&self) -> Vec<(Port, Port)> {
        let ports = self.queues.iter().flat_map(|queue| &queue.ports);
        let control = self.steering.as_ref().map(|steering| steering.port);
        ports.copied().chain(control).collect()
    }

    fn rings(&self) -> Vec<PeerSlice<'static>> {
        let rings = self
            .queues
            .iter()
            .flat_map(|queue| [queue.tx.memory().first(), queue.rx.memory().first()]);
        rings.flatten().collect()
    }

    fn forge(&mut self, value: u64) {
        if let Some(queue) = self.queues.first() {
            queue.rx.memory().force(RX_BYTES, value.as_bytes());
        }
    }

    fn repeat(&mut self) {
        if let Some(queue) = self.queues.first() {
            queue.tx.memory().force(TX_BYTES, queue.last.as_bytes());
        }
    }

    fn answer_null(&mut self) {
        let null = NetifTxResponse {
            status: NetifStatus::NULL,
            ..NetifTxResponse::new_zeroed()
        };
        if let Some(queue) = self.queues.first() {
            queue.tx.memory().force(TX_BYTES, null.as_bytes());
        }
    }

    fn hoard_all(&mut self) {
        self.hoards_all = true;
    }

    fn hoard(&mut self, world: &mut World) {
        let (domid, front) = self.domids;
        let Some(queue) = self.queues.first_mut() else {
            return;
        };
        while let Ok(Some(request)) = queue.rx.pop::<NetifRxRequest>() {
            queue.posted.push_back(request);
        }
        // A page for a packet, and one of a ring.
        let posted = queue.posted.front().map(|request| request.gref);
        let ring = queue.tx.memory().uses.first().map(|used| used.gref);
        for gref in posted.into_iter().chain(ring) {
            let used = world.acquire(domid, front, gref, Access::Write);
            self.hoarded.extend(used.ok());
        }
    }

    fn abandon(&mut self) {
        self.hoarded.clear();
    }

    fn hoarded(&self) -> usize {
        let grefs = self.hoarded.iter().map(|used| used.gref);
        grefs.collect::<BTreeSet<_>>().len()
    }
}
