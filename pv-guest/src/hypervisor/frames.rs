//! Who has which frame of this guest's memory.

use core::{
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use hypercall_abi::{PAGE_SIZE, Pfn};

use super::pv_tables;
use crate::{
    arch::image::VIRT_BASE,
    boot_info::{GuestType, taken::Taken},
    cpu::{guest_type::guest_type, set_once::SetOnce, sync::UpcallMutex},
    error::Error,
    memory::{FrameAllocator, MemoryMap},
};

static FRAMES: UpcallMutex<Option<FrameAllocator<'static>>> = UpcallMutex::new(None);

/// One past the memory that is mapped. What lies above is mapped when it is given out,
/// by whoever has [`FRAMES`] locked.
static MAPPED_END: AtomicU64 = AtomicU64::new(0);

/// One past the memory that is mapped.
pub(crate) fn mapped_end() -> u64 {
    MAPPED_END.load(Ordering::Relaxed)
}

/// Says how far memory is mapped now.
pub(crate) fn set_mapped_end(paddr: u64) {
    MAPPED_END.store(paddr, Ordering::Relaxed);
}

/// Frees pages that nobody uses any more, and says whether there were any. Called when
/// memory is out; a function, so that a guest that lends nothing has none of it.
static RECLAIM: SetOnce<fn() -> bool> = SetOnce::new();

/// Says where to look for pages when memory is out.
pub(crate) fn reclaim_by(reclaim: fn() -> bool) {
    RECLAIM.set(reclaim);
}

const PAGE: u64 = PAGE_SIZE as u64;

/// The address at which a physical address is seen.
pub(crate) const fn virtual_of(paddr: u64) -> u64 {
    paddr + VIRT_BASE
}

/// The physical address behind an address of the direct map.
pub(crate) const fn physical_of(virt: u64) -> Option<u64> {
    virt.checked_sub(VIRT_BASE)
}

/// Makes the allocator over all of `map` but what is in `taken` (physical
/// addresses).
pub(crate) fn init(map: &MemoryMap, taken: &Taken) -> Result<(), Error> {
    let end = Pfn(map.ram_end() / PAGE);
    let words = FrameAllocator::words_for(end);
    let pages = (words * size_of::<u64>()).div_ceil(PAGE_SIZE) as u64;
    let mut place = FRAMES.lock();
    let bitmap = taken
        .find_room(map, map.ram_end(), pages * PAGE)
        .ok_or(Error::OutOfMemory("the frame bitmap"))?;
    ensure_mapped(bitmap + pages * PAGE).ok_or(Error::OutOfMemory("the frame bitmap"))?;
    let start = core::ptr::with_exposed_provenance_mut::<u64>(virtual_of(bitmap) as usize);
    // SAFETY: mapped memory of this guest's that nothing else uses.
    let words = unsafe { slice::from_raw_parts_mut(start, words) };
    let mut frames = FrameAllocator::new(words);
    for region in map.ram() {
        frames.add(Pfn(region.start / PAGE), Pfn(region.end / PAGE));
    }
    for range in taken.ranges() {
        frames.reserve(Pfn(range.start / PAGE), Pfn(range.end.div_ceil(PAGE)));
    }
    frames.reserve(Pfn(bitmap / PAGE), Pfn(bitmap / PAGE + pages));
    *place = Some(frames);
    Ok(())
}

/// Has memory below `end` mapped; `None` if it cannot be. Whoever calls this has
/// [`FRAMES`] locked.
fn ensure_mapped(end: u64) -> Option<()> {
    if end <= mapped_end() {
        return Some(());
    }
    match guest_type() {
        Some(GuestType::Pv) => pv_tables::map_up_to(end),
        _ => None,
    }
}

/// Has a page of memory mapped that its owner has not got from here.
pub(crate) fn ensure_page_is_mapped(paddr: u64) -> Option<()> {
    let _frames = FRAMES.lock();
    ensure_mapped(paddr + PAGE)
}

fn take(count: usize) -> Option<Pfn> {
    let mut frames = FRAMES.lock();
    let frames = frames.as_mut()?;
    let mapped = Pfn(mapped_end() / PAGE);
    if let Some(first) = frames.allocate_below(mapped, count) {
        return Some(first);
    }
    let first = frames.allocate(count)?;
    let end = Pfn(first.0 + count as u64);
    if ensure_mapped(end.0 * PAGE).is_none() {
        frames.add(first, end);
        return None;
    }
    Some(first)
}

/// Takes `count` pages in a row, with whatever they hold.
pub(crate) fn allocate(count: usize) -> Option<NonNull<u8>> {
    let again = || RECLAIM.get()?().then(|| take(count)).flatten();
    let Pfn(first) = take(count).or_else(again)?;
    let virt = virtual_of(first * PAGE) as usize;
    NonNull::new(core::ptr::with_exposed_provenance_mut(virt))
}

/// Takes one zeroed page, and tells its physical address.
pub(crate) fn allocate_zeroed(count: usize) -> Option<NonNull<u8>> {
    let pages = allocate(count)?;
    // SAFETY: the allocator gave these pages to us; they are mapped.
    unsafe { pages.write_bytes(0, count * PAGE_SIZE) };
    Some(pages)
}

/// Gives pages back.
pub(crate) fn free(first: NonNull<u8>, count: usize) {
    let Some(paddr) = physical_of(first.addr().get() as u64) else {
        return;
    };
    if let Some(frames) = FRAMES.lock().as_mut() {
        // A page that was not given out stays whose it is.
        let _double_free: Result<(), _> = frames.free(Pfn(paddr / PAGE), count);
    }
}

/// How many bytes of memory are free.
pub fn free_bytes() -> u64 {
    FRAMES
        .lock()
        .as_ref()
        .map_or(0, |frames| frames.free_frames() as u64 * PAGE)
}
