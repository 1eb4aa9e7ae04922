//! A port at which clients are let in.

use core::{convert::Infallible, future::poll_fn, task::Poll};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hypercall_abi::platform::Platform;

use super::{Error, Stack, Stream};

/// A port at which clients are let in, until this is dropped. Those who come while nobody
/// [accepts](Self::accept) wait.
#[derive(Debug)]
pub struct Listener<'g, P: Platform> {
    stack: Stack<'g, P>,
    port: u16,
}

impl<'g, P: Platform> Listener<'g, P> {
    pub(super) const fn new(stack: Stack<'g, P>, port: u16) -> Self {
        Self { stack, port }
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Waits for a client. One waits at a time.
    ///
    /// # Errors
    /// [`Error::Interface`].
    pub async fn accept(&self) -> Result<Stream<'g, P>, Error> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &core::task::Context<'_>) -> Poll<Result<Stream<'g, P>, Error>> {
        let accepted = self.stack.with(|engine| engine.poll_accept(self.port, cx));
        accepted.map(|id| Ok(Stream::new(self.stack.clone(), id?)))
    }

    /// Lets all clients in, and runs `client` for each, all at once. Only those run who can
    /// go on, however many there are.
    ///
    /// # Errors
    /// [`Error::Interface`]: it ends with that.
    pub async fn serve(&self, client: impl AsyncFn(Stream<'g, P>)) -> Result<Infallible, Error> {
        let mut clients = FuturesUnordered::new();
        poll_fn(|cx| {
            while let Poll::Ready(stream) = self.poll_accept(cx) {
                match stream {
                    Ok(stream) => clients.push(client(stream)),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            while let Poll::Ready(Some(())) = clients.poll_next_unpin(cx) {}
            Poll::Pending
        })
        .await
    }
}

impl<P: Platform> Drop for Listener<'_, P> {
    fn drop(&mut self) {
        self.stack.with(|engine| engine.unlisten(self.port));
        // Always: those who are turned away have left something to send, unseen.
        self.stack.0.wake_runner();
    }
}
