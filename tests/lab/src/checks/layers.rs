//! Which folder of a crate imports from which, and that no import goes up.
//!
//! A room is a folder of a crate's sources, or a file beside them. Rooms are listed from the
//! lowest to the highest: each may import from those that stand before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::folders;

/// A crate, and its rooms from the lowest to the highest.
struct Crate {
    sources: &'static str,
    floors: &'static [&'static str],
}

/// The crates whose order is kept.
const CRATES: &[Crate] = &[
    Crate {
        sources: "pv-guest/frontends/src",
        floors: &[
            "buffers", "xenbus", "blkfront", "netfront", "adapters", "net", "lib",
        ],
    },
    Crate {
        sources: "pv-guest/src",
        floors: &[
            "number",
            "memory",
            "error",
            "trap",
            "boot_info",
            "clock",
            "cpu",
            "arch",
            "hypervisor",
            "kernel",
            "guest",
            "frontends",
            "adapt",
            "boot",
            "lib",
        ],
    },
    Crate {
        sources: "tests/mock-hypervisor/src",
        floors: &[
            "core",
            "hypercalls",
            "services",
            "engine",
            "front",
            "lib",
            "tests",
            "bin",
        ],
    },
    Crate {
        sources: "tests/lab/src",
        floors: &[
            "fresh",
            "folders",
            "say",
            "workers",
            "job",
            "build",
            "xen_machine",
            "peers",
            "platforms",
            "checks",
            "reports",
            "commands",
            "main",
        ],
    },
];

/// Files that are longer are listed.
const LONG_LINES: usize = 500;

/// What was found in a crate's sources.
#[derive(Debug, Default)]
struct Found {
    /// From which room to which, and in which files.
    arrows: BTreeMap<(String, String), BTreeSet<PathBuf>>,
    rooms: BTreeSet<String>,
    /// Of statics: their names, by file.
    statics: BTreeMap<PathBuf, Vec<String>>,
    /// How often `unsafe` is written, by file.
    unsafes: BTreeMap<PathBuf, usize>,
    /// Files of many lines, without their tests.
    long: Vec<(PathBuf, usize)>,
}

/// Tells what the sources of all crates look like; an error if an import goes up.
pub(crate) fn show() -> Result<String> {
    let mut text = String::new();
    let mut wrong = Vec::new();
    for it in CRATES {
        let found = read(&folders::root().join(it.sources))?;
        let up = found.up(it.floors);
        let circles = found.circles();
        let _infallible = writeln!(
            text,
            "{}: {} rooms, {} arrows, {} up, {} circles, {} files over {LONG_LINES} lines, {} \
             statics in {} files, unsafe in {} files",
            it.sources,
            found.rooms.len(),
            found.arrows.len(),
            up.len(),
            circles.len(),
            found.long.len(),
            found.statics.values().map(Vec::len).sum::<usize>(),
            found.statics.len(),
            found.unsafes.len(),
        );
        for ((from, to), files) in &up {
            let files: Vec<_> = files
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            let line = format!("  up: {from} imports {to}: {}", files.join(", "));
            let _infallible = writeln!(text, "{line}");
            wrong.push(format!("{}:{line}", it.sources));
        }
        for circle in circles {
            let _infallible = writeln!(text, "  circle: {}", circle.join(", "));
        }
        for (file, lines) in &found.long {
            let _infallible = writeln!(text, "  {lines} lines: {}", file.display());
        }
        for (file, names) in &found.statics {
            let _infallible = writeln!(text, "  static: {}: {}", file.display(), names.join(" "));
        }
        for (file, count) in &found.unsafes {
            let _infallible = writeln!(text, "  unsafe: {} times in {}", count, file.display());
        }
    }
    ensure!(
        wrong.is_empty(),
        "imports go up:\n{}\n\n{text}",
        wrong.join("\n")
    );
    Ok(text)
}

