//! Why a device cannot be used.

use xenstore_client::ErrorKind;

/// What a backend did, or what this side lacks, that makes a device unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A node that there must be is not there.
    Missing(&'static str),
    /// A node has a value that it cannot have.
    Value(&'static str),
    /// The backend cannot do what this driver needs.
    Lacks(&'static str),
    /// The backend wrote an impossible index into a ring.
    Ring,
    /// The backend answered something that was not asked.
    Response(&'static str),
    /// A grant could not be made.
    Grants(grant_tables::Error),
    /// A port could not be had.
    Events(event_channels::Error),
    /// Not enough memory.
    NoMemory,
    /// The store refused.
    Store(ErrorKind),
    /// The backend ended before it was connected: it could not use what it was told.
    Refused,
    /// Backends that were let go keep too many of the device's pages.
    Quarantine,
    /// Another driver of this guest's has the device.
    Taken,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "the backend does not say its {name}"),
            Self::Value(name) => write!(f, "the backend's {name} makes no sense"),
            Self::Lacks(what) => write!(f, "the backend has no {what}"),
            Self::Ring => f.write_str("the backend wrote an impossible index into a ring"),
            Self::Response(what) => write!(f, "the backend answered {what}"),
            Self::Grants(error) => error.fmt(f),
            Self::Events(error) => error.fmt(f),
            Self::NoMemory => f.write_str("not enough memory"),
            Self::Store(error) => error.fmt(f),
            Self::Refused => f.write_str(
                "the backend ended before it was connected (its domain's log may say why; \
                 a wrong backend-id is one reason)",
            ),
            Self::Quarantine => f.write_str("earlier backends keep too many of its pages"),
            Self::Taken => f.write_str("another driver of this guest has the device"),
        }
    }
}

impl core::error::Error for Fault {}

impl From<grant_tables::Error> for Fault {
    fn from(error: grant_tables::Error) -> Self {
        Self::Grants(error)
    }
}

impl From<event_channels::Error> for Fault {
    fn from(error: event_channels::Error) -> Self {
        Self::Events(error)
    }
}

impl From<hypercall_abi::io::ring::Broken> for Fault {
    fn from(_: hypercall_abi::io::ring::Broken) -> Self {
        Self::Ring
    }
}
