//! A domain's memory, and the way to what a hypercall's arguments point to.

use std::{collections::BTreeMap, ptr::NonNull, sync::atomic::AtomicU64};

use hypercall_abi::{DomId, Errno, Gfn, PAGE_SIZE, peer::PeerSlice};

use crate::{DomainType, frames::Frames, tables::Tables};

/// The machine frame of the first domain's first page: not zero, so that a
/// guest which confuses its two kinds of frames is found out.
const FIRST_MFN: u64 = 0x10_0000;
/// From a domain's frames to those that it gets when it is moved.
const FRAMES_APART: u64 = 0x1_0007;
/// Machine frames from one domain's first page to the next one's.
const MFNS_PER_DOMAIN: u64 = 0x100_0000;
/// Frames of the domain's that are no memory of the guest's: its grant table, and
/// (of a guest that runs as an image) the shared page.
pub(crate) const XEN_PAGES: usize = SHARED_PAGE + 1;
/// Which of them is the shared page.
pub(crate) const SHARED_PAGE: usize = TABLE_PAGES + STATUS_PAGES;
/// The most frames of a grant table.
pub(crate) const TABLE_PAGES: usize = 64;
/// The most frames of its status words.
pub(crate) const STATUS_PAGES: usize = 16;
/// Addresses at which other domains' pages can be mapped.
const WINDOW_PAGES: usize = 4096;

/// The pages of a domain.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) block: Block,
    first_mfn: u64,
    /// What the hypervisor knows of each frame.
    pub(crate) frames: Frames,
    /// For each page of the guest's, whether it was given out.
    pub(crate) taken: Vec<bool>,
    /// For each page of the window, whether it was given out.
    reserved: Vec<bool>,
    /// Where a PVH guest has added pages of the hypervisor's, by their numbers.
    pub(crate) added: BTreeMap<usize, usize>,
    /// The guest's own tables, if it sees its memory by them.
    pub(crate) tables: Option<Tables>,
}

/// Page numbers that are not taken: the first of `count` in a row.
fn find(taken: &[bool], count: usize) -> Option<usize> {
    taken
        .windows(count)
        .position(|pages| pages.iter().all(|taken| !taken))
}

impl Memory {
    pub(crate) fn new(domid: DomId, domain_type: DomainType, nr_pages: usize) -> Option<Self> {
        let first_mfn = match domain_type {
            DomainType::Pv => FIRST_MFN + u64::from(domid.0 - 1) * MFNS_PER_DOMAIN,
            // It knows of guest frames only.
            DomainType::Pvh => 0,
        };
        Some(Self {
            block: Block::new(nr_pages.checked_add(XEN_PAGES)?, WINDOW_PAGES)?,
            first_mfn,
            frames: Frames::new(nr_pages),
            taken: vec![false; nr_pages],
            reserved: vec![false; WINDOW_PAGES],
            added: BTreeMap::new(),
            tables: None,
        })
    }

    pub(crate) fn nr_pages(&self) -> usize {
        self.taken.len()
    }

    /// Where a PVH guest has a page of the hypervisor's that it has added.
    pub(crate) fn place_of_added(&self, page: usize) -> Option<NonNull<u8>> {
        self.added.get(&page).map(|at| self.page(*at))
    }

    /// Where the guest has a page, unless it put another one there.
    fn page(&self, index: usize) -> NonNull<u8> {
        // SAFETY: all callers name a page of the block's.
        unsafe { self.block.start.add(index * PAGE_SIZE) }
    }

    /// Where the hypervisor has it.
    pub(crate) fn own_page(&self, index: usize) -> NonNull<u8> {
        // SAFETY: as above.
        unsafe { self.block.own.add(index * PAGE_SIZE) }
    }

    /// The number of a page, by either's address of it.
    pub(crate) fn any_index_of(&self, page: NonNull<u8>) -> Option<usize> {
        let offset = page.addr().get().checked_sub(self.block.own.addr().get());
        let own = offset.map(|offset| offset / PAGE_SIZE);
        own.filter(|index| *index < self.block.nr_pages)
            .or_else(|| self.index_of(page))
    }

