//! Why a channel could not be had.

use hypercall_abi::Errno;

/// Why a channel could not be opened or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// This guest has its [`Ports`](crate::Ports) already, or had some of the FIFO
    /// interface.
    Taken,
    /// All ports are taken.
    NoPort,
    /// There is no such domain.
    NoDomain,
    /// There is no such vCPU.
    NoVcpu,
    /// The interrupt has a port already.
    Bound,
    /// The other side offers no such port, or the port cannot do that.
    NotOffered,
    /// Not for this domain.
    NotAllowed,
    /// The hypervisor has no such call.
    NotSupported,
    /// No pages are left.
    NoMemory,
    /// Anything else.
    Other(Errno),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOSPC => Self::NoPort,
            Errno::ESRCH => Self::NoDomain,
            Errno::ENOENT => Self::NoVcpu,
            Errno::EEXIST => Self::Bound,
            Errno::EINVAL => Self::NotOffered,
            Errno::EPERM => Self::NotAllowed,
            Errno::ENOSYS | Errno::EOPNOTSUPP => Self::NotSupported,
            Errno::ENOMEM => Self::NoMemory,
            other => Self::Other(other),
        }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = match self {
            Self::Taken => "this guest has its ports already",
            Self::NoPort => "no port is free",
            Self::NoDomain => "no such domain",
            Self::NoVcpu => "no such vCPU",
            Self::Bound => "already bound",
            Self::NotOffered => "the port is not offered, or cannot do that",
            Self::NotAllowed => "not allowed",
            Self::NotSupported => "not supported",
            Self::NoMemory => "out of memory",
            Self::Other(errno) => return write!(f, "event channel: {errno}"),
        };
        f.write_str("event channel: ")?;
        f.write_str(text)
    }
}

impl core::error::Error for Error {}
