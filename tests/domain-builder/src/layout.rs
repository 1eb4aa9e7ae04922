//! Where everything goes.

use std::{borrow::Cow, ops::Range};

use crate::{
    FIRST_FORBIDDEN_ADDRESS, PAGE, Refused, Request,
    image::{Image, Segment},
};

/// What is mapped behind the last thing, at least.
const MIN_PADDING_PAGES: u64 = (512 << 10) / PAGE;
/// To the end of one of these, what is mapped reaches.
const REGION_BYTES: u64 = 4 << 20;
/// More memory than this no address space of a guest's has.
const MAX_PAGES: u64 = FIRST_FORBIDDEN_ADDRESS / PAGE;
/// The longest command line, without its zero.
const MAX_COMMAND_LINE: usize = hypercall_abi::xen::MAX_GUEST_CMDLINE - 1;

/// A page table: its frame, and its level (1 maps pages, 4 is the top).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// The pseudo-physical frame.
    pub pfn: u64,
    /// The level.
    pub level: u8,
    /// The first address that it maps.
    pub start: u64,
}

/// Where everything is: frames are pseudo-physical, addresses the guest's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan<'a> {
    /// The kernel's file, unpacked.
    pub(crate) file: Cow<'a, [u8]>,
    /// The kernel's segments.
    pub segments: Vec<Segment>,
    /// The address at which memory begins.
    pub virt_base: u64,
    /// Where the guest starts.
    pub entry: u64,
    /// The page in which it wants the code of hypercalls.
    pub hypercall_page: Option<u64>,
    /// Frames of the ramdisk: empty without one.
    pub ramdisk: Range<u64>,
    /// Whether the guest wants the ramdisk's frame, not its address: then it is not
    /// mapped.
    pub ramdisk_by_frame: bool,
    /// Frames of the list of machine frames.
    pub frame_list: Range<u64>,
    /// The address of that list.
    pub frame_list_address: u64,
    /// The frame of the start information.
    pub start_info: u64,
    /// The frame of the store's page.
    pub store: u64,
    /// The frame of the console's page.
    pub console: u64,
    /// The tables, the top one first. Those for a list of frames with an address of its
    /// own come last, behind that list.
    pub tables: Vec<Table>,
    /// How many of them are not for such a list.
    pub(crate) own_tables: u64,
    /// The frame of the stack.
    pub stack: u64,
    /// Addresses that are mapped: to the frames from 0 on.
    pub mapped: Range<u64>,
}

/// Memory, as it is given out from its start.
struct Memory {
    next: u64,
    there: u64,
}

impl Memory {
    fn take(&mut self, pages: u64) -> Result<Range<u64>, Refused> {
        let first = self.next;
        let end = first.saturating_add(pages);
        if end > self.there {
            return Err(self.needed(end));
        }
        self.next = end;
        Ok(first..end)
    }

    const fn needed(&self, pages: u64) -> Refused {
        Refused::TooLittleMemory(pages.saturating_mul(PAGE), self.there.saturating_mul(PAGE))
    }
}

impl<'a> Plan<'a> {
    /// Reads the kernel, and finds a place for everything.
    ///
    /// # Errors
    /// What Xen's builder would refuse, and what no process can run.
    pub fn new(request: &Request<'a>) -> Result<Self, Refused> {
        let len = request.command_line.len();
        if len > MAX_COMMAND_LINE {
            return Err(Refused::LongCommandLine(len));
        }
        if request.nr_pages > MAX_PAGES {
            return Err(Refused::TooMuchMemory(request.nr_pages));
        }
        let image = Image::parse(request.kernel)?;
        let base = image.virt_base;
        let mut memory = Memory {
            next: 0,
            there: request.nr_pages,
        };
        memory.take((image.end - base).div_ceil(PAGE))?;
        let by_frame = image.notes.module_by_frame;
        let ramdisk_pages = request
            .ramdisk
            .map_or(0, |bytes| (bytes.len() as u64).div_ceil(PAGE));
        let mut ramdisk = 0..0;
        if !by_frame {
            ramdisk = memory.take(ramdisk_pages)?;
        }
        // An address of its own for the list is only honoured below the memory, and on a
        // page.
        let list_pages = request.nr_pages.saturating_mul(8).div_ceil(PAGE);
        let own_list = image.notes.init_p2m;
        let own_list = own_list.filter(|at| *at < base && at.is_multiple_of(PAGE));
        let mut frame_list = 0..0;
        if own_list.is_none() {
            frame_list = memory.take(list_pages)?;
        }
        let start_info = memory.take(1)?.start;
        let store = memory.take(1)?.start;
        let console = memory.take(1)?.start;
        let first_table = memory.next;
        let (tables, end) = tables_and_end(base, first_table, &memory)?;
        if end > FIRST_FORBIDDEN_ADDRESS {
            return Err(Refused::TooHigh(base));
        }
        let own_tables = tables.len() as u64;
        memory.take(own_tables)?;
        let stack = memory.take(1)?.start;
        // All that is mapped must be there.
        let mapped_pages = (end - base) / PAGE;
        memory.take(mapped_pages - memory.next)?;
        if by_frame {
            ramdisk = memory.take(ramdisk_pages)?;
        }
        let mut plan = Self {
            file: image.file,
            segments: image.segments,
            virt_base: base,
            entry: image.entry,
            hypercall_page: hypercall_page(image.notes.hypercall_page, base, request.nr_pages)?,
            ramdisk,
            ramdisk_by_frame: by_frame,
            frame_list_address: base + frame_list.start * PAGE,
            frame_list,
            start_info,
            store,
            console,
            tables,
            own_tables,
            stack,
            mapped: base..end,
        };
        if let Some(address) = own_list {
            plan.place_list(&mut memory, address, list_pages)?;
        }
        Ok(plan)
    }

