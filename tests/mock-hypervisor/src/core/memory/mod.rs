//! A domain's memory, and the way to what a hypercall's arguments point to.

mod block;
mod by_address;
pub(crate) mod frame_types;
#[cfg_attr(not(feature = "user"), path = "no_page_tables.rs")]
pub(crate) mod page_tables;
#[cfg(feature = "user")]
pub(crate) mod view;

use std::{collections::BTreeMap, ptr::NonNull, sync::atomic::AtomicU64};

use hypercall_abi::{DomId, Gfn, PAGE_SIZE, peer::PeerSlice};

use super::config::DomainType;
use block::Block;
use frame_types::Frames;
use page_tables::Tables;

pub(crate) use by_address::{GuestMemory, ThisProcess};

/// The machine frame of the first domain's first page: not zero, so that a
/// guest which confuses its two kinds of frames is found out.
const FIRST_MFN: u64 = 0x10_0000;
/// From a domain's frames to those that it gets when it is moved.
const FRAMES_APART: u64 = 0x1_0007;
/// Machine frames from one domain's first page to the next one's.
const MFNS_PER_DOMAIN: u64 = 0x100_0000;
/// Frames of the domain's that are no memory of the guest's: its grant table, and
/// (of a guest that runs as an image) the shared page.
pub(crate) const XEN_PAGES: usize = SHARED_PAGE + 1;
/// Which of them is the shared page.
pub(crate) const SHARED_PAGE: usize = TABLE_PAGES + STATUS_PAGES;
/// The most frames of a grant table.
pub(crate) const TABLE_PAGES: usize = 64;
/// The most frames of its status words.
pub(crate) const STATUS_PAGES: usize = 16;
/// Addresses at which other domains' pages can be mapped.
const WINDOW_PAGES: usize = 4096;

/// The pages of a domain.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) block: Block,
    first_mfn: u64,
    /// What the hypervisor knows of each frame.
    pub(crate) frames: Frames,
    /// For each page of the guest's, whether it was given out.
    pub(crate) taken: Vec<bool>,
    /// For each page of the window, whether it was given out.
    reserved: Vec<bool>,
    /// Where a PVH guest has added pages of the hypervisor's, by their numbers.
    pub(crate) added: BTreeMap<usize, usize>,
    /// The guest's own tables, if it sees its memory by them.
    pub(crate) tables: Option<Tables>,
}

/// Page numbers that are not taken: the first of `count` in a row.
fn find(taken: &[bool], count: usize) -> Option<usize> {
    taken
        .windows(count)
        .position(|pages| pages.iter().all(|taken| !taken))
}

impl Memory {
    pub(crate) fn new(domid: DomId, domain_type: DomainType, nr_pages: usize) -> Option<Self> {
        let first_mfn = match domain_type {
            DomainType::Pv => FIRST_MFN + u64::from(domid.0 - 1) * MFNS_PER_DOMAIN,
            // It knows of guest frames only.
            DomainType::Pvh => 0,
        };
        Some(Self {
            block: Block::new(nr_pages.checked_add(XEN_PAGES)?, WINDOW_PAGES)?,
            first_mfn,
            frames: Frames::new(nr_pages),
            taken: vec![false; nr_pages],
            reserved: vec![false; WINDOW_PAGES],
            added: BTreeMap::new(),
            tables: None,
        })
    }

    pub(crate) fn nr_pages(&self) -> usize {
        self.taken.len()
    }

    /// Where a PVH guest has a page of the hypervisor's that it has added.
    pub(crate) fn place_of_added(&self, page: usize) -> Option<NonNull<u8>> {
        self.added.get(&page).map(|at| self.page(*at))
    }

    /// Where the guest has a page, unless it put another one there.
    fn page(&self, index: usize) -> NonNull<u8> {
        // SAFETY: all callers name a page of the block's.
        unsafe { self.block.start.add(index * PAGE_SIZE) }
    }

    /// Where the hypervisor has it.
    pub(crate) fn own_page(&self, index: usize) -> NonNull<u8> {
        // SAFETY: as above.
        unsafe { self.block.own.add(index * PAGE_SIZE) }
    }

    /// The number of a page, by either's address of it.
    pub(crate) fn any_index_of(&self, page: NonNull<u8>) -> Option<usize> {
        let offset = page.addr().get().checked_sub(self.block.own.addr().get());
        let own = offset.map(|offset| offset / PAGE_SIZE);
        own.filter(|index| *index < self.block.nr_pages)
            .or_else(|| self.index_of(page))
    }

    /// Gives the domain other frames; what its tables lead to is the same.
    pub(crate) fn change_frames(&mut self) {
        let old = self.first_mfn;
        self.first_mfn += FRAMES_APART;
        self.translate(old);
    }

    /// The first of its frames.
    pub(crate) const fn first_mfn(&self) -> u64 {
        self.first_mfn
    }

    /// Where the hypervisor has what the guest has at `page`.
    pub(crate) fn own_of<T>(&self, page: NonNull<T>) -> Option<NonNull<T>> {
        let index = self.index_of(page.cast())?;
        Some(self.own_page(index).cast())
    }

    pub(crate) fn alloc(&mut self, count: usize) -> Option<NonNull<u8>> {
        if count == 0 {
            return None;
        }
        let first = find(&self.taken, count)?;
        self.taken[first..first + count].fill(true);
        // SAFETY: pages of the domain's that nobody else has.
        unsafe { self.own_page(first).write_bytes(0, count * PAGE_SIZE) };
        Some(self.page(first))
    }

