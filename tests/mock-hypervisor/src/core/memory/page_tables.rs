//! The page tables of a guest that runs as an image: its addresses are what its
//! tables say, where the mock's other guests see all of their memory in a row.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hypercall_abi::{DomId, Errno, Gfn, PAGE_SIZE};

use super::{
    super::config::DomainType,
    Access, Memory, SHARED_PAGE,
    block::shared_file,
    frame_types::{Change, Frames, Kind, PRESENT, WRITE, target},
    view::{View, reach},
};

/// Where a guest sees the machine's table of frames: an address that a process has,
/// which Xen's own place for it is not.
pub(crate) const MACHINE_TO_PHYSICAL: u64 = 0x4000_0000_0000;

const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;

/// The machine's table of what frame is which page of its domain's.
#[derive(Debug)]
pub(crate) struct MachineToPhysical {
    pub(crate) file: OwnedFd,
    words: NonNull<AtomicU64>,
    len: u64,
}

// SAFETY: the words are there for as long as the process.
unsafe impl Send for MachineToPhysical {}

/// What it says of frames that are nobody's.
const NOBODYS: u64 = u64::MAX;

impl MachineToPhysical {
    /// One of `len` words, for a domain whose frames are a row.
    pub(crate) fn new(first_mfn: u64, nr_pages: usize, len: u64) -> Option<Self> {
        let bytes = usize::try_from(len).ok()?.checked_mul(8)?;
        let (file, start) = shared_file(bytes)?;
        let table = Self {
            file,
            words: start.cast(),
            len,
        };
        for page in 0..nr_pages as u64 {
            table.set(first_mfn + page, page);
        }
        for mfn in first_mfn + nr_pages as u64..len {
            table.set(mfn, NOBODYS);
        }
        Some(table)
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn set(&self, mfn: u64, pfn: u64) {
        if mfn < self.len {
            // SAFETY: a word of the table.
            let word = unsafe { self.words.add(mfn as usize) };
            // SAFETY: as above; it is read and written as an atomic.
            unsafe { word.as_ref() }.store(pfn, Ordering::Release);
        }
    }
}

/// A page of another domain's.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    pub(crate) file: Arc<OwnedFd>,
    pub(crate) offset: u64,
}

/// Addresses at which something else is than was until now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stale {
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

/// What is kept of a guest's tables.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) view: Arc<View>,
    /// The top table of user mode, if there is one.
    pub(crate) user_root: Option<usize>,
    /// The kernel's, while user mode runs.
    pub(crate) kernel_root: usize,
    pub(crate) m2p: MachineToPhysical,
    /// In which places of which tables each table hangs.
    parents: BTreeMap<usize, Vec<(usize, u16)>>,
    stale: Vec<Stale>,
    /// Frames of Xen's that the guest maps, and how often.
    xens_mapped: BTreeMap<usize, u32>,
    /// Others' frames that are mapped by a grant.
    pub(crate) foreign: BTreeMap<u64, Foreign>,
}

impl Tables {
    pub(crate) fn new(view: Arc<View>, m2p: MachineToPhysical) -> Self {
        Self {
            view,
            user_root: None,
            kernel_root: usize::MAX,
            m2p,
            parents: BTreeMap::new(),
            stale: Vec::new(),
            xens_mapped: BTreeMap::new(),
            foreign: BTreeMap::new(),
        }
    }

    /// A table hangs in a place of another.
    pub(crate) fn hang(&mut self, table: usize, parent: usize, slot: usize) {
        let places = self.parents.entry(table).or_default();
        places.push((parent, slot as u16));
    }

    /// It does no longer.
    pub(crate) fn unhang(&mut self, table: usize, parent: usize, slot: usize) {
        if let Some(places) = self.parents.get_mut(&table) {
            if let Some(at) = places
                .iter()
                .position(|place| *place == (parent, slot as u16))
            {
                places.swap_remove(at);
            }
            if places.is_empty() {
                self.parents.remove(&table);
            }
        }
    }

    /// The addresses at which what a table maps begins.
    fn bases(&self, table: usize, level: u8, root: usize) -> Vec<u64> {
        if level == 4 {
            return if table == root { vec![0] } else { Vec::new() };
        }
        let Some(places) = self.parents.get(&table) else {
            return Vec::new();
        };
        let mut bases = Vec::new();
        for (parent, slot) in places {
            for base in self.bases(*parent, level + 1, root) {
                bases.push(base + u64::from(*slot) * reach(level + 1));
            }
        }
        bases
    }

