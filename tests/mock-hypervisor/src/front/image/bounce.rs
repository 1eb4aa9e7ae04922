//! How the guest is told of traps and events: by a frame on its kernel's stack, as
//! Xen makes it; and how it returns from that.

use hypercall_abi::{
    callback::CallbackType,
    peer_field,
    xen::{VcpuInfo, traps::IretContext},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    registers::{ALIGNMENT, INTERRUPTS, IO_LEVEL, NESTED, RESUME, Registers, TRAP, VIRTUAL_8086},
    report,
    signals::MONITOR_START,
    vcpu::{Cpu, Mode},
};
use crate::core::processor::{Callback, Gate};

/// The selectors of a frame: those of the kernel have no privilege bits.
const KERNEL_CS: u64 = 0xe030;
const USER_CS: u64 = 0xe033;
pub(super) const SS: u64 = 0xe02b;
/// The vector of a non-maskable interrupt.
const NMI: u8 = 2;
const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;

/// What the guest is to be told before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Events.
    Events,
    /// A non-maskable interrupt.
    Nmi,
}

/// Where to go, and what lies between the processor's frame and `r11`.
struct Target<'a> {
    address: u64,
    masks: bool,
    below: &'a [u64],
}

impl Cpu {
    /// Tells it.
    pub(super) fn deliver(&mut self, registers: &mut Registers, why: Why) {
        match why {
            Why::Events => self.call_back(registers, CallbackType::EVENT),
            Why::Nmi => {
                let handler = self.with_processor(|cpu| {
                    cpu.has_nmi = false;
                    cpu.nmi.unwrap_or(0)
                });
                self.in_nmi = true;
                self.monitor.trace.trap(self.id, NMI, registers.rip);
                let target = Target {
                    address: handler,
                    masks: true,
                    below: &[],
                };
                self.bounce(registers, &target, "a non-maskable interrupt");
            }
        }
    }

    /// Calls one of the guest's callbacks.
    pub(super) fn call_back(&mut self, registers: &mut Registers, kind: CallbackType) {
        let callback: Option<Callback> =
            self.with_processor(|cpu| cpu.callbacks.get(&kind.0).copied());
        let Some(callback) = callback else {
            report::crash(
                self,
                registers,
                &format!("{kind:?}: the guest has set no callback for that"),
            );
        };
        let target = Target {
            address: callback.address,
            masks: callback.masks,
            below: &[],
        };
        self.monitor.trace.call_back(self.id, kind, registers.rip);
        self.bounce(registers, &target, "a callback");
    }

    /// Tells the guest of an exception.
    pub(super) fn exception(&mut self, registers: &mut Registers, vector: u8, error: Option<u32>) {
        let gate: Option<Gate> = self.with_processor(|cpu| cpu.gates.get(&vector).copied());
        self.monitor.trace.trap(self.id, vector, registers.rip);
        let Some(gate) = gate else {
            let what = format!(
                "exception {vector} ({}), for which it has set no handler",
                name(vector)
            );
            report::crash(self, registers, &what);
        };
        let error = error.map(u64::from);
        let target = Target {
            address: gate.address,
            masks: gate.masks,
            below: error.as_slice(),
        };
        self.bounce(registers, &target, name(vector));
    }

    pub(super) fn protection_fault(&mut self, registers: &mut Registers, error: u32) {
        self.exception(registers, GENERAL_PROTECTION, Some(error));
    }

    /// Tells the guest of a page fault.
    pub(super) fn page_fault_at(&mut self, registers: &mut Registers, address: u64, error: u32) {
        if let Some(info) = self.info() {
            let arch = peer_field!(info, VcpuInfo, arch);
            peer_field!(arch, hypercall_abi::xen::ArchVcpuInfo, cr2).store(address);
        }
        self.exception(registers, PAGE_FAULT, Some(error));
    }

