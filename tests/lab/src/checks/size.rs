//! How small a guest is: its file, and the memory that it needs.

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use object::{
    Object, ObjectSymbol,
    read::elf::{FileHeader, ProgramHeader},
};

use crate::{
    build::guest::{self, Build},
    checks::matrix::Column,
    job::{Job, Platform, exit::Ended},
    platforms::run::run,
    say::say,
};

/// The most memory that is tried.
const MAX_MIB: u32 = 64;

/// The smallest guest is no larger than this, for all platforms in one image.
const MAX_BYTES: u64 = 32 << 10;
/// The least memory in which it boots.
const MIN_MIB: [(Platform, u32); 3] = [
    (Platform::XenPv, 4),
    (Platform::XenPvh, 2),
    (Platform::Qemu, 2),
];

/// That the smallest guest is as small as it was, and boots in as little memory.
pub(crate) fn check(column: Column) -> Result<()> {
    const GUEST: &str = "hello";
    let kernel = fs::read(guest::build(GUEST, Build::Kernel)?)?;
    // Half a kilobyte is what a panic says of itself.
    ensure!(
        !has_symbol(&kernel, "rust_begin_unwind")?,
        "something in {GUEST} can panic: `objdump -d` says what calls `panic_fmt`"
    );
    let bytes = stripped_bytes(&kernel)?;
    ensure!(
        bytes <= MAX_BYTES,
        "{GUEST} has {bytes} bytes, more than {MAX_BYTES}: `nm --size-sort` says of what"
    );
    for (platform, memory_mib) in MIN_MIB {
        if platform == column.platform {
            let job = Job {
                xen: column.xen,
                ..job_of(GUEST, platform, memory_mib)
            };
            let ended = run(&job)?.ended;
            ensure!(
                ended == Ended::Shutdown(0),
                "{GUEST} ends in {memory_mib} MiB by {ended}"
            );
        }
    }
    Ok(())
}

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
pub(crate) fn stripped_bytes(kernel: &[u8]) -> Result<u64> {
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

/// Whether a symbol of the kernel's has this in its name.
fn has_symbol(kernel: &[u8], part: &str) -> Result<bool> {
    let kernel = object::File::parse(kernel)?;
    let has = |symbol: object::Symbol<'_, '_>| symbol.name().is_ok_and(|name| name.contains(part));
    Ok(kernel.symbols().any(has))
}

fn job_of(guest: &str, platform: Platform, memory_mib: u32) -> Job {
    Job {
        memory_mib,
        timeout: Duration::from_secs(15),
        ..Job::new(guest, platform)
    }
}

/// The least memory with which a guest powers off, found by running it.
fn least_memory_mib(guest: &str, platform: Platform) -> Result<u32> {
    let boots = |memory_mib| -> Result<bool> {
        Ok(run(&job_of(guest, platform, memory_mib))?.ended == Ended::Shutdown(0))
    };
    if !boots(MAX_MIB)? {
        bail!(
            "{guest} does not even boot in {MAX_MIB} MiB on {}",
            platform.name()
        );
    }
    let (mut too_little, mut enough) = (0, MAX_MIB);
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
