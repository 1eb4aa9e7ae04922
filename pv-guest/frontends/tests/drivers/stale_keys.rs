//! What an earlier frontend left in a device's directory: every key that the protocol has for
//! frontends, one by one, is written anew or gone when there is a connection.

use mock_hypervisor::{Config, DiskConfig, NicConfig, Outcome, Time, Xen};
use pv_frontends::{
    blkfront::{self, Disk},
    netfront::{self, Nic},
    xenbus::Bus,
};

use crate::kernel;

/// What no frontend writes.
const LEFT: &str = "left by an earlier one";

/// Frontends' keys: `io/blkif.h`.
const OF_DISKS: [&str; 14] = [
    "ring-page-order",
    "num-ring-pages",
    "ring-ref",
    "ring-ref0",
    "ring-ref15",
    "event-channel",
    "multi-queue-num-queues",
    "queue-0/ring-ref",
    "queue-1/ring-ref3",
    "queue-9/event-channel",
    "queue-10/event-channel",
    "protocol",
    "feature-persistent",
    "feature-large-sector-size",
];

/// Frontends' keys: `io/netif.h`; of XDP, Linux's `xen-netfront`.
const OF_NICS: [&str; 23] = [
    "multi-queue-num-queues",
    "queue-0/tx-ring-ref",
    "queue-1/event-channel-rx",
    "queue-3/rx-ring-ref",
    "tx-ring-ref",
    "rx-ring-ref",
    "event-channel",
    "event-channel-tx",
    "event-channel-rx",
    "ctrl-ring-ref",
    "event-channel-ctrl",
    "request-rx-copy",
    "request-multicast-control",
    "feature-rx-notify",
    "feature-sg",
    "feature-gso-tcpv4",
    "feature-gso-tcpv4-prefix",
    "feature-gso-tcpv6",
    "feature-gso-tcpv6-prefix",
    "feature-no-csum-offload",
    "feature-ipv6-csum-offload",
    "xdp-headroom",
    "queue-7",
];

/// What others wrote, which stays: the toolstack's, and what is no key of the protocol's.
const OTHERS: [&str; 6] = [
    "handle",
    "queue-x",
    "ring-ref-of-mine",
    "event-channels",
    "xdp",
    "bootindex",
];

#[derive(Clone, Copy)]
enum Device {
    Disk,
    Nic,
}

impl Device {
    const fn name(self) -> &'static str {
        match self {
            Self::Disk => "vbd/51712",
            Self::Nic => "vif/0",
        }
    }
}

/// Those of the keys that are as they were left when there is a connection.
fn left_of(device: Device, queues: u32, keys: &[&'static str]) -> Vec<&'static str> {
    let xen = Xen::new(Time::Virtual);
    let config = Config {
        memory_mib: 16,
        ..Config::default()
    };
    let domain = xen.domain(config).unwrap();
    match device {
        Device::Disk => {
            let config = DiskConfig {
                queues: 2,
                sectors: 64,
                vdev: 51712,
                ..DiskConfig::default()
            };
            xen.attach_disk(domain.domid(), config);
        }
        Device::Nic => {
            let config = NicConfig {
                queues: 2,
                ..NicConfig::default()
            };
            xen.attach_nic(domain.domid(), config);
        }
    }
    let path = |key: &str| format!("/local/domain/1/device/{}/{key}", device.name());
    for key in keys {
        xen.store_write(&path(key), LEFT.as_bytes()).unwrap();
    }
    let outcome = domain.run(|domain| {
        kernel::run_until(domain, None, async |bus: Bus<'_, _>| {
            let disk = blkfront::Config {
                queues,
                ..blkfront::Config::default()
            };
            let disk = Disk::new(bus, "51712", disk);
            let nic = netfront::Config {
                queues,
                ..netfront::Config::default()
            };
            let nic = Nic::new(bus, "0", nic);
            match device {
                Device::Disk => assert!(disk.ready().await.is_ok()),
                Device::Nic => assert!(nic.ready().await.is_ok()),
            }
            let is_left = |key: &&&str| xen.store_read(&path(key)) == Ok(LEFT.as_bytes().into());
            keys.iter().filter(is_left).copied().collect()
        })
        .unwrap()
        .unwrap()
    });
    match outcome {
        Outcome::Returned(left) => left,
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

fn check(device: Device, keys: &[&'static str]) {
    for queues in 1..=2 {
        let left = left_of(device, queues, keys);
        assert!(left.is_empty(), "{queues} queues: {left:?}");
    }
    assert_eq!(left_of(device, 1, &OTHERS), OTHERS);
}

#[test]
fn no_key_of_a_disk_stays() {
    check(Device::Disk, &OF_DISKS);
}

#[test]
fn no_key_of_an_interface_stays() {
    check(Device::Nic, &OF_NICS);
}
