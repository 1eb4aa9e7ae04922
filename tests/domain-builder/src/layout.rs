//! Where everything goes.

use std::ops::Range;

use crate::{
    FIRST_FORBIDDEN_ADDRESS, PAGE, Refused, Request,
    image::{Image, Segment},
};

/// What is mapped behind the last thing, at least.
const LEAST_PADDING_PAGES: u64 = (512 << 10) / PAGE;
/// To a multiple of this, what is mapped reaches.
const REGION_BYTES: u64 = 4 << 20;
/// More memory than this no address space of a guest's has.
const MOST_PAGES: u64 = FIRST_FORBIDDEN_ADDRESS / PAGE;
/// The longest command line, without its zero.
const MOST_COMMAND_LINE: usize = hypercall_abi::xen::MAX_GUEST_CMDLINE - 1;

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
pub struct Plan {
    /// The kernel's segments.
    pub segments: Vec<Segment>,
    /// The address at which memory begins.
    pub virt_base: u64,
    /// Where the guest starts.
    pub entry: u64,
    /// Where it wants the code of hypercalls.
    pub hypercall_page: Option<u64>,
    /// Frames of the ramdisk: empty without one.
    pub ramdisk: Range<u64>,
    /// Whether the guest wants the ramdisk's frame, not its address.
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
    /// The tables, the top one first.
    pub tables: Vec<Table>,
    /// The frame of the stack.
    pub stack: u64,
    /// Addresses that are mapped: to the frames from 0 on.
    pub mapped: Range<u64>,
}

impl Plan {
    /// Reads the kernel, and finds a place for everything.
    ///
    /// # Errors
    /// What Xen's builder would refuse, and what no process can run.
    pub fn new(request: &Request<'_>) -> Result<Self, Refused> {
        let len = request.command_line.len();
        if len > MOST_COMMAND_LINE {
            return Err(Refused::LongCommandLine(len));
        }
        if request.nr_pages > MOST_PAGES {
            return Err(Refused::TooMuchMemory(request.nr_pages));
        }
        let image = Image::parse(request.kernel)?;
        let base = image.virt_base;
        let mut next = image.segments.iter().map(Segment::end).max().unwrap_or(0);
        next = next.div_ceil(PAGE);
        let mut take = |pages: u64| {
            let first = next;
            next = next.saturating_add(pages);
            first..next
        };
        let by_frame = image.notes.module_by_frame;
        let ramdisk_pages = request
            .ramdisk
            .map_or(0, |bytes| (bytes.len() as u64).div_ceil(PAGE));
        let ramdisk = take(ramdisk_pages);
        // A place of its own for the list is only honoured below the memory.
        let own_list = image.notes.init_p2m.filter(|address| *address < base);
        let list_pages = request.nr_pages.saturating_mul(8).div_ceil(PAGE);
        let ends_below = |address: u64| {
            let end = address.checked_add(list_pages.saturating_mul(PAGE));
            end.is_some_and(|end| end <= base)
        };
        if own_list.is_some_and(|address| !address.is_multiple_of(PAGE) || !ends_below(address)) {
            return Err(Refused::BadNote("INIT_P2M"));
        }
        let frame_list = take(list_pages);
        let start_info = take(1).start;
        let store = take(1).start;
        let console = take(1).start;
        let first_table = next;
        let there = request.nr_pages.saturating_mul(PAGE);
        let needed = |pages: u64| Refused::TooLittleMemory(pages.saturating_mul(PAGE), there);
        if first_table >= request.nr_pages {
            return Err(needed(first_table.saturating_add(8)));
        }
        // More tables map more addresses, which may need more tables.
        let own_list = own_list.map(|address| address..address + list_pages * PAGE);
        let mut count = 0;
        let (tables, end) = loop {
            let pages = first_table + count + 1 + LEAST_PADDING_PAGES;
            let end = (base + pages * PAGE).next_multiple_of(REGION_BYTES);
            let ranges: Vec<_> = std::iter::once(base..end).chain(own_list.clone()).collect();
            let tables = tables_of(&ranges, first_table);
            if tables.len() as u64 <= count {
                break (tables, end);
            }
            count = tables.len() as u64;
        };
        let stack = first_table + tables.len() as u64;
        if stack >= request.nr_pages {
            return Err(needed(stack + 1));
        }
        if end > FIRST_FORBIDDEN_ADDRESS {
            return Err(Refused::TooHigh(base));
        }
        let end = end.min(base + there);
        Ok(Self {
            segments: image.segments,
            virt_base: base,
            entry: image.entry,
            hypercall_page: image.notes.hypercall_page,
            ramdisk,
            ramdisk_by_frame: by_frame,
            frame_list_address: own_list
                .map_or(base + frame_list.start * PAGE, |addresses| addresses.start),
            frame_list,
            start_info,
            store,
            console,
            tables,
            stack,
            mapped: base..end,
        })
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

/// The bytes that a table of a level maps.
pub(crate) const fn reach(level: u8) -> u64 {
    PAGE << (9 * level as u32)
}

/// The tables that ranges of addresses need: by level from the top, by address.
fn tables_of(ranges: &[Range<u64>], first_pfn: u64) -> Vec<Table> {
    let mut tables = Vec::new();
    for level in (1..=4).rev() {
        let mut starts: Vec<u64> = Vec::new();
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            let mut start = range.start / reach(level) * reach(level);
            while start < range.end {
                starts.push(start);
                start += reach(level);
            }
        }
        starts.sort_unstable();
        starts.dedup();
        for start in starts {
            tables.push(Table {
                pfn: first_pfn + tables.len() as u64,
                level,
                start,
            });
        }
    }
    tables
}
