//! `devices=stale-nic|groups|ports|offloads`: interfaces on a host as it is.
//!
//! Domain 0 has the other side (`tests/lab/dom0/devices.sh`).

use alloc::{format, vec::Vec};
use core::time::Duration;

use pv_guest::{
    Error,
    abi::{DomId, io::netif::NetifHashTypes},
    event_channels::Channel,
    netfront::{self, Interface, Mac, Multicast, Nic, Offload, Steered, Steering},
    println,
    xenbus::Bus,
};

use crate::{
    devices::{PATIENCE, text},
    wire::{round_trip, wait_for},
};

type Result<T> = core::result::Result<T, Error>;

/// The first one's number.
const ID: &str = "0";
/// More groups than a backend of Linux's passes, which are 64.
const GROUPS: u8 = 80;

/// By addresses and ports.
pub(crate) const STEERING: Steering = Steering {
    key: [0x5a; 40],
    hashes: NetifHashTypes::all(),
};

/// The number of the one beside it on the bridge. (What domain 0 itself sends to a group
/// is passed to all; what comes from another port is passed to those who asked for it.)
const BESIDE: &str = "1";
/// Where its packets come from: an address of nobody's.
const OTHERS: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// What its packets are: a protocol for experiments.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// How long packets may take from one to the other.
const ON_THE_WAY: Duration = Duration::from_secs(2);
/// How often they are sent: a bridge may have just got an interface.
const TRIES: u32 = 15;

/// A group that something is sent to.
const fn group(number: u8) -> Mac {
    Mac([1, 0, 0x5e, 1, 1, number])
}

/// Sends a packet to each of so many groups by `beside`, then one to all, and says which
/// came.
async fn groups_that_come(
    nic: &Nic<'static>,
    beside: &Nic<'static>,
    groups: u8,
) -> Result<Vec<u8>> {
    let failed = |_| Error::Failed("an interface does not send");
    for _ in 0..TRIES {
        for to in (0..groups).map(group).chain([Mac([0xff; 6])]) {
            let mut packet = [0; 60];
            let header = to.0.iter().chain(&OTHERS.0).chain(&ETHERTYPE);
            for (byte, value) in packet.iter_mut().zip(header) {
                *byte = *value;
            }
            beside
                .send(&[&packet], Offload::default())
                .await
                .map_err(failed)?;
        }
        let mut came = Vec::new();
        let all = wait_for(nic, ON_THE_WAY, |packet, _| {
            let (to, rest) = packet.split_first_chunk::<6>()?;
            if rest.get(6..8)? != ETHERTYPE {
                return None;
            }
            if *to == [0xff; 6] {
                return Some(());
            }
            came.push(to[5]);
            None
        });
        if all.await?.is_some() {
            return Ok(came);
        }
    }
    Err(Error::Failed(
        "packets from the other interface do not come",
    ))
}

/// Waits until an interface is connected.
pub(crate) async fn ready(nic: &Nic<'static>) -> Result<Interface> {
    let ready = nic.ready_within(PATIENCE).await;
    ready.map_err(|error| {
        println!("devices: FAILED: {error}");
        Error::Failed("an interface does not come")
    })
}

/// Keys of the protocol that domain 0 leaves in the interface's directory, as if an
/// earlier frontend had, and which those here have no use for.
const NOT_OURS: [&str; 3] = [
    "feature-gso-tcpv4-prefix",
    "feature-gso-tcpv6-prefix",
    "xdp-headroom",
];

/// One frontend after the other, each of another kind than what was left in the store.
pub(crate) async fn stale(bus: Bus<'static>) -> Result<()> {
    let kinds = [
        (1, Multicast::All, None),
        (4, Multicast::Joined, Some(STEERING)),
        (1, Multicast::All, None),
        (2, Multicast::Joined, None),
        (4, Multicast::All, None),
    ];
    let beside = Nic::new(bus, BESIDE, netfront::Config::default());
    ready(&beside).await?;
    for (queues, multicast, steering) in kinds {
        let config = netfront::Config {
            queues,
            multicast,
            steering,
            rx_pages: 64,
            ..netfront::Config::default()
        };
        let nic = Nic::new(bus, ID, config);
        let interface = ready(&nic).await?;
        round_trip(&nic, interface.mac).await?;
        let came = groups_that_come(&nic, &beside, 1).await?.len();
        if came != usize::from(multicast == Multicast::All) {
            println!("devices: FAILED: of one packet to a group, {came} came");
            return Err(Error::Failed(
                "groups are passed which were not asked for, or not",
            ));
        }
        for key in NOT_OURS {
            let left = text(bus, &format!("device/vif/{ID}/{key}")).await;
            if left != "none" {
                println!("devices: FAILED: {key} is still {left}");
                return Err(Error::Failed(
                    "what an earlier frontend left is still there",
                ));
            }
        }
        println!(
            "devices: {} of {queues} queues, multicast {multicast:?}: packets come and go",
            interface.queues
        );
        if interface.queues != queues as usize {
            return Err(Error::Failed(
                "these are not the queues that were asked for",
            ));
        }
        nic.close().await;
    }
    beside.close().await;
    println!("devices: {} frontends had the interface", kinds.len());
    Ok(())
}