    /// How many pages are given out.
    pub(crate) fn in_use(&self) -> usize {
        self.taken.iter().filter(|taken| **taken).count()
    }

    pub(crate) fn free(&mut self, first: NonNull<u8>, count: usize) {
        let Some(index) = self.index_of(first) else {
            return;
        };
        if let Some(pages) = self.taken.get_mut(index..index + count) {
            pages.fill(false);
        }
    }

    fn index_of(&self, page: NonNull<u8>) -> Option<usize> {
        let offset = page
            .addr()
            .get()
            .checked_sub(self.block.start.addr().get())?;
        Some(offset / PAGE_SIZE).filter(|index| *index < self.block.nr_pages)
    }

    pub(crate) fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        self.index_of(page)
            .map(|index| Gfn(self.first_mfn + index as u64))
    }

    /// The number of a frame's page, if it is this domain's.
    pub(crate) fn index_of_gfn(&self, gfn: Gfn) -> Option<usize> {
        let index = usize::try_from(gfn.0.checked_sub(self.first_mfn)?).ok()?;
        (index < self.block.nr_pages).then_some(index)
    }

    /// The page of a frame, if it is this domain's, as the guest sees it.
    pub(crate) fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        self.index_of_gfn(gfn).map(|index| self.page(index))
    }

    /// The number of a page of the guest's own memory: not one of its tables.
    pub(crate) fn ram_index(&self, gfn: Gfn) -> Option<usize> {
        self.index_of_gfn(gfn)
            .filter(|index| *index < self.nr_pages())
    }

    /// A page of the guest's own memory, as the hypervisor sees it.
    pub(crate) fn ram_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        self.ram_index(gfn).map(|index| self.own_page(index))
    }

    /// The frame of a page.
    pub(crate) fn gfn_of_index(&self, index: usize) -> Gfn {
        Gfn(self.first_mfn + index as u64)
    }

    /// A page that the hypervisor keeps for the domain.
    pub(crate) fn xen_page(&self, index: usize) -> Option<NonNull<u8>> {
        (index < XEN_PAGES).then(|| self.own_page(self.nr_pages() + index))
    }

    /// Its frame.
    pub(crate) fn xen_gfn(&self, index: usize) -> Option<Gfn> {
        (index < XEN_PAGES).then(|| self.gfn_of_index(self.nr_pages() + index))
    }

    /// The number of the page that the guest has at an address of its own.
    pub(crate) fn index_at(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.block.start.addr().get())?;
        Some(offset / PAGE_SIZE).filter(|index| *index < self.nr_pages())
    }

    /// An entry of a page of entries.
    pub(crate) fn entry(&self, table: usize, index: usize) -> &AtomicU64 {
        let table = self.own_page(table).cast::<AtomicU64>();
        // SAFETY: a page has 512 words.
        let place = unsafe { table.add(index & 511) };
        // SAFETY: memory of the domain's; whoever else writes there does it
        // atomically or not at all.
        unsafe { place.as_ref() }
    }

    /// Fills a page with zeroes, or with another's bytes.
    pub(crate) fn fill(&self, index: usize, source: Option<usize>) {
        let target = self.own_page(index);
        match source {
            // SAFETY: two pages of the domain's; the guest asked for it.
            Some(source) => unsafe { self.own_page(source).copy_to(target, PAGE_SIZE) },
            // SAFETY: as above.
            None => unsafe { target.write_bytes(0, PAGE_SIZE) },
        }
    }

    /// Writes bytes into a page, up to its end.
    pub(crate) fn write(&self, index: usize, offset: usize, bytes: &[u8]) {
        let page = self.own_page(index);
        // SAFETY: a page of the domain's, as peer memory.
        let page = unsafe { PeerSlice::new(page, PAGE_SIZE) };
        if let Some(place) = page.get(offset, bytes.len()) {
            let _all = place.copy_from(bytes);
        }
    }

    /// Puts a page where the guest has the page `at`, or none.
    pub(crate) fn show(&self, at: usize, page: Option<(usize, Access)>) -> Option<()> {
        self.block.show(at, page)
    }

    /// Addresses for other domains' pages.
    pub(crate) fn reserve_window(&mut self, count: usize) -> Option<NonNull<u8>> {
        if count == 0 {
            return None;
        }
        let first = find(&self.reserved, count)?;
        self.reserved[first..first + count].fill(true);
        // SAFETY: a page of the window.
        Some(unsafe { self.block.window.add(first * PAGE_SIZE) })
    }

    pub(crate) fn release_window(&mut self, first: NonNull<u8>, count: usize) {
        let Some(index) = self.window_index(first.addr().get() as u64) else {
            return;
        };
        if let Some(pages) = self.reserved.get_mut(index..index + count) {
            pages.fill(false);
        }
    }

    fn window_index(&self, address: u64) -> Option<usize> {
        let start = self.block.window.addr().get() as u64;
        let offset = usize::try_from(address.checked_sub(start)?).ok()?;
        (offset.is_multiple_of(PAGE_SIZE) && offset / PAGE_SIZE < self.reserved.len())
            .then_some(offset / PAGE_SIZE)
    }

    /// Makes the page at `address` of the window that of another domain's
    /// frame.
    pub(crate) fn map(&self, address: u64, owner: &Self, gfn: Gfn, access: Access) -> Option<()> {
        let index = self.window_index(address)?;
        let source = owner.ram_index(gfn)?;
        self.block.map(index, &owner.block, source, access)
    }

    /// Takes what is mapped at `address` away.
    pub(crate) fn unmap(&self, address: u64) -> Option<()> {
        self.block.unmap(self.window_index(address)?)
    }
}

/// How a page is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}
