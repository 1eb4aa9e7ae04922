//! Scenarios: guests that go wrong, and what the loader wrote, spoilt.

use super::{
    Expected, MOCKS_AND_XENS, MOCKS_AND_XENS_OF_BOTH_KINDS, Scenario, fault, scenario, spoilt, wild,
};
use crate::job::{Platform, Spoil};

pub(super) const ALL: &[Scenario] = &[
    fault("panic", "fault=panic", &["as the command line wished"]),
    fault(
        "error",
        "fault=return",
        &["FATAL: as the command line wished"],
    ),
    Scenario {
        ended: Expected::Shutdown(1),
        ..fault("reboot", "fault=reboot", &["fault: reboot"])
    },
    Scenario {
        ended: Expected::Shutdown(4),
        only_on: MOCKS_AND_XENS,
        ..fault("watchdog", "fault=watchdog", &["fault: watchdog"])
    },
    fault(
        "panic within print",
        "fault=print",
        &["as the command line wished, within a value"],
    ),
    Scenario {
        command_line: "prints",
        ..scenario(
            "prints within prints",
            "conformance",
            &[
                "prints: a value, talkative, which prints\nprints: within the value\n",
                "prints: a value, tireless, which goes on\nprints: within the value, number   0\n",
                " bytes lost]\nprints: the end\n",
            ],
        )
    },
    Scenario {
        command_line: "prints",
        only_on: MOCKS_AND_XENS,
        ..scenario(
            "an upcall that prints",
            "conformance",
            &["prints: a value, ringing, at which an upcall comes\nprints: within the upcall\n"],
        )
    },
    fault("null", "fault=null", &["FATAL: page fault: write at 0x0"]),
    fault("stack overflow", "fault=stack", &["stack overflow"]),
    fault(
        "write to text",
        "fault=write-text",
        &["which does not allow it"],
    ),
    fault(
        "run data",
        "fault=execute-data",
        &["FATAL: page fault: execute"],
    ),
    wild("jump to nowhere", "fault=jump", &["page fault: execute"]),
    wild(
        "unmap its own code",
        "fault=unmap",
        &["page fault: execute"],
    ),
    wild(
        "take its tables away",
        "fault=tables",
        &["xen: the guest is ended for"],
    ),
    wild(
        "lose its stack",
        "fault=stack-gone",
        &["xen: the guest is ended for invalid opcode, for which its stack"],
    ),
    Scenario {
        ended: Expected::Shutdown(0),
        ..wild("storm of calls", "fault=storm", &["calls were refused"])
    },
    Scenario {
        // Who the guest is, and where its console, is what it cannot believe.
        mute_on: &[Platform::User, Platform::Mock, Platform::XenPv],
        ..spoilt(
            "wrong magic",
            Spoil::Magic,
            &["FATAL: bad start information"],
        )
    },
    spoilt("no memory", Spoil::Nothing, &["has no usable memory"]),
    spoilt("cut short", Spoil::Short, &["FATAL: bad start information"]),
    spoilt(
        "absurd places",
        Spoil::Absurd,
        &["FATAL: bad start information"],
    ),
    Scenario {
        ended: Expected::Shutdown(0),
        timeout_s: 120,
        nightly_on: &[Platform::XenPv, Platform::XenPvh],
        ..spoilt("overlaps", Spoil::Overlap, &[" 0 failed"])
    },
    Scenario {
        ended: Expected::Shutdown(0),
        mute_on: MOCKS_AND_XENS,
        timeout_s: 120,
        nightly_on: &[Platform::XenPvh],
        ..spoilt("no console", Spoil::Console, &[" 0 failed"])
    },
    Scenario {
        only_on: MOCKS_AND_XENS_OF_BOTH_KINDS,
        // There is no console to say it, and the guest ends at once: one that used the
        // page would wait there for a daemon.
        mute_on: MOCKS_AND_XENS_OF_BOTH_KINDS,
        timeout_s: 20,
        ..spoilt("a ring over something else", Spoil::Ring, &[])
    },
    Scenario {
        // Its output lies where nobody takes it.
        ended: Expected::Shutdown(0),
        command_line: "only=the_pages_of_rings",
        only_on: &[Platform::User, Platform::XenPv],
        mute_on: &[Platform::User, Platform::XenPv],
        timeout_s: 120,
        ..spoilt("a ring in memory", Spoil::Free, &[])
    },
    Scenario {
        command_line: "fault=loop",
        ended: Expected::TimedOut,
        timeout_s: 3,
        ..scenario("endless loop", "conformance", &["fault: loop"])
    },
    Scenario {
        command_line: "fault=hang",
        ended: Expected::TimedOut,
        timeout_s: 3,
        only_on: &[Platform::User],
        ..scenario(
            "a hang behind a call that there is not",
            "conformance",
            &[
                "fault: hang",
                "xen: the guest is interrupted",
                "hypercall 62, operation 7: 1 time",
            ],
        )
    },
    Scenario {
        ended: Expected::Unnamed,
        ..fault(
            "a reason without a name",
            "fault=reason",
            &["fault: reason"],
        )
    },
    Scenario {
        only_on: MOCKS_AND_XENS,
        ..fault(
            "a reason that was latched before",
            "fault=latched",
            &["fault: latched"],
        )
    },
];
