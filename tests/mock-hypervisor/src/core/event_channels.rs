//! A domain's event channels and their pending bits, by either interface.

use std::collections::BTreeMap;

use hypercall_abi::{
    DomId, Errno, Port, VcpuId,
    event_channel::{
        EVTCHN_2L_NR_CHANNELS, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_NR_CHANNELS, EVTCHN_FIFO_PENDING,
        EVTCHN_FIFO_PRIORITY_DEFAULT,
    },
    peer::PeerPtr,
    peer_field,
    xen::{SharedInfo, VcpuInfo, Virq},
};

use super::fifo::Fifo;

/// The domain that has the store, the console's daemon and the devices.
pub(crate) const DOM0: DomId = DomId(0);

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    Closed,
    /// Offered to a domain.
    Unbound(DomId),
    /// The console's daemon.
    Console,
    /// The store's.
    Store,
    /// A domain's port.
    Interdomain(DomId, Port),
    /// A virtual interrupt of a vCPU.
    Virq(Virq, VcpuId),
    /// Other vCPUs, to wake this one.
    Ipi(VcpuId),
    /// An interrupt of a device's, of which there is none.
    Pirq(u32),
}

impl Binding {
    /// A vCPU's timer.
    pub(crate) const fn timer(vcpu: VcpuId) -> Self {
        Self::Virq(Virq::TIMER, vcpu)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    binding: Binding,
    pub(super) vcpu: VcpuId,
    pub(super) priority: u32,
    /// Pending while there was no word to say it.
    pub(super) pending: bool,
}

const CLOSED: Slot = Slot {
    binding: Binding::Closed,
    vcpu: VcpuId(0),
    priority: EVTCHN_FIFO_PRIORITY_DEFAULT,
    pending: false,
};

/// Has a vCPU that runs look whether an upcall is due.
type Kick = Box<dyn Fn(VcpuId) + Send + Sync>;

pub(crate) struct Ports {
    /// Port 0 is never used.
    pub(super) slots: Vec<Slot>,
    shared: PeerPtr<'static, SharedInfo>,
    /// Where the vCPUs' words are that the guest moved out of the shared page.
    moved: BTreeMap<u32, PeerPtr<'static, VcpuInfo>>,
    pub(super) fifo: Option<Fifo>,
    /// The ports that this domain may have.
    most: u32,
    /// What runs the guest, if it can be interrupted.
    kick: Option<Kick>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports")
            .field("slots", &self.slots)
            .field("fifo", &self.fifo)
            .finish_non_exhaustive()
    }
}

impl Ports {
    pub(crate) fn new(shared: PeerPtr<'static, SharedInfo>, most: u32) -> Self {
        Self {
            slots: vec![CLOSED],
            shared,
            moved: BTreeMap::new(),
            fifo: None,
            most: most.min(EVTCHN_FIFO_NR_CHANNELS),
            kick: None,
        }
    }

    /// From now on vCPUs that run are interrupted when they are to look.
    #[cfg(feature = "user")]
    pub(crate) fn kick_by(&mut self, kick: Kick) {
        self.kick = Some(kick);
    }

    /// Interrupts a vCPU, if it runs.
    pub(crate) fn kick(&self, vcpu: VcpuId) {
        if let Some(kick) = &self.kick {
            kick(vcpu);
        }
    }

    pub(crate) fn open(&mut self, binding: Binding) -> Result<Port, Errno> {
        let most = match self.fifo {
            Some(_) => self.most,
            None => self.most.min(EVTCHN_2L_NR_CHANNELS),
        };
        let mut slots = self.slots.iter().skip(1);
        let free = slots.position(|slot| slot.binding == Binding::Closed);
        let index = match free {
            Some(index) => index + 1,
            None if self.slots.len() < most as usize => {
                self.slots.push(CLOSED);
                self.slots.len() - 1
            }
            None => return Err(Errno::ENOSPC),
        };
        let vcpu = match binding {
            Binding::Virq(_, vcpu) | Binding::Ipi(vcpu) => vcpu,
            _ => VcpuId(0),
        };
        self.slots[index] = Slot {
            binding,
            vcpu,
            ..CLOSED
        };
        let port = Port(index as u32);
        self.clear_pending(port);
        Ok(port)
    }

    fn slot(&self, port: Port) -> Result<&Slot, Errno> {
        let slot = self.slots.get(port.0 as usize).filter(|_| port.0 != 0);
        slot.ok_or(Errno::EINVAL)
    }

    /// What a port is bound to. Beyond the ports that exist: `EINVAL`.
    pub(crate) fn binding(&self, port: Port) -> Result<Binding, Errno> {
        self.slot(port).map(|slot| slot.binding)
    }

