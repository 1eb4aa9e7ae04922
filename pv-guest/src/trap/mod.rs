//! Exceptions: what they are, and the report when one is fatal.
//!
//! This part is the same everywhere; `arch` brings the entry code.

use core::{
    fmt,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

use zerocopy::{Immutable, IntoBytes};

use crate::{
    error::say,
    number::{Decimal, Hex},
};

/// The registers at an exception, in the order in which they lie on the stack.
#[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the registers of their names")]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub error_code: u32,
    pub vector: u32,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// What becomes of the code that raised an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Resume,
    /// The guest cannot go on.
    Fatal,
}

/// The breakpoint exception.
pub const BREAKPOINT: u32 = 3;
/// The page fault exception.
pub const PAGE_FAULT: u32 = 14;
/// The double fault exception.
pub const DOUBLE_FAULT: u32 = 8;

static BREAKPOINTS: AtomicU64 = AtomicU64::new(0);

/// How many breakpoints were caught so far.
pub fn breakpoints_caught() -> u64 {
    BREAKPOINTS.load(Ordering::Relaxed)
}

/// Executes a breakpoint; the handler counts it and returns.
pub fn breakpoint() {
    // SAFETY: the kernel's handler returns from a breakpoint with all
    // registers as they were.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("int3");
    }
}

/// A kernel's own handler: gets the registers, which it may change, and the
/// address of a page fault.
pub type Handler = fn(frame: &mut Frame, cr2: u64) -> Outcome;

/// What is asked before an exception is fatal: a [`Handler`], or null.
static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Has `handler` called at every exception: it may mend what is wrong, or lead
/// the code elsewhere, and have it go on. Without one, or where it says
/// [`Outcome::Fatal`], all but breakpoints end the guest.
///
/// # Safety
/// Wherever `handler` has code go on, that code must be sound with the registers
/// that it is left. It may run at any instruction: it takes no lock that the code
/// of that instruction could hold.
pub unsafe fn set_handler(handler: Handler) {
    HANDLER.store(handler as *mut (), Ordering::Release);
}

/// Decides what becomes of an exception. `cr2` tells the address of a page fault.
pub(crate) fn handle(frame: &mut Frame, cr2: impl FnOnce() -> u64) -> Outcome {
    let handler = HANDLER.load(Ordering::Acquire);
    let is_breakpoint = frame.vector == BREAKPOINT;
    if is_breakpoint {
        BREAKPOINTS.fetch_add(1, Ordering::Relaxed);
    }
    let told = if handler.is_null() {
        Outcome::Fatal
    } else {
        // SAFETY: what is stored there is a `Handler`.
        let handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
        handler(frame, cr2())
    };
    if is_breakpoint { Outcome::Resume } else { told }
}

/// The exceptions' names, a line each; those without are reserved. Source: Intel SDM volume 3, 7.15; AMD APM volume 2,
/// 8.2.
const NAMES: &str = "\
    divide error\n\
    debug exception\n\
    non-maskable interrupt\n\
    breakpoint\n\
    overflow\n\
    bound range exceeded\n\
    invalid opcode\n\
    device not available\n\
    double fault\n\
    coprocessor segment overrun\n\
    invalid task state segment\n\
    segment not present\n\
    stack fault\n\
    general protection fault\n\
    page fault\n\
    \n\
    x87 floating-point error\n\
    alignment check\n\
    machine check\n\
    SIMD floating-point error\n\
    virtualization exception\n\
    control protection exception\n\
    \n\
    \n\
    \n\
    \n\
    \n\
    \n\
    hypervisor injection exception\n\
    VMM communication exception\n\
    security exception\n";

fn name(vector: u32) -> &'static str {
    let (mut before, mut start) = (vector, 0);
    for (end, byte) in NAMES.bytes().enumerate() {
        if byte != b'\n' {
            continue;
        }
        if before == 0 && start < end {
            return NAMES.get(start..end).unwrap_or("");
        }
        before = before.wrapping_sub(1);
        start = end + 1;
    }
    "reserved exception"
}

/// What there is to say about a fatal exception.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The registers.
    pub frame: &'a Frame,
    /// The address of a page fault.
    pub cr2: u64,
    /// Where stacks must not reach.
    pub guards: &'a [core::ops::Range<u64>],
}

impl Report<'_> {
    /// Whether the stack ran into its guard page.
    fn stack_overflowed(&self) -> bool {
        let near = |address: &u64| {
            self.guards
                .iter()
                .any(|guard| guard.contains(address) || guard.end == *address)
        };
        // Of a double fault the stack pointer tells, too.
        let addresses = [self.cr2, self.frame.rsp];
        let tell = match self.frame.vector {
            PAGE_FAULT => 1,
            DOUBLE_FAULT => 2,
            _ => 0,
        };
        addresses.iter().take(tell).any(near)
    }
}

/// The registers in the order of a report (`flg`: rflags), and which words of a frame
/// they are.
const REGISTERS: &str = "rip cs  flg rsp ss  rbp rax rbx rcx rdx rsi rdi r8  r9  r10 r11 r12 \
                         r13 r14 r15 ";
