//! Event channels between domains, and to what serves them.

use hypercall_abi::{DomId, Errno, Port};

use super::{
    chance::Fate,
    event_channels::{Binding, DOM0},
    machine::Core,
};

/// The first number of a backend's own ends of channels: no guest has such a port.
pub(crate) const FIRST_SERVICE_PORT: u32 = 1 << 24;

/// A service is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The console's daemon, by a domain.
    Console(DomId),
    /// The store, by a domain.
    Store(DomId),
    /// A domain's backend, at its own end of a channel.
    Backend(DomId, Port),
}

impl Core {
    /// What a port of `domid`'s is bound to.
    pub(crate) fn binding(&self, domid: DomId, port: Port) -> Result<Binding, Errno> {
        let state = self.domains.get(&domid);
        let state = state.filter(|state| !state.is_destroyed);
        state.ok_or(Errno::ESRCH)?.ports.binding(port)
    }

    /// Makes a port of `domid`'s pending, if both are there.
    pub(crate) fn set_pending(&mut self, domid: DomId, port: Port) {
        if let Some(state) = self.domains.get_mut(&domid) {
            state.ports.set_pending(port);
        }
    }

    /// A service notifies a domain.
    pub(crate) fn notify_front(&mut self, front: DomId, port: Port) {
        if self.fate(front, port) == Fate::Comes {
            self.set_pending(front, port);
        }
    }

    /// `EVTCHNOP_send`.
    pub(crate) fn send(&mut self, domid: DomId, port: Port) -> Result<(), Errno> {
        match self.binding(domid, port)? {
            Binding::Closed | Binding::Virq(..) | Binding::Pirq(_) => return Err(Errno::EINVAL),
            // Nobody is bound yet: the event is lost, and that is no error.
            Binding::Unbound(_) => {}
            Binding::Console => self.signals.push(Signal::Console(domid)),
            Binding::Store => self.signals.push(Signal::Store(domid)),
            Binding::Interdomain(remote, other) => {
                if self.fate(remote, other) == Fate::Comes {
                    match other.0 < FIRST_SERVICE_PORT {
                        true => self.set_pending(remote, other),
                        false => self.signals.push(Signal::Backend(remote, other)),
                    }
                }
            }
            Binding::Ipi(_) => self.set_pending(domid, port),
        }
        self.has_news = true;
        Ok(())
    }

    /// `EVTCHNOP_bind_interdomain`.
    pub(crate) fn bind_interdomain(
        &mut self,
        domid: DomId,
        remote: DomId,
        remote_port: Port,
    ) -> Result<Port, Errno> {
        if remote == DOM0 {
            // It offers nothing.
            return Err(Errno::EINVAL);
        }
        if self.binding(remote, remote_port)? != Binding::Unbound(domid) {
            return Err(Errno::EINVAL);
        }
        let state = self.domains.get_mut(&domid).ok_or(Errno::ESRCH)?;
        let local = state
            .ports
            .open(Binding::Interdomain(remote, remote_port))?;
        // The new end may have missed an event: it is told at once.
        state.ports.set_pending(local);
        if let Some(other) = self.domains.get_mut(&remote) {
            other
                .ports
                .rebind(remote_port, Binding::Interdomain(domid, local));
        }
        Ok(local)
    }

    /// `EVTCHNOP_close`.
    pub(crate) fn close(&mut self, domid: DomId, port: Port) -> Result<(), Errno> {
        let binding = self.binding(domid, port)?;
        if let Some(state) = self.domains.get_mut(&domid) {
            state.ports.close(port)?;
        }
        // The other end is left unbound.
        if let Binding::Interdomain(remote, other) = binding
            && let Some(state) = self.domains.get_mut(&remote)
        {
            state.ports.rebind(other, Binding::Unbound(domid));
        }
        Ok(())
    }

    /// Leaves the other ends of all channels of a domain's unbound.
    pub(crate) fn unbind_peers(&mut self, domid: DomId) {
        let peers = match self.domains.get(&domid) {
            Some(state) => state.ports.peers(),
            None => return,
        };
        for (remote, other) in peers {
            if let Some(state) = self.domains.get_mut(&remote) {
                state.ports.rebind(other, Binding::Unbound(domid));
            }
        }
    }
}