    /// The vCPU that a port's events go to.
    pub(crate) fn vcpu(&self, port: Port) -> VcpuId {
        self.slot(port).map_or(VcpuId(0), |slot| slot.vcpu)
    }

    pub(crate) fn bind_vcpu(&mut self, port: Port, vcpu: VcpuId) {
        if let Some(slot) = self.slots.get_mut(port.0 as usize) {
            slot.vcpu = vcpu;
        }
    }

    pub(crate) fn close(&mut self, port: Port) -> Result<(), Errno> {
        if self.binding(port)? == Binding::Closed {
            return Err(Errno::EINVAL);
        }
        self.slots[port.0 as usize] = CLOSED;
        self.clear_pending(port);
        Ok(())
    }

    /// Binds an open port to something else.
    pub(crate) fn rebind(&mut self, port: Port, binding: Binding) {
        if let Some(slot) = self.slots.get_mut(port.0 as usize) {
            slot.binding = binding;
        }
    }

    /// The port that is bound to this.
    pub(crate) fn find(&self, binding: Binding) -> Option<Port> {
        let index = self.slots.iter().position(|slot| slot.binding == binding)?;
        Some(Port(index as u32))
    }

    /// The other ends of this domain's channels.
    pub(crate) fn peers(&self) -> Vec<(DomId, Port)> {
        let bindings = self.slots.iter().map(|slot| slot.binding);
        bindings
            .filter_map(|binding| match binding {
                Binding::Interdomain(domid, port) => Some((domid, port)),
                _ => None,
            })
            .collect()
    }

    /// Makes one of the open ports pending.
    pub(crate) fn ring_any(&mut self, any: u64) {
        let open = |(_, slot): &(usize, &Slot)| slot.binding != Binding::Closed;
        let open: Vec<usize> = self
            .slots
            .iter()
            .enumerate()
            .filter(open)
            .map(|(index, _)| index)
            .collect();
        if let Some(index) = open.get(any as usize % open.len().max(1)) {
            self.set_pending(Port(*index as u32));
        }
    }

    /// Makes the port pending that is bound to this, if there is one.
    pub(crate) fn ring(&mut self, binding: Binding) {
        if let Some(port) = self.find(binding) {
            self.set_pending(port);
        }
    }

