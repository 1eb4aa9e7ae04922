//! What goes wrong in a run in turns: by seed, or by script.

use hypercall_abi::{
    DomId, Errno, HypercallNr, PAGE_SIZE, Port,
    event_channel::{
        EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_VIRQ,
        EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL,
    },
    io::xs_wire::XsMessageType,
    memory::{XENMEM_INCREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP},
    peer::PeerSlice,
};

use crate::{
    Shutdown, StoreError, Suspend,
    world::{Actor, Host, World},
};

/// What goes wrong by seed: each as one in so many, 0 is never. All of it is what
/// a Xen, or another domain, may do to a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Calls that want something of Xen's find nothing: a port (`ENOSPC`), a page
    /// for ports or memory (`ENOMEM`), a handle (`GNTST_no_device_space`).
    pub no_room: u32,
    /// The guest's allocator has no pages.
    pub no_pages: u32,
    /// A page that is granted is paged out (`GNTST_eagain`).
    pub paged_out: u32,
    /// At a call, one of the guest's ports rings for no reason.
    pub spurious: u32,
    /// An event for another domain does not come.
    pub lost: u32,
    /// One comes again, later.
    pub doubled: u32,
    /// One comes again at each of the next hundred calls.
    pub stormed: u32,
    /// A page that another may write gets a word of something.
    pub corrupted: u32,
    /// Nobody runs for up to a second.
    pub paused: u32,
    /// The store refuses to change something (`ENOSPC`, or `EAGAIN` at the end of a
    /// transaction).
    pub store_refuses: u32,
    /// What the store tells of another domain's node is something.
    pub lies: u32,
    /// The store forgets the guest, whose ring is out of order until it reconnects.
    pub store_restarts: u32,
    /// The guest is destroyed.
    pub destroyed: u32,
    /// A disk's request fails.
    pub io_fails: u32,
    /// One takes up to 10 ms more.
    pub io_slow: u32,
    /// At a call, a disk's backend is replaced, with all that it was doing.
    pub backend_restarts: u32,
    /// A disk is taken away and given back; half of them without asking.
    pub detached: u32,
    /// A disk gets another size.
    pub resized: u32,
    /// When it serves, a backend does something that it must not do.
    pub mischief: u32,
}

/// What goes wrong by script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// A domain is destroyed.
    Destroy(DomId),
    /// The store forgets it.
    RestartStore(DomId),
    /// One of its ports rings.
    Ring(DomId, Port),
    /// A page that it lends to one who writes gets a word of something.
    Corrupt(DomId),
    /// Nobody runs for so many nanoseconds.
    Pause(u64),
    /// It is asked to suspend itself.
    Suspend(DomId, Suspend),
    /// Its next call of this number is refused.
    Refuse(DomId, HypercallNr, Errno),
}

/// How a run in turns goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What fixes the order, and all that is by chance.
    pub seed: u64,
    /// What goes wrong by chance.
    pub faults: Faults,
    /// What goes wrong at the call of this number (of all guests' calls; the first
    /// is 0).
    pub script: Vec<(u64, Mishap)>,
}

impl Plan {
    /// One in which nothing goes wrong.
    pub fn seed(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// With these faults.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// With this, at this call.
    #[must_use]
    pub fn at(mut self, call: u64, mishap: Mishap) -> Self {
        self.script.push((call, mishap));
        self
    }
}

/// What befalls the backends at a call: with a number that says which of them, and
/// how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackendMishaps {
    pub(crate) restart: Option<u64>,
    pub(crate) detach: Option<u64>,
    pub(crate) resize: Option<u64>,
}

/// The longest that a request takes because of a fault.
const MOST_SLOW_NS: u64 = 10_000_000;

/// How often a storm rings.
const STORM: u32 = 100;
/// The longest pause.
const MOST_PAUSE_NS: u64 = 1_000_000_000;

/// A call that can be refused for want of something.
const fn wants(nr: HypercallNr, op: usize) -> Option<Errno> {
    match (nr, op) {
        (
            HypercallNr::EVENT_CHANNEL_OP,
            EVTCHNOP_ALLOC_UNBOUND
            | EVTCHNOP_BIND_INTERDOMAIN
            | EVTCHNOP_BIND_IPI
            | EVTCHNOP_BIND_VIRQ,
        ) => Some(Errno::ENOSPC),
        (HypercallNr::EVENT_CHANNEL_OP, EVTCHNOP_INIT_CONTROL | EVTCHNOP_EXPAND_ARRAY)
        | (HypercallNr::MEMORY_OP, XENMEM_INCREASE_RESERVATION | XENMEM_POPULATE_PHYSMAP) => {
            Some(Errno::ENOMEM)
        }
        _ => None,
    }
}

