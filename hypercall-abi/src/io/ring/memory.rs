//! The pages of a ring.

use core::mem::offset_of;

use crate::{
    PAGE_SIZE,
    peer::{PeerSlice, PeerWord},
};

use super::{Sring, slots};

/// Pages that hold a ring, in their order: they need not lie side by side.
pub trait RingMemory {
    /// How many there are.
    fn pages(&self) -> usize;
    /// One of them, whole; `None` if there is no such page.
    fn page(&self, index: usize) -> Option<PeerSlice<'_>>;
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
    pub(super) req_prod: PeerWord<'m, u32>,
    pub(super) req_event: PeerWord<'m, u32>,
    pub(super) rsp_prod: PeerWord<'m, u32>,
    pub(super) rsp_event: PeerWord<'m, u32>,
}

const _: () = assert!(
    offset_of!(Sring, req_prod) == 0
        && offset_of!(Sring, req_event) == 4
        && offset_of!(Sring, rsp_prod) == 8
        && offset_of!(Sring, rsp_event) == 12,
    "the head begins with the indices in this order"
);

impl<'m> Words<'m> {
    #[inline]
    pub(super) fn of(memory: &'m impl RingMemory) -> Option<Self> {
        let [req_prod, req_event, rsp_prod, rsp_event] = memory.page(0)?.words(0)?;
        Some(Self {
            req_prod,
            req_event,
            rsp_prod,
            rsp_event,
        })
    }
}
