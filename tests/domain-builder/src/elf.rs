//! An ELF file, as far as Xen's builder looks at one: headers by their places, and
//! nothing of it that the builder does not ask for.

use crate::Refused;

/// Where things are in the header of a file of 64 bits.
const CLASS: usize = 4;
const DATA: usize = 5;
const MACHINE: usize = 18;
const ENTRY: usize = 24;
const PROGRAM_HEADERS: usize = 32;
const SECTION_HEADERS: usize = 40;
const PROGRAM_HEADER_BYTES: usize = 54;
const PROGRAM_HEADER_COUNT: usize = 56;
const SECTION_HEADER_BYTES: usize = 58;
const SECTION_HEADER_COUNT: usize = 60;
const SECTION_NAMES: usize = 62;
const HEADER_BYTES: usize = 64;

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const X86_64: u16 = 62;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHT_NOTE: u32 = 7;
/// To be read, written or run: a segment that is none of these is not loaded.
const ANY_ACCESS: u32 = 7;
/// The longest text that is looked at.
const MAX_TEXT: usize = 4096;

/// The file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elf<'a> {
    pub(crate) file: &'a [u8],
}

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

/// A segment that is to be loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) in_file: Span,
    /// Where it is in memory, by the file's own count.
    pub(crate) address: u64,
    pub(crate) memory_bytes: u64,
}

impl<'a> Elf<'a> {
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self, Refused> {
        if !file.starts_with(b"\x7fELF") {
            return Err(Refused::NotElf("it does not begin as an ELF file does"));
        }
        let elf = Self { file };
        let is_known = file.get(CLASS) == Some(&CLASS_64)
            && file.get(DATA) == Some(&LITTLE_ENDIAN)
            && elf.half(MACHINE) == Some(X86_64);
        if !is_known {
            return Err(Refused::OtherProcessor);
        }
        if file.len() < HEADER_BYTES {
            return Err(Refused::NotElf("its header is cut short"));
        }
        for (place, bytes, count, what) in [
            (
                PROGRAM_HEADERS,
                PROGRAM_HEADER_BYTES,
                PROGRAM_HEADER_COUNT,
                "its program headers are outside of the file",
            ),
            (
                SECTION_HEADERS,
                SECTION_HEADER_BYTES,
                SECTION_HEADER_COUNT,
                "its section headers are outside of the file",
            ),
        ] {
            let (bytes, count) = (elf.half(bytes), elf.half(count));
            let all = u64::from(bytes.unwrap_or(0)) * u64::from(count.unwrap_or(0));
            let start = elf.word(place).unwrap_or(0);
            // Xen lets the sum wrap, and finds nothing there.
            if start.saturating_add(all) > file.len() as u64 {
                return Err(Refused::NotElf(what));
            }
        }
        Ok(elf)
    }

    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let bytes = self.file.get(at..)?.get(..N)?;
        bytes.try_into().ok()
    }

    fn half(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(crate) fn long(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn word(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// A text, up to its zero; `None`: it has none.
    pub(crate) fn text(&self, at: usize) -> Option<&'a [u8]> {
        let bytes = self.file.get(at..)?;
        let bytes = bytes.get(..MAX_TEXT).unwrap_or(bytes);
        let end = bytes.iter().position(|byte| *byte == 0)?;
        bytes.get(..end)
    }

    /// Where the file says that it starts.
    pub(crate) fn entry(&self) -> u64 {
        self.word(ENTRY).unwrap_or(0)
    }

    /// The places of a table's headers.
    fn headers(
        &self,
        start: usize,
        bytes: usize,
        count: usize,
    ) -> impl Iterator<Item = usize> + use<> {
        let start = self.word(start).and_then(|at| usize::try_from(at).ok());
        let bytes = usize::from(self.half(bytes).unwrap_or(0));
        let count = match start {
            Some(_) => usize::from(self.half(count).unwrap_or(0)),
            None => 0,
        };
        let start = start.unwrap_or(0);
        (0..count).map(move |index| start.saturating_add(index * bytes))
    }

    fn segments(&self) -> impl Iterator<Item = usize> + use<> {
        self.headers(PROGRAM_HEADERS, PROGRAM_HEADER_BYTES, PROGRAM_HEADER_COUNT)
    }

    fn sections(&self) -> impl Iterator<Item = usize> + use<> {
        // The first is none.
        self.headers(SECTION_HEADERS, SECTION_HEADER_BYTES, SECTION_HEADER_COUNT)
            .skip(1)
    }

    fn span(&self, at: usize, start: usize, bytes: usize) -> Option<Span> {
        Some(Span {
            start: self.word(at + start)?,
            bytes: self.word(at + bytes)?,
        })
    }

    /// What is to be loaded, in the file's order.
    pub(crate) fn loads(&self) -> Vec<Load> {
        let load = |at: usize| {
            let is_loaded = self.long(at)? == PT_LOAD && self.long(at + 4)? & ANY_ACCESS != 0;
            let load = Load {
                in_file: self.span(at, 8, 32)?,
                address: self.word(at + 24)?,
                memory_bytes: self.word(at + 40)?,
            };
            is_loaded.then_some(load)
        };
        self.segments().filter_map(load).collect()
    }

    /// Segments of notes. Of one at the file's start, the place was never filled in.
    pub(crate) fn note_segments(&self) -> Vec<Span> {
        let is_note = |at: &usize| self.long(*at) == Some(PT_NOTE);
        let spans = self.segments().filter(is_note);
        spans
            .filter_map(|at| self.span(at, 8, 32))
            .filter(|span| span.start != 0)
            .collect()
    }

    /// Sections of notes.
    pub(crate) fn note_sections(&self) -> Vec<Span> {
        let is_note = |at: &usize| self.long(at + 4) == Some(SHT_NOTE);
        let spans = self.sections().filter(is_note);
        spans.filter_map(|at| self.span(at, 24, 32)).collect()
    }

    /// The text that a section begins with.
    pub(crate) fn section_text(&self, name: &[u8]) -> Option<&'a [u8]> {
        let table = usize::from(self.half(SECTION_NAMES)?);
        // The list without its first.
        let names = self.sections().nth(table.checked_sub(1)?)?;
        let names = usize::try_from(self.word(names + 24)?).ok()?;
        let at = self.sections().find(|at| {
            let text = self
                .long(*at)
                .and_then(|offset| self.text(names.checked_add(offset as usize)?));
            text == Some(name)
        })?;
        self.text(usize::try_from(self.word(at + 24)?).ok()?)
    }
}
