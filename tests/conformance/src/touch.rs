//! All memory that a guest has, written once: a hypervisor that promised more than it has
//! ends the guest then, and so does a kernel that gives out what it has not mapped.

use alloc::{format, string::String, vec::Vec};
use core::{
    hint::black_box,
    ptr::{self, NonNull},
};

use hypercall_abi::{PAGE_SIZE, platform::Pages, xen::StartInfo};
use pv_guest::{Current, Guest};

use crate::{claim::Stop, claims};

/// The words of a page that are looked at.
const LOOKED_AT: [usize; 4] = [0, 1, 255, PAGE_SIZE / size_of::<u64>() - 1];

/// Pages that were taken, each with a number in it.
struct Taken<'p> {
    platform: &'p Current,
    pages: Vec<NonNull<u8>>,
    /// How many the guest has.
    most: usize,
}

impl<'p> Taken<'p> {
    fn new(guest: &'p Guest) -> Result<Self, Stop> {
        // The list of them, before it competes with them for memory.
        let most = (guest.memory_bytes() / PAGE_SIZE as u64) as usize;
        let mut pages: Vec<NonNull<u8>> = Vec::new();
        pages
            .try_reserve_exact(most)
            .map_err(|_| "no memory for a list")?;
        Ok(Self {
            platform: guest.platform(),
            pages,
            most,
        })
    }

    /// Takes pages up to the `most`th, or until there are none.
    fn take(&mut self, most: usize) -> Result<(), Stop> {
        while self.pages.len() < most
            && let Some(page) = self.platform.alloc(1)
        {
            let number = self.pages.len() as u64 + 1;
            for word in LOOKED_AT {
                // SAFETY: a word of the page.
                let place = unsafe { page.cast::<u64>().add(word) };
                // SAFETY: a page that is this function's.
                if unsafe { place.read_volatile() } != 0 {
                    return Err(format!("page {number} is not zeroed").into());
                }
                // SAFETY: as above.
                unsafe { place.write_volatile(number) };
            }
            self.pages.push(page);
        }
        Ok(())
    }

    /// Gives all of them back, and tells how many they were.
    fn give_back(self) -> Result<usize, Stop> {
        let count = self.pages.len();
        for (index, page) in self.pages.into_iter().enumerate() {
            for word in LOOKED_AT {
                // SAFETY: a word of the page.
                let place = unsafe { page.cast::<u64>().add(word) };
                // SAFETY: a page that is this function's.
                if black_box(unsafe { place.read_volatile() }) != index as u64 + 1 {
                    return Err(format!("page {index} has another one's word").into());
                }
            }
            // SAFETY: it came from there, and nothing refers to it.
            unsafe { self.platform.free(page, 1) };
        }
        Ok(count)
    }
}

/// Takes pages until there are none, writes to each, and gives them back.
pub(crate) fn all_memory(guest: &Guest, _: u64) -> Result<String, Stop> {
    let mut taken = Taken::new(guest)?;
    let most = taken.most;
    taken.take(most)?;
    let count = taken.give_back()?;
    if count * 2 < most {
        return Err(format!("{count} of {most} pages could be had").into());
    }
    Ok(format!(
        "touch: every page that there is was written, {} MiB",
        (count * PAGE_SIZE) >> 20
    ))
}

/// Takes all memory of a PV guest in whose list of frames one of the last pages has a frame
/// that there is not: Xen refuses to map it. That is memory that cannot be had, until the
/// list is right again.
pub(crate) fn refused_memory(guest: &Guest, _: u64) -> Result<String, Stop> {
    const NOWHERE: u64 = 1 << 36;
    let place = guest.boot_info().start_info;
    let place = place.ok_or("there is no start information")?;
    let start = ptr::with_exposed_provenance::<StartInfo>(place.0);
    // SAFETY: Xen put it there, and nobody changes it now.
    let start = unsafe { start.read() };
    let list = ptr::with_exposed_provenance_mut::<u64>(start.mfn_list as usize);
    let entry = list.wrapping_add(start.nr_pages as usize - 5);
    let mut taken = Taken::new(guest)?;
    let most = taken.most;
    // SAFETY: a word of the list.
    let frame = unsafe { entry.read_volatile() };
    // SAFETY: as above. Nobody has used the page yet.
    unsafe { entry.write_volatile(NOWHERE) };
    taken.take(most)?;
    let before = taken.pages.len();
    // SAFETY: as above.
    unsafe { entry.write_volatile(frame) };
    taken.take(most)?;
    let count = taken.give_back()?;
    if before == count {
        return Err("a page without a frame was given out".into());
    }
    Ok(format!(
        "touch: {} pages were refused, and had later; in all {} MiB",
        count - before,
        (count * PAGE_SIZE) >> 20
    ))
}

/// Takes some pages, has the guest suspended, and takes all others.
pub(crate) fn over_a_suspend(guest: &Guest, _: u64) -> Result<String, Stop> {
    const BEFORE_BYTES: usize = 20 << 20;
    let mut taken = Taken::new(guest)?;
    let most = taken.most;
    taken.take(BEFORE_BYTES / PAGE_SIZE)?;
    claims::suspend(guest)?;
    taken.take(most)?;
    let count = taken.give_back()?;
    Ok(format!(
        "touch: a suspend changed no page, and {} MiB came later",
        (count * PAGE_SIZE - BEFORE_BYTES) >> 20
    ))
}
