//! The domain's event channels, and their pending bits.

use hypercall_abi::{
    DomId, Errno, Port, VcpuId,
    peer::PeerPtr,
    peer_field,
    xen::{SharedInfo, Virq},
};

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    Closed,
    /// Offered to a domain.
    Unbound(DomId),
    /// The console's daemon.
    Console,
    /// Another port of this domain.
    Interdomain(Port),
    /// A virtual interrupt of a vCPU.
    Virq(Virq, VcpuId),
    /// Other vCPUs, to wake this one.
    Ipi(VcpuId),
}

impl Binding {
    /// The first vCPU's timer.
    pub(crate) const TIMER: Self = Self::Virq(Virq::TIMER, VcpuId(0));
}

/// Ports of the 2-level interface on x86-64.
const MOST: usize = 4096;

#[derive(Debug)]
pub(crate) struct Ports {
    /// Port 0 is never used.
    bindings: Vec<Binding>,
    shared: PeerPtr<'static, SharedInfo>,
}

impl Ports {
    pub(crate) fn new(shared: PeerPtr<'static, SharedInfo>) -> Self {
        Self {
            bindings: vec![Binding::Closed],
            shared,
        }
    }

    pub(crate) fn open(&mut self, binding: Binding) -> Result<Port, Errno> {
        let free = self
            .bindings
            .iter()
            .skip(1)
            .position(|binding| *binding == Binding::Closed)
            .map(|index| index + 1);
        let index = match free {
            Some(index) => index,
            None if self.bindings.len() < MOST => {
                self.bindings.push(Binding::Closed);
                self.bindings.len() - 1
            }
            None => return Err(Errno::ENOSPC),
        };
        self.bindings[index] = binding;
        let port = Port(index as u32);
        self.clear_pending(port);
        Ok(port)
    }

    /// What a port is bound to. Beyond the ports that exist: `EINVAL`.
    pub(crate) fn binding(&self, port: Port) -> Result<Binding, Errno> {
        self.bindings
            .get(port.0 as usize)
            .copied()
            .filter(|_| port.0 != 0)
            .ok_or(Errno::EINVAL)
    }

    pub(crate) fn close(&mut self, port: Port) -> Result<(), Errno> {
        if self.binding(port)? == Binding::Closed {
            return Err(Errno::EINVAL);
        }
        // The other end is left unbound.
        if let Binding::Interdomain(other) = self.bindings[port.0 as usize] {
            self.rebind(other, Binding::Unbound(crate::calls::GUEST));
        }
        self.bindings[port.0 as usize] = Binding::Closed;
        self.clear_pending(port);
        Ok(())
    }

    /// Binds an open port to something else.
    pub(crate) fn rebind(&mut self, port: Port, binding: Binding) {
        if let Some(slot) = self.bindings.get_mut(port.0 as usize) {
            *slot = binding;
        }
    }

    /// The port that is bound to this.
    pub(crate) fn find(&self, binding: Binding) -> Option<Port> {
        let index = self.bindings.iter().position(|other| *other == binding)?;
        Some(Port(index as u32))
    }

    /// Makes the port pending that is bound to this, if there is one.
    pub(crate) fn ring(&self, binding: Binding) {
        if let Some(port) = self.find(binding) {
            self.set_pending(port);
        }
    }

    /// Closes all ports.
    pub(crate) fn reset(&mut self) {
        for index in 1..self.bindings.len() {
            self.bindings[index] = Binding::Closed;
            self.clear_pending(Port(index as u32));
        }
    }

    /// Takes a port's mask away.
    pub(crate) fn unmask(&self, port: Port) {
        let words = peer_field!(self.shared, SharedInfo, evtchn_mask);
        if let Some(word) = words.get(port.0 as usize / 64) {
            let _before = word.fetch_and(!(1 << (port.0 % 64)));
        }
    }

    fn word(&self, port: Port) -> Option<(PeerPtr<'static, u64>, u64)> {
        let words = peer_field!(self.shared, SharedInfo, evtchn_pending);
        Some((words.get(port.0 as usize / 64)?, 1 << (port.0 % 64)))
    }

    pub(crate) fn set_pending(&self, port: Port) {
        if let Some((word, bit)) = self.word(port) {
            let _before = word.fetch_or(bit);
        }
    }

    fn clear_pending(&self, port: Port) {
        if let Some((word, bit)) = self.word(port) {
            let _before = word.fetch_and(!bit);
        }
    }

    pub(crate) fn is_pending(&self, port: Port) -> bool {
        self.word(port)
            .is_some_and(|(word, bit)| word.load_acquire().trust() & bit != 0)
    }

    /// Every open port, for a report.
    pub(crate) fn describe(&self) -> String {
        let open = self.bindings.iter().enumerate();
        let lines = open.filter(|(_, binding)| **binding != Binding::Closed);
        lines
            .map(|(index, binding)| {
                let state = if self.is_pending(Port(index as u32)) {
                    "pending"
                } else {
                    "quiet"
                };
                format!("  port {index}: {binding:?}, {state}\n")
            })
            .collect()
    }
}
