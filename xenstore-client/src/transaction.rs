//! Several changes at once, or none.

use hypercall_abi::{Errno, io::xs_wire::XsMessageType};

use crate::{Client, Error, ErrorKind, Transport, Tree, value};

/// How often a transaction that meets others is tried.
const TRIES: u32 = 100;
/// The longest pause between two tries, in round trips to the server.
const MOST_PAUSE: u32 = 8;

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

impl<T: Transport> Transaction<'_, T> {
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

impl<T: Transport> Client<T> {
    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error`]; [`Quota::Transactions`](crate::Quota::Transactions): too many are open.
    pub async fn begin(&self) -> Result<Transaction<'_, T>, Error> {
        let answer = self
            .ask(XsMessageType::TRANSACTION_START, 0, &[b"\0"])
            .await?;
        let tx_id = value::parse(&answer)
            .filter(|tx_id| *tx_id != 0)
            .ok_or(ErrorKind::Protocol("a transaction without a number"))?;
        Ok(Transaction {
            tree: Tree::new(self, tx_id),
            open: true,
        })
    }

    /// Runs `change` in a transaction, and again when it met others, for a
    /// while. If it fails, nothing is changed.
    ///
    /// # Errors
    /// Those of `change`; [`ErrorKind::Conflicts`]; [`Error`].
    pub async fn transaction<R>(
        &self,
        change: impl AsyncFn(&Tree<'_, T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        for attempt in 0..TRIES {
            let transaction = self.begin().await?;
            let value = change(&transaction).await?;
            match transaction.commit().await {
                Ok(()) => return Ok(value),
                Err(error) if error.errno() == Some(Errno::EAGAIN) => {}
                Err(error) => return Err(error),
            }
            // Let the others go first: a pause that needs no clock.
            for _ in 0..attempt.min(MOST_PAUSE) {
                self.is_domain_introduced(hypercall_abi::DomId(0)).await?;
            }
        }
        Err(ErrorKind::Conflicts.into())
    }
}