const WORDS: [u8; 20] = [
    16, CS, 18, 19, 20, 4, 10, 5, 11, 12, 13, 14, 9, 8, 7, 6, 3, 2, 1, 0,
];
const CS: u8 = 17;

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frame, cr2, .. } = self;
        let name = name(frame.vector);
        if self.stack_overflowed() {
            say(
                f,
                &["FATAL: stack overflow (", name, " in the guard page)\n"],
            )?;
        } else if frame.vector == PAGE_FAULT {
            let access = match (frame.error_code & 0x10 != 0, frame.error_code & 2 != 0) {
                (true, _) => "execute",
                (_, true) => "write",
                _ => "read",
            };
            let why = if frame.error_code & 1 == 0 {
                "is not mapped"
            } else {
                "does not allow it"
            };
            say(f, &["FATAL: page fault: ", access])?;
            write!(f, " at {}", Hex(*cr2, 1))?;
            say(f, &[", which ", why, "\n"])?;
        } else {
            say(f, &["FATAL: ", name, "\n"])?;
        }
        writeln!(
            f,
            "vector {} error {} cr2 {}",
            Decimal(frame.vector.into()),
            Hex(frame.error_code.into(), 1),
            Hex(*cr2, 16)
        )?;
        let words = frame.as_bytes();
        for (index, word) in WORDS.iter().enumerate() {
            f.write_str(REGISTERS.get(index * 4..index * 4 + 4).unwrap_or(""))?;
            let bytes = words.get(usize::from(*word) * 8..);
            let value = bytes.and_then(|bytes| bytes.first_chunk());
            let value = u64::from_ne_bytes(value.copied().unwrap_or_default());
            // Above the selector Xen keeps its event mask.
            let value = if *word == CS { value & 0xffff } else { value };
            Hex(value, 16).fmt(f)?;
            f.write_str(if index % 3 == 2 { "\n" } else { " " })?;
        }
        f.write_str("\n")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    fn report(frame: Frame, cr2: u64) -> std::string::String {
        Report {
            frame: &frame,
            cr2,
            guards: core::slice::from_ref(&(0x5000..0x6000)),
        }
        .to_string()
    }

    #[test]
    fn a_null_dereference_says_so() {
        let frame = Frame {
            vector: PAGE_FAULT,
            error_code: 2,
            rip: 0x4010_0000,
            ..Frame::default()
        };
        let text = report(frame, 0);
        assert!(text.starts_with("FATAL: page fault: write at 0x0, which is not mapped\n"));
        assert!(text.contains("rip 0x0000000040100000"));
    }

    #[test]
    fn each_register_has_its_value() {
        let frame = Frame {
            rip: 0x16,
            cs: 0xff_0000_e033,
            rflags: 0x18,
            rsp: 0x19,
            ss: 0x20,
            rbp: 0x4,
            rax: 0x10,
            rbx: 0x5,
            rcx: 0x11,
            rdx: 0x12,
            rsi: 0x13,
            rdi: 0x14,
            r8: 0x98,
            r9: 0x99,
            r10: 0x9a,
            r11: 0x9b,
            r12: 0x9c,
            r13: 0x9d,
            r14: 0x9e,
            r15: 0x9f,
            vector: 13,
            error_code: 0x1b,
        };
        let text = report(frame, 0x77);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("FATAL: general protection fault"));
        let first = lines.next();
        assert_eq!(first, Some("vector 13 error 0x1b cr2 0x0000000000000077"));
        let words: std::vec::Vec<&str> = lines.flat_map(str::split_whitespace).collect();
        let value = |name: &str| {
            let at = words.iter().position(|word| *word == name).unwrap();
            u64::from_str_radix(words[at + 1].trim_start_matches("0x"), 16).unwrap()
        };
        for (name, expected) in [
            ("rip", frame.rip),
            ("cs", 0xe033),
            ("flg", frame.rflags),
            ("rsp", frame.rsp),
            ("ss", frame.ss),
            ("rbp", frame.rbp),
            ("rax", frame.rax),
            ("rbx", frame.rbx),
            ("rcx", frame.rcx),
            ("rdx", frame.rdx),
            ("rsi", frame.rsi),
            ("rdi", frame.rdi),
            ("r8", frame.r8),
            ("r9", frame.r9),
            ("r10", frame.r10),
            ("r11", frame.r11),
            ("r12", frame.r12),
            ("r13", frame.r13),
            ("r14", frame.r14),
            ("r15", frame.r15),
        ] {
            assert_eq!(value(name), expected, "{name}");
        }
        assert_eq!(words.len(), 40);
    }

    #[test]
    fn exceptions_have_their_names() {
        for (vector, expected) in [
            (0, "divide error"),
            (1, "debug exception"),
            (14, "page fault"),
            (15, "reserved exception"),
            (16, "x87 floating-point error"),
            (22, "reserved exception"),
            (28, "hypervisor injection exception"),
            (30, "security exception"),
            (31, "reserved exception"),
            (u32::MAX, "reserved exception"),
        ] {
            assert_eq!(name(vector), expected, "{vector}");
        }
    }

    #[test]
    fn a_stack_overflow_is_named() {
        for (vector, cr2, rsp) in [(14, 0x5ff8, 0x5ff8), (8, 0x5ff0, 0x5000), (8, 0, 0x6000)] {
            let frame = Frame {
                vector,
                rsp,
                ..Frame::default()
            };
            assert!(report(frame, cr2).starts_with("FATAL: stack overflow"));
        }
    }

    #[test]
    fn only_breakpoints_resume() {
        let before = breakpoints_caught();
        for vector in 0..40 {
            let mut frame = Frame {
                vector,
                ..Frame::default()
            };
            let outcome = handle(&mut frame, || 0);
            assert_eq!(outcome == Outcome::Resume, vector == 3);
            let _text = report(frame, 0);
        }
        assert_eq!(breakpoints_caught(), before + 1);
        // One of the kernel's own leads elsewhere.
        // SAFETY: no code goes on with these registers.
        unsafe {
            set_handler(|frame, cr2| {
                frame.rip = cr2;
                Outcome::Resume
            });
        }
        let mut frame = Frame {
            vector: PAGE_FAULT,
            ..Frame::default()
        };
        assert_eq!(handle(&mut frame, || 0x5000), Outcome::Resume);
        assert_eq!(frame.rip, 0x5000);
    }
}
