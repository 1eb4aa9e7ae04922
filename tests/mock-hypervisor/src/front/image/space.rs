//! What the guest sees at its addresses: pages of its memory, put where its tables
//! say. What changes in the tables is taken away at once, and put back when the
//! guest comes across it, or at once if it is only some pages.

use std::{
    io,
    ops::Range,
    os::fd::{AsRawFd, RawFd},
};

use hypercall_abi::PAGE_SIZE;

use super::signals::MONITOR_START;
use crate::core::memory::{
    Memory,
    frame_types::{PRESENT, target},
    page_tables::{MACHINE_TO_PHYSICAL, Stale, Tables},
    view::Leaf,
};

const PAGE: u64 = PAGE_SIZE as u64;
/// The reach of a lowest table.
const TABLE_REACH: u64 = 512 * PAGE;
/// The lowest address that most hosts let anybody map.
const USUAL_LOWEST: u64 = 1 << 16;
/// As many changed pages are put back at once: what is more waits until it is used.
const MAX_AT_ONCE: u64 = 512;

/// What a page's address leads to, in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    file: RawFd,
    offset: u64,
    protection: libc::c_int,
}

/// The part of the process's addresses that is the guest's.
#[derive(Debug)]
pub(super) struct Space {
    /// The lowest address that a process may map here.
    start: u64,
}

/// Why the guest's access to an address stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It can go on: the page is there now.
    There,
    /// The guest's tables say that it may not.
    Refused,
    /// They say that it may, but no process can map that.
    OutOfReach,
}

