//! The entries: where they are, how they are written and made public, and how they end.

use core::sync::atomic::Ordering;

use hypercall_abi::{
    DomId, Gfn, GrantRef,
    grant_table::entry::{GNTTAB_NR_RESERVED_ENTRIES, GrantFlags},
    peer::PeerPtr,
    platform::{GrantFrame, Hypercall, Pages},
};

use super::{GrantTable, NOTES_PER_PAGE, Note, STATUS_PER_FRAME, Version};
use crate::{
    Error,
    free::List,
    revoke::{revoke_v1, revoke_v2},
};

impl<P: Hypercall + Pages> GrantTable<P> {
    pub(super) fn note(&self, gref: u32) -> Option<&Note> {
        let page = self.notes.get((gref / NOTES_PER_PAGE) as usize)?;
        // SAFETY: a page has this many notes.
        let note = unsafe { page.cast::<Note>().add((gref % NOTES_PER_PAGE) as usize) };
        // SAFETY: zeroed memory is a note, and the page is there as long as the
        // table; notes hold atomics only.
        Some(unsafe { note.as_ref() })
    }

    /// A part of an entry.
    pub(super) fn part<T>(&self, gref: u32, offset: usize) -> Option<PeerPtr<'_, T>> {
        let per_frame = self.version.entries_per_frame();
        let frame = self.frames.get((gref / per_frame) as usize)?;
        let at = (gref % per_frame) as usize * self.version.entry_bytes() + offset;
        // SAFETY: an entry lies in its frame, and both callers' parts in it.
        let place = unsafe { frame.add(at) }.cast();
        // SAFETY: mapped for good, and aligned as the layout says.
        Some(unsafe { PeerPtr::new(place) })
    }

    pub(super) fn flags(&self, gref: u32) -> Option<PeerPtr<'_, u16>> {
        self.part(gref, 0)
    }

    pub(super) fn status(&self, gref: u32) -> Option<PeerPtr<'_, u16>> {
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

    pub(super) fn grow(&self) -> Result<(), Error> {
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

    pub(super) fn publish(&self, gref: u32, peer: DomId, flags: GrantFlags) {
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
}
