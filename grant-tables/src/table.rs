//! The table: its frames, its references, and what is in quarantine.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU32, Ordering},
};

use hypercall_abi::{
    DomId, Gfn, GrantRef, PAGE_SIZE, event_channel,
    grant_table::{
        entry::{GNTTAB_NR_RESERVED_ENTRIES, GrantFlags},
        query_size, set_version, setup_table,
    },
    peer::PeerPtr,
    platform::{GrantFrame, Hypercall, OwnGrants, Pages, Singleton},
    probe::Facility,
};

use crate::{
    Error, Page,
    free::{Links, List},
    revoke::{revoke_v1, revoke_v2},
};

/// How entries look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 8 bytes: every hypervisor has it. Frames below 2^32 only.
    #[default]
    One,
    /// 16 bytes: any frame, parts of pages, grants of grants.
    Two,
}

impl Version {
    const fn entry_bytes(self) -> usize {
        match self {
            Self::One => 8,
            Self::Two => 16,
        }
    }

    const fn entries_per_frame(self) -> u32 {
        (PAGE_SIZE / self.entry_bytes()) as u32
    }
}

/// The most frames of a table that are used.
const MAX_FRAMES: usize = 256;
/// The frames that there are where nobody says how many: what the first tables had.
const OLD_FRAMES: u32 = 4;
/// Status words in a frame of them.
const STATUS_PER_FRAME: u32 = (PAGE_SIZE / 2) as u32;
const MAX_STATUS_FRAMES: usize =
    MAX_FRAMES * Version::Two.entries_per_frame() as usize / STATUS_PER_FRAME as usize;

/// For whom pages are lent (a device, say), so that what peers keep of them can be
/// counted: see [`GrantTable::quarantined_of`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner(u32);

impl Owner {
    /// Nobody in particular.
    pub const NONE: Self = Self(0);

    /// The owner of that name, whoever asks and however often: what was lent before a
    /// driver began anew is still its device's. Two names of a guest are the same owner
    /// with a probability of one in 2^32, and then share what is counted.
    pub fn named(name: &str) -> Self {
        // FNV-1a.
        let step = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        match name.bytes().fold(0x811c_9dc5, step) {
            0 => Self(1),
            hash => Self(hash),
        }
    }
}

/// What is kept of each reference beside its entry.
#[derive(Debug)]
#[repr(C)]
struct Note {
    next: AtomicU32,
    /// Whose a reference in quarantine was.
    owner: AtomicU32,
    /// The page of a reference in quarantine.
    page: AtomicPtr<u8>,
}

const NOTES_PER_PAGE: u32 = (PAGE_SIZE / size_of::<Note>()) as u32;
const MAX_NOTE_PAGES: usize =
    MAX_FRAMES * Version::One.entries_per_frame() as usize / NOTES_PER_PAGE as usize;

/// Places of pages that are added, and never go while the table is there.
struct Growing<const N: usize>([AtomicPtr<u8>; N]);

impl<const N: usize> Growing<N> {
    const fn new() -> Self {
        Self([const { AtomicPtr::new(core::ptr::null_mut()) }; N])
    }

    fn get(&self, index: usize) -> Option<NonNull<u8>> {
        NonNull::new(self.0.get(index)?.load(Ordering::Acquire))
    }

    fn set(&self, index: usize, page: NonNull<u8>) {
        if let Some(slot) = self.0.get(index) {
            slot.store(page.as_ptr(), Ordering::Release);
        }
    }
}

/// A guest's grant table.
///
/// References are taken and given back without a lock; the table grows as they
/// are needed, up to the hypervisor's limit. What a peer still uses when it is
/// dropped goes into quarantine, page and reference, and comes back when the
/// peer has let go.
pub struct GrantTable<P: Hypercall + Pages> {
    platform: P,
    version: Version,
    frames: Growing<MAX_FRAMES>,
    status: Growing<MAX_STATUS_FRAMES>,
    notes: Growing<MAX_NOTE_PAGES>,
    frames_len: AtomicU32,
    max_frames: u32,
    growing: AtomicBool,
    /// This domain's number, where mapping its own grants would move its pages.
    /// [`DomId::SELF`]: they may be mapped.
    never_mapped: AtomicU16,
    pub(crate) free: List,
    quarantine: List,
}

