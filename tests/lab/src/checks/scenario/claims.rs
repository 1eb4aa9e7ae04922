//! Scenarios: the claims and other checks of `conformance`, in surroundings of their own.

use super::{PVH, Scenario, XENS, scenario};
use crate::job::{Platform, With};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        command_line: "ports=2level grants=2",
        timeout_s: 120,
        only_on: XENS,
        nightly_on: PVH,
        ..scenario("2-level ports, grants v2", "conformance", &[" 0 failed"])
    },
    Scenario {
        command_line: "upcall=apic",
        timeout_s: 90,
        only_on: &[Platform::XenPvh],
        nightly_on: PVH,
        ..scenario("upcalls by the local APIC", "conformance", &[" 0 failed"])
    },
    Scenario {
        command_line: "pair=front",
        with: With::Peer,
        timeout_s: 90,
        only_on: XENS,
        ..scenario(
            "two guests",
            "conformance",
            &["front: 10000 round trips", "back: 10000 round trips"],
        )
    },
    Scenario {
        command_line: "pair=front",
        with: With::Linux,
        timeout_s: 90,
        only_on: XENS,
        nightly_on: PVH,
        ..scenario(
            "a guest and Linux",
            "conformance",
            &["front: 10000 round trips", "linux back: 10000 round trips"],
        )
    },
    Scenario {
        command_line: "only=store",
        with: With::Store,
        timeout_s: 120,
        only_on: XENS,
        nightly_on: PVH,
        ..scenario(
            "a shared store",
            "conformance",
            &[
                " 0 failed",
                "a_list_that_is_too_long_comes_in_parts ... ok",
                "others_work_on_the_same_tree ... ok",
                "dom0: 1000 nodes below",
                "dom0: 1000 by Linux's own tool",
                "dom0: echo ended with 0",
            ],
        )
    },
    Scenario {
        vcpus: 2,
        timeout_s: 90,
        jitter: true,
        only_on: &[Platform::User],
        ..scenario(
            "all claims, under interruptions",
            "conformance",
            &[" 0 failed"],
        )
    },
    Scenario {
        vcpus: 2,
        timeout_s: 90,
        jitter: true,
        command_line: "registers=500000",
        only_on: &[Platform::User],
        ..scenario(
            "all registers, under events from another vCPU",
            "conformance",
            &["registers: 500000 loops", "no difference"],
        )
    },
    Scenario {
        timeout_s: 300,
        jitter: true,
        command_line: "registers=10000000",
        only_on: &[Platform::User],
        ..scenario(
            "nightly: all registers, ten million times",
            "conformance",
            &["registers: 10000000 loops", "no difference"],
        )
    },
    Scenario {
        vcpus: 2,
        timeout_s: 90,
        command_line: "registers=200000",
        only_on: &[Platform::XenPv],
        ..scenario(
            "all registers",
            "conformance",
            &["registers: 200000 loops", "no difference"],
        )
    },
    Scenario {
        vcpus: 2,
        timeout_s: 90,
        jitter: true,
        command_line: "ipis=100000",
        only_on: &[Platform::User],
        ..scenario(
            "events between vCPUs, under interruptions",
            "conformance",
            &["ipis: 100000 went and came, none was lost"],
        )
    },
    Scenario {
        vcpus: 2,
        timeout_s: 90,
        command_line: "ipis=2000",
        only_on: XENS,
        ..scenario(
            "events between vCPUs",
            "conformance",
            &["ipis: 2000 went and came, none was lost"],
        )
    },
];
