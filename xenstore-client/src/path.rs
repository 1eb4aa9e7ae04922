//! What the server takes as a path.

use hypercall_abi::io::xs_wire::{XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX};

/// A path that the server may take: `/`-separated names of letters, digits and
/// `-_@`, absolute, or relative to the domain's own directory; or, for watches,
/// one of the special ones, which begin with `@`. Source: `docs/misc/xenstore.txt`.
///
/// ```
/// use xenstore_client::{Path, PathError};
///
/// assert!(Path::new("/local/domain/0/name").is_ok());
/// assert!(Path::new("device/vif/0").is_ok());
/// assert_eq!(Path::new("a//b"), Err(PathError::EmptyName));
/// assert_eq!(Path::new("a b"), Err(PathError::Character));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path<'a>(&'a str);

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// There is nothing.
    Empty,
    /// Two slashes in a row, or one at the end.
    EmptyName,
    /// A character that paths do not have.
    Character,
    /// Longer than 3072 bytes, or 2048 if it is relative.
    TooLong,
}

impl core::fmt::Display for PathError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Empty => "a path is empty",
            Self::EmptyName => "a path has an empty name in it",
            Self::Character => "a path has a character that paths do not have",
            Self::TooLong => "a path is too long",
        })
    }
}

impl core::error::Error for PathError {}

impl<'a> Path<'a> {
    /// Checks a text.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn new(text: &'a str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        let is_absolute = text.starts_with('/');
        let most = if is_absolute {
            XENSTORE_ABS_PATH_MAX
        } else {
            XENSTORE_REL_PATH_MAX
        };
        if text.len() > most {
            return Err(PathError::TooLong);
        }
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte);
        if !text.bytes().all(good) {
            return Err(PathError::Character);
        }
        let names = text.strip_prefix('/').unwrap_or(text);
        if text != "/" && names.split('/').any(str::is_empty) {
            return Err(PathError::EmptyName);
        }
        Ok(Self(text))
    }

    /// The text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether it begins at the root.
    pub fn is_absolute(self) -> bool {
        self.0.starts_with('/')
    }

    /// Whether it is one of those that can only be watched.
    pub fn is_special(self) -> bool {
        self.0.starts_with('@')
    }
}

impl core::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}
