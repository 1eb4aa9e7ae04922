//! The pages of a ring.

use crate::{
    PAGE_SIZE,
    peer::{PeerPtr, PeerSlice},
    peer_field,
};

use super::{Sring, slots};

/// Pages that hold a ring, in their order: they need not lie side by side.
pub trait RingMemory {
    /// How many there are.
    fn pages(&self) -> usize;
    /// One of them, whole; `None` if there is no such page.
    fn page(&self, index: usize) -> Option<PeerSlice<'_>>;
}

/// The ring's head.
pub(super) fn head(memory: &impl RingMemory) -> Option<PeerPtr<'_, Sring>> {
    memory.page(0)?.at(0)
}

/// How many slots there are.
pub(super) fn count(memory: &impl RingMemory, slot_bytes: usize) -> u32 {
    slots(memory.pages() * PAGE_SIZE, slot_bytes) as u32
}

/// The parts of a slot: one, or two where it lies across pages.
fn parts<'m>(
    memory: &'m impl RingMemory,
    offset: usize,
    len_bytes: usize,
) -> Option<(PeerSlice<'m>, Option<PeerSlice<'m>>)> {
    let (page, within) = (offset / PAGE_SIZE, offset % PAGE_SIZE);
    let first = len_bytes.min(PAGE_SIZE - within);
    let part = memory.page(page)?.get(within, first)?;
    let rest = match len_bytes - first {
        0 => None,
        rest => Some(memory.page(page + 1)?.get(0, rest)?),
    };
    Some((part, rest))
}

/// Where the slot of an index lies.
const fn offset(index: u32, count: u32, slot_bytes: usize) -> usize {
    size_of::<Sring>() + (index & count.wrapping_sub(1)) as usize * slot_bytes
}

/// Copies into a slot; `None` if the memory ends before it.
pub(super) fn write(
    memory: &impl RingMemory,
    index: u32,
    count: u32,
    slot_bytes: usize,
    bytes: &[u8],
) -> Option<()> {
    let len = bytes.len().min(slot_bytes);
    let (first, rest) = parts(memory, offset(index, count, slot_bytes), len)?;
    let written = first.copy_from(bytes);
    if let Some(rest) = rest {
        rest.copy_from(bytes.get(written..)?);
    }
    Some(())
}

/// Copies out of a slot; `None` if the memory ends before it.
pub(super) fn read(
    memory: &impl RingMemory,
    index: u32,
    count: u32,
    slot_bytes: usize,
    bytes: &mut [u8],
) -> Option<()> {
    let len = bytes.len().min(slot_bytes);
    let (first, rest) = parts(memory, offset(index, count, slot_bytes), len)?;
    let taken = first.copy_to(bytes);
    if let Some(rest) = rest {
        rest.copy_to(bytes.get_mut(taken..)?);
    }
    Some(())
}

/// The four indices.
pub(super) struct Words<'m> {
    pub(super) req_prod: PeerPtr<'m, u32>,
    pub(super) req_event: PeerPtr<'m, u32>,
    pub(super) rsp_prod: PeerPtr<'m, u32>,
    pub(super) rsp_event: PeerPtr<'m, u32>,
}

impl<'m> Words<'m> {
    #[inline]
    pub(super) fn of(memory: &'m impl RingMemory) -> Option<Self> {
        let head = head(memory)?;
        Some(Self {
            req_prod: peer_field!(head, Sring, req_prod),
            req_event: peer_field!(head, Sring, req_event),
            rsp_prod: peer_field!(head, Sring, rsp_prod),
            rsp_event: peer_field!(head, Sring, rsp_event),
        })
    }
}
