//! How large the examples are, and what of.

use std::{collections::BTreeMap, fmt::Write, fs, io::Write as _, process::Command};

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use super::{Device, doc, table::number};
use crate::{
    build::guest::{self, Build},
    checks::{matrix::Column, size::stripped_bytes},
};

/// The smallest guest, and what others have more.
const GUESTS: [&str; 4] = ["hello", "disk", "echo", "web"];
/// How far an image may be from what the table says of it, in percent: compilers differ.
const TOLERANCE_PERCENT: u64 = 3;

/// Parts of an image, and what the path of a function's name begins with that belongs to each.
/// The first that is found counts. Other functions are the language's.
const PARTS: [(&str, &[&str]); 9] = [
    (
        "network",
        &["pv_frontends::net::", "smoltcp", "managed", "heapless"],
    ),
    (
        "its frontend",
        &[
            "pv_frontends::netfront",
            "pv_frontends::adapters::stack",
            "pv_frontends::adapters::smoltcp",
        ],
    ),
    (
        "files",
        &[
            "ext4_view",
            "embedded_sdmmc",
            "pv_frontends::adapters",
            "crc",
        ],
    ),
    ("disk's frontend", &["pv_frontends::blkfront"]),
    ("HTTP", &["picoserve", "web"]),
    (
        "the bus and the store",
        &[
            "pv_frontends::xenbus",
            "pv_frontends::buffers",
            "xenstore_client",
        ],
    ),
    ("events and grants", &["event_channels", "grant_tables"]),
    (
        "start, memory, console, tasks",
        &["pv_guest", "hypercall_abi", "talc"],
    ),
    ("the example", &["hello", "disk", "echo", "sha2"]),
];
const REST: &str = "core and alloc";
const DATA: &str = "data";

/// What an image is made of.
struct Sizes {
    bytes: u64,
    compressed_bytes: u64,
    parts: BTreeMap<&'static str, u64>,
}

impl Sizes {
    fn of(guest: &str) -> Result<Self> {
        let kernel = fs::read(guest::build(guest, Build::Kernel)?)?;
        let bytes = stripped_bytes(&kernel)?;
        let image = object::File::parse(kernel.as_slice())?;
        let mut parts = BTreeMap::new();
        let mut code_bytes = 0;
        for symbol in image.symbols().filter(|one| one.kind() == SymbolKind::Text) {
            let name = format!("{:#}", rustc_demangle::demangle(symbol.name()?));
            *parts.entry(part(&name)).or_default() += symbol.size();
            code_bytes += symbol.size();
        }
        let text = image.section_by_name(".text").context("no .text")?;
        ensure!(
            code_bytes <= text.size(),
            "the functions of {guest} are larger than its code"
        );
        // Between functions.
        *parts.entry(REST).or_default() += text.size() - code_bytes;
        parts.insert(DATA, bytes.saturating_sub(text.size()));
        let read = kernel.get(..usize::try_from(bytes)?).unwrap_or(&kernel);
        Ok(Self {
            bytes,
            compressed_bytes: gzip_bytes(read)?,
            parts,
        })
    }
}

/// The bytes that `gzip` makes of an image.
fn gzip_bytes(image: &[u8]) -> Result<u64> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(image)?;
    let output = Command::new("gzip")
        .args(["-9", "-c"])
        .arg(file.path())
        .output();
    let output = output.context("cannot run gzip")?;
    ensure!(output.status.success(), "gzip failed: {}", output.status);
    Ok(output.stdout.len() as u64)
}

/// Whose a function is: the first path in its name that is known.
fn part(name: &str) -> &'static str {
    let is_in = |prefix: &&str| {
        let mut at = 0;
        while let Some(found) = name[at..].find(*prefix) {
            let begin = at + found;
            let before = name[..begin].chars().next_back();
            if before.is_none_or(|before| !before.is_alphanumeric() && !"_:".contains(before)) {
                return true;
            }
            at = begin + prefix.len();
        }
        false
    };
    let found = PARTS
        .iter()
        .find(|(_, prefixes)| prefixes.iter().any(is_in));
    found.map_or(REST, |(part, _)| part)
}

/// Makes the table.
pub(super) fn run() -> Result<String> {
    let mut all = Vec::new();
    for guest in GUESTS {
        all.push((guest, Sizes::of(guest)?));
    }
    let mut text = String::from("\n| bytes |");
    for (guest, _) in &all {
        let _infallible = write!(text, " `{guest}` |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(all.len()));
    let mut row = |name: &str, of: &dyn Fn(&Sizes) -> Option<u64>| {
        let _infallible = write!(text, "\n| {name} |");
        for (_, sizes) in &all {
            let cell = of(sizes).map_or("-".to_owned(), |bytes| number(bytes as f64));
            let _infallible = write!(text, " {cell} |");
        }
    };
    row(WHOLE, &|sizes| Some(sizes.bytes));
    row("the same by `gzip -9`", &|sizes| {
        Some(sizes.compressed_bytes)
    });
    for part in PARTS.iter().map(|(part, _)| *part).chain([REST, DATA]) {
        row(part, &|sizes| sizes.parts.get(part).copied());
    }
    text.push('\n');
    Ok(text)
}

const WHOLE: &str = "what a loader reads";

/// That the table in the documentation is true.
pub(crate) fn check(_: Column) -> Result<()> {
    let table = doc::read(Device::Size)?;
    let row = table
        .lines()
        .find_map(|line| line.strip_prefix(&format!("| {WHOLE} |")))
        .with_context(|| format!("docs/BENCH.md has no row {WHOLE:?}"))?;
    let cells: Vec<&str> = row.trim_end_matches('|').split('|').collect();
    ensure!(cells.len() == GUESTS.len(), "the row of sizes is {row:?}");
    for (guest, cell) in GUESTS.iter().zip(cells) {
        let told: u64 = cell.trim().replace(',', "").parse()?;
        let kernel = fs::read(guest::build(guest, Build::Kernel)?)?;
        let bytes = stripped_bytes(&kernel)?;
        ensure!(
            bytes.abs_diff(told) * 100 <= told * TOLERANCE_PERCENT,
            "{guest} has {bytes} bytes, and docs/BENCH.md says {told}: \
             `cargo lab bench size --write` says of what"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_their_part() {
        for (name, known) in [
            ("pv_frontends::net::engine::Engine<P>::turn", "network"),
            (
                "<pv_frontends::netfront::Nic<P> as core::clone::Clone>::clone",
                "its frontend",
            ),
            (
                "core::ptr::drop_in_place<pv_frontends::blkfront::Disk>",
                "disk's frontend",
            ),
            ("web::run::{{closure}}", "HTTP"),
            ("core::str::from_utf8", REST),
            ("alloc::cobweb", REST),
        ] {
            assert_eq!(part(name), known, "{name}");
        }
    }
}
