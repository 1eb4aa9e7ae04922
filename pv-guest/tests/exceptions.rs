//! What a hosted guest's handler of exceptions sees, and what it leaves.

use pv_guest::{
    hosted,
    trap::{Frame, Outcome, set_handler},
};

/// The registers as the host has them: each a number of its own.
const BEFORE: [u64; 18] = [
    15, 14, 13, 12, 5, 3, 11, 10, 9, 8, 1, 2, 4, 6, 7, 16, 17, 18,
];

/// Finds each register in its place, and leaves others.
fn handler(frame: &mut Frame, cr2: u64) -> Outcome {
    let told = (frame.vector, frame.error_code, cr2);
    let low = [frame.rax, frame.rcx, frame.rdx, frame.rbx, frame.rbp];
    let high = [frame.r8, frame.r9, frame.r10, frame.r11, frame.r12];
    let rest = [frame.rsi, frame.rdi, frame.r13, frame.r14, frame.r15];
    let code = [frame.rip, frame.rflags, frame.rsp];
    let is_right = (told, low, high) == ((14, 6, 0xdead), [1, 2, 4, 3, 5], [8, 9, 10, 11, 12])
        && (rest, code) == ([6, 7, 13, 14, 15], [16, 17, 18]);
    (frame.rax, frame.rip, frame.rsp) = (100, 101, 102);
    match is_right {
        true => Outcome::Resume,
        false => Outcome::Fatal,
    }
}

#[test]
fn a_handler_sees_the_registers_and_changes_them() {
    // SAFETY: no code goes on with what it leaves: the registers are an array's.
    unsafe { set_handler(handler) };
    let mut registers = BEFORE;
    // SAFETY: as above.
    unsafe { hosted::exception(14, 6, 0xdead, &mut registers, (0, 0)) };
    let mut after = BEFORE;
    (after[10], after[15], after[17]) = (100, 101, 102);
    assert_eq!(registers, after);
}
