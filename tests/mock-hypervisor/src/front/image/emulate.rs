//! Instructions that a PV guest's kernel may use although it has no privileges: Xen
//! does them in its place, and so does this; or refuses them as Xen does.

use hypercall_abi::{
    HypercallNr, peer_field,
    sched::SCHEDOP_BLOCK,
    xen::{ArchVcpuInfo, VmAssist},
};
use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{
    privileged::{MAX_BYTES, Privileged, Segment, decode, read},
    registers::{IO_LEVEL, IO_LEVEL_SHIFT, Registers},
    vcpu::{Cpu, Mode, set_gs_base},
};
use crate::core::memory::{frame_types::Kind, page_tables::MACHINE_TO_PHYSICAL};

const PAGE: u64 = hypercall_abi::PAGE_SIZE as u64;
/// What a PV guest reads of its control registers: paging and protection.
const CR0: u64 = 0x8005_003b;
const TASK_SWITCHED: u64 = 1 << 3;
/// Physical address extensions, the save area of vectors, and bases by instruction.
pub(super) const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// Registers of the model.
const MSR_FS_BASE: u32 = 0xc000_0100;
const MSR_GS_BASE: u32 = 0xc000_0101;
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;
/// Where leaf 2 of Xen's says that a hypercall page is asked for.
const MSR_HYPERCALL_PAGE: u32 = 0x4000_0000;
const MSR_EFER: u32 = 0xc000_0080;
/// System calls, long mode on, and no-execute.
const EFER: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;
/// The machine's table where Xen has it.
const XENS_MACHINE_TABLE: std::ops::Range<u64> =
    hypercall_abi::xen::traps::MACH2PHYS_VIRT_START..hypercall_abi::xen::traps::MACH2PHYS_VIRT_END;
/// "ud2", "xen": what Xen takes for a prefix.
pub(super) const FORCED: [u8; 5] = [0x0f, 0x0b, b'x', b'e', b'n'];
const CPUID: [u8; 2] = [0x0f, 0xa2];
/// The selectors that a guest has from Xen.
const FLAT: [u16; 4] = [0xe023, 0xe02b, 0xe033, 0];

/// The help by which the guest's flags have its I/O privilege level.
const ARCHITECTURAL_IOPL: u64 = 1 << VmAssist::ARCHITECTURAL_IOPL.0;

impl Cpu {
    /// The I/O privilege level in the flags that the guest sees of itself, as bits of
    /// them: only if it asked for that.
    pub(super) fn seen_io_level(&self) -> u64 {
        let state = self.monitor.domain.lock();
        let vcpu = state.vcpus.get(self.id.0 as usize);
        let level = vcpu.map_or(0, |vcpu| vcpu.processor.io_level);
        match state.assists & ARCHITECTURAL_IOPL {
            0 => 0,
            _ => u64::from(level) << IO_LEVEL_SHIFT,
        }
    }

    /// Takes it from flags that the guest returns to.
    pub(super) fn take_io_level(&self, flags: u64) {
        let mut state = self.monitor.domain.lock();
        if state.assists & ARCHITECTURAL_IOPL == 0 {
            return;
        }
        if let Some(vcpu) = state.vcpus.get_mut(self.id.0 as usize) {
            vcpu.processor.io_level = ((flags & IO_LEVEL) >> IO_LEVEL_SHIFT) as u8;
        }
    }

