//! What Xen's own headers say, by way of a C compiler: structures from the
//! debug information that it writes, numbers and texts from constants that it
//! is made to evaluate.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol};

use crate::dwarf;

/// A field of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// What a compound type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Struct,
    Union,
}

/// A structure or a union.
#[derive(Clone, Debug)]
pub(crate) struct Compound {
    pub(crate) header: String,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) fields: Vec<Field>,
}

/// A macro or an enumerator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(i128),
    Text(String),
}

/// All that one set of headers says.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The headers that were read, by their paths in the set.
    pub(crate) headers: Vec<String>,
    pub(crate) compounds: BTreeMap<String, Compound>,
    /// Header and value, by name.
    pub(crate) values: BTreeMap<String, (String, Value)>,
    /// Macros with a body that is neither a number nor a text.
    pub(crate) other_macros: BTreeMap<String, String>,
}

/// What headers need around them: they are made for a kernel's sources.
const PRELUDE: &str = "#include <stdint.h>\n#include <stddef.h>\n#include <string.h>\n\
                       #define xen_mb()\n#define xen_rmb()\n#define xen_wmb()\n\
                       #include <xen/xen.h>\n#include <xen/event_channel.h>\n\
                       #include <xen/grant_table.h>\n";

/// All headers below `root`, by their paths there.
pub(crate) fn list(root: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "h") {
                let inside = path.strip_prefix(root)?;
                found.insert(inside.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}

/// The interface version that headers want their user to ask for.
pub(crate) fn latest_version(root: &Path) -> Result<String> {
    let text = fs::read_to_string(root.join("xen-compat.h"))
        .with_context(|| format!("no xen-compat.h in {}", root.display()))?;
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("#define __XEN_LATEST_INTERFACE_VERSION__ "))
        .context("xen-compat.h names no version")?;
    Ok(version.trim().to_owned())
}

/// A compiler, the headers, and a folder for what it writes.
struct Compiler<'a> {
    root: &'a Path,
    folder: PathBuf,
    version: String,
}

impl Compiler<'_> {
    fn command(&self) -> Command {
        let mut gcc = Command::new("gcc");
        gcc.arg("-I")
            .arg(self.folder.join("include"))
            .arg(format!("-D__XEN_INTERFACE_VERSION__={}", self.version))
            .args(["-std=gnu11", "-w", "-fmax-errors=0"]);
        gcc
    }

    /// Compiles a text, and returns the object file; or what the compiler says.
    fn compile(&self, text: &str) -> Result<Result<Vec<u8>, String>> {
        let source = self.folder.join("source.c");
        let target = self.folder.join("target.o");
        fs::write(&source, text)?;
        let output = self
            .command()
            .args(["-g", "-fno-eliminate-unused-debug-types", "-c", "-o"])
            .arg(&target)
            .arg(&source)
            .output()
            .context("cannot run gcc; install it with: sudo apt-get install -y gcc libc6-dev")?;
        if output.status.success() {
            return Ok(Ok(fs::read(&target)?));
        }
        Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// The macros without arguments that `headers` define: header by name.
    fn macros(&self, includes: &str, headers: &[String]) -> Result<BTreeMap<String, String>> {
        let source = self.folder.join("source.c");
        fs::write(&source, includes)?;
        let output = self
            .command()
            .args(["-E", "-dD"])
            .arg(&source)
            .output()
            .context("cannot run gcc")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut found = BTreeMap::new();
        let mut header = None;
        for line in text.lines() {
            if let Some(marker) = line.strip_prefix("# ") {
                let file = marker.split('"').nth(1).unwrap_or("");
                header = self.header_of(file, headers);
            } else if let Some(definition) = line.strip_prefix("#define ")
                && let Some(header) = &header
            {
                let (name, body) = definition.split_once(' ').unwrap_or((definition, ""));
                if !name.contains('(') && !body.trim().is_empty() {
                    found.insert(name.to_owned(), header.clone());
                }
            } else if let Some(name) = line.strip_prefix("#undef ") {
                found.remove(name);
            }
        }
        Ok(found)
    }

    /// Which of `headers` a file is, however it was reached.
    fn header_of(&self, file: &str, headers: &[String]) -> Option<String> {
        let inside = Path::new(file)
            .strip_prefix(self.folder.join("include/xen"))
            .ok()?;
        let mut plain = PathBuf::new();
        for part in inside.components() {
            match part {
                std::path::Component::ParentDir => {
                    plain.pop();
                }
                part => plain.push(part),
            }
        }
        let plain = plain.to_string_lossy().into_owned();
        headers.contains(&plain).then_some(plain)
    }

    /// Evaluates those macros that `declare` makes valid declarations of.
    fn evaluate<'n>(
        &self,
        includes: &str,
        names: impl Iterator<Item = &'n String>,
        declare: impl Fn(&str) -> String,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut names: Vec<&String> = names.collect();
        let first_line = includes.lines().count() + 1;
        loop {
            let mut text = includes.to_owned();
            for name in &names {
                writeln!(text, "{}", declare(name))?;
            }
            match self.compile(&text)? {
                Ok(object) => return symbols(&object),
                Err(complaints) => {
                    // Drop the lines that the compiler does not take. An error
                    // may lie where a macro was defined: a note leads to us.
                    let bad: BTreeSet<usize> = complaints
                        .lines()
                        .filter(|line| line.contains("error:") || line.contains("note: in exp"))
                        .filter(|line| line.contains("source.c:"))
                        .filter_map(|line| {
                            let mut parts = line.rsplit("source.c:").next()?.split(':');
                            let number: usize = parts.next()?.parse().ok()?;
                            number.checked_sub(first_line)
                        })
                        .collect();
                    if bad.is_empty() {
                        bail!("gcc does not take the headers:\n{complaints}");
                    }
                    let mut index = 0;
                    names.retain(|_| {
                        index += 1;
                        !bad.contains(&(index - 1))
                    });
                }
            }
        }
    }
}

