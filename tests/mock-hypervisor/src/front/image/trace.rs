//! A trace of the guest: a line for each thing that happens, with the vCPU and the time since
//! the guest's start.

use std::{
    fmt::Write as _,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use hypercall_abi::{Errno, HypercallNr, PAGE_SIZE, VcpuId, callback::CallbackType};
use zerocopy::IntoBytes;

use crate::core::memory::{GuestMemory, view::View};

/// What is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Hypercalls and their answers.
    pub hypercalls: bool,
    /// Exceptions, callbacks, and returns from them.
    pub traps: bool,
    /// What becomes of page tables.
    pub mmu: bool,
}

/// How many arguments the calls have, in the order of their numbers.
const ARGUMENTS: [u8; 43] = [
    1, 4, 2, 2, 3, 1, 2, 1, 2, 1, 2, 0, 2, 2, 3, 1, 1, 2, 3, 1, 3, 2, 4, 0, 3, 2, 4, 1, 2, 2, 2, 2,
    2, 2, 2, 1, 1, 2, 1, 5, 2, 3, 5,
];

/// The operations of calls that have such, by their numbers; "" is none.
pub(super) const OPERATIONS: &[(HypercallNr, &[&str])] = &[
    (
        HypercallNr::SCHED_OP,
        &[
            "yield",
            "block",
            "shutdown",
            "poll",
            "remote_shutdown",
            "shutdown_code",
            "watchdog",
        ],
    ),
    (
        HypercallNr::EVENT_CHANNEL_OP,
        &[
            "bind_interdomain",
            "bind_virq",
            "bind_pirq",
            "close",
            "send",
            "status",
            "alloc_unbound",
            "bind_ipi",
            "bind_vcpu",
            "unmask",
            "reset",
            "init_control",
            "expand_array",
            "set_priority",
        ],
    ),
    (
        HypercallNr::GRANT_TABLE_OP,
        &[
            "map_grant_ref",
            "unmap_grant_ref",
            "setup_table",
            "dump_table",
            "transfer",
            "copy",
            "query_size",
            "unmap_and_replace",
            "set_version",
            "get_status_frames",
            "get_version",
            "swap_grant_ref",
            "cache_flush",
        ],
    ),
    (
        HypercallNr::VCPU_OP,
        &[
            "initialise",
            "up",
            "down",
            "is_up",
            "get_runstate_info",
            "register_runstate_memory_area",
            "set_periodic_timer",
            "stop_periodic_timer",
            "set_singleshot_timer",
            "stop_singleshot_timer",
            "register_vcpu_info",
            "send_nmi",
            "get_physid",
            "register_vcpu_time_memory_area",
        ],
    ),
    (
        HypercallNr::XEN_VERSION,
        &[
            "version",
            "extraversion",
            "compile_info",
            "capabilities",
            "changeset",
            "platform_parameters",
            "get_features",
            "pagesize",
            "guest_handle",
            "commandline",
            "build_id",
        ],
    ),
    (HypercallNr::CALLBACK_OP, &["register", "unregister"]),
    (
        HypercallNr::NMI_OP,
        &["register_callback", "unregister_callback"],
    ),
    (
        HypercallNr::MEMORY_OP,
        &[
            "increase_reservation",
            "decrease_reservation",
            "maximum_ram_page",
            "current_reservation",
            "maximum_reservation",
            "machphys_mfn_list",
            "populate_physmap",
            "add_to_physmap",
            "translate_gpfn_list",
            "memory_map",
            "machine_memory_map",
            "exchange",
            "machphys_mapping",
        ],
    ),
];

/// As many entries of a list are told.
const MAX_UPDATES: u64 = 8;

fn is_of_tables(nr: HypercallNr) -> bool {
    [
        HypercallNr::MMU_UPDATE,
        HypercallNr::MMUEXT_OP,
        HypercallNr::UPDATE_VA_MAPPING,
        HypercallNr::UPDATE_VA_MAPPING_OTHERDOMAIN,
    ]
    .contains(&nr)
}

/// What time it is, where it is virtual.
static VIRTUAL_NS: AtomicU64 = AtomicU64::new(u64::MAX);

/// Time is virtual, and it is this.
pub(super) fn set_virtual_time(now_ns: u64) {
    VIRTUAL_NS.store(now_ns, Ordering::Relaxed);
}