impl Found {
    /// Arrows to a room that is not below. A room without a floor is above all.
    fn up(&self, floors: &[&str]) -> BTreeMap<(String, String), BTreeSet<PathBuf>> {
        let floor = |room: &str| floors.iter().position(|it| *it == room);
        let is_up = |from: &str, to: &str| match (floor(from), floor(to)) {
            (Some(from), Some(to)) => to > from,
            (from, _) => from.is_some() || floor(to).is_none(),
        };
        let arrows = self.arrows.iter();
        let up = arrows.filter(|((from, to), _)| is_up(from, to));
        up.map(|(arrow, files)| (arrow.clone(), files.clone()))
            .collect()
    }

    /// Rooms that reach each other, by more than one.
    fn circles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&String, BTreeSet<&String>> = self
            .rooms
            .iter()
            .map(|room| (room, self.reached(room)))
            .collect();
        let mut left: BTreeSet<&String> = self.rooms.iter().collect();
        let mut circles = Vec::new();
        while let Some(room) = left.pop_first() {
            let both = |other: &&String| {
                reach.get(room).is_some_and(|all| all.contains(*other))
                    && reach.get(*other).is_some_and(|all| all.contains(room))
            };
            let others: Vec<&String> = left.iter().copied().filter(both).collect();
            if !others.is_empty() {
                others.iter().for_each(|other| {
                    left.remove(*other);
                });
                let all = [room].into_iter().chain(others);
                circles.push(all.cloned().collect());
            }
        }
        circles
    }

    fn reached<'a>(&'a self, room: &'a String) -> BTreeSet<&'a String> {
        let mut all = BTreeSet::new();
        let mut next = vec![room];
        while let Some(from) = next.pop() {
            let targets = self.arrows.keys().filter(|(it, _)| it == from);
            next.extend(targets.map(|(_, to)| to).filter(|to| all.insert(*to)));
        }
        all
    }
}

fn read(sources: &Path) -> Result<Found> {
    let mut found = Found::default();
    let mut texts = Vec::new();
    let mut folders = vec![sources.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path)?;
                texts.push((path.strip_prefix(sources)?.to_owned(), text));
            }
        }
    }
    texts.sort();
    found.rooms = texts.iter().map(|(path, _)| room_of(path)).collect();
    for (path, text) in &texts {
        let text = without_tests(text);
        let lines = text.lines().count();
        if lines > LONG_LINES {
            found.long.push((path.clone(), lines));
        }
        let words = words(text);
        found.note(path, &words);
    }
    Ok(found)
}

/// The folder that a file is in, or the file itself if it is beside the crate's root.
fn room_of(path: &Path) -> String {
    let first = path.iter().next().unwrap_or_default();
    let name = first.to_string_lossy();
    name.strip_suffix(".rs").unwrap_or(&name).to_owned()
}

/// The part of a file before its tests.
fn without_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests {")
        .map_or(text, |(code, _)| code)
}

