//! Being told of changes by a watch that many share.

use core::{
    future::poll_fn,
    task::{Context, Poll},
};

use crate::{Client, Error, ErrorKind, Path, Transport, machine::SubscriptionId};

/// A part of a watch: says that something at or below a path changed, but not what. The
/// first time is when it was made. Dropping it ends it.
///
/// All subscriptions that name the same watched path share one watch of the server's,
/// which counts once against its quota ([`Quota::Watches`](crate::Quota::Watches)), and
/// keeps no events: many changes that were not looked at yet are one.
#[derive(Debug)]
pub struct Subscription<'c, T: Transport> {
    client: &'c Client<T>,
    id: SubscriptionId,
}

impl<T: Transport> Client<T> {
    /// Is told of what changes at or below `path`, by a watch of `watched`, a path above
    /// it, which is set if nobody has set it yet. Both are absolute, or both relative.
    ///
    /// # Errors
    /// [`ErrorKind::Path`]: these are no paths. What the server says of the watch is told
    /// by [`Subscription::poll_changed`].
    pub fn subscribe(&self, watched: &str, path: &str) -> Result<Subscription<'_, T>, Error> {
        for path in [watched, path] {
            Path::new(path).map_err(|error| ErrorKind::Path(error).at(path))?;
        }
        let mut machine = self.machine.lock();
        let id = machine
            .subscribe(watched, path)
            .map_err(|kind| kind.at(watched))?;
        self.pump(&mut machine);
        Ok(Subscription { client: self, id })
    }
}

impl<T: Transport> Subscription<'_, T> {
    /// Whether something changed since this was asked last; if not, the task is woken
    /// when it does.
    ///
    /// # Errors
    /// The connection ended, or the server refused the watch.
    pub fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.client.poll_machine(cx, |machine, cx| {
            let changed = machine.take_change(self.id, cx.waker());
            changed.map_err(Error::from).transpose()
        })
    }

    /// Waits until something changed since this was asked last.
    ///
    /// # Errors
    /// As for [`poll_changed`](Self::poll_changed).
    pub async fn changed(&self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }
}

impl<T: Transport> Drop for Subscription<'_, T> {
    fn drop(&mut self) {
        let mut machine = self.client.machine.lock();
        machine.unsubscribe(self.id);
        self.client.pump(&mut machine);
    }
}
