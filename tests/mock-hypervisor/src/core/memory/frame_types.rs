//! What the hypervisor knows of a PV domain's frames: what each is used for, and
//! how often. A frame is at one time either writable somewhere or a page table,
//! never both: that is what keeps a PV guest in its place.

use std::sync::atomic::Ordering;

use hypercall_abi::{Errno, Gfn, PAGE_SIZE};

use super::{Access, Memory};

/// Bits of an entry.
pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
pub(crate) const ACCESSED_DIRTY: u64 = 1 << 5 | 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
/// By which Xen marks a page that only the guest's kernel asked for.
const GUEST_KERNEL: u64 = 1 << 52;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Entries of a table.
pub(crate) const ENTRIES: usize = 512;
/// The entries of a top table that are Xen's.
pub(crate) const XENS_SLOTS: std::ops::Range<usize> = 256..272;

/// What a frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is mapped writable, or written.
    Writable,
    /// It is a table of this level.
    Table(u8),
}

/// Whether something is mapped once more, or once less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    More,
    Less,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    kind: Kind,
    /// Uses as what it is: with none, it may become something else.
    pub(crate) uses: u32,
    /// Mappings of any kind.
    pub(crate) mappings: u32,
    pinned: bool,
    /// Whether it belongs to the domain.
    allocated: bool,
}

/// All of a domain's.
#[derive(Debug)]
pub(crate) struct Frames {
    pub(crate) frames: Vec<Frame>,
    /// The entries by which the guest sees its memory, by page.
    seen: Vec<u64>,
}

impl Frames {
    /// Each is mapped writable, once.
    pub(crate) fn new(nr_pages: usize) -> Self {
        let frame = Frame {
            kind: Kind::Writable,
            uses: 1,
            mappings: 1,
            pinned: false,
            allocated: true,
        };
        Self {
            frames: vec![frame; nr_pages],
            // Filled when it is first asked for: see `Memory::seen`.
            seen: vec![u64::MAX; nr_pages],
        }
    }
}

/// The machine frame that an entry leads to.
pub(crate) const fn target(entry: u64) -> Gfn {
    Gfn((entry & ADDRESS) / PAGE_SIZE as u64)
}

impl Memory {
    /// Has all tables lead to the domain's frames, which began at `old` until now.
    pub(crate) fn translate(&mut self, old: u64) {
        let new = self.first_mfn();
        let nr_pages = self.nr_pages() as u64;
        let translated = |entry: u64| {
            let index = target(entry).0.checked_sub(old)?;
            let is_own = entry & PRESENT != 0 && index < nr_pages;
            is_own.then(|| (entry & !ADDRESS) | ((new + index) * PAGE_SIZE as u64))
        };
        for table in 0..self.frames.frames.len() {
            let frame = &self.frames.frames[table];
            if frame.uses == 0 || !matches!(frame.kind, Kind::Table(_)) {
                continue;
            }
            for slot in 0..ENTRIES {
                if let Some(entry) = translated(self.read_entry(table, slot)) {
                    self.entry(table, slot).store(entry, Ordering::Release);
                }
            }
        }
        for entry in &mut self.frames.seen {
            if *entry != u64::MAX {
                *entry = translated(*entry).unwrap_or(*entry);
            }
        }
    }

    /// Whether a frame is the domain's. A PV guest keeps what it maps; of a PVH guest's,
    /// Xen maps all.
    fn keeps(&self, frame: &Frame) -> bool {
        let is_pv = self.first_mfn() != 0;
        frame.allocated || (is_pv && (frame.mappings > 0 || frame.uses > 0))
    }

    /// Frames that are the domain's.
    pub(crate) fn reservation(&self) -> usize {
        let frames = self.frames.frames.iter();
        frames.filter(|frame| self.keeps(frame)).count()
    }

    /// Whether there is such a frame, and it is the domain's.
    pub(crate) fn has(&self, gfn: Gfn) -> bool {
        let index = self.ram_index(gfn);
        index.is_some_and(|index| self.keeps(&self.frames.frames[index]))
    }

