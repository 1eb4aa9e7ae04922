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
    /// The backend works for a frontend that was here before, and has to end that first.
    Busy,
    /// The backend ended soon after it was connected, again and again.
    Ended,
    /// The backend has ended and is not to stay: the toolstack takes the device away.
    TakenAway,
    /// A node of the device's own directory has a value that it cannot have.
    Device {
        /// Its name.
        key: &'static str,
        /// Its value.
        value: Quote,
    },
}

/// The beginning of a value, for people to read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    bytes: [u8; Self::MAX_BYTES],
    /// Of the whole value.
    len_bytes: usize,
}

impl Quote {
    /// How much of a value is kept.
    pub const MAX_BYTES: usize = 24;

    /// Of this value.
    pub fn new(value: &[u8]) -> Self {
        let mut bytes = [0; Self::MAX_BYTES];
        for (kept, byte) in bytes.iter_mut().zip(value) {
            *kept = *byte;
        }
        Self {
            bytes,
            len_bytes: value.len(),
        }
    }
}

impl core::fmt::Display for Quote {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kept = self.bytes.get(..self.len_bytes).unwrap_or(&self.bytes);
        let more = if self.len_bytes > Self::MAX_BYTES {
            "..."
        } else {
            ""
        };
        write!(f, "\"{}{more}\"", kept.escape_ascii())
    }
}

impl core::fmt::Debug for Quote {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "the backend does not say its {name}"),
            Self::Value(name) => write!(f, "invalid value in the backend's key {name}"),
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
            Self::Busy => {
                f.write_str("the backend works for an earlier frontend, and has not ended that yet")
            }
            Self::Ended => f.write_str("the backend ends as soon as it is connected"),
            Self::TakenAway => f.write_str(
                "the toolstack takes it away (its backend has ended, and is not to stay)",
            ),
            Self::Device { key, value } => {
                write!(f, "invalid value {value} in the device's key {key}")
            }
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

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn values_are_quoted_as_far_as_they_are_kept() {
        for (value, shown) in [
            (&b""[..], r#""""#),
            (b"0.0", r#""0.0""#),
            (b"\xff\n\"", r#""\xff\n\"""#),
            (&[b'7'; 24], r#""777777777777777777777777""#),
            (&[b'7'; 25], r#""777777777777777777777777...""#),
        ] {
            assert_eq!(Quote::new(value).to_string(), shown);
        }
    }
}
