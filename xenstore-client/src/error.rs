//! What can go wrong with a request.

use alloc::{borrow::ToOwned, string::String};

use hypercall_abi::Errno;

use crate::PathError;

/// A request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The path that it was about, if it was about one.
    pub path: Option<String>,
    /// Why.
    pub kind: ErrorKind,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server refused: `ENOENT` (no such node), `EACCES` (not for this
    /// domain), `EINVAL`, `EEXIST`, `ENOSPC` and `E2BIG` (over a quota),
    /// `EAGAIN` (the transaction met another), `ENOSYS` (no such request).
    Server(Errno),
    /// The server refused, with an error that has no number here.
    ServerUnknown,
    /// This is no path.
    Path(PathError),
    /// The request is longer than 4096 bytes.
    TooLong,
    /// The value is not of the type that was asked for.
    Value(&'static str),
    /// The answer is not what the protocol says.
    Protocol(&'static str),
    /// The connection ended, or began anew, before the answer came: the request
    /// may have been carried out or not.
    Disconnected,
    /// The answer did not come in time.
    TimedOut,
    /// The transaction met others too often.
    Conflicts,
}

impl ErrorKind {
    pub(crate) fn at(self, path: &str) -> Error {
        Error {
            path: Some(path.to_owned()),
            kind: self,
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { path: None, kind }
    }
}

impl Error {
    /// The server's error number, if it was the server that refused.
    pub const fn errno(&self) -> Option<Errno> {
        match self.kind {
            ErrorKind::Server(errno) => Some(errno),
            _ => None,
        }
    }

    pub(crate) fn with_path(self, path: &str) -> Self {
        self.kind.at(path)
    }
}

impl core::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Server(errno) => write!(f, "the store says {errno}"),
            Self::ServerUnknown => f.write_str("the store refused, and does not say why"),
            Self::Path(error) => error.fmt(f),
            Self::TooLong => f.write_str("the request is longer than 4096 bytes"),
            Self::Value(wanted) => write!(f, "the value is no {wanted}"),
            Self::Protocol(what) => write!(f, "the store broke its protocol: {what}"),
            Self::Disconnected => f.write_str("the connection to the store ended"),
            Self::TimedOut => f.write_str("the store did not answer in time"),
            Self::Conflicts => f.write_str("the transaction met others too often"),
        }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{path}: {}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

/// The errors that the server knows by name. Source: `xsd_errors`, `xs_wire.h`.
const NAMES: &[(&str, Errno)] = &[
    ("EINVAL", Errno::EINVAL),
    ("EACCES", Errno::EACCES),
    ("EEXIST", Errno::EEXIST),
    ("EISDIR", Errno::EISDIR),
    ("ENOENT", Errno::ENOENT),
    ("ENOMEM", Errno::ENOMEM),
    ("ENOSPC", Errno::ENOSPC),
    ("EIO", Errno::EIO),
    ("ENOTEMPTY", Errno::ENOTEMPTY),
    ("ENOSYS", Errno::ENOSYS),
    ("EROFS", Errno::EROFS),
    ("EBUSY", Errno::EBUSY),
    ("EAGAIN", Errno::EAGAIN),
    ("EISCONN", Errno::EISCONN),
    ("E2BIG", Errno::E2BIG),
    ("EPERM", Errno::EPERM),
];

/// The error of an `XS_ERROR`.
pub(crate) fn from_server(payload: &[u8]) -> ErrorKind {
    let name = payload.strip_suffix(b"\0").unwrap_or(payload);
    let known = NAMES.iter().find(|(known, _)| known.as_bytes() == name);
    known.map_or(ErrorKind::ServerUnknown, |(_, errno)| {
        ErrorKind::Server(*errno)
    })
}
