//! Programs that cargo builds. If nothing that one is made of has changed since cargo
//! was asked last, cargo, which takes longer than a small guest, is not asked again.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

/// What else a program is made of, in the root of the workspace.
const COMMON: [&str; 3] = ["Cargo.toml", "Cargo.lock", ".cargo/config.toml"];
/// With these, cargo might make another one.
const VARIABLES: [&str; 4] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC",
    "RUSTC_WRAPPER",
];

/// Where cargo puts what it builds of the workspace with this root.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Has cargo build a program of the workspace with this root, unless it is as cargo
/// would make it already. Whether it is there then.
pub(crate) fn build(program: &Path, root: &Path, arguments: &[&str]) -> std::io::Result<bool> {
    if is_fresh(program, root) {
        return Ok(true);
    }
    let asked = SystemTime::now();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args(["build", "--target-dir"])
        // A user's own settings may name another folder.
        .arg(target_dir(root))
        .args(arguments);
    let built = cargo.status()?.success();
    if built {
        note(program, asked);
    }
    Ok(built)
}

/// Notes that cargo, asked at this time, found all in order.
fn note(program: &Path, asked: SystemTime) {
    let write = || {
        let mut file = File::create(stamp(program))?;
        file.write_all(age(program).unwrap_or_default().as_bytes())?;
        file.set_modified(asked)
    };
    // Without it, cargo is asked again.
    let _not_noted: std::io::Result<()> = write();
}

fn stamp(program: &Path) -> PathBuf {
    program.with_extension("asked")
}

/// When it was built, as a text.
fn age(program: &Path) -> Option<String> {
    let built = modified(program)?.duration_since(SystemTime::UNIX_EPOCH);
    Some(built.ok()?.as_nanos().to_string())
}

/// Whether cargo would find nothing to do for a program of the workspace with this
/// root: by the list of sources that it wrote beside the program. Another compiler
/// goes unseen: `cargo clean` then.
pub(crate) fn is_fresh(program: &Path, root: &Path) -> bool {
    if VARIABLES
        .iter()
        .any(|name| std::env::var_os(name).is_some())
    {
        return false;
    }
    let stamp = stamp(program);
    let (Some(asked), Ok(noted)) = (modified(&stamp), fs::read_to_string(&stamp)) else {
        return false;
    };
    // Somebody else may have built it since, and otherwise.
    if age(program) != Some(noted) {
        return false;
    }
    let Ok(list) = fs::read_to_string(program.with_extension("d")) else {
        return false;
    };
    let sources = sources(&list);
    let folders: BTreeSet<_> = sources.iter().filter_map(|path| path.parent()).collect();
    let manifests: BTreeSet<_> = folders.into_iter().filter_map(manifest).collect();
    let common = COMMON.iter().map(|name| root.join(name));
    // None is of this workspace where all of it, with what was built, is a copy.
    sources.iter().any(|path| path.starts_with(root))
        && (sources.iter().cloned().chain(manifests).chain(common))
            .all(|path| modified(&path).is_some_and(|time| time < asked))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// The manifest of the package that a folder is of.
fn manifest(folder: &Path) -> Option<PathBuf> {
    let mut manifests = folder.ancestors().map(|folder| folder.join("Cargo.toml"));
    manifests.find(|path| path.exists())
}

/// The paths behind the colon: a space in one has a backslash before it.
fn sources(list: &str) -> Vec<PathBuf> {
    let line = list.lines().next().unwrap_or("");
    let Some((_, sources)) = line.split_once(": ") else {
        return Vec::new();
    };
    const SPACE: &str = "\u{0}";
    let sources = sources.replace("\\ ", SPACE);
    let paths = sources.split_ascii_whitespace();
    paths.map(|path| path.replace(SPACE, " ").into()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sources_are_read() {
        let list = "/t/a: /w/x.rs /w/with\\ space.rs\n\n/w/x.rs:\n";
        let expected: [&Path; 2] = ["/w/x.rs".as_ref(), "/w/with space.rs".as_ref()];
        assert_eq!(sources(list), expected);
        assert!(sources("").is_empty() && sources("/t/a:\n").is_empty());
    }

    #[test]
    fn what_was_built_of_what_is_there_is_fresh() {
        let root = folder();
        for name in COMMON {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let (program, source) = (root.join("p"), root.join("s.rs"));
        fs::write(&program, "").unwrap();
        assert!(
            !is_fresh(&program, &root),
            "nothing says what it is made of"
        );
        let list = format!("p: {}\n", source.display());
        fs::write(program.with_extension("d"), list).unwrap();
        assert!(!is_fresh(&program, &root), "a source is gone");
        note(&program, SystemTime::now());
        assert!(!is_fresh(&program, &root), "a source is gone");
        fs::write(&source, "").unwrap();
        note(&program, SystemTime::UNIX_EPOCH);
        assert!(!is_fresh(&program, &root), "a source is newer");
        note(&program, SystemTime::now() + Duration::from_secs(1));
        assert_eq!(
            is_fresh(&program, &root),
            VARIABLES
                .iter()
                .all(|name| std::env::var_os(name).is_none())
        );
        let copy = Path::new("/nowhere");
        assert!(!is_fresh(&program, copy), "it is made of another workspace");
        fs::write(&program, "otherwise").unwrap();
        assert!(!is_fresh(&program, &root), "it was built otherwise");
        fs::remove_dir_all(root).unwrap();
    }

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("lab-fresh-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}
