//! Hypervisors that do not offer a call say so by one error or another: a kernel does
//! without it, each time, or says which call it cannot do without.

use anyhow::{Result, bail};

use crate::{
    build::disk,
    job::{Job, Platform, Tools, exit::Ended},
    platforms::run::run,
    say::say,
};

/// How they say so.
const ABSENT: [&str; 4] = ["ENOSYS", "EOPNOTSUPP", "EINVAL", "EPERM"];

/// What a kernel can do without: calls that are refused together, a guest, and what it
/// says all the same.
const OPTIONAL: &[(&[&str], &str, &[&str])] = &[
    (
        &["event_channel_op:init_control"],
        "tour",
        &["TwoLevel: one was sent and came", "a page lent", STORE],
    ),
    (&["event_channel_op:set_priority"], "tour", ALL),
    (&["grant_table_op:set_version"], "tour", ALL),
    (&["grant_table_op:query_size"], "tour", ALL),
    (&["memory_op:machphys_mapping"], "tour", ALL),
    (&["multicall"], "disk", DISK),
    (&["sched_op:poll"], "tour", ALL),
    // The sleeps of a kernel that cannot poll end by Xen's timer, of which there are two.
    (
        &["sched_op:poll", "vcpu_op:set_singleshot_timer"],
        "tour",
        ALL,
    ),
    (&["sched_op:poll", "set_timer_op"], "tour", ALL),
    (
        &[
            "sched_op:poll",
            "vcpu_op:set_singleshot_timer",
            "set_timer_op",
        ],
        "tour",
        ALL,
    ),
    (&["sched_op:poll", "sched_op:block"], "tour", ALL),
    (&["vcpu_op"], "tour", &["vCPUs         1 (1 up)", STORE]),
    (&["xen_version"], "tour", &["guest type    PV", STORE]),
    (&["xen_version:extraversion"], "tour", ALL),
    (&["xen_version:get_features"], "tour", ALL),
    (&["vm_assist"], "tour", ALL),
    (
        &["event_channel_op:status"],
        "tour",
        &["domain        unknown: ", STORE],
    ),
    (
        &["callback_op:register"],
        "tour",
        &["others        there are none", NAPS],
    ),
    // All that it can do without, at once.
    (
        &[
            "event_channel_op:init_control",
            "grant_table_op:set_version",
            "grant_table_op:query_size",
            "memory_op:machphys_mapping",
            "multicall",
            "sched_op:poll",
            "vcpu_op",
            "xen_version",
        ],
        "disk",
        DISK,
    ),
];

const STORE: &str = "store         this guest is \"";
const NAPS: &str = "ten tasks slept 55 ms";
const ALL: &[&str] = &[
    "Fifo: one was sent and came",
    "a page lent to domain 0",
    STORE,
    NAPS,
    "powering off",
];
const DISK: &[&str] = &["partition 2: ", "pages are lent"];

/// What it cannot do without, and what it says of that before it ends.
const NEEDED: &[(&str, &str)] = &[
    ("set_trap_table", "cannot set the trap table: "),
    ("update_va_mapping", "cannot unmap the page below a stack: "),
    ("mmu_update", "cannot update page tables: "),
    ("grant_table_op:setup_table", "grant: "),
    ("event_channel_op:bind_ipi", "event channel: "),
    // Of one that cannot notify, the console's daemon hears nothing: it ends without a word.
    ("event_channel_op:send", ""),
];

/// An error that is none of those: what is there and does not work is not done without.
const BUSY: &[(&str, &str)] = &[
    ("memory_op:machphys_mapping=EBUSY", ""),
    ("grant_table_op:set_version=EBUSY", "grant: "),
    ("grant_table_op:query_size=EBUSY", "grant: "),
];

/// Refuses each, in each way.
pub(crate) fn check() -> Result<()> {
    let mut tried = 0;
    for errno in ABSENT {
        for (calls, guest, says) in OPTIONAL {
            let refused: Vec<String> = calls.iter().map(|call| format!("{call}={errno}")).collect();
            try_it(guest, refused, Ended::Shutdown(0), says)?;
            tried += 1;
        }
        for (call, says) in NEEDED {
            let refused = vec![format!("{call}={errno}")];
            try_it("tour", refused, Ended::Shutdown(3), &[says])?;
            tried += 1;
        }
    }
    for (refused, says) in BUSY {
        try_it(
            "tour",
            vec![(*refused).to_owned()],
            Ended::Shutdown(3),
            &[says],
        )?;
        tried += 1;
    }
    say!("without calls that may be missing, in {tried} ways, a kernel goes on or says why not");
    Ok(())
}

fn try_it(guest: &str, refuse: Vec<String>, ended: Ended, says: &[&str]) -> Result<()> {
    let refused = refuse.join(", ");
    let job = Job {
        tools: Tools {
            refuse,
            ..Tools::default()
        },
        disks: disk::sample_for(guest, Platform::User.name(), 0)?
            .into_iter()
            .collect(),
        ..Job::new(guest, Platform::User)
    };
    let report = run(&job)?;
    let console = &report.console;
    if report.ended != ended {
        bail!(
            "{guest} with {refused}: it ended by {}, not by {ended}\n{console}",
            report.ended
        );
    }
    match says.iter().find(|text| !console.contains(*text)) {
        Some(text) => bail!("{guest} with {refused}: it did not say {text:?}\n{console}"),
        None => Ok(()),
    }
}