fn map(address: u64, bytes: u64, source: Source) -> io::Result<()> {
    let place = std::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: an address of the guest's part of the process, where nothing of the
    // monitor's is.
    let mapped = unsafe {
        libc::mmap(
            place,
            bytes as usize,
            source.protection,
            libc::MAP_SHARED | libc::MAP_FIXED,
            source.file,
            source.offset as libc::off_t,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn unmap(address: u64, bytes: u64) {
    let place = std::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: as in `map`.
    let _nothing_there = unsafe { libc::munmap(place, bytes as usize) };
}

impl Space {
    /// The space, with the machine's table in its place.
    pub(super) fn new(tables: &Tables) -> io::Result<Self> {
        let space = Self { start: lowest() };
        let bytes = (tables.m2p.len() * 8).next_multiple_of(PAGE);
        let source = Source {
            file: tables.m2p.file.as_raw_fd(),
            offset: 0,
            protection: libc::PROT_READ,
        };
        map(MACHINE_TO_PHYSICAL, bytes, source)?;
        Ok(space)
    }

    /// Where it begins.
    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    /// Whether a process can map something at a page.
    fn reaches(&self, address: u64) -> bool {
        let top = 1_u64 << 39;
        let is_machines = (MACHINE_TO_PHYSICAL..MACHINE_TO_PHYSICAL + top).contains(&address);
        (self.start..MONITOR_START).contains(&address) && !is_machines
    }

    fn source(memory: &Memory, tables: &Tables, leaf: Leaf) -> Option<Source> {
        let mut protection = libc::PROT_READ;
        // A debugger writes its breakpoints there.
        if leaf.is_writable || leaf.is_executable && super::gdb::watches() {
            protection |= libc::PROT_WRITE;
        }
        if leaf.is_executable {
            protection |= libc::PROT_EXEC;
        }
        let (file, offset) = match tables.view.page_of(leaf.entry) {
            Some(page) => (memory.block.file.as_raw_fd(), page as u64 * PAGE),
            None => {
                let foreign = tables.foreign.get(&target(leaf.entry).0)?;
                (foreign.file.as_raw_fd(), foreign.offset)
            }
        };
        Some(Source {
            file,
            offset,
            protection,
        })
    }

    /// Takes away what is no longer so.
    pub(super) fn sync(&self, memory: &mut Memory) -> io::Result<()> {
        let Some(tables) = &mut memory.tables else {
            return Ok(());
        };
        let stale = tables.take_stale();
        for range in stale {
            self.renew(memory, range)?;
        }
        Ok(())
    }

    fn renew(&self, memory: &Memory, stale: Stale) -> io::Result<()> {
        let Some(tables) = &memory.tables else {
            return Ok(());
        };
        if stale.bytes > MAX_AT_ONCE * PAGE {
            // The machine's table stays where it is.
            let end = stale.start.saturating_add(stale.bytes).min(MONITOR_START);
            let parts = [
                (stale.start.max(self.start), end.min(MACHINE_TO_PHYSICAL)),
                (stale.start.max(MACHINE_TO_PHYSICAL + (1 << 39)), end),
            ];
            for (start, end) in parts {
                if start < end {
                    unmap(start, end - start);
                }
            }
            return Ok(());
        }
        let mut run: Option<(u64, u64, Option<Source>)> = None;
        let flush = |run: Option<(u64, u64, Option<Source>)>| match run {
            Some((start, bytes, Some(source))) => map(start, bytes, source),
            Some((start, bytes, None)) => {
                unmap(start, bytes);
                Ok(())
            }
            None => Ok(()),
        };
        let mut address = stale.start;
        while address < stale.start + stale.bytes {
            if self.reaches(address) {
                let leaf = tables.view.leaf(address);
                let source = leaf.and_then(|leaf| Self::source(memory, tables, leaf));
                run = match run {
                    Some((start, bytes, before))
                        if start + bytes == address && follows(before, bytes, source) =>
                    {
                        Some((start, bytes + PAGE, before))
                    }
                    before => {
                        flush(before)?;
                        Some((address, PAGE, source))
                    }
                };
            }
            address += PAGE;
        }
        flush(run)
    }

    /// Maps what the guest has at these addresses, for a debugger to see it before the
    /// guest comes across it.
    pub(super) fn fill(&self, memory: &mut Memory, addresses: Range<u64>) -> io::Result<()> {
        self.sync(memory)?;
        let mut address = addresses.start & !(TABLE_REACH - 1);
        for page in (addresses.start..addresses.end).step_by(PAGE_SIZE) {
            if page >= address {
                let _found = self.find(memory, page, false, false)?;
                address = page + PAGE;
            }
        }
        Ok(())
    }

    /// Looks whether the guest may do what it was stopped at, and has it go on.
    pub(super) fn find(
        &self,
        memory: &Memory,
        address: u64,
        writes: bool,
        runs: bool,
    ) -> io::Result<Found> {
        let Some(tables) = &memory.tables else {
            return Ok(Found::Refused);
        };
        let page = address & !(PAGE - 1);
        let Some(leaf) = tables.view.leaf(page) else {
            return Ok(Found::Refused);
        };
        if (writes && !leaf.is_writable) || (runs && !leaf.is_executable) {
            return Ok(Found::Refused);
        }
        let source = Self::source(memory, tables, leaf);
        let Some(source) = source.filter(|_| self.reaches(page)) else {
            return Ok(Found::OutOfReach);
        };
        // And those around it that are in a row with it.
        let table = page & !(TABLE_REACH - 1);
        let same = |at: u64| {
            let leaf = tables.view.leaf(at);
            let is_own = leaf.is_some_and(|leaf| leaf.entry & PRESENT != 0);
            let found = leaf.and_then(|leaf| Self::source(memory, tables, leaf));
            let distance = at.wrapping_sub(page);
            is_own
                && self.reaches(at)
                && found.is_some_and(|found| {
                    found.file == source.file
                        && found.protection == source.protection
                        && found.offset == source.offset.wrapping_add(distance)
                })
        };
        let (mut start, mut end) = (page, page + PAGE);
        while start > table && same(start - PAGE) {
            start -= PAGE;
        }
        while end < table + TABLE_REACH && same(end) {
            end += PAGE;
        }
        let first = Source {
            offset: source.offset - (page - start),
            ..source
        };
        map(start, end - start, first)?;
        Ok(Found::There)
    }
}

/// The lowest address that can be mapped: 0 with the right to raw input and output,
/// else what the host's administrator says.
fn lowest() -> u64 {
    // SAFETY: the kernel refuses it if anything is there.
    let mapped = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE_SIZE,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if mapped.is_null() {
        unmap(0, PAGE);
        return 0;
    }
    let told = std::fs::read_to_string("/proc/sys/vm/mmap_min_addr");
    let told = told.ok().and_then(|text| text.trim().parse().ok());
    told.unwrap_or(USUAL_LOWEST)
        .max(PAGE)
        .next_multiple_of(PAGE)
}

/// Whether a page continues what began some bytes before it.
fn follows(first: Option<Source>, bytes: u64, next: Option<Source>) -> bool {
    match (first, next) {
        (None, None) => true,
        (Some(first), Some(next)) => {
            first.file == next.file
                && first.protection == next.protection
                && first.offset + bytes == next.offset
        }
        _ => false,
    }
}
