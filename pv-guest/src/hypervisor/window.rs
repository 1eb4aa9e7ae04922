//! Addresses behind the guest's memory at which it sees frames that are not
//! its own: its grant table, and what others grant it.

use core::{
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use hypercall_abi::{
    Errno, Gfn, PAGE_SIZE, Pfn,
    grant_table::{get_status_frames, setup_table},
    memory::{MapSpace, XENMAPIDX_GRANT_TABLE_STATUS, add_to_physmap},
    platform::GrantFrame,
};

use super::{Native, frames, own_tables, pv_tables};
use crate::{
    boot_info::GuestType,
    cpu::{guest_type::guest_type, sync::UpcallMutex},
    memory::FrameAllocator,
};

const PAGE: u64 = PAGE_SIZE as u64;
/// How many pages the window has: a word of a page of bitmap for 64 of them.
const PAGES: u64 = 16 * 1024;
/// The most frames of a table that are asked for at once, as a PV guest must.
const MAX_FRAMES: usize = 256;
/// A frame of status words is for this many frames of entries (of version 2).
const ENTRY_FRAMES_PER_STATUS_FRAME: usize = 8;
const MAX_STATUS_FRAMES: usize = MAX_FRAMES / ENTRY_FRAMES_PER_STATUS_FRAME;
const _: () = assert!(PAGES < u16::MAX as u64);

/// The physical address of the window.
static START: AtomicU64 = AtomicU64::new(0);
static FREE: UpcallMutex<Option<FrameAllocator<'static>>> = UpcallMutex::new(None);

/// Puts the window behind the memory that ends at `ram_end`.
pub(crate) fn place_behind(ram_end: u64) {
    let start = match guest_type() {
        // A table of its own, lest one be shared with memory.
        Some(GuestType::Pv) => ram_end.next_multiple_of(1 << 21),
        // Below 4 GiB there are devices.
        _ => ram_end.max(1 << 32).next_multiple_of(1 << 30),
    };
    START.store(start, Ordering::Relaxed);
}

fn pointer(paddr: u64) -> Option<NonNull<u8>> {
    let virt = frames::virtual_of(paddr) as usize;
    NonNull::new(core::ptr::with_exposed_provenance_mut(virt))
}

/// Takes addresses for `count` pages, and makes tables for them.
pub(crate) fn reserve(count: usize) -> Option<NonNull<u8>> {
    let start = START.load(Ordering::Relaxed);
    let mut free = FREE.lock();
    if free.is_none() {
        let page = frames::allocate_zeroed(1)?;
        let len = (PAGES / 64) as usize;
        // SAFETY: a fresh page of ours, for good, with room for that many.
        let words = unsafe { slice::from_raw_parts_mut(page.cast::<u64>().as_ptr(), len) };
        let mut frames = FrameAllocator::new(words);
        frames.add(Pfn(0), Pfn(PAGES));
        *free = Some(frames);
    }
    let frames = free.as_mut()?;
    let Pfn(first) = frames.allocate(count)?;
    let paddr = start + first * PAGE;
    let range = paddr..paddr + count as u64 * PAGE;
    let made = match guest_type() {
        Some(GuestType::Pv) => pv_tables::make_room(range).is_some(),
        _ => own_tables::map_window(range).is_ok(),
    };
    if !made {
        let _taken = frames.free(Pfn(first), count);
        return None;
    }
    pointer(paddr)
}

fn paddr_of(page: NonNull<u8>) -> Option<u64> {
    frames::physical_of(page.addr().get() as u64)
}

/// Gives addresses back.
pub(crate) fn release(first: NonNull<u8>, count: usize) {
    let offset = paddr_of(first).and_then(|at| at.checked_sub(START.load(Ordering::Relaxed)));
    if let (Some(offset), Some(frames)) = (offset, FREE.lock().as_mut()) {
        // Pages that were not given out stay whose they are.
        let _double_free = frames.free(Pfn(offset / PAGE), count);
    }
}

/// The address by which Xen is told a page of the window.
pub(crate) fn address_of(page: NonNull<u8>) -> u64 {
    match guest_type() {
        Some(GuestType::Pv) => page.addr().get() as u64,
        _ => paddr_of(page).unwrap_or(0),
    }
}

/// The pages of the window at which the frames of this guest's grant table are,
/// counted from one; zero: not mapped yet. Each frame has one address for good:
/// on PVH it can be at one only, and another request would take it from there.
struct TablePages {
    entries: [u16; MAX_FRAMES],
    status: [u16; MAX_STATUS_FRAMES],
}

static TABLE_PAGES: UpcallMutex<TablePages> = UpcallMutex::new(TablePages {
    entries: [0; MAX_FRAMES],
    status: [0; MAX_STATUS_FRAMES],
});

/// Maps a frame of this guest's grant table, at the address where it was before
/// if it was mapped before.
pub(crate) fn grant_frame(frame: GrantFrame, index: u32) -> Result<NonNull<u8>, Errno> {
    let mut pages = TABLE_PAGES.lock();
    let slot = match frame {
        GrantFrame::Table => pages.entries.get_mut(index as usize),
        GrantFrame::Status => pages.status.get_mut(index as usize),
    };
    let slot = slot.ok_or(Errno::ENOSPC)?;
    let start = START.load(Ordering::Relaxed);
    let known = slot.checked_sub(1);
    let page = match known {
        Some(number) => pointer(start + u64::from(number) * PAGE),
        None => reserve(1),
    };
    let page = page.ok_or(Errno::ENOMEM)?;
    // Again, too: after a suspend, or a change of version, it is another frame.
    let mapped = match guest_type() {
        Some(GuestType::Pv) => map_pv(frame, index, page),
        Some(GuestType::Pvh) => map_pvh(frame, index, page),
        _ => Err(Errno::ENOSYS),
    };
    if known.is_none() {
        let offset = paddr_of(page).and_then(|paddr| paddr.checked_sub(start));
        let number = offset.and_then(|offset| u16::try_from(offset / PAGE + 1).ok());
        match (mapped, number) {
            (Ok(()), Some(number)) => *slot = number,
            _ => release(page, 1),
        }
    }
    mapped.map(|()| page)
}

fn map_pv(frame: GrantFrame, index: u32, page: NonNull<u8>) -> Result<(), Errno> {
    let index = index as usize;
    let gfn = match frame {
        GrantFrame::Table => {
            let mut frames = [Gfn(0); MAX_FRAMES];
            let wanted = frames.get_mut(..=index).ok_or(Errno::ENOSPC)?;
            setup_table(&Native, wanted)?;
            wanted.last().copied()
        }
        GrantFrame::Status => {
            let mut frames = [0; MAX_FRAMES];
            let wanted = frames.get_mut(..=index).ok_or(Errno::ENOSPC)?;
            get_status_frames(&Native, wanted)?;
            wanted.last().copied().map(Gfn)
        }
    };
    pv_tables::map_at(page, gfn.ok_or(Errno::EINVAL)?)
}

fn map_pvh(frame: GrantFrame, index: u32, page: NonNull<u8>) -> Result<(), Errno> {
    let index = match frame {
        GrantFrame::Table => index,
        GrantFrame::Status => index | XENMAPIDX_GRANT_TABLE_STATUS,
    };
    let paddr = paddr_of(page).ok_or(Errno::EINVAL)?;
    // SAFETY: there is nothing at this place of the window.
    unsafe {
        add_to_physmap(
            &Native,
            MapSpace::GRANT_TABLE,
            u64::from(index),
            Gfn(paddr / PAGE),
        )
    }
}
