//! What a kernel tells its loader: in notes, or (before there were those) in the
//! section `__xen_guest`.

use hypercall_abi::elfnote::*;
use object::{
    LittleEndian,
    elf::FileHeader64,
    read::elf::{FileHeader, ProgramHeader, SectionHeader},
};

use crate::{PAGE, Refused};

/// All that a builder wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    pub(crate) entry: Option<u64>,
    pub(crate) hypercall_page: Option<u64>,
    pub(crate) virt_base: Option<u64>,
    pub(crate) paddr_offset: Option<u64>,
    pub(crate) init_p2m: Option<u64>,
    pub(crate) xen_version: Option<String>,
    pub(crate) guest_os: Option<String>,
    pub(crate) loader: Option<String>,
    pub(crate) features: String,
    pub(crate) module_by_frame: bool,
    has_pvh_entry: bool,
    is_there: bool,
}

type Header = FileHeader64<LittleEndian>;
const E: LittleEndian = LittleEndian;
const MALFORMED: Refused = Refused::BadNote("list");

/// A number of 4 or 8 bytes.
fn number(name: &'static str, desc: &[u8]) -> Result<u64, Refused> {
    match desc {
        [a, b, c, d] => Ok(u32::from_le_bytes([*a, *b, *c, *d]).into()),
        bytes => {
            let bytes: Result<[u8; 8], _> = bytes.try_into();
            bytes
                .map(u64::from_le_bytes)
                .map_err(|_| Refused::BadNote(name))
        }
    }
}

/// A text, up to its zero.
fn text(name: &'static str, desc: &[u8]) -> Result<String, Refused> {
    let bytes = desc.split(|byte| *byte == 0).next().unwrap_or(&[]);
    let text = std::str::from_utf8(bytes).map_err(|_| Refused::BadNote(name))?;
    Ok(text.to_owned())
}

impl Notes {
    /// Those of a file: of its segments, else of its sections, else of the old
    /// section.
    pub(crate) fn of(header: &Header, file: &[u8]) -> Result<Self, Refused> {
        let mut notes = Self::default();
        for segment in header.program_headers(E, file).map_err(|_| MALFORMED)? {
            if let Some(mut list) = segment.notes(E, file).map_err(|_| MALFORMED)? {
                while let Some(note) = list.next().map_err(|_| MALFORMED)? {
                    notes.take(note.name(), note.n_type(E), note.desc())?;
                }
            }
        }
        let sections = header.sections(E, file);
        if let (false, Ok(sections)) = (notes.is_there, &sections) {
            for section in sections.iter() {
                if let Some(mut list) = section.notes(E, file).map_err(|_| MALFORMED)? {
                    while let Some(note) = list.next().map_err(|_| MALFORMED)? {
                        notes.take(note.name(), note.n_type(E), note.desc())?;
                    }
                }
            }
        }
        if let (false, Ok(sections)) = (notes.is_there, sections)
            && let Some((_, section)) = sections.section_by_name(E, b"__xen_guest")
        {
            let data = section.data(E, file).map_err(|_| MALFORMED)?;
            notes.take_old(&text("__xen_guest", data)?)?;
        }
        if !notes.is_there {
            return Err(Refused::NoNotes);
        }
        if notes.has_pvh_entry && notes.entry.is_none() && notes.virt_base.is_none() {
            return Err(Refused::OnlyPvh);
        }
        Ok(notes)
    }

    fn take(&mut self, name: &[u8], kind: u32, desc: &[u8]) -> Result<(), Refused> {
        if name != b"Xen" {
            return Ok(());
        }
        self.is_there = true;
        match kind {
            XEN_ELFNOTE_ENTRY => self.entry = Some(number("ENTRY", desc)?),
            XEN_ELFNOTE_HYPERCALL_PAGE => {
                self.hypercall_page = Some(number("HYPERCALL_PAGE", desc)?);
            }
            XEN_ELFNOTE_VIRT_BASE => self.virt_base = Some(number("VIRT_BASE", desc)?),
            XEN_ELFNOTE_PADDR_OFFSET => self.paddr_offset = Some(number("PADDR_OFFSET", desc)?),
            XEN_ELFNOTE_INIT_P2M => self.init_p2m = Some(number("INIT_P2M", desc)?),
            XEN_ELFNOTE_XEN_VERSION => self.xen_version = Some(text("XEN_VERSION", desc)?),
            XEN_ELFNOTE_GUEST_OS => self.guest_os = Some(text("GUEST_OS", desc)?),
            XEN_ELFNOTE_LOADER => self.loader = Some(text("LOADER", desc)?),
            XEN_ELFNOTE_FEATURES => self.features = text("FEATURES", desc)?,
            XEN_ELFNOTE_MOD_START_PFN => {
                self.module_by_frame = number("MOD_START_PFN", desc)? != 0;
            }
            XEN_ELFNOTE_PHYS32_ENTRY => self.has_pvh_entry = true,
            _ => {}
        }
        Ok(())
    }

    /// `KEY=value,KEY=value`: numbers are hexadecimal.
    fn take_old(&mut self, list: &str) -> Result<(), Refused> {
        self.is_there = true;
        let mut page = None;
        for word in list.split(',') {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let number = |name: &'static str| {
                let digits = value.trim_start_matches("0x");
                u64::from_str_radix(digits, 16).map_err(|_| Refused::BadNote(name))
            };
            match key {
                "LOADER" => self.loader = Some(value.to_owned()),
                "GUEST_OS" => self.guest_os = Some(value.to_owned()),
                "XEN_VER" => self.xen_version = Some(value.to_owned()),
                "VIRT_BASE" => self.virt_base = Some(number("VIRT_BASE")?),
                "VIRT_ENTRY" => self.entry = Some(number("VIRT_ENTRY")?),
                "ELF_PADDR_OFFSET" => self.paddr_offset = Some(number("ELF_PADDR_OFFSET")?),
                "HYPERCALL_PAGE" => page = Some(number("HYPERCALL_PAGE")?),
                "FEATURES" => self.features = value.to_owned(),
                _ => {}
            }
        }
        // Its number, counted from where the memory begins.
        self.hypercall_page = page
            .map(|page| {
                let offset = page.checked_mul(PAGE);
                offset.and_then(|offset| offset.checked_add(self.virt_base.unwrap_or(0)))
            })
            .map(|address| address.ok_or(Refused::BadNote("HYPERCALL_PAGE")))
            .transpose()?;
        // In such images, physical addresses are virtual ones.
        self.paddr_offset = self.paddr_offset.or(self.virt_base);
        // They were all made for this one.
        if self.xen_version.is_none() {
            self.xen_version = Some("xen-3.0".to_owned());
        }
        Ok(())
    }
}
