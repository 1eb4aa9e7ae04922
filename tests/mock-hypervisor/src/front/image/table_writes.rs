//! Writes to page tables by a guest that asked for help with those (`VMASST`).

use hypercall_abi::Errno;
use iced_x86::{Mnemonic, OpKind};

use super::{registers::Registers, vcpu::Cpu};
use crate::core::memory::frame_types::Kind;

impl Cpu {
    /// A write to a lowest page table, if the guest asked for help with those.
    pub(super) fn write_of_table(&mut self, registers: &mut Registers, address: u64) -> bool {
        const WRITABLE_PAGETABLES: u64 = 1 << 2;
        if self.monitor.domain.lock().assists & WRITABLE_PAGETABLES == 0 {
            return false;
        }
        let Some(instruction) = self.decode(registers) else {
            return false;
        };
        if instruction.memory_size().size() != 8
            || !address.is_multiple_of(8)
            || instruction.op0_kind() != OpKind::Memory
        {
            return false;
        }
        let mut state = self.monitor.domain.lock();
        let Some(table) = state.memory.tables.as_ref().and_then(|tables| {
            let leaf = tables.view.leaf(address)?;
            tables.view.page_of(leaf.entry)
        }) else {
            return false;
        };
        if table >= state.memory.nr_pages() || state.memory.kind(table) != Some(Kind::Table(1)) {
            return false;
        }
        let slot = (address as usize % hypercall_abi::PAGE_SIZE) / 8;
        let before = state
            .memory
            .entry(table, slot)
            .load(std::sync::atomic::Ordering::Acquire);
        let operand = match instruction.op1_kind() {
            OpKind::Register => *registers.general(instruction.op1_register().number()),
            OpKind::Immediate32to64 => instruction.immediate32to64().cast_unsigned(),
            OpKind::Immediate8to64 => instruction.immediate8to64().cast_unsigned(),
            _ => return false,
        };
        const ZERO: u64 = 1 << 6;
        let entry = match instruction.mnemonic() {
            Mnemonic::Mov => operand,
            Mnemonic::And => before & operand,
            Mnemonic::Or => before | operand,
            Mnemonic::Xchg => {
                *registers.general(instruction.op1_register().number()) = before;
                operand
            }
            Mnemonic::Cmpxchg if registers.rax == before => {
                registers.rflags |= ZERO;
                operand
            }
            Mnemonic::Cmpxchg => {
                registers.rflags &= !ZERO;
                registers.rax = before;
                registers.rip = instruction.next_ip();
                return true;
            }
            _ => return false,
        };
        let written: Result<(), Errno> = state.memory.write_entry(table, 1, slot, entry);
        drop(state);
        if written.is_ok() {
            registers.rip = instruction.next_ip();
        }
        written.is_ok()
    }
}
