//! Sleep of a vCPU that needs no upcall to wake, and what is told on the way there.
//!
//! An upcall costs a trap frame, its return, and on some guests an interrupt
//! controller's end of interrupt: each a way through the hypervisor. A vCPU that
//! sleeps has nothing to be interrupted in, so it polls: one hypercall, which also
//! takes the deadline and, in a list, the last notification before it.

use core::sync::atomic::{AtomicU32, Ordering};

use hypercall_abi::{
    Errno, HypercallNr, Port, VcpuId,
    event_channel::{self, EVTCHNOP_SEND, EvtchnSend},
    peer_field,
    platform::{Hypercall, Pages},
    probe::Facility,
    sched::{SCHEDOP_POLL, SchedPoll},
    xen::{
        VcpuInfo,
        multicall::{MulticallEntry, multicall},
    },
};

use crate::{Error, Ports};

/// Ports that can be polled; Xen takes up to 128.
const MOST: usize = 32;

/// Ports that some channel has.
#[derive(Debug)]
pub(crate) struct BoundPorts {
    /// A port and one; zero: none.
    entries: [AtomicU32; MOST],
    /// Behind the last that was ever used.
    len: AtomicU32,
    /// How many found no place.
    more: AtomicU32,
}

impl BoundPorts {
    pub(crate) const fn new() -> Self {
        Self {
            entries: [const { AtomicU32::new(0) }; MOST],
            len: AtomicU32::new(0),
            more: AtomicU32::new(0),
        }
    }

