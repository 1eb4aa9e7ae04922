//! The console's ring and the store's: a peer that writes anything anywhere.

use std::{ptr::NonNull, time::Duration};

use arbitrary::Arbitrary;
use event_channels::{Channel, Choice, PortRef, Ports, Throttle};
use hypercall_abi::{
    Port,
    io::{console::XenconsInterface, xs_wire::XenstoreDomainInterface},
    peer::PeerPtr,
    peer_field,
    platform::Pages,
};
use mock_hypervisor::{Config, Domain};
use pv_guest::console::ring::ConsoleRing;
use xenstore_client::{Client, Ring, Transport};

/// What happens.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// The peer writes a word of the console's page.
    ConsoleWord(u8, u32),
    /// The guest writes to its console.
    ConsoleWrite(Vec<u8>),
    /// The guest reads from its console.
    ConsoleRead(u16),
    /// The peer writes a word of the store's page.
    StoreWord(u8, u32),
    /// The guest sends bytes to the store.
    StoreSend(Vec<u8>),
    /// The guest receives bytes from the store.
    StoreReceive(u16),
    /// The guest looks after its connection.
    StoreLink,
    /// The guest asks the store.
    StoreRead,
}

fn page<T>(domain: &Domain) -> PeerPtr<'static, T> {
    let page: NonNull<T> = domain.alloc(1).expect("there is a page").cast();
    // SAFETY: a page of the domain's, larger than any ring, peer memory only;
    // the caller's domain outlives what uses it.
    unsafe { PeerPtr::new(page) }
}

/// Does these steps.
///
/// # Panics
/// More bytes move than there are, or one of the guest's own indices is not where it was.
pub fn run(steps: &[Step]) {
    let config = Config {
        memory_mib: 1,
        ..Config::default()
    };
    let Ok(domain) = Domain::new(config) else {
        return;
    };
    let domain: &Domain = &domain;
    // SAFETY: the page lives as long as the domain, which outlives the ports.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    let ports = Ports::new(domain, shared, Choice::Best, Throttle::default());
    let ports = ports.expect("there is memory for a few pages");
    let console_page: PeerPtr<'_, XenconsInterface> = page(domain);
    let mut console = ConsoleRing::new(domain, console_page, PortRef::new(Port(99), None));
    let store_page: PeerPtr<'_, XenstoreDomainInterface> = page(domain);
    let channel = Channel::ipi(&ports, hypercall_abi::VcpuId(0)).expect("there are ports");
    let store = Client::new(Ring::new(store_page, channel));
    // The guest's own indices of the console, which the peer writes over.
    let (mut written, mut taken) = (0_u32, 0_u32);
    let word = |index: PeerPtr<'_, u32>| index.load().trust();
    for step in steps {
        match step {
            Step::ConsoleWord(index, value) => {
                let words = [
                    peer_field!(console_page, XenconsInterface, in_cons),
                    peer_field!(console_page, XenconsInterface, in_prod),
                    peer_field!(console_page, XenconsInterface, out_cons),
                    peer_field!(console_page, XenconsInterface, out_prod),
                ];
                words[usize::from(*index) % words.len()].store(*value);
            }
            Step::ConsoleWrite(bytes) => {
                if let Ok(bytes_written) = console.write(bytes) {
                    assert!(bytes_written <= bytes.len().min(2048));
                    if bytes_written > 0 {
                        written = written.wrapping_add(bytes_written as u32);
                        let index = peer_field!(console_page, XenconsInterface, out_prod);
                        assert_eq!(word(index), written, "an index of the peer's is used");
                    }
                }
            }
            Step::ConsoleRead(most) => {
                let mut buffer = vec![0; usize::from(*most)];
                if let Ok(read) = console.read(&mut buffer) {
                    assert!(read <= buffer.len().min(1024));
                    if read > 0 {
                        taken = taken.wrapping_add(read as u32);
                        let index = peer_field!(console_page, XenconsInterface, in_cons);
                        assert_eq!(word(index), taken, "an index of the peer's is used");
                    }
                }
            }
            Step::StoreWord(index, value) => {
                let words = [
                    peer_field!(store_page, XenstoreDomainInterface, req_cons),
                    peer_field!(store_page, XenstoreDomainInterface, req_prod),
                    peer_field!(store_page, XenstoreDomainInterface, rsp_cons),
                    peer_field!(store_page, XenstoreDomainInterface, rsp_prod),
                    peer_field!(store_page, XenstoreDomainInterface, server_features),
                    peer_field!(store_page, XenstoreDomainInterface, connection),
                    peer_field!(store_page, XenstoreDomainInterface, error),
                ];
                words[usize::from(*index) % words.len()].store(*value);
            }
            Step::StoreSend(bytes) => {
                assert!(store.transport().send(bytes) <= bytes.len().min(1024));
            }
            Step::StoreReceive(most) => {
                let mut buffer = vec![0; usize::from(*most)];
                let received = store.transport().receive(&mut buffer);
                assert!(received <= buffer.len().min(1024));
            }
            Step::StoreLink => {
                store.transport().link();
            }
            Step::StoreRead => {
                // It ends, whatever the peer does.
                let most = Some(Duration::from_nanos(10));
                let _any = store.wait(most, store.tree().read("a"));
            }
        }
    }
}
