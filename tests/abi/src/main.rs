//! What `hypercall-abi` says, beside what Xen's headers say: `cargo lab abi`
//! finds the headers and runs this.

mod c;
mod compare;
mod dwarf;
mod index;
mod left_out;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;

use c::Facts;
use compare::{Comparison, Count, Ours};

/// Compares hypercall-abi with Xen's own headers, by a C compiler.
#[derive(Debug, Parser)]
#[command(name = "abi", version)]
struct Cli {
    /// Headers: a name, and a folder that has xen.h
    #[arg(long, value_name = "NAME=FOLDER", value_parser = set)]
    headers: Vec<Set>,
    /// Write the index of the crate's documentation anew
    #[arg(long)]
    write_index: bool,
}

/// A set of headers.
#[derive(Clone, Debug)]
struct Set {
    name: String,
    root: PathBuf,
}

fn set(text: &str) -> Result<Set, String> {
    let (name, root) = text.split_once('=').unwrap_or((text, text));
    Ok(Set {
        name: name.to_owned(),
        root: root.into(),
    })
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = std::io::stdout().lock();
    match report(&mut out, &cli.headers, cli.write_index) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("abi: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// Compares with every set of headers; returns how many places are wrong.
fn report(out: &mut dyn Write, sets: &[Set], write_index: bool) -> Result<usize> {
    let ours = Ours::all();
    let mut bad = 0;
    let mut all = Vec::new();
    for set in sets {
        let (theirs, outcome) = one(&set.root, &ours)?;
        all.push(theirs);
        writeln!(
            out,
            "{}, interface {}",
            set.name,
            c::latest_version(&set.root)?
        )?;
        writeln!(out, "            covered  left out   missing")?;
        for (what, count) in [
            ("headers", outcome.headers),
            ("structures", outcome.structs),
            ("fields", outcome.fields),
            ("constants", outcome.constants),
            ("calls", outcome.calls),
        ] {
            line(out, what, count)?;
        }
        for complaint in &outcome.complaints {
            writeln!(out, "  {complaint}")?;
        }
        writeln!(out)?;
        bad += outcome.complaints.len();
    }
    let unknown = compare::unknown(&ours, &all);
    for complaint in &unknown {
        writeln!(out, "{complaint}")?;
    }
    bad += unknown.len();
    bad += index::check(out, &ours, write_index)?;
    writeln!(
        out,
        "{} sets of headers: {bad} places are missing or differ",
        sets.len()
    )?;
    Ok(bad)
}

fn line(out: &mut dyn Write, what: &str, count: Count) -> Result<()> {
    writeln!(
        out,
        "{what:10} {:8} {:9} {:9}",
        count.covered, count.left_out, count.missing
    )?;
    Ok(())
}

fn one(root: &Path, ours: &Ours) -> Result<(Facts, Comparison)> {
    let (headers, left_out) = compare::headers_to_read(&c::list(root)?);
    let theirs = c::read(root, &headers)?;
    let mut outcome = compare::compare(&theirs, ours);
    outcome.headers.left_out = left_out;
    Ok((theirs, outcome))
}