impl<P: Hypercall + Pages> Links for GrantTable<P> {
    fn next(&self, gref: u32) -> u32 {
        self.note(gref)
            .map_or(0, |note| note.next.load(Ordering::Relaxed))
    }

    fn set_next(&self, gref: u32, next: u32) {
        if let Some(note) = self.note(gref) {
            note.next.store(next, Ordering::Relaxed);
        }
    }
}

impl<P: Hypercall + Pages> GrantTable<P> {
    /// The table of this guest. A guest has one: two would give out the same references.
    /// There may be another when this one was dropped and nothing of it was left: no
    /// grant, and no page in quarantine. Version 2 is used if it is asked for and offered.
    ///
    /// # Errors
    /// [`Error::Taken`]: there is one; [`Error::Other`]: there is no Xen.
    pub fn new(platform: P, wanted: Version) -> Result<Self, Error> {
        if !platform.singletons().take(Singleton::GrantTable) {
            return Err(Error::Taken);
        }
        let made = Self::choose_all(&platform, wanted);
        let (max_frames, version, never_mapped) = match made {
            Ok(made) => made,
            Err(error) => {
                // SAFETY: taken above, and no grant was made.
                unsafe { platform.singletons().give_back(Singleton::GrantTable) };
                return Err(error);
            }
        };
        Ok(Self {
            platform,
            version,
            frames: Growing::new(),
            status: Growing::new(),
            notes: Growing::new(),
            frames_len: AtomicU32::new(0),
            max_frames: max_frames.min(MAX_FRAMES as u32),
            growing: AtomicBool::new(false),
            never_mapped: AtomicU16::new(never_mapped.0),
            free: List::default(),
            quarantine: List::default(),
        })
    }

    /// What the hypervisor offers: how many frames, the version, and whose grants cannot
    /// be mapped.
    fn choose_all(platform: &P, wanted: Version) -> Result<(u32, Version, DomId), Error> {
        let max_frames = Self::max_frames(platform)?;
        let version = Self::choose(platform, wanted)?;
        Ok((max_frames, version, Self::never_mapped(platform)?))
    }

    /// This domain's number where its own grants cannot be mapped, or [`DomId::SELF`].
    fn never_mapped(platform: &P) -> Result<DomId, Error> {
        Ok(match platform.own_grants() {
            OwnGrants::Alias => DomId::SELF,
            OwnGrants::Move => event_channel::own_domid(platform)?,
        })
    }

    /// Asks for a version, and says which it is.
    fn choose(platform: &P, wanted: Version) -> Result<Version, Error> {
        let number = match wanted {
            Version::One => 1,
            Version::Two => 2,
        };
        // SAFETY: this guest has made no grants yet, or none where it goes on now; where
        // it has, the version is this one already.
        let set = unsafe { set_version(platform, number) };
        match set {
            Ok(2) => Ok(Version::Two),
            Ok(_) => Ok(Version::One),
            // Without this call there is version 1 only.
            Err(errno) if Facility::GrantVersions.is_absent(errno) => Ok(Version::One),
            Err(errno) => Err(errno.into()),
        }
    }

