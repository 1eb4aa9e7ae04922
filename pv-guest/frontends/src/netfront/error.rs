//! Why a network interface did not do what was asked.

use crate::{
    buffers::NoBuffer,
    xenbus::{Fault, Status},
};

/// Why a packet was not sent, or none can be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Longer than a packet may be.
    TooLong,
    /// The backend cannot do that.
    NotSupported(&'static str),
    /// The backend passes no more multicast groups: Linux's passes 64.
    GroupRefused,
    /// The backend did not send it.
    Dropped,
    /// The backend went away before it said whether it had sent it.
    Lost,
    /// The backend misbehaved: see [`Nic::reconnect`](super::Nic::reconnect).
    Broken(Fault),
    /// The device was taken away.
    Gone,
    /// The interface was closed.
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

impl Error {
    /// Why nothing works, if nothing does.
    pub(crate) const fn of(status: Status) -> Option<Self> {
        match status {
            Status::Connecting | Status::Retrying { .. } | Status::Connected => None,
            Status::Broken(fault) => Some(Self::Broken(fault)),
            Status::Gone => Some(Self::Gone),
            Status::Closed => Some(Self::Closed),
        }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = match self {
            Self::TooLong => "the packet is too long",
            Self::NotSupported(what) => return write!(f, "network: the backend has no {what}"),
            Self::GroupRefused => "the backend passes no more multicast groups",
            Self::Dropped => "the backend dropped the packet",
            Self::Lost => "the backend went away",
            Self::Broken(fault) => return write!(f, "network: {fault}"),
            Self::Gone => "the interface was taken away",
            Self::Closed => "the interface was closed",
            Self::NoMemory => "not enough memory",
            Self::Quarantine => "its backends keep too many of its pages",
            Self::NotReady(status) => return write!(f, "network: not ready in time: {status}"),
        };
        write!(f, "network: {text}")
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
