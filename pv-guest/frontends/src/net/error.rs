//! Why a connection did not do what was asked.

use crate::netfront;

/// Why a stack, a listener or a stream did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The network interface does not work any more.
    Interface(netfront::Error),
    /// An address is not that of a host.
    NotUnicast,
    /// Somebody listens at this port already.
    PortInUse(u16),
    /// There is no connection or no memory left for another.
    NoRoom,
    /// There is no way to this address: nothing of its family is known here.
    NoRoute,
    /// The other end does not want the connection, or was silent for too long.
    NotConnected,
    /// The connection has ended otherwise than by its ends' wish: the other end reset it, or
    /// was silent for too long.
    Reset,
    /// The other end takes nothing.
    TimedOut,
    /// This end has been closed: nothing more can be written.
    Closed,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Interface(error) => return error.fmt(f),
            Self::NotUnicast => "an address is not that of a host",
            Self::PortInUse(port) => return write!(f, "port {port} is in use"),
            Self::NoRoom => "there is no room for another connection",
            Self::NoRoute => "there is no way to the address",
            Self::NotConnected => "the other end does not answer",
            Self::Reset => "the connection was reset",
            Self::TimedOut => "the other end takes nothing",
            Self::Closed => "the connection was closed",
        })
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Interface(error) => Some(error),
            _ => None,
        }
    }
}

impl From<netfront::Error> for Error {
    fn from(error: netfront::Error) -> Self {
        Self::Interface(error)
    }
}

impl embedded_io_async::Error for Error {
    fn kind(&self) -> embedded_io_async::ErrorKind {
        use embedded_io_async::ErrorKind;

        match self {
            Self::Interface(_) => ErrorKind::NotConnected,
            Self::NotUnicast | Self::NoRoute => ErrorKind::AddrNotAvailable,
            Self::PortInUse(_) => ErrorKind::AddrInUse,
            Self::NoRoom => ErrorKind::OutOfMemory,
            Self::NotConnected => ErrorKind::ConnectionRefused,
            Self::Reset => ErrorKind::ConnectionReset,
            Self::TimedOut => ErrorKind::TimedOut,
            Self::Closed => ErrorKind::BrokenPipe,
        }
    }
}
