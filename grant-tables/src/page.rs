//! A page of one's own.

use core::{ptr::NonNull, slice};

use hypercall_abi::{
    PAGE_SIZE,
    platform::{Hypercall, Pages},
};

use crate::{Error, GrantTable};

/// A page that nobody else has, zeroed when it is made and freed when it is
/// dropped.
#[derive(Debug)]
pub struct Page<'p, P: Pages> {
    platform: &'p P,
    start: NonNull<u8>,
}

// SAFETY: the page belongs to this value.
unsafe impl<P: Pages + Sync> Send for Page<'_, P> {}
// SAFETY: shared references only read.
unsafe impl<P: Pages + Sync> Sync for Page<'_, P> {}

impl<'p, P: Hypercall + Pages> Page<'p, P> {
    /// A fresh page. When memory has run out, one that was in the table's quarantine
    /// and that its peer has let go of.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn new(table: &'p GrantTable<P>) -> Result<Self, Error> {
        Ok(Self {
            start: table.alloc_page()?,
            platform: table.platform(),
        })
    }
}

impl<'p, P: Pages> Page<'p, P> {
    /// # Safety
    /// The page came from [`Page::into_raw`] of the same platform, once.
    pub(crate) unsafe fn from_raw(platform: &'p P, start: NonNull<u8>) -> Self {
        Self { platform, start }
    }

    pub(crate) fn into_raw(self) -> NonNull<u8> {
        core::mem::ManuallyDrop::new(self).start
    }

    pub(crate) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: a page of ours, which is initialised since it was zeroed.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), PAGE_SIZE) }
    }

    /// Its bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), PAGE_SIZE) }
    }
}

impl<P: Pages> Drop for Page<'_, P> {
    fn drop(&mut self) {
        // SAFETY: allocated by this platform as one page, and nobody has it.
        unsafe { self.platform.free(self.start, 1) };
    }
}
