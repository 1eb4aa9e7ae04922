//! A kernel's file, made of what is wanted of it.

use hypercall_abi::elfnote::*;

/// A segment: where it is in memory, how large it is there, and what is in the file.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) start: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct Elf {
    pub(crate) parts: Vec<Part>,
    pub(crate) notes: Vec<(u32, Vec<u8>)>,
    pub(crate) entry: u64,
}

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;

impl Elf {
    /// One that Xen boots: a segment of two pages at 1 MiB, seen 1 GiB above that.
    pub(crate) fn good() -> Self {
        let base: u64 = 0x4000_0000;
        Self {
            parts: vec![Part {
                start: 0x10_0000,
                memory_bytes: 0x2000,
                bytes: vec![0xf4; 0x1234],
            }],
            notes: vec![
                (XEN_ELFNOTE_XEN_VERSION, b"xen-3.0\0".to_vec()),
                (XEN_ELFNOTE_LOADER, b"generic\0".to_vec()),
                (XEN_ELFNOTE_VIRT_BASE, base.to_le_bytes().to_vec()),
                (XEN_ELFNOTE_ENTRY, (base + 0x10_0010).to_le_bytes().to_vec()),
                (
                    XEN_ELFNOTE_HYPERCALL_PAGE,
                    (base + 0x10_1000).to_le_bytes().to_vec(),
                ),
            ],
            entry: 0,
        }
    }

    /// The same with a note changed, or added.
    pub(crate) fn with(mut self, kind: u32, description: &[u8]) -> Self {
        self.notes.retain(|(known, _)| *known != kind);
        self.notes.push((kind, description.to_vec()));
        self
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut notes = Vec::new();
        for (kind, description) in &self.notes {
            notes.extend(4_u32.to_le_bytes());
            notes.extend((description.len() as u32).to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(b"Xen\0");
            notes.extend(description);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        let headers = self.parts.len() + 1;
        let mut file = Vec::new();
        // Of 64 bits, little-endian, of this version, a program for x86-64.
        file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file.extend(2_u16.to_le_bytes());
        file.extend(62_u16.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend(self.entry.to_le_bytes());
        file.extend((HEADER_BYTES as u64).to_le_bytes());
        file.extend(0_u64.to_le_bytes());
        file.extend(0_u32.to_le_bytes());
        for half in [HEADER_BYTES, PROGRAM_HEADER_BYTES, headers, 64, 0, 0] {
            file.extend((half as u16).to_le_bytes());
        }
        let mut offset = HEADER_BYTES + headers * PROGRAM_HEADER_BYTES;
        let mut header = |kind: u32, start: u64, bytes: &[u8], memory_bytes: u64| {
            file.extend(kind.to_le_bytes());
            file.extend(7_u32.to_le_bytes());
            for word in [
                offset as u64,
                start,
                start,
                bytes.len() as u64,
                memory_bytes,
                4,
            ] {
                file.extend(word.to_le_bytes());
            }
            offset += bytes.len();
        };
        header(4, 0, &notes, notes.len() as u64);
        for part in &self.parts {
            header(1, part.start, &part.bytes, part.memory_bytes);
        }
        file.extend(&notes);
        for part in &self.parts {
            file.extend(&part.bytes);
        }
        file
    }
}
