//! Being told of changes.

use alloc::string::String;
use core::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    Client, Error, ErrorKind, Path, Transport,
    machine::{Repeats, RequestId, WatchId},
};

/// A watch: a stream of the paths that changed. The first event comes when it
/// is set. Dropping it ends it. One task at a time waits for it: the last that asked is
/// woken.
///
/// An event says that something at or below the path changed; what, has to be
/// looked for. Up to [`MAX_EVENTS`](crate::machine::MAX_EVENTS) events and
/// [`MAX_EVENT_BYTES`](crate::machine::MAX_EVENT_BYTES) are kept until they are taken, and
/// [`MAX_ALL_EVENT_BYTES`](crate::machine::MAX_ALL_EVENT_BYTES) for all watches of a
/// connection; beyond that a single one for the watched path says that anything may have
/// changed, and stands for all that come until it is taken. When the connection is renewed
/// the watch is set again, and fires.
#[derive(Debug)]
pub struct Watch<'c, T: Transport> {
    client: &'c Client<T>,
    id: WatchId,
}

/// A request that is forgotten when it is dropped.
struct Asked<'c, T: Transport>(&'c Client<T>, RequestId);

impl<T: Transport> Drop for Asked<'_, T> {
    fn drop(&mut self) {
        self.0.machine.lock().forget(self.1);
    }
}

impl<T: Transport> Client<T> {
    /// Watches a path (or `@introduceDomain`, `@releaseDomain`) and all below
    /// it.
    ///
    /// # Errors
    /// [`Error`]; [`Quota::Watches`](crate::Quota::Watches): too many watches.
    pub async fn watch(&self, path: &str) -> Result<Watch<'_, T>, Error> {
        self.watch_with(path, None, Repeats::Keep).await
    }

    /// [`watch`](Self::watch), down to a depth (0: the node itself; if the
    /// server can do that), and with repeated events kept or merged.
    ///
    /// # Errors
    /// As for [`watch`](Self::watch).
    pub async fn watch_with(
        &self,
        path: &str,
        depth: Option<u32>,
        repeats: Repeats,
    ) -> Result<Watch<'_, T>, Error> {
        Path::new(path).map_err(|error| ErrorKind::Path(error).at(path))?;
        let set = self.machine.lock().watch(path, depth, repeats);
        let (id, request) = set.map_err(|kind| kind.at(path))?;
        // From here on dropping it takes it back.
        let watch = Watch { client: self, id };
        let asked = Asked(self, request);
        poll_fn(|cx| self.poll_machine(cx, |machine, cx| machine.take_answer(asked.1, cx.waker())))
            .await
            .map_err(|kind| kind.at(path))?;
        Ok(watch)
    }
}

impl<T: Transport> Watch<'_, T> {
    /// The next event, if the task is to be woken by it.
    ///
    /// # Errors
    /// The connection ended, or the watch could not be set again.
    pub fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Result<String, Error>> {
        self.client.poll_machine(cx, |machine, cx| {
            let event = machine.take_event(self.id, Some(cx.waker()));
            event.map_err(Error::from).transpose()
        })
    }

    /// Waits for the next event: the path that changed, absolute if the watch
    /// is, else relative to this domain's directory.
    ///
    /// # Errors
    /// As for [`poll_event`](Self::poll_event).
    pub async fn next(&self) -> Result<String, Error> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The next event, if there is one now.
    ///
    /// # Errors
    /// As for [`poll_event`](Self::poll_event).
    pub fn try_next(&self) -> Result<Option<String>, Error> {
        let mut machine = self.client.machine.lock();
        self.client.pump(&mut machine);
        machine.take_event(self.id, None).map_err(Error::from)
    }
}

/// Ends with the first error.
impl<T: Transport> futures_core::Stream for Watch<'_, T> {
    type Item = Result<String, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx).map(Some)
    }
}

impl<T: Transport> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        let mut machine = self.client.machine.lock();
        machine.unwatch(self.id);
        self.client.pump(&mut machine);
    }
}
