//! A disk that a guest is given.

use std::{path::PathBuf, str::FromStr};

/// A disk that a guest is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    pub(crate) access: Access,
}

/// What a guest may do with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl FromStr for Disk {
    type Err = String;

    /// `FILE` or `FILE:ro`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (path, access) = match text.strip_suffix(":ro") {
            Some(path) => (path, Access::Read),
            None => (text, Access::Write),
        };
        if path.contains([',', '\n', '"', '\\']) {
            return Err("a disk's path has a comma or a quote in it".into());
        }
        Ok(Self {
            path: path.into(),
            access,
        })
    }
}
