//! A kernel's file, made of what is wanted of it.

use hypercall_abi::elfnote::*;

use super::BASE;

/// A segment.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it is in memory, by the file's own count.
    pub start: u64,
    /// How large it is there.
    pub memory_bytes: u64,
    /// What is in the file.
    pub bytes: Vec<u8>,
    /// Whether it may be read, written and run: the file's bits.
    pub flags: u32,
}

/// Where the notes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotesAt {
    /// In a segment.
    Segment,
    /// In a section, and in no segment.
    Section,
    /// In a text of old, which is this, instead.
    Old(String),
}

/// The file.
#[derive(Clone, Debug)]
pub struct Elf {
    /// Its segments.
    pub parts: Vec<Part>,
    /// Its notes: kind, and what it says.
    pub notes: Vec<(u32, Vec<u8>)>,
    /// Where those are.
    pub notes_at: NotesAt,
    /// Where it starts, by its header.
    pub entry: u64,
}

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const SECTION_HEADER_BYTES: usize = 64;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;
const SHT_NOTE: u32 = 7;
/// Where the code is in the first segment.
const CODE_AT: usize = 0x10;
/// A power-off, by the call of old, which needs no memory; and the end.
const CODE: [u8; 16] = [
    0xbf, 2, 0, 0, 0, // mov edi, SCHEDOP_shutdown
    0x31, 0xf6, // xor esi, esi
    0xb8, 6, 0, 0, 0, // mov eax, __HYPERVISOR_sched_op_compat
    0x0f, 0x05, // syscall
    0x0f, 0x0b, // ud2
];

impl Elf {
    /// One that Xen boots: a segment of two pages at 1 MiB, seen 1 GiB above that. It
    /// powers off.
    pub fn good() -> Self {
        let mut bytes = vec![0xf4; 0x1234];
        if let Some(place) = bytes.get_mut(CODE_AT..CODE_AT + CODE.len()) {
            place.copy_from_slice(&CODE);
        }
        Self {
            parts: vec![Part {
                start: 0x10_0000,
                memory_bytes: 0x2000,
                bytes,
                flags: 7,
            }],
            notes: vec![
                (XEN_ELFNOTE_XEN_VERSION, b"xen-3.0\0".to_vec()),
                (XEN_ELFNOTE_LOADER, b"generic\0".to_vec()),
                (XEN_ELFNOTE_VIRT_BASE, BASE.to_le_bytes().to_vec()),
                (XEN_ELFNOTE_ENTRY, (BASE + 0x10_0010).to_le_bytes().to_vec()),
                (
                    XEN_ELFNOTE_HYPERCALL_PAGE,
                    (BASE + 0x10_1000).to_le_bytes().to_vec(),
                ),
            ],
            notes_at: NotesAt::Segment,
            entry: 0,
        }
    }

    /// The same with other code, at most some 4,000 bytes of it.
    #[must_use]
    pub fn running(mut self, code: &[u8]) -> Self {
        let bytes = self.parts.first_mut().map(|part| &mut part.bytes);
        if let Some(place) = bytes.and_then(|it| it.get_mut(CODE_AT..CODE_AT + code.len())) {
            place.copy_from_slice(code);
        }
        self
    }

    /// The same with a note changed, or added.
    #[must_use]
    pub fn with(self, kind: u32, description: &[u8]) -> Self {
        let mut elf = self.without(kind);
        elf.notes.push((kind, description.to_vec()));
        elf
    }

    /// The same with a note that is a number.
    #[must_use]
    pub fn with_number(self, kind: u32, number: u64) -> Self {
        self.with(kind, &number.to_le_bytes())
    }

    /// The same without a note.
    #[must_use]
    pub fn without(mut self, kind: u32) -> Self {
        self.notes.retain(|(known, _)| *known != kind);
        self
    }

    /// The same with another segment.
    #[must_use]
    pub fn and_part(mut self, start: u64, memory_bytes: u64, bytes: &[u8]) -> Self {
        self.parts.push(Part {
            start,
            memory_bytes,
            bytes: bytes.to_vec(),
            flags: 6,
        });
        self
    }

    /// The notes, as they lie in the file.
    fn notes_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, description) in &self.notes {
            bytes.extend(4_u32.to_le_bytes());
            bytes.extend((description.len() as u32).to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(b"Xen\0");
            bytes.extend(description);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        const NAMES: &[u8] = b"\0.note.Xen\0__xen_guest\0.shstrtab\0";
        let notes = match &self.notes_at {
            NotesAt::Old(text) => [text.as_bytes(), b"\0"].concat(),
            _ => self.notes_bytes(),
        };
        let has_segment = self.notes_at == NotesAt::Segment;
        let headers = self.parts.len() + usize::from(has_segment);
        // None, the notes, and the names of both.
        let sections = if has_segment { 0 } else { 3 };
        let section_headers = HEADER_BYTES + headers * PROGRAM_HEADER_BYTES;
        let mut file = Vec::new();
        // Of 64 bits, little-endian, of this version, a program for x86-64.
        file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file.extend(2_u16.to_le_bytes());
        file.extend(62_u16.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend(self.entry.to_le_bytes());
        file.extend((HEADER_BYTES as u64).to_le_bytes());
        file.extend((section_headers as u64).to_le_bytes());
        file.extend(0_u32.to_le_bytes());
        let names_at = if sections == 0 { 0 } else { 2 };
        for half in [
            HEADER_BYTES,
            PROGRAM_HEADER_BYTES,
            headers,
            SECTION_HEADER_BYTES,
            sections,
            names_at,
        ] {
            file.extend((half as u16).to_le_bytes());
        }
        let mut offset = section_headers + sections * SECTION_HEADER_BYTES;
        let notes_offset = offset;
        offset += notes.len();
        let names_offset = offset;
        offset += NAMES.len();
        let mut header = |kind: u32, flags: u32, words: [u64; 6]| {
            file.extend(kind.to_le_bytes());
            file.extend(flags.to_le_bytes());
            for word in words {
                file.extend(word.to_le_bytes());
            }
        };
        let len = notes.len() as u64;
        if has_segment {
            header(PT_NOTE, 4, [notes_offset as u64, 0, 0, len, len, 4]);
        }
        for part in &self.parts {
            let (at, bytes) = (offset as u64, part.bytes.len() as u64);
            header(
                PT_LOAD,
                part.flags,
                [at, part.start, part.start, bytes, part.memory_bytes, 4],
            );
            offset += part.bytes.len();
        }
        if sections > 0 {
            let (name, kind) = match self.notes_at {
                NotesAt::Old(_) => (11_u32, SHT_PROGBITS),
                _ => (1, SHT_NOTE),
            };
            file.extend([0; SECTION_HEADER_BYTES]);
            for (name, kind, at, bytes) in [
                (name, kind, notes_offset, notes.len()),
                (23, SHT_STRTAB, names_offset, NAMES.len()),
            ] {
                file.extend(name.to_le_bytes());
                file.extend(kind.to_le_bytes());
                for word in [0, 0, at as u64, bytes as u64, 0, 4, 0] {
                    file.extend(word.to_le_bytes());
                }
            }
        }
        file.extend(&notes);
        file.extend(NAMES);
        for part in &self.parts {
            file.extend(&part.bytes);
        }
        file
    }
}