    /// `int n` in the guest's code.
    pub(super) fn interrupt(&mut self, registers: &mut Registers, vector: u8) {
        const BYTES: u64 = 2;
        let gate: Option<Gate> = self.with_processor(|cpu| cpu.gates.get(&vector).copied());
        let least = match self.mode {
            Mode::Kernel => 1,
            Mode::User => 3,
        };
        if gate.is_some_and(|gate| gate.privilege >= least) {
            registers.rip = registers.rip.wrapping_add(BYTES);
            self.exception(registers, vector, None);
        } else {
            self.protection_fault(registers, (u32::from(vector) << 3) | 2);
        }
    }

    fn bounce(&mut self, registers: &mut Registers, target: &Target<'_>, what: &str) {
        if target.address >= MONITOR_START {
            let what = format!(
                "{what}, for which its handler is at {:#x}, where no guest's code can be",
                target.address
            );
            report::crash(self, registers, &what);
        }
        let Some(info) = self.info() else {
            return;
        };
        let mask = peer_field!(info, VcpuInfo, evtchn_upcall_mask);
        let was_masked = mask.load_acquire().trust() != 0;
        let came_from = self.mode;
        let (stack, cs) = match came_from {
            Mode::Kernel => (registers.rsp & !15, KERNEL_CS),
            Mode::User => (self.with_processor(|cpu| cpu.kernel_sp), USER_CS),
        };
        if self.toggle(Mode::Kernel).is_err() {
            report::crash(self, registers, "its user mode lost its page tables");
        }
        let enabled = if was_masked { 0 } else { INTERRUPTS };
        let mut words = vec![registers.rcx, registers.r11];
        words.extend(target.below);
        words.extend([
            registers.rip,
            cs | (u64::from(was_masked) << 32),
            (registers.rflags & !(INTERRUPTS | IO_LEVEL)) | enabled | self.seen_io_level(),
            registers.rsp,
            SS,
        ]);
        let top = stack.wrapping_sub(words.len() as u64 * 8);
        if self.monitor.write(top, words.as_bytes()).is_err() {
            let what = format!(
                "{what}, for which its stack at {top:#x} has no room: a stack overflow, or a stack \
                 pointer that leads nowhere"
            );
            report::crash(self, registers, &what);
        }
        if target.masks {
            mask.store_release(1);
        }
        registers.rsp = top;
        registers.rip = target.address;
        registers.rflags &= !(ALIGNMENT | VIRTUAL_8086 | RESUME | NESTED | TRAP);
    }

    /// The hypercall `iret`: the way back from all of these.
    pub(super) fn iret(&mut self, registers: &mut Registers) {
        let mut context = IretContext::new_zeroed();
        let read = self.monitor.read(registers.rsp, context.as_mut_bytes());
        if read.is_err() {
            let what = "it returned from a trap by a stack that is not there";
            report::crash(self, registers, what);
        }
        if context.cs & 3 == 3 && self.toggle(Mode::User).is_err() {
            let what = "it returned to user mode, which has no page tables";
            report::crash(self, registers, what);
        }
        self.in_nmi = false;
        self.take_io_level(context.rflags);
        if context.flags & hypercall_abi::xen::traps::VGCF_IN_SYSCALL == 0 {
            registers.rcx = context.rcx;
            registers.r11 = context.r11;
        }
        registers.rax = context.rax;
        registers.rip = context.rip;
        registers.rsp = context.rsp;
        registers.rflags = context.rflags;
        if let Some(info) = self.info() {
            let masked = context.rflags & INTERRUPTS == 0;
            peer_field!(info, VcpuInfo, evtchn_upcall_mask).store_release(masked.into());
        }
        self.monitor.trace.returns(self.id, registers.rip);
    }
}

/// What an exception is called.
pub(super) const fn name(vector: u8) -> &'static str {
    match vector {
        0 => "division error",
        1 => "debug",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range",
        6 => "invalid opcode",
        7 => "no floating-point unit",
        8 => "double fault",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection",
        14 => "page fault",
        16 => "floating-point error",
        17 => "alignment check",
        19 => "vector floating-point error",
        _ => "interrupt",
    }
}