    /// Gives the domain other frames; what its tables lead to is the same.
    pub(crate) fn change_frames(&mut self) {
        let old = self.first_mfn;
        self.first_mfn += FRAMES_APART;
        self.translate(old);
    }

    /// The first of its frames.
    pub(crate) const fn first_mfn(&self) -> u64 {
        self.first_mfn
    }

    /// Where the hypervisor has what the guest has at `page`.
    pub(crate) fn own_of<T>(&self, page: NonNull<T>) -> Option<NonNull<T>> {
        let index = self.index_of(page.cast())?;
        Some(self.own_page(index).cast())
    }

    pub(crate) fn alloc(&mut self, count: usize) -> Option<NonNull<u8>> {
        if count == 0 {
            return None;
        }
        let first = find(&self.taken, count)?;
        self.taken[first..first + count].fill(true);
        // SAFETY: pages of the domain's that nobody else has.
        unsafe { self.own_page(first).write_bytes(0, count * PAGE_SIZE) };
        Some(self.page(first))
    }

    /// How many pages are given out.
    pub(crate) fn in_use(&self) -> usize {
        self.taken.iter().filter(|taken| **taken).count()
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
        let offset = page
            .addr()
            .get()
            .checked_sub(self.block.start.addr().get())?;
        Some(offset / PAGE_SIZE).filter(|index| *index < self.block.nr_pages)
    }

    pub(crate) fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        self.index_of(page)
            .map(|index| Gfn(self.first_mfn + index as u64))
    }

    /// The number of a frame's page, if it is this domain's.
    pub(crate) fn index_of_gfn(&self, gfn: Gfn) -> Option<usize> {
        let index = usize::try_from(gfn.0.checked_sub(self.first_mfn)?).ok()?;
        (index < self.block.nr_pages).then_some(index)
    }

    /// The page of a frame, if it is this domain's, as the guest sees it.
    pub(crate) fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        self.index_of_gfn(gfn).map(|index| self.page(index))
    }

    /// The number of a page of the guest's own memory: not one of its tables.
    pub(crate) fn ram_index(&self, gfn: Gfn) -> Option<usize> {
        self.index_of_gfn(gfn)
            .filter(|index| *index < self.nr_pages())
    }

    /// A page of the guest's own memory, as the hypervisor sees it.
    pub(crate) fn ram_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        self.ram_index(gfn).map(|index| self.own_page(index))
    }

    /// The frame of a page.
    pub(crate) fn gfn_of_index(&self, index: usize) -> Gfn {
        Gfn(self.first_mfn + index as u64)
    }

    /// A page that the hypervisor keeps for the domain.
    pub(crate) fn xen_page(&self, index: usize) -> Option<NonNull<u8>> {
        (index < XEN_PAGES).then(|| self.own_page(self.nr_pages() + index))
    }

    /// Its frame.
    pub(crate) fn xen_gfn(&self, index: usize) -> Option<Gfn> {
        (index < XEN_PAGES).then(|| self.gfn_of_index(self.nr_pages() + index))
    }

    /// The number of the page that the guest has at an address of its own.
    pub(crate) fn index_at(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.block.start.addr().get())?;
        Some(offset / PAGE_SIZE).filter(|index| *index < self.nr_pages())
    }

    /// An entry of a page of entries.
    pub(crate) fn entry(&self, table: usize, index: usize) -> &AtomicU64 {
        let table = self.own_page(table).cast::<AtomicU64>();
        // SAFETY: a page has 512 words.
        let place = unsafe { table.add(index & 511) };
        // SAFETY: memory of the domain's; whoever else writes there does it
        // atomically or not at all.
        unsafe { place.as_ref() }
    }

    /// Fills a page with zeroes, or with another's bytes.
    pub(crate) fn fill(&self, index: usize, source: Option<usize>) {
        let target = self.own_page(index);
        match source {
            // SAFETY: two pages of the domain's; the guest asked for it.
            Some(source) => unsafe { self.own_page(source).copy_to(target, PAGE_SIZE) },
            // SAFETY: as above.
            None => unsafe { target.write_bytes(0, PAGE_SIZE) },
        }
    }

    /// Writes bytes into a page, up to its end.
    pub(crate) fn write(&self, index: usize, offset: usize, bytes: &[u8]) {
        let page = self.own_page(index);
        // SAFETY: a page of the domain's, as peer memory.
        let page = unsafe { PeerSlice::new(page, PAGE_SIZE) };
        if let Some(place) = page.get(offset, bytes.len()) {
            let _all = place.copy_from(bytes);
        }
    }

    /// Puts a page where the guest has the page `at`, or none.
    pub(crate) fn show(&self, at: usize, page: Option<(usize, Access)>) -> Option<()> {
        self.block.show(at, page)
    }

    /// Addresses for other domains' pages.
    pub(crate) fn reserve_window(&mut self, count: usize) -> Option<NonNull<u8>> {
        if count == 0 {
            return None;
        }
        let first = find(&self.reserved, count)?;
        self.reserved[first..first + count].fill(true);
        // SAFETY: a page of the window.
        Some(unsafe { self.block.window.add(first * PAGE_SIZE) })
    }

    pub(crate) fn release_window(&mut self, first: NonNull<u8>, count: usize) {
        let Some(index) = self.window_index(first.addr().get() as u64) else {
            return;
        };
        if let Some(pages) = self.reserved.get_mut(index..index + count) {
            pages.fill(false);
        }
    }

    fn window_index(&self, address: u64) -> Option<usize> {
        let start = self.block.window.addr().get() as u64;
        let offset = usize::try_from(address.checked_sub(start)?).ok()?;
        (offset.is_multiple_of(PAGE_SIZE) && offset / PAGE_SIZE < self.reserved.len())
            .then_some(offset / PAGE_SIZE)
    }

    /// Makes the page at `address` of the window that of another domain's
    /// frame.
    pub(crate) fn map(&self, address: u64, owner: &Self, gfn: Gfn, access: Access) -> Option<()> {
        let index = self.window_index(address)?;
        let source = owner.ram_index(gfn)?;
        self.block.map(index, &owner.block, source, access)
    }

    /// Takes what is mapped at `address` away.
    pub(crate) fn unmap(&self, address: u64) -> Option<()> {
        self.block.unmap(self.window_index(address)?)
    }
}

