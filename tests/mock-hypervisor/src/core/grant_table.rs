//! A domain's grant table as Xen sees it: entries that the guest writes, use
//! bits that Xen writes, and what the domain has mapped of others.

use std::{collections::BTreeMap, ptr::NonNull};

use hypercall_abi::{
    DomId, Errno, Gfn, GrantRef, PAGE_SIZE,
    grant_table::{
        GrantStatus,
        entry::{GTF_TYPE_MASK, GrantFlags},
    },
    peer::{PeerPtr, PeerSlice},
};

use super::memory::{Access, Memory, STATUS_PAGES, TABLE_PAGES};

/// Bytes of an entry, by version.
pub(super) const V1_BYTES: usize = 8;
const V2_BYTES: usize = 16;
/// Entries that are the toolstack's: the console, the store, and others.
const RESERVED: usize = 8;
/// The bits of an entry, or of its status, that say that it is used.
const USE_BITS: u16 = GrantFlags::READING.bits() | GrantFlags::WRITING.bits();

/// What is kept of a domain's table.
#[derive(Debug)]
pub(crate) struct Grants {
    pub(crate) version: u32,
    pub(crate) frames: usize,
    /// Uses of each grant: all, and those that may write.
    pub(super) uses: BTreeMap<u32, (u32, u32)>,
    /// What this domain maps of others, by handle.
    pub(crate) maps: Vec<Option<Map>>,
    /// So many uses of its grants find the page paged out.
    pub(crate) paged_out: u32,
    /// So many maps of others' find no handle.
    pub(crate) no_handles: u32,
    /// The next list of operations fails so, after so many of its entries.
    pub(crate) fails_after: Option<(usize, Errno)>,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            version: 1,
            frames: 1,
            uses: BTreeMap::new(),
            maps: Vec::new(),
            paged_out: 0,
            no_handles: 0,
            fails_after: None,
        }
    }
}

/// One mapping of a grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map {
    pub(crate) owner: DomId,
    pub(crate) gref: GrantRef,
    pub(crate) access: Access,
    pub(crate) gfn: Gfn,
    /// Where the processor has it, as long as it does.
    pub(crate) place: Option<Place>,
    /// Whether it is mapped for a device, which is a use of its own.
    pub(crate) is_for_device: bool,
}

impl Map {
    /// How many uses of the grant it is.
    pub(super) fn uses(&self) -> u32 {
        u32::from(self.place.is_some()) + u32::from(self.is_for_device)
    }
}

/// Where it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At an address of the user's.
    Address(u64),
    /// Where the entry at a machine address has it.
    Entry(u64),
}

impl Place {
    /// As it was told.
    pub(super) const fn word(self) -> u64 {
        match self {
            Self::Address(word) | Self::Entry(word) => word,
        }
    }
}

/// An entry as it was read, once.
pub(super) struct Entry {
    pub(super) flags: u16,
    pub(super) domid: DomId,
    /// The words behind.
    pub(super) low: u32,
    pub(super) frame: u64,
}

impl Grants {
    /// The most entries that there are now.
    fn entries(&self) -> usize {
        let bytes = if self.version == 2 {
            V2_BYTES
        } else {
            V1_BYTES
        };
        self.frames * PAGE_SIZE / bytes
    }

    pub(crate) fn status_frames(&self) -> usize {
        // A word of two bytes for each entry.
        (self.frames * PAGE_SIZE / V2_BYTES * 2)
            .div_ceil(PAGE_SIZE)
            .min(STATUS_PAGES)
    }

    fn place(memory: &Memory, offset: usize) -> Option<NonNull<u8>> {
        let page = memory.xen_page(offset / PAGE_SIZE)?;
        // SAFETY: the offset lies in the page.
        Some(unsafe { page.add(offset % PAGE_SIZE) })
    }

