//! A network interface, with a backend that does what it must not do, between the
//! steps of an honest one, a toolstack that takes it away, and callers who do not
//! wait for what they asked.

use std::{future::Future, num::NonZeroU16, pin::Pin};

use arbitrary::Arbitrary;
use hypercall_abi::io::netif::NetifHashTypes;
use mock_hypervisor::{Config, Domain, Frame, Mischief, NicConfig, Time, Xen};
use pv_guest::netfront::{
    self, Checksum, Mac, Multicast, Nic, Offload, Offloads, Protocol, Segmentation, Steering,
};

use crate::guest::{MAX_WAITING, Waiting, go, text, with_bus};

/// What happens.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// The guest sends a packet of so many bytes, in segments if they are so
    /// large.
    Send(u16, u16),
    /// The same, from pages that it lends.
    SendGranted(u16, u16),
    /// The guest waits for a packet.
    Receive,
    /// The guest joins or leaves a group.
    Group(u8),
    /// The guest wants a new connection.
    Reconnect,
    /// Upcalls come, and all that goes on goes on.
    Go,
    /// One of those who wait does so no longer.
    Drop(u8),
    /// A packet comes for the guest.
    Packet(u16),
    /// The backend puts this into the ring of received packets.
    Answer(u64),
    /// The same, of a page of this number.
    AnswerOne(u8, u8, u8, u16),
    /// The backend answers a packet again.
    Again,
    /// The backend writes an index.
    Index(u32),
    /// The backend writes a state.
    State(u8),
    /// The backend offers one of these.
    Offers(u8),
    /// The wire is there, or is not.
    Carrier(u8),
    /// The backend keeps a page.
    Hoard,
    /// The backend's directory is gone.
    Vanish,
    /// The backend is replaced.
    Restart,
    /// The interface is taken away and given back.
    Detach,
    /// The store forgets the guest.
    StoreRestart,
}

const MAC: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 1];

/// Does these steps.
///
/// # Panics
/// Grants of the guest's are used when all is over.
pub fn run(steps: &[Step]) {
    let xen = Xen::new(Time::Virtual);
    let config = Config {
        memory_mib: 8,
        ..Config::default()
    };
    let Ok(domain) = xen.domain(config) else {
        return;
    };
    let domain: &Domain = &domain;
    let device = || NicConfig {
        queues: 2,
        ..NicConfig::default()
    };
    let mut id = xen.attach_nic(domain.domid(), device());
    let tap = xen.tap("xenbr0");
    let wanted = netfront::Config {
        queues: 2,
        rx_pages: 20,
        multicast: Multicast::Joined,
        offloads: Offloads::All,
        steering: Some(Steering {
            key: [0x6d; 40],
            hashes: NetifHashTypes::IPV4,
        }),
        ..netfront::Config::default()
    };
    let mut kept = 0;
    with_bus(domain, |bus, ports| {
        let nic = Nic::new(bus, "0", wanted);
        let mut waiting: Waiting<'_> = Vec::new();
        for step in steps {
            let asked: Option<Pin<Box<dyn Future<Output = ()> + '_>>> = match *step {
                Step::Send(len, segment) => Some(Box::pin(send(&nic, len, segment))),
                Step::SendGranted(len, segment) => Some(Box::pin(lend(&nic, len, segment))),
                Step::Receive => Some(Box::pin(async {
                    let _any = nic.receive(&mut Vec::new()).await;
                })),
                Step::Group(which) if which % 2 == 0 => {
                    let nic = &nic;
                    Some(Box::pin(async move {
                        let _any = nic.join(Mac([1, 0, 0x5e, 0, 0, which / 2])).await;
                    }))
                }
                Step::Reconnect => Some(Box::pin(async {
                    let _any = nic.reconnect().await;
                })),
                _ => None,
            };
            if waiting.len() < MAX_WAITING {
                waiting.extend(asked);
            }
            match *step {
                Step::Go => go(ports, &mut waiting),
                Step::Drop(which) if !waiting.is_empty() => {
                    drop(waiting.swap_remove(usize::from(which) % waiting.len()));
                }
                Step::Group(which) => {
                    let group = Mac([1, 0, 0x5e, 0, 0, which / 2]);
                    if which % 2 != 0 {
                        nic.leave(group);
                    }
                }
                Step::Packet(len) => {
                    let mut bytes = packet(len);
                    bytes[..6].copy_from_slice(&MAC);
                    tap.send(Frame::whole(bytes));
                }
                Step::Carrier(value) => xen.set_carrier(id, value.into()),
                Step::Detach => {
                    kept += xen.remove_nic(id);
                    id = xen.attach_nic(domain.domid(), device());
                }
                Step::Restart => xen.restart_nic(id),
                Step::StoreRestart => xen.store_restart(domain.domid()),
                _ => {}
            }
            if let Some(mischief) = mischief(step) {
                xen.nic_mischief(id, mischief);
            }
            while tap.receive().is_some() {}
        }
        go(ports, &mut waiting);
    });
    kept += xen.remove_nic(id);
    // Those that are kept may be kept twice.
    assert!(domain.grants_in_use() <= kept, "grants are left over");
}

/// A packet of at least a header.
fn packet(len: u16) -> Vec<u8> {
    vec![7; usize::from(len).max(14)]
}

fn offload(len: u16, segment: u16) -> Offload {
    let segmentation = NonZeroU16::new(segment).map(|segment_bytes| Segmentation {
        protocol: match segment % 2 {
            0 => Protocol::TcpV4,
            _ => Protocol::TcpV6,
        },
        segment_bytes,
    });
    let segmentation = segmentation.filter(|_| len > 1514);
    Offload {
        checksum: match segmentation {
            Some(_) => Checksum::Blank,
            None => Checksum::Complete,
        },
        segmentation,
    }
}

async fn send(nic: &Nic<'_, &Domain>, len: u16, segment: u16) {
    let bytes = packet(len);
    let (head, rest) = bytes.split_at(14);
    let _any = nic.send(&[head, rest], offload(len, segment)).await;
}

async fn lend(nic: &Nic<'_, &Domain>, len: u16, segment: u16) {
    let pages = usize::from(len).div_ceil(4096);
    if let Ok(buffer) = nic.buffer(pages).await {
        let (_buffer, _any) = nic
            .send_granted(buffer, len.into(), offload(len, segment))
            .await;
    }
}

fn mischief(step: &Step) -> Option<Mischief> {
    Some(match *step {
        Step::Answer(value) => Mischief::Answer(value),
        Step::AnswerOne(id, offset, flags, status) => {
            let parts = [id.into(), u16::from(offset) << 5, flags.into(), status];
            let value = parts
                .iter()
                .rev()
                .fold(0, |value: u64, part| value << 16 | u64::from(*part));
            Mischief::Answer(value)
        }
        Step::Again => Mischief::AnswerAgain,
        Step::Index(index) => Mischief::Index(index),
        Step::State(state) => Mischief::State(state.into()),
        Step::Offers(which) => Mischief::Offers(text(which)),
        Step::Hoard => Mischief::Hoard,
        Step::Vanish => Mischief::Vanish,
        _ => return None,
    })
}
