//! A FAT file system: what is on it, and a file of the guest's own.

use alloc::{format, string::String, vec, vec::Vec};

use embedded_sdmmc::{Mode as Open, TimeSource, Timestamp, VolumeIdx, VolumeManager};
use pv_guest::{
    adapt::blocking,
    blkfront::{Mode, Volume},
    println, time,
};

/// Files up to this size are printed.
const PRINTED_BYTES: u32 = 256;
/// The file that is written.
const OWN_FILE: &str = "GUEST.TXT";
/// How large it is.
const OWN_BYTES: usize = 100_000;

/// Dates of files, from the wall clock.
struct WallClock;

impl TimeSource for WallClock {
    fn get_timestamp(&self) -> Timestamp {
        let seconds = time::wall_clock_ns().unwrap_or(0) / 1_000_000_000;
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Counted from the first of March of the year 0, in eras of 400 years: so
        // the day that leap years have is their last.
        let days = days + 719_468;
        let era = days / 146_097;
        let day = days % 146_097;
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let (late, of_month) = (month >= 10, of_year - (153 * month + 2) / 5);
        let month = if late { month - 10 } else { month + 2 };
        Timestamp {
            year_since_1970: (year + era * 400 + u64::from(late) - 1970) as u8,
            zero_indexed_month: month as u8,
            zero_indexed_day: of_month as u8,
            hours: (rest / 3600) as u8,
            minutes: (rest / 60 % 60) as u8,
            seconds: (rest % 60) as u8,
        }
    }
}

pub(crate) fn show(disk: &Volume<'static>, index: usize, mode: Mode) -> Result<(), String> {
    let manager = VolumeManager::new(blocking(disk.clone()), WallClock);
    let text = |error: &dyn core::fmt::Debug| format!("FAT: {error:?}");
    let volume = manager
        .open_volume(VolumeIdx(index))
        .map_err(|error| text(&error))?;
    let root = volume.open_root_dir().map_err(|error| text(&error))?;
    let mut files = Vec::new();
    root.iterate_dir(|entry| {
        files.push((entry.name, entry.size));
        core::ops::ControlFlow::Continue(())
    })
    .map_err(|error| text(&error))?;
    for (name, size) in files {
        println!("  {size:>8} {name}");
        if let 1..=PRINTED_BYTES = size {
            let file = root
                .open_file_in_dir(name, Open::ReadOnly)
                .map_err(|error| text(&error))?;
            let mut bytes = [0; PRINTED_BYTES as usize];
            let len = file.read(&mut bytes).map_err(|error| text(&error))?;
            if let Ok(content) = core::str::from_utf8(bytes.get(..len).unwrap_or(&[])) {
                for line in content.lines() {
                    println!("           | {line}");
                }
            }
        }
    }
    if mode == Mode::ReadOnly {
        return Ok(());
    }
    let bytes = own_bytes();
    let file = root
        .open_file_in_dir(OWN_FILE, Open::ReadWriteCreateOrTruncate)
        .map_err(|error| text(&error))?;
    file.write(&bytes).map_err(|error| text(&error))?;
    file.close().map_err(|error| text(&error))?;
    let file = root
        .open_file_in_dir(OWN_FILE, Open::ReadOnly)
        .map_err(|error| text(&error))?;
    let mut read = vec![0; OWN_BYTES];
    let mut len = 0;
    while let Some(rest) = read.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(|error| text(&error))? {
            0 => break,
            more => len += more,
        }
    }
    if read != bytes {
        return Err(format!("{OWN_FILE} is not what was written"));
    }
    println!("  wrote {OWN_FILE}, {OWN_BYTES} bytes, and read it back");
    Ok(())
}

/// Numbered lines, which are easy to check elsewhere.
fn own_bytes() -> Vec<u8> {
    let lines = (1..).flat_map(|line: u32| format!("line {line:05}\n").into_bytes());
    lines.take(OWN_BYTES).collect()
}
