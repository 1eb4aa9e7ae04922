//! Images whose loader's information is spoilt before they see it.
//!
//! The conformance kernel has entries that do so (its `spoil.S`); an image's
//! notes are changed to lead to them.

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol};

use crate::job::Spoil;

/// `XEN_ELFNOTE_ENTRY` and `XEN_ELFNOTE_PHYS32_ENTRY`.
const NOTE_ENTRY: u32 = 1;
const NOTE_PHYS32_ENTRY: u32 = 18;
/// Where the image is linked, above its physical address.
const VIRT_BASE: u64 = 0x4000_0000;

/// The image with the entries that spoil.
pub(crate) fn image(kernel: &[u8], spoil: Spoil) -> Result<Vec<u8>> {
    let file = object::File::parse(kernel)?;
    let symbol = |kind: &str| {
        let name = format!("spoil_{kind}_{}", spoil.name());
        let mut symbols = file.symbols();
        let found = symbols.find(|symbol| symbol.name() == Ok(name.as_str()));
        found.map(|symbol| symbol.address()).with_context(|| {
            format!("the guest has no entry {name}; --corrupt-boot-info is for conformance")
        })
    };
    let (pv, pvh) = (symbol("pv")?, symbol("pvh")? - VIRT_BASE);
    let section = file
        .section_by_name(".note.Xen")
        .and_then(|section| section.file_range());
    let (start, len) = section.context("the image has no notes")?;
    let mut image = kernel.to_vec();
    let notes = usize::try_from(start)
        .ok()
        .zip(usize::try_from(len).ok())
        .and_then(|(start, len)| image.get_mut(start..start.checked_add(len)?))
        .context("the image's notes lie outside it")?;
    let mut changed = 0;
    for_each_note(notes, |note, description| {
        let value = match note {
            NOTE_ENTRY => pv,
            NOTE_PHYS32_ENTRY => pvh,
            _ => return,
        };
        let bytes = value.to_le_bytes();
        let len = description.len().min(bytes.len());
        description[..len].copy_from_slice(&bytes[..len]);
        changed += 1;
    });
    if changed != 2 {
        bail!("the image has {changed} entry notes, not two");
    }
    Ok(image)
}

/// Goes through the notes of a section.
fn for_each_note(mut notes: &mut [u8], mut visit: impl FnMut(u32, &mut [u8])) {
    while let Some((header, rest)) = notes.split_first_chunk_mut::<12>() {
        let word =
            |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
        let round = |len: u32| (len as usize).next_multiple_of(4);
        let (name, description) = (round(word(0)), word(4) as usize);
        if let Some(bytes) = rest.get_mut(name..name + description) {
            visit(word(8), bytes);
        }
        let next = (name + round(word(4))).min(rest.len());
        notes = &mut rest[next..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_found_whatever_their_lengths() {
        let mut notes = Vec::new();
        for (note, description) in [
            (6_u32, b"pv-guest\0".as_slice()),
            (1, &[7; 8]),
            (18, &[9; 4]),
        ] {
            notes.extend(4_u32.to_le_bytes());
            notes.extend(u32::try_from(description.len()).unwrap().to_le_bytes());
            notes.extend(note.to_le_bytes());
            notes.extend(b"Xen\0");
            notes.extend(description);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        let mut found = Vec::new();
        for_each_note(&mut notes, |note, description| {
            found.push((note, description.to_vec()));
        });
        assert_eq!(
            found,
            [
                (6, b"pv-guest\0".to_vec()),
                (1, vec![7; 8]),
                (18, vec![9; 4])
            ]
        );
        // Cut short: no more than is there.
        let end = notes.len() - 2;
        for_each_note(&mut notes[..end], |_, _| ());
    }
}
