//! `picoserve` on a [`Stream`]: HTTP.
//!
//! ```rust,ignore
//! let timer = net::picoserve::Timer::new(stack.bus());
//! let served = listener.serve(async |stream| {
//!     let mut http = vec![0; 2048];
//!     let server = Server::custom(&router, timer, &config, &mut http);
//!     let _ended = server.serve(stream).await;
//! });
//! ```

use core::time::Duration;

use hypercall_abi::platform::Platform;
use picoserve::{
    Timeouts,
    io::{Socket, Write},
    mem::{BorrowedBuffer, BorrowedCursor},
};

use super::{Error, ReadHalf, Stream, WriteHalf};
use crate::xenbus::Bus;

/// Whose sockets and time a server has: this guest's.
#[derive(Clone, Copy, Debug)]
pub struct Runtime;

/// The time of a server.
#[derive(Debug)]
pub struct Timer<'g, P: Platform>(Bus<'g, P>);

impl<P: Platform> Clone for Timer<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Timer<'_, P> {}

impl<'g, P: Platform> Timer<'g, P> {
    /// That of a bus, which a [`Stack`](super::Stack::bus) has.
    pub const fn new(bus: Bus<'g, P>) -> Self {
        Self(bus)
    }
}

impl<P: Platform> picoserve::Timer<Runtime> for Timer<'_, P> {
    async fn delay(&self, time: picoserve::time::Duration) {
        self.0.sleep(Duration::from_millis(time.as_millis())).await;
    }
}

impl<P: Platform> Write for WriteHalf<'_, '_, P> {
    async fn write_with<F: FnOnce(BorrowedCursor<'_>) -> R, R>(
        &mut self,
        fill: F,
    ) -> Result<R, Error> {
        let written = WriteHalf::write_with(self, |room| {
            let mut buffer = BorrowedBuffer::new(room);
            let value = fill(buffer.unfilled());
            (buffer.len(), value)
        });
        written.await
    }
}

impl<'g, P: Platform> Socket<Runtime> for Stream<'g, P> {
    type Error = Error;
    type ReadHalf<'a>
        = ReadHalf<'a, 'g, P>
    where
        Self: 'a;
    type WriteHalf<'a>
        = WriteHalf<'a, 'g, P>
    where
        Self: 'a;

    fn split(&mut self) -> (ReadHalf<'_, 'g, P>, WriteHalf<'_, 'g, P>) {
        Self::split(self)
    }

    async fn abort<T: picoserve::Timer<Runtime>>(
        self,
        _timeouts: &Timeouts,
        _timer: &T,
    ) -> Result<(), picoserve::Error<Error>> {
        drop(self);
        Ok(())
    }

    /// The stack does the rest: nobody waits for it.
    async fn shutdown<T: picoserve::Timer<Runtime>>(
        self,
        _timeouts: &Timeouts,
        _timer: &T,
    ) -> Result<(), picoserve::Error<Error>> {
        self.finish();
        Ok(())
    }
}
