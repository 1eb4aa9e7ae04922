//! The processor's exceptions in the guest's code: what Xen would emulate is
//! emulated, what the process's mappings are behind with is made up for, and the
//! rest is the guest's.

use hypercall_abi::PAGE_SIZE;

use super::{
    registers::Registers,
    report,
    space::Found,
    vcpu::{Cpu, Mode},
};
use crate::core::memory::frame_types::PRESENT;

/// Bits of a page fault's error code.
const WAS_PRESENT: u32 = 1;
const WRITES: u32 = 1 << 1;
const IN_USER_MODE: u32 = 1 << 2;
const RUNS: u32 = 1 << 4;

/// An exception, as a signal tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) vector: u8,
    pub(super) error: u32,
    pub(super) address: u64,
}

/// As often as this in a row an access may be tried again.
const MAX_TRIES: u32 = 16;

impl Fault {
    pub(super) fn of(context: &libc::ucontext_t) -> Self {
        let word = |index: libc::c_int| context.uc_mcontext.gregs[index as usize].cast_unsigned();
        Self {
            vector: word(libc::REG_TRAPNO) as u8,
            error: word(libc::REG_ERR) as u32,
            address: word(libc::REG_CR2),
        }
    }
}

impl Cpu {
    /// Serves one.
    pub(super) fn fault(&mut self, registers: &mut Registers, fault: Fault) {
        match fault.vector {
            14 => self.page_fault(registers, fault),
            13 => self.general_protection(registers, fault.error),
            6 => {
                if !self.forced(registers) {
                    self.exception(registers, 6, None);
                }
            }
            1 => {
                self.note_step(registers);
                self.pass_breakpoint(registers);
                self.exception(registers, 1, None);
            }
            3 if self.covers(registers) => {}
            vector @ (10 | 11 | 12 | 17) => {
                self.exception(registers, vector, Some(fault.error));
            }
            vector => self.exception(registers, vector, None),
        }
    }

    /// Takes a breakpoint of the coverage's away, if that is what was met.
    fn covers(&self, registers: &mut Registers) -> bool {
        let at = registers.rip.wrapping_sub(1);
        let coverage = self.monitor.coverage.as_ref();
        let Some(code) = coverage.and_then(|coverage| coverage.take(at)) else {
            return false;
        };
        let mut state = self.monitor.domain.lock();
        let place = state.memory.tables.as_ref().and_then(|tables| {
            let page = tables.view.page_of(tables.view.leaf(at)?.entry)?;
            Some(page * PAGE_SIZE + at as usize % PAGE_SIZE)
        });
        let byte = place.and_then(|place| state.memory.bytes_mut().get_mut(place));
        let Some(byte) = byte else {
            return false;
        };
        *byte = code;
        registers.rip = at;
        true
    }

    /// The one-byte breakpoint is told behind it; on processors that are virtual
    /// themselves, some hosts tell it at the instruction.
    fn pass_breakpoint(&self, registers: &mut Registers) {
        const INT1: u8 = 0xf1;
        let mut code = [0];
        let is_step = registers.rflags & super::registers::TRAP != 0;
        if !is_step && self.monitor.read(registers.rip, &mut code).is_ok() && code == [INT1] {
            registers.rip += 1;
        }
    }

    fn general_protection(&mut self, registers: &mut Registers, error: u32) {
        const OF_GATES: u32 = 2;
        if error & OF_GATES != 0 {
            return self.interrupt(registers, (error >> 3) as u8);
        }
        if !self.emulate(registers) {
            self.protection_fault(registers, error);
        }
    }

    fn page_fault(&mut self, registers: &mut Registers, fault: Fault) {
        let address = fault.address;
        let (writes, runs) = (fault.error & WRITES != 0, fault.error & RUNS != 0);
        let found = {
            let state = self.monitor.domain.lock();
            self.monitor
                .space
                .find(&state.memory, address, writes, runs)
        };
        match found {
            Ok(Found::There) if self.may_try_again(registers.rip, address) => return,
            Ok(Found::There) => {
                let what = format!("its access to {address:#x} stops again and again");
                report::crash(self, registers, &what);
            }
            Ok(Found::OutOfReach) => {
                let start = self.monitor.space.start();
                let what = match address < start {
                    true => format!(
                        "its page tables map {address:#x}, which this process may not: it may \
                         from {start:#x} on (as root, or after sysctl -w vm.mmap_min_addr=0, \
                         it may)"
                    ),
                    false => format!(
                        "its page tables map {address:#x}, which a process cannot: link the \
                         kernel and put its mappings below 0x500000000000, at 0x40000000 for \
                         example"
                    ),
                };
                report::crash(self, registers, &what);
            }
            Ok(Found::Refused) => {}
            Err(error) => {
                let hint = match error.kind() {
                    std::io::ErrorKind::PermissionDenied => {
                        " (this host may forbid code in memory that is shared)"
                    }
                    _ => "",
                };
                let what = format!("the page at {address:#x} cannot be mapped: {error}{hint}");
                report::fail(&what);
            }
        }
        if !writes && !runs && self.load_of_machine(registers, address) {
            return;
        }
        if writes && self.write_of_table(registers, address) {
            return;
        }
        let mut error = fault.error & (WRITES | RUNS);
        if self
            .monitor
            .view
            .leaf(address)
            .is_some_and(|leaf| leaf.entry & PRESENT != 0)
        {
            error |= WAS_PRESENT;
        }
        if self.mode == Mode::User {
            error |= IN_USER_MODE;
        }
        self.page_fault_at(registers, address, error);
    }

    fn may_try_again(&mut self, rip: u64, address: u64) -> bool {
        let (last_rip, last_address, times) = self.again;
        self.again = if (last_rip, last_address) == (rip, address) {
            (rip, address, times + 1)
        } else {
            (rip, address, 0)
        };
        self.again.2 < MAX_TRIES
    }
}
