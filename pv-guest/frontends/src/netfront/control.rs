//! The control ring: telling a backend how to choose the queue of a packet.

use alloc::{collections::VecDeque, vec::Vec};
use core::task::{Context, Poll};

use event_channels::{Channel, Ports};
use grant_tables::{Granted, PeerReads};
use hypercall_abi::{
    DomId, PAGE_SIZE,
    io::{
        netif::{
            NetifCtrlRequest, NetifCtrlResponse, NetifCtrlStatus, NetifCtrlType, NetifHashTypes,
            XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
        },
        ring::{FrontRing, Notify},
    },
    platform::Platform,
};

use crate::{
    buffers::{Lender, RingPages},
    xenbus::{Fault, Key},
};

const SLOT_BYTES: usize = size_of::<NetifCtrlRequest>();
/// Entries of the table from hashes to queues.
const ENTRIES: usize = 64;
/// Where in its page the table is; the key is at the start.
const TABLE_OFFSET: usize = PAGE_SIZE / 2;

/// How a backend is to choose the queue of a packet: by a hash (Toeplitz's) of its
/// addresses and ports, all queues taking turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steering {
    /// The hash's key.
    pub key: [u8; 40],
    /// What is hashed.
    pub hashes: NetifHashTypes,
}

/// What became of a [`Steering`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steered {
    /// Nobody asked for it, or the backend has no control ring: it chooses as it
    /// likes.
    No,
    /// The backend has not said yet.
    Asked,
    /// It does.
    Yes,
    /// It does not want to: why.
    Refused(NetifCtrlStatus),
}

#[derive(Debug)]
pub(super) struct Control<'g, P: Platform> {
    ring: FrontRing<RingPages<'g, P>, SLOT_BYTES>,
    channel: Channel<'g, P>,
    /// The key and the table, for the backend to copy.
    page: Granted<'g, P, PeerReads>,
    /// What is still to be asked.
    rest: VecDeque<(NetifCtrlType, [u32; 3])>,
    /// What was asked, and not answered: one thing at a time.
    asked: Option<(u16, NetifCtrlType)>,
    next_id: u16,
    pub(super) steered: Steered,
}

impl<'g, P: Platform> Control<'g, P> {
    /// Makes a ring for `peer`, which is to steer to so many queues; says how it
    /// is told of it.
    pub(super) fn new(
        grants: Lender<'g, P>,
        ports: &'g Ports<P>,
        peer: DomId,
        steering: &Steering,
        queues: usize,
    ) -> Result<(Self, Vec<Key>), Fault> {
        let mut page = grants.page()?;
        let bytes = page.bytes_mut();
        if let Some(key) = bytes.first_chunk_mut() {
            *key = steering.key;
        }
        let (entries, _) = bytes
            .get_mut(TABLE_OFFSET..)
            .unwrap_or_default()
            .as_chunks_mut();
        for (index, entry) in entries.iter_mut().take(ENTRIES).enumerate() {
            *entry = ((index % queues.max(1)) as u32).to_le_bytes();
        }
        let page = grants.share::<PeerReads>(peer, page)?;
        let gref = page.gref().0;
        let pages = RingPages::new(grants, peer, 1)?;
        let ring_ref = pages.grefs().first().copied().ok_or(Fault::NoMemory)?;
        let ring = FrontRing::new(pages).ok_or(Fault::NoMemory)?;
        let channel = Channel::unbound(ports, peer)?;
        let keys = alloc::vec![
            Key::new("ctrl-ring-ref", ring_ref),
            Key::new("event-channel-ctrl", channel.port()),
        ];
        let algorithm = XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ.into();
        let key_bytes = steering.key.len() as u32;
        let table = [gref, ENTRIES as u32, 0];
        let control = Self {
            ring,
            channel,
            page,
            rest: VecDeque::from([
                (NetifCtrlType::SET_HASH_ALGORITHM, [algorithm, 0, 0]),
                (
                    NetifCtrlType::SET_HASH_FLAGS,
                    [steering.hashes.bits(), 0, 0],
                ),
                (NetifCtrlType::SET_HASH_KEY, [gref, key_bytes, 0]),
                (NetifCtrlType::SET_HASH_MAPPING_SIZE, [ENTRIES as u32, 0, 0]),
                (NetifCtrlType::SET_HASH_MAPPING, table),
            ]),
            asked: None,
            next_id: 0,
            steered: Steered::Asked,
        };
        Ok((control, keys))
    }

    /// Takes an answer and asks what is next, as far as that goes.
    pub(super) fn advance(&mut self) -> Result<(), Fault> {
        loop {
            if let Some(asked) = self.asked {
                let Some(response) = self.ring.pop::<NetifCtrlResponse>()? else {
                    if self.ring.listen() {
                        continue;
                    }
                    return Ok(());
                };
                if (response.id, response.r#type) != asked {
                    return Err(Fault::Response("a control request that it does not have"));
                }
                self.asked = None;
                if response.status != NetifCtrlStatus::SUCCESS {
                    self.steered = Steered::Refused(response.status);
                    self.rest.clear();
                }
            }
            let Some((r#type, data)) = self.rest.pop_front() else {
                if self.steered == Steered::Asked {
                    self.steered = Steered::Yes;
                }
                return Ok(());
            };
            self.ask(r#type, data)?;
        }
    }

    fn ask(&mut self, r#type: NetifCtrlType, mut data: [u32; 3]) -> Result<(), Fault> {
        if r#type == NetifCtrlType::SET_HASH_MAPPING {
            // The table is copied from the start of a page: the key has been.
            let bytes = self.page.bytes_mut();
            bytes.copy_within(TABLE_OFFSET..TABLE_OFFSET + ENTRIES * 4, 0);
            data[0] = self.page.gref().0;
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.ring.push(&NetifCtrlRequest { id, r#type, data });
        self.asked = Some((id, r#type));
        if self.ring.publish() == Notify::Yes {
            self.channel.notify()?;
        }
        Ok(())
    }

    /// Has `cx` woken by the next answer; `Ready`: one came.
    pub(super) fn poll_events(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.channel.poll_wait(cx)
    }
}
