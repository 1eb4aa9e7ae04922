//! The frames of a PV guest: its list of machine frames, and Xen's of pseudo-physical ones.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use hypercall_abi::{
    Gfn, PAGE_SIZE,
    memory::machphys_mapping,
    probe::Facility,
    xen::{
        StartInfo,
        traps::{MACH2PHYS_NR_ENTRIES, MACH2PHYS_VIRT_START},
    },
};

use super::{Native, frames};
use crate::{
    arch::image::{self, Access},
    error::{Error, asking},
};

const PAGE: u64 = PAGE_SIZE as u64;

/// The address of the list of machine frames, and its length.
static P2M: AtomicU64 = AtomicU64::new(0);
static NR_PAGES: AtomicU64 = AtomicU64::new(0);
/// The address of Xen's list of pseudo-physical frames, and its length.
static M2P: AtomicU64 = AtomicU64::new(0);
static NR_MFNS: AtomicU64 = AtomicU64::new(0);

/// Finds Xen's list.
pub(crate) fn find_machine_table() -> Result<(), Error> {
    let (m2p, nr_mfns) = match machphys_mapping(&Native) {
        Ok(m2p) => (m2p.v_start, m2p.max_mfn.saturating_add(1)),
        // Where every Xen has it, as long as none says otherwise.
        Err(errno) if Facility::MachineTable.is_absent(errno) => {
            (MACH2PHYS_VIRT_START, MACH2PHYS_NR_ENTRIES)
        }
        Err(errno) => return Err(asking("find the machine-to-physical table")(errno)),
    };
    M2P.store(m2p, Ordering::Relaxed);
    NR_MFNS.store(nr_mfns, Ordering::Relaxed);
    Ok(())
}

/// The pseudo-physical frame of a machine frame, as Xen's list has it: nothing says yet that
/// it is this guest's.
pub(crate) fn told_pfn_of(mfn: u64) -> Option<u64> {
    let is_known = mfn < NR_MFNS.load(Ordering::Relaxed);
    is_known.then(|| word(M2P.load(Ordering::Relaxed), mfn))
}

/// Remembers where the list of frames is.
pub(crate) fn learn_frames(start: &StartInfo) -> Result<(), Error> {
    let end = start.mfn_list.checked_add(start.nr_pages.saturating_mul(8));
    let memory_end = frames::virtual_of(start.nr_pages.saturating_mul(PAGE).min(1 << 47));
    if start.mfn_list < image::image().end
        || end.is_none_or(|end| end > memory_end)
        || !start.mfn_list.is_multiple_of(8)
    {
        return Err(Error::StartInfo("the frame list has an absurd address"));
    }
    P2M.store(start.mfn_list, Ordering::Relaxed);
    NR_PAGES.store(start.nr_pages, Ordering::Relaxed);
    Ok(())
}

pub(crate) fn word(table: u64, index: u64) -> u64 {
    let place = core::ptr::with_exposed_provenance::<u64>((table + index * 8) as usize);
    // SAFETY: all callers name a word of a list or table that Xen mapped.
    unsafe { place.read_volatile() }
}

/// The machine frame behind `pfn`.
pub(crate) fn gfn_of(pfn: u64) -> Option<Gfn> {
    (pfn < NR_PAGES.load(Ordering::Relaxed)).then(|| Gfn(word(P2M.load(Ordering::Relaxed), pfn)))
}

/// The pseudo-physical frame of a machine frame of ours.
pub(crate) fn pfn_of(mfn: u64) -> Option<u64> {
    let pfn = told_pfn_of(mfn)?;
    // Xen's list has other domains' frames too.
    gfn_of(pfn).filter(|gfn| gfn.0 == mfn).map(|_| pfn)
}

/// Where the frame `gfn` is seen, if it is ours.
pub(crate) fn page_of(gfn: Gfn) -> Option<NonNull<u8>> {
    // Not by Xen's list: it has holes where the machine has, and this function's
    // argument may be anything.
    let pfn = (0..NR_PAGES.load(Ordering::Relaxed)).find(|pfn| gfn_of(*pfn) == Some(gfn))?;
    let virt = frames::virtual_of(pfn * PAGE);
    if image::access_of(virt) == Access::None {
        return None;
    }
    frames::ensure_page_is_mapped(pfn * PAGE)?;
    NonNull::new(core::ptr::with_exposed_provenance_mut(virt as usize))
}