    /// The page that is shared with the guest.
    pub(crate) const fn shared(&self) -> PeerPtr<'static, SharedInfo> {
        self.shared
    }

    /// All vCPUs' words are in the shared page again.
    pub(crate) fn forget_places(&mut self) {
        self.moved.clear();
    }

    /// Closes all ports, and goes back to the 2-level interface.
    pub(crate) fn reset(&mut self) {
        for index in 1..self.slots.len() {
            self.slots[index] = CLOSED;
            self.clear_pending(Port(index as u32));
        }
        self.fifo = None;
    }

    /// As in a domain that is new: the shared page, too.
    pub(crate) fn start_anew(&mut self) {
        self.reset();
        self.forget_places();
        let shared = self.shared();
        for words in [
            peer_field!(shared, SharedInfo, evtchn_pending),
            peer_field!(shared, SharedInfo, evtchn_mask),
        ] {
            for word in (0..).map_while(|index| words.get(index)) {
                word.store(0);
            }
        }
        let vcpus = peer_field!(shared, SharedInfo, vcpu_info);
        for vcpu in (0..).map_while(|index| vcpus.get(index)) {
            peer_field!(vcpu, VcpuInfo, evtchn_pending_sel).store(0);
            peer_field!(vcpu, VcpuInfo, evtchn_upcall_pending).store(0);
            peer_field!(vcpu, VcpuInfo, evtchn_upcall_mask).store(1);
        }
    }

    /// `EVTCHNOP_unmask`.
    pub(crate) fn unmask(&mut self, port: Port) {
        if self.fifo.is_some() {
            let Some(word) = self.event_word(port) else {
                return;
            };
            let before = word.fetch_and(!(1 << EVTCHN_FIFO_MASKED)).trust();
            if before & (1 << EVTCHN_FIFO_PENDING) != 0 {
                self.set_pending(port);
            }
            return;
        }
        let words = peer_field!(self.shared, SharedInfo, evtchn_mask);
        let bit = 1 << (port.0 % 64);
        let Some(word) = words.get(port.0 as usize / 64) else {
            return;
        };
        let was_masked = word.fetch_and(!bit).trust() & bit != 0;
        if was_masked && self.is_pending(port) {
            self.select(port);
        }
    }

    fn word(&self, port: Port) -> Option<(PeerPtr<'static, u64>, u64)> {
        let words = peer_field!(self.shared, SharedInfo, evtchn_pending);
        Some((words.get(port.0 as usize / 64)?, 1 << (port.0 % 64)))
    }

    pub(crate) fn vcpu_info(&self, vcpu: VcpuId) -> Option<PeerPtr<'static, VcpuInfo>> {
        let moved = self.moved.get(&vcpu.0).copied();
        moved.or_else(|| peer_field!(self.shared, SharedInfo, vcpu_info).get(vcpu.0 as usize))
    }

    /// `VCPUOP_register_vcpu_info`: what was told in the old place is told in the
    /// new one. Only once.
    pub(crate) fn move_vcpu_info(
        &mut self,
        vcpu: VcpuId,
        place: PeerPtr<'static, VcpuInfo>,
    ) -> bool {
        if self.moved.contains_key(&vcpu.0) {
            return false;
        }
        let mask = peer_field!(place, VcpuInfo, evtchn_upcall_mask);
        if let Some(old) = self.vcpu_info(vcpu) {
            mask.store(
                peer_field!(old, VcpuInfo, evtchn_upcall_mask)
                    .load_acquire()
                    .trust(),
            );
        } else {
            mask.store(1);
        }
        self.moved.insert(vcpu.0, place);
        // It may have missed events: it is to look at all of them.
        peer_field!(place, VcpuInfo, evtchn_pending_sel).store(u64::MAX);
        self.upcall(vcpu);
        true
    }

    /// Tells a vCPU that there is something to look at.
    pub(super) fn upcall(&self, vcpu: VcpuId) {
        if let Some(info) = self.vcpu_info(vcpu) {
            peer_field!(info, VcpuInfo, evtchn_upcall_pending).store_release(1);
            self.kick(vcpu);
        }
    }

    /// Whether a vCPU was told so.
    pub(crate) fn upcall_pending(&self, vcpu: VcpuId) -> bool {
        self.vcpu_info(vcpu).is_some_and(|info| {
            let pending = peer_field!(info, VcpuInfo, evtchn_upcall_pending);
            pending.load_acquire().trust() != 0
        })
    }

    /// The first level of two.
    fn select(&self, port: Port) {
        let vcpu = self.vcpu(port);
        if let Some(info) = self.vcpu_info(vcpu) {
            let selector = peer_field!(info, VcpuInfo, evtchn_pending_sel);
            let _before = selector.fetch_or(1 << (port.0 / 64));
            self.upcall(vcpu);
        }
    }

    pub(crate) fn set_pending(&mut self, port: Port) {
        if self.fifo.is_some() {
            return self.enqueue(port);
        }
        let Some((word, bit)) = self.word(port) else {
            return;
        };
        let before = word.fetch_or(bit).trust();
        let masks = peer_field!(self.shared, SharedInfo, evtchn_mask);
        let masked = masks
            .get(port.0 as usize / 64)
            .is_some_and(|mask| mask.load_acquire().trust() & bit != 0);
        if before & bit == 0 && !masked {
            self.select(port);
        }
    }

    fn clear_pending(&mut self, port: Port) {
        if let Some(slot) = self.slots.get_mut(port.0 as usize) {
            slot.pending = false;
        }
        if self.fifo.is_some() {
            if let Some(word) = self.event_word(port) {
                let _before = word.fetch_and(!(1 << EVTCHN_FIFO_PENDING));
            }
        } else if let Some((word, bit)) = self.word(port) {
            let _before = word.fetch_and(!bit);
        }
    }

    pub(crate) fn is_pending(&self, port: Port) -> bool {
        if self.fifo.is_some() {
            return match self.event_word(port) {
                Some(word) => word.load_acquire().trust() & (1 << EVTCHN_FIFO_PENDING) != 0,
                None => self.slot(port).is_ok_and(|slot| slot.pending),
            };
        }
        self.word(port)
            .is_some_and(|(word, bit)| word.load_acquire().trust() & bit != 0)
    }

    /// How many ports are open.
    pub(crate) fn count(&self) -> usize {
        let open = |slot: &&Slot| slot.binding != Binding::Closed;
        self.slots.iter().filter(open).count()
    }

    /// Every open port, for a report.
    pub(crate) fn describe(&self) -> String {
        let open = self.slots.iter().enumerate();
        let lines = open.filter(|(_, slot)| slot.binding != Binding::Closed);
        lines
            .map(|(index, slot)| {
                let state = if self.is_pending(Port(index as u32)) {
                    "pending"
                } else {
                    "quiet"
                };
                format!("  port {index}: {:?}, {state}\n", slot.binding)
            })
            .collect()
    }
}
