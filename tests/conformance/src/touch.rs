//! All memory that a guest has, written once: a hypervisor that promised more than it has
//! ends the guest then.

use alloc::{format, string::String, vec::Vec};
use core::{hint::black_box, ptr::NonNull};

use hypercall_abi::{PAGE_SIZE, platform::Pages};
use pv_guest::Guest;

use crate::claim::Stop;

/// Takes pages until there are none, writes to each, and gives them back.
pub(crate) fn all_memory(guest: &Guest, _: u64) -> Result<String, Stop> {
    let platform = guest.platform();
    // The list of them, before it competes with them for memory.
    let most = (guest.memory_bytes() / PAGE_SIZE as u64) as usize;
    let mut pages: Vec<NonNull<u8>> = Vec::new();
    pages
        .try_reserve_exact(most)
        .map_err(|_| "no memory for a list")?;
    while pages.len() < most
        && let Some(page) = platform.alloc(1)
    {
        // SAFETY: a page that is this function's.
        unsafe { page.cast::<u64>().write_volatile(pages.len() as u64 + 1) };
        pages.push(page);
    }
    let count = pages.len();
    for (index, page) in pages.into_iter().enumerate() {
        // SAFETY: as above.
        let word = unsafe { page.cast::<u64>().read_volatile() };
        if black_box(word) != index as u64 + 1 {
            return Err(format!("page {index} has another one's word").into());
        }
        // SAFETY: it came from there, and nothing refers to it.
        unsafe { platform.free(page, 1) };
    }
    if count * 2 < most {
        return Err(format!("{count} of {most} pages could be had").into());
    }
    Ok(format!(
        "touch: every page that there is was written, {} MiB",
        (count * PAGE_SIZE) >> 20
    ))
}
