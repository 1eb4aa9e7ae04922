//! The ports at which somebody listens, and the clients who wait to be accepted there.

use alloc::{collections::VecDeque, vec::Vec};
use core::task::{Context, Poll};

use super::{
    Error,
    connection::{Id, Waiting},
};

struct Port {
    number: u16,
    backlog: VecDeque<Id>,
    /// Who accepts.
    waiting: Waiting,
}

#[derive(Default)]
pub(super) struct Ports(Vec<Port>);

impl Ports {
    fn get(&mut self, number: u16) -> Option<&mut Port> {
        self.0.iter_mut().find(|port| port.number == number)
    }

    pub(super) fn has(&self, number: u16) -> bool {
        self.0.iter().any(|port| port.number == number)
    }

    pub(super) fn listen(&mut self, number: u16) -> Result<(), Error> {
        if number == 0 || self.has(number) {
            return Err(Error::PortInUse(number));
        }
        self.0.push(Port {
            number,
            backlog: VecDeque::new(),
            waiting: Waiting::default(),
        });
        Ok(())
    }

    /// Nobody listens there any more: those who waited there.
    pub(super) fn unlisten(&mut self, number: u16) -> VecDeque<Id> {
        let at = self.0.iter().position(|port| port.number == number);
        at.map_or_else(VecDeque::new, |at| self.0.swap_remove(at).backlog)
    }

    /// A client waits there from now on. False: nobody listens there.
    pub(super) fn push(&mut self, number: u16, id: Id) -> bool {
        let Some(port) = self.get(number) else {
            return false;
        };
        port.backlog.push_back(id);
        port.waiting.wake();
        true
    }

    /// The next client.
    pub(super) fn poll_accept(&mut self, number: u16, cx: &Context<'_>) -> Poll<Result<Id, Error>> {
        let Some(port) = self.get(number) else {
            return Poll::Ready(Err(Error::Closed));
        };
        let Some(id) = port.backlog.pop_front() else {
            port.waiting.set(cx.waker());
            return Poll::Pending;
        };
        Poll::Ready(Ok(id))
    }

    /// A client waits no more, wherever it was.
    pub(super) fn forget(&mut self, id: Id) {
        for port in &mut self.0 {
            port.backlog.retain(|other| *other != id);
        }
    }

    pub(super) fn wake_all(&mut self) {
        for port in &mut self.0 {
            port.waiting.wake();
        }
    }
}
