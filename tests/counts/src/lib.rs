//! What is counted: an upcall that wakes a task, a page lent and taken back, a
//! request to the store and its answer, one in a ring and its answer, bytes copied. Each has a set-up, which is not counted.

use std::{
    ptr::NonNull,
    task::{Context, Waker},
};

use event_channels::{Channel, Choice, Ports, Throttle};
use grant_tables::{GrantTable, Page, PeerReads, Version};
use hypercall_abi::{
    DomId, PAGE_SIZE, VcpuId,
    io::{
        ring::{BackRing, FrontRing, RingMemory},
        xs_wire::{XsMessageType, XsdSockmsg},
    },
    peer::{PeerPtr, PeerSlice},
    platform::Pages,
};
use mock_hypervisor::{Config, Domain};
use xenstore_client::machine::Machine;
use zerocopy::{FromBytes, IntoBytes};

type World = &'static Domain;

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn domain() -> World {
    leak(Domain::new(Config::default()).expect("there is memory"))
}

/// A port that is pending, and a task that waits for it.
#[derive(Debug)]
pub struct Upcall {
    ports: &'static Ports<World>,
    channel: Channel<'static, World>,
}

impl Upcall {
    /// By this interface.
    ///
    /// # Panics
    /// The mock has no memory.
    pub fn new(choice: Choice) -> Self {
        let domain = domain();
        // SAFETY: the domain is never freed.
        let shared = unsafe { PeerPtr::new(domain.shared_info()) };
        let ports = Ports::new(domain, shared, choice, Throttle::default());
        let ports = leak(ports.expect("there is memory"));
        let channel = Channel::ipi(ports, VcpuId(0)).expect("there are ports");
        let upcall = Self { ports, channel };
        // Once before: pages and tables are there.
        for _ in 0..2 {
            upcall.ring();
            upcall.dispatch();
            assert!(upcall.channel.take());
        }
        upcall.ring();
        upcall
    }

    fn ring(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(self.channel.poll_wait(&mut cx).is_pending());
        self.channel.notify().expect("the port is open");
    }

    /// From the upcall to the woken task.
    pub fn dispatch(&self) -> u32 {
        self.ports.dispatch(VcpuId(0)).events
    }
}

/// A table and a page.
#[derive(Debug)]
pub struct Lend {
    table: &'static GrantTable<World>,
    page: Page<'static, World>,
}

impl Lend {
    /// By this version.
    ///
    /// # Panics
    /// The mock has no memory.
    pub fn new(version: Version) -> Self {
        let table = leak(GrantTable::new(domain(), version).expect("there is a table"));
        let page = || Page::new(table).expect("there is a page");
        drop(table.share::<PeerReads>(DomId(2), page()));
        Self {
            table,
            page: page(),
        }
    }

    /// Lends the page, and takes it back.
    ///
    /// # Panics
    /// It cannot be lent.
    pub fn share_and_end(self) -> Page<'static, World> {
        let granted = self.table.share::<PeerReads>(DomId(2), self.page);
        granted
            .expect("it can be lent")
            .end()
            .expect("nobody uses it")
    }
}

/// Slots of a disk's ring.
const SLOT_BYTES: usize = 112;

/// Pages that nobody else has, as those of a ring.
#[derive(Debug)]
pub struct Shared {
    first: NonNull<u8>,
    count: usize,
}

// SAFETY: the pages are never freed, and used as peer memory only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl RingMemory for &Shared {
    fn pages(&self) -> usize {
        self.count
    }
    fn page(&self, index: usize) -> Option<PeerSlice<'_>> {
        if index >= self.count {
            return None;
        }
        // SAFETY: one of the pages.
        let page = unsafe { self.first.add(index * PAGE_SIZE) };
        // SAFETY: as for `Sync`.
        Some(unsafe { PeerSlice::new(page, PAGE_SIZE) })
    }
}

impl Shared {
    /// So many pages.
    ///
    /// # Panics
    /// The mock has no memory.
    pub fn new(count: usize) -> &'static Self {
        let first = domain().alloc(count).expect("there are pages");
        leak(Self { first, count })
    }
}

/// Both ends of a ring.
pub struct Exchange {
    front: FrontRing<&'static Shared, SLOT_BYTES>,
    back: BackRing<&'static Shared, SLOT_BYTES>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl Exchange {
    /// Over a page.
    ///
    /// # Panics
    /// The mock has no memory.
    pub fn new() -> Self {
        let shared = Shared::new(1);
        let front = FrontRing::new(shared).expect("there is a page");
        let back = BackRing::attach(shared).expect("there is a page");
        Self { front, back }
    }

    /// A request and its answer.
    pub fn request_and_answer(&mut self) -> u8 {
        let pushed = self.front.push(&[7_u8; SLOT_BYTES]);
        let _told = self.front.publish();
        let request: Option<[u8; SLOT_BYTES]> = self.back.pop().ok().flatten();
        let answer = [request.map_or(0, |request| request[0]); 16];
        let answered = self.back.push(&answer);
        let _told = self.back.publish();
        let answer: Option<[u8; 16]> = self.front.pop().ok().flatten();
        u8::from(pushed && answered) * answer.map_or(0, |answer| answer[0])
    }
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes of a page, there and back.
#[derive(Debug)]
pub struct Copy {
    page: PeerSlice<'static>,
    bytes: Vec<u8>,
}

impl Copy {
    /// So many of them, from this offset on.
    ///
    /// # Panics
    /// The mock has no memory.
    pub fn new(offset: usize, len_bytes: usize) -> Self {
        let shared: &'static &Shared = leak(Shared::new(1));
        let page = shared.page(0).expect("there is a page");
        Self {
            page: page.get(offset, len_bytes).expect("they lie in the page"),
            bytes: vec![1; len_bytes],
        }
    }

    /// Copies them.
    pub fn there_and_back(&mut self) -> usize {
        self.page.copy_from(&self.bytes) + self.page.copy_to(&mut self.bytes)
    }
}

/// A connection whose server says what it was told.
#[derive(Debug, Default)]
pub struct Loopback(Machine);

impl Loopback {
    /// Over which one request went already.
    pub fn new() -> Self {
        let mut loopback = Self::default();
        loopback.read();
        loopback
    }

    /// A read, from the request to the value.
    pub fn read(&mut self) -> usize {
        let machine = &mut self.0;
        let id = machine.request(XsMessageType::READ, 0, &[b"device/vif/0/state", b"\0"]);
        let Ok(id) = id else {
            return 0;
        };
        let mut answer = [0; 17];
        machine.output(|bytes| {
            if let Ok((asked, _)) = XsdSockmsg::read_from_prefix(bytes) {
                let header = XsdSockmsg { len: 1, ..asked };
                let (head, body) = answer.split_at_mut(16);
                head.copy_from_slice(header.as_bytes());
                body.copy_from_slice(b"4");
            }
            bytes.len()
        });
        machine.input(&answer);
        match machine.take_answer(id, Waker::noop()) {
            Some(Ok(value)) => value.len(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_happens() {
        for choice in [Choice::TwoLevel, Choice::Best] {
            assert_eq!(Upcall::new(choice).dispatch(), 1);
        }
        for version in [Version::One, Version::Two] {
            drop(Lend::new(version).share_and_end());
        }
        assert_eq!(Loopback::new().read(), 1);
        assert_eq!(Exchange::new().request_and_answer(), 7);
        assert_eq!(Copy::new(3, 1514).there_and_back(), 2 * 1514);
    }
}
