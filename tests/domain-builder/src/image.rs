//! A kernel's file: what of it goes where.

use std::borrow::Cow;

use crate::{PAGE, Refused, elf::Elf, elf::Load, notes::Notes, unpack};

/// A part of the file that is to be memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where in the guest's memory it begins.
    pub start: u64,
    /// Where its bytes begin in the (unpacked) file.
    pub file_offset: u64,
    /// Bytes in the file.
    pub file_bytes: u64,
    /// Bytes in memory: what is more than in the file is zeroes.
    pub memory_bytes: u64,
}

impl Segment {
    /// Where it ends.
    pub const fn end(&self) -> u64 {
        self.start + self.memory_bytes
    }
}

/// The file, as far as it was understood.
#[derive(Clone, Debug)]
pub(crate) struct Image<'a> {
    /// The file itself, unpacked.
    pub(crate) file: Cow<'a, [u8]>,
    pub(crate) notes: Notes,
    pub(crate) virt_base: u64,
    pub(crate) entry: u64,
    /// In the order of the file: later ones are written over earlier ones.
    pub(crate) segments: Vec<Segment>,
    /// Where all of it ends.
    pub(crate) end: u64,
}

impl<'a> Image<'a> {
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self, Refused> {
        let file = unpack::unpack(file)?;
        let elf = Elf::parse(&file)?;
        let notes = Notes::of(&elf)?;
        // Of a number that was none, that is the fault to tell.
        let odd = notes.odd_number.map(Refused::BadNote);
        let (virt_base, entry, segments) = match place_all(&elf, &notes) {
            Ok(placed) => placed,
            Err(refused) => return Err(odd.unwrap_or(refused)),
        };
        let start = segments.iter().map(|segment| segment.start).min();
        let end = segments.iter().map(Segment::end).max();
        let (start, end) = start.zip(end).ok_or(NOTHING)?;
        let (start, end) = (virt_base + start, virt_base + end);
        let list = notes.init_p2m;
        if list.is_some_and(|list| (start..end).contains(&list)) {
            return Err(Refused::ListInMemory);
        }
        Ok(Self {
            notes,
            virt_base,
            entry,
            segments,
            end,
            file,
        })
    }
}

const NOTHING: Refused = Refused::NotElf("it has nothing to load");

fn place_all(elf: &Elf<'_>, notes: &Notes) -> Result<(u64, u64, Vec<Segment>), Refused> {
    let virt_base = notes.virt_base.unwrap_or(0);
    if !virt_base.is_multiple_of(PAGE) {
        return Err(Refused::BadBase(virt_base));
    }
    if virt_base >= crate::FIRST_FORBIDDEN_ADDRESS {
        return Err(Refused::TooHigh(virt_base));
    }
    let loads = elf.loads();
    let offset = notes.paddr_offset();
    let segments: Result<Vec<_>, Refused> = loads
        .iter()
        .map(|load| place(load, elf.file.len() as u64, virt_base, offset))
        .collect();
    let segments = segments?;
    let first = segments.iter().map(|segment| segment.start).min();
    let end = segments.iter().map(Segment::end).max();
    let (first, end) = first.zip(end).ok_or(NOTHING)?;
    if !first.is_multiple_of(PAGE) {
        return Err(Refused::BadSegment(
            "is the first and does not begin with a page: align it to 4096",
            first.wrapping_add(offset),
        ));
    }
    // So much Xen copies, and no more.
    let all: u64 = segments
        .iter()
        .fold(0, |all, segment| all.saturating_add(segment.memory_bytes));
    let most = (end - first).next_multiple_of(PAGE).saturating_mul(2);
    if all > most {
        return Err(Refused::NotElf(
            "its segments cover one another again and again",
        ));
    }
    let entry = notes.entry.unwrap_or_else(|| elf.entry());
    // The end is taken for a part of it.
    if !(virt_base + first..=virt_base + end).contains(&entry) {
        if notes.has_pvh_entry && notes.entry.is_none() {
            return Err(Refused::OnlyPvh);
        }
        return Err(Refused::Outside("entry", entry));
    }
    Ok((virt_base, entry, segments))
}

fn place(
    load: &Load,
    file_len: u64,
    virt_base: u64,
    paddr_offset: u64,
) -> Result<Segment, Refused> {
    let paddr = load.address;
    let bad = |what| Refused::BadSegment(what, paddr);
    let (file_offset, file_bytes) = (load.in_file.start, load.in_file.bytes);
    if file_bytes > load.memory_bytes {
        return Err(bad(
            "has more bytes in the file than in memory: link the kernel again, or copy it again",
        ));
    }
    if file_offset
        .checked_add(file_bytes)
        .is_none_or(|end| end > file_len)
    {
        return Err(bad("is outside of the file: was that cut short?"));
    }
    let start = paddr
        .checked_sub(paddr_offset)
        .ok_or(bad("lies before the memory: is PADDR_OFFSET right?"))?;
    let end = start
        .checked_add(load.memory_bytes)
        .and_then(|end| end.checked_add(virt_base))
        .ok_or(bad(
            "ends behind all addresses: are its address and VIRT_BASE right?",
        ))?;
    if end > crate::FIRST_FORBIDDEN_ADDRESS {
        return Err(Refused::TooHigh(start.wrapping_add(virt_base)));
    }
    Ok(Segment {
        start,
        file_offset,
        file_bytes,
        memory_bytes: load.memory_bytes,
    })
}