    /// An entry leads elsewhere than until now.
    pub(crate) fn changed(&mut self, table: usize, level: u8, slot: usize) {
        let root = self.view.root();
        for base in self.bases(table, level, root) {
            let start = base + slot as u64 * reach(level);
            let bytes = reach(level);
            match self.stale.last_mut() {
                Some(last) if last.start + last.bytes == start => last.bytes += bytes,
                _ => self.stale.push(Stale { start, bytes }),
            }
        }
    }

    /// All addresses may lead elsewhere.
    pub(crate) fn all_changed(&mut self) {
        self.stale.clear();
        self.stale.push(Stale {
            start: 0,
            bytes: 1 << 47,
        });
    }

    /// What changed since this was asked last.
    pub(crate) fn take_stale(&mut self) -> Vec<Stale> {
        std::mem::take(&mut self.stale)
    }

    /// Whether anything has.
    pub(crate) fn is_stale(&self) -> bool {
        !self.stale.is_empty()
    }
}

impl Memory {
    /// The memory of a PV guest that sees it by tables of its own.
    pub(crate) fn of_tables(domid: DomId, nr_pages: usize) -> Option<Self> {
        let mut memory = Self::new(domid, DomainType::Pv, nr_pages)?;
        memory.frames = Frames::new(nr_pages);
        for frame in &mut memory.frames.frames {
            // The guest's tables say what is mapped.
            frame.uses = 0;
            frame.mappings = 0;
        }
        memory.taken.fill(true);
        let (first_mfn, all_pages) = (memory.first_mfn(), memory.block.nr_pages);
        let view = View::new(memory.block.own, all_pages, first_mfn);
        let m2p = MachineToPhysical::new(first_mfn, nr_pages, first_mfn + all_pages as u64)?;
        memory.tables = Some(Tables::new(Arc::new(view), m2p));
        Some(memory)
    }

