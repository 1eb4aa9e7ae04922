//! Memory that others lend, mapped here.

use core::{marker::PhantomData, ptr::NonNull};

use hypercall_abi::{
    DomId, Errno, GrantRef, PAGE_SIZE,
    grant_table::{GnttabMapGrantRef, GnttabUnmapGrantRef, GrantStatus, MapFlags, map, unmap},
    peer::PeerSlice,
    platform::{Hypercall, Pages},
    sched,
};

use crate::{Error, GrantTable};

/// The most pages in one [`Borrowed`].
pub const MAX_BATCH: usize = PAGE_SIZE / size_of::<Entry>();

/// Operations in one call.
const CALL: usize = 16;
/// How often a page that its owner's host has paged out is asked for again.
const TRIES: u32 = 10;

mod sealed {
    pub trait Sealed {}
}

/// How pages are mapped: [`ReadOnly`] or [`ReadWrite`].
pub trait MapAccess: sealed::Sealed {
    #[doc(hidden)]
    const FLAGS: MapFlags;
    /// How such a page is seen.
    type View<'a>;
    #[doc(hidden)]
    fn view(page: PeerSlice<'_>) -> Self::View<'_>;
}

/// For reading.
#[derive(Clone, Copy, Debug)]
pub struct ReadOnly;

/// For reading and writing.
#[derive(Clone, Copy, Debug)]
pub struct ReadWrite;

impl sealed::Sealed for ReadOnly {}
impl sealed::Sealed for ReadWrite {}

/// A page of another domain's that may be read.
#[derive(Clone, Copy, Debug)]
pub struct PeerView<'a>(PeerSlice<'a>);

impl PeerView<'_> {
    /// Copies bytes from `offset` on into `target`, as many as there are and
    /// fit, and says how many.
    pub fn copy_to(&self, offset: usize, target: &mut [u8]) -> usize {
        let rest = self.0.len_bytes().saturating_sub(offset);
        self.0
            .get(offset, rest)
            .map_or(0, |rest| rest.copy_to(target))
    }
}

impl MapAccess for ReadOnly {
    const FLAGS: MapFlags = MapFlags::HOST_MAP.union(MapFlags::READONLY);
    type View<'a> = PeerView<'a>;
    fn view(page: PeerSlice<'_>) -> PeerView<'_> {
        PeerView(page)
    }
}

impl MapAccess for ReadWrite {
    const FLAGS: MapFlags = MapFlags::HOST_MAP;
    type View<'a> = PeerSlice<'a>;
    fn view(page: PeerSlice<'_>) -> PeerSlice<'_> {
        page
    }
}

/// What became of one page.
#[derive(Clone, Copy)]
#[repr(C)]
struct Entry {
    handle: u32,
    status: GrantStatus,
}

/// Pages of another domain's, at addresses in a row. They are unmapped when it
/// is dropped.
#[derive(Debug)]
#[must_use = "dropping it unmaps the pages"]
pub struct Borrowed<'p, P: Hypercall + Pages, A: MapAccess> {
    platform: &'p P,
    window: NonNull<u8>,
    /// A page of `count` entries.
    entries: NonNull<Entry>,
    count: usize,
    access: PhantomData<A>,
}

// SAFETY: the addresses belong to this value.
unsafe impl<P: Hypercall + Pages + Sync, A: MapAccess> Send for Borrowed<'_, P, A> {}
// SAFETY: what is mapped is reached by peer pointers only.
unsafe impl<P: Hypercall + Pages + Sync, A: MapAccess> Sync for Borrowed<'_, P, A> {}

impl<'p, P: Hypercall + Pages, A: MapAccess> Borrowed<'p, P, A> {
    /// Maps the pages that `peer` lends as `refs`. One that cannot be mapped
    /// takes nothing from the others: see [`page`](Self::page) and
    /// [`check`](Self::check).
    ///
    /// # Errors
    /// [`Error::NoMemory`]: no memory or no addresses are left;
    /// [`Error::TooMany`]; [`Error::OwnGrant`]; [`Error::Other`]: the hypervisor
    /// takes no such call.
    pub fn map(table: &'p GrantTable<P>, peer: DomId, refs: &[GrantRef]) -> Result<Self, Error> {
        if !table.may_map(peer) {
            return Err(Error::OwnGrant);
        }
        let platform = table.platform();
        let count = refs.len();
        if count > MAX_BATCH || count == 0 {
            return Err(Error::TooMany);
        }
        let entries: NonNull<Entry> = table.alloc_page()?.cast();
        let Some(window) = platform.reserve_window(count) else {
            // SAFETY: just allocated, as one page.
            unsafe { platform.free(entries.cast(), 1) };
            return Err(Error::NoMemory);
        };
        let mut borrowed = Self {
            platform,
            window,
            entries,
            count,
            access: PhantomData,
        };
        for index in 0..count {
            borrowed.set(
                index,
                Entry {
                    handle: 0,
                    status: GrantStatus::GENERAL_ERROR,
                },
            );
        }
        // From here on dropping it undoes what was done.
        for first in (0..count).step_by(CALL) {
            let refs = refs.get(first..(first + CALL).min(count)).unwrap_or(&[]);
            borrowed.map_some(peer, first, refs)?;
        }
        Ok(borrowed)
    }

