//! A channel of one's own.

use hypercall_abi::{
    DomId, Errno, Port, VcpuId,
    event_channel::{self, BindPirqFlags},
    peer::PeerPtr,
    platform::{Clock, Hypercall, Park},
    xen::{SharedInfo, Virq},
};

use crate::{Error, PortRef};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wait {
    /// The other end told us something; it is cleared.
    Event,
    /// The deadline came first.
    Deadline,
}

/// A channel that this guest opened. Dropping it closes it.
///
/// Works with the pending and mask words of the shared page: the 2-level
/// interface, whose ports are those below 4096.
///
/// ```
/// use event_channels::{Channel, Wait};
/// use hypercall_abi::{DomId, peer::PeerPtr};
/// use mock_hypervisor::{Config, Domain};
///
/// let domain = Domain::new(Config::default()).unwrap();
/// // SAFETY: the page lives as long as this test's domain.
/// let shared = unsafe { PeerPtr::new(domain.shared_info()) };
/// let offered = Channel::unbound(&domain, shared, DomId::SELF)?;
/// let bound = Channel::interdomain(&domain, shared, DomId::SELF, offered.port())?;
/// bound.notify()?;
/// assert_eq!(offered.wait(None), Wait::Event);
/// # Ok::<(), event_channels::Error>(())
/// ```
#[derive(Debug)]
pub struct Channel<H: Hypercall> {
    hypercall: H,
    port: PortRef,
}

impl<H: Hypercall> Channel<H> {
    fn new(hypercall: H, shared: PeerPtr<'static, SharedInfo>, port: Port) -> Self {
        let port = PortRef::new(port, Some(shared));
        // What was pending is the port's last owner's.
        port.clear_pending();
        Self { hypercall, port }
    }

    /// Offers a port to `remote`.
    ///
    /// # Errors
    /// [`Error::NoPort`], [`Error::NoDomain`].
    pub fn unbound(
        hypercall: H,
        shared: PeerPtr<'static, SharedInfo>,
        remote: DomId,
    ) -> Result<Self, Error> {
        let port = event_channel::alloc_unbound(&hypercall, remote)?;
        Ok(Self::new(hypercall, shared, port))
    }

    /// Connects to a port that `remote` offers. An event is pending at once, in
    /// case one was sent before.
    ///
    /// # Errors
    /// [`Error::NotOffered`], [`Error::NoDomain`], [`Error::NoPort`].
    pub fn interdomain(
        hypercall: H,
        shared: PeerPtr<'static, SharedInfo>,
        remote: DomId,
        remote_port: Port,
    ) -> Result<Self, Error> {
        let port = event_channel::bind_interdomain(&hypercall, remote, remote_port)?;
        let port = PortRef::new(port, Some(shared));
        Ok(Self { hypercall, port })
    }

    /// Receives a virtual interrupt.
    ///
    /// # Errors
    /// [`Error::Bound`], [`Error::NoVcpu`], [`Error::NotAllowed`],
    /// [`Error::NoPort`]; [`Error::NotOffered`]: there is no such interrupt, or
    /// not on this vCPU.
    pub fn virq(
        hypercall: H,
        shared: PeerPtr<'static, SharedInfo>,
        virq: Virq,
        vcpu: VcpuId,
    ) -> Result<Self, Error> {
        let port = event_channel::bind_virq(&hypercall, virq, vcpu)?;
        Ok(Self::new(hypercall, shared, port))
    }

    /// Lets this guest's vCPUs wake `vcpu`.
    ///
    /// # Errors
    /// [`Error::NoVcpu`], [`Error::NoPort`].
    pub fn ipi(
        hypercall: H,
        shared: PeerPtr<'static, SharedInfo>,
        vcpu: VcpuId,
    ) -> Result<Self, Error> {
        let port = event_channel::bind_ipi(&hypercall, vcpu)?;
        Ok(Self::new(hypercall, shared, port))
    }

    /// Receives a physical interrupt that this guest was given.
    ///
    /// # Errors
    /// [`Error::Bound`], [`Error::NotAllowed`], [`Error::NoPort`];
    /// [`Error::NotOffered`]: there is no such interrupt.
    pub fn pirq(
        hypercall: H,
        shared: PeerPtr<'static, SharedInfo>,
        pirq: u32,
        flags: BindPirqFlags,
    ) -> Result<Self, Error> {
        let port = event_channel::bind_pirq(&hypercall, pirq, flags)?;
        Ok(Self::new(hypercall, shared, port))
    }

    /// The port's number, as the other end is told.
    pub fn port(&self) -> Port {
        self.port.port()
    }

    /// Tells the other end (of an interrupt between vCPUs: its vCPU) that
    /// something happened.
    ///
    /// # Errors
    /// [`Error::NotOffered`]: an interrupt has no other end.
    pub fn notify(&self) -> Result<(), Error> {
        event_channel::send(&self.hypercall, self.port()).map_err(Error::from)
    }

    /// Whether an event came that was not yet cleared.
    pub fn is_pending(&self) -> bool {
        self.port.is_pending()
    }

    /// Clears the pending bit, and says whether it was set. Look at what the
    /// peer shares only after this, or its next event may go unseen.
    pub fn clear_pending(&self) -> bool {
        self.port.clear_pending()
    }

    /// No upcalls for this port, please. Events are still noted, and [`wait`]
    /// sees them.
    ///
    /// [`wait`]: Self::wait
    pub fn mask(&self) {
        self.port.mask();
    }

    /// Upcalls again. Xen is only asked if there is something to call for.
    ///
    /// # Errors
    /// The hypervisor lost the port.
    pub fn unmask(&self) -> Result<(), Error> {
        if self.port.is_pending() {
            // Xen raises the upcall that the mask held back.
            return event_channel::unmask(&self.hypercall, self.port()).map_err(Error::from);
        }
        self.port.unmask_locally();
        // An event may have come in between, and have seen the mask.
        if self.port.is_pending() {
            self.port.mask();
            return event_channel::unmask(&self.hypercall, self.port()).map_err(Error::from);
        }
        Ok(())
    }

    /// Chooses the vCPU that gets the upcalls.
    ///
    /// # Errors
    /// [`Error::NoVcpu`]; [`Error::NotOffered`]: the port is tied to its vCPU.
    pub fn bind_vcpu(&self, vcpu: VcpuId) -> Result<(), Error> {
        event_channel::bind_vcpu(&self.hypercall, self.port(), vcpu).map_err(Error::from)
    }

    /// Sleeps until an event comes or system time reaches `deadline_ns`. Needs
    /// no interrupts.
    pub fn wait(&self, deadline_ns: Option<u64>) -> Wait
    where
        H: Park + Clock,
    {
        loop {
            if self.clear_pending() {
                return Wait::Event;
            }
            if deadline_ns.is_some_and(|deadline| self.hypercall.now_ns() >= deadline) {
                return Wait::Deadline;
            }
            self.hypercall.park(&[self.port()], deadline_ns);
        }
    }
}

impl<H: Hypercall> Drop for Channel<H> {
    fn drop(&mut self) {
        // A port that the hypervisor has lost is closed.
        let _closed: Result<(), Errno> = event_channel::close(&self.hypercall, self.port());
    }
}
