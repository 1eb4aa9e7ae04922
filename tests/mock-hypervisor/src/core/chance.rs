//! What goes wrong by seed, and the numbers that the seed gives.

use hypercall_abi::{DomId, PAGE_SIZE, Port, peer::PeerSlice};

use super::machine::Core;

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
    /// A service that is notified (the store, the console's daemon, a backend) looks up to
    /// 5 ms later.
    pub late_services: u32,
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

/// How often a storm rings.
const STORM: u32 = 100;
/// The longest that a service is late.
const MAX_LATE_NS: u64 = 5_000_000;

/// The numbers of a seed, and what goes wrong by them.
#[derive(Debug)]
pub(crate) struct Chance {
    random: u64,
    faults: Faults,
    /// Ports that ring again, and how often.
    echoes: Vec<(DomId, Port, u32)>,
}

impl Chance {
    pub(crate) const fn new(seed: u64, faults: Faults) -> Self {
        Self {
            random: seed,
            faults,
            echoes: Vec::new(),
        }
    }

    /// Whether something that goes wrong once in so often does now.
    pub(crate) fn happens(&mut self, how_often: impl FnOnce(&Faults) -> u32) -> bool {
        let one_in = how_often(&self.faults);
        one_in != 0 && self.next().is_multiple_of(u64::from(one_in))
    }

    /// The next of the numbers that the seed gives (SplitMix64).
    pub(crate) fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number, if something happens.
    pub(crate) fn number(&mut self, how_often: impl FnOnce(&Faults) -> u32) -> Option<u64> {
        self.happens(how_often).then(|| self.next())
    }

    /// A port rings again at each of the next calls.
    pub(crate) fn echo(&mut self, domid: DomId, port: Port, count: u32) {
        self.echoes.push((domid, port, count));
    }

    /// The ports that ring again now.
    pub(crate) fn echoes(&mut self) -> Vec<(DomId, Port)> {
        let now = self.echoes.iter().map(|(domid, port, _)| (*domid, *port));
        let now = now.collect();
        for (_, _, count) in &mut self.echoes {
            *count -= 1;
        }
        self.echoes.retain(|(_, _, count)| *count > 0);
        now
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Comes,
    Lost,
}

impl Core {
    /// Whether something that goes wrong by seed does now.
    pub(crate) fn happens(&mut self, how_often: impl FnOnce(&Faults) -> u32) -> bool {
        self.chance
            .as_mut()
            .is_some_and(|chance| chance.happens(how_often))
    }

    /// What becomes of an event for another domain's port.
    pub(crate) fn fate(&mut self, domid: DomId, port: Port) -> Fate {
        let Some(chance) = &mut self.chance else {
            return Fate::Comes;
        };
        if chance.happens(|faults| faults.doubled) {
            chance.echo(domid, port, 1);
        }
        if chance.happens(|faults| faults.stormed) {
            chance.echo(domid, port, STORM);
        }
        if chance.happens(|faults| faults.lost) {
            return Fate::Lost;
        }
        Fate::Comes
    }

    /// A port rings and rings.
    pub(crate) fn storm(&mut self, domid: DomId, port: Port) {
        if let Some(chance) = &mut self.chance {
            chance.echo(domid, port, STORM);
        }
        self.set_pending(domid, port);
    }

    /// How much later than it could a service looks that was notified.
    pub(crate) fn service_delay_ns(&mut self) -> u64 {
        let chance = self.chance.as_mut();
        let number = chance.and_then(|chance| chance.number(|faults| faults.late_services));
        number.map_or(0, |number| number % MAX_LATE_NS)
    }

    /// Writes a word of something into a page that a domain lends to one who may
    /// write it.
    pub(crate) fn corrupt(&mut self, domid: DomId) {
        let Some(chance) = &mut self.chance else {
            return;
        };
        let (which, place, word) = (chance.next(), chance.next(), chance.next() as u32);
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
