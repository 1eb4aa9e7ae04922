//! A network interface, as netback serves it, and the bridges between them.

mod bridge;
mod receiving;
mod sending;

use std::collections::{BTreeSet, VecDeque};

use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE, Port,
    io::{
        netif::{NetifRxRequest, NetifRxResponse, NetifStatus, NetifTxRequest, NetifTxResponse},
        ring::BackRing,
    },
    peer::PeerSlice,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{Mapped, device::Serve, segments::Frame, steering::Steering};
use crate::{
    core::{grant_uses::Use, memory::Access},
    services::Services,
};
pub(crate) use bridge::Taps;

const TX_BYTES: usize = size_of::<NetifTxRequest>();
const RX_BYTES: usize = size_of::<NetifRxResponse>();
/// Packets that wait for a frontend to make room.
const MAX_WAITING: usize = 1024;

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
pub(crate) struct Net {
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
    pub(crate) checksum_fixups: u64,
}

impl Net {
    pub(crate) const fn new(config: NicConfig) -> Self {
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
    pub(crate) fn kept_pages(&self, services: &Services) -> Vec<Vec<u8>> {
        let pages = self
            .hoarded
            .iter()
            .filter_map(|used| services.granted_page(used));
        let bytes = pages.map(|page| {
            let mut bytes = vec![0; PAGE_SIZE];
            page.copy_to(&mut bytes);
            bytes
        });
        bytes.collect()
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

    fn connect(&mut self, services: &mut Services, details: (DomId, DomId, String)) -> bool {
        let (domid, front, path) = details;
        self.let_go(services);
        self.domids = (domid, front);
        let number = |services: &Services, name: &str| -> Option<u32> {
            let value = services.store.read(&format!("{path}/{name}")).ok()?;
            std::str::from_utf8(value).ok()?.trim().parse().ok()
        };
        let says =
            |services: &Services, name: &str| number(services, name).is_some_and(|it| it != 0);
        let queues = number(services, "multi-queue-num-queues").unwrap_or(1);
        if queues == 0 || queues > self.config.queues || !says(services, "request-rx-copy") {
            return false;
        }
        self.takes = Takes {
            checksum_v4: !says(services, "feature-no-csum-offload"),
            checksum_v6: says(services, "feature-ipv6-csum-offload"),
            segments_v4: says(services, "feature-gso-tcpv4"),
            segments_v6: says(services, "feature-gso-tcpv6"),
            joined: says(services, "request-multicast-control") && self.config.multicast,
            headroom: number(services, "xdp-headroom").map_or(0, |bytes| bytes as u16),
        };
        for index in 0..queues {
            let folder = match queues {
                1 => String::new(),
                _ => format!("queue-{index}/"),
            };
            let own =
                |services: &Services, name: &str| number(services, &format!("{folder}{name}"));
            let split = [
                own(services, "event-channel-tx"),
                own(services, "event-channel-rx"),
            ];
            let names: Vec<Option<u32>> = match split {
                // Whatever it offers, it looks for them first.
                [Some(_), Some(_)] => split.to_vec(),
                _ => vec![own(services, "event-channel")],
            };
            let refs = [own(services, "tx-ring-ref"), own(services, "rx-ring-ref")];
            let mut rings = Vec::new();
            for gref in refs.into_iter().flatten() {
                rings.extend(services.map(domid, front, &[GrantRef(gref)]));
            }
            let mut ports = Vec::new();
            for port in names.iter().flatten().map(|port| Port(*port)) {
                let own = services.bind(domid, front, port);
                ports.extend(own.map(|own| (port, own)));
            }
            let is_whole = rings.len() == 2 && ports.len() == names.len();
            if !is_whole {
                for ring in &rings {
                    services.unmap_pages(ring);
                }
                for (port, own) in ports {
                    services.unbind(domid, front, port, own);
                }
                self.let_go(services);
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
            number(services, "ctrl-ring-ref"),
            number(services, "event-channel-ctrl"),
        );
        if control.0.is_some() && control.1.is_none() {
            self.let_go(services);
            return false;
        }
        if let (Some(gref), Some(port)) = control {
            let ring = services.map(domid, front, &[GrantRef(gref)]);
            let own = services.bind(domid, front, Port(port));
            let (Some(ring), Some(own)) = (ring, own) else {
                self.let_go(services);
                return false;
            };
            let ring = BackRing::attach(ring);
            self.steering = ring.map(|ring| Steering::new(ring, (Port(port), own)));
        }
        true
    }

    fn let_go(&mut self, services: &mut Services) {
        let (domid, front) = self.domids;
        self.wakes_ns = None;
        self.waiting.clear();
        self.groups.clear();
        if let Some(steering) = self.steering.take() {
            services.unmap_pages(steering.memory());
            services.unbind(domid, front, steering.port.0, steering.port.1);
        }
        for mut queue in std::mem::take(&mut self.queues) {
            if self.hoards_all {
                while let Ok(Some(request)) = queue.rx.pop::<NetifRxRequest>() {
                    queue.posted.push_back(request);
                }
                for request in &queue.posted {
                    let used = services.acquire(domid, front, request.gref, Access::Write);
                    self.hoarded.extend(used.ok());
                }
                // What it has not looked at yet, it still reads.
                while let Ok(Some(request)) = queue.tx.pop::<NetifTxRequest>() {
                    let used = services.acquire(domid, front, request.gref, Access::Read);
                    self.hoarded.extend(used.ok());
                }
                self.hoarded.extend_from_slice(&queue.tx.memory().uses);
                self.hoarded.extend_from_slice(&queue.rx.memory().uses);
            } else {
                services.unmap_pages(queue.tx.memory());
                services.unmap_pages(queue.rx.memory());
            }
            for (port, own) in queue.ports {
                services.unbind(domid, front, port, own);
            }
        }
    }

    fn ring(&mut self, services: &mut Services) {
        let wakes_ns = services.now_ns().saturating_add(self.config.latency_ns);
        let _earlier = self.wakes_ns.get_or_insert(wakes_ns);
        if self.config.latency_ns == 0 {
            self.finish(services, wakes_ns);
        }
    }

    fn finish(&mut self, services: &mut Services, now_ns: u64) {
        if self.wakes_ns.is_some_and(|wakes_ns| wakes_ns <= now_ns) {
            self.wakes_ns = None;
            if let Some(steering) = &mut self.steering {
                steering.serve(services, self.domids, self.queues.len() as u32);
            }
            self.take_sent(services);
            self.deliver(services);
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

    fn hoard(&mut self, services: &mut Services) {
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
            let used = services.acquire(domid, front, gref, Access::Write);
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
