//! How things are between a device and its backend, for those who use it.

use super::{Fault, Stop};

/// How things are between a device and its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is no connection yet, or no longer: whoever needs one waits.
    Connecting,
    /// It works.
    Connected,
    /// The backend misbehaved: nothing works until the connection is made anew.
    Broken(Fault),
    /// There is no such device: nothing works until there is one again.
    Gone,
    /// It was closed.
    Closed,
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
