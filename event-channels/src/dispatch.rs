//! The upcall: from pending bits to wakers.

use core::sync::atomic::Ordering;

use hypercall_abi::{
    Port, VcpuId,
    peer::PeerPtr,
    peer_field,
    platform::{Hypercall, Pages},
    xen::{SharedInfo, VcpuInfo},
};

use crate::{Ports, word};

const WORD_BITS: u32 = u64::BITS;

/// What an upcall found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dispatched {
    /// Events for channels.
    pub events: u32,
    /// Events on ports that nobody has.
    pub spurious: u32,
}

/// The first set bit from `start` on, going round.
const fn next_bit(bits: u64, start: u32) -> u32 {
    (bits.rotate_right(start).trailing_zeros() + start) % WORD_BITS
}

impl<P: Hypercall + Pages> Ports<P> {
    /// Takes what is pending for `vcpu`: each event is masked and cleared, and
    /// whoever waits for it is woken. The mask goes when the channel is next
    /// waited for, so that a peer which rings without end costs one upcall a
    /// wait, and no port is seen twice in one upcall.
    ///
    /// To be called on that vCPU in its upcall, with further ones held back; or
    /// at any time by a kernel that takes none. Takes no locks, allocates
    /// nothing; wakers run in it.
    pub fn dispatch(&self, vcpu: VcpuId) -> Dispatched {
        let mut found = Dispatched::default();
        let Some((_, info)) = self.vcpu(vcpu) else {
            return found;
        };
        // Before the look: what comes later raises another upcall.
        let pending = peer_field!(info, VcpuInfo, evtchn_upcall_pending);
        let _before = pending.swap(0);
        match self.fifo() {
            Some(fifo) => fifo.consume(vcpu, |port, word| {
                self.deliver(port, &mut found, || word::claim(&word));
            }),
            None => self.scan(vcpu, info, &mut found),
        }
        found
    }

    /// Goes through the words of the 2-level interface, each time from where
    /// the last scan ended: none is always first.
    fn scan(&self, vcpu: VcpuId, info: PeerPtr<'_, VcpuInfo>, found: &mut Dispatched) {
        let Some((place, _)) = self.vcpu(vcpu) else {
            return;
        };
        let pending = peer_field!(self.shared(), SharedInfo, evtchn_pending);
        let masks = peer_field!(self.shared(), SharedInfo, evtchn_mask);
        let selector = peer_field!(info, VcpuInfo, evtchn_pending_sel);
        let mut selected = selector.swap(0).trust();
        let start = place.next.load(Ordering::Relaxed);
        let mut last = start;
        while selected != 0 {
            let index = next_bit(selected, start / WORD_BITS);
            selected &= !(1 << index);
            let (Some(word), Some(mask)) = (pending.get(index as usize), masks.get(index as usize))
            else {
                continue;
            };
            let mut bits = word.load_acquire().trust() & !mask.load_acquire().trust();
            while bits != 0 {
                let bit = next_bit(bits, start % WORD_BITS);
                bits &= !(1 << bit);
                // All vCPUs share these words; each takes its own.
                let port = Port(index * WORD_BITS + bit);
                let slot = self.slots.get(port).filter(|slot| slot.is_open());
                if slot.is_some_and(|slot| slot.vcpu() != vcpu) {
                    continue;
                }
                last = port.0;
                self.deliver(port, found, || word::claim_bit(&word, &mask, 1 << bit));
            }
        }
        // One further than the last that was served.
        place.next.store((last + 1) % 4096, Ordering::Relaxed);
    }

    /// `claim` takes the event from its word, if nobody else does.
    fn deliver(&self, port: Port, found: &mut Dispatched, claim: impl FnOnce() -> bool) {
        match self.slots.get(port).filter(|slot| slot.is_open()) {
            Some(slot) => {
                slot.begin();
                if claim() {
                    found.events += 1;
                    slot.fire();
                } else {
                    slot.end();
                }
            }
            None => {
                let _masked = claim();
                found.spurious += 1;
                self.spurious.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Lets those ring again that were held back for ringing too much, as far
    /// as their time has come, and says when the next one's comes. To be called
    /// before a kernel sleeps.
    pub fn release_throttled(&self, now_ns: u64) -> Option<u64> {
        let due = self.release_ns.load(Ordering::Acquire);
        if due == u64::MAX || due > now_ns {
            return (due != u64::MAX).then_some(due);
        }
        self.release_ns.store(u64::MAX, Ordering::Release);
        for (_, slot) in self.slots.iter() {
            if slot.is_throttled() && slot.end_throttle() {
                // It looks, and unmasks if it still wants to wait.
                slot.waker.wake();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::next_bit;

    #[test]
    fn the_search_goes_round() {
        assert_eq!(next_bit(0b1010, 0), 1);
        assert_eq!(next_bit(0b1010, 2), 3);
        assert_eq!(next_bit(0b1010, 4), 1);
        assert_eq!(next_bit(1 << 63, 63), 63);
        assert_eq!(next_bit(1, 63), 0);
    }
}
