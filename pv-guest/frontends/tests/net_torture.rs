//! Two guests that talk to each other in a world where much goes wrong, by seed:
//! packets may be lost, but none is changed, comes twice or too late.

mod kernel;
#[path = "kernel/plan.rs"]
mod plan;

use std::{
    future::pending,
    num::NonZeroU16,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::{FutureExt as _, select_biased};
use hypercall_abi::io::netif::NetifHashTypes;
use mock_hypervisor::{Config, Domain, Faults, NicConfig, Outcome, Time, Xen, seed_count, seeds};
use pv_frontends::{
    netfront::{
        self, Checksum, Error, Features, Mac, Multicast, Nic, Offload, Offloads, Protocol,
        Segmentation, Status, Steering,
    },
    xenbus::Bus,
};

const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const PACKETS: u64 = 40;
/// How long a guest may take, in virtual time.
const PATIENCE_NS: u64 = 60_000_000_000;

/// A small generator of its own (SplitMix64): the plan's is the hypervisor's.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What a backend can cut begins with headers of IPv4 and TCP.
const TCP_HEADERS: usize = 40;

/// Where a packet's number is.
fn number_at(packet: &[u8]) -> usize {
    match packet[12..14] {
        [8, 0] => 14 + TCP_HEADERS,
        _ => 14,
    }
}

/// The packet of a number: all of its bytes tell which it is. One that is longer than the
/// MTU is TCP, with the sum of the pseudo header.
fn packet(from: usize, number: u64, len: usize) -> Vec<u8> {
    let mut head = [MACS[1 - from], MACS[from]].concat();
    if len > 1514 {
        let ip_bytes = (len - 14) as u16;
        head.extend([8, 0, 0x45, 0]);
        head.extend(ip_bytes.to_be_bytes());
        head.extend([0, 9, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        head.extend([0, 7, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 1, 0]);
        let words = [0x0a00, 1, 0x0a00, 2, 6, u32::from(ip_bytes) - 20];
        let sum: u32 = words.into_iter().sum();
        let pseudo = (sum & 0xffff) + (sum >> 16);
        head.extend((pseudo as u16).to_be_bytes());
        head.extend([0, 0]);
    } else {
        head.extend([0x88, 0xb5]);
    }
    head.extend(number.to_le_bytes());
    let rest = (head.len()..len).map(|at| (number as u8).wrapping_mul(31) ^ at as u8);
    head.iter().copied().chain(rest).collect()
}

/// Whether what came is believed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Belief {
    /// It is what the other sent.
    Data,
    /// It may be anything.
    Nothing,
}

async fn send_all(nic: &Nic<'_, &Domain>, from: usize, random: &mut Random) {
    for number in 1..=PACKETS {
        let Ok(interface) = nic.ready().await else {
            recover(nic).await;
            continue;
        };
        let takes = |feature| interface.features.contains(feature);
        let len = match random.below(3) {
            0 => 22 + random.below(100),
            1 => 22 + random.below(1492),
            _ if takes(Features::SEGMENT_V4 | Features::CHECKSUM_V4) => 22 + random.below(60_000),
            _ => 1514,
        } as usize;
        let bytes = packet(from, number, len);
        let segmentation = (len > 1514).then_some(Segmentation {
            protocol: Protocol::TcpV4,
            segment_bytes: NonZeroU16::new(1400).unwrap(),
        });
        let offload = Offload {
            checksum: match segmentation {
                Some(_) => Checksum::Blank,
                None => Checksum::Complete,
            },
            segmentation,
        };
        let sent = match random.below(4) {
            0 => match nic.buffer(len.div_ceil(4096)).await {
                Ok(mut buffer) => {
                    buffer.copy_from(0, &bytes);
                    nic.send_granted(buffer, len, offload).await.1
                }
                Err(error) => Err(error),
            },
            1 => {
                // Begun, and perhaps not waited for.
                let parts = [&bytes[..]];
                let begun = pin!(nic.send(&parts, offload));
                let _any = futures_util::poll!(begun);
                Ok(())
            }
            _ => nic.send(&[&bytes], offload).await,
        };
        if sent.is_err() {
            recover(nic).await;
        }
        if random.below(3) == 0 {
            kernel::pause().await;
        }
    }
}

/// After an error: until the interface is there again.
async fn recover(nic: &Nic<'_, &Domain>) {
    loop {
        match nic.status() {
            // What is closed is not waited for.
            Status::Connected | Status::Closed => return,
            Status::Connecting => drop(nic.ready().await),
            Status::Broken(_) => drop(nic.reconnect().await),
            other => drop(nic.status_change(other).await),
        }
        kernel::pause().await;
    }
}

/// Receives, and checks; how many came.
async fn receive_all(nic: &Nic<'_, &Domain>, from: usize, belief: Belief, count: &AtomicU64) {
    // A packet comes by the queue of its kind, and in order there.
    let (mut buffer, mut last) = (Vec::new(), [0; 2]);
    loop {
        match nic.receive(&mut buffer).await {
            Ok(received) => {
                assert_eq!(received.len_bytes, buffer.len());
                if belief == Belief::Nothing {
                    continue;
                }
                let number = &buffer[number_at(&buffer)..];
                let number = u64::from_le_bytes(*number.first_chunk().unwrap());
                let last = &mut last[usize::from(number_at(&buffer) == 14)];
                assert!(number > *last, "{number} came after {last}");
                assert!(
                    buffer == packet(from, number, buffer.len()),
                    "{number} is not whole"
                );
                *last = number;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error::Closed) => return,
            Err(_) => recover(nic).await,
        }
    }
}

/// When an interface is closed whose backend means harm: whatever that does, all who wait
/// for it are told then.
const CLOSED_AFTER: Duration = Duration::from_secs(20);

/// How a guest came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It had sent all.
    Itself,
    /// Its interface was closed, and both of its tasks were told.
    Closed,
}

async fn talk(bus: Bus<'_, &Domain>, own: usize, seed: u64, belief: Belief) -> (u64, End) {
    let mut random = Random(!seed ^ own as u64);
    let wanted = netfront::Config {
        queues: 1 + random.below(3) as u32,
        rx_pages: 18 + random.below(30) as u32,
        multicast: match random.below(2) {
            0 => Multicast::All,
            _ => Multicast::Joined,
        },
        offloads: Offloads::All,
        steering: Some(Steering {
            key: [0x6d; 40],
            // None of these packets: whoever changes a flow's queue changes its order.
            hashes: NetifHashTypes::IPV6,
        }),
        ..netfront::Config::default()
    };
    let nic = Nic::new(bus, "0", wanted);
    // It is wanted, whatever becomes of the backend meanwhile.
    let _asked = futures_util::poll!(std::pin::pin!(nic.join(Mac([1, 0, 0x5e, 0, 0, 1]))));
    let received = AtomicU64::new(0);
    let work = async {
        send_all(&nic, own, &mut random).await;
        for _ in 0..50 {
            kernel::pause().await;
        }
    };
    let planned = async {
        if belief == Belief::Data {
            pending::<()>().await;
        }
        bus.sleep(CLOSED_AFTER).await;
        nic.close().await;
        pending::<()>().await;
    };
    {
        let (mut work, mut planned) = (pin!(work.fuse()), pin!(planned.fuse()));
        let mut receiving = pin!(receive_all(&nic, 1 - own, belief, &received).fuse());
        select_biased! {
            () = work => {}
            () = receiving => work.await,
            () = planned => {}
        }
    }
    let end = match nic.status() {
        Status::Closed => End::Closed,
        _ => End::Itself,
    };
    nic.close().await;
    assert_eq!(nic.status(), Status::Closed);
    (received.into_inner(), end)
}

/// Plays one seed; how many packets arrived at each guest and how it came to its end, if
/// both could begin.
fn play(seed: u64, faults: Faults, belief: Belief) -> Option<Vec<(u64, End)>> {
    let xen = Xen::new(Time::Virtual);
    let config = || Config {
        memory_mib: 8,
        ..Config::default()
    };
    let domains = [xen.domain(config()).unwrap(), xen.domain(config()).unwrap()];
    let mut random = Random(seed);
    let nics = [0, 1].map(|own| {
        let config = NicConfig {
            mac: MACS[own],
            queues: 1 + random.below(4) as u32,
            split: random.below(2) == 0,
            segments: random.below(4) != 0,
            checksums_v4: random.below(4) != 0,
            checksums_v6: random.below(4) != 0,
            multicast: random.below(2) == 0,
            latency_ns: random.below(3) * 20_000,
            ..NicConfig::default()
        };
        xen.attach_nic(domains[own].domid(), config)
    });
    let guest = |own: usize| {
        Box::new(move |domain: &Domain| {
            kernel::run_until(domain, Some(PATIENCE_NS), async |bus: Bus<'_, _>| {
                talk(bus, own, seed, belief).await
            })
            .map_err(|error| error.to_string())
        }) as Box<_>
    };
    let plan = plan::plan(seed, faults, domains[0].domid());
    let played = xen.play(plan, vec![(&domains[0], guest(0)), (&domains[1], guest(1))]);
    for (domain, nic) in domains.iter().zip(nics) {
        let kept = xen.remove_nic(nic);
        assert_eq!(domain.grants_in_use(), kept, "grants are left over");
    }
    let ended = played.outcomes.into_iter().map(|outcome| match outcome {
        Outcome::Returned(Ok(Some(ended))) => Some(ended),
        Outcome::Returned(Ok(None)) => panic!("it waits for ever"),
        // It found no room to begin.
        Outcome::Returned(Err(_)) => None,
        other => panic!("{other:?}"),
    });
    ended.collect()
}

