//! The FIFO interface of event channels: queues by priority, and a word for each event.

use hypercall_abi::{
    Errno, Port, VcpuId,
    event_channel::{
        EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_NR_CHANNELS,
        EVTCHN_FIFO_PENDING, EVTCHN_FIFO_PRIORITY_DEFAULT, EVTCHN_FIFO_PRIORITY_MIN,
        EvtchnFifoControlBlock,
    },
    peer::PeerPtr,
    peer_field,
};

use super::event_channels::Ports;

/// Words of an event in one page of the array.
const WORDS_PER_PAGE: u32 = 1024;
const QUEUES: usize = 16;

/// The queues of the FIFO interface, as Xen keeps them.
#[derive(Debug)]
pub(super) struct Fifo {
    /// For each vCPU, where its queues' heads are, and their tails.
    vcpus: Vec<Option<Queues>>,
    array: Vec<PeerPtr<'static, [u32; 1024]>>,
}

#[derive(Clone, Copy, Debug)]
struct Queues {
    control: PeerPtr<'static, EvtchnFifoControlBlock>,
    tails: [u32; QUEUES],
}

impl Ports {
    pub(super) fn event_word(&self, port: Port) -> Option<PeerPtr<'static, u32>> {
        let array = &self.fifo.as_ref()?.array;
        let page = array.get((port.0 / WORDS_PER_PAGE) as usize)?;
        page.get((port.0 % WORDS_PER_PAGE) as usize)
    }

    /// Pending by the FIFO interface: into the queue of its priority, unless it
    /// is masked or in one already.
    pub(super) fn enqueue(&mut self, port: Port) {
        let Some(slot) = self.slots.get(port.0 as usize).copied() else {
            return;
        };
        let Some(word) = self.event_word(port) else {
            self.slots[port.0 as usize].pending = true;
            return;
        };
        let priority = slot.priority as usize % QUEUES;
        let Some(fifo) = &mut self.fifo else {
            return;
        };
        // For a vCPU without queues, the event is lost.
        let Some(Some(queues)) = fifo.vcpus.get(slot.vcpu.0 as usize).copied() else {
            return;
        };
        let before = word.fetch_or(1 << EVTCHN_FIFO_PENDING).trust();
        if before & (1 << EVTCHN_FIFO_MASKED | 1 << EVTCHN_FIFO_LINKED) != 0 {
            return;
        }
        // An event that is in no queue is nobody's tail any more: the queue
        // that it was in is empty.
        for queues in fifo.vcpus.iter_mut().flatten() {
            for tail in queues.tails.iter_mut().filter(|tail| **tail == port.0) {
                *tail = 0;
            }
        }
        let tail = match fifo.vcpus.get(slot.vcpu.0 as usize) {
            Some(Some(queues)) => queues.tails[priority],
            _ => 0,
        };
        let _before = word.fetch_or(1 << EVTCHN_FIFO_LINKED);
        let linked = self.link(tail, port);
        let heads = peer_field!(queues.control, EvtchnFifoControlBlock, head);
        if let (false, Some(head)) = (linked, heads.get(priority)) {
            head.store_release(port.0);
        }
        if let Some(fifo) = &mut self.fifo
            && let Some(Some(queues)) = fifo.vcpus.get_mut(slot.vcpu.0 as usize)
        {
            queues.tails[priority] = port.0;
        }
        if !linked {
            let ready = peer_field!(queues.control, EvtchnFifoControlBlock, ready);
            if ready.fetch_or(1 << priority).trust() & (1 << priority) == 0 {
                self.upcall(slot.vcpu);
            }
        }
    }

    /// Appends to a queue's last event, if that is still in the queue.
    fn link(&self, tail: u32, port: Port) -> bool {
        let Some(word) = self.event_word(Port(tail)).filter(|_| tail != 0) else {
            return false;
        };
        loop {
            let old = word.load_acquire().trust();
            if old & (1 << EVTCHN_FIFO_LINKED) == 0 {
                return false;
            }
            let new = (old & !EVTCHN_FIFO_LINK_MASK) | port.0;
            if word.compare_exchange(old, new).is_ok() {
                return true;
            }
        }
    }

    /// `EVTCHNOP_init_control`. The first vCPU's makes the domain a FIFO one.
    pub(crate) fn init_control(
        &mut self,
        vcpu: VcpuId,
        vcpus: u32,
        control: PeerPtr<'static, EvtchnFifoControlBlock>,
    ) -> Result<(), Errno> {
        let queues = Queues {
            control,
            tails: [0; QUEUES],
        };
        if self.fifo.is_none() {
            for index in 1..self.slots.len() {
                self.slots[index].pending = self.is_pending(Port(index as u32));
                self.slots[index].priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
            }
            self.fifo = Some(Fifo {
                vcpus: vec![None; vcpus as usize],
                array: Vec::new(),
            });
        }
        let fifo = self.fifo.as_mut().ok_or(Errno::EINVAL)?;
        let slot = fifo.vcpus.get_mut(vcpu.0 as usize).ok_or(Errno::ENOENT)?;
        if slot.is_some() {
            return Err(Errno::EINVAL);
        }
        *slot = Some(queues);
        Ok(())
    }

    /// Whether the domain chose the FIFO interface.
    pub(crate) const fn has_queues(&self) -> bool {
        self.fifo.is_some()
    }

    /// `EVTCHNOP_expand_array`.
    pub(crate) fn expand_array(
        &mut self,
        page: PeerPtr<'static, [u32; 1024]>,
    ) -> Result<(), Errno> {
        let fifo = self.fifo.as_mut().ok_or(Errno::EOPNOTSUPP)?;
        if fifo.array.len() as u32 * WORDS_PER_PAGE >= EVTCHN_FIFO_NR_CHANNELS {
            return Err(Errno::ENOSPC);
        }
        let first = fifo.array.len() as u32 * WORDS_PER_PAGE;
        fifo.array.push(page);
        // What was pending without a word to say it.
        for index in first..(first + WORDS_PER_PAGE).min(self.slots.len() as u32) {
            if std::mem::take(&mut self.slots[index as usize].pending) {
                self.set_pending(Port(index));
            }
        }
        Ok(())
    }

    /// `EVTCHNOP_set_priority`.
    pub(crate) fn set_priority(&mut self, port: Port, priority: u32) -> Result<(), Errno> {
        self.binding(port)?;
        if self.fifo.is_none() {
            return Err(Errno::ENOSYS);
        }
        if priority > EVTCHN_FIFO_PRIORITY_MIN {
            return Err(Errno::EINVAL);
        }
        self.slots[port.0 as usize].priority = priority;
        Ok(())
    }
}
