//! Pages that were taken back while their peers still used them.

use core::{ptr::NonNull, sync::atomic::Ordering};

use hypercall_abi::{
    GrantRef,
    grant_table::entry::GNTTAB_NR_RESERVED_ENTRIES,
    platform::{Hypercall, Pages},
};

use super::{GrantTable, Note, Owner};
use crate::{Page, free::Links};

impl<P: Hypercall + Pages> GrantTable<P> {
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
