//! Kernels' files, good ones and others, and what becomes of each: for tests of this
//! builder, and for its comparison with Xen's own.

mod elf;
mod packed;
mod table;

pub use elf::{Elf, NotesAt, Part};
pub use packed::{Packed, bz_image, gzip};
pub use table::{BASE, Sample, table};

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not started.
    Refused,
    /// It is started, and powers off.
    Runs,
    /// It is started, and does not come to that.
    Crashes,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refused => "is refused",
            Self::Runs => "runs",
            Self::Crashes => "crashes",
        })
    }
}
