//! How bytes come to the server and back.

#[cfg(feature = "ring")]
pub(crate) mod ring;
#[cfg(feature = "std")]
pub(crate) mod stream;

use core::{
    future::Future,
    task::{Context, Poll},
    time::Duration,
};

/// What state the connection is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Bytes can be sent and received.
    Up,
    /// It just broke, and is being made anew: told once.
    Lost,
    /// It is being made anew.
    Waiting,
    /// It is over.
    Dead,
}

/// Whether a connection is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It is: nothing of the old one comes any more.
    Begun,
    /// It goes on as it was.
    NotOffered,
}

/// A way to the server. Its methods are called by one user at a time, except
/// for [`block_on`](Self::block_on).
pub trait Transport {
    /// Looks after the connection.
    fn link(&self) -> Link;

    /// Sends what it can now, and says how many bytes that were.
    fn send(&self, bytes: &[u8]) -> usize;

    /// Receives what is there now, and says how many bytes that were.
    fn receive(&self, buffer: &mut [u8]) -> usize;

    /// Has the task woken when there may be something to do; ready: there is
    /// now. The last task that asks is the one that is woken.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Makes the connection anew, if the server can do that.
    fn reconnect(&self) -> Renewal;

    /// Runs a future of this client's for so long at the most, and sleeps while
    /// it waits.
    fn block_on<F: Future>(&self, most: Option<Duration>, future: F) -> Option<F::Output>;
}