impl Host {
    /// What goes wrong at a call; an error that answers it instead of Xen.
    pub(crate) fn mishaps(
        &self,
        world: &mut World,
        me: Actor,
        nr: HypercallNr,
        op: usize,
    ) -> Result<(), Errno> {
        let Some(play) = &mut world.play else {
            return Ok(());
        };
        let domid = me.0;
        let due = play.due();
        let echoes = play.echoes();
        let faults = play.faults();
        let refused = wants(nr, op).filter(|_| play.happens(faults.no_room));
        let no_handle = nr == HypercallNr::GRANT_TABLE_OP && play.happens(faults.no_room);
        let paged_out = nr == HypercallNr::GRANT_TABLE_OP && play.happens(faults.paged_out);
        let ring = play.happens(faults.spurious).then(|| play.next());
        let pause = play
            .happens(faults.paused)
            .then(|| play.next() % MOST_PAUSE_NS);
        let corrupt = play.happens(faults.corrupted);
        let restart = play.happens(faults.store_restarts);
        let destroy = play.happens(faults.destroyed);
        let of_backends = BackendMishaps {
            restart: play.happens(faults.backend_restarts).then(|| play.next()),
            detach: play.happens(faults.detached).then(|| play.next()),
            resize: play.happens(faults.resized).then(|| play.next()),
        };
        for (domid, port) in echoes {
            world.set_pending(domid, port);
            self.rouse(world);
        }
        if world.mishaps_of_backends(of_backends) {
            world.push_store_events();
            self.rouse(world);
        }
        for state in world.domains.values_mut() {
            state.grants.paged_out += u32::from(paged_out);
        }
        if let Some(state) = world.domains.get_mut(&domid) {
            state.grants.no_handles += u32::from(no_handle);
            if let Some(any) = ring {
                state.ports.ring_any(any);
            }
        }
        let by_chance = [
            pause.map(Mishap::Pause),
            corrupt.then_some(Mishap::Corrupt(domid)),
            restart.then_some(Mishap::RestartStore(domid)),
            destroy.then_some(Mishap::Destroy(domid)),
        ];
        for mishap in due.into_iter().chain(by_chance.into_iter().flatten()) {
            self.happen(world, mishap);
        }
        match world.play.as_mut().and_then(|play| play.refusal(domid, nr)) {
            Some(errno) => Err(errno),
            None => refused.map_or(Ok(()), Err),
        }
    }

    fn happen(&self, world: &mut World, mishap: Mishap) {
        match mishap {
            Mishap::Destroy(domid) => self.destroy(world, domid),
            Mishap::RestartStore(domid) => self.restart_store(world, domid),
            Mishap::Ring(domid, port) => {
                world.set_pending(domid, port);
                self.rouse(world);
            }
            Mishap::Corrupt(domid) => world.corrupt(domid),
            Mishap::Pause(ns) => {
                let now_ns = self.now_ns(world);
                world.pass_to(now_ns.saturating_add(ns));
            }
            Mishap::Suspend(domid, suspend) => {
                if let Some(state) = world.domains.get_mut(&domid) {
                    state.resume = Some(suspend);
                    world.ask_to_suspend(domid);
                    self.rouse(world);
                }
            }
            Mishap::Refuse(domid, nr, errno) => {
                if let Some(play) = &mut world.play {
                    play.refuse(domid, nr, errno);
                }
            }
        }
    }

    /// Destroys a domain: what it has of others, it has no more; its code ends.
    pub(crate) fn destroy(&self, world: &mut World, domid: DomId) {
        world.forget(domid);
        let Some(state) = world.domains.get_mut(&domid) else {
            return;
        };
        let end = Shutdown {
            reason: hypercall_abi::sched::ShutdownReason::CRASH,
            report: "it was destroyed\n".into(),
        };
        state.shutdown = Some(end.clone());
        self.end_vcpus(world, domid, end);
    }

