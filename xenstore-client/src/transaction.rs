//! Several changes at once, or none.

use core::{future::poll_fn, task::Poll};

use hypercall_abi::{Errno, io::xs_wire::XsMessageType};

use crate::{Client, Error, ErrorKind, Quota, Transport, Tree, value};

/// How often a transaction is tried that meets others, or finds too many open.
const TRIES: u32 = 100;
/// The longest pause between two tries, in round trips to the server.
const MAX_PAUSE_TRIPS: u32 = 8;

/// A transaction that goes on. Dropping it aborts it.
#[derive(Debug)]
pub struct Transaction<'c, T: Transport> {
    tree: Tree<'c, T>,
    open: bool,
}

impl<'c, T: Transport> core::ops::Deref for Transaction<'c, T> {
    type Target = Tree<'c, T>;

    fn deref(&self) -> &Tree<'c, T> {
        &self.tree
    }
}

impl<'c, T: Transport> Transaction<'c, T> {
    /// The one that the server's answer has begun.
    pub(crate) fn begun(client: &'c Client<T>, answer: &[u8]) -> Result<Self, Error> {
        let tx_id = value::parse(answer)
            .filter(|tx_id| *tx_id != 0)
            .ok_or(ErrorKind::Protocol("a transaction without a number"))?;
        Ok(Self {
            tree: Tree::new(client, tx_id),
            open: true,
        })
    }

    /// Makes the changes.
    ///
    /// # Errors
    /// `EAGAIN`: something that was looked at or changed was changed by
    /// another; nothing was done.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.open = false;
        let tx_id = self.tree.tx_id;
        self.tree
            .client
            .ask(XsMessageType::TRANSACTION_END, tx_id, &[b"T\0"])
            .await
            .map(|_| ())
    }
}

impl<T: Transport> Drop for Transaction<'_, T> {
    fn drop(&mut self) {
        if self.open {
            let mut machine = self.tree.client.machine.lock();
            machine.abort(self.tree.tx_id);
            self.tree.client.pump(&mut machine);
        }
    }
}

/// Lets other tasks go on, also where the server answers at once.
async fn yield_now() {
    let mut is_first = true;
    poll_fn(|cx| {
        if core::mem::take(&mut is_first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

impl<T: Transport> Client<T> {
    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error`]; [`Quota::Transactions`](crate::Quota::Transactions): too many are open.
    pub async fn begin(&self) -> Result<Transaction<'_, T>, Error> {
        let answer = self
            .ask(XsMessageType::TRANSACTION_START, 0, &[b"\0"])
            .await?;
        Transaction::begun(self, &answer)
    }

    /// Runs `change` in a transaction, and again when it met others or when too many
    /// transactions were open. If it fails, nothing is changed.
    ///
    /// There are 100 tries at most. Between two of them there is a pause that needs no
    /// clock, of as many round trips to the server as there were tries, and of no more than
    /// eight: other tasks, which share the connection, go on meanwhile and end their
    /// transactions.
    ///
    /// # Errors
    /// Those of `change`; [`ErrorKind::Conflicts`] or
    /// [`Quota::Transactions`](crate::Quota::Transactions), if the last try met that;
    /// [`Error`].
    pub async fn transaction<R>(
        &self,
        change: impl AsyncFn(&Tree<'_, T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut refusal = ErrorKind::Conflicts.into();
        for attempt in 0..TRIES {
            // Let the others go first: other domains, and this one's tasks.
            for _ in 0..attempt.min(MAX_PAUSE_TRIPS) {
                yield_now().await;
                // What every guest is told, and costs the server nothing.
                self.domain_path(hypercall_abi::DomId(0)).await?;
            }
            let transaction = match self.begin().await {
                Ok(transaction) => transaction,
                Err(error) if error.quota() == Some(Quota::Transactions) => {
                    refusal = error;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let value = change(&transaction).await?;
            match transaction.commit().await {
                Ok(()) => return Ok(value),
                Err(error) if error.errno() == Some(Errno::EAGAIN) => {
                    refusal = ErrorKind::Conflicts.into();
                }
                Err(error) => return Err(error),
            }
        }
        Err(refusal)
    }
}
