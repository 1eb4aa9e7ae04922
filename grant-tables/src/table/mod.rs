//! The table: its frames, its references, and what is in quarantine.

mod entries;
mod quarantine;

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU32, Ordering},
};

use hypercall_abi::{
    DomId, Gfn, PAGE_SIZE, event_channel,
    grant_table::{entry::GNTTAB_NR_RESERVED_ENTRIES, query_size, set_version, setup_table},
    platform::{GrantFrame, Hypercall, OwnGrants, Pages, Singleton},
    probe::Facility,
};

use crate::{
    Error,
    free::{Links, List},
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
