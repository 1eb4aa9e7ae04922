//! What a kernel tells its loader: in notes, or (before there were those) in the
//! section `__xen_guest`.

use hypercall_abi::elfnote::*;

use crate::{
    PAGE, Refused,
    elf::{Elf, Span},
    features::{self, Bad, Wanted},
};

/// All that a builder wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    pub(crate) entry: Option<u64>,
    pub(crate) hypercall_page: Option<u64>,
    pub(crate) virt_base: Option<u64>,
    pub(crate) paddr_offset: Option<u64>,
    pub(crate) init_p2m: Option<u64>,
    pub(crate) module_by_frame: bool,
    xen_version: Vec<u8>,
    guest_os: Vec<u8>,
    loader: Vec<u8>,
    wanted: Wanted,
    /// What it can do is told by the section of old.
    is_old: bool,
    pub(crate) has_pvh_entry: bool,
    /// A number that is of no length that numbers have: zero is taken for it.
    pub(crate) odd_number: Option<&'static str>,
}

const HEADER_BYTES: u64 = 12;
/// The most notes of a file.
const MAX_NOTES: usize = 65_536;

/// The notes in a part of the file: kind, and where what it says is, with its length.
fn notes_in(elf: &Elf<'_>, span: Span) -> Vec<(u32, usize, usize)> {
    let mut found = Vec::new();
    let end = span.start.saturating_add(span.bytes);
    let mut at = span.start;
    let round = |bytes: u32| u64::from(bytes).next_multiple_of(4);
    while at < end && found.len() < MAX_NOTES {
        let Ok(place) = usize::try_from(at) else {
            break;
        };
        let header = [0, 4, 8].map(|offset| elf.long(place.saturating_add(offset)));
        let [Some(name_bytes), Some(bytes), Some(kind)] = header else {
            break;
        };
        let description = at + HEADER_BYTES + round(name_bytes);
        if let Ok(description) = usize::try_from(description) {
            let is_xens = elf.text(place + HEADER_BYTES as usize) == Some(b"Xen");
            if is_xens {
                found.push((kind, description, bytes as usize));
            }
        }
        at = description + round(bytes);
    }
    found
}

impl Notes {
    /// Those of a file: of its segments, else of its sections, else of the old
    /// section.
    pub(crate) fn of(elf: &Elf<'_>) -> Result<Self, Refused> {
        let mut notes = Self::default();
        let of = |spans: Vec<Span>| -> Vec<_> {
            let all = spans.into_iter().flat_map(|span| notes_in(elf, span));
            all.take(MAX_NOTES).collect()
        };
        let mut all = of(elf.note_segments());
        if all.is_empty() {
            all = of(elf.note_sections());
        }
        for (kind, at, bytes) in &all {
            notes.take(elf, *kind, *at, *bytes)?;
        }
        if all.is_empty() {
            let text = elf.section_text(b"__xen_guest").ok_or(Refused::NoNotes)?;
            notes.take_old(text);
        }
        notes.check()?;
        Ok(notes)
    }

    /// Whether the kernel is for this builder.
    fn check(&self) -> Result<(), Refused> {
        let is_generic = self.loader.starts_with(b"generic");
        if !is_generic && !self.guest_os.starts_with(b"linux") {
            if self.has_pvh_entry && self.entry.is_none() {
                return Err(Refused::OnlyPvh);
            }
            return Err(Refused::OtherLoader(told(&self.loader)));
        }
        if !self.xen_version.starts_with(b"xen-3.0") {
            return Err(Refused::OtherXen(told(&self.xen_version)));
        }
        if self.paddr_offset.is_some() && self.virt_base.is_none() {
            return Err(Refused::OffsetWithoutBase);
        }
        self.wanted.check()
    }

    /// How many bytes physical addresses in the file are above those of the memory.
    pub(crate) fn paddr_offset(&self) -> u64 {
        // In images of old, physical addresses are virtual ones.
        let unset = if self.is_old { self.virt_base } else { None };
        self.paddr_offset.or(unset).unwrap_or(0)
    }

