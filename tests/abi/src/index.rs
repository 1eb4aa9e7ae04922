//! The index of the crate's documentation: from names in C to names here.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use hypercall_abi::facts::{self, Caller};

use crate::{compare::Ours, left_out};

/// The root of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Where it lies.
const FILE: &str = "hypercall-abi/INDEX.md";

/// Compares the file with what it should be, or writes it. Returns how many
/// places are wrong.
pub(crate) fn check(out: &mut dyn io::Write, ours: &Ours, write: bool) -> Result<usize> {
    let path = root().join(FILE);
    let text = text(ours)?;
    if write {
        fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(out, "{FILE} is written\n")?;
        return Ok(0);
    }
    if fs::read_to_string(&path).unwrap_or_default() == text {
        writeln!(out, "{FILE} is as it should be\n")?;
        return Ok(0);
    }
    writeln!(
        out,
        "{FILE} is out of date; mend it with: cargo lab abi --write-index\n"
    )?;
    Ok(1)
}

fn caller(caller: Caller) -> &'static str {
    match caller {
        Caller::Any => "all",
        Caller::Pv => "PV",
        Caller::Hvm => "HVM, PVH",
        Caller::WithInterrupts => "PV; HVM with `XENFEAT_hvm_pirqs`",
        Caller::Privileged => "privileged",
        Caller::Arm => "on Arm",
    }
}

/// Operations of hypercalls: one that PV and HVM guests make with other arguments, by two
/// functions, is one.
fn operations() -> usize {
    let names: std::collections::BTreeSet<_> =
        facts::CALLS.iter().map(|call| call.c_name).collect();
    names.len()
}

fn text(ours: &Ours) -> Result<String> {
    let mut text = String::from(
        "From the names in Xen's headers to the names here.\n\n\
         Every item can also be found by its C name in the search field above.\n\n",
    );
    writeln!(
        text,
        "| | covered |\n|---|---|\n| operations | {} |\n| functions for them | {} |\n\
         | structures | {} |\n| constants | {} |\n\n\
         `cargo lab abi` compares each of them with the headers of Xen 4.20 and 4.17.\n",
        operations(),
        facts::CALLS.len(),
        ours.structs.len(),
        ours.numbers.len() + ours.texts.len()
    )?;
    text.push_str("# Calls\n\n| C | Rust | which guests |\n|---|---|---|\n");
    let mut calls: Vec<_> = facts::CALLS.iter().collect();
    calls.sort_by_key(|call| call.c_name);
    for call in calls {
        let path = call.function.trim_start_matches("crate::");
        writeln!(
            text,
            "| `{}` | [`{path}`](crate::{path}) | {} |",
            call.c_name,
            caller(call.caller)
        )?;
    }
    text.push_str("\n# Structures\n\n| C | Rust | bytes |\n|---|---|---|\n");
    let mut structs: Vec<_> = facts::MODULES
        .iter()
        .flat_map(|module| {
            let structs = module.structs.iter().copied().flatten();
            structs.map(|fact| (fact.c_name, fact.rust_name, module.path, fact.size))
        })
        .collect();
    structs.sort_unstable();
    for (c, rust, module, size) in structs {
        writeln!(
            text,
            "| `{c}` | [`{module}::{rust}`](crate::{module}::{rust}) | {size} |"
        )?;
    }
    text.push_str(
        "\n# What is left out\n\nAn interface is left out if only the toolstack, the initial \
         domain or a device model may use it, if Xen no longer has it, or if it is no interface \
         but a convenience of C's.\n",
    );
    for (what, list) in [
        ("Headers", left_out::HEADERS),
        ("Structures", left_out::STRUCTS),
        ("Constants", left_out::CONSTANTS),
        ("Calls", left_out::CALLS),
    ] {
        writeln!(text, "\n| {what} | why |\n|---|---|")?;
        for (name, why) in list {
            writeln!(text, "| `{name}` | {why} |")?;
        }
    }
    Ok(text)
}
