//! How small a guest is: its file, and the memory that it needs.

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::{
    exit::Ended,
    guest::{self, Build},
    job::{Job, Platform},
    run::run,
    say::say,
};

/// The most memory that is tried.
const MOST_MIB: u32 = 64;

/// Prints the sizes.
pub(crate) fn report(guest: &str) -> Result<u8> {
    let kernel = fs::read(guest::build(guest, Build::Kernel)?)?;
    say!("{guest}: {} bytes stripped", stripped_bytes(&kernel)?);
    for platform in [Platform::XenPv, Platform::XenPvh, Platform::Qemu] {
        let least = least_memory_mib(guest, platform)?;
        say!("{guest} on {}: {least} MiB", platform.name());
    }
    Ok(0)
}

/// What a loader reads: the file up to the end of the last segment.
fn stripped_bytes(kernel: &[u8]) -> Result<u64> {
    let header = object::elf::FileHeader64::<object::Endianness>::parse(kernel)?;
    let endian = header.endian()?;
    header
        .program_headers(endian, kernel)?
        .iter()
        .filter(|segment| segment.p_filesz(endian) > 0)
        .map(|segment| segment.p_offset(endian) + segment.p_filesz(endian))
        .max()
        .context("the image has no segments")
}

/// The least memory with which a guest powers off, found by running it.
fn least_memory_mib(guest: &str, platform: Platform) -> Result<u32> {
    let boots = |memory_mib| -> Result<bool> {
        let job = Job {
            memory_mib,
            timeout: Duration::from_secs(15),
            ..Job::new(guest, platform)
        };
        Ok(run(&job)?.ended == Ended::Shutdown(0))
    };
    if !boots(MOST_MIB)? {
        bail!(
            "{guest} does not even boot in {MOST_MIB} MiB on {}",
            platform.name()
        );
    }
    let (mut too_little, mut enough) = (0, MOST_MIB);
    while enough - too_little > 1 {
        let middle = too_little.midpoint(enough);
        if boots(middle)? {
            enough = middle;
        } else {
            too_little = middle;
        }
    }
    Ok(enough)
}