/// The content of the variables `v_NAME`.
fn symbols(object: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let file = object::File::parse(object)?;
    let mut found = BTreeMap::new();
    for symbol in file.symbols() {
        let Some(name) = symbol.name().ok().and_then(|name| name.strip_prefix("v_")) else {
            continue;
        };
        let Some(index) = symbol.section_index() else {
            continue;
        };
        let section = file.section_by_index(index)?;
        let len = usize::try_from(symbol.size())?;
        let start = usize::try_from(symbol.address())?;
        let data = section.data()?;
        // A section without content is all zero.
        let bytes = data
            .get(start..start + len)
            .map_or_else(|| vec![0; len], <[u8]>::to_vec);
        found.insert(name.to_owned(), bytes);
    }
    Ok(found)
}

/// Reads those of the headers below `root` that are named.
pub(crate) fn read(root: &Path, headers: &[String]) -> Result<Facts> {
    let folder = tempfile::tempdir().context("cannot make a folder for gcc")?;
    let include = folder.path().join("include");
    fs::create_dir(&include)?;
    std::os::unix::fs::symlink(fs::canonicalize(root)?, include.join("xen"))?;
    let compiler = Compiler {
        root,
        folder: folder.path().to_path_buf(),
        version: latest_version(root)?,
    };
    let mut includes = PRELUDE.to_owned();
    for header in headers {
        writeln!(includes, "#include <xen/{header}>")?;
    }
    let object = match compiler.compile(&includes)? {
        Ok(object) => object,
        Err(complaints) => bail!(
            "gcc does not take {}:\n{complaints}",
            compiler.root.display()
        ),
    };
    let mut facts = Facts {
        headers: headers.to_vec(),
        ..Facts::default()
    };
    dwarf::read(&object, &mut facts, |file| {
        compiler.header_of(file, headers)
    })?;

    let macros = compiler.macros(&includes, headers)?;
    // Sixteen bytes: the sign of a number survives.
    let numbers = compiler.evaluate(&includes, macros.keys(), |name| {
        format!("const __int128 v_{name} = (__int128)(({name}) + 0);")
    })?;
    let texts = compiler.evaluate(
        &includes,
        macros.keys().filter(|name| !numbers.contains_key(*name)),
        |name| format!("const char v_{name}[] = {name};"),
    )?;
    for (name, header) in macros {
        let number = numbers
            .get(&name)
            .and_then(|bytes| bytes.as_slice().try_into().ok())
            .map(|bytes| Value::Number(i128::from_le_bytes(bytes)));
        let text = texts.get(&name).map(|bytes| {
            let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
            Value::Text(String::from_utf8_lossy(text).into_owned())
        });
        match number.or(text) {
            Some(value) => {
                facts.values.insert(name, (header, value));
            }
            None => {
                facts.other_macros.insert(name, header);
            }
        }
    }
    Ok(facts)
}
