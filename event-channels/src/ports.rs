//! All ports of a guest.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use hypercall_abi::{
    Errno, Port, VcpuId,
    event_channel::{EVTCHN_2L_NR_CHANNELS, EVTCHN_FIFO_NR_CHANNELS},
    peer::PeerPtr,
    peer_field,
    platform::{Hypercall, Pages, Singleton},
    probe::Facility,
    xen::{SharedInfo, VcpuInfo},
};

use crate::{
    Error, PortRef,
    fifo::Fifo,
    sleep::{BoundPorts, Deferred},
    slots::{Slot, Slots},
    words::Words,
};

/// The most vCPUs that can receive events.
pub const MAX_VCPUS: usize = 32;

/// How pending events are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// By bits in the shared page: 4096 ports.
    TwoLevel,
    /// By queues of sixteen priorities: 131,072 ports.
    Fifo,
}

/// Which [`Interface`] is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// FIFO where the hypervisor has it.
    #[default]
    Best,
    /// That of every hypervisor.
    TwoLevel,
}

/// Limit of an event storm: a port that delivers more than `events` events in a window stays
/// masked until the window ends, for waiters by upcalls and without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// So many events in one window are let through.
    pub events: u32,
    /// The window's length.
    pub window_ns: u64,
}

impl Default for Throttle {
    /// 1000 in 10 ms: a disk or a network card at full speed stays below,
    /// for their events come in bunches.
    fn default() -> Self {
        Self {
            events: 1000,
            window_ns: 10_000_000,
        }
    }
}

/// What the hypervisor has of a start that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// A page of control blocks: it is never freed, and the interface is FIFO.
    ControlBlock,
}

/// What a vCPU looks at in an upcall.
#[derive(Debug)]
pub(crate) struct Vcpu {
    /// Null: this vCPU gets no events.
    info: AtomicPtr<VcpuInfo>,
    /// Where the next scan of the 2-level words starts.
    pub(crate) next: AtomicU32,
}

/// All ports of a guest: which interface they use, who waits for which, and
/// what came in. [`Channel`](crate::Channel)s borrow it.
///
/// Its memory comes from [`Pages`]; none is given back to the platform that the
/// hypervisor was told to write to.
pub struct Ports<P: Hypercall + Pages> {
    pub(crate) platform: P,
    shared: PeerPtr<'static, SharedInfo>,
    fifo: Option<Fifo>,
    pub(crate) slots: Slots<P>,
    vcpus: [Vcpu; MAX_VCPUS],
    /// What is told when the vCPU sleeps.
    pub(crate) deferred: Deferred,
    /// Who has a port.
    pub(crate) roll: BoundPorts,
    pub(crate) throttle: Throttle,
    /// When the first of those that are held back may ring again; `MAX`: none
    /// is.
    pub(crate) release_ns: AtomicU64,
    /// Events on ports that nobody has.
    pub(crate) spurious: AtomicU32,
    /// Set while the FIFO array grows.
    growing: AtomicBool,
    /// See [`Self::resumes`].
    pub(crate) resumes: AtomicU32,
}

impl<P: Hypercall + Pages> Ports<P> {
    /// Chooses the interface and starts with no channels. `shared` is the
    /// guest's shared page. A guest has one: two would take each other's
    /// events. There may be another when this one was dropped, but not after one of
    /// [`Interface::Fifo`], which there is no way back from.
    ///
    /// # Errors
    /// [`Error::Taken`]: there is one; [`Error::NoMemory`]: a few pages are needed.
    pub fn new(
        platform: P,
        shared: PeerPtr<'static, SharedInfo>,
        choice: Choice,
        throttle: Throttle,
    ) -> Result<Self, Error> {
        if !platform.singletons().take(Singleton::EventChannels) {
            return Err(Error::Taken);
        }
        let (fifo, slots) = match Self::choose(&platform, choice) {
            Ok(chosen) => chosen,
            Err((error, left)) => {
                if left == Left::Nothing {
                    // SAFETY: taken above, and the hypervisor has nothing of it.
                    unsafe { platform.singletons().give_back(Singleton::EventChannels) };
                }
                return Err(error);
            }
        };
        let ports = Self {
            platform,
            shared,
            fifo,
            slots,
            vcpus: [const {
                Vcpu {
                    info: AtomicPtr::new(core::ptr::null_mut()),
                    next: AtomicU32::new(0),
                }
            }; MAX_VCPUS],
            deferred: Deferred::new(),
            roll: BoundPorts::new(),
            throttle,
            release_ns: AtomicU64::new(u64::MAX),
            spurious: AtomicU32::new(0),
            growing: AtomicBool::new(false),
            resumes: AtomicU32::new(0),
        };
        let first = peer_field!(shared, SharedInfo, vcpu_info).get(0);
        if let (Some(slot), Some(info)) = (ports.vcpus.first(), first) {
            slot.info.store(info.as_ptr(), Ordering::Release);
        }
        Ok(ports)
    }

