//! What goes on, as a story, for who asked for it.

use std::fmt::Write as _;

use hypercall_abi::{Errno, HypercallNr, VcpuId, callback::CallbackType};

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

fn is_of_tables(nr: HypercallNr) -> bool {
    [
        HypercallNr::MMU_UPDATE,
        HypercallNr::MMUEXT_OP,
        HypercallNr::UPDATE_VA_MAPPING,
        HypercallNr::UPDATE_VA_MAPPING_OTHERDOMAIN,
    ]
    .contains(&nr)
}

fn say(vcpu: VcpuId, line: std::fmt::Arguments<'_>) {
    let mut text = String::new();
    let _always_room = writeln!(text, "v{}  {line}", vcpu.0);
    eprint!("{text}");
}

impl Trace {
    const fn tells(&self, of_tables: bool) -> bool {
        self.hypercalls || (self.mmu && of_tables)
    }

    pub(super) fn call(&self, vcpu: VcpuId, nr: HypercallNr, args: [u64; 5]) {
        if self.tells(is_of_tables(nr)) {
            let [a1, a2, a3, a4, a5] = args;
            say(
                vcpu,
                format_args!("calls {nr:?}({a1:#x}, {a2:#x}, {a3:#x}, {a4:#x}, {a5:#x})"),
            );
        }
    }

    pub(super) fn answer(&self, vcpu: VcpuId, nr: HypercallNr, answer: isize) {
        if self.tells(is_of_tables(nr)) {
            match Errno::check(answer) {
                Ok(0) => say(vcpu, format_args!("  = 0")),
                Ok(value) => say(vcpu, format_args!("  = {value:#x}")),
                Err(errno) => say(vcpu, format_args!("  = {errno:?}: {errno}")),
            }
        }
    }

    pub(super) fn trap(&self, vcpu: VcpuId, vector: u8, rip: u64) {
        if self.traps {
            let name = super::bounce::name(vector);
            say(
                vcpu,
                format_args!("exception {vector} ({name}) at {rip:#x}"),
            );
        }
    }

    pub(super) fn call_back(&self, vcpu: VcpuId, kind: CallbackType, rip: u64) {
        if self.traps {
            say(vcpu, format_args!("callback {kind:?} at {rip:#x}"));
        }
    }

    pub(super) fn returns(&self, vcpu: VcpuId, rip: u64) {
        if self.traps {
            say(vcpu, format_args!("  returns to {rip:#x}"));
        }
    }
}