    /// All of the guest's memory, as bytes, before the guest runs.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.nr_pages() * PAGE_SIZE;
        // SAFETY: the block's pages, which nobody else looks at yet.
        unsafe { std::slice::from_raw_parts_mut(self.block.own.as_ptr(), len) }
    }

    /// The page that is shared with the guest.
    pub(crate) fn shared_page(&self) -> usize {
        self.nr_pages() + SHARED_PAGE
    }

    /// Where the lowest entry for an address of the guest's is.
    pub(crate) fn place_of(&self, address: u64) -> Option<(usize, usize)> {
        self.tables.as_ref()?.view.place_of(address)
    }

    /// Where the entry at a machine address is: in a lowest table of the guest's.
    pub(crate) fn place_of_word(&self, machine_address: u64) -> Option<(usize, usize)> {
        self.tables.as_ref()?;
        let table = self.ram_index(Gfn(machine_address / PAGE_SIZE as u64))?;
        let slot = (machine_address as usize % PAGE_SIZE) / 8;
        let is_lowest = self.kind(table) == Some(Kind::Table(1));
        (is_lowest && machine_address.is_multiple_of(8)).then_some((table, slot))
    }

    /// Where the guest finds the machine's table of frames, and its words.
    pub(crate) fn machine_to_physical(&self) -> Option<(u64, u64)> {
        let tables = self.tables.as_ref()?;
        Some((MACHINE_TO_PHYSICAL, tables.m2p.len()))
    }

    /// What that table says of a frame from now on.
    pub(crate) fn tell_machine(&self, gfn: Gfn, pfn: u64) {
        if let Some(tables) = &self.tables {
            tables.m2p.set(gfn.0, pfn);
        }
    }

    /// A page, for another domain to map.
    pub(crate) fn foreign(&self, gfn: Gfn) -> Option<Foreign> {
        let index = self.ram_index(gfn)?;
        Some(Foreign {
            file: Arc::clone(&self.block.file),
            offset: (index * PAGE_SIZE) as u64,
        })
    }

    /// The top table of user mode.
    pub(crate) fn set_user_root(&mut self, root: Option<usize>) -> Result<(), Errno> {
        if let Some(root) = root {
            self.acquire(root, Kind::Table(4))?;
        }
        let before = self
            .tables
            .as_mut()
            .and_then(|tables| std::mem::replace(&mut tables.user_root, root));
        if let Some(before) = before {
            self.release(before);
        }
        Ok(())
    }

    /// Whether a frame is one of those that Xen has for the guest, which it may map.
    pub(crate) fn is_xens(&self, gfn: Gfn) -> bool {
        let index = self.index_of_gfn(gfn);
        self.tables.is_some() && index.is_some_and(|index| index >= self.nr_pages())
    }

    /// Puts a page that was granted where the guest has the entry at `place`.
    pub(crate) fn map_granted(
        &mut self,
        place: (usize, usize),
        gfn: Gfn,
        foreign: Option<Foreign>,
        access: Access,
    ) -> Result<(), Errno> {
        let write = if access == Access::Write {
            WRITE | DIRTY
        } else {
            0
        };
        let entry = (gfn.0 * PAGE_SIZE as u64) | PRESENT | USER | ACCESSED | write;
        let (table, slot) = place;
        if foreign.is_none() {
            return self.write_entry(table, 1, slot, entry);
        }
        let tables = self.tables.as_mut().ok_or(Errno::EINVAL)?;
        if let Some(foreign) = foreign {
            tables.foreign.insert(gfn.0, foreign);
        }
        self.write_foreign(table, slot, entry)
    }

    /// Takes away what is mapped there, if it is that frame as it was granted; what is
    /// at the place `new`, if there is one, comes there instead, with all that it
    /// holds.
    pub(crate) fn unmap_granted(
        &mut self,
        place: (usize, usize),
        gfn: Gfn,
        access: Access,
        new: Option<(usize, usize)>,
    ) -> Result<(), Errno> {
        let (table, slot) = place;
        // Xen takes the other before it looks here.
        let moved = new.map(|(table, slot)| self.move_entry_out(table, slot));
        let tables = self.tables.as_ref().ok_or(Errno::EINVAL)?;
        let entry = tables.view.entry(table, slot);
        let is_writable = entry & WRITE != 0;
        if entry & PRESENT == 0 || target(entry) != gfn || is_writable != (access == Access::Write)
        {
            if let Some(moved) = moved.filter(|moved| moved & PRESENT != 0) {
                self.leave_page(moved);
            }
            return Err(Errno::EINVAL);
        }
        self.write_entry(table, 1, slot, 0)?;
        if let Some(moved) = moved {
            self.move_entry_in(table, slot, moved);
        }
        Ok(())
    }

    /// Takes an entry away, and what it holds.
    pub(crate) fn take_entry_away(&mut self, (table, slot): (usize, usize)) {
        let _gone = self.write_entry(table, 1, slot, 0);
    }

    /// Takes an entry away, but not what it holds.
    fn move_entry_out(&mut self, table: usize, slot: usize) -> u64 {
        let before = self.entry(table, slot).swap(0, Ordering::AcqRel);
        if let Some(tables) = &mut self.tables {
            tables.changed(table, 1, slot);
        }
        before
    }

    /// Puts it into an empty place.
    fn move_entry_in(&mut self, table: usize, slot: usize, entry: u64) {
        self.entry(table, slot).store(entry, Ordering::Release);
        if let Some(tables) = &mut self.tables {
            tables.changed(table, 1, slot);
        }
    }

    /// Whether the guest maps any of these frames of Xen's.
    pub(crate) fn maps_xens(&self, frames: std::ops::Range<usize>) -> bool {
        let tables = self.tables.as_ref();
        tables.is_some_and(|tables| tables.xens_mapped.range(frames).next().is_some())
    }

    /// A frame of Xen's is mapped once more, or once less.
    pub(crate) fn count_xens(&mut self, gfn: Gfn, change: Change) {
        let index = self.index_of_gfn(gfn);
        let index = index.and_then(|index| index.checked_sub(self.nr_pages()));
        let Some((tables, index)) = self.tables.as_mut().zip(index) else {
            return;
        };
        let count = tables.xens_mapped.entry(index).or_default();
        match change {
            Change::More => *count += 1,
            Change::Less => *count = count.saturating_sub(1),
        }
        if *count == 0 {
            tables.xens_mapped.remove(&index);
        }
    }

    fn write_foreign(&mut self, table: usize, slot: usize, entry: u64) -> Result<(), Errno> {
        // What was there is left, as for an entry of the guest's.
        self.write_entry(table, 1, slot, 0)?;
        self.entry(table, slot).store(entry, Ordering::Release);
        if let Some(tables) = &mut self.tables {
            tables.changed(table, 1, slot);
        }
        Ok(())
    }

    /// Has the guest see its memory by another top table.
    pub(crate) fn switch_to(&mut self, root: usize) -> Result<(), Errno> {
        self.acquire(root, Kind::Table(4))?;
        let Some(tables) = &mut self.tables else {
            return Err(Errno::EINVAL);
        };
        let before = tables.view.root();
        tables.view.set_root(root);
        if before != root {
            tables.all_changed();
        }
        if before != usize::MAX {
            self.release(before);
        }
        Ok(())
    }
}