    /// The code at an address, as far as there is some.
    fn code<'b>(&self, rip: u64, bytes: &'b mut [u8; MAX_BYTES]) -> &'b [u8] {
        let mut len = 0;
        for (offset, byte) in bytes.iter_mut().enumerate() {
            let at = rip.wrapping_add(offset as u64);
            if self.monitor.read(at, std::slice::from_mut(byte)).is_err() {
                break;
            }
            len += 1;
        }
        bytes.get(..len).unwrap_or(&[])
    }

    pub(super) fn decode(&self, registers: &Registers) -> Option<Instruction> {
        decode(self.code(registers.rip, &mut [0; MAX_BYTES]), registers.rip)
    }

    /// `cpuid` behind the prefix that makes it Xen's.
    pub(super) fn forced(&mut self, registers: &mut Registers) -> bool {
        let mut code = [0; FORCED.len() + CPUID.len()];
        if self.monitor.read(registers.rip, &mut code).is_err()
            || !code.starts_with(&FORCED)
            || !code.ends_with(&CPUID)
        {
            return false;
        }
        self.cpuid(registers);
        registers.rip = registers.rip.wrapping_add(code.len() as u64);
        true
    }

    fn cpuid(&self, registers: &mut Registers) {
        let (leaf, part) = (registers.rax as u32, registers.rcx as u32);
        let told = self.monitor.cpuid(self.id, leaf, part);
        [registers.rax, registers.rbx, registers.rcx, registers.rdx] = told.map(u64::from);
    }

    /// Whether the guest's mode has the ports and the interrupt flag.
    fn has_ports(&self) -> bool {
        let state = self.monitor.domain.lock();
        let level = state
            .vcpus
            .get(self.id.0 as usize)
            .map_or(0, |vcpu| vcpu.processor.io_level);
        let needed = match self.mode {
            Mode::User => 3,
            Mode::Kernel if state.assists & ARCHITECTURAL_IOPL != 0 => 0,
            Mode::Kernel => 1,
        };
        level >= needed
    }

    /// Does the instruction at which the guest was stopped; false: it is the
    /// guest's own fault.
    pub(super) fn emulate(&mut self, registers: &mut Registers) -> bool {
        let mut code = [0; MAX_BYTES];
        let code = self.code(registers.rip, &mut code);
        let Some((instruction, next)) = read(code, registers.rip) else {
            return false;
        };
        let is_kernel = self.mode == Mode::Kernel;
        let done = match instruction {
            Privileged::Cpuid => {
                self.cpuid(registers);
                true
            }
            Privileged::Counter => {
                self.read_counter(registers);
                true
            }
            Privileged::CounterAndNumber => {
                self.read_counter(registers);
                registers.rcx = self.id.0.into();
                true
            }
            Privileged::Interrupts | Privileged::Out => self.has_ports(),
            Privileged::In(bits) => {
                let has_ports = self.has_ports();
                if has_ports {
                    registers.rax = match bits {
                        // As all results of 32 bits, it clears the others.
                        0xffff_ffff => bits,
                        _ => registers.rax | bits,
                    };
                }
                has_ports
            }
            Privileged::Strings => false,
            _ if !is_kernel => false,
            Privileged::Halt => {
                registers.rip = next;
                self.block();
                return true;
            }
            Privileged::Flush => true,
            Privileged::ClearTaskSwitched => {
                self.with_processor(|cpu| cpu.is_unit_away = false);
                true
            }
            Privileged::ReadControl(from, to) => match self.read_control(from) {
                Some(value) => {
                    *registers.general(to) = value;
                    true
                }
                None => false,
            },
            Privileged::WriteControl(to, from) => self.write_control(to, *registers.general(from)),
            Privileged::ReadDebug(from, to) => {
                *registers.general(to) = self.call(HypercallNr::GET_DEBUGREG, [from, 0]) as u64;
                true
            }
            Privileged::WriteDebug(to, from) => {
                let value = *registers.general(from) as usize;
                self.call(HypercallNr::SET_DEBUGREG, [to, value]) == 0
            }
            Privileged::LoadSegment(segment, from) => {
                self.load_selector(segment, *registers.general(from) as u16)
            }
            Privileged::ReadModel => self.read_msr(registers),
            Privileged::WriteModel => self.write_msr(registers),
            Privileged::Iret => return self.native_iret(registers),
            Privileged::FarReturn(more) => return self.native_far_return(more, registers),
        };
        if done {
            registers.rip = next;
        }
        done
    }

    /// The time stamp counter. Virtual time passes while it is looked at, or whoever
    /// waits for it would wait for good.
    fn read_counter(&self, registers: &mut Registers) {
        const LOOK_NS: u64 = 100;
        let domain = self.monitor.domain;
        let now = if self.monitor.is_virtual {
            let now_ns = domain.lock().world.let_pass(LOOK_NS);
            domain.tick();
            now_ns
        } else {
            // SAFETY: every processor that runs this has it.
            unsafe { core::arch::x86_64::_rdtsc() }
        };
        (registers.rax, registers.rdx) = (now & 0xffff_ffff, now >> 32);
    }

    fn block(&self) {
        let (nr, op) = (HypercallNr::SCHED_OP, SCHEDOP_BLOCK);
        let monitor = self.monitor;
        let _slept = monitor
            .domain
            .dispatch(&*monitor.view, nr, [op, 0, 0, 0, 0]);
    }

    fn load_selector(&mut self, target: Segment, selector: u16) -> bool {
        if !FLAT.contains(&selector) {
            return false;
        }
        // What it would load is flat: a base of 0.
        match target {
            Segment::Fs => self.fs_base = 0,
            Segment::Gs => set_gs_base(0),
            Segment::Other => {}
        }
        true
    }

    fn call(&self, nr: HypercallNr, [a1, a2]: [usize; 2]) -> isize {
        let monitor = self.monitor;
        monitor
            .domain
            .dispatch(&*monitor.view, nr, [a1, a2, 0, 0, 0])
    }

    fn read_control(&self, number: usize) -> Option<u64> {
        match number {
            0 => {
                let away = self.with_processor(|cpu| cpu.is_unit_away);
                Some(if away {
                    CR0 | TASK_SWITCHED
                } else {
                    CR0 & !TASK_SWITCHED
                })
            }
            2 => {
                let arch = peer_field!(self.info()?, hypercall_abi::xen::VcpuInfo, arch);
                Some(peer_field!(arch, ArchVcpuInfo, cr2).load().trust())
            }
            3 => {
                let state = self.monitor.domain.lock();
                let root = state.memory.tables.as_ref()?.view.root();
                state.memory.gfn_of_index(root).address()
            }
            4 => Some(self.cr4),
            _ => None,
        }
    }

    fn write_control(&mut self, number: usize, value: u64) -> bool {
        match number {
            0 => {
                let changed = (value ^ CR0) & !TASK_SWITCHED;
                if changed != 0 {
                    return false;
                }
                let away = value & TASK_SWITCHED != 0;
                self.with_processor(|cpu| cpu.is_unit_away = away);
                true
            }
            2 => {
                if let Some(info) = self.info() {
                    let arch = peer_field!(info, hypercall_abi::xen::VcpuInfo, arch);
                    peer_field!(arch, ArchVcpuInfo, cr2).store(value);
                }
                true
            }
            3 => {
                let mut state = self.monitor.domain.lock();
                let root = state
                    .memory
                    .ram_index(hypercall_abi::Gfn(value / hypercall_abi::PAGE_SIZE as u64));
                root.is_some_and(|root| state.memory.switch_to(root).is_ok())
            }
            4 => {
                // What is on stays on: the processor is the host's.
                self.cr4 = value | CR4;
                true
            }
            _ => false,
        }
    }

    fn read_msr(&mut self, registers: &mut Registers) -> bool {
        let value = match registers.rcx as u32 {
            MSR_EFER => EFER,
            MSR_FS_BASE => self.fs_base,
            MSR_GS_BASE => gs_base(),
            MSR_KERNEL_GS_BASE => self.other_gs_base,
            _ => return false,
        };
        (registers.rax, registers.rdx) = (value & 0xffff_ffff, value >> 32);
        true
    }

    fn write_msr(&mut self, registers: &mut Registers) -> bool {
        let value = (registers.rax & 0xffff_ffff) | (registers.rdx << 32);
        if !crate::hypercalls::is_canonical(value) {
            return false;
        }
        match registers.rcx as u32 {
            MSR_FS_BASE => self.fs_base = value,
            MSR_GS_BASE => set_gs_base(value),
            MSR_KERNEL_GS_BASE => self.other_gs_base = value,
            MSR_HYPERCALL_PAGE => return self.fill_hypercall_page(value),
            // It may be written as it is.
            MSR_EFER => return value == EFER,
            _ => return false,
        }
        true
    }

    /// Writes the code of hypercalls into a page of the guest's; the lowest bits are
    /// its number, of which there is one.
    fn fill_hypercall_page(&self, value: u64) -> bool {
        let (number, frame) = (value & (PAGE - 1), hypercall_abi::Gfn(value / PAGE));
        let mut state = self.monitor.domain.lock();
        let memory = &mut state.memory;
        let page = memory.ram_index(frame);
        let Some(page) = page.filter(|page| memory.kind(*page) == Some(Kind::Writable)) else {
            return false;
        };
        let start = page * hypercall_abi::PAGE_SIZE;
        let bytes = memory.bytes_mut();
        let page = bytes.get_mut(start..start + hypercall_abi::PAGE_SIZE);
        let Some(page) = page.filter(|_| number == 0) else {
            return false;
        };
        super::direct::write_page(page);
        true
    }

    /// `iretq` with the selectors of Xen's, which the process's processor does not
    /// know.
    fn native_iret(&mut self, registers: &mut Registers) -> bool {
        let mut words = [0; 5];
        if !self.words(registers.rsp, &mut words) {
            return false;
        }
        let [rip, cs, rflags, rsp, ss] = words;
        if !is_flat(cs) || !is_flat(ss) {
            return false;
        }
        (registers.rip, registers.rflags, registers.rsp) = (rip, rflags, rsp);
        true
    }

    fn native_far_return(&mut self, more: u16, registers: &mut Registers) -> bool {
        let mut words = [0; 2];
        if !self.words(registers.rsp, &mut words) || !is_flat(words[1]) {
            return false;
        }
        registers.rip = words[0];
        registers.rsp = registers.rsp.wrapping_add(16 + u64::from(more));
        true
    }

    fn words<const N: usize>(&self, address: u64, words: &mut [u64; N]) -> bool {
        use zerocopy::IntoBytes;
        self.monitor.read(address, words.as_mut_bytes()).is_ok()
    }

    /// A load from where Xen has the machine's table, which no process can map.
    pub(super) fn load_of_machine(&mut self, registers: &mut Registers, address: u64) -> bool {
        if !XENS_MACHINE_TABLE.contains(&address) {
            return false;
        }
        let Some(instruction) = self.decode(registers) else {
            return false;
        };
        let offset = address - XENS_MACHINE_TABLE.start;
        let bytes = instruction.memory_size().size();
        if instruction.mnemonic() != Mnemonic::Mov
            || instruction.op0_kind() != OpKind::Register
            || !matches!(bytes, 4 | 8)
            || offset % 8 + bytes as u64 > 8
        {
            return false;
        }
        let Some(word) = self.machine_word(offset / 8) else {
            return false;
        };
        let word = word >> (offset % 8 * 8);
        let value = if bytes == 4 { word & 0xffff_ffff } else { word };
        *registers.general(instruction.op0_register().number()) = value;
        registers.rip = instruction.next_ip();
        true
    }

    fn machine_word(&self, index: u64) -> Option<u64> {
        let state = self.monitor.domain.lock();
        let len = state.memory.tables.as_ref()?.m2p.len();
        drop(state);
        if index >= len {
            return None;
        }
        let place = (MACHINE_TO_PHYSICAL + index * 8) as usize;
        let place = std::ptr::with_exposed_provenance::<u64>(place);
        // SAFETY: a word of the table, which the monitor mapped there.
        Some(unsafe { place.read_volatile() })
    }

    /// What a step is called in the debug register.
    pub(super) fn note_step(&self, registers: &Registers) {
        const STEP: u64 = 1 << 14;
        if registers.rflags & super::registers::TRAP != 0 {
            self.with_processor(|cpu| cpu.debug_registers.note(STEP));
        }
    }
}

fn is_flat(selector: u64) -> bool {
    FLAT.contains(&((selector as u16) | 3)) || selector == 0
}

fn gs_base() -> u64 {
    let base;
    // SAFETY: reads a register.
    unsafe { std::arch::asm!("rdgsbase {}", out(reg) base) };
    base
}