    fn number(&mut self, elf: &Elf<'_>, name: &'static str, at: usize, bytes: usize) -> u64 {
        let bytes = match bytes {
            1 | 2 | 4 | 8 => elf.file.get(at..).and_then(|rest| rest.get(..bytes)),
            _ => None,
        };
        if bytes.is_none() {
            self.odd_number = self.odd_number.or(Some(name));
        }
        let bytes = bytes.unwrap_or(&[]).iter().rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn take(&mut self, elf: &Elf<'_>, kind: u32, at: usize, bytes: usize) -> Result<(), Refused> {
        let mut number = |name| self.number(elf, name, at, bytes);
        // A text goes on to its zero, wherever that is; one without is passed over.
        let text = || elf.text(at).map(<[u8]>::to_vec);
        match kind {
            XEN_ELFNOTE_ENTRY => self.entry = Some(number("ENTRY")),
            XEN_ELFNOTE_HYPERCALL_PAGE => self.hypercall_page = Some(number("HYPERCALL_PAGE")),
            XEN_ELFNOTE_VIRT_BASE => self.virt_base = Some(number("VIRT_BASE")),
            XEN_ELFNOTE_PADDR_OFFSET => self.paddr_offset = Some(number("PADDR_OFFSET")),
            XEN_ELFNOTE_INIT_P2M => self.init_p2m = Some(number("INIT_P2M")),
            XEN_ELFNOTE_MOD_START_PFN => self.module_by_frame = number("MOD_START_PFN") != 0,
            XEN_ELFNOTE_XEN_VERSION => self.xen_version = text().unwrap_or_default(),
            XEN_ELFNOTE_GUEST_OS => self.guest_os = text().unwrap_or_default(),
            XEN_ELFNOTE_LOADER => self.loader = text().unwrap_or_default(),
            XEN_ELFNOTE_FEATURES => {
                let list = text().unwrap_or_default();
                features::read(&list, &mut self.wanted)
                    .map_err(|Bad::Unknown(name)| Refused::Feature(name))?;
            }
            XEN_ELFNOTE_PHYS32_ENTRY => self.has_pvh_entry = true,
            _ => {}
        }
        Ok(())
    }

    /// `KEY=value,KEY=value`.
    fn take_old(&mut self, list: &[u8]) {
        self.is_old = true;
        let mut page = None;
        for word in list.split(|byte| *byte == b',') {
            let mut halves = word.splitn(2, |byte| *byte == b'=');
            let key = halves.next().unwrap_or(&[]);
            let value = halves.next().unwrap_or(&[]);
            match key {
                b"LOADER" => self.loader = value.to_vec(),
                b"GUEST_OS" => self.guest_os = value.to_vec(),
                b"XEN_VER" => self.xen_version = value.to_vec(),
                b"VIRT_BASE" => self.virt_base = Some(c_number(value)),
                b"VIRT_ENTRY" => self.entry = Some(c_number(value)),
                b"ELF_PADDR_OFFSET" => self.paddr_offset = Some(c_number(value)),
                b"HYPERCALL_PAGE" => page = Some(c_number(value).wrapping_mul(PAGE)),
                // Here Xen does not look whether it knows what is required, and reads
                // nothing behind it.
                b"FEATURES" if features::read(value, &mut self.wanted).is_err() => break,
                _ => {}
            }
        }
        // Its number, counted from where the memory begins.
        let base = self.virt_base.unwrap_or(0);
        self.hypercall_page = page.map(|page| page.wrapping_add(base));
    }
}

/// A text for a person.
fn told(text: &[u8]) -> String {
    match text {
        [] => "none".to_owned(),
        text => String::from_utf8_lossy(text).into_owned(),
    }
}

/// A number as C reads it: by its prefix hexadecimal, octal or decimal, up to the first
/// byte that is no digit of it.
fn c_number(text: &[u8]) -> u64 {
    let (digits, base) = match text {
        [b'0', b'x' | b'X', digits @ ..] => (digits, 16),
        [b'0', digits @ ..] => (digits, 8),
        digits => (digits, 10),
    };
    let digits = digits
        .iter()
        .map_while(|byte| char::from(*byte).to_digit(base));
    digits.fold(0_u64, |number, digit| {
        number
            .saturating_mul(base.into())
            .saturating_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_old_are_c_numbers() {
        for (text, number) in [
            ("0x100", 0x100),
            ("0XfFg", 0xff),
            ("100", 100),
            ("010", 8),
            ("", 0),
            ("x", 0),
            ("0xfffffffffffffffff", u64::MAX),
        ] {
            assert_eq!(c_number(text.as_bytes()), number, "{text}");
        }
    }
}
