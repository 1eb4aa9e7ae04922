//! Which lines of the guest's source ran: a breakpoint at the first instruction of
//! each, which is taken away when it is first met.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use guest_names::Names;

use super::emulate::FORCED;

const BREAKPOINT: u8 = 0xcc;
/// How the places begin that this project's kernels turn into traps at boot: push -38;
/// pop rax.
const PATCHED: [u8; 3] = [0x6a, 0xda, 0x58];

/// A place in the code.
#[derive(Debug)]
struct Point {
    /// What is there, but for the breakpoint.
    code: u8,
    /// The number of the file, and the line.
    line: (usize, u32),
    /// A breakpoint still stands there.
    stands: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Coverage {
    files: Vec<String>,
    points: Mutex<BTreeMap<u64, Point>>,
    report: PathBuf,
}

impl Coverage {
    /// Puts breakpoints into the code of a kernel, whose addresses `image` are; in
    /// `code` is what is there. The report is written at the end.
    pub(super) fn plant(
        kernel: &Path,
        image: Range<u64>,
        code: &mut [u8],
        report: &Path,
    ) -> io::Result<Self> {
        // What cannot be written is to be known before the guest runs.
        fs::write(report, "")
            .map_err(|error| io::Error::other(format!("{}: {error}", report.display())))?;
        let rows = Names::of(kernel).rows(image.clone());
        if rows.is_empty() {
            let what = "there is no debug information in it, which coverage needs";
            return Err(io::Error::other(format!("{}: {what}", kernel.display())));
        }
        let (mut files, mut numbers) = (Vec::new(), BTreeMap::new());
        let mut points = BTreeMap::new();
        for row in rows {
            let at = row.address.wrapping_sub(image.start) as usize;
            let (before, here) = code.split_at_mut(at.min(code.len()));
            let Some(byte) = here.first().copied() else {
                continue;
            };
            // Not a library's, of which there is no source here.
            if byte == BREAKPOINT
                || here.starts_with(&PATCHED)
                || before.ends_with(&FORCED)
                || !Path::new(&row.file).exists()
            {
                continue;
            }
            let number = *numbers.entry(row.file.clone()).or_insert_with(|| {
                files.push(row.file);
                files.len() - 1
            });
            points.entry(row.address).or_insert(Point {
                code: byte,
                line: (number, row.line),
                stands: true,
            });
        }
        for address in points.keys() {
            code[(address - image.start) as usize] = BREAKPOINT;
        }
        Ok(Self {
            files,
            points: Mutex::new(points),
            report: report.to_owned(),
        })
    }

    /// Takes the breakpoint at an address away, if one is there: what the code is
    /// without it.
    pub(super) fn take(&self, address: u64) -> Option<u8> {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        let point = points.get_mut(&address)?;
        point.stands = false;
        Some(point.code)
    }

    /// Writes the report, as lcov and its like read it, and says how many of how many
    /// lines ran.
    pub(super) fn write(&self) -> io::Result<(usize, usize)> {
        let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: BTreeMap<(usize, u32), bool> = BTreeMap::new();
        for point in points.values() {
            *lines.entry(point.line).or_default() |= !point.stands;
        }
        let mut text = String::new();
        let (mut ran, mut all) = (0, 0);
        for (number, file) in self.files.iter().enumerate() {
            let (mut ran_here, mut all_here) = (0, 0);
            let _always_room = write!(text, "TN:\nSF:{file}\n");
            for ((_, line), has_run) in lines.range((number, 0)..(number + 1, 0)) {
                let _always_room = writeln!(text, "DA:{line},{}", u8::from(*has_run));
                ran_here += usize::from(*has_run);
                all_here += 1;
            }
            let _always_room = write!(text, "LF:{all_here}\nLH:{ran_here}\nend_of_record\n");
            (ran, all) = (ran + ran_here, all + all_here);
        }
        fs::write(&self.report, text)?;
        Ok((ran, all))
    }
}
