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

use crate::{
    memory::{Access, Memory, STATUS_PAGES, TABLE_PAGES},
    ports::DOM0,
    world::World,
};

/// Bytes of an entry, by version.
const V1_BYTES: usize = 8;
const V2_BYTES: usize = 16;
/// Entries that are the toolstack's: the console, the store, and others.
const RESERVED: usize = 8;
/// The bits of an entry, or of its status, that say that it is used.
const USE_BITS: u16 = GrantFlags::READING.bits() | GrantFlags::WRITING.bits();
/// How deep one transitive grant may lead to another.
const MOST_HOPS: u32 = 2;

/// What is kept of a domain's table.
#[derive(Debug)]
pub(crate) struct Grants {
    pub(crate) version: u32,
    pub(crate) frames: usize,
    /// Uses of each grant: all, and those that may write.
    uses: BTreeMap<u32, (u32, u32)>,
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
    fn uses(&self) -> u32 {
        u32::from(self.place.is_some()) + u32::from(self.is_for_device)
    }
}

/// What is to be ended of a mapping: what is zero is not named.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unmap {
    /// Where the processor has it.
    pub(crate) host_addr: u64,
    /// Where the device has it.
    pub(crate) dev_bus_addr: u64,
    /// The address whose page is to be where the processor had it.
    pub(crate) new_addr: u64,
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
    const fn word(self) -> u64 {
        match self {
            Self::Address(word) | Self::Entry(word) => word,
        }
    }
}

/// A use of a grant, to be ended with [`World::release`].
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub(crate) owner: DomId,
    pub(crate) gref: GrantRef,
    /// Whose frame: another's if the grant is transitive.
    pub(crate) frame_owner: DomId,
    pub(crate) gfn: Gfn,
    /// The part of the frame that is granted.
    pub(crate) part: std::ops::Range<usize>,
    /// Whether it is granted as a page, which can be mapped.
    pub(crate) is_whole: bool,
}

/// An entry as it was read, once.
struct Entry {
    flags: u16,
    domid: DomId,
    /// The words behind.
    low: u32,
    frame: u64,
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

