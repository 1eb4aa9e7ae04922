//! Uses of grants: by mappings, by copies, and by services.

use hypercall_abi::{
    DomId, Gfn, GrantRef, PAGE_SIZE,
    grant_table::{
        GrantStatus,
        entry::{GTF_TYPE_MASK, GrantFlags},
    },
    peer::PeerSlice,
};

use super::{
    event_channels::DOM0,
    grant_table::{Map, Place, V1_BYTES},
    machine::Core,
    memory::{Access, Memory},
};

/// How deep one transitive grant may lead to another.
const MAX_HOPS: u32 = 2;

/// A use of a grant, to be ended with [`Core::release`].
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

/// The entry that a place is.
fn entry_at(memory: &Memory, place: Place) -> Option<(usize, usize)> {
    match place {
        Place::Address(address) => memory.place_of(address),
        Place::Entry(at) => memory.place_of_word(at),
    }
}

/// Takes a page away that was granted, and puts what is seen at `new` in its place.
fn unmap_page(memory: &mut Memory, map: &Map, place: Place, new: Option<u64>) -> Option<()> {
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

impl Core {
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
            if hops == MAX_HOPS {
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

    /// The page that is used, as peer memory, for as long as `used` lasts.
    pub(crate) fn granted_page(&self, used: &Use) -> Option<PeerSlice<'static>> {
        let state = self.domains.get(&used.frame_owner)?;
        let page = state.memory.ram_of(used.gfn)?;
        // SAFETY: memory of a domain's, used as peer memory only; a backend lets
        // go of it before the domain is removed or moved.
        Some(unsafe { PeerSlice::new(page, PAGE_SIZE) })
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

    /// Takes what others map of a domain that goes on in other frames away from them.
    pub(crate) fn unmap_from_all(&mut self, owner: DomId) {
        for state in self.domains.values_mut() {
            let mut gone = Vec::new();
            for map in &mut state.grants.maps {
                if map.is_some_and(|map| map.owner == owner) {
                    gone.extend(map.take());
                }
            }
            for map in gone {
                if let Some(place) = map.place {
                    let _unmapped = unmap_page(&mut state.memory, &map, place, None);
                }
            }
        }
    }
}
