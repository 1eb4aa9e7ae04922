//! What a PV guest has set of a vCPU: for who runs its code.

use std::collections::BTreeMap;

use hypercall_abi::xen::traps::{TI_MASK_EVENTS, TrapInfo};

/// The handler of an exception.
#[cfg_attr(
    not(feature = "user"),
    expect(dead_code, reason = "read by who runs a guest's image")
)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    pub(crate) address: u64,
    /// Who may raise it by instruction: 0 to 3.
    pub(crate) privilege: u8,
    /// Whether it holds events back.
    pub(crate) masks: bool,
}

/// Where the guest wants to be called.
#[cfg_attr(
    not(feature = "user"),
    expect(dead_code, reason = "read by who runs a guest's image")
)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callback {
    pub(crate) address: u64,
    pub(crate) masks: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Processor {
    pub(crate) gates: BTreeMap<u8, Gate>,
    /// By their type.
    pub(crate) callbacks: BTreeMap<u16, Callback>,
    pub(crate) nmi: Option<u64>,
    pub(crate) has_nmi: bool,
    /// The stack of the guest's kernel, for who comes from user mode.
    pub(crate) kernel_sp: u64,
    pub(crate) io_level: u8,
    /// Whether the floating-point unit was taken away.
    pub(crate) is_unit_away: bool,
    /// Bases that were set, and that the registers do not have yet.
    pub(crate) fs_base: Option<u64>,
    pub(crate) gs_base_kernel: Option<u64>,
    pub(crate) gs_base_user: Option<u64>,
}

impl Processor {
    /// Whether there is something that its registers do not have yet, or that it is to
    /// be told.
    #[cfg(feature = "user")]
    pub(crate) fn has_news(&self) -> bool {
        let bases = [self.fs_base, self.gs_base_kernel, self.gs_base_user];
        self.has_nmi || bases.iter().any(Option::is_some)
    }

    /// `HYPERVISOR_set_trap_table`, an entry.
    pub(crate) fn set_gate(&mut self, entry: &TrapInfo) {
        let gate = Gate {
            address: entry.address,
            privilege: entry.flags & 3,
            masks: entry.flags & TI_MASK_EVENTS != 0,
        };
        self.gates.insert(entry.vector, gate);
    }

    /// A callback, or none.
    pub(crate) fn set_callback(&mut self, kind: u16, callback: Option<Callback>) {
        match callback {
            Some(callback) => {
                self.callbacks.insert(kind, callback);
            }
            None => {
                self.callbacks.remove(&kind);
            }
        }
    }
}
