//! A channel of one's own.

mod wait;

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use hypercall_abi::{
    DomId, Errno, Port, VcpuId,
    event_channel::{self, BindPirqFlags, EVTCHN_FIFO_MAX_QUEUES},
    platform::{Hypercall, Pages},
    probe::Facility,
    xen::Virq,
};

use crate::{Error, Ports, slots::Slot};
pub use wait::Events;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wait {
    /// The other end told us something; it is cleared.
    Event,
    /// The deadline came first.
    Deadline,
}

/// Who opened a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// This channel: it closes it.
    Us,
    /// The toolstack.
    Toolstack,
}

/// A port and what comes in by it. One that this guest opened is closed when
/// the channel is dropped.
///
/// Events are told to [`wait`](Self::wait) (async, by upcalls), to
/// [`wait_blocking`](Self::wait_blocking) (by poll) or to
/// [`take`](Self::take); one at a time should use a channel.
///
/// ```
/// use event_channels::{Channel, Choice, Ports, Wait};
/// use hypercall_abi::{DomId, peer::PeerPtr};
/// use mock_hypervisor::{Config, Domain};
///
/// let domain = Domain::new(Config::default()).unwrap();
/// // SAFETY: the page lives as long as this test's domain.
/// let shared = unsafe { PeerPtr::new(domain.shared_info()) };
/// let ports = Ports::new(&domain, shared, Choice::Best, Default::default())?;
/// let offered = Channel::unbound(&ports, DomId::SELF)?;
/// let bound = Channel::interdomain(&ports, DomId::SELF, offered.port())?;
/// bound.notify()?;
/// assert_eq!(offered.wait_blocking(None), Wait::Event);
/// # Ok::<(), event_channels::Error>(())
/// ```
pub struct Channel<'t, P: Hypercall + Pages> {
    ports: &'t Ports<P>,
    slot: AtomicPtr<Slot>,
    port: AtomicU32,
    owner: Owner,
    /// As many as there were when it was opened: see [`Ports::resume`].
    resumes: AtomicU32,
}

impl<P: Hypercall + Pages> core::fmt::Debug for Channel<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Channel")
            .field("port", &self.port())
            .field("owner", &self.owner)
            .field("pending", &self.is_pending())
            .field("events", &self.slot().events())
            .finish()
    }
}

/// Where events go that nobody has directed elsewhere.
const FIRST: VcpuId = VcpuId(0);

/// What is to be done with what was pending before the channel was ours.
enum Before {
    Forget,
    Keep,
}

/// A port that was just opened.
fn prepare<P: Hypercall + Pages>(ports: &Ports<P>, slot: &Slot, port: Port, before: Before) {
    let words = ports.words();
    // Upcalls when somebody waits for them, not earlier.
    words.mask(port);
    match before {
        Before::Forget => {
            words.clear_pending(port);
        }
        // An upcall may have come when the slot was not open yet.
        Before::Keep => slot.note(),
    }
}

impl<'t, P: Hypercall + Pages> Channel<'t, P> {
    fn new(
        ports: &'t Ports<P>,
        port: Port,
        owner: Owner,
        before: Before,
        vcpu: VcpuId,
    ) -> Result<Self, Error> {
        let slot = match ports.enter(port, vcpu) {
            Ok(slot) => slot,
            Err(error) => {
                if owner == Owner::Us {
                    let _gone: Result<(), Errno> = event_channel::close(&ports.platform, port);
                }
                return Err(error);
            }
        };
        prepare(ports, slot, port, before);
        Ok(Self {
            ports,
            slot: AtomicPtr::new(core::ptr::from_ref(slot).cast_mut()),
            port: AtomicU32::new(port.0),
            owner,
            resumes: AtomicU32::new(ports.resumes()),
        })
    }

