//! A connection.

use core::{
    future::poll_fn,
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use hypercall_abi::platform::Platform;
use smoltcp::{
    socket::tcp::{self, State},
    wire::IpEndpoint,
};

use super::{
    Error, Stack,
    connection::{Connection, Id, has_room},
};
use crate::xenbus::Alarm;

/// A connection of TCP. It reads and writes as `embedded-io-async` has it, and by its own
/// methods of the same names.
///
/// Whoever is done with it [finishes](Self::finish) it, or waits for the other end
/// ([`shutdown`](Self::shutdown)); one that is dropped is aborted, and the other end told so.
#[derive(Debug)]
pub struct Stream<'g, P: Platform> {
    stack: Stack<'g, P>,
    /// None: the stack has it again.
    id: Option<Id>,
}

/// The half of a [`Stream`] that is read.
#[derive(Debug)]
pub struct ReadHalf<'a, 'g, P: Platform>(&'a Stream<'g, P>);

/// The half of a [`Stream`] that is written.
#[derive(Debug)]
pub struct WriteHalf<'a, 'g, P: Platform>(&'a Stream<'g, P>);

fn address(endpoint: IpEndpoint) -> SocketAddr {
    SocketAddr::new(endpoint.addr.into(), endpoint.port)
}

/// Why nothing more can be written.
const fn unwritable(state: State) -> Error {
    match state {
        State::Closed | State::Listen | State::SynSent | State::SynReceived => Error::Reset,
        _ => Error::Closed,
    }
}

impl<'g, P: Platform> Stream<'g, P> {
    pub(super) const fn new(stack: Stack<'g, P>, id: Id) -> Self {
        Self {
            stack,
            id: Some(id),
        }
    }

