//! `cargo lab abi`: what `hypercall-abi` says, beside what Xen's headers say.

mod c;
mod compare;
mod dwarf;
mod index;
mod left_out;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::packages;
use c::Facts;
use compare::{Comparison, Count, Ours};

/// A set of headers.
struct Set {
    name: String,
    root: PathBuf,
}

/// Compares with every set of headers there is, and with those of `more`.
pub(crate) fn report(more: &[PathBuf], write_index: bool) -> Result<u8> {
    let mut sets = Vec::new();
    {
        let _lock = packages::lock()?;
        for (name, tree) in packages::ensure_headers()? {
            sets.push(Set {
                name,
                root: tree.join("usr/include/xen"),
            });
        }
    }
    for root in more {
        sets.push(Set {
            name: root.display().to_string(),
            root: root.clone(),
        });
    }
    let ours = Ours::all();
    let mut bad = 0;
    let mut all = Vec::new();
    for set in &sets {
        let (theirs, outcome) = one(&set.root, &ours)?;
        all.push(theirs);
        println!("{}, interface {}", set.name, c::latest_version(&set.root)?);
        println!("            covered  left out   missing");
        for (what, count) in [
            ("headers", outcome.headers),
            ("structures", outcome.structs),
            ("fields", outcome.fields),
            ("constants", outcome.constants),
            ("calls", outcome.calls),
        ] {
            line(what, count);
        }
        for complaint in &outcome.complaints {
            println!("  {complaint}");
        }
        println!();
        bad += outcome.complaints.len();
    }
    let unknown = compare::unknown(&ours, &all);
    for complaint in &unknown {
        println!("{complaint}");
    }
    bad += unknown.len();
    bad += index::check(&ours, write_index)?;
    println!(
        "{} sets of headers: {bad} places are missing or differ",
        sets.len()
    );
    Ok(u8::from(bad > 0))
}

fn line(what: &str, count: Count) {
    println!(
        "{what:10} {:8} {:9} {:9}",
        count.covered, count.left_out, count.missing
    );
}

fn one(root: &Path, ours: &Ours) -> Result<(Facts, Comparison)> {
    let (headers, left_out) = compare::headers_to_read(&c::list(root)?);
    let theirs = c::read(root, &headers)?;
    let mut outcome = compare::compare(&theirs, ours);
    outcome.headers.left_out = left_out;
    Ok((theirs, outcome))
}
