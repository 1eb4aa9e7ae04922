//! What can go wrong in a guest.

use crate::memory::map::MapError;
use hypercall_abi::Errno;

/// Another crate's error, and how it is told. Only a guest that can meet the
/// error has the words for it in its image.
#[derive(Clone, Copy)]
pub struct Shown<E> {
    error: E,
    show: fn(&E, &mut core::fmt::Formatter<'_>) -> core::fmt::Result,
}

impl<E: core::fmt::Display> Shown<E> {
    /// The error, with its own words.
    pub const fn new(error: E) -> Self {
        Self {
            error,
            show: E::fmt,
        }
    }
}

impl<E> Shown<E> {
    /// The error.
    pub const fn error(&self) -> &E {
        &self.error
    }

    fn show(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        (self.show)(&self.error, f)
    }
}

impl<E: PartialEq> PartialEq for Shown<E> {
    fn eq(&self, other: &Self) -> bool {
        self.error == other.error
    }
}

impl<E: Eq> Eq for Shown<E> {}

impl<E: core::fmt::Debug> core::fmt::Debug for Shown<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.error.fmt(f)
    }
}

/// The daemon wrote an index that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl core::fmt::Display for Broken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the console's daemon broke the ring")
    }
}

impl core::error::Error for Broken {}

/// An error of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// What the loader handed over is not what its protocol says.
    StartInfo(&'static str),
    /// The memory map cannot be used.
    MemoryMap(MapError),
    /// There is not enough memory for what was tried.
    OutOfMemory(&'static str),
    /// The hypervisor refused.
    Hypercall {
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        errno: Errno,
    },
    /// The console's daemon misbehaved.
    Console(Broken),
    /// An event channel failed.
    Events(Shown<event_channels::Error>),
    /// A grant failed.
    Grants(Shown<grant_tables::Error>),
    /// Input ended.
    EndOfInput,
    /// Something that this platform does not have.
    NotSupported(&'static str),
    /// For the kernel's own use: `main` failed.
    Failed(&'static str),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const START_INFO: &str = "bad start information: ";
        let (before, what, after) = match self {
            Self::StartInfo(what) => (START_INFO, *what, ""),
            Self::MemoryMap(_) => (START_INFO, "", ""),
            Self::OutOfMemory(what) => ("not enough memory for ", *what, ""),
            Self::Hypercall { what, .. } => ("cannot ", *what, ": "),
            Self::Console(_) | Self::Events(_) | Self::Grants(_) => ("", "", ""),
            Self::EndOfInput => ("", "the input ended", ""),
            Self::NotSupported(what) => ("", *what, " is not available on this platform"),
            Self::Failed(what) => ("", *what, ""),
        };
        say(f, &[before, what, after])?;
        match self {
            Self::MemoryMap(error) => error.fmt(f),
            Self::Hypercall { errno, .. } => errno.fmt(f),
            Self::Console(error) => error.fmt(f),
            Self::Events(error) => error.show(f),
            Self::Grants(error) => error.show(f),
            _ => Ok(()),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::MemoryMap(error) => Some(error),
            Self::Hypercall { errno, .. } => Some(errno),
            Self::Console(error) => Some(error),
            Self::Events(error) => Some(&error.error),
            Self::Grants(error) => Some(&error.error),
            _ => None,
        }
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        Self::MemoryMap(error)
    }
}

impl From<Broken> for Error {
    fn from(error: Broken) -> Self {
        Self::Console(error)
    }
}

impl From<event_channels::Error> for Error {
    fn from(error: event_channels::Error) -> Self {
        Self::Events(Shown::new(error))
    }
}

impl From<grant_tables::Error> for Error {
    fn from(error: grant_tables::Error) -> Self {
        Self::Grants(Shown::new(error))
    }
}

/// The `?` of an `fmt::Write` on the console.
impl From<core::fmt::Error> for Error {
    fn from(_: core::fmt::Error) -> Self {
        Self::Failed("the console takes no output")
    }
}

/// Writes some texts as they are: without what `{}` has for widths and precisions, which
/// is a thousand bytes of an image.
#[inline(never)]
pub(crate) fn say(f: &mut core::fmt::Formatter<'_>, texts: &[&str]) -> core::fmt::Result {
    texts.iter().try_for_each(|text| f.write_str(text))
}

/// Names what was asked of the hypervisor.
pub(crate) fn asking(what: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Hypercall { what, errno }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn errors_say_what_was_tried() {
        for (error, expected) in [
            (
                Error::StartInfo("its magic"),
                "bad start information: its magic",
            ),
            (
                Error::MemoryMap(MapError::BadEntry(0x1f)),
                "bad start information: the memory map has an entry at 0x1f that ends before it",
            ),
            (Error::OutOfMemory("tables"), "not enough memory for tables"),
            (
                asking("open a port")(Errno::ENOSPC),
                "cannot open a port: No space left (ENOSPC)",
            ),
            (
                Error::Console(Broken),
                "the console's daemon broke the ring",
            ),
            (
                event_channels::Error::NoMemory.into(),
                &event_channels::Error::NoMemory.to_string(),
            ),
            (Error::EndOfInput, "the input ended"),
            (
                Error::NotSupported("the store"),
                "the store is not available on this platform",
            ),
            (Error::Failed("it did not work"), "it did not work"),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }
}