    fn map_some(&mut self, peer: DomId, first: usize, refs: &[GrantRef]) -> Result<(), Error> {
        let mut ops = [GnttabMapGrantRef::default(); CALL];
        for (index, (op, gref)) in ops.iter_mut().zip(refs).enumerate() {
            *op = GnttabMapGrantRef {
                host_addr: self.platform.window_address(self.address(first + index)),
                flags: A::FLAGS.bits(),
                r#ref: *gref,
                dom: peer,
                status: GrantStatus::GENERAL_ERROR,
                ..GnttabMapGrantRef::default()
            };
        }
        let ops = ops.get_mut(..refs.len()).unwrap_or(&mut []);
        // SAFETY: the addresses are ours, nothing is mapped there, and what
        // will be is reached by peer pointers only.
        let mut called = unsafe { map(self.platform, ops) };
        // Also if the call failed: what it had mapped until then is to be unmapped.
        for (index, op) in ops.iter_mut().enumerate() {
            let mut pause = 1;
            for _ in 0..TRIES {
                if op.status != GrantStatus::EAGAIN || called.is_err() {
                    break;
                }
                for _ in 0..pause {
                    sched::yield_now(self.platform);
                }
                pause *= 2;
                // SAFETY: as above.
                called = unsafe { map(self.platform, core::slice::from_mut(op)) };
            }
            self.set(
                first + index,
                Entry {
                    handle: op.handle,
                    status: op.status,
                },
            );
        }
        Ok(called?)
    }

    fn set(&mut self, index: usize, entry: Entry) {
        // SAFETY: all callers keep `index` below the count, for which there is
        // room.
        let place = unsafe { self.entries.add(index) };
        // SAFETY: as above.
        unsafe { place.write(entry) };
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        if index >= self.count {
            return None;
        }
        // SAFETY: below the count.
        let place = unsafe { self.entries.add(index) };
        // SAFETY: written in `map`.
        Some(unsafe { place.read() })
    }

    fn address(&self, index: usize) -> NonNull<u8> {
        // SAFETY: all callers keep `index` below the count.
        unsafe { self.window.add(index * PAGE_SIZE) }
    }

    /// How many pages were asked for.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether none was: never.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A page.
    ///
    /// # Errors
    /// Why it could not be mapped; [`GrantStatus::BAD_HANDLE`]: none was asked
    /// for at this index.
    pub fn page(&self, index: usize) -> Result<A::View<'_>, GrantStatus> {
        let entry = self.entry(index).ok_or(GrantStatus::BAD_HANDLE)?;
        entry.status.check()?;
        // SAFETY: mapped while this value lives, and reached by peer pointers
        // only.
        Ok(A::view(unsafe {
            PeerSlice::new(self.address(index), PAGE_SIZE)
        }))
    }

    /// That all pages were mapped.
    ///
    /// # Errors
    /// The first that was not: [`Error::Status`].
    pub fn check(&self) -> Result<(), Error> {
        for index in 0..self.count {
            if let Some(entry) = self.entry(index) {
                entry.status.check().map_err(Error::Status)?;
            }
        }
        Ok(())
    }
}

impl<P: Hypercall + Pages, A: MapAccess> Drop for Borrowed<'_, P, A> {
    fn drop(&mut self) {
        let mut all_gone = true;
        for first in (0..self.count).step_by(CALL) {
            let mut ops = [GnttabUnmapGrantRef::default(); CALL];
            let mut len = 0;
            for index in first..(first + CALL).min(self.count) {
                let mapped = self
                    .entry(index)
                    .filter(|entry| entry.status.check().is_ok());
                if let (Some(entry), Some(op)) = (mapped, ops.get_mut(len)) {
                    *op = GnttabUnmapGrantRef {
                        host_addr: self.platform.window_address(self.address(index)),
                        handle: entry.handle,
                        status: GrantStatus::GENERAL_ERROR,
                        ..GnttabUnmapGrantRef::default()
                    };
                    len += 1;
                }
            }
            let ops = ops.get_mut(..len).unwrap_or(&mut []);
            if ops.is_empty() {
                continue;
            }
            // SAFETY: pages that this value mapped, and whose borrows are over.
            let called: Result<(), Errno> = unsafe { unmap(self.platform, ops) };
            all_gone &= called.is_ok() && ops.iter().all(|op| op.status.check().is_ok());
        }
        if all_gone {
            // SAFETY: reserved in `map`, and nothing is mapped there any more.
            unsafe { self.platform.release_window(self.window, self.count) };
        }
        // SAFETY: allocated in `map` as one page.
        unsafe { self.platform.free(self.entries.cast(), 1) };
    }
}
