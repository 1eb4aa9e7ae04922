//! Code that raises an exception on purpose, and what is then told of it.

use core::{
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};

use pv_guest::trap::{self, Frame, Outcome};

use crate::claim::Stop;

/// What is done about an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The function that raised it returns at once, with 1. Its stack must be as
    /// it was when it was called.
    Return,
    /// It goes on where it was, without single steps.
    GoOn,
}

/// An exception that came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Caught {
    /// The registers.
    pub(crate) frame: Frame,
    /// The address of a page fault.
    pub(crate) address: u64,
    /// How many came.
    pub(crate) count: u32,
    /// The address behind all that lay on the stack of it, where it lay.
    pub(crate) end: usize,
}

/// A function that raises an exception: gets an address, and returns 0.
pub(crate) type Probe = unsafe extern "C" fn(u64) -> u64;

/// The most exceptions of one probe.
const MOST: u32 = 1000;

/// The flag that has the processor stop after each instruction.
const TRAP_FLAG: u64 = 1 << 8;

/// Where a function goes on whose instruction was not executed.
#[unsafe(naked)]
unsafe extern "C" fn give_up() -> u64 {
    core::arch::naked_asm!("mov eax, 1", "ret")
}

struct Watch {
    then: Then,
    first: Cell<Caught>,
}

/// Who wants to know of exceptions: on the stack of the one who asked.
static WATCH: AtomicPtr<Watch> = AtomicPtr::new(core::ptr::null_mut());
static IS_SET: AtomicBool = AtomicBool::new(false);

fn handler(frame: &mut Frame, cr2: u64) -> Outcome {
    let watch = WATCH.load(Ordering::Acquire);
    // SAFETY: it is there for as long as it can be found here, and this runs in
    // the middle of the code that it belongs to.
    let Some(watch) = (unsafe { watch.as_ref() }) else {
        return Outcome::Fatal;
    };
    let mut caught = watch.first.get();
    if caught.count == 0 {
        caught.frame = *frame;
        caught.address = cr2;
        caught.end = (&raw const *frame).addr() + size_of::<Frame>();
    }
    caught.count += 1;
    watch.first.set(caught);
    if caught.count > MOST {
        // It goes on without getting on.
        return Outcome::Fatal;
    }
    match watch.then {
        Then::Return => {
            frame.rip = (give_up as *const ()).addr() as u64;
            frame.rflags &= !TRAP_FLAG;
        }
        Then::GoOn => frame.rflags &= !TRAP_FLAG,
    }
    Outcome::Resume
}

/// Runs `probe`, and tells which exception came first, and what it returned.
///
/// # Safety
/// With the first exception, `probe` goes on as `then` says: it must be sound so.
pub(crate) unsafe fn run(probe: Probe, argument: u64, then: Then) -> (Option<Caught>, u64) {
    // SAFETY: this function's contract.
    let code = || unsafe { probe(argument) };
    // SAFETY: this function's contract, again.
    unsafe { during(then, code) }
}

/// Runs `code`, which ends in one probe or more, and tells which exception came first, and
/// what it returned.
///
/// # Safety
/// With each exception, the probe that raised it goes on as `then` says: it must be sound so.
pub(crate) unsafe fn during<T>(then: Then, code: impl FnOnce() -> T) -> (Option<Caught>, T) {
    if !IS_SET.swap(true, Ordering::Relaxed) {
        // SAFETY: code only goes elsewhere where its caller said that it may.
        unsafe { trap::set_handler(handler) };
    }
    let watch = Watch {
        then,
        first: Cell::new(Caught::default()),
    };
    WATCH.store((&raw const watch).cast_mut(), Ordering::Release);
    let returned = code();
    WATCH.store(core::ptr::null_mut(), Ordering::Release);
    let caught = watch.first.get();
    ((caught.count > 0).then_some(caught), returned)
}

/// The exception that `probe` raises, which then returns.
///
/// # Safety
/// Its stack is as it was when it was called, wherever it raises one.
pub(crate) unsafe fn fault(probe: Probe, argument: u64) -> Result<Caught, Stop> {
    // SAFETY: this function's contract.
    let (caught, _) = unsafe { run(probe, argument, Then::Return) };
    caught.ok_or_else(|| "no exception came".into())
}

/// How far behind the start of `probe` it was raised.
pub(crate) fn place(caught: &Caught, probe: Probe) -> u64 {
    let start = (probe as *const ()).addr() as u64;
    caught.frame.rip.wrapping_sub(start)
}