    /// Uses a frame as what it is to be: a table is checked with all below it.
    pub(crate) fn acquire(&mut self, index: usize, kind: Kind) -> Result<(), Errno> {
        let frame = &mut self.frames.frames[index];
        if frame.uses > 0 && frame.kind != kind {
            return Err(Errno::EINVAL);
        }
        frame.kind = kind;
        frame.uses += 1;
        if frame.uses == 1
            && let Kind::Table(level) = kind
            && let Err(errno) = self.check_table(index, level)
        {
            self.frames.frames[index].uses = 0;
            return Err(errno);
        }
        Ok(())
    }

    /// Ends a use.
    pub(crate) fn release(&mut self, index: usize) {
        let frame = &mut self.frames.frames[index];
        frame.uses -= 1;
        if frame.uses == 0
            && let Kind::Table(level) = frame.kind
        {
            for slot in 0..ENTRIES {
                self.leave_entry(index, level, slot, self.read_entry(index, slot));
            }
        }
    }

    /// What a frame is used for, if it is used.
    pub(crate) fn kind(&self, index: usize) -> Option<Kind> {
        let frame = &self.frames.frames[index];
        (frame.uses > 0).then_some(frame.kind)
    }

    fn read_entry(&self, table: usize, slot: usize) -> u64 {
        self.entry(table, slot).load(Ordering::Acquire)
    }

    /// Takes all entries of a table, or none.
    fn check_table(&mut self, table: usize, level: u8) -> Result<(), Errno> {
        for slot in 0..ENTRIES {
            let entry = self.read_entry(table, slot);
            match self.take_entry(table, level, slot, entry) {
                Ok(entry) => self.entry(table, slot).store(entry, Ordering::Release),
                Err(errno) => {
                    for slot in 0..slot {
                        self.leave_entry(table, level, slot, self.read_entry(table, slot));
                    }
                    return Err(errno);
                }
            }
        }
        Ok(())
    }

    /// Takes what an entry leads to, and says how the entry is written.
    fn take_entry(
        &mut self,
        table: usize,
        level: u8,
        slot: usize,
        entry: u64,
    ) -> Result<u64, Errno> {
        if entry & PRESENT == 0 || (level == 4 && XENS_SLOTS.contains(&slot)) {
            return Ok(entry);
        }
        if level == 1 {
            return self.take_page(entry);
        }
        if entry & LARGE != 0 {
            return Err(Errno::EINVAL);
        }
        let below = self.ram_index(target(entry)).ok_or(Errno::EINVAL)?;
        if level == 4 && below == table {
            // A table that maps itself is seen by the guest: not to be written.
            return if entry & WRITE == 0 {
                Ok(entry)
            } else {
                Err(Errno::EINVAL)
            };
        }
        self.acquire(below, Kind::Table(level - 1))?;
        if let Some(tables) = &mut self.tables {
            tables.hang(below, table, slot);
        }
        // Xen sets it.
        Ok(entry | USER)
    }

    fn leave_entry(&mut self, table: usize, level: u8, slot: usize, entry: u64) {
        if entry & PRESENT == 0 || (level == 4 && XENS_SLOTS.contains(&slot)) {
            return;
        }
        if level == 1 {
            self.leave_page(entry);
        } else if let Some(below) = self.ram_index(target(entry))
            && !(level == 4 && below == table)
        {
            if let Some(tables) = &mut self.tables {
                tables.unhang(below, table, slot);
            }
            self.release(below);
        }
    }

    /// Takes the page that a lowest entry maps.
    pub(crate) fn take_page(&mut self, entry: u64) -> Result<u64, Errno> {
        if self.is_xens(target(entry)) {
            self.count_xens(target(entry), Change::More);
            return Ok(entry);
        }
        let index = self.ram_index(target(entry)).ok_or(Errno::EPERM)?;
        let frame = &self.frames.frames[index];
        if !frame.allocated && frame.mappings == 0 && frame.uses == 0 {
            return Err(Errno::EBUSY);
        }
        if entry & WRITE != 0 && self.acquire(index, Kind::Writable).is_err() {
            return Err(Errno::EBUSY);
        }
        self.frames.frames[index].mappings += 1;
        // The guest's kernel is in user mode, too: pages that its user mode may use are
        // the same in both of its modes, and others are marked.
        let entry = match entry & USER {
            0 => entry | GUEST_KERNEL | USER,
            _ => entry,
        };
        Ok(match entry & GUEST_KERNEL {
            0 => entry | GLOBAL,
            _ => entry,
        })
    }

