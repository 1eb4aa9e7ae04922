//! Why a disk did not do what was asked.

use crate::{
    buffers::NoBuffer,
    xenbus::{Fault, Status},
};

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The disk could not read or write (a bad sector, no space behind it). Of a
    /// write, any part may have been done.
    Io,
    /// The disk cannot do that.
    NotSupported(&'static str),
    /// The disk cannot be written.
    ReadOnly,
    /// Beyond the disk's end.
    OutOfRange,
    /// Not a whole number of the disk's sectors.
    Unaligned,
    /// The backend misbehaved: see
    /// [`Disk::reconnect`](super::Disk::reconnect).
    Broken(Fault),
    /// The device was taken away. Of a write, any part may have been done.
    Gone,
    /// The disk was closed.
    Closed,
    /// Not enough memory.
    NoMemory,
    /// Backends keep more than
    /// [`MAX_QUARANTINED_PAGES`](crate::xenbus::MAX_QUARANTINED_PAGES) of the device's
    /// pages that were to be given back: no buffer is lent until they let go of some.
    Quarantine,
    /// It was not connected in time.
    NotReady(Status),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = match self {
            Self::Io => "input or output failed",
            Self::NotSupported(what) => return write!(f, "disk: it has no {what}"),
            Self::ReadOnly => "it is read-only",
            Self::OutOfRange => "beyond its end",
            Self::Unaligned => "not a whole number of its sectors",
            Self::Broken(fault) => return write!(f, "disk: {fault}"),
            Self::Gone => "it was taken away",
            Self::Closed => "it was closed",
            Self::NoMemory => "not enough memory",
            Self::Quarantine => "its backends keep too many of its pages",
            Self::NotReady(status) => return write!(f, "disk: not ready in time: {status}"),
        };
        write!(f, "disk: {text}")
    }
}

impl From<NoBuffer> for Error {
    fn from(why: NoBuffer) -> Self {
        match why {
            NoBuffer::Memory => Self::NoMemory,
            NoBuffer::Hoarded => Self::Quarantine,
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Broken(fault) => Some(fault),
            _ => None,
        }
    }
}
