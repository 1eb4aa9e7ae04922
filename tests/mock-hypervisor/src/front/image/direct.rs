//! The short way into the monitor: the hypercall page leads here without a trap.
//!
//! A slot of the page keeps the call's number and the flags on the guest's stack, as
//! Xen's keeps two registers, and calls the code below with `rax` free. That code puts
//! the registers into the vCPU's area, takes its stack and its thread pointer, keeps
//! the vectors (Rust's code uses some; nobody here uses x87), and serves the call.
//!
//! No register says whose call it is: the one vCPU's, as long as there is one. When a
//! second one starts, and whenever the flags are such that this code must not run with
//! them, the slot makes a trap of it. It also does so when the guest is to be told of
//! something on the way back: the number is then [`LOOK`].

use std::{
    arch::global_asm,
    cell::UnsafeCell,
    mem::offset_of,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

use hypercall_abi::HypercallNr;

use super::{
    registers::Registers,
    signals::{AREA_BYTES, Area},
};

/// What a slot calls for when all is done but to look what is due.
pub(super) const LOOK: u64 = u64::MAX - 0xffff;

/// A direct call returns by itself.
pub(super) const DONE: u64 = u64::MAX;

/// Bytes of a slot of the hypercall page.
pub(super) const SLOT_BYTES: usize = 32;

/// Flags with which no code of the monitor runs: alignment checks, nesting, direction,
/// steps.
const ODD_FLAGS: u32 = 1 << 18 | 1 << 14 | 1 << 10 | 1 << 8;

/// What a direct call needs of an area.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Call {
    vectors: [u8; VECTORS_BYTES],
    pub(super) registers: Registers,
    /// [`DONE`], or what the slot calls for by a trap.
    exit: u64,
    control: u64,
    /// A call is being served, by whichever way it came.
    pub(super) inside: AtomicU64,
    /// A signal came meanwhile, which was not looked at.
    pub(super) kicked: AtomicU64,
}

/// Thirty-two vectors of 64 bytes, and eight masks.
const VECTORS_BYTES: usize = 32 * 64 + 8 * 8;

impl Default for Call {
    fn default() -> Self {
        Self {
            vectors: [0; VECTORS_BYTES],
            registers: Registers::default(),
            exit: DONE,
            control: 0,
            inside: AtomicU64::new(0),
            kicked: AtomicU64::new(0),
        }
    }
}

/// The area of the only vCPU; null: there are several.
#[unsafe(no_mangle)]
static MOCK_USER_AREA: AtomicPtr<UnsafeCell<Area>> = AtomicPtr::new(std::ptr::null_mut());

/// How wide this processor's vectors are: 0, 1 or 2.
#[unsafe(no_mangle)]
static MOCK_USER_VECTORS: AtomicU64 = AtomicU64::new(0);

const CALL: usize = offset_of!(Area, call);
const REGISTERS: usize = CALL + offset_of!(Call, registers);

