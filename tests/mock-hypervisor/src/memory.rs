//! The domain's memory, and the way to what a hypercall's arguments point to.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    ptr::NonNull,
};

use hypercall_abi::{Errno, Gfn, PAGE_SIZE};

/// The machine frame of the domain's first page: not zero, so that a guest
/// which confuses its two kinds of frames is found out.
const FIRST_MFN: u64 = 0x10_0000;

/// The pages of a domain.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    /// For each page, whether it was given out.
    taken: Vec<bool>,
}

// SAFETY: the memory belongs to this value; all access is by raw pointer.
unsafe impl Send for Memory {}

impl Memory {
    pub(crate) fn new(nr_pages: usize) -> Option<Self> {
        let layout = Layout::from_size_align(nr_pages.checked_mul(PAGE_SIZE)?, PAGE_SIZE).ok()?;
        if layout.size() == 0 {
            return None;
        }
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self {
            start,
            layout,
            taken: vec![false; nr_pages],
        })
    }

    pub(crate) fn nr_pages(&self) -> usize {
        self.taken.len()
    }

    fn page(&self, index: usize) -> NonNull<u8> {
        // SAFETY: all callers name a page of the domain's.
        unsafe { self.start.add(index * PAGE_SIZE) }
    }

    pub(crate) fn alloc(&mut self, count: usize) -> Option<NonNull<u8>> {
        if count == 0 {
            return None;
        }
        let first = self
            .taken
            .windows(count)
            .position(|pages| pages.iter().all(|taken| !taken))?;
        self.taken[first..first + count].fill(true);
        let page = self.page(first);
        // SAFETY: pages of the domain's that nobody else has.
        unsafe { page.write_bytes(0, count * PAGE_SIZE) };
        Some(page)
    }

    pub(crate) fn free(&mut self, first: NonNull<u8>, count: usize) {
        let Some(index) = self.index_of(first) else {
            return;
        };
        if let Some(pages) = self.taken.get_mut(index..index + count) {
            pages.fill(false);
        }
    }

    fn index_of(&self, page: NonNull<u8>) -> Option<usize> {
        let offset = page.addr().get().checked_sub(self.start.addr().get())?;
        Some(offset / PAGE_SIZE).filter(|index| *index < self.nr_pages())
    }

    pub(crate) fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        self.index_of(page)
            .map(|index| Gfn(FIRST_MFN + index as u64))
    }

    pub(crate) fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        let index = usize::try_from(gfn.0.checked_sub(FIRST_MFN)?).ok()?;
        (index < self.nr_pages()).then(|| self.page(index))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// How hypercalls reach the guest's memory, by the guest's own addresses.
pub(crate) trait GuestMemory {
    fn copy_in(&self, address: usize, target: &mut [u8]) -> Result<(), Errno>;
    fn copy_out(&self, address: usize, source: &[u8]) -> Result<(), Errno>;
}

/// A guest in this very process. Addresses that are not mapped are `EFAULT`,
/// as on Xen: the kernel does the copy and says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThisProcess;

#[cfg(not(miri))]
impl GuestMemory for ThisProcess {
    fn copy_in(&self, address: usize, target: &mut [u8]) -> Result<(), Errno> {
        let local = libc::iovec {
            iov_base: target.as_mut_ptr().cast(),
            iov_len: target.len(),
        };
        let remote = libc::iovec {
            iov_base: core::ptr::with_exposed_provenance_mut(address),
            iov_len: target.len(),
        };
        // SAFETY: asks for this process's number.
        let pid = unsafe { libc::getpid() };
        // SAFETY: writes `target` only; a bad source is an error.
        let copied = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
        complete(copied, target.len())
    }

    fn copy_out(&self, address: usize, source: &[u8]) -> Result<(), Errno> {
        let local = libc::iovec {
            iov_base: source.as_ptr().cast_mut().cast(),
            iov_len: source.len(),
        };
        let remote = libc::iovec {
            iov_base: core::ptr::with_exposed_provenance_mut(address),
            iov_len: source.len(),
        };
        // SAFETY: asks for this process's number.
        let pid = unsafe { libc::getpid() };
        // SAFETY: writes what the guest named in its hypercall, as Xen does;
        // that it may be written is the promise of whoever made the call.
        let copied = unsafe { libc::process_vm_writev(pid, &local, 1, &remote, 1, 0) };
        complete(copied, source.len())
    }
}

#[cfg(not(miri))]
fn complete(copied: isize, wanted: usize) -> Result<(), Errno> {
    if copied.cast_unsigned() == wanted {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

#[cfg(miri)]
impl GuestMemory for ThisProcess {
    fn copy_in(&self, address: usize, target: &mut [u8]) -> Result<(), Errno> {
        if address < PAGE_SIZE {
            return Err(Errno::EFAULT);
        }
        let source = core::ptr::with_exposed_provenance::<u8>(address);
        // SAFETY: what the guest named in its hypercall, whose caller promised
        // that it may be read.
        unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), target.len()) };
        Ok(())
    }

    fn copy_out(&self, address: usize, source: &[u8]) -> Result<(), Errno> {
        if address < PAGE_SIZE {
            return Err(Errno::EFAULT);
        }
        let target = core::ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: what the guest named in its hypercall, whose caller promised
        // that it may be written.
        unsafe { target.copy_from_nonoverlapping(source.as_ptr(), source.len()) };
        Ok(())
    }
}