/// How a page is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The memory itself: a file without a name, mapped, so that a second mapping
/// of its pages is the same memory; and a window of addresses for such.
#[cfg(not(miri))]
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) file: std::sync::Arc<std::os::fd::OwnedFd>,
    /// Where the guest sees it: it may map it otherwise.
    start: NonNull<u8>,
    /// Where the hypervisor does.
    pub(crate) own: NonNull<u8>,
    pub(crate) nr_pages: usize,
    window: NonNull<u8>,
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
    fn new(nr_pages: usize, window_pages: usize) -> Option<Self> {
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

    fn map(&self, index: usize, owner: &Self, source: usize, access: Access) -> Option<()> {
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

    fn unmap(&self, index: usize) -> Option<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        map_at(self.slot(index), PAGE_SIZE, libc::PROT_NONE, flags, -1, 0).map(|_| ())
    }

    fn show(&self, at: usize, page: Option<(usize, Access)>) -> Option<()> {
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
    start: NonNull<u8>,
    own: NonNull<u8>,
    nr_pages: usize,
    window: NonNull<u8>,
    layout: std::alloc::Layout,
}

#[cfg(miri)]
impl Block {
    fn new(nr_pages: usize, _window_pages: usize) -> Option<Self> {
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

    fn map(&self, _: usize, _: &Self, _: usize, _: Access) -> Option<()> {
        None
    }

    fn unmap(&self, _: usize) -> Option<()> {
        None
    }

    fn show(&self, _: usize, _: Option<(usize, Access)>) -> Option<()> {
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