// rbx is the area, rbp the guest's stack.
global_asm!(
    ".globl mock_user_call, mock_user_tail, mock_user_tail_end",
    // What the monitor may have changed; whoever was called kept r12 to r15.
    ".macro mock_user_load",
    "mov r8, [rbx + {r8}]",
    "mov r9, [rbx + {r8} + 8]",
    "mov r10, [rbx + {r8} + 16]",
    "mov r11, [rbx + {r8} + 24]",
    "mov rdi, [rbx + {r8} + 64]",
    "mov rsi, [rbx + {r8} + 72]",
    "mov rdx, [rbx + {r8} + 96]",
    "mov rcx, [rbx + {r8} + 112]",
    ".endm",
    "mock_user_call:",
    // Of the guest's stack: the way back to the slot, flags, number, the way back.
    "test dword ptr [rsp + 8], {odd}",
    "jnz 2f",
    "mov rax, [rip + MOCK_USER_AREA]",
    "test rax, rax",
    "jz 2f",
    "mov [rax + {r8}], r8",
    "mov [rax + {r8} + 8], r9",
    "mov [rax + {r8} + 16], r10",
    "mov [rax + {r8} + 24], r11",
    "mov [rax + {r8} + 32], r12",
    "mov [rax + {r8} + 40], r13",
    "mov [rax + {r8} + 48], r14",
    "mov [rax + {r8} + 56], r15",
    "mov [rax + {r8} + 64], rdi",
    "mov [rax + {r8} + 72], rsi",
    "mov [rax + {r8} + 80], rbp",
    "mov [rax + {r8} + 88], rbx",
    "mov [rax + {r8} + 96], rdx",
    "mov [rax + {r8} + 112], rcx",
    "mov rbx, rax",
    "mov rbp, rsp",
    "mov rax, [rbp + 16]",
    "mov [rbx + {r8} + 104], rax",
    "lea rax, [rbp + 32]",
    "mov [rbx + {r8} + 120], rax",
    "mov rax, [rbp + 24]",
    "mov [rbx + {r8} + 128], rax",
    "mov rax, [rbp + 8]",
    "mov [rbx + {r8} + 136], rax",
    "mov qword ptr [rbx + {inside}], 1",
    "lea rsp, [rbx + {area}]",
    "rdfsbase rsi",
    "mov rax, [rbx + {fs}]",
    "wrfsbase rax",
    "stmxcsr [rbx + {control}]",
    "mov rax, [rip + MOCK_USER_VECTORS]",
    "cmp rax, 1",
    "je 3f",
    "ja 4f",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movaps [rbx + {vectors} + 64 * \\n], xmm\\n",
    ".endr",
    "jmp 5f",
    "3:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovaps [rbx + {vectors} + 64 * \\n], ymm\\n",
    ".endr",
    "vzeroupper",
    "jmp 5f",
    "4:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "vmovaps [rbx + {vectors} + 64 * \\n], zmm\\n",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "kmovq [rbx + {vectors} + 2048 + 8 * \\n], k\\n",
    ".endr",
    "vzeroupper",
    "5:",
    "mov rdi, rbx",
    "call {handler}",
    "wrfsbase rax",
    "mov rax, [rip + MOCK_USER_VECTORS]",
    "cmp rax, 1",
    "je 3f",
    "ja 4f",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movaps xmm\\n, [rbx + {vectors} + 64 * \\n]",
    ".endr",
    "jmp 5f",
    "3:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovaps ymm\\n, [rbx + {vectors} + 64 * \\n]",
    ".endr",
    "jmp 5f",
    "4:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "vmovaps zmm\\n, [rbx + {vectors} + 64 * \\n]",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "kmovq k\\n, [rbx + {vectors} + 2048 + 8 * \\n]",
    ".endr",
    "5:",
    "ldmxcsr [rbx + {control}]",
    "mov qword ptr [rbx + {inside}], 0",
    "jmp mock_user_tail",
    "2: ret",
    // A signal from here on has the call returned already.
    "mock_user_tail:",
    "cmp qword ptr [rbx + {exit}], -1",
    "jne 6f",
    "cmp qword ptr [rbx + {kicked}], 0",
    "jne 7f",
    "mock_user_load",
    "mov rax, [rbx + {r8} + 104]",
    "lea rsp, [rbp + 8]",
    "mov rbp, [rbx + {r8} + 80]",
    "mov rbx, [rbx + {r8} + 88]",
    "popfq",
    "lea rsp, [rsp + 8]",
    "ret",
    // By a trap, for the call's own number, or to look what is due.
    "7:",
    "mov rax, [rip + mock_user_look]",
    "jmp 8f",
    "6:",
    "mov rax, [rbx + {exit}]",
    "8:",
    "mov [rbp + 16], rax",
    "mock_user_load",
    "mov rsp, rbp",
    "mov rbp, [rbx + {r8} + 80]",
    "mov rbx, [rbx + {r8} + 88]",
    "ret",
    "mock_user_tail_end:",
    ".balign 8",
    "mock_user_look: .quad {look}",
    odd = const ODD_FLAGS,
    area = const AREA_BYTES,
    fs = const offset_of!(Area, monitor_fs),
    r8 = const REGISTERS,
    inside = const CALL + offset_of!(Call, inside),
    kicked = const CALL + offset_of!(Call, kicked),
    exit = const CALL + offset_of!(Call, exit),
    control = const CALL + offset_of!(Call, control),
    vectors = const CALL + offset_of!(Call, vectors),
    look = const LOOK,
    handler = sym on_call,
);