    /// Does something with the connection.
    fn with<T>(
        &self,
        act: impl FnOnce(&mut Connection, &mut tcp::Socket<'static>) -> Poll<Result<T, Error>>,
    ) -> Poll<Result<T, Error>> {
        self.stack.with(|engine| {
            if let Some(error) = engine.ended {
                return Poll::Ready(Err(error.into()));
            }
            match self.id.and_then(|id| engine.both(id)) {
                Some((connection, socket)) => act(connection, socket),
                None => Poll::Ready(Err(Error::Reset)),
            }
        })
    }

    /// The stack has something to do for it.
    fn touch(&self) {
        if let Some(id) = self.id {
            self.stack.touch(id);
        }
    }

    fn endpoint(
        &self,
        which: impl FnOnce(&tcp::Socket<'_>) -> Option<IpEndpoint>,
    ) -> Option<SocketAddr> {
        self.stack.with(|engine| {
            let socket = engine.socket(self.id?)?;
            which(socket).map(address)
        })
    }

    /// Whom it is with, while it lasts.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.endpoint(|socket| socket.remote_endpoint())
    }

    /// This end, while it lasts.
    pub fn local(&self) -> Option<SocketAddr> {
        self.endpoint(|socket| socket.local_endpoint())
    }

    /// Both halves, which may be used at once.
    pub const fn split(&mut self) -> (ReadHalf<'_, 'g, P>, WriteHalf<'_, 'g, P>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// Reads what has come, at least one byte; none: the other end has closed its side, or
    /// there is no room in `target`.
    ///
    /// # Errors
    /// [`Error::Reset`], [`Error::Interface`].
    pub async fn read(&mut self, target: &mut [u8]) -> Result<usize, Error> {
        ReadHalf(self).read(target).await
    }

    /// Writes some of `bytes`: as much as there is room for, when that is all of them or half
    /// of the stream's. What was written leaves soon; how the other end fares is not waited
    /// for.
    ///
    /// # Errors
    /// [`Error::Reset`], [`Error::TimedOut`], [`Error::Closed`], [`Error::Interface`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        WriteHalf(self).write(bytes).await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Waits until the other end has acknowledged all that was written.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub async fn acknowledged(&mut self) -> Result<(), Error> {
        self.room(usize::MAX).await
    }

    /// Nothing more is written: the other end is told so when it has all. What it still
    /// sends can be read.
    pub fn close(&mut self) {
        let _ended = self.with(|_, socket| {
            socket.close();
            Poll::Ready(Ok(()))
        });
        self.touch();
    }

    /// [Closes](Self::close) it, and leaves the rest to the stack: the other end gets what
    /// was written, what it still sends is not read, and a connection that is not over after
    /// [`Config::patience`](super::Config::patience) is aborted.
    pub fn finish(mut self) {
        self.close();
        if let Some(id) = self.id.take() {
            self.stack.with(|engine| engine.finish(id));
        }
    }

    /// [Closes](Self::close) it, and waits until the other end has all and has closed its
    /// side as well, for so long at the most. What it still sends is not read.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Reset`]: the connection was aborted;
    /// [`Error::Interface`].
    pub async fn shutdown(mut self, within: Duration) -> Result<(), Error> {
        self.close();
        let bus = self.stack.bus();
        let over = bus.timeout(
            within,
            poll_fn(|cx| {
                let mut has_read = false;
                let over = self.with(|one, socket| {
                    let gone = socket.recv(|bytes| (bytes.len(), bytes.len()));
                    has_read = gone.is_ok_and(|count| count > 0);
                    one.reader.set(cx.waker());
                    one.change.set(cx.waker());
                    one.known = socket.state();
                    match socket.state() {
                        State::TimeWait => Poll::Ready(Ok(())),
                        // It may have been the other end that closed first.
                        State::Closed if socket.remote_endpoint().is_none() => {
                            Poll::Ready(match socket.send_queue() {
                                0 => Ok(()),
                                _ => Err(Error::Reset),
                            })
                        }
                        State::Closed => Poll::Ready(Err(Error::Reset)),
                        // Nothing comes any more: only its state is waited for.
                        State::Closing | State::LastAck => {
                            one.reader = Default::default();
                            Poll::Pending
                        }
                        _ => Poll::Pending,
                    }
                });
                if has_read {
                    // The other end may have waited for room.
                    self.touch();
                }
                over
            }),
        );
        let over = over.await.unwrap_or(Err(Error::TimedOut));
        if over.is_ok() {
            self.finish();
        }
        over
    }

    /// Waits until a connection is open.
    pub(super) async fn opened(&self) -> Result<(), Error> {
        poll_fn(|cx| {
            self.with(|one, socket| {
                one.known = socket.state();
                match socket.state() {
                    State::SynSent | State::SynReceived => {
                        one.change.set(cx.waker());
                        Poll::Pending
                    }
                    State::Closed => Poll::Ready(Err(Error::NotConnected)),
                    _ => Poll::Ready(Ok(())),
                }
            })
        })
        .await
    }

    fn poll_read(&self, cx: &Context<'_>, target: &mut [u8]) -> Poll<Result<usize, Error>> {
        let mut opens_window = false;
        let read = self.with(|one, socket| {
            let waiting_bytes = socket.recv_queue();
            match socket.recv_slice(target) {
                Ok(0) if !target.is_empty() => {
                    one.reader.set(cx.waker());
                    Poll::Pending
                }
                Ok(count) => {
                    // The other end may have waited for room.
                    opens_window = waiting_bytes >= socket.recv_capacity() / 4;
                    Poll::Ready(Ok(count))
                }
                Err(tcp::RecvError::Finished) => Poll::Ready(Ok(0)),
                Err(tcp::RecvError::InvalidState) => Poll::Ready(Err(Error::Reset)),
            }
        });
        if opens_window {
            self.touch();
        }
        read
    }

    /// Whether so many bytes can be written at once, or at least as many as the stream can
    /// hold.
    fn poll_room(&self, cx: &Context<'_>, bytes: usize) -> Poll<Result<(), Error>> {
        self.with(|one, socket| {
            if !socket.may_send() {
                return Poll::Ready(Err(unwritable(socket.state())));
            }
            let wanted_bytes = bytes.min(socket.send_capacity());
            if has_room(socket, wanted_bytes) {
                return Poll::Ready(Ok(()));
            }
            one.wanted_bytes = wanted_bytes;
            one.writer.set(cx.waker());
            Poll::Pending
        })
    }

    /// Waits for [room](Self::poll_room), until the other end has been silent for too long.
    async fn room(&self, bytes: usize) -> Result<(), Error> {
        let mut alarm = None;
        poll_fn(|cx| {
            let room = self.poll_room(cx, bytes);
            if room.is_ready() {
                return room;
            }
            let bus = self.stack.bus();
            let now_ns = bus.now_ns();
            let alarm = alarm.get_or_insert_with(|| {
                let patience = self.stack.with(|engine| engine.config.patience);
                let patience_ns = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
                Alarm::new(bus.timer(), now_ns.saturating_add(patience_ns))
            });
            alarm.poll(now_ns, cx).map(|()| Err(Error::TimedOut))
        })
        .await
    }

    /// Bytes that are to be free before some are written: so that they leave in large packets.
    fn share(&self) -> usize {
        let capacity = self.with(|_, socket| Poll::Ready(Ok(socket.send_capacity() / 2)));
        match capacity {
            Poll::Ready(Ok(bytes)) => bytes.max(1),
            _ => 1,
        }
    }

    async fn write_now<T>(
        &self,
        wanted_bytes: usize,
        mut act: impl FnMut(&mut tcp::Socket<'static>) -> Result<T, tcp::SendError>,
    ) -> Result<T, Error> {
        self.room(wanted_bytes.min(self.share())).await?;
        let written = self.with(|_, socket| {
            let written = act(socket);
            Poll::Ready(written.map_err(|tcp::SendError::InvalidState| unwritable(socket.state())))
        });
        self.touch();
        match written {
            Poll::Ready(written) => written,
            Poll::Pending => Err(Error::Reset),
        }
    }
}

impl<P: Platform> ReadHalf<'_, '_, P> {
    /// [`Stream::read`].
    ///
    /// # Errors
    /// Those of [`Stream::read`].
    pub async fn read(&mut self, target: &mut [u8]) -> Result<usize, Error> {
        poll_fn(|cx| self.0.poll_read(cx, target)).await
    }
}

impl<P: Platform> WriteHalf<'_, '_, P> {
    /// [`Stream::write`].
    ///
    /// # Errors
    /// Those of [`Stream::write`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let wanted_bytes = bytes.len();
        self.0
            .write_now(wanted_bytes, |socket| socket.send_slice(bytes))
            .await
    }

    /// Has `fill` write into the stream's own memory, as much as lies together there; says
    /// what `fill` does beside how many bytes it has written.
    ///
    /// # Errors
    /// Those of [`Stream::write`].
    ///
    /// # Panics
    /// If `fill` uses the stack or one of its streams.
    pub async fn write_with<T>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> (usize, T),
    ) -> Result<T, Error> {
        let mut fill = Some(fill);
        let written = self.0.write_now(usize::MAX, |socket| {
            socket.send(|room| match fill.take() {
                Some(fill) => {
                    let (count, value) = fill(room);
                    (count.min(room.len()), Some(value))
                }
                None => (0, None),
            })
        });
        written.await?.ok_or(Error::Closed)
    }
}

