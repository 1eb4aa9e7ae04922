//! A page of one's own.

use core::{ptr::NonNull, slice};

use hypercall_abi::{PAGE_SIZE, platform::Pages};

use crate::Error;

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

impl<'p, P: Pages> Page<'p, P> {
    /// A fresh page.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn new(platform: &'p P) -> Result<Self, Error> {
        let start = platform.alloc(1).ok_or(Error::NoMemory)?;
        Ok(Self { platform, start })
    }

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