    /// Puts the list of frames behind all else, with the tables that its address needs.
    fn place_list(&mut self, memory: &mut Memory, address: u64, pages: u64) -> Result<(), Refused> {
        let end = address.saturating_add(pages.saturating_mul(PAGE));
        if end > self.virt_base {
            return Err(Refused::ListInMemory);
        }
        // The list must end before the memory's last frame does.
        if memory.next.saturating_add(pages) > memory.there {
            return Err(memory.needed(memory.next.saturating_add(pages)));
        }
        let list = memory.take(pages)?;
        let wanted = tables_of(&(address..end), memory.next);
        let is_new = |table: &Table| {
            let known = self.tables.iter();
            !known
                .clone()
                .any(|known| (known.level, known.start) == (table.level, table.start))
        };
        let new: Vec<Table> = wanted.into_iter().filter(is_new).collect();
        let first = memory.take(new.len() as u64)?.start;
        let numbered = (first..)
            .zip(new)
            .map(|(pfn, table)| Table { pfn, ..table });
        self.tables.extend(numbered);
        self.frame_list = list;
        self.frame_list_address = address;
        Ok(())
    }

    /// The address of a frame.
    pub const fn address_of(&self, pfn: u64) -> u64 {
        self.virt_base + pfn * PAGE
    }

    /// The frame of the top table.
    pub fn root(&self) -> u64 {
        self.tables.first().map_or(0, |table| table.pfn)
    }

    /// The stack pointer at the start.
    pub const fn stack_top(&self) -> u64 {
        self.address_of(self.stack + 1)
    }
}

/// The page that an address lies in, if the guest has it.
fn hypercall_page(address: Option<u64>, base: u64, nr_pages: u64) -> Result<Option<u64>, Refused> {
    let Some(address) = address else {
        return Ok(None);
    };
    let page = address.checked_sub(base).map(|offset| offset / PAGE);
    match page.filter(|page| *page < nr_pages) {
        Some(page) => Ok(Some(base + page * PAGE)),
        None => Err(Refused::Outside("hypercall page", address)),
    }
}

/// The tables of all that is mapped from `base` on, and where that ends. More tables
/// map more addresses, which may need more tables.
fn tables_and_end(
    base: u64,
    first_table: u64,
    memory: &Memory,
) -> Result<(Vec<Table>, u64), Refused> {
    // The stack, and what is to be free.
    const EXTRA_PAGES: u64 = 1 + MIN_PADDING_PAGES;
    let mut pages = EXTRA_PAGES;
    loop {
        let last = base.saturating_add((first_table + pages) * PAGE) | (REGION_BYTES - 1);
        let end = last.saturating_add(1);
        let mapped_pages = (end - base) / PAGE;
        if mapped_pages > memory.there {
            return Err(memory.needed(mapped_pages));
        }
        let tables = tables_of(&(base..end), first_table);
        pages = tables.len() as u64 + EXTRA_PAGES;
        if base + (first_table + pages) * PAGE <= end {
            return Ok((tables, end));
        }
    }
}

/// The bytes that a table of a level maps.
pub(crate) const fn reach(level: u8) -> u64 {
    PAGE << (9 * level as u32)
}

/// The tables that a range of addresses needs: by level from the top, by address.
fn tables_of(range: &Range<u64>, first_pfn: u64) -> Vec<Table> {
    let mut tables = Vec::new();
    for level in (1..=4).rev() {
        let mut start = range.start / reach(level) * reach(level);
        while start < range.end {
            tables.push(Table {
                pfn: first_pfn + tables.len() as u64,
                level,
                start,
            });
            start += reach(level);
        }
    }
    tables
}
