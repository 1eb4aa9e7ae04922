//! The pages themselves: a file without a name, so that each page can be mapped a second time.

use std::ptr::NonNull;

use hypercall_abi::PAGE_SIZE;

use super::Access;

/// The memory itself: a file without a name, mapped, so that a second mapping
/// of its pages is the same memory; and a window of addresses for such.
#[cfg(not(miri))]
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) file: std::sync::Arc<std::os::fd::OwnedFd>,
    /// Where the guest sees it: it may map it otherwise.
    pub(super) start: NonNull<u8>,
    /// Where the hypervisor does.
    pub(crate) own: NonNull<u8>,
    pub(crate) nr_pages: usize,
    pub(super) window: NonNull<u8>,
    window_pages: usize,
}

// SAFETY: the memory belongs to this value; all access is by raw pointer.
unsafe impl Send for Block {}

#[cfg(not(miri))]
fn map_at(
    at: *mut u8,
    len: usize,
    protection: i32,
    flags: i32,
    file: i32,
    offset: usize,
) -> Option<NonNull<u8>> {
    // SAFETY: with a fixed address, one of this block's own window; otherwise
    // the kernel chooses.
    let place = unsafe {
        libc::mmap(
            at.cast(),
            len,
            protection,
            flags,
            file,
            offset as libc::off_t,
        )
    };
    if place == libc::MAP_FAILED {
        None
    } else {
        NonNull::new(place.cast())
    }
}

/// A file without a name, of so many bytes of zeroes, and where it is mapped.
#[cfg(not(miri))]
pub(crate) fn shared_file(len: usize) -> Option<(std::os::fd::OwnedFd, NonNull<u8>)> {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    // SAFETY: the name is a C string.
    let file = unsafe { libc::memfd_create(c"domain".as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return None;
    }
    // SAFETY: a fresh descriptor that nobody else has.
    let file = unsafe { OwnedFd::from_raw_fd(file) };
    // SAFETY: sets the length of our own file.
    if unsafe { libc::ftruncate(file.as_raw_fd(), libc::off_t::try_from(len).ok()?) } != 0 {
        return None;
    }
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let fd = file.as_raw_fd();
    let start = map_at(std::ptr::null_mut(), len, both, libc::MAP_SHARED, fd, 0)?;
    Some((file, start))
}

#[cfg(not(miri))]
impl Block {
    pub(super) fn new(nr_pages: usize, window_pages: usize) -> Option<Self> {
        use std::os::fd::AsRawFd;
        let len = nr_pages.checked_mul(PAGE_SIZE)?;
        let (file, own) = shared_file(len)?;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_raw_fd();
        let start = map_at(std::ptr::null_mut(), len, both, libc::MAP_SHARED, fd, 0)?;
        let nothing = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let window_len = window_pages * PAGE_SIZE;
        let window = map_at(
            std::ptr::null_mut(),
            window_len,
            libc::PROT_NONE,
            nothing,
            -1,
            0,
        )?;
        Some(Self {
            file: std::sync::Arc::new(file),
            start,
            own,
            nr_pages,
            window,
            window_pages,
        })
    }

    fn slot(&self, index: usize) -> *mut u8 {
        // SAFETY: both callers name a page of the window.
        unsafe { self.window.add(index * PAGE_SIZE) }.as_ptr()
    }

    pub(super) fn map(
        &self,
        index: usize,
        owner: &Self,
        source: usize,
        access: Access,
    ) -> Option<()> {
        use std::os::fd::AsRawFd;
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let file = owner.file.as_raw_fd();
        let offset = source * PAGE_SIZE;
        map_at(self.slot(index), PAGE_SIZE, protection, flags, file, offset).map(|_| ())
    }

    pub(super) fn unmap(&self, index: usize) -> Option<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        map_at(self.slot(index), PAGE_SIZE, libc::PROT_NONE, flags, -1, 0).map(|_| ())
    }

    pub(super) fn show(&self, at: usize, page: Option<(usize, Access)>) -> Option<()> {
        use std::os::fd::AsRawFd;
        // SAFETY: the caller names a page of the block.
        let place = unsafe { self.start.add(at * PAGE_SIZE) }.as_ptr();
        let (source, protection) = match page {
            None => (at, libc::PROT_NONE),
            Some((source, Access::Read)) => (source, libc::PROT_READ),
            Some((source, Access::Write)) => (source, libc::PROT_READ | libc::PROT_WRITE),
        };
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let (file, offset) = (self.file.as_raw_fd(), source * PAGE_SIZE);
        map_at(place, PAGE_SIZE, protection, flags, file, offset).map(|_| ())
    }
}

#[cfg(not(miri))]
impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; the domain is gone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.nr_pages * PAGE_SIZE) };
        // SAFETY: as above.
        unsafe { libc::munmap(self.own.as_ptr().cast(), self.nr_pages * PAGE_SIZE) };
        // SAFETY: as above.
        unsafe { libc::munmap(self.window.as_ptr().cast(), self.window_pages * PAGE_SIZE) };
    }
}

/// Under Miri, which maps no files: ordinary memory, and no window.
#[cfg(miri)]
#[derive(Debug)]
pub(crate) struct Block {
    pub(super) start: NonNull<u8>,
    pub(super) own: NonNull<u8>,
    pub(super) nr_pages: usize,
    pub(super) window: NonNull<u8>,
    layout: std::alloc::Layout,
}

#[cfg(miri)]
impl Block {
    pub(super) fn new(nr_pages: usize, _window_pages: usize) -> Option<Self> {
        let bytes = nr_pages.checked_mul(PAGE_SIZE)?;
        let layout = std::alloc::Layout::from_size_align(bytes, PAGE_SIZE).ok()?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
        Some(Self {
            start,
            own: start,
            nr_pages,
            window: NonNull::dangling(),
            layout,
        })
    }

    pub(super) fn map(&self, _: usize, _: &Self, _: usize, _: Access) -> Option<()> {
        None
    }

    pub(super) fn unmap(&self, _: usize) -> Option<()> {
        None
    }

    pub(super) fn show(&self, _: usize, _: Option<(usize, Access)>) -> Option<()> {
        None
    }
}

#[cfg(miri)]
impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}