    /// The store's process is replaced, and has no memory of a domain.
    pub(crate) fn restart_store(&self, world: &mut World, domid: DomId) {
        world.store.forget(domid);
        if let Some(state) = world.domains.get_mut(&domid) {
            state.store.fail();
            let port = state.store_port;
            state.ports.set_pending(port);
        }
        self.rouse(world);
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Comes,
    Lost,
}

impl World {
    /// What becomes of an event for another domain's port.
    pub(crate) fn fate(&mut self, domid: DomId, port: Port) -> Fate {
        let Some(play) = &mut self.play else {
            return Fate::Comes;
        };
        let faults = play.faults();
        if play.happens(faults.doubled) {
            play.echo(domid, port, 1);
        }
        if play.happens(faults.stormed) {
            play.echo(domid, port, STORM);
        }
        if play.happens(faults.lost) {
            return Fate::Lost;
        }
        Fate::Comes
    }

    /// A port rings and rings.
    pub(crate) fn storm(&mut self, domid: DomId, port: Port) {
        if let Some(play) = &mut self.play {
            play.echo(domid, port, STORM);
        }
        self.set_pending(domid, port);
    }

    /// How much longer a disk's request takes.
    pub(crate) fn backend_delay_ns(&mut self) -> u64 {
        let Some(play) = &mut self.play else {
            return 0;
        };
        let often = play.faults().io_slow;
        if play.happens(often) {
            play.next() % MOST_SLOW_NS
        } else {
            0
        }
    }

    /// Whether a disk's request fails.
    pub(crate) fn backend_fails(&mut self) -> bool {
        self.play.as_mut().is_some_and(|play| {
            let often = play.faults().io_fails;
            play.happens(often)
        })
    }

    /// Why the store refuses a request, if it does.
    pub(crate) fn store_refuses(&mut self, kind: XsMessageType) -> Option<StoreError> {
        let play = self.play.as_mut()?;
        let error = match kind {
            XsMessageType::WRITE
            | XsMessageType::MKDIR
            | XsMessageType::SET_PERMS
            | XsMessageType::WATCH
            | XsMessageType::TRANSACTION_START => StoreError::ENOSPC,
            XsMessageType::TRANSACTION_END => StoreError::EAGAIN,
            _ => return None,
        };
        let often = play.faults().store_refuses;
        play.happens(often).then_some(error)
    }

    /// What the store tells instead of another's value, if it does not tell that.
    pub(crate) fn lie(&mut self) -> Option<Vec<u8>> {
        const TEXTS: [&[u8]; 8] = [
            b"",
            b"0",
            b"-1",
            b"4294967295",
            b"99999999999999999999",
            b"\xff\0\xfe",
            b"/local/domain/0",
            b" 7 ",
        ];
        let play = self.play.as_mut()?;
        let often = play.faults().lies;
        let text = play
            .happens(often)
            .then(|| play.next() as usize % TEXTS.len())?;
        TEXTS.get(text).map(|text| text.to_vec())
    }

    /// Whether the guest's allocator has a page.
    pub(crate) fn has_pages(&mut self) -> bool {
        let play = self.play.as_mut();
        !play.is_some_and(|play| {
            let often = play.faults().no_pages;
            play.happens(often)
        })
    }

    /// Writes a word of something into a page that a domain lends to one who may
    /// write it.
    fn corrupt(&mut self, domid: DomId) {
        let Some(play) = &mut self.play else {
            return;
        };
        let (which, place, word) = (play.next(), play.next(), play.next() as u32);
        let Some(state) = self.domains.get_mut(&domid) else {
            return;
        };
        let lent = state.grants.written(&state.memory);
        let Some(gfn) = lent.get(which as usize % lent.len().max(1)) else {
            return;
        };
        if let Some(page) = state.memory.ram_of(*gfn) {
            // SAFETY: a page of the domain's, as peer memory.
            let page = unsafe { PeerSlice::new(page, PAGE_SIZE) };
            // Now and then where it matters most: at the start.
            let words = if place & 1 == 0 {
                16
            } else {
                PAGE_SIZE as u64 / 4
            };
            let offset = (place >> 1) % words * 4;
            if let Some(place) = page.get(offset as usize, 4) {
                let _all = place.copy_from(&word.to_le_bytes());
            }
        }
    }
}