impl Found {
    fn note(&mut self, path: &Path, words: &[String]) {
        let own = room_of(path);
        // `super` of a file beside the root, or of a folder's `mod.rs`, is the root.
        let depth = path.iter().count() - usize::from(path.ends_with("mod.rs"));
        let at = |index: usize| words.get(index).map_or("", String::as_str);
        let (mut braces, mut modules, mut seen) = (0_usize, Vec::new(), 0);
        for (index, word) in words.iter().enumerate() {
            match word.as_str() {
                "{" => {
                    braces += 1;
                    if at(index.wrapping_sub(2)) == "mod" {
                        modules.push(braces);
                    }
                }
                "}" => {
                    modules.pop_if(|module| *module == braces);
                    braces = braces.saturating_sub(1);
                }
                _ => {}
            }
            // How many `super` lead to the root from here.
            let here = depth + modules.len();
            let mut found = Vec::new();
            let is_path = index >= seen && at(index + 1) == "::";
            match word.as_str() {
                "crate" if is_path && at(index.wrapping_sub(1)) != "$" => {
                    seen = paths(words, index + 2, here, &mut found);
                }
                "super" if is_path => seen = paths(words, index, 0, &mut found),
                _ => {}
            }
            for (_, target) in found.into_iter().filter(|(ups, _)| *ups == here) {
                let is_room = self.rooms.contains(target);
                let to = if is_room { target } else { "lib" }.to_owned();
                if to != own {
                    let files = self.arrows.entry((own.clone(), to)).or_default();
                    files.insert(path.to_owned());
                }
            }
            match word.as_str() {
                "unsafe" => *self.unsafes.entry(path.to_owned()).or_default() += 1,
                "static" => {
                    let name = if at(index + 1) == "mut" {
                        at(index + 2)
                    } else {
                        at(index + 1)
                    };
                    if name
                        .chars()
                        .all(|it| it.is_ascii_uppercase() || it == '_' || it.is_ascii_digit())
                        && !name.is_empty()
                    {
                        self.statics
                            .entry(path.to_owned())
                            .or_default()
                            .push(name.to_owned());
                    }
                }
                _ => {}
            }
        }
    }
}