    /// How many frames the table may have.
    fn max_frames(platform: &P) -> Result<u32, Error> {
        match query_size(platform) {
            Ok(size) => Ok(size.max_nr_frames),
            Err(errno) if Facility::GrantTableSize.is_absent(errno) => {
                // That there is a table is still to be seen.
                setup_table(platform, &mut [Gfn(0)])?;
                Ok(OLD_FRAMES)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// What a guest does after it was suspended and went on elsewhere
    /// ([`Suspended::Resumed`](hypercall_abi::sched::Suspended::Resumed)): its table is
    /// empty there. All grants are over, and can be made again by the same references
    /// ([`Granted::renew`](crate::Granted::renew)); what was in quarantine is free. What
    /// others lent is not there either: give it back before the suspend. No other vCPU
    /// runs meanwhile. In a guest that is where it was, this changes nothing.
    ///
    /// # Errors
    /// The hypervisor there has no such table: the guest cannot go on.
    pub fn resume(&self) -> Result<(), Error> {
        // It has another number there.
        let never_mapped = Self::never_mapped(&self.platform)?;
        self.never_mapped.store(never_mapped.0, Ordering::Release);
        if Self::choose(&self.platform, self.version)? != self.version {
            return Err(Error::NeedsVersion2);
        }
        let (tables, status) = (GrantFrame::Table, GrantFrame::Status);
        for (kind, frames) in [(tables, &self.frames.0[..]), (status, &self.status.0[..])] {
            for (index, place) in (0..).zip(frames) {
                if !place.load(Ordering::Acquire).is_null() {
                    let frame = self.platform.grant_frame(kind, index)?;
                    place.store(frame.as_ptr(), Ordering::Release);
                }
            }
        }
        self.release_quarantine();
        Ok(())
    }

    /// The platform.
    pub const fn platform(&self) -> &P {
        &self.platform
    }

    /// Whether mapping what `peer` lends leaves this domain's memory where it
    /// is.
    pub(crate) fn may_map(&self, peer: DomId) -> bool {
        let own = DomId(self.never_mapped.load(Ordering::Acquire));
        own == DomId::SELF || peer != own && peer != DomId::SELF
    }

    /// How its entries look.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// References that are there and free; more come when these are used up.
    pub fn free_references(&self) -> u32 {
        self.free.len()
    }

    /// The most references that there may ever be.
    pub const fn max_references(&self) -> u32 {
        self.max_frames * self.version.entries_per_frame() - GNTTAB_NR_RESERVED_ENTRIES
    }

    /// The references that there are now, free or not.
    pub fn references(&self) -> u32 {
        let entries = self.frames_len.load(Ordering::Acquire) * self.version.entries_per_frame();
        entries.saturating_sub(GNTTAB_NR_RESERVED_ENTRIES)
    }

    /// How many grants wait in quarantine for their peers to let go.
    pub fn quarantined(&self) -> u32 {
        self.quarantine.len()
    }

    /// Those in quarantine.
    pub fn quarantine(&self) -> impl Iterator<Item = GrantRef> + '_ {
        self.notes_in_quarantine().map(|(gref, _)| GrantRef(gref))
    }

    fn notes_in_quarantine(&self) -> impl Iterator<Item = (u32, &Note)> {
        let all = GNTTAB_NR_RESERVED_ENTRIES..self.references() + GNTTAB_NR_RESERVED_ENTRIES;
        all.filter_map(|gref| {
            let note = self.note(gref)?;
            let waits = !note.page.load(Ordering::Acquire).is_null();
            waits.then_some((gref, note))
        })
    }

    /// How many pages of `owner` wait in quarantine for their peers to let go: what a
    /// driver looks at before it lends more to a backend that may keep that, too. Goes
    /// through all references; those that are free again meanwhile are counted until
    /// [`release_quarantine`](Self::release_quarantine).
    pub fn quarantined_of(&self, owner: Owner) -> u32 {
        if self.quarantined() == 0 {
            return 0;
        }
        let is_theirs = |(_, note): &(u32, &Note)| note.owner.load(Ordering::Relaxed) == owner.0;
        self.notes_in_quarantine().filter(is_theirs).count() as u32
    }

    /// A fresh page, zeroed. If there is none, one that came back from quarantine.
    pub(crate) fn alloc_page(&self) -> Result<NonNull<u8>, Error> {
        let page = self.platform.alloc(1).or_else(|| {
            // A walk of the quarantine is worth a page, but not one for nothing.
            let waits = self.quarantined();
            (waits > 0 && self.release_quarantine() < waits)
                .then(|| self.platform.alloc(1))
                .flatten()
        });
        page.ok_or(Error::NoMemory)
    }

    fn note(&self, gref: u32) -> Option<&Note> {
        let page = self.notes.get((gref / NOTES_PER_PAGE) as usize)?;
        // SAFETY: a page has this many notes.
        let note = unsafe { page.cast::<Note>().add((gref % NOTES_PER_PAGE) as usize) };
        // SAFETY: zeroed memory is a note, and the page is there as long as the
        // table; notes hold atomics only.
        Some(unsafe { note.as_ref() })
    }

    /// A part of an entry.
    fn part<T>(&self, gref: u32, offset: usize) -> Option<PeerPtr<'_, T>> {
        let per_frame = self.version.entries_per_frame();
        let frame = self.frames.get((gref / per_frame) as usize)?;
        let at = (gref % per_frame) as usize * self.version.entry_bytes() + offset;
        // SAFETY: an entry lies in its frame, and both callers' parts in it.
        let place = unsafe { frame.add(at) }.cast();
        // SAFETY: mapped for good, and aligned as the layout says.
        Some(unsafe { PeerPtr::new(place) })
    }

    fn flags(&self, gref: u32) -> Option<PeerPtr<'_, u16>> {
        self.part(gref, 0)
    }

