//! Scenarios: servers and their visitors.

use std::time::Duration;

use super::{MOCKS_AND_XENS, PVH, Scenario, XENS, scenario};
use crate::job::{Crowd, Platform, With, XenVersion};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        command_line: "port=80 clients=3",
        with: With::Clients,
        only_on: MOCKS_AND_XENS,
        ..scenario(
            "an echo server",
            "echo",
            &[
                "echo: 10.0.2.15:80",
                "clients: all 3 have what they sent",
                "echo: 3 clients have gone",
            ],
        )
    },
    Scenario {
        command_line: "requests=7",
        with: With::Visitor,
        timeout_s: 90,
        only_on: MOCKS_AND_XENS,
        ..scenario(
            "a web server",
            "web",
            &[
                "web: http://10.0.2.15:80/",
                "visitor: 3 files are what SHA256SUMS says",
                "web: 7 requests were answered",
            ],
        )
    },
    Scenario {
        command_line: "requests=8 queues=3 ip=10.0.2.15/24 ip6=fd00::15/64",
        with: With::Visitor,
        timeout_s: 90,
        only_on: XENS,
        // The older one's domain 0 has a wget that IPv6 ends.
        only_xens: &[XenVersion::V4_20],
        nightly_on: PVH,
        ..scenario(
            "a web server, three queues, IPv6",
            "web",
            &[
                "web: http://[fd00::15]:80/",
                "visitor: 3 files are what SHA256SUMS says",
                "dom0: http://[fd00::15]/files/hello.txt: Hello from the sample disk.",
                "web: 8 requests were answered, 3 queues, chosen by a hash",
            ],
        )
    },
    Scenario {
        command_line: "quiet=3",
        with: With::Visitor,
        large_mb: 20,
        timeout_s: 90,
        only_on: MOCKS_AND_XENS,
        nightly_on: PVH,
        ..scenario(
            "a web server with a large file",
            "web",
            &["visitor: 4 files are what SHA256SUMS says"],
        )
    },
    Scenario {
        command_line: "quiet=3",
        with: With::Crowd,
        timeout_s: 90,
        only_on: &[
            Platform::User,
            Platform::Mock,
            Platform::XenPv,
            Platform::XenPvh,
        ],
        ..scenario(
            "a web server with 200 clients",
            "web",
            &[
                "crowd: 200 clients at once for 5 s: ",
                " answers, 0 refused, 0 corrupted",
            ],
        )
    },
    Scenario {
        // A machine that is busy may let clients wait.
        command_line: "quiet=8",
        memory_mib: 5,
        with: With::Crowd,
        crowd: Crowd {
            clients: 64,
            stay: Duration::from_secs(5),
        },
        timeout_s: 90,
        only_on: XENS,
        nightly_on: &[Platform::XenPv],
        ..scenario(
            "a web server in 5 MiB with 64 clients",
            "web",
            &[
                "crowd: 64 clients at once for 5 s: ",
                " answers, 0 refused, 0 corrupted",
            ],
        )
    },
    Scenario {
        command_line: "quiet=3",
        with: With::Crowd,
        crowd: Crowd {
            clients: 300,
            stay: Duration::from_secs(5),
        },
        timeout_s: 90,
        // About the guest, not the platform.
        only_on: &[Platform::Mock],
        ..scenario(
            "a web server with more clients than sockets",
            "web",
            &[
                "crowd: 300 clients at once for 5 s: ",
                " answers, 0 refused, 0 corrupted",
            ],
        )
    },
    Scenario {
        command_line: "requests=4",
        with: With::Neighbour,
        timeout_s: 90,
        only_on: XENS,
        // A second Linux starts for it, which takes a minute.
        nightly_on: XENS,
        // The lab's Linux guest, of Debian 12 there, powers off before it says anything.
        only_xens: &[XenVersion::V4_20],
        ..scenario(
            "a web server and a Linux guest on one bridge",
            "web",
            &[
                "neighbour: hello.txt: OK",
                "neighbour: numbers.txt: OK",
                "web: 4 requests were answered",
            ],
        )
    },
];
