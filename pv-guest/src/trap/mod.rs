//! Exceptions: what they are, and the report when one is fatal.
//!
//! This part is the same everywhere; `native` brings the entry code.

use core::{
    fmt,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

/// The registers at an exception, in the order in which they lie on the stack.
#[derive(Clone, Copy, Debug, Default)]
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
    security exception";

fn name(vector: u32) -> &'static str {
    NAMES
        .as_bytes()
        .split(|byte| *byte == b'\n')
        .nth(vector as usize)
        .and_then(|name| str::from_utf8(name).ok())
        .filter(|name| !name.is_empty())
        .unwrap_or("reserved exception")
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
        let near = |address: u64| {
            self.guards
                .iter()
                .any(|guard| guard.contains(&address) || guard.end == address)
        };
        match self.frame.vector {
            PAGE_FAULT => near(self.cr2),
            DOUBLE_FAULT => near(self.cr2) || near(self.frame.rsp),
            _ => false,
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frame, cr2, .. } = self;
        let name = name(frame.vector);
        if self.stack_overflowed() {
            writeln!(f, "FATAL: stack overflow ({name} in the guard page)")?;
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
            writeln!(f, "FATAL: page fault: {access} at {cr2:#x}, which {why}")?;
        } else {
            writeln!(f, "FATAL: {name}")?;
        }
        writeln!(
            f,
            "vector {} error {:#x} cr2 {cr2:#018x}",
            frame.vector, frame.error_code
        )?;
        writeln!(
            f,
            "rip {:#018x} cs {:#06x} rflags {:#010x}",
            frame.rip,
            // Above the selector Xen keeps its event mask.
            frame.cs & 0xffff,
            frame.rflags
        )?;
        writeln!(
            f,
            "rsp {:#018x} ss {:#06x} rbp {:#018x}",
            frame.rsp, frame.ss, frame.rbp
        )?;
        let rows = [
            ["rax", "rbx", "rcx"],
            ["rdx", "rsi", "rdi"],
            ["r8 ", "r9 ", "r10"],
            ["r11", "r12", "r13"],
            ["r14", "r15", ""],
        ];
        let values = [
            [frame.rax, frame.rbx, frame.rcx],
            [frame.rdx, frame.rsi, frame.rdi],
            [frame.r8, frame.r9, frame.r10],
            [frame.r11, frame.r12, frame.r13],
            [frame.r14, frame.r15, 0],
        ];
        for (names, values) in rows.iter().zip(values) {
            for (name, value) in names.iter().zip(values) {
                if !name.is_empty() {
                    write!(f, "{name} {value:#018x} ")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
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