/// More groups than a backend passes.
pub(crate) async fn groups(bus: Bus<'static>) -> Result<()> {
    let config = netfront::Config {
        multicast: Multicast::Joined,
        ..netfront::Config::default()
    };
    let nic = Nic::new(bus, ID, config);
    let interface = ready(&nic).await?;
    let beside = Nic::new(bus, BESIDE, netfront::Config::default());
    ready(&beside).await?;
    let mut refused: Vec<u8> = Vec::new();
    for number in 0..GROUPS {
        let joined = bus.timeout(PATIENCE, nic.join(group(number))).await;
        let joined = joined.map_err(|_| Error::Failed("the backend does not answer"))?;
        match joined {
            Ok(()) => {}
            Err(netfront::Error::GroupRefused) => refused.push(number),
            Err(error) => {
                println!("devices: FAILED: {error}");
                return Err(Error::Failed("a group is neither passed nor refused"));
            }
        }
    }
    println!(
        "devices: {} of {GROUPS} groups are passed, {} were refused, the first is {:?}",
        usize::from(GROUPS) - refused.len(),
        refused.len(),
        refused.first()
    );
    let came = groups_that_come(&nic, &beside, GROUPS).await?;
    let wrong = came
        .iter()
        .filter(|number| refused.contains(number))
        .count();
    println!(
        "devices: packets to {} groups came, to {wrong} of the refused",
        came.len()
    );
    // One that is left makes room for another.
    let (Some(first), Some(last)) = (came.first(), refused.last()) else {
        return Err(Error::Failed("the backend passes all, or nothing"));
    };
    nic.leave(group(*first));
    let joined = nic.join(group(*last)).await;
    joined.map_err(|_| Error::Failed("a group is refused though one was left"))?;
    println!(
        "devices: one was left, and another joined: {:?}, {:?}",
        nic.membership(group(*first)),
        nic.membership(group(*last))
    );
    let came = groups_that_come(&nic, &beside, GROUPS).await?;
    println!(
        "devices: packets to {} groups came, to the left {}, to the joined {}",
        came.len(),
        came.contains(first),
        came.contains(last)
    );
    round_trip(&nic, interface.mac).await?;
    nic.close().await;
    beside.close().await;
    Ok(())
}

/// Ports that are left for an interface: for a queue with one for each direction, and for
/// one with one for both.
const PORTS: usize = 3;

/// All ports that are free, until they are dropped.
pub(crate) async fn free_ports(bus: Bus<'static>) -> Vec<Channel<'static, pv_guest::Current>> {
    // The guest's timer takes a port when it is set first: not for a time that is over
    // before the guest gets to it.
    bus.sleep(Duration::from_millis(200)).await;
    let mut ports = Vec::new();
    while let Ok(port) = Channel::unbound(bus.ports(), DomId(0)) {
        ports.push(port);
    }
    ports
}

/// Fewer ports than the queues need.
pub(crate) async fn ports(bus: Bus<'static>) -> Result<()> {
    let mut others = free_ports(bus).await;
    println!(
        "devices: {} ports are free, {PORTS} are left so",
        others.len()
    );
    let kept = others.len().checked_sub(PORTS);
    others.truncate(kept.ok_or(Error::Failed("there are too few ports"))?);
    let config = netfront::Config {
        queues: 4,
        rx_pages: 64,
        steering: Some(STEERING),
        ..netfront::Config::default()
    };
    let nic = Nic::new(bus, ID, config);
    let interface = ready(&nic).await?;
    let left = match Channel::unbound(bus.ports(), DomId(0)) {
        Ok(_) => "some are left",
        Err(_) => "none is left",
    };
    println!(
        "devices: {} of 4 queues, and of the ports {left}",
        interface.queues
    );
    // The control ring would need one, too.
    if nic.steered() != Steered::No {
        return Err(Error::Failed("there was a port for the control ring"));
    }
    round_trip(&nic, interface.mac).await?;
    println!("devices: packets come and go by fewer queues");
    nic.close().await;
    Ok(())
}