    pub(crate) fn leave_page(&mut self, entry: u64) {
        if let Some(index) = self.ram_index(target(entry)) {
            self.frames.frames[index].mappings -= 1;
            if entry & WRITE != 0 {
                self.release(index);
            }
        } else if self.is_xens(target(entry)) {
            self.count_xens(target(entry), Change::Less);
        }
    }

    /// Writes an entry of a table that is in use.
    pub(crate) fn write_entry(
        &mut self,
        table: usize,
        level: u8,
        slot: usize,
        entry: u64,
    ) -> Result<(), Errno> {
        let before = self.read_entry(table, slot);
        if level == 4 && XENS_SLOTS.contains(&slot) {
            return Err(Errno::EINVAL);
        }
        let entry = self.take_entry(table, level, slot, entry)?;
        self.entry(table, slot).store(entry, Ordering::Release);
        if before != entry
            && (before | entry) & PRESENT != 0
            && let Some(tables) = &mut self.tables
        {
            tables.changed(table, level, slot);
        }
        self.leave_entry(table, level, slot, before);
        Ok(())
    }

    /// The entry by which the guest sees the page at one of its addresses.
    fn seen(&self, at: usize) -> u64 {
        match self.frames.seen[at] {
            u64::MAX => {
                let address = self.gfn_of_index(at).0 * PAGE_SIZE as u64;
                address | PRESENT | WRITE | USER
            }
            entry => entry,
        }
    }

    /// `update_va_mapping`: changes that entry, and what the guest sees.
    pub(crate) fn see(&mut self, at: usize, entry: u64) -> Result<(), Errno> {
        let before = self.seen(at);
        if entry & PRESENT != 0 {
            self.take_page(entry)?;
        }
        let page = (entry & PRESENT != 0)
            .then(|| self.ram_index(target(entry)))
            .flatten();
        let access = if entry & WRITE == 0 {
            Access::Read
        } else {
            Access::Write
        };
        let shown = self.show(at, page.map(|page| (page, access)));
        if shown.is_none() {
            if entry & PRESENT != 0 {
                self.leave_page(entry);
            }
            return Err(Errno::ENOMEM);
        }
        self.frames.seen[at] = entry;
        if before & PRESENT != 0 {
            self.leave_page(before);
        }
        Ok(())
    }

    /// `MMUEXT_PIN_*`.
    pub(crate) fn pin(&mut self, index: usize, level: u8) -> Result<(), Errno> {
        self.acquire(index, Kind::Table(level))?;
        if self.frames.frames[index].pinned {
            self.release(index);
            return Err(Errno::EINVAL);
        }
        self.frames.frames[index].pinned = true;
        Ok(())
    }

    /// `MMUEXT_UNPIN_TABLE`.
    pub(crate) fn unpin(&mut self, index: usize) -> Result<(), Errno> {
        if !std::mem::take(&mut self.frames.frames[index].pinned) {
            return Err(Errno::EINVAL);
        }
        self.release(index);
        Ok(())
    }

    /// Gives a frame back: it is the domain's for as long as it is mapped.
    pub(crate) fn give_back(&mut self, gfn: Gfn) -> bool {
        let frame = self
            .ram_index(gfn)
            .map(|index| &mut self.frames.frames[index]);
        frame.is_some_and(|frame| std::mem::take(&mut frame.allocated))
    }

    /// Gets the frame back that was at this place.
    pub(crate) fn get_back_at(&mut self, index: usize) -> bool {
        let frame = &mut self.frames.frames[index];
        !std::mem::replace(&mut frame.allocated, true)
    }

    /// Gets a frame that was given back.
    pub(crate) fn get_back(&mut self) -> Option<Gfn> {
        let index = self
            .frames
            .frames
            .iter()
            .position(|frame| !frame.allocated && frame.mappings == 0 && frame.uses == 0)?;
        // Xen does not clean what comes back to the same domain.
        self.frames.frames[index].allocated = true;
        Some(self.gfn_of_index(index))
    }
}
