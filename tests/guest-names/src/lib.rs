#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::{fmt, ops::Range, path::Path};

use addr2line::Loader;

/// What a kernel's debug information knows.
pub struct Names(Option<Loader>);

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Names").field(&self.0.is_some()).finish()
    }
}

impl Names {
    /// Those of a kernel; without debug information there are none.
    pub fn of(kernel: &Path) -> Self {
        Self(Loader::new(kernel).ok())
    }

    /// None at all, for guests that name their functions themselves.
    pub const NONE: Self = Self(None);

    /// Where lines begin, in a range of addresses.
    pub fn rows(&self, addresses: Range<u64>) -> Vec<Row> {
        let found = self.0.as_ref().and_then(|loader| {
            let rows = loader.find_location_range(addresses.start, addresses.end);
            Some(
                rows.ok()?
                    .filter_map(|(address, _, place)| {
                        Some(Row {
                            file: place.file?.to_owned(),
                            line: place.line.filter(|line| *line > 0)?,
                            address,
                        })
                    })
                    .collect(),
            )
        });
        found.unwrap_or_default()
    }

    /// What to add to a line of a backtrace; nothing to any other line.
    pub fn suffix(&self, line: &[u8]) -> String {
        address(line).map_or_else(String::new, |address| {
            let names = self.at(address);
            let Some((first, inlined_into)) = names.split_first() else {
                return String::new();
            };
            let rest: String = inlined_into
                .iter()
                .map(|name| format!("\n      in {name}"))
                .collect();
            format!("  {first}{rest}")
        })
    }

    /// The function at an address and its line; first of all those inlined.
    pub fn at(&self, address: u64) -> Vec<String> {
        let mut names = Vec::new();
        let Some(loader) = self.0.as_ref() else {
            return names;
        };
        let symbol = || loader.find_symbol(address).map(demangled);
        if let Ok(mut frames) = loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let function = frame.function.and_then(|function| {
                    let name = function.raw_name().ok()?;
                    Some(demangled(&name))
                });
                let place = frame.location.and_then(|location| {
                    let (file, line) = (location.file?, location.line?);
                    Some(format!(" at {}:{line}", short(file)))
                });
                if let Some(function) = function.or_else(symbol) {
                    names.push(function + &place.unwrap_or_default());
                }
            }
        }
        if names.is_empty() {
            names.extend(symbol());
        }
        names
    }
}

/// The instructions of a line of source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The file, as the compiler knew it.
    pub file: String,
    /// Its line, from 1 on.
    pub line: u32,
    /// Where the first instruction is.
    pub address: u64,
}

/// A name without the hash at its end.
fn demangled(name: &str) -> String {
    let name = addr2line::demangle_auto(name.into(), None);
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 => path.to_owned(),
        _ => name.into_owned(),
    }
}

/// A file's path within the workspace, or within the compiler's library.
fn short(file: &str) -> &str {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).unwrap_or(here);
    let inside = root.to_str().and_then(|root| file.strip_prefix(root));
    let library = || Some(file.strip_prefix("/rustc/")?.split_once('/')?.1);
    inside
        .map(|path| path.trim_start_matches('/'))
        .or_else(library)
        .unwrap_or(file)
}

/// The address of a backtrace's line: `  #3 0x40101234`.
fn address(line: &[u8]) -> Option<u64> {
    let text = str::from_utf8(line).ok()?.trim_end();
    let (depth, address) = text.strip_prefix("  #")?.split_once(" 0x")?;
    let depth: u32 = depth.parse().ok()?;
    let address = u64::from_str_radix(address, 16).ok()?;
    // All but the first are return addresses: the call is the byte before.
    Some(address - u64::from(depth > 0 && address > 0))
}

#[cfg(test)]
mod tests {
    use object::{Object, ObjectSymbol};

    use super::*;

    #[test]
    fn only_backtraces_have_addresses() {
        assert_eq!(address(b"  #0 0x40101234\n"), Some(0x4010_1234));
        assert_eq!(address(b"  #12 0x40101234"), Some(0x4010_1233));
        for other in ["#0 0x12", "  #x 0x12", "  #0 0xyz", "  #0 0x", "hello"] {
            assert_eq!(address(other.as_bytes()), None);
        }
    }

    #[test]
    fn this_very_function_has_a_name() {
        let program = std::env::current_exe().unwrap();
        let names = Names::of(&program);
        // Position-independent: look a symbol up instead of using a pointer.
        let bytes = std::fs::read(&program).unwrap();
        let file = object::File::parse(&bytes[..]).unwrap();
        let symbol = file
            .symbols()
            .find(|symbol| {
                symbol
                    .name()
                    .is_ok_and(|name| name.contains("guest_names5short"))
            })
            .unwrap();
        let found = names.at(symbol.address());
        let text = found.last().unwrap();
        // Or a closure in it.
        assert!(
            text.contains("guest_names::short")
                && text.contains(" at tests/guest-names/src/lib.rs:"),
            "{text}"
        );
        assert_eq!(Names::NONE.suffix(b"  #0 0x1000\n"), "");
    }
}
