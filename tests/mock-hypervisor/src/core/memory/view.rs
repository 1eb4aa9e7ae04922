//! A guest's memory by its own page tables.

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
};

use hypercall_abi::{Errno, PAGE_SIZE, peer::PeerSlice};

use super::{
    GuestMemory, ThisProcess,
    frame_types::{ENTRIES, PRESENT, WRITE, XENS_SLOTS, target},
};

const NO_EXECUTE: u64 = 1 << 63;

/// Words of a page.
const SLOT_BITS: u32 = 9;
const PAGE_BITS: u32 = 12;

/// The number of an entry in the table of a level that an address passes.
pub(crate) const fn slot_of(address: u64, level: u8) -> usize {
    (address >> (PAGE_BITS + SLOT_BITS * (level as u32 - 1))) as usize & (ENTRIES - 1)
}

/// How many bytes of addresses an entry of a level stands for.
pub(crate) const fn reach(level: u8) -> u64 {
    1 << (PAGE_BITS + SLOT_BITS * (level as u32 - 1))
}

/// What an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The lowest entry.
    pub(crate) entry: u64,
    /// Whether all entries on the way let it be written.
    pub(crate) is_writable: bool,
    /// Whether all of them let it be run.
    pub(crate) is_executable: bool,
}

/// The guest's memory as its tables have it: reached without the world's lock, by
/// reading what the guest's tables are just now.
#[derive(Debug)]
pub(crate) struct View {
    /// Where the hypervisor sees the guest's pages, and how many those are.
    own: NonNull<u8>,
    nr_pages: usize,
    first_mfn: u64,
    /// The page of the top table.
    root: AtomicUsize,
}

// SAFETY: the pages are there for as long as the process, and are reached as
// peer memory only.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    pub(crate) fn new(own: NonNull<u8>, nr_pages: usize, first_mfn: u64) -> Self {
        Self {
            own,
            nr_pages,
            first_mfn,
            root: AtomicUsize::new(usize::MAX),
        }
    }

    pub(crate) fn root(&self) -> usize {
        self.root.load(Ordering::Acquire)
    }

    pub(crate) fn set_root(&self, root: usize) {
        self.root.store(root, Ordering::Release);
    }

    /// The page that an entry leads to, if it is one of the guest's or of those
    /// that Xen has for it.
    pub(crate) fn page_of(&self, entry: u64) -> Option<usize> {
        let index = usize::try_from(target(entry).0.checked_sub(self.first_mfn)?).ok()?;
        (index < self.nr_pages).then_some(index)
    }

    fn page(&self, index: usize) -> PeerSlice<'_> {
        debug_assert!(index < self.nr_pages);
        // SAFETY: the callers name a page of the guest's.
        let page = unsafe { self.own.add(index * PAGE_SIZE) };
        // SAFETY: memory that whoever else writes does so as peer memory.
        unsafe { PeerSlice::new(page, PAGE_SIZE) }
    }

    pub(crate) fn entry(&self, table: usize, slot: usize) -> u64 {
        let word = self.page(table).at::<u64>(slot % ENTRIES * 8);
        word.map_or(0, |word| word.load_acquire().trust())
    }

    /// The table of `level` that an address passes.
    fn table_at(&self, address: u64, level: u8) -> Option<usize> {
        let mut table = self.root();
        if table == usize::MAX || XENS_SLOTS.contains(&slot_of(address, 4)) {
            return None;
        }
        for above in (level + 1..=4).rev() {
            let entry = self.entry(table, slot_of(address, above));
            if entry & PRESENT == 0 {
                return None;
            }
            table = self.page_of(entry)?;
        }
        Some(table)
    }

    /// Where the lowest entry for an address is: a table, and a place in it.
    pub(crate) fn place_of(&self, address: u64) -> Option<(usize, usize)> {
        Some((self.table_at(address, 1)?, slot_of(address, 1)))
    }

    /// What an address leads to.
    pub(crate) fn leaf(&self, address: u64) -> Option<Leaf> {
        let mut table = self.root();
        if table == usize::MAX || XENS_SLOTS.contains(&slot_of(address, 4)) {
            return None;
        }
        let mut leaf = Leaf {
            entry: 0,
            is_writable: true,
            is_executable: true,
        };
        for level in (1..=4).rev() {
            leaf.entry = self.entry(table, slot_of(address, level));
            if leaf.entry & PRESENT == 0 {
                return None;
            }
            leaf.is_writable &= leaf.entry & WRITE != 0;
            leaf.is_executable &= leaf.entry & NO_EXECUTE == 0;
            if level > 1 {
                table = self.page_of(leaf.entry)?;
            }
        }
        Some(leaf)
    }

    /// Does something to each page of a range of addresses, with the bytes of the
    /// range that lie in it; what is not the guest's own is left to the process.
    fn each(
        &self,
        address: usize,
        len: usize,
        writes: bool,
        mut visit: impl FnMut(Option<PeerSlice<'_>>, std::ops::Range<usize>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < len {
            let at = address.checked_add(done).ok_or(Errno::EFAULT)?;
            let offset = at % PAGE_SIZE;
            let part = (PAGE_SIZE - offset).min(len - done);
            let canonical = (at as u64).cast_signed() >> 47;
            if canonical != 0 && canonical != -1 {
                return Err(Errno::EFAULT);
            }
            let leaf = self.leaf(at as u64).ok_or(Errno::EFAULT)?;
            if writes && !leaf.is_writable {
                return Err(Errno::EFAULT);
            }
            let slice = self
                .page_of(leaf.entry)
                .and_then(|index| self.page(index).get(offset, part));
            visit(slice, done..done + part)?;
            done += part;
        }
        Ok(())
    }
}

impl GuestMemory for View {
    fn copy_in(&self, address: usize, target: &mut [u8]) -> Result<(), Errno> {
        self.each(address, target.len(), false, |page, part| {
            let at = address + part.start;
            let target = &mut target[part];
            match page {
                Some(page) => {
                    let _all = page.copy_to(target);
                    Ok(())
                }
                None => ThisProcess.copy_in(at, target),
            }
        })
    }

    fn copy_out(&self, address: usize, source: &[u8]) -> Result<(), Errno> {
        // All or nothing, as far as the tables are concerned.
        self.each(address, source.len(), true, |_, _| Ok(()))?;
        self.each(address, source.len(), true, |page, part| {
            let at = address + part.start;
            let source = &source[part];
            match page {
                Some(page) => {
                    let _all = page.copy_from(source);
                    Ok(())
                }
                None => ThisProcess.copy_out(at, source),
            }
        })
    }
}