    fn read(&self, memory: &Memory, gref: GrantRef) -> Option<Entry> {
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
    fn use_word(&self, memory: &Memory, gref: GrantRef) -> Option<PeerPtr<'static, u16>> {
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

/// The entry that a place is.
fn entry_at(memory: &Memory, place: Place) -> Option<(usize, usize)> {
    match place {
        Place::Address(address) => memory.place_of(address),
        Place::Entry(at) => memory.place_of_word(at),
    }
}

/// Takes a page away that was granted, and puts what is seen at `new` in its place.
pub(crate) fn unmap_page(
    memory: &mut Memory,
    map: &Map,
    place: Place,
    new: Option<u64>,
) -> Option<()> {
    if memory.tables.is_none() {
        // The addresses of a guest without tables stay where they are.
        return new.is_none().then(|| memory.unmap(place.word()))?;
    }
    let new = match (new, place) {
        (None, _) => None,
        // The entry itself is named: there is no address to replace.
        (Some(_), Place::Entry(_)) => return None,
        (Some(address), Place::Address(_)) => Some(memory.place_of(address)?),
    };
    let Some(at) = entry_at(memory, place) else {
        if let Some(new) = new {
            // Xen has taken it by then.
            memory.take_entry_away(new);
        }
        return None;
    };
    memory.unmap_granted(at, map.gfn, map.access, new).ok()
}

impl World {
    /// Begins a use of `owner`'s grant by `user`.
    pub(crate) fn acquire(
        &mut self,
        user: DomId,
        owner: DomId,
        gref: GrantRef,
        access: Access,
    ) -> Result<Use, GrantStatus> {
        self.acquire_by(user, owner, gref, access, 0)
    }

    fn acquire_by(
        &mut self,
        user: DomId,
        owner: DomId,
        gref: GrantRef,
        access: Access,
        hops: u32,
    ) -> Result<Use, GrantStatus> {
        if owner == DOM0 {
            // It has a table of one page and grants nothing.
            let known = (gref.0 as usize) < PAGE_SIZE / V1_BYTES;
            return Err(if known {
                GrantStatus::GENERAL_ERROR
            } else {
                GrantStatus::BAD_GNTREF
            });
        }
        let state = self.domains.get_mut(&owner);
        let state = state.filter(|state| !state.is_destroyed);
        let state = state.ok_or(GrantStatus::BAD_DOMAIN)?;
        if let Some(rest) = state.grants.paged_out.checked_sub(1) {
            state.grants.paged_out = rest;
            return Err(GrantStatus::EAGAIN);
        }
        let grants = &state.grants;
        let entry = grants.read(&state.memory, gref);
        let entry = entry.ok_or(GrantStatus::BAD_GNTREF)?;
        let flags = GrantFlags::from_bits_retain(entry.flags);
        let kind = entry.flags & GTF_TYPE_MASK;
        let transitive = grants.version == 2 && kind == GrantFlags::TRANSITIVE.bits();
        if entry.domid != user || (kind != GrantFlags::PERMIT_ACCESS.bits() && !transitive) {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        if flags.contains(GrantFlags::READONLY) && access == Access::Write {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        let mut part = 0..PAGE_SIZE;
        let is_part = grants.version == 2 && flags.contains(GrantFlags::SUB_PAGE);
        let is_whole = !transitive && !is_part;
        let (mut frame_owner, mut gfn) = (owner, Gfn(entry.frame));
        if transitive {
            if hops == MOST_HOPS {
                return Err(GrantStatus::GENERAL_ERROR);
            }
            // Another's grant to `owner`; nothing is pinned there, for a
            // copy is over when the call is.
            let next_owner = DomId(entry.low as u16);
            let next = GrantRef(entry.frame as u32);
            if next_owner == owner {
                return Err(GrantStatus::GENERAL_ERROR);
            }
            let lent = self.acquire_by(owner, next_owner, next, access, hops + 1)?;
            (frame_owner, gfn, part) = (lent.frame_owner, lent.gfn, lent.part.clone());
            self.release(&lent, access);
        } else if grants.version == 2 && flags.contains(GrantFlags::SUB_PAGE) {
            let start = usize::from(entry.low as u16);
            part = start..start + (entry.low >> 16) as usize;
        }
        let ram = self.domains.get(&frame_owner);
        if !ram.is_some_and(|state| state.memory.has(gfn)) {
            return Err(GrantStatus::BAD_PAGE);
        }
        let state = self.domains.get_mut(&owner);
        let state = state.ok_or(GrantStatus::BAD_DOMAIN)?;
        if let Some(word) = state.grants.use_word(&state.memory, gref) {
            let bits = match access {
                Access::Read => GrantFlags::READING,
                Access::Write => GrantFlags::READING | GrantFlags::WRITING,
            };
            let _before = word.fetch_or(bits.bits());
        }
        let uses = state.grants.uses.entry(gref.0).or_default();
        uses.0 += 1;
        uses.1 += u32::from(access == Access::Write);
        Ok(Use {
            owner,
            gref,
            frame_owner,
            gfn,
            part,
            is_whole,
        })
    }

    /// Ends a use.
    pub(crate) fn release(&mut self, used: &Use, access: Access) {
        self.release_grant(used.owner, used.gref, access);
    }

    fn release_grant(&mut self, owner: DomId, gref: GrantRef, access: Access) {
        let Some(state) = self.domains.get_mut(&owner) else {
            return;
        };
        let Some(uses) = state.grants.uses.get_mut(&gref.0) else {
            return;
        };
        uses.0 -= 1;
        uses.1 -= u32::from(access == Access::Write);
        let mut gone = GrantFlags::empty();
        if uses.1 == 0 {
            gone |= GrantFlags::WRITING;
        }
        if uses.0 == 0 {
            gone |= GrantFlags::READING;
            state.grants.uses.remove(&gref.0);
        }
        if let Some(word) = state.grants.use_word(&state.memory, gref) {
            let _before = word.fetch_and(!gone.bits());
        }
    }

    /// Ends what is named of the mapping with this handle: the processor's, the
    /// device's, or both; of what is not named, nothing changes.
    pub(crate) fn unmap(&mut self, user: DomId, handle: u32, what: &Unmap) -> GrantStatus {
        let Some(state) = self.domains.get_mut(&user) else {
            return GrantStatus::BAD_DOMAIN;
        };
        let slot = state.grants.maps.get_mut(handle as usize);
        let Some(slot @ Some(_)) = slot else {
            return GrantStatus::BAD_HANDLE;
        };
        let Some(mut map) = *slot else {
            return GrantStatus::BAD_HANDLE;
        };
        let of_device = what.dev_bus_addr != 0 && map.is_for_device;
        if of_device && Some(what.dev_bus_addr) != map.gfn.address() {
            return GrantStatus::BAD_DEV_ADDR;
        }
        let mut ended = 0;
        if let Some(place) = map.place.filter(|_| what.host_addr != 0) {
            let is_it = what.host_addr == place.word();
            let new = Some(what.new_addr).filter(|address| *address != 0);
            if !is_it || unmap_page(&mut state.memory, &map, place, new).is_none() {
                return GrantStatus::GENERAL_ERROR;
            }
            map.place = None;
            ended += 1;
        }
        if of_device {
            map.is_for_device = false;
            ended += 1;
        }
        *slot = Some(map).filter(|map| map.place.is_some() || map.is_for_device);
        for _ in 0..ended {
            self.release_grant(map.owner, map.gref, map.access);
        }
        GrantStatus::OKAY
    }

    /// Puts a granted page where its user wants it.
    pub(crate) fn map_page(
        &mut self,
        user: DomId,
        used: &Use,
        place: Place,
        access: Access,
    ) -> Option<()> {
        let owner = &self.domains.get(&used.frame_owner)?.memory;
        let foreign = if used.frame_owner == user {
            None
        } else {
            owner.foreign(used.gfn)
        };
        let mine = self.domains.get(&user)?;
        if mine.memory.tables.is_none() {
            return match place {
                Place::Address(address) => mine.memory.map(address, owner, used.gfn, access),
                // There are no tables of the guest's.
                Place::Entry(_) => None,
            };
        }
        owner.ram_index(used.gfn)?;
        let memory = &mut self.domains.get_mut(&user)?.memory;
        let at = entry_at(memory, place)?;
        memory.map_granted(at, used.gfn, foreign, access).ok()
    }

    /// Ends all that a domain which is going has mapped.
    pub(crate) fn unmap_all(&mut self, user: DomId) {
        let maps = match self.domains.get_mut(&user) {
            Some(state) => std::mem::take(&mut state.grants.maps),
            None => return,
        };
        for map in maps.into_iter().flatten() {
            for _ in 0..map.uses() {
                self.release_grant(map.owner, map.gref, map.access);
            }
        }
    }
}
