//! A domain that goes on elsewhere, where it has none of the ports that it had.

use core::sync::atomic::Ordering;

use hypercall_abi::{
    VcpuId, peer_field,
    platform::{Hypercall, Pages},
    sched::Resumed,
    xen::{SharedInfo, VcpuInfo},
};

use crate::{Error, MAX_VCPUS, Ports};

impl<P: Hypercall + Pages> Ports<P> {
    /// What a guest does after it was suspended and went on elsewhere
    /// ([`Suspended::Resumed`](hypercall_abi::sched::Suspended::Resumed), which gives the
    /// proof that this asks for: a guest that is where it was would lose all channels):
    /// all of its ports are gone, also those that the toolstack sets up, which have new numbers. The
    /// channels of before never ring again, and close nothing when they are dropped;
    /// whoever waits for one is woken. To be called when the shared page is where it was,
    /// and before anything is opened; no other vCPU runs.
    ///
    /// # Errors
    /// The hypervisor there does not take what this one took: the guest cannot go on.
    pub fn resume(&self, resumed: Resumed) -> Result<(), Error> {
        let Resumed { .. } = resumed;
        self.resumes.fetch_add(1, Ordering::AcqRel);
        self.forget_deferred();
        self.roll.clear();
        self.release_ns.store(u64::MAX, Ordering::Release);
        let words = peer_field!(self.shared(), SharedInfo, evtchn_pending);
        for word in (0..).map_while(|index| words.get(index)) {
            word.store(0);
        }
        if let Some(fifo) = self.fifo() {
            fifo.forget();
        }
        for vcpu in (0..MAX_VCPUS as u32).map(VcpuId) {
            let Some((place, info)) = self.vcpu(vcpu) else {
                continue;
            };
            place.next.store(0, Ordering::Relaxed);
            peer_field!(info, VcpuInfo, evtchn_pending_sel).store(0);
            peer_field!(info, VcpuInfo, evtchn_upcall_pending).store(0);
            if let Some(fifo) = self.fifo() {
                fifo.init_vcpu(&self.platform, vcpu)?;
            }
        }
        if let Some(fifo) = self.fifo() {
            fifo.give_again(&self.platform)?;
        }
        for (_, slot) in self.slots.iter() {
            slot.abandon();
        }
        Ok(())
    }

    /// How often this guest went on elsewhere. Whoever has something of the domain's own
    /// (a port, a grant) looks whether it is from before.
    pub fn resumes(&self) -> u32 {
        self.resumes.load(Ordering::Acquire)
    }
}