    fn word<T>(memory: &Memory, offset: usize) -> Option<PeerPtr<'static, T>> {
        let place = Self::place(memory, offset)?;
        // SAFETY: memory of the domain's, which lives as long as its state.
        Some(unsafe { PeerPtr::new(place.cast()) })
    }

    fn entry_offset(&self, gref: GrantRef) -> Option<usize> {
        let index = gref.0 as usize;
        let bytes = if self.version == 2 {
            V2_BYTES
        } else {
            V1_BYTES
        };
        (index < self.entries()).then_some(index * bytes)
    }

    pub(super) fn read(&self, memory: &Memory, gref: GrantRef) -> Option<Entry> {
        let at = self.entry_offset(gref)?;
        let header = Self::word::<u32>(memory, at)?.load_acquire().trust();
        let low = Self::word::<u32>(memory, at + 4)?.load_acquire().trust();
        let frame = if self.version == 2 {
            Self::word::<u64>(memory, at + 8)?.load_acquire().trust()
        } else {
            u64::from(low)
        };
        Some(Entry {
            flags: header as u16,
            domid: DomId((header >> 16) as u16),
            low,
            frame,
        })
    }

    /// Where the use bits of an entry are: in its flags, or in the status.
    pub(super) fn use_word(
        &self,
        memory: &Memory,
        gref: GrantRef,
    ) -> Option<PeerPtr<'static, u16>> {
        let at = self.entry_offset(gref)?;
        if self.version == 2 {
            Self::word(memory, TABLE_PAGES * PAGE_SIZE + gref.0 as usize * 2)
        } else {
            Self::word(memory, at)
        }
    }

    /// Whether any grant is used but those of the toolstack, which may be.
    pub(crate) fn busy(&self) -> bool {
        self.uses.range(RESERVED as u32..).next().is_some()
    }

    /// Goes to another version: entries of the toolstack's are kept, others are gone.
    pub(crate) fn set_version(&mut self, memory: &Memory, version: u32) {
        let kept: Vec<(u16, DomId, u64, u16)> = (0..RESERVED as u32)
            .map(|index| {
                let gref = GrantRef(index);
                let Some(entry) = self.read(memory, gref) else {
                    return (0, DomId(0), 0, 0);
                };
                let used = self
                    .use_word(memory, gref)
                    .map_or(0, |word| word.load().trust());
                (
                    entry.flags & !USE_BITS,
                    entry.domid,
                    entry.frame,
                    used & USE_BITS,
                )
            })
            .collect();
        for page in (0..self.frames).chain(TABLE_PAGES..TABLE_PAGES + STATUS_PAGES) {
            for offset in (0..PAGE_SIZE).step_by(8) {
                if let Some(word) = Self::word::<u64>(memory, page * PAGE_SIZE + offset) {
                    word.store_release(0);
                }
            }
        }
        self.version = version;
        for (index, (flags, domid, frame, used)) in kept.into_iter().enumerate() {
            let gref = GrantRef(index as u32);
            let Some(at) = self.entry_offset(gref) else {
                continue;
            };
            if self.version == 2 {
                if let Some(word) = Self::word::<u64>(memory, at + 8) {
                    word.store_release(frame);
                }
            } else if let Some(word) = Self::word::<u32>(memory, at + 4) {
                word.store_release(frame as u32);
            }
            if let Some(word) = Self::word::<u32>(memory, at) {
                word.store_release(u32::from(flags) | (u32::from(domid.0) << 16));
            }
            if let Some(word) = self.use_word(memory, gref) {
                let _before = word.fetch_or(used);
            }
        }
    }

    /// The frames that others may write just now.
    pub(crate) fn written(&self, memory: &Memory) -> Vec<Gfn> {
        let written = self.uses.iter().filter(|(_, (_, writers))| *writers > 0);
        let entries = written.filter_map(|(gref, _)| self.read(memory, GrantRef(*gref)));
        entries.map(|entry| Gfn(entry.frame)).collect()
    }

    /// The bytes of all that is granted to `peer`, whether it uses that or not.
    pub(crate) fn granted_to(&self, memory: &Memory, peer: DomId) -> Vec<Vec<u8>> {
        let entries = (0..self.entries()).filter_map(|at| self.read(memory, GrantRef(at as u32)));
        let granted = entries.filter(|entry| {
            let kind = entry.flags & GTF_TYPE_MASK;
            entry.domid == peer && kind == GrantFlags::PERMIT_ACCESS.bits()
        });
        let pages = granted.filter_map(|entry| {
            let is_part = self.version == 2
                && GrantFlags::from_bits_retain(entry.flags).contains(GrantFlags::SUB_PAGE);
            let part = match is_part {
                true => (entry.low & 0xffff, entry.low >> 16),
                false => (0, PAGE_SIZE as u32),
            };
            let page = memory.ram_of(Gfn(entry.frame))?;
            // SAFETY: memory of the domain's, used as peer memory.
            let page = unsafe { PeerSlice::new(page, PAGE_SIZE) };
            let mut bytes = vec![0; part.1 as usize];
            page.get(part.0 as usize, bytes.len())?.copy_to(&mut bytes);
            Some(bytes)
        });
        pages.collect()
    }

    /// How many are.
    pub(crate) fn in_use(&self) -> usize {
        self.uses.len()
    }

    /// Puts each of two entries into the other's place, unless one is used.
    pub(crate) fn swap(&self, memory: &Memory, a: GrantRef, b: GrantRef) -> GrantStatus {
        let (Some(at_a), Some(at_b)) = (self.entry_offset(a), self.entry_offset(b)) else {
            return GrantStatus::BAD_GNTREF;
        };
        if self.uses.contains_key(&a.0) || self.uses.contains_key(&b.0) {
            return GrantStatus::EAGAIN;
        }
        let bytes = if self.version == 2 {
            V2_BYTES
        } else {
            V1_BYTES
        };
        for offset in (0..bytes).step_by(8) {
            let words = (
                Self::word::<u64>(memory, at_a + offset),
                Self::word::<u64>(memory, at_b + offset),
            );
            if let (Some(one), Some(other)) = words {
                let before = one.load_acquire().trust();
                one.store_release(other.swap(before).trust());
            }
        }
        GrantStatus::OKAY
    }

    /// Keeps a mapping, and says its handle.
    pub(crate) fn track(&mut self, map: Map) -> u32 {
        let free = self.maps.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.maps.push(None);
            self.maps.len() - 1
        });
        self.maps[index] = Some(map);
        index as u32
    }
}
