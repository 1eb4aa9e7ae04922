//! Why a grant could not be had.

use hypercall_abi::{Errno, grant_table::GrantStatus};

/// Why memory could not be lent, borrowed or copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// This guest has a grant table, or had one of which something is left.
    Taken,
    /// The two grants are of another table.
    OtherTable,
    /// All references are taken, and the table is as large as it may be.
    NoReference,
    /// No pages are left.
    NoMemory,
    /// This is no memory that can be lent or copied: not of this platform, or
    /// with a frame number that an entry of version 1 cannot hold.
    NotMemory,
    /// More pages at once than [`MAX_BATCH`](crate::MAX_BATCH).
    TooMany,
    /// A grant of this very domain, which mapping would move.
    OwnGrant,
    /// Only version 2 of the table can do that.
    NeedsVersion2,
    /// The hypervisor refused the grant.
    Status(GrantStatus),
    /// The hypervisor refused the call.
    Other(Errno),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOMEM => Self::NoMemory,
            other => Self::Other(other),
        }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = match self {
            Self::Taken => "this guest has a grant table already",
            Self::OtherTable => "the grants are of another table",
            Self::NoReference => "no reference is free",
            Self::NoMemory => "out of memory",
            Self::NotMemory => "this memory cannot be granted",
            Self::TooMany => "too many pages at once",
            Self::OwnGrant => "this domain's own grants cannot be mapped here",
            Self::NeedsVersion2 => "the table's version cannot do that",
            Self::Status(status) => return write!(f, "grant: {status}"),
            Self::Other(errno) => return write!(f, "grant: {errno}"),
        };
        write!(f, "grant: {text}")
    }
}

impl core::error::Error for Error {}