    /// The interface, and room for its ports.
    fn choose(platform: &P, choice: Choice) -> Result<(Option<Fifo>, Slots<P>), (Error, Left)> {
        let slots = |most| Slots::new(platform, most).ok_or((Error::NoMemory, Left::Nothing));
        if choice == Choice::Best {
            // First: there is no way back from the FIFO interface.
            let mut slots = slots(EVTCHN_FIFO_NR_CHANNELS)?;
            let error = match Fifo::start(platform) {
                Ok(fifo) => return Ok((Some(fifo), slots)),
                Err(error) => error,
            };
            slots.free(platform);
            match error {
                (errno, Left::Nothing) if Facility::FifoEvents.is_absent(errno) => {}
                (Errno::ENOMEM, left) => return Err((Error::NoMemory, left)),
                (other, left) => return Err((Error::Other(other), left)),
            }
        }
        Ok((None, slots(EVTCHN_2L_NR_CHANNELS)?))
    }

    /// Which interface was chosen.
    pub const fn interface(&self) -> Interface {
        match self.fifo {
            Some(_) => Interface::Fifo,
            None => Interface::TwoLevel,
        }
    }

    /// The platform.
    pub const fn platform(&self) -> &P {
        &self.platform
    }

    /// Lets another vCPU receive events; the first does from the start. `info`
    /// is where Xen keeps that vCPU's words: in the shared page, or where
    /// `VCPUOP_register_vcpu_info` put it.
    ///
    /// # Errors
    /// [`Error::NoVcpu`]: there is none, or more than [`MAX_VCPUS`].
    pub fn add_vcpu(&self, vcpu: VcpuId, info: PeerPtr<'static, VcpuInfo>) -> Result<(), Error> {
        let slot = self.vcpus.get(vcpu.0 as usize).ok_or(Error::NoVcpu)?;
        if let Some(fifo) = &self.fifo
            && slot.info.load(Ordering::Acquire).is_null()
        {
            fifo.init_vcpu(&self.platform, vcpu)?;
        }
        slot.info.store(info.as_ptr(), Ordering::Release);
        Ok(())
    }

    /// The scan's place of a vCPU that receives events, and its words.
    pub(crate) fn vcpu(&self, vcpu: VcpuId) -> Option<(&Vcpu, PeerPtr<'static, VcpuInfo>)> {
        let slot = self.vcpus.get(vcpu.0 as usize)?;
        let info = core::ptr::NonNull::new(slot.info.load(Ordering::Acquire))?;
        // SAFETY: came from a peer pointer that is valid for good.
        Some((slot, unsafe { PeerPtr::new(info) }))
    }

    /// A port that the toolstack bound, for whoever sends, waits by poll, and
    /// needs no upcalls.
    pub fn port_ref(&'static self, port: Port) -> PortRef {
        // Without a word its bits cannot be seen; it can send all the same.
        let _no_memory: Result<(), Error> = self.grow(port);
        PortRef::with_words(port, self.words())
    }

    /// How many events came on ports that nobody has.
    pub fn spurious(&self) -> u32 {
        self.spurious.load(Ordering::Relaxed)
    }

    pub(crate) fn words(&self) -> Words<'_> {
        match &self.fifo {
            Some(fifo) => Words::Fifo(fifo),
            None => Words::TwoLevel(self.shared),
        }
    }

    pub(crate) const fn shared(&self) -> PeerPtr<'static, SharedInfo> {
        self.shared
    }

    pub(crate) const fn fifo(&self) -> Option<&Fifo> {
        self.fifo.as_ref()
    }

    fn grow(&self, port: Port) -> Result<(), Error> {
        let Some(fifo) = &self.fifo else {
            return Ok(());
        };
        while fifo.word(port).is_none() {
            if self.growing.swap(true, Ordering::Acquire) {
                core::hint::spin_loop();
                continue;
            }
            let grown = fifo.grow(&self.platform, port);
            self.growing.store(false, Ordering::Release);
            grown?;
        }
        Ok(())
    }

    /// Makes room for a port that was just bound.
    pub(crate) fn enter(&self, port: Port, vcpu: VcpuId) -> Result<&Slot, Error> {
        self.grow(port)?;
        let slot = self.slots.make(&self.platform, port);
        let slot = slot.ok_or(Error::NoMemory)?;
        slot.open(vcpu);
        self.roll.add(port);
        Ok(slot)
    }
}

impl<P: Hypercall + Pages> Drop for Ports<P> {
    fn drop(&mut self) {
        self.slots.free(&self.platform);
        // The pages of the FIFO interface stay Xen's, which takes no others for them.
        if self.fifo.is_none() {
            // SAFETY: taken in `new`; nobody has channels of these ports any more, and the
            // hypervisor knows of no memory of theirs.
            unsafe {
                self.platform
                    .singletons()
                    .give_back(Singleton::EventChannels)
            };
        }
    }
}
