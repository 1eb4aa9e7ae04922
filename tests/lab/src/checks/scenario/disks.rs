//! Scenarios: disks, and who has them.

use super::{MOCKS, MOCKS_AND_XENS, PVH, Scenario, XENS, scenario};
use crate::job::With;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        with: With::Check,
        only_on: XENS,
        ..scenario(
            "a disk, by blkback",
            "disk",
            &[
                "3 files are what /SHA256SUMS says",
                "| Linux wrote this.",
                "wrote GUEST.TXT, 100000 bytes, and read it back",
                "dom0: fsck of vfat ended with 0",
                "dom0: fsck of ext4 ended with 0",
                "dom0: numbers.txt: OK",
                "dom0: GUEST.TXT is what the guest wrote",
            ],
        )
    },
    Scenario {
        // A whole round of trouble, and the start of the next one: domain 0 may be slow.
        command_line: "torture=20 statuses=5",
        with: With::DiskFaults,
        timeout_s: 300,
        only_on: XENS,
        nightly_on: PVH,
        ..scenario(
            "a disk that trouble comes to",
            "load",
            &[
                "32 tasks for 20 s on a disk of",
                "sectors were as they should be",
                "operations failed",
                "were cut off when the disk went",
                "dom0: trouble, round 1",
            ],
        )
    },
    Scenario {
        command_line: "again=8",
        timeout_s: 120,
        only_on: MOCKS_AND_XENS,
        nightly_on: PVH,
        ..scenario(
            "a disk with one frontend after the other",
            "load",
            &["again: 8 frontends had the disk, one after the other"],
        )
    },
    Scenario {
        command_line: "devices=odd",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        nightly_on: PVH,
        ..scenario(
            "disks that say and do odd things",
            "load",
            &[
                "dom0: info is  0\\000",
                "odd: sectors 8192, of 512 bytes, beneath of 512 bytes",
                "odd: discards of 8192 bytes, from 0 bytes",
                "odd: a discard that cannot be done harms nobody: ",
                "odd: a flush: Ok(())",
                "odd: flushes by Some(Cache)",
                "odd: a flush that works: Ok(())",
                "odd: a write: Ok(())",
                "odd: a flush that fails: Err(Io)",
                "odd: a flush that works again: Ok(())",
                "odd: a discard that works: Ok(())",
                "odd: all that is left is zero: true",
            ],
        )
    },
    Scenario {
        only_on: MOCKS,
        ..scenario(
            "a disk of the mock's",
            "disk",
            &[
                "3 files are what /SHA256SUMS says",
                "wrote GUEST.TXT, 100000 bytes, and read it back",
            ],
        )
    },
];
