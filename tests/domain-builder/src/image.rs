//! A kernel's file: what of it goes where.

use object::{
    LittleEndian, elf,
    elf::FileHeader64,
    read::elf::{FileHeader, ProgramHeader},
};

use crate::{Refused, features, notes::Notes};

/// A part of the file that is to be memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where in the guest's memory it begins.
    pub start: u64,
    /// Where its bytes begin in the file.
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
pub(crate) struct Image {
    pub(crate) notes: Notes,
    pub(crate) virt_base: u64,
    pub(crate) entry: u64,
    /// In the order of their addresses.
    pub(crate) segments: Vec<Segment>,
}

/// How other files begin.
const MAGICS: [(&[u8], &str); 5] = [
    (&[0x1f, 0x8b], "gzip"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (b"BZh", "bzip2"),
    (b"MZ", "a boot loader's format (bzImage)"),
];

impl Image {
    pub(crate) fn parse(file: &[u8]) -> Result<Self, Refused> {
        if let Some((_, name)) = MAGICS.iter().find(|(magic, _)| file.starts_with(magic)) {
            return Err(Refused::Compressed(name));
        }
        if !file.starts_with(&elf::ELFMAG) {
            return Err(Refused::NotElf("it is no ELF file"));
        }
        let header =
            FileHeader64::<LittleEndian>::parse(file).map_err(|_| Refused::OtherProcessor)?;
        let e = header.endian().map_err(|_| Refused::OtherProcessor)?;
        if header.e_machine(e) != elf::EM_X86_64 {
            return Err(Refused::OtherProcessor);
        }
        if ![elf::ET_EXEC, elf::ET_DYN].contains(&header.e_type(e)) {
            return Err(Refused::NotElf("it is an ELF file, but no program"));
        }
        let headers = header
            .program_headers(e, file)
            .map_err(|_| Refused::NotElf("its program headers are outside of the file"))?;
        let notes = Notes::of(header, file)?;
        check(&notes)?;
        let virt_base = notes.virt_base.unwrap_or(0);
        if !virt_base.is_multiple_of(crate::PAGE) {
            return Err(Refused::BadBase(virt_base));
        }
        let paddr_offset = notes.paddr_offset.unwrap_or(0);
        let mut segments = Vec::new();
        for segment in headers {
            if segment.p_type(e) != elf::PT_LOAD || segment.p_memsz(e) == 0 {
                continue;
            }
            segments.push(place(segment, file, virt_base, paddr_offset)?);
        }
        segments.sort_by_key(|segment| segment.start);
        if segments.is_empty() {
            return Err(Refused::NotElf("it has nothing to load"));
        }
        for pair in segments.windows(2) {
            if let [one, next] = pair
                && next.start < one.end()
            {
                return Err(Refused::Overlap(next.start));
            }
        }
        let entry = notes.entry.unwrap_or_else(|| header.e_entry(e));
        let image = Self {
            virt_base,
            entry,
            segments,
            notes,
        };
        image.contains("entry", entry)?;
        if let Some(page) = image.notes.hypercall_page {
            image.contains("hypercall page", page)?;
            if !page.is_multiple_of(crate::PAGE) {
                return Err(Refused::BadNote("HYPERCALL_PAGE"));
            }
        }
        Ok(image)
    }

    fn contains(&self, what: &'static str, address: u64) -> Result<(), Refused> {
        let offset = address.checked_sub(self.virt_base);
        let is_inside = offset.is_some_and(|offset| {
            let mut segments = self.segments.iter();
            segments.any(|segment| (segment.start..segment.end()).contains(&offset))
        });
        if is_inside {
            Ok(())
        } else {
            Err(Refused::Outside(what, address))
        }
    }
}

fn check(notes: &Notes) -> Result<(), Refused> {
    match notes.xen_version.as_deref() {
        Some("xen-3.0") => {}
        other => return Err(Refused::OtherXen(other.unwrap_or("none").to_owned())),
    }
    let is_linux = notes.guest_os.as_deref() == Some("linux");
    match notes.loader.as_deref() {
        Some("generic") => {}
        _ if is_linux => {}
        other => return Err(Refused::OtherLoader(other.unwrap_or("none").to_owned())),
    }
    features::check(&notes.features)
}

fn place(
    segment: &elf::ProgramHeader64<LittleEndian>,
    file: &[u8],
    virt_base: u64,
    paddr_offset: u64,
) -> Result<Segment, Refused> {
    let e = LittleEndian;
    let paddr = segment.p_paddr(e);
    let (file_offset, file_bytes) = segment.file_range(e);
    let memory_bytes = segment.p_memsz(e);
    let bad = |what| Refused::BadSegment(what, paddr);
    if file_bytes > memory_bytes {
        return Err(bad("has more bytes in the file than in memory"));
    }
    if file_offset
        .checked_add(file_bytes)
        .is_none_or(|end| end > file.len() as u64)
    {
        return Err(bad("is outside of the file"));
    }
    let start = paddr
        .checked_sub(paddr_offset)
        .ok_or(bad("lies before the memory: is PADDR_OFFSET right?"))?;
    let end = start
        .checked_add(memory_bytes)
        .and_then(|end| end.checked_add(virt_base))
        .ok_or(bad("ends behind all addresses"))?;
    if end > crate::FIRST_FORBIDDEN_ADDRESS {
        return Err(Refused::TooHigh(start.wrapping_add(virt_base)));
    }
    Ok(Segment {
        start,
        file_offset,
        file_bytes,
        memory_bytes,
    })
}
