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

/// Debug registers: which can be read and written (4 and 5 are other names of 6 and
/// 7), and what they have that nobody wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DebugRegisters([u64; 8]);

/// What a debug register may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadDebug {
    /// There is no such register.
    Register,
    /// Bits of its upper half are set.
    Bits,
    /// An address of Xen's, or what only Xen may ask for.
    Forbidden,
}

impl Default for DebugRegisters {
    fn default() -> Self {
        let mut all = [0; 8];
        (all[Self::STATUS], all[Self::CONTROL]) = (Self::STATUS_ONES, Self::CONTROL_ONES);
        Self(all)
    }
}

impl DebugRegisters {
    pub(crate) const STATUS: usize = 6;
    pub(crate) const CONTROL: usize = 7;
    /// Bits that always read as one, and as zero.
    pub(crate) const STATUS_ONES: u64 = 0xffff_0ff0;
    const STATUS_ZEROES: u64 = 1 << 12;
    const CONTROL_ONES: u64 = 1 << 10;
    const CONTROL_ZEROES: u64 = 0xd800;
    /// Stop at each access to a debug register: Xen's alone.
    const GENERAL_DETECT: u64 = 1 << 13;
    /// Which of the four are on, locally or globally.
    const ENABLED: u64 = 0xff;

    /// Without debugging extensions, two have two names.
    const fn index(register: usize) -> Option<usize> {
        match register {
            0..=3 | Self::STATUS | Self::CONTROL => Some(register),
            4 => Some(Self::STATUS),
            5 => Some(Self::CONTROL),
            _ => None,
        }
    }

    pub(crate) fn read(&self, register: usize) -> Option<u64> {
        Self::index(register).map(|index| self.0[index])
    }

    /// Writes one; `is_guests` says whether an address is one that the guest may watch.
    pub(crate) fn write(
        &mut self,
        register: usize,
        value: u64,
        is_guests: impl FnOnce(u64) -> bool,
    ) -> Result<(), BadDebug> {
        let index = Self::index(register).ok_or(BadDebug::Register)?;
        let value = match index {
            Self::STATUS | Self::CONTROL if value > u64::from(u32::MAX) => {
                return Err(BadDebug::Bits);
            }
            Self::STATUS => (value | Self::STATUS_ONES) & !Self::STATUS_ZEROES,
            Self::CONTROL => {
                let value = (value & !Self::CONTROL_ZEROES) | Self::CONTROL_ONES;
                if value & Self::GENERAL_DETECT != 0 || Self::watches_ports(value) {
                    return Err(BadDebug::Forbidden);
                }
                value
            }
            _ if !is_guests(value) => return Err(BadDebug::Forbidden),
            _ => value,
        };
        self.0[index] = value;
        Ok(())
    }

    /// Whether one that is on watches a port: that is for debugging extensions.
    const fn watches_ports(value: u64) -> bool {
        const PORT: u64 = 2;
        if value & Self::ENABLED == 0 {
            return false;
        }
        let mut shift = 16;
        while shift < 32 {
            if value >> shift & 3 == PORT {
                return true;
            }
            shift += 4;
        }
        false
    }

    /// Notes what happened.
    #[cfg(feature = "user")]
    pub(crate) const fn note(&mut self, bits: u64) {
        self.0[Self::STATUS] = Self::STATUS_ONES | bits;
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Processor {
    pub(crate) debug_registers: DebugRegisters,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_registers_have_bits_that_nobody_sets() {
        let mut all = DebugRegisters::default();
        assert_eq!((all.read(6), all.read(7)), (Some(0xffff_0ff0), Some(0x400)));
        let mut set = |register, value| all.write(register, value, |address| address != 0xbad);
        assert_eq!(set(6, 0x1001), Ok(()));
        assert_eq!(set(7, 0xd000_8001), Ok(()));
        assert_eq!(set(3, 0x1234), Ok(()));
        assert_eq!(set(3, 0xbad), Err(BadDebug::Forbidden));
        for register in [4, 5, 6, 7] {
            assert_eq!(set(register, 1 << 32), Err(BadDebug::Bits));
        }
        assert_eq!(set(7, 1 << 13), Err(BadDebug::Forbidden));
        // A port is watched by none that is on.
        assert_eq!(set(7, 2 << 20 | 1), Err(BadDebug::Forbidden));
        assert_eq!(set(8, 0), Err(BadDebug::Register));
        assert_eq!((all.read(6), all.read(4)), (Some(0xffff_0ff1), all.read(6)));
        assert_eq!((all.read(7), all.read(5)), (Some(0xd000_0401), all.read(7)));
        assert_eq!((all.read(3), all.read(8)), (Some(0x1234), None));
    }
}