    fn slot(&self) -> &'t Slot {
        // SAFETY: a slot of these ports, which keep all slots for as long as they live.
        unsafe { &*self.slot.load(Ordering::Relaxed) }
    }

    /// Offers a port to `remote`.
    ///
    /// # Errors
    /// [`Error::NoPort`], [`Error::NoDomain`], [`Error::NoMemory`].
    pub fn unbound(ports: &'t Ports<P>, remote: DomId) -> Result<Self, Error> {
        let port = event_channel::alloc_unbound(&ports.platform, remote)?;
        Self::new(ports, port, Owner::Us, Before::Forget, FIRST)
    }

    /// Connects to a port that `remote` offers. An event is pending at once, in
    /// case one was sent before.
    ///
    /// # Errors
    /// [`Error::NotOffered`], [`Error::NoDomain`], [`Error::NoPort`],
    /// [`Error::NoMemory`].
    pub fn interdomain(
        ports: &'t Ports<P>,
        remote: DomId,
        remote_port: Port,
    ) -> Result<Self, Error> {
        let port = event_channel::bind_interdomain(&ports.platform, remote, remote_port)?;
        Self::new(ports, port, Owner::Us, Before::Keep, FIRST)
    }

    /// Receives a virtual interrupt.
    ///
    /// # Errors
    /// [`Error::Bound`], [`Error::NoVcpu`], [`Error::NotAllowed`],
    /// [`Error::NoPort`], [`Error::NoMemory`]; [`Error::NotOffered`]: there is
    /// no such interrupt, or not on this vCPU.
    pub fn virq(ports: &'t Ports<P>, virq: Virq, vcpu: VcpuId) -> Result<Self, Error> {
        let port = event_channel::bind_virq(&ports.platform, virq, vcpu)?;
        Self::new(ports, port, Owner::Us, Before::Forget, vcpu)
    }

    /// Lets this guest's vCPUs wake `vcpu`.
    ///
    /// # Errors
    /// [`Error::NoVcpu`], [`Error::NoPort`], [`Error::NoMemory`].
    pub fn ipi(ports: &'t Ports<P>, vcpu: VcpuId) -> Result<Self, Error> {
        let port = event_channel::bind_ipi(&ports.platform, vcpu)?;
        Self::new(ports, port, Owner::Us, Before::Forget, vcpu)
    }

    /// Receives a physical interrupt that this guest was given.
    ///
    /// # Errors
    /// [`Error::Bound`], [`Error::NotAllowed`], [`Error::NoPort`],
    /// [`Error::NoMemory`]; [`Error::NotOffered`]: there is no such interrupt.
    pub fn pirq(ports: &'t Ports<P>, pirq: u32, flags: BindPirqFlags) -> Result<Self, Error> {
        let port = event_channel::bind_pirq(&ports.platform, pirq, flags)?;
        Self::new(ports, port, Owner::Us, Before::Forget, FIRST)
    }

    /// Uses a port that the toolstack bound, and leaves it open. An event is
    /// pending at once, in case one came before.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn adopt(ports: &'t Ports<P>, port: Port) -> Result<Self, Error> {
        Self::new(ports, port, Owner::Toolstack, Before::Keep, FIRST)
    }

    /// Uses the port that the toolstack bound for the same purpose where this guest went
    /// on ([`Ports::resume`]), as [`Self::adopt`] does. Whoever waited is woken already,
    /// and waits for that one next.
    ///
    /// # Errors
    /// [`Error::Bound`]: this one is not lost, or was not adopted; [`Error::NoMemory`].
    pub fn adopt_again(&self, port: Port) -> Result<(), Error> {
        if self.owner != Owner::Toolstack || !self.is_stale() {
            return Err(Error::Bound);
        }
        let slot = self.ports.enter(port, FIRST)?;
        prepare(self.ports, slot, port, Before::Keep);
        self.slot
            .store(core::ptr::from_ref(slot).cast_mut(), Ordering::Relaxed);
        self.port.store(port.0, Ordering::Relaxed);
        // Last: with it the port is ours.
        self.resumes.store(self.ports.resumes(), Ordering::Release);
        Ok(())
    }

    /// The port's number, as the other end is told.
    pub fn port(&self) -> Port {
        Port(self.port.load(Ordering::Relaxed))
    }

    /// The ports that it is one of.
    pub const fn ports(&self) -> &'t Ports<P> {
        self.ports
    }

    /// The platform.
    pub const fn platform(&self) -> &P {
        &self.ports.platform
    }

    /// Whether the channel predates the last [`Ports::resume`] and is stale: no event
    /// arrives, a notification goes nowhere, and dropping it closes no port.
    pub fn is_stale(&self) -> bool {
        self.resumes.load(Ordering::Acquire) != self.ports.resumes()
    }

    /// How many upcalls there were for it.
    pub fn events(&self) -> u32 {
        self.slot().events()
    }

    /// Tells the other end (of an interrupt between vCPUs: its vCPU) that
    /// something happened.
    ///
    /// # Errors
    /// [`Error::NotOffered`]: an interrupt has no other end.
    pub fn notify(&self) -> Result<(), Error> {
        if self.is_stale() {
            return Ok(());
        }
        event_channel::send(&self.ports.platform, self.port()).map_err(Error::from)
    }

    /// The same, when it is convenient: an executor may have it wait until the
    /// vCPU sleeps ([`Ports::defer_notifications`]), and so saves a hypercall. Without one,
    /// at once.
    ///
    /// # Errors
    /// As for [`notify`](Self::notify).
    pub fn notify_deferred(&self) -> Result<(), Error> {
        if self.is_stale() {
            return Ok(());
        }
        self.ports.notify_deferred(self.port()).map_err(Error::from)
    }

    /// Whether there is another end: false for a port that is offered and that
    /// nobody has bound to, or no longer.
    ///
    /// # Errors
    /// The hypervisor lost the port.
    pub fn is_connected(&self) -> Result<bool, Error> {
        if self.is_stale() {
            return Ok(false);
        }
        let status = event_channel::status(&self.ports.platform, self.port())?;
        Ok(status.unbound().is_none())
    }

    /// Whether an event came that nobody has taken.
    pub fn is_pending(&self) -> bool {
        !self.is_stale() && (self.slot().has_fired() || self.ports.words().is_pending(self.port()))
    }

    /// Takes an event, and says whether there was one. Look at what the peer
    /// shares only after this, or its next event may go unseen. It waits for nothing, and
    /// so holds nobody back: a loop around it is as busy as it likes.
    pub fn take(&self) -> bool {
        if self.is_stale() {
            return false;
        }
        let fired = self.slot().take_fired();
        self.ports.words().clear_pending(self.port()) || fired
    }

    /// Puts an event back that somebody has taken (from its word, by a
    /// [`PortRef`](crate::PortRef), say) for whom it was not: whoever waits is woken, as if
    /// it had just come.
    pub fn put_back(&self) {
        if !self.is_stale() {
            self.slot().note();
            self.slot().waker.wake();
        }
    }

    /// Masks the port. Events stay pending.
    pub fn mask(&self) {
        if !self.is_stale() {
            self.ports.words().mask(self.port());
        }
    }

    /// Upcalls again: for the next event. Xen is only asked if there is
    /// something to call for.
    ///
    /// # Errors
    /// The hypervisor lost the port.
    pub fn unmask(&self) -> Result<(), Error> {
        if self.is_stale() || self.ports.words().unmask_if_quiet(self.port()) {
            return Ok(());
        }
        event_channel::unmask(&self.ports.platform, self.port()).map_err(Error::from)
    }

    /// Chooses the vCPU that gets the upcalls.
    ///
    /// # Errors
    /// [`Error::NoVcpu`]; [`Error::NotOffered`]: the port is tied to its vCPU.
    pub fn bind_vcpu(&self, vcpu: VcpuId) -> Result<(), Error> {
        if self.is_stale() {
            return Err(Error::NotOffered);
        }
        let words = self.ports.words();
        let was_masked = words.is_masked(self.port());
        // An event that comes meanwhile is told to the new vCPU, by unmasking.
        words.mask(self.port());
        let bound = event_channel::bind_vcpu(&self.ports.platform, self.port(), vcpu);
        if bound.is_ok() {
            self.slot().set_vcpu(vcpu);
        }
        if !was_masked {
            self.unmask()?;
        }
        bound.map_err(Error::from)
    }

    /// Chooses the queue: 0 is served first, 15 last, 7 is where a port starts.
    ///
    /// # Errors
    /// [`Error::NotSupported`]: the interface has no priorities;
    /// [`Error::NotOffered`]: there is no such queue.
    pub fn set_priority(&self, priority: u32) -> Result<(), Error> {
        if self.is_stale() {
            return Err(Error::NotOffered);
        }
        if priority >= EVTCHN_FIFO_MAX_QUEUES {
            return Err(Error::NotOffered);
        }
        event_channel::set_priority(&self.ports.platform, self.port(), priority).map_err(|errno| {
            match Facility::EventPriorities.is_absent(errno) {
                true => Error::NotSupported,
                false => errno.into(),
            }
        })
    }
}

impl<P: Hypercall + Pages> Drop for Channel<'_, P> {
    fn drop(&mut self) {
        if self.is_stale() {
            return;
        }
        self.mask();
        self.slot().close();
        self.ports.roll.remove(self.port());
        if self.owner == Owner::Us {
            // A port that the hypervisor has lost is closed.
            let _closed: Result<(), Errno> =
                event_channel::close(&self.ports.platform, self.port());
        }
    }
}
