//! A stack, as its users have it.

use alloc::{rc::Rc, vec::Vec};
use core::{
    cell::RefCell,
    future::poll_fn,
    net::SocketAddr,
    task::{Context, Poll, Waker},
};

use hypercall_abi::platform::Platform;
use smoltcp::wire::{IpCidr, Ipv4Cidr, Ipv6Cidr};

use super::{Config, Error, Listener, Stream, V4, connection::Id, engine::Engine};
use crate::{
    adapters::smoltcp::Device,
    netfront::{self, Nic},
    xenbus::Bus,
};

pub(super) struct Shared<'g, P: Platform> {
    engine: RefCell<Engine<'g, P>>,
    /// Who does the stack's work.
    runner: RefCell<Option<Waker>>,
    /// Connections whose streams were dropped. Not in the engine: that may happen while it
    /// wakes somebody.
    dropped: RefCell<Vec<Id>>,
}

impl<P: Platform> Shared<'_, P> {
    pub(super) fn wake_runner(&self) {
        if let Some(runner) = &*self.runner.borrow() {
            runner.wake_by_ref();
        }
    }

    /// A stream has let go of its connection.
    pub(super) fn drop_stream(&self, id: Id) {
        self.dropped.borrow_mut().push(id);
        self.wake_runner();
    }
}

/// A stack of TCP/IP on a network interface. Its clones are the same stack.
pub struct Stack<'g, P: Platform>(pub(super) Rc<Shared<'g, P>>);

impl<P: Platform> Clone for Stack<'_, P> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<P: Platform> core::fmt::Debug for Stack<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}

impl<'g, P: Platform> Stack<'g, P> {
    /// Waits until the interface is connected, and makes a stack on it. It does nothing
    /// until somebody [runs](Self::run) it.
    ///
    /// # Errors
    /// [`Error::NotUnicast`]; those of [`Nic::ready`].
    pub async fn new(nic: &Nic<'g, P>, config: Config) -> Result<Self, Error> {
        config.check()?;
        let device = Device::with_large_v6(nic).await?;
        let engine = Engine::new(nic, device, config);
        Ok(Self(Rc::new(Shared {
            engine: RefCell::new(engine),
            runner: RefCell::new(None),
            dropped: RefCell::new(Vec::new()),
        })))
    }

    /// Does the stack's work, until the interface is closed, taken away or broken; says
    /// which. One of these at a time: a task of its own, or one with others, by
    /// `select` or any other combinator. It sleeps until there is
    /// something to do, and asks for a timer only if TCP or DHCP has one.
    pub async fn run(&self) -> netfront::Error {
        let mut alarm = None;
        poll_fn(|cx| {
            self.note_runner(cx.waker());
            let dropped = self.0.dropped.take();
            let mut engine = self.0.engine.borrow_mut();
            for id in dropped {
                engine.abort(id);
            }
            engine.turn(cx, &mut alarm)
        })
        .await
    }

    fn note_runner(&self, waker: &Waker) {
        let mut runner = self.0.runner.borrow_mut();
        match &mut *runner {
            Some(known) if known.will_wake(waker) => {}
            other => {
                let before = other.replace(waker.clone());
                drop(runner);
                drop(before);
            }
        }
    }

    /// Does something with the engine.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Engine<'g, P>) -> T) -> T {
        act(&mut self.0.engine.borrow_mut())
    }

    /// The stack has something to do for a connection.
    pub(super) fn touch(&self, id: Id) {
        if self.with(|engine| engine.touch(id)) {
            self.0.wake_runner();
        }
    }

    /// Its bus.
    pub fn bus(&self) -> Bus<'g, P> {
        self.with(|engine| engine.bus())
    }

    /// Its IPv4 address, if it has one.
    pub fn v4(&self) -> Option<Ipv4Cidr> {
        self.with(|engine| {
            let mut all = engine.interface().ip_addrs().iter();
            all.find_map(|one| match one {
                IpCidr::Ipv4(address) => Some(*address),
                IpCidr::Ipv6(_) => None,
            })
        })
    }

    /// Its IPv6 address, if it has one.
    pub fn v6(&self) -> Option<Ipv6Cidr> {
        self.with(|engine| {
            let mut all = engine.interface().ip_addrs().iter();
            all.find_map(|one| match one {
                IpCidr::Ipv6(address) => Some(*address),
                IpCidr::Ipv4(_) => None,
            })
        })
    }

    /// Waits until it has its addresses.
    ///
    /// # Errors
    /// [`Error::Interface`].
    pub async fn ready(&self) -> Result<(), Error> {
        let wants_v4 = self.with(|engine| engine.config.v4 != V4::None);
        poll_fn(|cx| self.poll_news(cx, |stack| !wants_v4 || stack.v4().is_some())).await
    }

    /// Waits until the other ends have all that was written, or are there no more.
    ///
    /// # Errors
    /// [`Error::Interface`].
    pub async fn settled(&self) -> Result<(), Error> {
        poll_fn(|cx| {
            self.poll_news(cx, |stack| {
                stack.with(|engine| engine.connections().is_settled())
            })
        })
        .await
    }

    fn poll_news(
        &self,
        cx: &Context<'_>,
        is_there: impl FnOnce(&Self) -> bool,
    ) -> Poll<Result<(), Error>> {
        if is_there(self) {
            return Poll::Ready(Ok(()));
        }
        self.with(|engine| match engine.ended {
            Some(error) => Poll::Ready(Err(error.into())),
            None => {
                engine.wait_for_news(cx);
                Poll::Pending
            }
        })
    }

    /// Bytes of the buffers of all connections.
    pub fn used_bytes(&self) -> usize {
        self.with(|engine| engine.connections().used_bytes())
    }

    /// Connections that there are, with those that are not complete, or not quite over.
    pub fn connections(&self) -> usize {
        self.with(|engine| engine.connections().count())
    }

    /// Lets clients in at a port, of all addresses, until the listener is dropped.
    ///
    /// # Errors
    /// [`Error::PortInUse`], for port 0 as well.
    pub fn listen(&self, port: u16) -> Result<Listener<'g, P>, Error> {
        self.with(|engine| engine.listen(port))?;
        Ok(Listener::new(self.clone(), port))
    }

    /// A connection to somebody else.
    ///
    /// # Errors
    /// [`Error::NoRoom`], [`Error::NoRoute`], [`Error::NotConnected`], [`Error::Interface`].
    pub async fn connect(&self, remote: SocketAddr) -> Result<Stream<'g, P>, Error> {
        let id = self.with(|engine| engine.connect(remote))?;
        self.0.wake_runner();
        let stream = Stream::new(self.clone(), id);
        stream.opened().await?;
        Ok(stream)
    }
}