impl<P: Platform> Drop for Stream<'_, P> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.stack.0.drop_stream(id);
        }
    }
}

impl<P: Platform> embedded_io_async::ErrorType for Stream<'_, P> {
    type Error = Error;
}

impl<P: Platform> embedded_io_async::ErrorType for ReadHalf<'_, '_, P> {
    type Error = Error;
}

impl<P: Platform> embedded_io_async::ErrorType for WriteHalf<'_, '_, P> {
    type Error = Error;
}

impl<P: Platform> embedded_io_async::Read for Stream<'_, P> {
    async fn read(&mut self, target: &mut [u8]) -> Result<usize, Error> {
        Self::read(self, target).await
    }
}

impl<P: Platform> embedded_io_async::Read for ReadHalf<'_, '_, P> {
    async fn read(&mut self, target: &mut [u8]) -> Result<usize, Error> {
        Self::read(self, target).await
    }
}

/// [`flush`](embedded_io_async::Write::flush) waits for nothing: what was written leaves
/// anyway, and an acknowledgement may be held back for 40 ms by whoever has nothing to say.
/// [`Stream::acknowledged`] waits for it.
impl<P: Platform> embedded_io_async::Write for Stream<'_, P> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        Self::write(self, bytes).await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// [`flush`](embedded_io_async::Write::flush) waits for nothing, as a [`Stream`]'s.
impl<P: Platform> embedded_io_async::Write for WriteHalf<'_, '_, P> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        Self::write(self, bytes).await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
