//! What is counted: an upcall that wakes a task, a page lent and taken back, a
//! request and its answer. Each has a set-up, which is not counted.

use std::task::{Context, Waker};

use event_channels::{Channel, Choice, Ports, Throttle};
use grant_tables::{GrantTable, Page, PeerReads, Version};
use hypercall_abi::{
    DomId, VcpuId,
    io::xs_wire::{XsMessageType, XsdSockmsg},
    peer::PeerPtr,
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
    }
}