unsafe extern "C" {
    fn mock_user_call();
    fn mock_user_tail();
    fn mock_user_tail_end();
}

/// Where the assembly leads; answers what the base of `fs` is to be.
extern "C" fn on_call(area: &UnsafeCell<Area>, fs_base: u64) -> u64 {
    // SAFETY: this thread's area, of these parts of which nobody else has a reference:
    // a signal that comes now sees that a call is served, and touches two atomics.
    let cpu = unsafe { &mut (*area.get()).cpu };
    // SAFETY: as above.
    let registers = unsafe { &mut (*area.get()).call.registers };
    let exit = cpu.call_directly(registers, fs_base);
    // SAFETY: as above.
    unsafe { (*area.get()).call.exit = exit };
    cpu.fs_base
}

/// Calls come this way, for the one vCPU whose area this is.
pub(super) fn begin(area: &UnsafeCell<Area>) {
    let has = |feature: bool, width: u64| if feature { width } else { 0 };
    let widest = has(std::is_x86_feature_detected!("avx"), 1).max(has(
        std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512bw"),
        2,
    ));
    MOCK_USER_VECTORS.store(widest, Ordering::SeqCst);
    let area = std::ptr::from_ref(area).cast_mut();
    MOCK_USER_AREA.store(area, Ordering::SeqCst);
}

/// From now on there are several vCPUs, and calls are traps.
pub(super) fn end() {
    MOCK_USER_AREA.store(std::ptr::null_mut(), Ordering::SeqCst);
}

/// Whether a direct call is as good as over, at an address of the monitor's.
pub(super) fn is_over(rip: u64) -> bool {
    let start = (mock_user_tail as *const ()).addr() as u64;
    let end = (mock_user_tail_end as *const ()).addr() as u64;
    (start..end).contains(&rip)
}

impl Call {
    /// Whether it ends by a trap, and so is looked at again anyway.
    pub(super) const fn ends_by_trap(&self) -> bool {
        self.exit != DONE
    }
}

/// Writes the code of the hypercall page.
pub(super) fn write_page(page: &mut [u8]) {
    for (nr, slot) in page.chunks_exact_mut(SLOT_BYTES).enumerate() {
        // int3: behind the code there is nothing.
        slot.fill(0xcc);
        let nr = nr as u8;
        let code = if HypercallNr(nr.into()) == HypercallNr::IRET {
            // It does not return: push rcx; push r11; push rax; mov eax, nr; syscall
            vec![0x51, 0x41, 0x53, 0x50, 0xb8, nr, 0, 0, 0, 0x0f, 0x05]
        } else {
            let target = (mock_user_call as *const ()).addr() as u64;
            // push nr; pushfq; mov rax, target; call rax
            let mut code = vec![0x6a, nr, 0x9c, 0x48, 0xb8];
            code.extend(target.to_le_bytes());
            code.extend([0xff, 0xd0]);
            // popfq; pop rax; push rcx; push r11; syscall; pop r11; pop rcx; ret
            code.extend([
                0x9d, 0x58, 0x51, 0x41, 0x53, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3,
            ]);
            code
        };
        slot[..code.len()].copy_from_slice(&code);
    }
}