    fn replace(&self, old: u32, new: u32) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries.position(|entry| {
            let replaced = entry.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
            replaced.is_ok()
        })
    }

    pub(crate) fn add(&self, port: Port) {
        match self.replace(0, port.0 + 1) {
            Some(place) => {
                self.len.fetch_max(place as u32 + 1, Ordering::AcqRel);
            }
            None => {
                self.more.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    pub(crate) fn remove(&self, port: Port) {
        if self.replace(port.0 + 1, 0).is_none() {
            self.more.fetch_sub(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn clear(&self) {
        for entry in &self.entries {
            entry.store(0, Ordering::Release);
        }
        self.more.store(0, Ordering::Release);
    }

    /// All of them; `None`: there are more than there is room for.
    fn ports(&self) -> Option<impl Iterator<Item = Port> + '_> {
        let len = self.len.load(Ordering::Acquire) as usize;
        let ports = self.entries.iter().take(len).filter_map(|entry| {
            let number = entry.load(Ordering::Acquire).checked_sub(1)?;
            Some(Port(number))
        });
        (self.more.load(Ordering::Acquire) == 0).then_some(ports)
    }
}

/// A notification that can wait until the vCPU sleeps: [`NOW`], [`HELD`], or a port
/// ([`kept`]), perhaps [`ASKED`] for.
#[derive(Debug)]
pub(crate) struct Deferred(AtomicU32);

/// Nothing is held back.
const NOW: u32 = 0;
/// The next one is to be held back.
const HELD: u32 = 1;
/// Somebody has asked for the answer already.
const ASKED: u32 = 1;

const fn kept(port: Port) -> u32 {
    (port.0 + 1) << 1
}

impl Deferred {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(NOW))
    }

    /// Whether `port` is held back now; if not, it is to be told at once.
    fn keeps(&self, port: Port) -> bool {
        let mine = kept(port);
        let swapped = self
            .0
            .compare_exchange(HELD, mine, Ordering::AcqRel, Ordering::Acquire);
        swapped.is_ok() || swapped.is_err_and(|other| other & !ASKED == mine)
    }

    /// Whether what is held is asked for a second time.
    fn is_asked_again(&self) -> bool {
        let held = self.0.load(Ordering::Relaxed);
        let asked = held | ASKED;
        if held > HELD && held != asked {
            // Another that takes it sends it.
            let (order, failed) = (Ordering::AcqRel, Ordering::Relaxed);
            let _taken = self.0.compare_exchange(held, asked, order, failed);
        }
        held > HELD && held == asked
    }

    /// Sets what is to become of the next, and says what was held.
    fn replace(&self, next: u32) -> Option<Port> {
        match self.0.load(Ordering::Relaxed) {
            same if same == next => None,
            _ => {
                let held = self.0.swap(next, Ordering::AcqRel) >> 1;
                held.checked_sub(1).map(Port)
            }
        }
    }
}

impl<P: Hypercall + Pages> Ports<P> {
    /// Has [`Channel::notify_deferred`](crate::Channel::notify_deferred) wait, until the
    /// vCPU sleeps ([`Self::sleep`]) or [`Self::flush_notifications`] is called: one of them must
    /// follow. For executors, before they run a task.
    pub fn defer_notifications(&self) {
        self.send(self.deferred.replace(HELD));
    }

    /// Sends what was held back, and holds nothing back any more.
    pub fn flush_notifications(&self) {
        self.send(self.deferred.replace(NOW));
    }

    /// For whoever is asked for an answer: the second time since something was held
    /// back, that is sent, and the next is held back again. So a task that asks on and
    /// on, and never lets its executor sleep, waits for nothing that was not asked for.
    pub fn flush_if_asked_again(&self) {
        if self.deferred.is_asked_again() {
            self.defer_notifications();
        }
    }

    /// What was held back was for nobody.
    pub(crate) fn forget_deferred(&self) {
        let _nobody = self.deferred.replace(NOW);
    }

    fn send(&self, port: Option<Port>) {
        if let Some(port) = port {
            // A port that is gone has nobody to tell.
            let _gone: Result<(), Errno> = event_channel::send(&self.platform, port);
        }
    }

    pub(crate) fn notify_deferred(&self, port: Port) -> Result<(), Errno> {
        match self.deferred.keeps(port) {
            true => Ok(()),
            false => event_channel::send(&self.platform, port),
        }
    }

    /// Sleeps until a channel that is waited for rings, or system time reaches
    /// `deadline_ns`; it may return earlier. Events are taken as in an upcall
    /// ([`Self::dispatch`]), but there is none: `vcpu`, on which this runs, must
    /// hold upcalls back. What was held back is told first, in the same trap.
    ///
    /// # Errors
    /// Nobody slept: [`Error::NotSupported`], while one of the channels was opened
    /// when there were 32 others, or if the hypervisor has no such call.
    pub fn sleep(&self, vcpu: VcpuId, deadline_ns: Option<u64>) -> Result<(), Error> {
        let told = self.deferred.replace(NOW);
        let mut ports = [Port(0); MOST];
        let Some(count) = self.mask_awaited(&mut ports) else {
            self.send(told);
            return Err(Error::NotSupported);
        };
        let ports = ports.get(..count).unwrap_or(&[]);
        let slept = self.poll(told, ports, deadline_ns);
        let mut has_come = false;
        for port in ports {
            has_come |= self.wake(*port);
        }
        // What came before its port was masked.
        if let Some((_, info)) = self.vcpu(vcpu) {
            let pending = peer_field!(info, VcpuInfo, evtchn_upcall_pending);
            if pending.load_acquire().trust() != 0 {
                has_come |= self.dispatch(vcpu).events > 0;
            }
        }
        match slept {
            // Whoever was woken is to run, and not to be slept over by another way.
            Err(_) if has_come => Ok(()),
            slept => slept.map_err(Error::from),
        }
    }

    /// Masks the ports for which somebody waits, and lists them: an event then
    /// sets their bit, which ends the poll, and raises no upcall.
    fn mask_awaited(&self, target: &mut [Port; MOST]) -> Option<usize> {
        let words = self.words();
        let mut count = 0;
        // Others look when they are waited for next.
        let awaited = self.roll.ports()?.filter(|port| !words.is_masked(*port));
        for (slot, port) in target.iter_mut().zip(awaited) {
            words.mask(port);
            *slot = port;
            count += 1;
        }
        Some(count)
    }

    fn poll(
        &self,
        told: Option<Port>,
        ports: &[Port],
        deadline_ns: Option<u64>,
    ) -> Result<(), Errno> {
        let Some(told) = told else {
            return hypercall_abi::sched::poll(&self.platform, ports, deadline_ns);
        };
        let send = EvtchnSend { port: told };
        let poll = SchedPoll::new(ports, deadline_ns)?;
        let address = |place: *const ()| place.expose_provenance() as u64;
        let mut calls = [
            MulticallEntry::new(
                HypercallNr::EVENT_CHANNEL_OP,
                &[EVTCHNOP_SEND as u64, address((&raw const send).cast())],
            ),
            MulticallEntry::new(
                HypercallNr::SCHED_OP,
                &[SCHEDOP_POLL as u64, address((&raw const poll).cast())],
            ),
        ];
        // SAFETY: the two calls read their arguments and the ports, which outlive
        // them, and write no memory of this guest's.
        let made = unsafe { multicall(&self.platform, &mut calls) };
        if made.is_err_and(|errno| Facility::Multicall.is_absent(errno)) {
            self.send(Some(told));
            return hypercall_abi::sched::poll(&self.platform, ports, deadline_ns);
        }
        made?;
        let [_, poll] = calls;
        poll.check().map(|_| ())
    }

    /// Wakes whoever waits for a port if it rang, and says so; if not, it may ring again.
    fn wake(&self, port: Port) -> bool {
        let words = self.words();
        let Some(slot) = self.slots.get(port).filter(|slot| slot.is_open()) else {
            return false;
        };
        // Taken by an upcall meanwhile, it stays masked until it is waited for.
        let rang = words.clear_pending(port)
            || !slot.has_fired() && !words.unmask_if_quiet(port) && words.clear_pending(port);
        if rang {
            slot.fire();
        }
        rang
    }
}
