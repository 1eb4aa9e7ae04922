//! Scenarios: devices that come and go, quotas, and what interfaces agree on.

use super::{PVH, Scenario, XENS, scenario};
use crate::job::With;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        command_line: "devices=close disks=2 nics=1",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        nightly_on: PVH,
        ..scenario(
            "devices that are closed are taken away",
            "load",
            &[
                "devices: when close() of the disk returned, its state was 6",
                "devices: when close() of the interface returned, its state was 6",
                "devices: all were taken away; what is left of the disk: none",
                "devices: 0 grants are in quarantine",
                "dom0: block-detach of xvda ended with 0",
                "dom0: block-detach of xvdb ended with 0",
                "dom0: network-detach ended with 0",
            ],
        )
    },
    Scenario {
        command_line: "devices=refused disks=1",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        ..scenario(
            "nightly: a disk with a wrong backend-id",
            "load",
            &[
                "times in a row: the backend ended before it was connected",
                "devices: less than one write a second",
            ],
        )
    },
    Scenario {
        memory_mib: 128,
        command_line: "devices=many disks=100 nics=20",
        with: With::Devices,
        timeout_s: 900,
        only_on: XENS,
        ..scenario(
            "nightly: more devices than the store's quota allows",
            "load",
            &[
                "errors name the quota of nodes",
                "devices: a sector of each disk was read",
                "devices: all are closed",
            ],
        )
    },
    Scenario {
        memory_mib: 128,
        command_line: "devices=many disks=100 nics=20 quota=5000",
        with: With::Devices,
        timeout_s: 900,
        only_on: XENS,
        ..scenario(
            "nightly: 100 disks and 20 interfaces",
            "load",
            &[
                "devices: 100 of 100 disks and 20 of 20 interfaces are connected",
                "devices: 0 were refused",
                "devices: a sector of each disk was read",
                "devices: all are closed",
            ],
        )
    },
    Scenario {
        command_line: "devices=cycles cycles=5 disks=1 nics=1",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        nightly_on: PVH,
        ..scenario(
            "a disk and an interface that go and come",
            "load",
            &[
                "devices: 5 times opened, closed, taken away and given back",
                "devices: 0 grants are in use, 0 in quarantine",
                " ports, 0 are lost",
                "dom0: vbd, 5 cycles: 0 frontends, 0 backends, 0 devices are left",
                "dom0: vif, 5 cycles: 0 frontends, 0 backends, 0 devices are left",
                "dom0: 0 interfaces are left",
            ],
        )
    },
    Scenario {
        command_line: "devices=cycles cycles=100 disks=1",
        with: With::Devices,
        timeout_s: 900,
        only_on: XENS,
        ..scenario(
            "nightly: a disk that goes and comes 100 times",
            "load",
            &[
                "devices: 100 times opened, closed, taken away and given back",
                "devices: 0 grants are in use, 0 in quarantine",
                " ports, 0 are lost",
                "dom0: vbd, 100 cycles: 0 frontends, 0 backends, 0 devices are left",
            ],
        )
    },
    Scenario {
        command_line: "devices=cycles cycles=100 nics=1",
        with: With::Devices,
        timeout_s: 900,
        only_on: XENS,
        ..scenario(
            "nightly: an interface that goes and comes 100 times",
            "load",
            &[
                "devices: 100 times opened, closed, taken away and given back",
                "devices: 0 grants are in use, 0 in quarantine",
                " ports, 0 are lost",
                "dom0: vif, 100 cycles: 0 frontends, 0 backends, 0 devices are left",
                "dom0: 0 interfaces are left",
            ],
        )
    },
    Scenario {
        command_line: "devices=stale-nic nics=2",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        nightly_on: PVH,
        ..scenario(
            "an interface with one frontend after the other",
            "load",
            &["devices: 5 frontends had the interface"],
        )
    },
    Scenario {
        command_line: "devices=groups nics=2",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        nightly_on: PVH,
        ..scenario(
            "more groups than a backend passes",
            "load",
            &[
                "devices: 64 of 80 groups are passed, 16 were refused, the first is Some(64)",
                "devices: packets to 64 groups came, to 0 of the refused",
                "devices: one was left, and another joined: No, Joined",
                "devices: packets to 64 groups came, to the left false, to the joined true",
            ],
        )
    },
    Scenario {
        command_line: "devices=offloads nics=1",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        nightly_on: PVH,
        ..scenario(
            "checksums and segments that are left to the other side",
            "load",
            &[
                "devices: V4: a checksum that was Blank came back Blank",
                "devices: V6: a checksum that was Blank came back Blank",
                "devices: streams went and came in large packets",
            ],
        )
    },
    Scenario {
        vcpus: 2,
        command_line: "devices=ports nics=1",
        xl: &["max_event_channels=9"],
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        ..scenario(
            "an interface with fewer ports than it wants",
            "load",
            &[
                "devices: 2 of 4 queues, and of the ports none is left",
                "devices: packets come and go by fewer queues",
            ],
        )
    },
];
