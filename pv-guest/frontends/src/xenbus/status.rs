//! How things are between a device and its backend, for those who use it.

use xenstore_client::Error;

use super::{Fault, Stop};

/// How things are between a device and its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// There is no connection yet, or no longer: whoever needs one waits.
    Connecting,
    /// There is none because of this fault, which may pass; it was met so many times in a
    /// row. The connection, or its end when it is closed, is tried again after a pause, and
    /// whoever needs one waits.
    Retrying {
        /// Why.
        fault: Fault,
        /// How often.
        attempts: u32,
    },
    /// It works.
    Connected,
    /// The backend misbehaved, or is not to stay: nothing works until the connection is made
    /// anew.
    Broken(Fault),
    /// There is no such device: nothing works until there is one again.
    Gone,
    /// It was closed, and the store says so, unless it refused that for good.
    Closed,
}

impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Connecting => f.write_str("it is being connected"),
            Self::Retrying { fault, attempts } => {
                write!(
                    f,
                    "it cannot be connected, {attempts} times in a row: {fault}"
                )
            }
            Self::Connected => f.write_str("it is connected"),
            Self::Broken(fault) => write!(f, "it is out of order: {fault}"),
            Self::Gone => f.write_str("it was taken away"),
            Self::Closed => f.write_str("it was closed"),
        }
    }
}

impl Status {
    /// What it is for good after [`Bus::serve`](super::Bus::serve) ended so.
    pub(crate) fn at_end(outcome: Result<(), Error>) -> Self {
        match outcome {
            Ok(()) => Self::Closed,
            Err(error) => Self::Broken(Fault::Store(error.kind)),
        }
    }
}

impl From<Stop> for Status {
    fn from(why: Stop) -> Self {
        match why {
            Stop::Lost => Self::Connecting,
            Stop::Broken(fault) => Self::Broken(fault),
            Stop::Gone => Self::Gone,
            Stop::Closed => Self::Closed,
        }
    }
}