    fn status(&self, gref: u32) -> Option<PeerPtr<'_, u16>> {
        let frame = self.status.get((gref / STATUS_PER_FRAME) as usize)?;
        // SAFETY: a frame has this many words.
        let place = unsafe { frame.cast::<u16>().add((gref % STATUS_PER_FRAME) as usize) };
        // SAFETY: mapped for good.
        Some(unsafe { PeerPtr::new(place) })
    }

    /// Takes a reference from `list`, which grows if it is the table's own.
    pub(crate) fn take(&self, list: &List) -> Result<u32, Error> {
        if self.quarantined() > 0 && list.len() == 0 {
            self.release_quarantine();
        }
        loop {
            if let Some(gref) = list.pop(self) {
                return Ok(gref);
            }
            if !core::ptr::eq(list, &raw const self.free) {
                return Err(Error::NoReference);
            }
            if self.growing.swap(true, Ordering::Acquire) {
                // Another grows it.
                core::hint::spin_loop();
                continue;
            }
            let grown = if self.free.len() == 0 {
                self.grow()
            } else {
                Ok(())
            };
            self.growing.store(false, Ordering::Release);
            grown?;
        }
    }

    fn grow(&self) -> Result<(), Error> {
        let index = self.frames_len.load(Ordering::Acquire);
        if index >= self.max_frames {
            return Err(Error::NoReference);
        }
        let per_frame = self.version.entries_per_frame();
        let first = index * per_frame;
        let end = first + per_frame;
        for page in first / NOTES_PER_PAGE..end.div_ceil(NOTES_PER_PAGE) {
            if self.notes.get(page as usize).is_none() {
                let notes = self.alloc_page()?;
                self.notes.set(page as usize, notes);
            }
        }
        if self.frames.get(index as usize).is_none() {
            let frame = self.platform.grant_frame(GrantFrame::Table, index)?;
            self.frames.set(index as usize, frame);
        }
        let status = first / STATUS_PER_FRAME;
        if self.version == Version::Two && self.status.get(status as usize).is_none() {
            let frame = self.platform.grant_frame(GrantFrame::Status, status)?;
            self.status.set(status as usize, frame);
        }
        self.frames_len.store(index + 1, Ordering::Release);
        // The lowest on top.
        for gref in (first.max(GNTTAB_NR_RESERVED_ENTRIES)..end).rev() {
            self.free.push(self, gref);
        }
        Ok(())
    }

    /// Writes an entry for a frame; `part` is the bytes of it that are granted.
    pub(crate) fn write(
        &self,
        gref: u32,
        peer: DomId,
        gfn: Gfn,
        flags: GrantFlags,
        part: Option<(u16, u16)>,
    ) -> Result<(), Error> {
        match self.version {
            Version::One => {
                let frame = u32::try_from(gfn.0).map_err(|_| Error::NotMemory)?;
                if let Some(word) = self.part::<u32>(gref, 4) {
                    word.store(frame);
                }
            }
            Version::Two => {
                let (offset, len) = part.unwrap_or((0, 0));
                if let Some(word) = self.part::<u32>(gref, 4) {
                    word.store(u32::from(offset) | u32::from(len) << 16);
                }
                if let Some(word) = self.part::<u64>(gref, 8) {
                    word.store(gfn.0);
                }
            }
        }
        self.publish(gref, peer, flags);
        Ok(())
    }

    /// Writes an entry of version 2 for another domain's grant.
    pub(crate) fn write_transitive(
        &self,
        gref: u32,
        peer: DomId,
        owner: DomId,
        theirs: GrantRef,
        flags: GrantFlags,
    ) {
        if let Some(word) = self.part::<u32>(gref, 4) {
            word.store(u32::from(owner.0));
        }
        if let Some(word) = self.part::<u64>(gref, 8) {
            word.store(u64::from(theirs.0));
        }
        self.publish(gref, peer, flags);
    }

    fn publish(&self, gref: u32, peer: DomId, flags: GrantFlags) {
        if let Some(word) = self.part::<u16>(gref, 2) {
            word.store(peer.0);
        }
        // Last: with it the entry is valid.
        if let Some(word) = self.flags(gref) {
            word.store_release(flags.bits());
        }
    }

    /// Whether the peer uses it now.
    pub(crate) fn is_used(&self, gref: u32) -> bool {
        let word = match self.version {
            Version::One => self.flags(gref),
            Version::Two => self.status(gref),
        };
        word.is_some_and(|word| word.load_acquire().trust() & crate::revoke::USED != 0)
    }

    /// Whether the entry grants nothing, and nobody uses what it granted.
    pub(crate) fn is_over(&self, gref: u32) -> bool {
        let kind = GrantFlags::PERMIT_ACCESS.bits() | GrantFlags::TRANSITIVE.bits();
        let grants = |flags: PeerPtr<'_, u16>| flags.load().trust() & kind != 0;
        !self.flags(gref).is_some_and(grants) && !self.is_used(gref)
    }

    /// Ends a grant, if the peer does not use it.
    pub(crate) fn revoke(&self, gref: u32) -> bool {
        match (self.version, self.flags(gref), self.status(gref)) {
            (Version::One, Some(flags), _) => revoke_v1(&flags),
            (Version::Two, Some(flags), Some(status)) => revoke_v2(&flags, &status),
            _ => false,
        }
    }

    /// Keeps a page and its reference until the peer has let go.
    pub(crate) fn put_in_quarantine(&self, gref: u32, page: NonNull<u8>, owner: Owner) {
        if let Some(note) = self.note(gref) {
            note.owner.store(owner.0, Ordering::Relaxed);
            note.page.store(page.as_ptr(), Ordering::Release);
            self.quarantine.push(self, gref);
        }
    }

    /// Frees what peers have let go of meanwhile, and says how many wait still.
    /// Also happens when references or pages run out.
    pub fn release_quarantine(&self) -> u32 {
        // Each once: those that stay are pushed again, on top.
        let mut stay = 0_u32;
        for _ in 0..self.quarantined() {
            let Some(gref) = self.quarantine.pop(self) else {
                break;
            };
            if !self.revoke(gref) {
                // Kept aside: a list of its own, linked by the same notes.
                self.set_next(gref, stay);
                stay = gref;
                continue;
            }
            let page = self
                .note(gref)
                .map(|note| note.page.swap(core::ptr::null_mut(), Ordering::AcqRel));
            if let Some(page) = page.and_then(NonNull::new) {
                // SAFETY: the page of a grant that is over: it came from
                // `Page::into_raw`, and this was its only trace.
                drop(unsafe { Page::from_raw(&self.platform, page) });
            }
            self.free.push(self, gref);
        }
        while stay != 0 {
            let gref = stay;
            stay = self.next(gref);
            self.quarantine.push(self, gref);
        }
        self.quarantined()
    }
}

impl<P: Hypercall + Pages> core::fmt::Debug for GrantTable<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GrantTable")
            .field("version", &self.version)
            .field("references", &self.references())
            .field("most", &self.max_references())
            .field("free", &self.free_references())
            .field("quarantined", &self.quarantined())
            .finish()
    }
}

impl<P: Hypercall + Pages> Drop for GrantTable<P> {
    fn drop(&mut self) {
        self.release_quarantine();
        // A grant that was forgotten, or is in quarantine, has its reference still. Frames
        // of the table stay mapped, and notes of what is still in quarantine stay with
        // them.
        let all_free = self.free.len() == self.references();
        if self.quarantined() == 0 {
            for index in 0..MAX_NOTE_PAGES {
                if let Some(page) = self.notes.get(index) {
                    // SAFETY: allocated in `grow` as one page; nobody borrows
                    // from the table.
                    unsafe { self.platform.free(page, 1) };
                }
            }
        }
        if all_free {
            // SAFETY: taken in `new`. Each reference is free, so each entry grants nothing
            // and nobody uses what it granted.
            unsafe { self.platform.singletons().give_back(Singleton::GrantTable) };
        }
    }
}
