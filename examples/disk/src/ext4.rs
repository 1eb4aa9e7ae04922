//! An ext4 file system: what is on it, and whether it is right.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};

use ext4_view::{Ext4, PathBuf};
use pv_guest::{adapt::blocking, blkfront::Volume, println};
use sha2::{Digest, Sha256};

/// Files up to this size are printed.
const PRINTED_BYTES: u64 = 256;
/// Where the sums of all files are.
const SUMS: &str = "/SHA256SUMS";

pub(crate) fn show(volume: Volume<'static>) -> Result<(), String> {
    let files = Ext4::load(Box::new(blocking(volume))).map_err(|error| error.to_string())?;
    list(&files)?;
    check(&files)
}

/// Lists all files, folder by folder.
fn list(files: &Ext4) -> Result<(), String> {
    let mut folders = Vec::from([PathBuf::new("/")]);
    while let Some(folder) = folders.pop() {
        let entries = files.read_dir(&folder).map_err(|error| error.to_string())?;
        for entry in entries {
            let entry = entry.map_err(|error| error.to_string())?;
            let name = entry.file_name();
            if name == "." || name == ".." || name == "lost+found" {
                continue;
            }
            let path = entry.path();
            let data = entry.metadata().map_err(|error| error.to_string())?;
            println!("  {:>8} {}", data.len(), path.display());
            if data.is_dir() {
                folders.push(path);
            } else if data.file_type().is_regular_file() && data.len() <= PRINTED_BYTES {
                print_text(files, &path)?;
            }
        }
    }
    Ok(())
}

fn print_text(files: &Ext4, path: &PathBuf) -> Result<(), String> {
    let bytes = files.read(path).map_err(|error| error.to_string())?;
    if let Ok(text) = core::str::from_utf8(&bytes) {
        for line in text.lines() {
            println!("           | {line}");
        }
    }
    Ok(())
}

/// Compares all files that the sums name.
fn check(files: &Ext4) -> Result<(), String> {
    let Ok(sums) = files.read_to_string(SUMS) else {
        println!("  there is no {SUMS}");
        return Ok(());
    };
    let mut right = 0;
    for line in sums.lines() {
        let (sum, name) = line
            .split_once("  ")
            .ok_or_else(|| format!("{SUMS}: {line:?} is no sum and name"))?;
        let bytes = files
            .read(format!("/{name}").as_str())
            .map_err(|error| error.to_string())?;
        let found: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if found != sum {
            return Err(format!("{name} is not what {SUMS} says"));
        }
        right += 1;
    }
    println!("  {right} files are what {SUMS} says");
    Ok(())
}
