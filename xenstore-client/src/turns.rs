//! Transactions that wait for their turn.
//!
//! A server allows a domain only so many at once (ten by default), and refuses the next.
//! Many tasks that begin one at the same moment would be refused though each needs only
//! to wait for the others: so they do.

use alloc::vec::Vec;
use core::{
    future::poll_fn,
    task::{Poll, Waker},
};

use spin::Mutex;

use crate::{Client, Error, Transaction, Transport};

/// How many of a client's [`Client::begin_in_turn`] are open at once. Less than any
/// server's quota, so that there is room for those who begin at once.
pub const MAX_IN_TURN: usize = 6;

#[derive(Debug, Default)]
struct State {
    open: usize,
    waiting: Vec<Waker>,
}

/// Who may have a transaction open.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<State>);

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
struct Turn<'c>(&'c Turns);

impl Turns {
    async fn take(&self) -> Turn<'_> {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if state.open < MAX_IN_TURN {
                state.open += 1;
                return Poll::Ready(Turn(self));
            }
            if !state
                .waiting
                .iter()
                .any(|other| other.will_wake(cx.waker()))
            {
                state.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.0.lock();
            state.open -= 1;
            // All: one that is woken may not wait any more.
            core::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A [`Transaction`], and the turn in which it is open.
#[derive(Debug)]
pub struct InTurn<'c, T: Transport> {
    /// Ends, or is on its way to the server as aborted, before the turn is another's.
    transaction: Transaction<'c, T>,
    _turn: Turn<'c>,
}

impl<'c, T: Transport> core::ops::Deref for InTurn<'c, T> {
    type Target = Transaction<'c, T>;

    fn deref(&self) -> &Transaction<'c, T> {
        &self.transaction
    }
}

impl<T: Transport> InTurn<'_, T> {
    /// Makes the changes: [`Transaction::commit`].
    ///
    /// # Errors
    /// As for [`Transaction::commit`].
    pub async fn commit(self) -> Result<(), Error> {
        let Self { transaction, _turn } = self;
        transaction.commit().await
    }
}

impl<T: Transport> Client<T> {
    /// [`begin`](Self::begin), but waits while [`MAX_IN_TURN`] that began so are open.
    /// Whoever has one of these does not wait for another.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin): others may have transactions open, too.
    pub async fn begin_in_turn(&self) -> Result<InTurn<'_, T>, Error> {
        let turn = self.turns.take().await;
        Ok(InTurn {
            transaction: self.begin().await?,
            _turn: turn,
        })
    }
}