fn say(vcpu: VcpuId, line: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    let us = match VIRTUAL_NS.load(Ordering::Relaxed) {
        u64::MAX => START.get_or_init(Instant::now).elapsed().as_micros() as u64,
        now_ns => now_ns / 1000,
    };
    super::report::tell(&format!("{us:8} us  v{}  {line}\n", vcpu.0));
}

/// The call, its operation by name, and as many arguments as it has.
fn describe(nr: HypercallNr, args: &[u64; 5]) -> String {
    let mut text = format!("{nr:?}");
    let mut args = &args[..usize::from(*ARGUMENTS.get(nr.0 as usize).unwrap_or(&5))];
    if let Some((_, names)) = OPERATIONS.iter().find(|(with, _)| *with == nr)
        && let [op, rest @ ..] = args
    {
        let name = names.get(*op as usize).filter(|name| !name.is_empty());
        let _always_room = match name {
            Some(name) => write!(text, " {name}"),
            None => write!(text, " operation {op}"),
        };
        args = rest;
    }
    let args: Vec<String> = args.iter().map(|arg| format!("{arg:#x}")).collect();
    let _always_room = write!(text, "({})", args.join(", "));
    text
}

impl Trace {
    const fn tells(&self, of_tables: bool) -> bool {
        self.hypercalls || (self.mmu && of_tables)
    }

    /// A call that may not return, or not soon.
    pub(super) fn call(&self, vcpu: VcpuId, nr: HypercallNr, args: &[u64; 5], view: &View) {
        if self.hypercalls && nr == HypercallNr::SCHED_OP {
            say(vcpu, &describe(nr, args));
        }
        if self.mmu && nr == HypercallNr::MMU_UPDATE {
            let [list, count, ..] = args;
            for index in 0..(*count).min(MAX_UPDATES) {
                let mut update = [0_u64; 2];
                let at = list.wrapping_add(index * 16) as usize;
                if view.copy_in(at, update.as_mut_bytes()).is_err() {
                    break;
                }
                let [place, value] = update;
                let (frame, kind) = (place / PAGE_SIZE as u64, place & 3);
                let slot = place % PAGE_SIZE as u64 / 8;
                let line = match kind {
                    1 => format!("  frame {frame:#x} is page {value:#x} of the guest's"),
                    _ => format!("  table {frame:#x}, entry {slot}: {value:#x}"),
                };
                say(vcpu, &line);
            }
        }
    }

    pub(super) fn answer(&self, vcpu: VcpuId, nr: HypercallNr, args: &[u64; 5], answer: isize) {
        if self.tells(is_of_tables(nr)) {
            let call = describe(nr, args);
            let line = match Errno::check(answer) {
                Ok(value @ 0..10) => format!("{call} = {value}"),
                Ok(value) => format!("{call} = {value:#x}"),
                Err(errno) => format!("{call} = {errno}"),
            };
            say(vcpu, &line);
        }
    }

    pub(super) fn trap(&self, vcpu: VcpuId, vector: u8, rip: u64) {
        if self.traps {
            let name = super::bounce::name(vector);
            say(vcpu, &format!("exception {vector} ({name}) at {rip:#x}"));
        }
    }

    pub(super) fn call_back(&self, vcpu: VcpuId, kind: CallbackType, rip: u64) {
        if self.traps {
            say(vcpu, &format!("callback {kind:?} at {rip:#x}"));
        }
    }

    pub(super) fn returns(&self, vcpu: VcpuId, rip: u64) {
        if self.traps {
            say(vcpu, &format!("  returns to {rip:#x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_their_names() {
        let tell = |nr, op| describe(nr, &[op, 0x10, 2, 3, 4]);
        assert_eq!(tell(HypercallNr::SCHED_OP, 3), "sched_op poll(0x10)");
        assert_eq!(
            tell(HypercallNr::GRANT_TABLE_OP, 5),
            "grant_table_op copy(0x10, 0x2)"
        );
        assert_eq!(
            tell(HypercallNr::SCHED_OP, 99),
            "sched_op operation 99(0x10)"
        );
        assert_eq!(
            tell(HypercallNr::UPDATE_VA_MAPPING, 7),
            "update_va_mapping(0x7, 0x10, 0x2)"
        );
        assert_eq!(
            tell(HypercallNr(99), 1),
            "hypercall 99(0x1, 0x10, 0x2, 0x3, 0x4)"
        );
    }
}
