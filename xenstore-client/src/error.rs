//! What can go wrong with a request.

use alloc::{borrow::ToOwned, string::String};

use hypercall_abi::{Errno, io::xs_wire::XsMessageType};

use crate::{PathError, Quota};

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
    /// domain), `EINVAL`, `EEXIST`, `EAGAIN` (the transaction met another),
    /// `ENOSYS` (no such request).
    Server(Errno),
    /// The server refused: the request would go over a quota of this domain.
    Quota {
        /// Which one.
        quota: Quota,
        /// The server's error: `ENOSPC` or `E2BIG`. (`EQUOTA`, which is oxenstored's
        /// and has no number, counts as `ENOSPC`.)
        errno: Errno,
    },
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
    /// Others changed what the transaction, or the list that came in parts, is about,
    /// too often.
    Conflicts,
    /// A list of names is longer than [`MAX_LIST_BYTES`](crate::MAX_LIST_BYTES), has more
    /// than [`MAX_NAMES`](crate::MAX_NAMES), or comes in too many parts.
    ListTooLong,
    /// The server leaves too many requests unanswered
    /// ([`MAX_ABANDONED`](crate::machine::MAX_ABANDONED)) whose callers did not wait for
    /// it: this one was not sent.
    Unanswered,
    /// The transaction was ended, because nobody went on with it while others waited for
    /// their turn ([`Client::end_idle_turns`](crate::Client::end_idle_turns)): nothing of
    /// it was done.
    Overtaken,
}

/// Whether the same request can succeed later without anybody's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It can: it is worth another try after a while.
    Transient,
    /// It cannot, until somebody changes the request, the store or a quota.
    Lasting,
}

impl ErrorKind {
    /// Whether the same request can succeed later.
    ///
    /// Transient are `EAGAIN`, `EBUSY`, `ENOMEM` (of the server), too many open
    /// transactions, [`Conflicts`](Self::Conflicts), [`TimedOut`](Self::TimedOut),
    /// [`Unanswered`](Self::Unanswered), [`Overtaken`](Self::Overtaken) and
    /// [`Disconnected`](Self::Disconnected); the last unless the connection is over
    /// ([`Link::Dead`](crate::Link::Dead)), which it does not say.
    pub const fn persistence(self) -> Persistence {
        match self {
            Self::Server(Errno::EAGAIN | Errno::EBUSY | Errno::ENOMEM)
            | Self::Quota {
                quota: Quota::Transactions,
                ..
            }
            | Self::Disconnected
            | Self::TimedOut
            | Self::Unanswered
            | Self::Conflicts
            | Self::Overtaken => Persistence::Transient,
            _ => Persistence::Lasting,
        }
    }

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
            ErrorKind::Server(errno) | ErrorKind::Quota { errno, .. } => Some(errno),
            _ => None,
        }
    }

    /// The quota that the request would go over, if the server refused for that.
    pub const fn quota(&self) -> Option<Quota> {
        match self.kind {
            ErrorKind::Quota { quota, .. } => Some(quota),
            _ => None,
        }
    }

    /// Whether the same request can succeed later: [`ErrorKind::persistence`].
    pub const fn persistence(&self) -> Persistence {
        self.kind.persistence()
    }

    pub(crate) fn with_path(self, path: &str) -> Self {
        self.kind.at(path)
    }
}

impl core::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Server(errno) => write!(f, "the store says {errno}"),
            Self::Quota { quota, errno } => write!(f, "over {quota}: {errno}"),
            Self::ServerUnknown => f.write_str("the store refused, and does not say why"),
            Self::Path(error) => error.fmt(f),
            Self::TooLong => f.write_str("the request is longer than 4096 bytes"),
            Self::Value(wanted) => write!(f, "the value is no {wanted}"),
            Self::Protocol(what) => write!(f, "the store broke its protocol: {what}"),
            Self::Disconnected => f.write_str("the connection to the store ended"),
            Self::TimedOut => f.write_str("the store did not answer in time"),
            Self::Conflicts => f.write_str("others changed it too often meanwhile"),
            Self::ListTooLong => f.write_str("the store's list of names is too long"),
            Self::Unanswered => f.write_str("the store leaves too many requests unanswered"),
            Self::Overtaken => f.write_str("the transaction waited too long, others went on"),
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
    // Of oxenstored alone.
    ("EQUOTA", Errno::ENOSPC),
];

/// The error of an `XS_ERROR`: the refused request's type, transaction and length, and
/// the payload of the answer.
pub(crate) fn from_server(
    kind: XsMessageType,
    tx_id: u32,
    len_bytes: usize,
    payload: &[u8],
) -> ErrorKind {
    let name = payload.strip_suffix(b"\0").unwrap_or(payload);
    let Some((_, errno)) = NAMES.iter().find(|(known, _)| known.as_bytes() == name) else {
        return ErrorKind::ServerUnknown;
    };
    match Quota::of(kind, tx_id, len_bytes, *errno) {
        Some(quota) => ErrorKind::Quota {
            quota,
            errno: *errno,
        },
        None => ErrorKind::Server(*errno),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn refusals_that_pass_are_told_from_those_that_last() {
        use Persistence::{Lasting, Transient};
        let refusal = |kind, payload: &[u8]| from_server(kind, 0, 20, payload);
        for (kind, payload, persistence) in [
            (
                XsMessageType::TRANSACTION_START,
                &b"ENOSPC\0"[..],
                Transient,
            ),
            (XsMessageType::TRANSACTION_START, b"EQUOTA\0", Transient),
            (XsMessageType::TRANSACTION_START, b"EBUSY\0", Transient),
            (XsMessageType::TRANSACTION_END, b"EAGAIN\0", Transient),
            (XsMessageType::WRITE, b"ENOMEM\0", Transient),
            (XsMessageType::WRITE, b"ENOSPC\0", Lasting),
            (XsMessageType::WRITE, b"EQUOTA\0", Lasting),
            (XsMessageType::WATCH, b"E2BIG\0", Lasting),
            (XsMessageType::READ, b"ENOENT\0", Lasting),
            (XsMessageType::READ, b"EWHAT\0", Lasting),
        ] {
            let error = refusal(kind, payload);
            assert_eq!(error.persistence(), persistence, "{kind:?} {error}");
        }
        assert_eq!(ErrorKind::Disconnected.persistence(), Transient);
        assert_eq!(ErrorKind::TooLong.persistence(), Lasting);
        let error = refusal(XsMessageType::WATCH, b"E2BIG\0").at("device/vbd");
        assert_eq!(error.errno(), Some(Errno::E2BIG));
        assert_eq!(error.quota(), Some(Quota::Watches));
        assert!(
            error
                .to_string()
                .starts_with("device/vbd: over the domain's quota of watches (128 by default): "),
            "{error}"
        );
    }
}