/// Of each path that begins at a word, in braces or not: how many `super` it goes up, beside
/// `ups`, and its first name behind them. Returns where the words behind are.
fn paths<'w>(
    words: &'w [String],
    start: usize,
    mut ups: usize,
    found: &mut Vec<(usize, &'w str)>,
) -> usize {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let mut at = start;
    while word(at) == "super" && word(at + 1) == "::" {
        (at, ups) = (at + 2, ups + 1);
    }
    if word(at) != "{" {
        found.push((ups, word(at)));
        return at + 1;
    }
    at += 1;
    while !matches!(word(at), "" | "}") {
        at = paths(words, at, ups, found);
        // The rest of this path is of the same room.
        let mut depth = 0_usize;
        while !matches!((word(at), depth), ("", _) | ("}" | ",", 0)) {
            match word(at) {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            at += 1;
        }
        at += usize::from(word(at) == ",");
    }
    at + 1
}

/// A source's words: names, `::`, and single other characters; neither comments nor strings.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_name = |it: char| it.is_alphanumeric() || it == '_';
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(len) = raw_string_len(rest) {
            len
        } else if rest.starts_with("::") {
            words.push("::".to_owned());
            2
        } else if first == '"' {
            string_len(rest)
        } else if first == '\'' {
            // A lifetime is a name without a second quote behind its first character.
            let mut after = rest.chars().skip(1);
            match (after.next(), after.next()) {
                (Some('\\'), _) => 4 + rest.get(3..).and_then(|it| it.find('\'')).unwrap_or(0),
                (Some(letter), Some('\'')) => 2 + letter.len_utf8(),
                _ => {
                    1 + rest
                        .get(1..)
                        .and_then(|it| it.find(|it| !is_name(it)))
                        .unwrap_or(0)
                }
            }
        } else if is_name(first) {
            let len = rest.find(|it| !is_name(it)).unwrap_or(rest.len());
            words.push(rest.get(..len).unwrap_or_default().to_owned());
            len
        } else {
            if !first.is_whitespace() {
                words.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = rest.get(len.max(1)..).unwrap_or_default();
    }
    words
}

/// The bytes of a raw string with its quotes, if it is one.
fn raw_string_len(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let content = inner.trim_start_matches('#');
    let hashes = inner.len() - content.len();
    let content = content.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let len = content
        .find(&end)
        .map_or(content.len(), |at| at + end.len());
    Some(text.len() - content.len() + len)
}

/// The bytes of a string with its quotes.
fn string_len(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, it) in text.char_indices().skip(1) {
        match it {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_import_goes_up() {
        if let Err(why) = show() {
            panic!("{why:#}");
        }
    }

    #[test]
    fn the_design_names_every_static() {
        let design = fs::read_to_string(folders::root().join("docs/DESIGN.md")).unwrap();
        let rows: Vec<&str> = design
            .lines()
            .filter(|line| line.starts_with('|'))
            .collect();
        let mut statics = BTreeMap::new();
        for it in CRATES {
            let found = read(&folders::root().join(it.sources)).unwrap();
            let is_driver = it.sources.contains("frontends");
            assert!(
                !is_driver || found.statics.is_empty(),
                "{:?}",
                found.statics
            );
            statics.extend(found.statics);
        }
        // Both ways: a row for what is no more is wrong, too.
        let named = rows
            .iter()
            .filter(|row| row.starts_with("| `") && row.contains(".rs`"));
        let named: usize = named
            .filter_map(|row| row.split('|').nth(2))
            .map(|names| names.split(',').count())
            .sum();
        let there: BTreeSet<(&PathBuf, &String)> = statics
            .iter()
            .flat_map(|(file, names)| names.iter().map(move |name| (file, name)))
            .collect();
        // One is declared where it is used and defined by `entry!`.
        assert_eq!(named, there.len() - 1, "{there:?}");
        for (file, names) in &statics {
            let file = format!("`{}`", file.display());
            let row = rows.iter().find(|row| row.contains(&file));
            let row = row.unwrap_or_else(|| panic!("{file} has statics: {names:?}"));
            for name in names {
                assert!(row.contains(&format!("`{name}`")), "{file}: {name}");
            }
        }
    }

    fn found(files: &[(&str, &str)]) -> Found {
        let rooms = files.iter().map(|(path, _)| room_of(Path::new(path)));
        let mut found = Found {
            rooms: rooms.collect(),
            ..Found::default()
        };
        for (path, text) in files {
            found.note(Path::new(path), &words(text));
        }
        found
    }

    fn arrows(found: &Found) -> Vec<String> {
        let arrows = found.arrows.keys();
        arrows.map(|(from, to)| format!("{from} {to}")).collect()
    }

    #[test]
    fn imports_are_found_in_all_forms() {
        let found = found(&[
            ("lib.rs", ""),
            ("high/mod.rs", "use crate::{low::{A, B}, Error, middle};"),
            (
                "high/inner.rs",
                "use super::{super::other::X, near}; mod a { use super::super::super::low::Y; }",
            ),
            (
                "high/part.rs",
                "use super::super::other::X; use super::here; super::deep();",
            ),
            (
                "middle.rs",
                "const S: &str = r#\"crate::\"high\"#; fn f() { super::low::g(\"crate::high\"); 'a: loop {} } // crate::high",
            ),
            ("low.rs", "macro_rules! m { () => { $crate::high::X } }"),
            (
                "other.rs",
                "const C: char = '\"'; use crate::low as l; pub(crate) fn f() {}",
            ),
        ]);
        let wanted = [
            "high lib",
            "high low",
            "high middle",
            "high other",
            "middle low",
            "other low",
        ];
        assert_eq!(arrows(&found), wanted);
        assert!(found.circles().is_empty());
    }

    #[test]
    fn an_arrow_up_and_a_circle_are_found() {
        let found = found(&[
            ("lib.rs", ""),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::c::C;"),
            ("c.rs", "use crate::a::A;"),
        ]);
        let up = found.up(&["a", "b", "c", "lib"]);
        let up: Vec<_> = up.keys().map(|(from, to)| format!("{from} {to}")).collect();
        assert_eq!(up, ["a b", "b c"]);
        assert_eq!(found.circles(), [["a", "b", "c"]]);
    }

    #[test]
    fn statics_and_unsafe_are_counted_by_file() {
        let found = found(&[(
            "a.rs",
            "static A: u8 = 0; static mut B_1: u8 = 0; fn f(_: &'static str) { unsafe { f() } }",
        )]);
        assert_eq!(found.statics[Path::new("a.rs")], ["A", "B_1"]);
        assert_eq!(found.unsafes[Path::new("a.rs")], 1);
    }
}
