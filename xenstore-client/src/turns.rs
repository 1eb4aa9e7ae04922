//! Transactions that wait for their turn.
//!
//! A server allows a domain only so many at once (ten by default), and refuses the next.
//! Many tasks that begin one at the same moment would be refused though each needs only
//! to wait for the others: so they do.
//!
//! Whoever has a turn may never be polled again: his task does something else, or the
//! future is kept by somebody who forgot it. A transaction of which the server has answered
//! all, and that nobody goes on with, can be ended by those who wait for a turn.

use alloc::vec::Vec;
use core::{
    future::poll_fn,
    task::{Poll, Waker},
    time::Duration,
};

use hypercall_abi::io::xs_wire::XsMessageType;
use spin::Mutex;

use crate::{
    Client, Error, ErrorKind, Transaction, Transport,
    client::Answer,
    machine::{Machine, RequestId},
};

/// How many of a client's [`Client::begin_in_turn`] are open at once. Less than any
/// server's quota, so that there is room for those who begin at once.
pub const MAX_IN_TURN: usize = 6;

/// How long nobody goes on with a transaction before [`Client::end_idle_turns`] ends it.
pub const MAX_IDLE: Duration = Duration::from_secs(1);

/// How far somebody has come in his turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waits,
    /// The server was asked for a transaction.
    Asked(RequestId),
    /// It has this number.
    Open(u32),
}

/// A turn that somebody has.
#[derive(Debug)]
struct Place {
    number: u64,
    stage: Stage,
    /// How often its holder has asked something.
    steps: u32,
    /// How many steps those were, and when, when it was seen first that nothing of it was
    /// on its way.
    idle: Option<(u32, u64)>,
}

impl Place {
    /// Whether its holder could go on.
    fn is_idle(&self, machine: &Machine) -> bool {
        match self.stage {
            Stage::Waits => false,
            Stage::Asked(request) => machine.is_answered(request),
            Stage::Open(tx_id) => !machine.is_busy(tx_id),
        }
    }

    /// Whether its holder could go on, and did not in all the time that he may take.
    fn is_overdue(&mut self, machine: &Machine, now_ns: u64) -> bool {
        if !self.is_idle(machine) {
            self.idle = None;
            return false;
        }
        match self.idle {
            Some((steps, since_ns)) if steps == self.steps => {
                u128::from(now_ns.saturating_sub(since_ns)) >= MAX_IDLE.as_nanos()
            }
            _ => {
                self.idle = Some((self.steps, now_ns));
                false
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    places: Vec<Place>,
    /// Those that were ended, whose holders have not heard of it.
    ended: Vec<Place>,
    waiting: Vec<Waker>,
}

/// Who may have a transaction open.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<State>);

impl Turns {
    fn wake_all(&self) {
        // All: one that is woken may not wait any more.
        let waiting = core::mem::take(&mut self.0.lock().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn is_ended(&self, number: u64) -> bool {
        let state = self.0.lock();
        state.ended.iter().any(|place| place.number == number)
    }

    fn reach(&self, number: u64, stage: Stage) {
        let mut state = self.0.lock();
        if let Some(place) = state.places.iter_mut().find(|it| it.number == number) {
            place.stage = stage;
            place.steps = place.steps.wrapping_add(1);
        }
    }

    /// Something is asked in a transaction, or was answered.
    ///
    /// # Errors
    /// [`ErrorKind::Overtaken`].
    pub(crate) fn step(&self, tx_id: u32) -> Result<(), ErrorKind> {
        if tx_id == 0 {
            return Ok(());
        }
        let mut state = self.0.lock();
        let stage = Stage::Open(tx_id);
        if let Some(place) = state.places.iter_mut().find(|it| it.stage == stage) {
            place.steps = place.steps.wrapping_add(1);
        } else if state.ended.iter().any(|place| place.stage == stage) {
            return Err(ErrorKind::Overtaken);
        }
        Ok(())
    }
}

/// Somebody's turn to have a transaction, until it is dropped: see [`Client::turn`].
#[derive(Debug)]
pub struct Turn<'c, T: Transport> {
    client: &'c Client<T>,
    number: u64,
}

impl<T: Transport> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let turns = &self.client.turns;
        {
            let mut state = turns.0.lock();
            state.places.retain(|place| place.number != self.number);
            state.ended.retain(|place| place.number != self.number);
        }
        turns.wake_all();
    }
}

impl<'c, T: Transport> Turn<'c, T> {
    /// Begins the transaction.
    ///
    /// # Errors
    /// As for [`Client::begin`]; [`ErrorKind::Overtaken`].
    pub async fn begin(self) -> Result<InTurn<'c, T>, Error> {
        let client = self.client;
        let kind = XsMessageType::TRANSACTION_START;
        let id = client.machine.lock().request(kind, 0, &[b"\0"])?;
        client.turns.reach(self.number, Stage::Asked(id));
        let answer = Answer { client, id }.await;
        if client.turns.is_ended(self.number) {
            return Err(ErrorKind::Overtaken.into());
        }
        let transaction = Transaction::begun(client, &answer?)?;
        let stage = Stage::Open(transaction.tx_id);
        client.turns.reach(self.number, stage);
        Ok(InTurn {
            transaction,
            _turn: self,
        })
    }
}

/// A [`Transaction`], and the turn in which it is open.
#[derive(Debug)]
pub struct InTurn<'c, T: Transport> {
    /// Ends, or is on its way to the server as aborted, before the turn is another's.
    transaction: Transaction<'c, T>,
    _turn: Turn<'c, T>,
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
    /// As for [`Transaction::commit`]; [`ErrorKind::Overtaken`]: nothing was done.
    pub async fn commit(self) -> Result<(), Error> {
        let Self { transaction, _turn } = self;
        transaction.commit().await
    }
}

