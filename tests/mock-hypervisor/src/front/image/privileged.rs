//! The instructions that a process cannot run and Xen does for a PV guest's kernel:
//! read from its code, and nothing done yet.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// The longest instruction.
pub(super) const MAX_BYTES: usize = 15;

/// A segment register that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// `fs`.
    Fs,
    /// `gs`.
    Gs,
    /// Another: they mean nothing in 64-bit mode.
    Other,
}

/// One of them. Registers are the processor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileged {
    /// `cpuid`.
    Cpuid,
    /// `rdtsc`.
    Counter,
    /// `rdtscp`, which tells the processor's number, too.
    CounterAndNumber,
    /// `cli` and `sti`.
    Interrupts,
    /// `in`: what is read from a port at which there is nothing, as bits of `rax`.
    In(u64),
    /// `out`.
    Out,
    /// `ins` and `outs`.
    Strings,
    /// `hlt`.
    Halt,
    /// `wbinvd` and `invlpg`: nothing is to be done.
    Flush,
    /// `clts`.
    ClearTaskSwitched,
    /// `mov` from this control register to this register.
    ReadControl(usize, usize),
    /// `mov` to this control register from this register.
    WriteControl(usize, usize),
    /// `mov` from this debug register to this register.
    ReadDebug(usize, usize),
    /// `mov` to this debug register from this register.
    WriteDebug(usize, usize),
    /// `mov` to a segment register from this register.
    LoadSegment(Segment, usize),
    /// `rdmsr`.
    ReadModel,
    /// `wrmsr`.
    WriteModel,
    /// `iretq`.
    Iret,
    /// `retfq`, and how many bytes it takes from the stack besides.
    FarReturn(u16),
}

/// Reads the instruction at the start of `code`, which is at `rip`: what it is, and
/// where the next one is. `None`: none of these.
pub fn read(code: &[u8], rip: u64) -> Option<(Privileged, u64)> {
    let instruction = decode(code, rip)?;
    Some((privileged(&instruction)?, instruction.next_ip()))
}

/// Any instruction.
pub(super) fn decode(code: &[u8], rip: u64) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(64, code, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}

fn privileged(instruction: &Instruction) -> Option<Privileged> {
    Some(match instruction.mnemonic() {
        Mnemonic::Cpuid => Privileged::Cpuid,
        Mnemonic::Rdtsc => Privileged::Counter,
        Mnemonic::Rdtscp => Privileged::CounterAndNumber,
        Mnemonic::Cli | Mnemonic::Sti => Privileged::Interrupts,
        Mnemonic::In => Privileged::In(match instruction.code() {
            Code::In_AL_imm8 | Code::In_AL_DX => 0xff,
            Code::In_AX_imm8 | Code::In_AX_DX => 0xffff,
            _ => 0xffff_ffff,
        }),
        Mnemonic::Out => Privileged::Out,
        Mnemonic::Insb
        | Mnemonic::Insw
        | Mnemonic::Insd
        | Mnemonic::Outsb
        | Mnemonic::Outsw
        | Mnemonic::Outsd => Privileged::Strings,
        Mnemonic::Hlt => Privileged::Halt,
        Mnemonic::Wbinvd | Mnemonic::Invlpg => Privileged::Flush,
        Mnemonic::Clts => Privileged::ClearTaskSwitched,
        Mnemonic::Mov => return mov(instruction),
        Mnemonic::Rdmsr => Privileged::ReadModel,
        Mnemonic::Wrmsr => Privileged::WriteModel,
        Mnemonic::Iretq => Privileged::Iret,
        Mnemonic::Retf => match instruction.code() {
            Code::Retfq => Privileged::FarReturn(0),
            Code::Retfq_imm16 => Privileged::FarReturn(instruction.immediate16()),
            _ => return None,
        },
        // lgdt, lidt, lldt, ltr, swapgs, sysret, rdpmc and all others: as on Xen.
        _ => return None,
    })
}

fn mov(instruction: &Instruction) -> Option<Privileged> {
    let (target, source) = (instruction.op0_register(), instruction.op1_register());
    let (to, from) = (target.number(), source.number());
    if source.is_gpr() {
        return match target {
            _ if target.is_cr() => Some(Privileged::WriteControl(to, from)),
            _ if target.is_dr() => Some(Privileged::WriteDebug(to, from)),
            Register::CS => None,
            _ if target.is_segment_register() && instruction.op1_kind() == OpKind::Register => {
                let segment = match target {
                    Register::FS => Segment::Fs,
                    Register::GS => Segment::Gs,
                    _ => Segment::Other,
                };
                Some(Privileged::LoadSegment(segment, from))
            }
            _ => None,
        };
    }
    match target.is_gpr() {
        true if source.is_cr() => Some(Privileged::ReadControl(from, to)),
        true if source.is_dr() => Some(Privileged::ReadDebug(from, to)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_read() {
        let all: &[(&[u8], Privileged)] = &[
            (&[0xfa], Privileged::Interrupts),
            (&[0xf4], Privileged::Halt),
            (&[0xec], Privileged::In(0xff)),
            (&[0x66, 0xed], Privileged::In(0xffff)),
            (&[0xed], Privileged::In(0xffff_ffff)),
            (&[0xe7, 0x80], Privileged::Out),
            (&[0x6c], Privileged::Strings),
            (&[0x0f, 0x20, 0xd8], Privileged::ReadControl(3, 0)),
            (&[0x41, 0x0f, 0x22, 0xe1], Privileged::WriteControl(4, 9)),
            (&[0x0f, 0x21, 0xf8], Privileged::ReadDebug(7, 0)),
            (&[0x0f, 0x23, 0xc7], Privileged::WriteDebug(0, 7)),
            (&[0x8e, 0xe8], Privileged::LoadSegment(Segment::Gs, 0)),
            (&[0x8e, 0xd9], Privileged::LoadSegment(Segment::Other, 1)),
            (&[0x0f, 0x01, 0x38], Privileged::Flush),
            (&[0x48, 0xcf], Privileged::Iret),
            (&[0x48, 0xca, 8, 0], Privileged::FarReturn(8)),
        ];
        for (code, expected) in all {
            let next = 0x1000 + code.len() as u64;
            assert_eq!(read(code, 0x1000), Some((*expected, next)), "{code:x?}");
            // Cut short, it is another one, or none.
            for len in 0..code.len() {
                assert!(read(&code[..len], 0).is_none_or(|(found, _)| found != *expected));
            }
        }
        // mov, lgdt, swapgs, a load of a segment from memory, and nothing.
        for code in [
            &[0x89, 0xc3][..],
            &[0x0f, 0x01, 0x10],
            &[0x0f, 0x01, 0xf8],
            &[0x8e, 0x18],
            &[],
        ] {
            assert_eq!(read(code, 0), None, "{code:x?}");
        }
    }
}