#[test]
fn what_arrives_is_what_was_sent() {
    let (ended, arrived) = (AtomicU64::new(0), AtomicU64::new(0));
    seeds(tries(), |seed| {
        let faults = Faults {
            spurious: 50,
            doubled: 20,
            stormed: 500,
            paused: 200,
            io_fails: 50,
            backend_restarts: 400,
            detached: 500,
            late_services: 3,
            store_refuses: 100,
            store_restarts: 1000,
            no_room: 500,
            no_pages: 500,
            ..Faults::default()
        };
        if let Some(both) = play(seed, faults, Belief::Data) {
            ended.fetch_add(1, Ordering::Relaxed);
            let count = both.iter().map(|(count, _)| count).sum();
            arrived.fetch_add(count, Ordering::Relaxed);
        }
    });
    let (ended, arrived) = (ended.into_inner(), arrived.into_inner());
    println!(
        "{ended} of {} pairs came to their end, {arrived} packets arrived",
        tries()
    );
    let moves = kernel::MOVES.load(Ordering::Relaxed);
    println!("guests went on elsewhere {moves} times");
    assert!(moves > tries() / 8);
    assert!(ended > tries() * 9 / 10 && arrived > ended * PACKETS / 4);
}

#[test]
fn a_backend_that_means_harm_does_none() {
    let [itself, closed] = [const { AtomicU64::new(0) }; 2];
    seeds(tries() / 4, |seed| {
        let faults = Faults {
            late_services: 3,
            mischief: 5,
            backend_restarts: 500,
            ..Faults::default()
        };
        let both = play(seed, faults, Belief::Nothing).expect("there is room to begin");
        for (_, end) in both {
            let count = match end {
                End::Itself => &itself,
                End::Closed => &closed,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let [itself, closed] = [itself, closed].map(AtomicU64::into_inner);
    println!(
        "{itself} guests came to their end by themselves, {closed} when their interface was \
         closed"
    );
    // Neither is rare: both are tried.
    assert!(itself > tries() / 40 && closed > tries() / 400);
}

/// Seeds of each change; a night tries ten thousand.
fn tries() -> u64 {
    seed_count(400)
}
