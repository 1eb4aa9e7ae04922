//! The command line, which need not be a text.

use core::{fmt, ptr::NonNull};

use hypercall_abi::{PAGE_SIZE, platform::Pages};

/// A guest's command line, as its loader handed it over: bytes, which are
/// UTF-8 unless somebody has chosen otherwise or it was cut within a character.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct CommandLine {
    bytes: &'static [u8],
    is_truncated: bool,
}

impl CommandLine {
    /// The line in a place for one: it ends with a NUL byte, or where the place
    /// does. More than `longest` bytes do not come, by the loader's interface.
    pub(crate) fn until_nul(place: &'static [u8], longest: usize) -> Self {
        let bytes = place.split(|byte| *byte == 0).next().unwrap_or(&[]);
        Self {
            bytes,
            is_truncated: bytes.len() >= longest || bytes.len() == place.len(),
        }
    }

    /// The bytes, without the NUL at their end.
    pub const fn as_bytes(&self) -> &'static [u8] {
        self.bytes
    }

    /// Whether its end may be missing: it is as long as the loader's interface lets it
    /// be (1,023 bytes for PV), or goes on behind what this crate reads (4,096).
    pub const fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// The line as a text. What is no UTF-8 is U+FFFD, as
    /// [`str::from_utf8_lossy`](https://doc.rust-lang.org/std/string/struct.String.html#method.from_utf8_lossy)
    /// has it; only such a line takes memory of `pages`, for good. Without
    /// memory the text ends where the UTF-8 does.
    pub(crate) fn into_text(self, pages: &impl Pages) -> &'static str {
        match str::from_utf8(self.bytes) {
            Ok(text) => text,
            Err(error) => self.replaced(pages).unwrap_or_else(|| {
                let (valid, _) = self.bytes.split_at(error.valid_up_to());
                str::from_utf8(valid).unwrap_or_default()
            }),
        }
    }

    /// A copy, with everything replaced that is no UTF-8.
    fn replaced(self, pages: &impl Pages) -> Option<&'static str> {
        const REPLACEMENT: &str = "\u{fffd}";
        let chunks = self.bytes.utf8_chunks();
        let parts = chunks.flat_map(|chunk| {
            let bad = if chunk.invalid().is_empty() {
                ""
            } else {
                REPLACEMENT
            };
            [chunk.valid(), bad]
        });
        let len_bytes = parts.clone().map(str::len).sum::<usize>();
        let start: NonNull<u8> = pages.alloc(len_bytes.div_ceil(PAGE_SIZE))?;
        // SAFETY: fresh, zeroed pages, which are never freed.
        let text = unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), len_bytes) };
        let mut rest = &mut text[..];
        for part in parts {
            let (place, behind) = rest.split_at_mut_checked(part.len())?;
            place.copy_from_slice(part.as_bytes());
            rest = behind;
        }
        str::from_utf8(text).ok()
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.bytes.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bytes.escape_ascii())?;
        if self.is_truncated {
            f.write_str(" (its end may be missing)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use mock_hypervisor::{Config, Domain};
    use std::{string::ToString as _, vec::Vec};

    fn line(place: &'static [u8]) -> CommandLine {
        CommandLine::until_nul(place, 1024)
    }

    fn domain() -> Domain {
        let config = Config {
            memory_mib: 1,
            ..Config::default()
        };
        Domain::new(config).unwrap()
    }

    #[test]
    fn one_bad_byte_costs_one_character() {
        let domain = domain();
        let free = || {
            if cfg!(miri) {
                // To count them takes long there.
                return 3;
            }
            let pages = core::iter::from_fn(|| domain.alloc(1));
            let pages: Vec<_> = pages.collect();
            for page in &pages {
                // SAFETY: allocated above, and used by nobody.
                unsafe { domain.free(*page, 1) };
            }
            pages.len()
        };
        let all = free();
        for text in ["", "a=b c", "k\u{e4}se \u{fffd}"] {
            let good = line(text.as_bytes());
            assert_eq!(good.into_text(&domain), text);
            assert_eq!(good.to_string(), text);
        }
        // A text that is one takes no memory.
        assert_eq!(free(), all);
        for (bytes, text) in [
            (&b"quiet \xff ip=1"[..], "quiet \u{fffd} ip=1"),
            // Cut within a character.
            (b"name=k\xc3", "name=k\u{fffd}"),
            (b"\xe2\x82 x \xf0\x9f\x98\0rest", "\u{fffd} x \u{fffd}"),
        ] {
            let bad = line(bytes);
            assert_eq!(bad.into_text(&domain), text);
            assert_eq!(bad.to_string(), text);
            assert!(bytes.starts_with(bad.as_bytes()));
        }
        assert!(free() == all - 3 || cfg!(miri));
    }

    #[test]
    fn without_memory_the_good_part_is_there() {
        let domain = domain();
        while domain.alloc(1).is_some() {}
        assert_eq!(line(b"a=b \xff c").into_text(&domain), "a=b ");
    }

    #[test]
    fn a_line_that_fills_its_place_says_so() {
        static LINE: [u8; 8] = *b"1234567\0";
        assert!(!CommandLine::until_nul(&LINE[1..], 7).is_truncated());
        assert!(CommandLine::until_nul(&LINE, 7).is_truncated());
        assert!(CommandLine::until_nul(&LINE[..7], 7).is_truncated());
    }
}
