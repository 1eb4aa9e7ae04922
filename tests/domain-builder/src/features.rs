//! What a kernel can do, or must have, by name.

use crate::Refused;

/// The names that Xen's builder knows. Of two of them it knows that no such guest can
/// have them; all others are the guest's to find out.
const NAMES: [&str; 7] = [
    "writable_page_tables",
    "writable_descriptor_tables",
    TRANSLATED,
    "supervisor_mode_kernel",
    "pae_pgdir_above_4gb",
    "hvm_callback_vector",
    DOM0,
];
const DOM0: &str = "dom0";
const TRANSLATED: &str = "auto_translated_physmap";
/// A name has no more bytes than these: what is longer is the next one.
const MAX_BYTES: usize = 63;

/// What of a list is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// It requires something of which the builder has never heard.
    Unknown(String),
}

/// What a list asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The kernel can only be the machine's first domain.
    pub(crate) only_dom0: bool,
    /// Xen is to translate its frames, which it does for PVH guests only.
    pub(crate) translated: bool,
}

/// Reads a list like `!dom0|pae_pgdir_above_4gb`: what is behind `!` is required.
pub(crate) fn read(list: &[u8], wanted: &mut Wanted) -> Result<(), Bad> {
    for part in list.split(|byte| *byte == b'|') {
        for name in part.chunks(MAX_BYTES) {
            let Some(name) = name.strip_prefix(b"!") else {
                continue;
            };
            if !NAMES.iter().any(|known| known.as_bytes() == name) {
                return Err(Bad::Unknown(String::from_utf8_lossy(name).into_owned()));
            }
            wanted.only_dom0 |= name == DOM0.as_bytes();
            wanted.translated |= name == TRANSLATED.as_bytes();
        }
    }
    Ok(())
}

impl Wanted {
    pub(crate) fn check(self) -> Result<(), Refused> {
        match self {
            Self {
                only_dom0: true, ..
            } => Err(Refused::OnlyDom0),
            Self {
                translated: true, ..
            } => Err(Refused::OnlyTranslated),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(list: &str) -> Result<Wanted, Bad> {
        let mut wanted = Wanted::default();
        read(list.as_bytes(), &mut wanted).map(|()| wanted)
    }

    #[test]
    fn what_is_required_must_be_known() {
        let nothing = Wanted::default();
        assert_eq!(told(""), Ok(nothing));
        assert_eq!(told("writable_page_tables|dom0|unheard_of"), Ok(nothing));
        for name in NAMES
            .iter()
            .filter(|name| ![DOM0, TRANSLATED].contains(name))
        {
            assert_eq!(told(&format!("x|!{name}|y")), Ok(nothing));
        }
        assert_eq!(
            told("!dom0").map(|wanted| wanted.check()),
            Ok(Err(Refused::OnlyDom0))
        );
        let translated = told("!auto_translated_physmap").map(Wanted::check);
        assert_eq!(translated, Ok(Err(Refused::OnlyTranslated)));
        for name in ["unheard_of", "mmu_pt_update_preserve_ad", "dom0 ", ""] {
            let bad = Bad::Unknown(name.to_owned());
            assert_eq!(told(&format!("pae_pgdir_above_4gb|!{name}")), Err(bad));
        }
        // Spaces do not separate, and what is too long is cut.
        assert_eq!(told("x !unheard_of"), Ok(nothing));
        let long = "x".repeat(MAX_BYTES);
        assert_eq!(
            told(&format!("{long}!dom0")).map(|wanted| wanted.only_dom0),
            Ok(true)
        );
    }
}