impl<T: Transport> Client<T> {
    /// Waits while [`MAX_IN_TURN`] others have a turn. Whoever has one does not wait for
    /// another. Those who wait call [`end_idle_turns`](Self::end_idle_turns) from time to
    /// time, or wait for tasks that may never go on.
    pub async fn turn(&self) -> Turn<'_, T> {
        poll_fn(|cx| {
            let mut state = self.turns.0.lock();
            if state.places.len() < MAX_IN_TURN {
                state.next += 1;
                let number = state.next;
                state.places.push(Place {
                    number,
                    stage: Stage::Waits,
                    steps: 0,
                    idle: None,
                });
                return Poll::Ready(Turn {
                    client: self,
                    number,
                });
            }
            if !state.waiting.iter().any(|it| it.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// [`begin`](Self::begin), but in a [`turn`](Self::turn).
    ///
    /// # Errors
    /// As for [`begin`](Self::begin): others may have transactions open, too;
    /// [`ErrorKind::Overtaken`], of this and of what is asked in the transaction.
    pub async fn begin_in_turn(&self) -> Result<InTurn<'_, T>, Error> {
        self.turn().await.begin().await
    }

    /// Ends the transactions in turn that nobody has gone on with for [`MAX_IDLE`], as far
    /// as this was seen by earlier calls, though all that was asked in them was answered:
    /// their turns are others', and their holders find them
    /// [`Overtaken`](ErrorKind::Overtaken) if they go on after all. `now_ns` is the time
    /// by any clock that does not go back.
    pub fn end_idle_turns(&self, now_ns: u64) {
        let mut machine = self.machine.lock();
        let overdue: Vec<Stage> = {
            let mut state = self.turns.0.lock();
            let places = &mut state.places;
            let overdue = places.extract_if(.., |place| place.is_overdue(&machine, now_ns));
            let overdue: Vec<Place> = overdue.collect();
            let stages = overdue.iter().map(|place| place.stage).collect();
            state.ended.extend(overdue);
            stages
        };
        if overdue.is_empty() {
            return;
        }
        for stage in overdue {
            match stage {
                Stage::Open(tx_id) => machine.abort(tx_id),
                // What the answer opened is ended with it.
                Stage::Asked(request) => machine.forget(request),
                Stage::Waits => {}
            }
        }
        self.pump(&mut machine);
        drop(machine);
        self.turns.wake_all();
    }
}
